"""Contents that make no sense are one kind of error, in words, whichever file they stand in."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from nbhelpers import edge, models
from nbhelpers.attribution import boxes
from nbhelpers.models import own_files
from nbhelpers.notebooks import results_page
from nbhelpers.techniques import fine_tuning
from nbhelpers.techniques.principal_features import PrincipalFeatures, palette_learning
from nbhelpers.training import data
from nbhelpers.volumes.channel_order import Order

NONSENSE = ["", "{", "[]", "3", "null", '"text"', "{}", '{"a": 1}', "[[[]]]", "[" * 20_000, '{"kind": {}}', "\0\xff"]


def write(text: str, path: Path) -> Path:
    path.write_text(text, encoding="latin-1")
    return path


READERS: dict[str, Callable[[Path], Any]] = {
    "order": Order.load,
    "classes of packed pictures": lambda path: data.classes(path.parent),
    "names of classes": lambda path: own_files.class_names(path, 3),
}


@pytest.mark.parametrize("text", NONSENSE)
@pytest.mark.parametrize("reader", READERS)
def test_nonsense_in_a_file_of_json(tmp_path: Path, reader: str, text: str) -> None:
    path = write(text, tmp_path / "classes.json")
    if reader == "classes of packed pictures" and text in ("[]", "{}"):
        assert READERS[reader](path) == []
        return
    with pytest.raises(ValueError, match=r"classes\.json is not a|names for 3 classes"):
        READERS[reader](path)


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_in_the_notes_of_tensors(tmp_path: Path, text: str) -> None:
    note = {"nbhelpers": text, "place": text, "classes": text, "size": text, "network": "minivgg"}
    tensors = {"mean": torch.zeros(3), "maxima": torch.zeros(0), "directions": torch.zeros(2, 3), "x:y": torch.zeros(1)}
    for name in ("palette.safetensors", "best.safetensors"):
        safetensors.torch.save_file(tensors, tmp_path / name, note)
    network = models.load("minivgg", device="cpu")
    with pytest.raises(ValueError, match=r"palette.* is not a palette, or it is damaged"):
        palette_learning.load(tmp_path / "palette.safetensors", network, PrincipalFeatures())
    with pytest.raises(ValueError, match=r"best.* is not what fine-tuning keeps"):
        fine_tuning.load(tmp_path)


@pytest.mark.parametrize(
    "note", [{}, {"seconds": "x"}, [], {"seconds": 1, "errors": [], "pictures": [], "parameters": [1]}]
)
def test_nonsense_in_the_notes_of_a_notebook(tmp_path: Path, note: Any) -> None:
    book = {"cells": [], "metadata": {"nbhelpers": note}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "n.ipynb").write_text(json.dumps(book))
    assert "is not a notebook that was run here" in results_page.write(tmp_path).read_text()


def test_nonsense_in_a_file_of_boxes(tmp_path: Path) -> None:
    for text in NONSENSE:
        with contextlib.nullcontext() if text == "{}" else pytest.raises(ValueError, match=r"JSON|no file of boxes"):
            boxes._entries(write(text, tmp_path / "b.json"))


def test_what_goes_wrong_elsewhere_is_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="x"), edge.understood(tmp_path, "a thing", "Do this"):
        raise OSError("x")
