"""Pictures made again from the recipe inside them."""

import ast
import re
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import hostile
import nbformat
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nbhelpers import images, models, notebooks, recipes
from nbhelpers.__main__ import main
from nbhelpers.gallery import Replayed, replay, replaying
from nbhelpers.models import loading
from nbhelpers.techniques import activation_maximization, principal_features
from nbhelpers.techniques.activation_maximization import ActivationMaximization
from nbhelpers.techniques.activation_volumes import ActivationVolume
from nbhelpers.techniques.class_pictures import ClassPictures
from nbhelpers.techniques.filter_gradients import FilterGradients
from nbhelpers.techniques.grad_cam import GradCAM
from nbhelpers.techniques.inversion import Inversion
from nbhelpers.techniques.network_training import NetworkTraining
from nbhelpers.techniques.principal_features import PrincipalFeatures
from nbhelpers.techniques.saliency import Saliency

QUICK = ActivationMaximization(layer="block2.conv1", channels=[3, 8], size=24, rounds=2, steps=2)
ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_images"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two pictures of one recipe, and the technique's own sheet of both."""
    folder = tmp_path_factory.mktemp("made")
    step = QUICK.run()
    sheet = folder / "sheet.png"
    images.save(activation_maximization.sheet(QUICK, step), sheet, recipe=QUICK.document() | {"drawn_by": "sheet"})
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
    drawn = recipe.document() | {"drawn_by": "sheet"}
    images.save(principal_features.sheet(recipe.run()), tmp_path / "made.png", recipe=drawn)
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
    cut = rewritten(made[0], tmp_path / "cut.png", lambda pixels: pixels[:20])
    with pytest.raises(ValueError, match="have different sizes, 29 x 20 and 29 x 29: it was edited"):
        replay(cut)


# --- what cannot be made again is known before anything is computed


@pytest.fixture
def nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: recipes.Recipe, network: Any = None) -> None:
        raise AssertionError("a recipe was carried out")

    monkeypatch.setattr(recipes.Recipe, "run", run)


@pytest.mark.usefixtures("nothing_is_computed")
def test_a_figure_that_only_a_notebook_draws_names_the_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = tmp_path / "figure.png"
    images.save(Image.new("RGB", (200, 90)), figure, recipe=FilterGradients().document())
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match=r"is a figure that a notebook drew .* run notebooks/09_filter_grad"):
        replay(figure)
    monkeypatch.chdir(tmp_path)  # where there is no such notebook, none is named
    (tmp_path / "broken.ipynb").write_text("{")
    with pytest.raises(ValueError, match=r"run that notebook again .*from_picture\(path\) reads them"):
        replay(figure)


def test_every_recipe_finds_its_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "notebooks")
    recipes.kind_named("Saliency")
    for kind in recipes.Recipe.kinds.values():
        if kind.__module__.startswith("nbhelpers.") and kind.__name__ != "DirectionPictures":  # drawn by several
            code = "".join(cell.source for cell in notebooks.read(ROOT / replaying._notebook_of(kind)).cells)
            assert kind.__name__ in code


@pytest.mark.usefixtures("nothing_is_computed")
@pytest.mark.parametrize(
    ("recipe", "more", "said"),
    [
        (Inversion(), {"drawn_by": "sheet"}, "Inversion draws no figure of its own by 'sheet'"),  # of several steps
        (QUICK, {"drawn_by": "draw"}, "ActivationMaximization draws no figure of its own by 'draw'"),
        (QUICK, {"drawn_by": "climb"}, "draws no figure of its own by 'climb'"),
        (QUICK, {"drawn_by": "__import__"}, "draws no figure of its own by '__import__'"),
        (QUICK, {"sheet": {"of": "channels", "side": 32, "columns": 2}}, "its 40 x 30 pixels are not those of"),
        (QUICK, {"sheet": {"of": "channels", "side": 19, "columns": 2, "labels": ["a", "b"]}}, "it was edited"),
        (QUICK, {"sheet": {"of": "channels", "side": 10**9, "columns": 2, "labels": ["a", "b"]}}, "it was edited"),
        (QUICK, {"sheet": {"of": "channels", "side": 19, "columns": 2, "labels": ["a"]}}, "1 labels for 2 pictures"),
        (QUICK, {"sheet": {"of": "layer", "side": 19, "columns": 2}}, "shows 'layer', and .* has no such list"),
        (QUICK, {"sheet": {"of": "run", "side": 19, "columns": 2}}, "shows 'run', and .* has no such list"),
        (QUICK, {"sheet": {}}, "its sheet says nothing, expected of, side, columns, gap, labels, batch"),
        (QUICK, {"sheet": {"of": "channels", "side": 19, "columns": 2, "rows": 1}}, "see rows"),
        (QUICK, {"sheet": {"of": "channels", "side": "19", "columns": 2}}, "'side' is '19', expected 1 or more"),
        (QUICK, {"sheet": {"of": "channels", "side": 19, "columns": 0}}, "'columns' is 0, expected 1 or more"),
        (QUICK, {"sheet": {"of": "channels", "side": 19, "columns": 2, "labels": "ab"}}, "'labels' is 'ab', expected"),
        (QUICK, {"sheet": {"of": "channels", "side": 19, "columns": 2, "batch": -1}}, "'batch' is -1, expected 0 or"),
        (QUICK, {"sheet": {"of": "channels", "side": 19, "columns": 2, "labels": ["a" * 9000, "b"]}}, "a line or two"),
        (QUICK, {"sheet": {"of": ["channels"], "side": 19, "columns": 2}}, "'of' is .'channels'., expected"),
    ],
)
def test_what_a_file_says_of_itself_is_examined(
    tmp_path: Path, recipe: recipes.Recipe, more: dict[str, Any], said: str
) -> None:
    images.save(Image.new("RGB", (40, 30)), tmp_path / "odd.png", recipe=recipe.document() | more)
    with pytest.raises(ValueError, match=said) as caught:
        replay(tmp_path / "odd.png")
    assert str(tmp_path / "odd.png") in str(caught.value)


@pytest.mark.usefixtures("nothing_is_computed")
@pytest.mark.parametrize(
    ("text", "said"), (hostile.NO_DATA | hostile.NO_RECIPE).values(), ids=hostile.NO_DATA | hostile.NO_RECIPE
)
def test_documents_that_no_technique_wrote(tmp_path: Path, text: str, said: str) -> None:
    path = hostile.picture(tmp_path / "a.png", text)
    with pytest.raises(ValueError, match=said) as caught:
        replay(path)
    assert str(path) in str(caught.value)
    ran = CliRunner().invoke(main, ["replay", str(path)])
    assert ran.exit_code == 2
    assert "Traceback" not in ran.output


def test_no_file_and_no_folder(odd_paths: dict[str, Path], made: list[Path], tmp_path: Path) -> None:
    for path in [*odd_paths.values(), tmp_path]:
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            replay(path)
        assert len(str(caught.value)) < 700
        ran = CliRunner().invoke(main, ["replay", str(path)])
        assert (ran.exit_code, "Traceback" in ran.output) == (2, False), ran.exception
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nowhere"):
        replay(made[0], folder=tmp_path / "nowhere")


def test_every_picture_that_a_technique_draws_for_a_notebook_says_so() -> None:
    """`images.save(saliency.sheet(explained), ..., recipe=recipe.document() | {"drawn_by": "sheet"})`, and so on."""
    found = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type != "code" or "images.save(" not in cell.source:
                continue
            tree = ast.parse(cell.source)
            assigned = {
                ast.unparse(node.targets[0]): node.value for node in ast.walk(tree) if isinstance(node, ast.Assign)
            }
            for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
                if ast.unparse(call.func) != "images.save":
                    continue
                drawn = call.args[0]
                drawn = ast.unparse(assigned.get(ast.unparse(drawn), drawn))
                recipe = next(ast.unparse(each.value) for each in call.keywords if each.arg == "recipe")
                by = re.match(r"(?!inversion\.)\w+\.(sheet|draw)\(\w+(, \w+)*\)$", drawn)
                assert recipe == "recipe.document()" + (f" | {{'drawn_by': '{by[1]}'}}" if by else "")
                found += [path.stem[:2]] if by else []
    assert found == ["03", "06", "08"]


@pytest.mark.parametrize(
    ("recipe", "by"),
    [
        (Saliency(photos=str(SAMPLES / "cat.jpg"), count=1, photo_size=64), "sheet"),
        (GradCAM(photos=str(SAMPLES / "cat.jpg"), photo_size=64), "sheet"),
        (ActivationVolume(photo=str(SAMPLES / "cat.jpg"), layer="block2.conv1"), "draw"),
        (Inversion(photos=str(SAMPLES / "cat.jpg"), size=48, steps=2), "draw"),
        (ClassPictures(classes=["pizza"], size=32, rounds=1, steps=2), "sheet"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, recipes.Recipe) else value,
)
def test_the_figure_that_a_technique_draws_comes_back(tmp_path: Path, recipe: recipes.Recipe, by: str) -> None:
    draw, step = getattr(sys.modules[type(recipe).__module__], by), recipe.run()
    known = {"recipe": recipe, "network": None}
    given = [known.get(name, step) for name, each in signature(draw).parameters.items() if each.default is each.empty]
    images.save(draw(*given), tmp_path / "a.png", recipe=recipe.document() | {"drawn_by": by})
    assert replay(tmp_path / "a.png").same


def test_replay_writes_nothing_and_follows_no_address_unless_asked(tmp_path: Path) -> None:
    kept = tmp_path / "made by the picture"
    document = NetworkTraining(keep=str(kept), epochs=1).document() | {"index": 0}
    assert recipes.only_reading(recipes.from_document(document)).keep == ""
    recipes.kind_named("Saliency")  # which brings all kinds
    for kind in recipes.Recipe.kinds.values():
        assert set(kind.written) == {"keep"} & set(kind.model_fields), kind
    picture = tmp_path / "p.png"
    images.save(
        torch.rand(3, 24, 24), picture, recipe=QUICK.changed(start="https://x.example/p.jpg").document() | {"index": 0}
    )
    for make in (replay, recipes.remake):
        with pytest.raises(ValueError, match=r"its start is the address .* unless you ask for it \(addresses=True"):
            make(picture)
    asked = CliRunner().invoke(main, ["replay", str(picture)])
    assert asked.exit_code == 2
    assert "--addresses" in asked.output
    assert not kept.exists()
