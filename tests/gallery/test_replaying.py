"""Pictures made again from the recipe inside them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nbhelpers import images, models
from nbhelpers.gallery import Replayed, replay
from nbhelpers.models import loading
from nbhelpers.techniques import activation_maximization, principal_features
from nbhelpers.techniques.activation_maximization import ActivationMaximization
from nbhelpers.techniques.principal_features import PrincipalFeatures

QUICK = ActivationMaximization(layer="block2.conv1", channels=[3, 8], size=24, rounds=2, steps=2)
SAMPLES = Path(__file__).parents[2] / "sample_images"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two pictures of one recipe, and the technique's own sheet of both."""
    folder = tmp_path_factory.mktemp("made")
    step = QUICK.run()
    sheet = folder / "sheet.png"
    images.save(activation_maximization.sheet(QUICK, step), sheet, recipe=QUICK.document())
    return [*activation_maximization.save(QUICK, step, folder), sheet]


def rewritten(source: Path, target: Path, change: Any = None, **document: Any) -> Path:
    """The picture with other pixels, or with another recipe around it."""
    pixels = np.asarray(Image.open(source)).astype(int)
    pixels = pixels if change is None else np.clip(change(pixels), 0, 255)
    recipe = images.read_recipe(source) | document
    images.save(Image.fromarray(pixels.astype(np.uint8)), target, recipe=recipe)
    return target


def test_every_picture_of_a_batch_and_its_sheet_come_back_exactly(made: list[Path]) -> None:
    for path in made:
        again = replay(path)
        assert again.same
        assert (again.largest, again.mean) == (0, 0)
        assert np.array_equal(np.asarray(again.image), np.asarray(Image.open(path)))
        assert again.recipe == QUICK
        assert again.line() == f"{path}: the same, every one of {again.image.width} x {again.image.height} pixels"


def test_differences_are_measured_in_levels(made: list[Path], tmp_path: Path) -> None:
    before = np.asarray(Image.open(made[0])).astype(int)

    def scratch(pixels: np.ndarray) -> np.ndarray:
        pixels[2, 3] = 255 - pixels[2, 3]
        pixels[5, :, 1] += 4
        return pixels

    path = rewritten(made[0], tmp_path / "other.png", scratch)
    apart = np.abs(np.asarray(Image.open(path)).astype(int) - before)
    again = replay(path)
    assert not again.same
    assert again.largest == apart.max()
    assert again.mean == pytest.approx(apart.mean(), rel=1e-5)
    assert f"on average, {apart.max()} at most" in again.line()


@settings(max_examples=20, deadline=None)
@given(largest=st.integers(0, 255), mean=st.floats(0, 255))
def test_only_no_difference_at_all_is_the_same(largest: int, mean: float) -> None:
    again = Replayed(Path("a.png"), QUICK, Image.new("RGB", (3, 2)), largest, mean, "0.0.1")
    assert again.same == (largest == 0)
    assert ("the same" in again.line()) == again.same
    assert ("made with version 0.0.1, this is" in again.line()) == (not again.same)


def test_a_network_of_the_readers_own(tmp_path: Path) -> None:
    net = models.randomised("minivgg", seed=3)
    path = activation_maximization.save(QUICK, QUICK.run(net), tmp_path)[0]
    assert replay(path, net).same
    other = replay(path)  # made with another network than the recipe names
    assert other.mean > 1


def test_relative_photos_are_found_where_notebooks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "photos").mkdir()
    for name in ("cat.jpg", "coffee.jpg"):
        (tmp_path / "photos" / name).symlink_to(SAMPLES / name)
    recipe = PrincipalFeatures(photos="../photos", batch=2, size=48)
    monkeypatch.chdir(tmp_path / "notebooks")
    images.save(principal_features.sheet(recipe.run()), tmp_path / "made.png", recipe=recipe.document())
    assert replay("../made.png").same
    monkeypatch.chdir(tmp_path)
    assert replay("made.png").same
    assert Path.cwd() == tmp_path
    (tmp_path / "notebooks").rmdir()
    with pytest.raises(FileNotFoundError, match=r"made\.png can't be made again"):
        replay("made.png")
    assert Path.cwd() == tmp_path
    (tmp_path / "elsewhere").mkdir()
    assert replay("made.png", folder=tmp_path / "elsewhere").same


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"recipe": "Old"}, "unknown recipe 'Old': this version knows .*ActivationMaximization"),
        ({"parameters": {"network": "mine"}}, "network 'mine' is not known here; one of your own goes in as"),
        ({"parameters": {"layer": "block9"}}, r"no layer 'block9'\. Nearest"),
        ({"parameters": {"stepz": 3}}, "no parameter 'stepz' .did you mean 'steps'"),
        ({"index": 7}, "out of bounds"),
        ({"index": -1}, "its number in the batch is -1, expected 0, 1, 2"),
        ({"index": "0"}, "its number in the batch is '0'"),
        ({"nbhelpers": "0.0.1", "recipe": "Old"}, r"can't be made again \(made with version 0\.0\.1, this is"),
    ],
)
def test_recipes_that_cannot_be_carried_out(made: list[Path], tmp_path: Path, document: dict, said: str) -> None:
    small = QUICK.changed(steps=1, rounds=1).model_dump(mode="json")
    document = {"parameters": small} | document
    path = rewritten(made[0], tmp_path / "odd.png", **document)
    with pytest.raises(ValueError, match=said) as caught:
        replay(path)
    assert str(path) in str(caught.value)


def test_a_network_whose_weights_are_not_at_hand(made: list[Path], tmp_path: Path, monkeypatch: Any) -> None:
    def unreachable(*arguments: Any, **options: Any) -> None:
        raise FileNotFoundError("the weights of vgg16 are not on this machine and could not be downloaded")

    monkeypatch.setattr(loading, "from_torchvision", unreachable)
    assert "vgg16" in models.torchvision_names()
    path = rewritten(made[0], tmp_path / "vgg.png", parameters={"network": "vgg16", "layer": "features.0"})
    with pytest.raises(FileNotFoundError, match=r"vgg\.png can't be made again: the weights of vgg16 are not on"):
        replay(path)


def test_pictures_that_hold_nothing_to_replay(made: list[Path], tmp_path: Path) -> None:
    images.save(torch.rand(3, 8, 8), tmp_path / "plain.png")
    with pytest.raises(ValueError, match="carries no recipe"):
        replay(tmp_path / "plain.png")
    images.save(torch.rand(3, 8, 8), tmp_path / "plain.jpg")
    with pytest.raises(ValueError, match="is a JPEG, and only PNG files carry a recipe"):
        replay(tmp_path / "plain.jpg")
    with pytest.raises(FileNotFoundError, match="no such file"):
        replay(tmp_path / "missing.png")
    figure = tmp_path / "figure.png"
    images.save(Image.new("RGB", (200, 90)), figure, recipe=QUICK.document())
    with pytest.raises(ValueError, match="is a figure that a notebook drew"):
        replay(figure)
    cut = rewritten(made[0], tmp_path / "cut.png", lambda pixels: pixels[:20])
    with pytest.raises(ValueError, match="have different sizes, 29 x 20 and 29 x 29: it was edited"):
        replay(cut)
