"""Make a picture again from the recipe inside it, and say whether it is the same.

    nbhelpers replay results/sweep/jobs/1f2e/picture.png

On the machine that made it, with the same versions, the pixels are the same, on however many threads an ascent ran;
elsewhere the last bits of a convolution differ, and a long climb from noise drifts apart. How far is said in levels, of
which there are 256.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np
from PIL import Image
from torch import nn

from nbhelpers import __version__, edge, images, models, notebooks, recipes
from nbhelpers.gallery.sheets import Sheet
from nbhelpers.recipes import Recipe

FIGURES = ("sheet", "draw")
"""Functions of a technique that may have drawn a picture: its `drawn_by`."""


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


def replay(
    path: str | Path, network: nn.Module | None = None, folder: str | Path | None = None, addresses: bool = False
) -> Replayed:
    """Make the picture in a PNG again and compare the pixels.

    Whether it can be made again is decided before anything is computed.

    Args:
        path: a PNG that says what it is: one picture of a recipe, a sheet of all of them (`gallery.Sheet`), or the
            figure that the technique itself draws (its `sheet` or `draw`).
        network: the module it was made with, if that was one of the user's own.
        folder: where the recipe's relative paths begin; by default the folder `notebooks` in the current one, where
            notebooks run, or else the current one.
        addresses: whether photos may be fetched from addresses that the recipe names. Nothing is ever written.

    Returns:
        The picture made now, and how far it is from the file.

    Raises:
        FileNotFoundError: no such file; or the network's weights or the recipe's photos are not at hand.
        ValueError: no PNG, no recipe in it, a recipe or network this version does not know, or a figure that only
            its notebook draws. The message says which.
    """
    path = Path(path)
    document, before = images.read_recipe(path), np.rint(images.decode(path) * 255)
    with _explained(path, document), _working_in(folder):
        recipe = recipes.only_reading(recipes.from_document(document), addresses)
        way = _way(document, recipe, width=before.shape[1], height=before.shape[0])
        _check_network(recipe, network)
        image = way(network)
    now = np.asarray(image.convert("RGB"), dtype=np.float32)
    if before.shape != now.shape:
        shapes = " and ".join(f"{shape[1]} x {shape[0]}" for shape in (before.shape, now.shape))
        raise ValueError(f"{path} and the picture of its recipe have different sizes, {shapes}: it was edited")
    apart = np.abs(before - now)
    return Replayed(path, recipe, image, float(apart.max()), float(apart.mean()), str(document.get("nbhelpers", "?")))


def _way(document: dict[str, Any], recipe: Recipe, width: int, height: int) -> Callable[[Any], Image.Image]:
    """How the picture is made again, given a network or None.

    Raises:
        ValueError: it cannot be, or the file has another size than its sheet.
    """
    if "index" in document:
        return lambda network: images.to_pil(recipe.one_picture(document["index"], network))
    if "sheet" in document:
        sheet = Sheet.from_document(document)
        if not sheet.fits(recipe, width, height):
            raise ValueError(
                f"its {width} x {height} pixels are not those of the sheet that it tells of: it was edited"
            )
        return lambda network: sheet.draw(sheet.pictures(recipe, network))
    if "drawn_by" in document:
        return _own_figure(document["drawn_by"], recipe)
    notebook = _notebook_of(type(recipe))
    raise ValueError(
        "it is a figure that a notebook drew from what its recipe made, not that picture itself: run "
        f"{notebook or 'that notebook'} again with the parameters inside it; recipes.from_picture(path) reads them"
    )


def _own_figure(name: str, recipe: Recipe) -> Callable[[Any], Image.Image]:
    """What a technique draws of its recipe's last step.

    Its function takes some of `recipe` and `network`, and the step under any name; all else has defaults.
    """
    draw = getattr(import_module(type(recipe).__module__), name, None) if name in FIGURES else None
    hints = get_type_hints(draw) if draw is not None else {}
    asked = [each for each in signature(draw).parameters.values() if each.default is each.empty] if draw else []
    steps = [each.name for each in asked if each.name not in ("recipe", "network")]
    # a figure of several steps, by name, is drawn by whoever has them
    if len(steps) != 1 or get_origin(hints.get(steps[0])) is not None:
        raise ValueError(f"{type(recipe).__name__} draws no figure of its own by {edge.short(repr(name))}")

    def drawn(network: nn.Module | None) -> Image.Image:
        given = {"recipe": recipe, "network": network, steps[0]: recipe.run(network)}
        return draw(**{name: given[name] for name in signature(draw).parameters if name in given})

    return drawn


def _notebook_of(kind: type[Recipe]) -> str:
    """The notebook in the current folder that has all of a recipe's parameters; empty if there is none."""
    for path in sorted(Path.cwd().glob("*.ipynb")):
        try:
            declared = {parameter.name for parameter in notebooks.parameters(notebooks.read(path), path)}
        except (ValueError, OSError):
            continue  # no notebook, or none of these
        if declared >= set(kind.model_fields):
            return f"{path.parent.name}/{path.name}"
    return ""


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
    default = here / "notebooks" if (here / "notebooks").is_dir() else here
    os.chdir(default if folder is None else edge.existing_folder(folder))
    try:
        yield
    finally:
        os.chdir(here)
