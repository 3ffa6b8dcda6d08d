"""The comparison of two folders of pictures: what is the same, what is not, and what is missing."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nbhelpers import images
from tools import same_pictures


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    picture = torch.rand(3, 8, 8)
    for folder in ("before", "after"):
        images.save(picture, tmp_path / folder / "01" / "a.png", recipe={"seed": 1})
        images.save(picture, tmp_path / folder / "02" / "b.png")
    return tmp_path / "before", tmp_path / "after"


def test_equal_folders_are_the_same(folders: tuple[Path, Path]) -> None:
    rows = same_pictures.compare(*folders)
    assert {name: (row.pictures, row.with_recipe, row.same, row.largest) for name, row in rows.items()} == {
        "01": (1, 1, 1, 0),
        "02": (1, 0, 1, 0),
    }


def test_one_level_another_recipe_another_size_and_a_missing_one_are_named(folders: tuple[Path, Path]) -> None:
    before, after = folders
    pixels = (images.read(after / "01" / "a.png") * 255).round()
    pixels[1, 2, 3] += 1 if pixels[1, 2, 3] < 255 else -1
    images.save(pixels / 255, after / "01" / "a.png", recipe={"seed": 1})
    images.save(images.read(before / "02" / "b.png"), after / "02" / "b.png", recipe={"seed": 2})
    images.save(torch.rand(3, 4, 4), after / "02" / "c.png")
    images.save(torch.rand(3, 4, 4), before / "03" / "d.png")
    images.save(torch.rand(3, 4, 5), after / "03" / "d.png")
    script = [sys.executable, same_pictures.__file__, str(before), str(after)]
    ran = subprocess.run(script, capture_output=True, text=True)
    assert ran.returncode == 1
    for said in ("a.png: pixels up to 1 of 255", "the same pixels, another recipe", "c.png is only in", "another size"):
        assert said in ran.stdout


def test_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        same_pictures.compare(tmp_path, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no PNG"):
        same_pictures.compare(tmp_path, tmp_path)
