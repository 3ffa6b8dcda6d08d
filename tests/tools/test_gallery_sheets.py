"""The sheets of the gallery are those of the recipes that the tool has."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image

from nbhelpers import gallery, images, models, recipes
from nbhelpers.ascent import Recognition
from nbhelpers.gallery import Sheet
from nbhelpers.techniques.class_pictures import ClassPictures
from tools import gallery_sheets

GALLERY = Path(__file__).parents[2] / "results" / "gallery"


def test_every_sheet_of_the_gallery_is_drawn_by_the_tool() -> None:
    assert {path.stem for path in GALLERY.glob("*.png")} == {*gallery_sheets.DRAWINGS, *gallery_sheets.ATLASES}


@pytest.mark.parametrize("name", gallery_sheets.ATLASES)
def test_an_atlas_of_the_gallery_is_of_the_tools_recipe(name: str) -> None:
    path, recipe = GALLERY / f"{name}.png", gallery_sheets.ATLASES[name]
    assert recipes.from_picture(path) == recipe
    assert images.read_recipe(path)["drawn_by"] == "draw"
    with Image.open(path) as image:
        assert image.size == (recipe.width, recipe.width)


def test_an_atlas_is_drawn_and_comes_back(tmp_path: Path) -> None:
    small = dict(cells=2, cuts=2, limit=24, places=1, size=32, picture_size=16, rounds=1, steps=1, width=240)
    recipe = gallery_sheets.ATLASES["minivgg_robust-atlas"].changed(**small, fewest=1)
    assert gallery.replay(gallery_sheets.draw_atlas("small", recipe, tmp_path)).same


@pytest.mark.parametrize("name", gallery_sheets.DRAWINGS)
def test_a_sheet_of_the_gallery_is_what_the_tool_draws(name: str) -> None:
    drawing, path = gallery_sheets.DRAWINGS[name](), GALLERY / f"{name}.png"
    assert recipes.from_picture(path) == drawing.recipe
    sheet, told = drawing.sheet, images.read_recipe(path)["sheet"]
    assert told == asdict(sheet) | {"labels": told["labels"] if drawing.judged else list(sheet.labels)}
    if drawing.judged:  # only the judge knows what is in the second line
        sheet = Sheet(sheet.of, sheet.side, sheet.columns, sheet.gap, [f"{label}\nno. 2" for label in sheet.labels])
    with Image.open(path) as image:
        assert sheet.fits(drawing.recipe, *image.size)


def test_a_judged_sheet_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery_sheets, "JUDGE", "minivgg")
    recipe = ClassPictures(classes=["goldfish", "pizza"], size=32, rounds=1, steps=2)
    drawing = gallery_sheets.Drawing(recipe, Sheet("classes", 64, 2, labels=recipe.classes), judged=True)
    path = gallery_sheets.draw("small", drawing, tmp_path)
    with torch.no_grad():
        answers = models.load("minivgg")(images.resize(recipe.run().picture, 64)).argsort(1, descending=True)
    classes = models.load("minivgg").classes
    for label, name, order in zip(images.read_recipe(path)["sheet"]["labels"], recipe.classes, answers, strict=True):
        place = order.tolist().index(classes.index(name)) + 1
        assert label == f"{name}\n" + ("recognised" if place == 1 else f"no. {place}")
    assert gallery.replay(path).same


def test_the_verdict_in_two_lines() -> None:
    found = Recognition("a judge", ["pizza", "teapot"], ["pizza", "vase"], [1, 4])
    assert gallery_sheets.verdict(found) == ["pizza\nrecognised", "teapot\nno. 4"]
