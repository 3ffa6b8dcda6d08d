"""`docs/troubleshooting.md` holds to the package: every entry's error is raised here, and compared word for word."""

import builtins
import re
import traceback
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from small_networks import tiny
from torch import nn

from nbhelpers import gallery, images, models, recipes
from nbhelpers.ascent import ascend
from nbhelpers.ascent.canvas import Pixels
from nbhelpers.ascent.objectives import channel
from nbhelpers.attribution import boxes
from nbhelpers.controls import cli as explorer
from nbhelpers.images import overlays
from nbhelpers.models.minivgg import MiniVGG
from nbhelpers.notebooks import arguments, batch, read
from nbhelpers.sweeps import plan
from nbhelpers.techniques.activation_maximization import ActivationMaximization
from nbhelpers.techniques.grad_cam import GradCAM
from nbhelpers.techniques.principal_features import PrincipalFeatures
from nbhelpers.volumes import files

PAGE = Path(__file__).parent.parent / "docs" / "troubleshooting.md"
ENTRY = re.compile(
    r"^## (?P<name>[^\n]+)\n\n```text\n(?P<said>.+?)\n```\n\n(?P<cause>.+?)\n\n\*\*Cure.\*\* (?P<cure>.+?)\n\n"
    r"Raised by `nbhelpers\.(?P<raiser>[\w.]+)`\.$",
    re.MULTILINE | re.DOTALL,
)
Patch = pytest.MonkeyPatch


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x


def unreachable(patch: Patch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    patch.setenv("TORCH_HOME", "cache")
    patch.setattr("torch.hub.urlopen", refuse)
    models.load("squeezenet1_0")


def damaged_weights(patch: Patch) -> None:
    path = Path("cache/hub/checkpoints/squeezenet1_0-b66bff10.pth")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a network")
    patch.setenv("TORCH_HOME", "cache")
    models.load("squeezenet1_0")


def without_a_library(patch: Patch) -> None:
    real = builtins.__import__

    def without(module: str, *rest: Any, **named: Any) -> Any:
        if module.partition(".")[0] == "timm":
            raise ImportError("No module named 'timm'")
        return real(module, *rest, **named)

    patch.setattr(builtins, "__import__", without)
    models.load("timm/resnet18")


def other_weights(patch: Patch) -> None:
    torch.save(MiniVGG(stem=4, widths=((4,),)).state_dict(), "mine.pth")
    models.load("resnet18", weights="mine.pth")


def photo(name: str = "photo.jpg", size: tuple[int, int] = (32, 32)) -> Path:
    Image.new("RGB", size).save(name)
    return Path(name)


def truncated(patch: Patch) -> None:
    Image.effect_noise((64, 64), 90).save("photo.png")
    Path("photo.png").write_bytes(Path("photo.png").read_bytes()[:600])
    images.read("photo.png")


def written(name: str, content: bytes | str) -> str:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def notebook(name: str = "notebook.ipynb") -> Path:
    cell = new_code_cell("steps: int = 16\nlayer: str = 'block1'", metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[cell]), name)
    return Path(name)


def sweep(text: str) -> None:
    notebook()
    plan.read(written("sweep.yaml", f"notebook: notebook.ipynb\n{text}"))


def infinite_weights(patch: Patch) -> None:
    net = tiny()
    with torch.no_grad():
        net.conv2.weight[0, 0, 0, 0] = torch.inf
    list(ascend(models.Network(net, size=8), channel("conv2", [0]), Pixels(torch.full((1, 3, 8, 8), 0.5)), steps=9))


def header_gone(patch: Patch) -> None:
    files.save(np.zeros((2, 3, 4), np.uint8), Path("volume.vox"))
    Path("volume.hd").unlink()
    files.load(Path("volume.vox"))


def without_voila(patch: Patch) -> None:
    patch.setattr(explorer, "find_spec", lambda name: None)
    explorer.explore.main(["photo.jpg"], standalone_mode=False)


CASES: dict[str, Callable[[Patch], Any]] = {
    "No such layer": lambda patch: models.check_layer("minivgg_robust", "block4.conv9"),
    "No such channel": lambda patch: models.check_channels("minivgg_robust", "block1.conv1", [9999]),
    "No such network": lambda patch: models.load("resnet5"),
    "The weights cannot be downloaded": unreachable,
    "A file of weights is damaged": damaged_weights,
    "A file of weights is another network's": other_weights,
    "A file of weights where a name is expected": lambda patch: models.load("my_weights.pth"),
    "A library is not installed": without_a_library,
    "No such class": lambda patch: models.class_indices("minivgg_robust", ["tabby dog"]),
    "A class number too high": lambda patch: models.class_indices("minivgg_robust", [100]),
    "Your network takes more than one input": lambda patch: models.layers(TwoInputs(), 64),
    "Your network is TorchScript": lambda patch: models.layers(
        torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3))), 64
    ),
    "Your network is not for pictures": lambda patch: models.layers(nn.Sequential(nn.Conv3d(3, 4, 3)), 64),
    "The layer has a single place": lambda patch: GradCAM(
        photos=str(photo()), layer="pool", photo_size=32
    ).run(),
    "No such photo": lambda patch: (photo("cat.jpg"), images.read("cta.jpg")),
    "A photo is damaged": truncated,
    "A HEIC photo": lambda patch: images.read(written("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")),
    "A folder where one picture is expected": lambda patch: (Path("photos").mkdir(), images.read("photos")),
    "A folder without pictures": lambda patch: (
        Path("photos").mkdir(), written("photos/notes.txt", "no picture"), images.read_folder("photos", 32)
    ),
    "A picture without a recipe": lambda patch: recipes.from_picture(photo("plain.png")),
    "A JPEG carries no recipe": lambda patch: recipes.from_picture(photo("copy.jpg")),
    "A recipe of another version": lambda patch: recipes.from_document(
        {"recipe": "DeepDream", "parameters": {}, "nbhelpers": "9.0"}
    ),
    "A misspelled parameter": lambda patch: ActivationMaximization(chanels=[1]),
    "A value out of range": lambda patch: ActivationMaximization(steps=0),
    "No such parameter of a notebook": lambda patch: arguments.check(notebook(), {"stpes": 3}),
    "Not a notebook": lambda patch: read(written("notebook.ipynb", "# not one")),
    "The results folder cannot be written to": lambda patch: batch.run(
        notebook(), results=written("results", "a file")
    ),
    "A sweep with an unknown parameter": lambda patch: sweep("grid: {stpes: [1, 2]}"),
    "A sweep with too many jobs": lambda patch: sweep("grid: {steps: 0..99999, layer: 0..99999}"),
    "The score is not a number": infinite_weights,
    "No such colour map": lambda patch: overlays.overlay(
        torch.rand(1, 3, 8, 8), torch.rand(1, 8, 8), 0.5, "magna"
    ),
    "The boxes are missing": lambda patch: (photo(), boxes.read(Path(), 8)),
    "A component that is not there": lambda patch: PrincipalFeatures(
        photos=str(photo()), size=32, components=[999]
    ).run(),
    "A volume's header is missing": header_gone,
    "A folder without pictures to show": lambda patch: (Path("empty").mkdir(), gallery.write("empty")),
    "The explorer's server is not installed": without_voila,
}  # fmt: skip


def raised(case: str, folder: Path, patch: Patch) -> tuple[str, list[tuple[str, str]]]:
    """An error as a reader sees it, and the functions that it went through: module and name."""
    patch.chdir(folder)
    try:
        CASES[case](patch)
    except Exception as error:
        text = str(error.args[0] if isinstance(error, KeyError) else error)
        text = re.sub(r"https://\S+/", "https://.../", text.replace(f"{folder}/", "").replace(str(folder), "."))
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        return f"{type(error).__name__}: {text}", [(f.f_globals["__name__"], f.f_code.co_name) for f in frames]
    raise AssertionError(f"{case}: nothing was raised")


ENTRIES = {entry["name"]: entry for entry in ENTRY.finditer(PAGE.read_text(encoding="utf-8"))}


def test_every_entry_is_raised_here_and_nothing_else() -> None:
    assert list(ENTRIES) == list(CASES)
    assert re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE) == list(CASES)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch.jit's
def test_an_entry_says_what_the_package_says(case: str, tmp_path: Path, monkeypatch: Patch) -> None:
    said, ways = raised(case, tmp_path, monkeypatch)
    told, said = (re.sub(r"\band \d+ more", "and so many more", text) for text in (ENTRIES[case]["said"], said))
    assert told.replace("\n", " ") == said
    module, _, name = f"nbhelpers.{ENTRIES[case]['raiser']}".rpartition(".")
    assert any(where in (module, module.rpartition(".")[0]) and what == name for where, what in ways), ways
