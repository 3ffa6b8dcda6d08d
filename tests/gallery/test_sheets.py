"""A sheet's PNG says how it was made and laid out, and so it can be made again."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import noise

from nbhelpers import images, models, recipes
from nbhelpers.gallery import Sheet, replay
from nbhelpers.techniques.activation_maximization import ActivationMaximization
from nbhelpers.techniques.class_pictures import ClassPictures

CHANNELS = ActivationMaximization(layer="block2.conv1", channels=[3, 8, 5], size=24, rounds=2, steps=2)
CLASSES = ClassPictures(classes=["goldfish", "pizza", "school bus"], size=32, rounds=1, steps=2)


@pytest.mark.parametrize(
    ("recipe", "sheet"),
    [
        (CHANNELS, Sheet("channels", side=40, columns=2, gap=3)),
        (CHANNELS, Sheet("channels", side=29, columns=9, labels=["a", "a longer label\nof two lines", ""], batch=2)),
        (CLASSES, Sheet("classes", side=16, columns=3, gap=0, labels=CLASSES.classes, batch=1)),
    ],
    ids=["channels", "labelled, in batches", "classes, one by one"],
)
def test_a_sheet_comes_back_exactly(tmp_path: Path, recipe: recipes.Recipe, sheet: Sheet) -> None:
    pictures = sheet.pictures(recipe)
    sheet.save(recipe, pictures, tmp_path / "sheet.png")
    again = replay(tmp_path / "sheet.png")
    assert again.same
    assert again.recipe == recipe
    told = dataclasses.asdict(sheet) | {"labels": list(sheet.labels)}
    assert images.read_recipe(tmp_path / "sheet.png") == recipe.document() | {"sheet": told}
    # and it is what a reader would have drawn by hand
    by_hand = images.tile(images.resize(pictures, sheet.side), sheet.columns, sheet.gap, labels=sheet.labels or None)
    assert np.array_equal(np.asarray(again.image), np.asarray(by_hand))


def test_pictures_are_made_as_many_at_a_time_as_the_sheet_says() -> None:
    sizes: list[int] = []

    class Counted(ActivationMaximization):
        def run(self, network: torch.nn.Module | None = None) -> object:
            sizes.append(len(self.channels))
            return super().run(network)

    counted = Counted(**CHANNELS.model_dump())
    made = {batch: Sheet("channels", side=24, columns=3, batch=batch).pictures(counted) for batch in (0, 1, 2, 9)}
    assert sizes == [3, 1, 1, 1, 2, 1, 3]
    assert torch.equal(made[0], CHANNELS.run().picture)
    alone = [CHANNELS.changed(channels=[channel]).run().picture for channel in CHANNELS.channels]
    assert torch.equal(made[1], torch.cat(alone))
    del recipes.Recipe.kinds["Counted"]


def test_a_sheet_of_a_network_of_the_readers_own(tmp_path: Path) -> None:
    net, sheet = models.randomised("minivgg", seed=3), Sheet("channels", side=24, columns=3)
    sheet.save(CHANNELS, sheet.pictures(CHANNELS, net), tmp_path / "a.png")
    assert replay(tmp_path / "a.png", net).same
    assert not replay(tmp_path / "a.png").same


@pytest.mark.parametrize("labels", [(), ["one", "two", "three"]])
def test_an_edited_sheet_is_known_by_its_size(tmp_path: Path, labels: list[str]) -> None:
    sheet = Sheet("channels", side=24, columns=2, labels=labels)
    width, height = sheet.draw(noise(3, 3, 24, 24)).size
    assert sheet.fits(CHANNELS, width, height)
    for other in ((width - 1, height), (width, height - 1), (width, height + 1), (height, width + 1)):
        assert not sheet.fits(CHANNELS, *other)
    sheet.save(CHANNELS, noise(3, 3, 24, 24), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as whole:
        cropped = whole.crop((0, 0, width, height - 5))
    images.save(cropped, tmp_path / "b.png", recipe=images.read_recipe(tmp_path / "a.png"))
    with pytest.raises(ValueError, match=rf"its {width} x {height - 5} pixels are not those of the sheet"):
        replay(tmp_path / "b.png")


def test_what_is_no_sheet_of_a_recipe_is_not_written(tmp_path: Path) -> None:
    sheet = Sheet("channels", side=24, columns=2)
    with pytest.raises(ValueError, match="2 pictures for the 3 channels of the recipe"):
        sheet.save(CHANNELS, noise(2, 3, 24, 24), tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"shows squares, got pictures of shape \(3, 3, 24, 30\)"):
        sheet.save(CHANNELS, noise(3, 3, 24, 30), tmp_path / "a.png")
    with pytest.raises(ValueError, match="its sheet shows 'classes', and ActivationMaximization has no such list"):
        dataclasses.replace(sheet, of="classes").save(CHANNELS, noise(3, 3, 24, 24), tmp_path / "a.png")
    with pytest.raises(ValueError, match="its sheet's 'side' is 0, expected 1 or more"):
        Sheet("channels", side=0, columns=2)
    assert not list(tmp_path.iterdir())
