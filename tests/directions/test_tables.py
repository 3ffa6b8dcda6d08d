"""Tables: in memory or in a file, the same numbers; written on where they were left; refused where there is no room."""

import json
import shutil
import tempfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import noise

from nbhelpers.directions import tables


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if memory had no room for anything."""
    monkeypatch.setattr(tables, "IN_MEMORY", 0)
    monkeypatch.setattr(tables, "PORTION", 4 * 5 * 7)  # five rows of seven numbers


@pytest.mark.usefixtures("on_disk")
def test_a_table_in_a_file_is_like_any_other_and_leaves_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    numbers = noise(23, 7)
    table = tables.empty(23, 7)
    table.copy_(numbers)
    index = torch.tensor([3, 3, 22, 0, 1, 5, 9])
    assert torch.equal(tables.chosen(table, index), numbers[index])
    assert [len(some) for some in tables.portions(table)] == [5, 5, 5, 5, 3]
    assert torch.equal(torch.cat(list(tables.portions(table))), numbers)
    assert torch.allclose(tables.mean(table, torch.tensor(2.0)), numbers.mean(0) / 2, atol=1e-6)
    columns = tables.empty_by_columns(23, 7)
    columns.copy_(numbers)
    assert torch.equal(columns, numbers)
    assert columns[:, 2].is_contiguous()
    assert list(tmp_path.iterdir()) == []  # no name, so no rest


def test_a_table_that_was_begun_goes_on_after_the_rows_that_are_there(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tables, "PAUSE", -1.0)
    numbers, path = noise(10, 3), tmp_path / "folder" / "t.npy"
    first = tables.Growing(10, 3, path)
    first.add(numbers[:4])
    first.add(numbers[4:6])
    again = tables.Growing(10, 3, path)
    assert again.done == 6
    again.add(numbers[6:])
    assert np.array_equal(np.load(path), numbers.numpy())
    assert tables.Growing(10, 3, path).done == 10


def test_rows_of_which_nothing_is_known_for_certain_are_written_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tables, "PAUSE", 3600.0)
    path = tmp_path / "t.npy"
    tables.Growing(10, 3, path).add(noise(4, 3))
    assert tables.Growing(10, 3, path).done == 0


@pytest.mark.parametrize("damage", ["no word", "no number", "cut off", "another shape", "no table"])
def test_what_is_damaged_is_begun_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "t.npy"
    tables.Growing(10, 3, path).add(noise(10, 3))
    if damage == "no word":
        path.with_suffix(".json").write_text("{")
    elif damage == "no number":
        path.with_suffix(".json").write_text(json.dumps({"rows": "many"}))
    elif damage == "cut off":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "another shape":
        np.save(path, np.zeros((3, 3), np.float32))
    else:
        path.unlink()
    again = tables.Growing(10, 3, path)
    assert again.done == 0
    again.add(noise(10, 3, seed=5))
    assert np.array_equal(np.load(path), noise(10, 3, seed=5).numpy())


def test_where_there_is_no_room_it_is_said_before_anything_is_written(tmp_path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(2**40, 2**40, 2**29))
    with pytest.raises(ValueError, match=r"4\.0 GB does not fit into .*where 0\.5 GB are free: take fewer pictures"):
        tables.Growing(2**20, 2**10, tmp_path / "t.npy")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"a table of 4\.0 GB does not fit .* TMPDIR"):
        tables.empty(2**20, 2**10)
