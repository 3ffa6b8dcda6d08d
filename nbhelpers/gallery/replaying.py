"""Make a picture again from the recipe inside it, and say whether it is the same.

    nbhelpers replay results/sweep/jobs/1f2e/picture.png

On the machine that made it, with the same versions, the pixels are the same; elsewhere the last bits of a convolution
differ, and a long climb from noise drifts apart. How far is said in levels, of which there are 256.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from nbhelpers import __version__, images, models, recipes
from nbhelpers.recipes import Recipe


@dataclass(frozen=True)
class Replayed:
    """A picture made again, and how it compares with the file.

    Attributes:
        path: the file.
        recipe: what was inside it.
        image: the picture made now, as it would be saved.
        largest: greatest difference of any pixel and colour in 8-bit levels, 0 to 255.
        mean: mean difference over pixels and colours in 8-bit levels.
        made_with: version of this package that made the file.
    """

    path: Path
    recipe: Recipe
    image: Image.Image
    largest: float
    mean: float
    made_with: str

    @property
    def same(self) -> bool:
        """Whether every pixel is the same."""
        return self.largest == 0

    def line(self) -> str:
        """The verdict in one line."""
        if self.same:
            return f"{self.path}: the same, every one of {self.image.width} x {self.image.height} pixels"
        how_far = f"by {self.mean:.2g} of 255 levels on average, {self.largest:.0f} at most"
        version = (
            "" if self.made_with == __version__ else f"; made with version {self.made_with}, this is {__version__}"
        )
        return f"{self.path}: differs {how_far}{version}"


def replay(path: str | Path, network: nn.Module | None = None, folder: str | Path | None = None) -> Replayed:
    """Make the picture in a PNG again and compare the pixels.

    Args:
        path: a PNG that a technique wrote: one picture of a recipe, or the figure of all of it that the technique
            itself draws (its `sheet` or `draw`).
        network: the module it was made with, if that was one of the user's own.
        folder: where the recipe's relative paths begin; by default the folder `notebooks` in the current one, where
            notebooks run, or else the current one.

    Returns:
        The picture made now, and how far it is from the file.

    Raises:
        FileNotFoundError: no such file; or the network's weights or the recipe's photos are not at hand.
        ValueError: no PNG, no recipe in it, a recipe or network this version does not know, or a figure that only
            its notebook draws. The message says which.
    """
    path = Path(path).expanduser()
    document = images.read_recipe(path)
    whole = path.absolute()
    with _explained(path, document), _working_in(folder):
        recipe = recipes.from_document(document)
        _check_network(recipe, network)
        image = _made(document, whole, recipe, network)
    before = np.rint(images.decode(path) * 255)
    now = np.asarray(image.convert("RGB"), dtype=np.float32)
    if before.shape != now.shape:
        if "index" not in document:
            raise ValueError(f"{path} {_ONLY_A_NOTEBOOK}")
        shapes = " and ".join(f"{shape[1]} x {shape[0]}" for shape in (before.shape, now.shape))
        raise ValueError(f"{path} and the picture of its recipe have different sizes, {shapes}: it was edited")
    apart = np.abs(before - now)
    return Replayed(path, recipe, image, float(apart.max()), float(apart.mean()), str(document.get("nbhelpers", "?")))


_ONLY_A_NOTEBOOK = (
    "is a figure that a notebook drew from what its recipe made, not that picture itself: run the notebook again with "
    "the parameters inside it; recipes.from_picture(path) reads them"
)


def _made(document: dict[str, Any], path: Path, recipe: Recipe, network: nn.Module | None) -> Image.Image:
    if "index" in document:
        if type(document["index"]) is not int or document["index"] < 0:
            raise ValueError(f"its number in the batch is {document['index']!r}, expected 0, 1, 2, ...")
        return images.to_pil(recipes.remake(path, network))
    module = import_module(type(recipe).__module__)
    draw = getattr(module, "sheet", None) or getattr(module, "draw", None)
    if draw is None:
        raise ValueError(_ONLY_A_NOTEBOOK)
    known, step = {"recipe": recipe, "network": network}, recipe.run(network)
    asked = [each for each in signature(draw).parameters.values() if each.name in known or each.default is each.empty]
    return draw(**{each.name: known.get(each.name, step) for each in asked})


def _versions(made_with: Any) -> str:
    return "" if made_with == __version__ else f" (made with version {made_with}, this is {__version__})"


def _check_network(recipe: Recipe, network: nn.Module | None) -> None:
    name = getattr(recipe, "network", None)
    if network is None and isinstance(name, str) and name not in [*models.bundled(), *models.torchvision_names()]:
        raise ValueError(f"its network {name!r} is not known here; one of your own goes in as replay(path, network)")


@contextmanager
def _explained(path: Path, document: dict[str, Any]) -> Iterator[None]:
    """Errors on the way say which picture it was, and which version made it if that was another one."""
    version = _versions(document.get("nbhelpers"))
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} can't be made again{version}: {error}") from error
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{path} can't be made again{version}: {error.args[0] if error.args else error}") from error


@contextmanager
def _working_in(folder: str | Path | None) -> Iterator[None]:
    here = Path.cwd()
    os.chdir(folder if folder is not None else here / "notebooks" if (here / "notebooks").is_dir() else here)
    try:
        yield
    finally:
        os.chdir(here)
