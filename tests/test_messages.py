"""No message grows with what it is about: of a thousand names it says five, and how many more there are."""

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import nbhelpers
from nbhelpers import images, models
from nbhelpers.ascent import objectives, recognised
from nbhelpers.attribution import boxes, gradients
from nbhelpers.images import overlays
from nbhelpers.models.capturing import Seen
from nbhelpers.notebooks import arguments
from nbhelpers.sweeps import cli
from nbhelpers.sweeps.plan import Job
from nbhelpers.techniques import interpretation_test
from nbhelpers.techniques.activation_maximization import ActivationMaximization
from nbhelpers.techniques.principal_features import PrincipalFeatures
from nbhelpers.volumes import Order, files

PACKAGE = Path(nbhelpers.__file__).parent
SAMPLES = PACKAGE.parent / "sample_images"
THOUSAND = range(1000)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand photos, and a file of boxes about a thousand others."""
    folder = tmp_path_factory.mktemp("photos")
    for number in THOUSAND:
        Image.new("RGB", (8, 8)).save(folder / f"{number:04}.png")
    others = {f"other-{number}.png": {"size": [8, 8], "objects": []} for number in THOUSAND}
    (folder / "boxes.json").write_text(json.dumps(others))
    return folder


def not_finite(*shape: int) -> torch.Tensor:
    return torch.full(shape, torch.nan)


CASES: dict[str, Callable[[Path], Any]] = {
    "a photo among a thousand": lambda photos: interpretation_test.InterpretationTest(
        photos=str(photos), photo="none of them", size=16
    ).run(),
    "boxes of other photos": lambda photos: boxes.read(photos, 8),
    "no file of a thousand": lambda photos: images.read(photos / "none of them"),
    "channels": lambda photos: models.check_channels("minivgg_robust", "block1.conv1", [9999] * 1000),
    "channels of an objective": lambda photos: objectives.channel("x", [9999] * 1000)(
        {"x": torch.zeros(1000, 3, 2, 2)}
    ),
    "a class": lambda photos: models.class_indices("minivgg_robust", ["none of them, whatever it is"]),
    "classes that no judge knows": lambda photos: recognised(
        torch.zeros(1000, 3, 16, 16), [f"q{number}" for number in THOUSAND], "minivgg"
    ),
    "a layer that was not captured": lambda photos: Seen({f"layer{number}": 0 for number in THOUSAND})["other"],
    "gradients": lambda photos: gradients.check_finite(not_finite(1000, 3)),
    "maps": lambda photos: overlays.colour(not_finite(1000, 4, 4)),
    "maps of a volume": lambda photos: files.finite(not_finite(1000, 4, 4)),
    "sizes": lambda photos: images.tile([torch.zeros(3, 8, number + 1) for number in THOUSAND]),
    "parameters of a notebook": lambda photos: arguments.check_names(
        ["x"], [f"p{n}" for n in THOUSAND], "no", "It has"
    ),
    "parameters of a recipe": lambda photos: ActivationMaximization(**{f"p{number}": 0 for number in THOUSAND}),
    "values of a recipe": lambda photos: ActivationMaximization(channels=["x"] * 1000),
    "components": lambda photos: PrincipalFeatures(photos=str(photos), size=16, components=[999] * 1000).run(),
}


@pytest.mark.parametrize("case", CASES)
def test_a_message_names_a_few(case: str, photos: Path) -> None:
    with pytest.raises((ValueError, KeyError, FileNotFoundError)) as caught:
        CASES[case](photos)
    said = str(caught.value)
    assert len(said) < 1500, said[:3000]
    if case != "components":  # so many are refused by their number
        assert " more" in said, said


def test_a_table_of_failures_names_a_few(capsys: pytest.CaptureFixture[str]) -> None:
    failure = {"cell": 3, "error": "ValueError: no"}
    cli._table([(Job(f"job{number}", {}, {"seed": number}), failure) for number in THOUSAND])
    said = capsys.readouterr().out
    assert said.count("ValueError") == cli._SHOWN
    assert f"{1000 - cli._SHOWN} more" in said


def test_photos_that_could_not_be_read_are_counted() -> None:
    read = images.Photos(torch.zeros(1, 3, 2, 2), ["a.png"], {f"{number}.png": "damaged" for number in THOUSAND})
    assert repr(read).count("damaged") == 5
    assert repr(read).endswith("and 995 more")


def joined_in_errors(tree: ast.AST) -> list[str]:
    """What is joined into one text where something is raised, unless it is a constant of the module."""
    raised = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    joins = [
        node.args[0]
        for statement in raised
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "join"
    ]
    return [ast.unparse(each) for each in joins if not (isinstance(each, ast.Name) and each.id.isupper())]


BOUNDED = {
    "sorted(missing)": "three arrays of a shard",
    "get_args(Fit)": "three ways to fit",
    "models.bundled()": "two networks",
    "map(repr, told)": "three entries of a document",
    "order[-4:]": "four layers",
    "near": "four names of timm's",
    "problems": "three kinds, each with few names",
    "texts": "three complaints, each short",
    "writers": "four endings",
}
"""Lists that are joined whole, and why they are short."""


def test_errors_join_only_what_is_short() -> None:
    found = {text for path in PACKAGE.rglob("*.py") for text in joined_in_errors(ast.parse(path.read_text()))}
    assert found <= set(BOUNDED), "a list of any length goes through edge.few"


@pytest.mark.parametrize(
    "read",
    [
        images.read,
        Order.load,
        lambda path: files.load(f"{path}.nrrd"),
        lambda path: PrincipalFeatures(photos=str(SAMPLES), size=32, palette=path).run(),
    ],
    ids=["photo", "order", "volume", "palette"],
)
def test_a_name_that_no_file_can_have_is_no_crash(read: Callable[[str], Any]) -> None:
    with pytest.raises(FileNotFoundError, match=r"too long for a name|there is no palette x") as said:
        read("x" * 300)
    assert len(str(said.value)) < 400
