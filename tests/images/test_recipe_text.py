"""What a PNG says of itself is examined before anybody uses it."""

import time
from pathlib import Path

import hostile
import pytest
import torch
from PIL import Image, PngImagePlugin

from nbhelpers import images
from nbhelpers.images import recipe_text


@pytest.mark.parametrize(("text", "said"), hostile.NO_DATA.values(), ids=hostile.NO_DATA)
def test_what_is_no_plain_data_is_refused_at_once(tmp_path: Path, text: str, said: str) -> None:
    path, began = hostile.picture(tmp_path / "a.png", text), time.perf_counter()
    with pytest.raises(ValueError, match=said) as caught:
        images.read_recipe(path)
    assert time.perf_counter() - began < 1
    assert str(caught.value).startswith(f"the recipe in {path} is damaged (")
    assert len(str(caught.value)) < 700
    str(caught.value).encode()
    assert torch.equal(images.read(path), torch.zeros(3, 29, 29))  # as a photo it is as good as any


@pytest.mark.parametrize("packed", [True, False])
def test_megabytes_of_text_are_not_unpacked(tmp_path: Path, packed: bool) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt(recipe_text.CHUNK, '"' + "x" * 70_000_000 + '"', zip=packed)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    for door in (images.read_recipe, images.read):
        with pytest.raises(ValueError, match=r"a\.png carries more text than any picture needs"):
            door(tmp_path / "a.png")


def test_what_would_be_refused_is_not_written(tmp_path: Path) -> None:
    deep: list = []
    for _ in range(40):
        deep = [deep]
    for odd, said in [
        ({"seed": 10**4000}, "a number of 4,001 digits"),
        ({"layer": "\ud800"}, "half a character"),
        ({"layer": "x" * 20_000}, "a text of 20,000 characters"),
        ({"layers": deep}, "lists in lists"),
        ({f"p{number}": "x" * 100 for number in range(10_000)}, "the limit is 1,000,000"),
    ]:
        with pytest.raises(ValueError, match=f"the recipe is not plain JSON data .*{said}"):
            images.save(torch.zeros(3, 4, 4), tmp_path / "a.png", odd)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("unchecked")
def test_a_document_says_one_thing_of_its_picture() -> None:
    sound = {"recipe": "Any", "parameters": {}, "nbhelpers": "0.1.0"}
    for more in ({}, {"index": 3}, {"drawn_by": "sheet"}, {"sheet": {}}):
        recipe_text.check(sound | more)
    with pytest.raises(ValueError, match=r"a recipe's document is names and values, got \[1\]"):
        recipe_text.check([1])
    with pytest.raises(ValueError, match="its 'drawn_by' is 3, expected the name of a function"):
        recipe_text.check(sound | {"drawn_by": 3})
