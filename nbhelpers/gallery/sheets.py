"""A sheet of a recipe's pictures that can be made again: the PNG says how the pictures were made and laid out.

    sheet = gallery.Sheet(of="classes", side=128, columns=10, labels=network.classes, batch=10)
    sheet.save(recipe, sheet.pictures(recipe, network), "classes.png")

The document inside it has an entry `sheet` beside the recipe, from which `gallery.replay` draws the same. A figure with
more in it than the pictures themselves, as photos and maps, is drawn by its technique or by its notebook.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from nbhelpers import edge, images
from nbhelpers.recipes import Recipe

LONGEST_LABEL = 400
"""Characters; what a picture has room for is less."""

_LEAST = {"side": 1, "columns": 1, "gap": 0, "batch": 0}
_KINDS = {"of": (str, "the name of the recipe's list"), "labels": (list, "a text for each picture")}
_KINDS |= {name: (int, f"{least} or more") for name, least in _LEAST.items()}


@dataclass(frozen=True)
class Sheet:
    """How a recipe's pictures are made and laid out.

    Attributes:
        of: the recipe's list that has an entry for each picture, as `channels` or `classes`.
        side: of each picture on the sheet in pixels.
        columns: pictures in a row.
        gap: pixels between them.
        labels: one per picture, below it; none if empty.
        batch: how many pictures are made at a time, 0 for all.
    """

    of: str
    side: int
    columns: int
    gap: int = 2
    labels: Sequence[str] = ()
    batch: int = 0

    def __post_init__(self) -> None:
        """Refuses what is no layout.

        Raises:
            ValueError: says which attribute it is.
        """
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"its sheet's {name!r} is {getattr(self, name)}, expected {least} or more")
        long = [label for label in self.labels if len(label) > LONGEST_LABEL]
        if long:
            raise ValueError(f"its sheet's 'labels' hold {edge.short(repr(long[0]))}, expected a line or two for each")

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Sheet:
        """The layout that a document inside a PNG tells of.

        Raises:
            ValueError: an entry is missing, unknown, or no layout.
        """
        told, known = document["sheet"], {field.name for field in fields(cls)}
        odd = sorted(told.keys() - known) or sorted({"of", "side", "columns"} - told.keys())
        if odd:
            expected = ", ".join(field.name for field in fields(cls))
            raise ValueError(f"its sheet says {edge.few(told) or 'nothing'}, expected {expected}: see {edge.few(odd)}")
        for name, value in told.items():
            kind, expected = _KINDS[name]
            texts = value if kind is list and isinstance(value, list) else ()
            right = isinstance(value, kind) and not isinstance(value, bool) and all(isinstance(t, str) for t in texts)
            if not right:
                raise ValueError(f"its sheet's {name!r} is {edge.short(repr(value))}, expected {expected}")
        return cls(**told)

    def entries(self, recipe: Recipe) -> list[Any]:
        """What the recipe makes a picture of, one for each.

        Raises:
            ValueError: the recipe has no such list, or there are more or fewer labels.
        """
        entries = getattr(recipe, self.of, None) if self.of in type(recipe).model_fields else None
        if not isinstance(entries, list) or not entries:
            raise ValueError(
                f"its sheet shows {edge.short(repr(self.of))}, and {type(recipe).__name__} has no such list"
            )
        if self.labels and len(self.labels) != len(entries):
            raise ValueError(f"its sheet has {len(self.labels)} labels for {len(entries)} pictures")
        return entries

    def pictures(self, recipe: Recipe, network: nn.Module | None = None) -> Float[Tensor, "pictures 3 height width"]:
        """Carry out the recipe, so many pictures at a time as the sheet says.

        Args:
            recipe: what makes the pictures.
            network: used in place of the one it names.

        Returns:
            All pictures, shape `(B, 3, H, W)` in [0, 1].
        """
        entries = self.entries(recipe)
        batch = self.batch or len(entries)
        parts = [entries[start : start + batch] for start in range(0, len(entries), batch)]
        return torch.cat([recipe.changed(**{self.of: part}).run(network).picture.cpu() for part in parts])

    def draw(self, pictures: Float[Tensor, "pictures 3 height width"]) -> Image.Image:
        """The sheet.

        Args:
            pictures: shape `(B, 3, H, H)` in [0, 1]; squares, so that their side says all.

        Raises:
            ValueError: they are no squares, or there are more or fewer labels.
        """
        if pictures.shape[-1] != pictures.shape[-2]:
            raise ValueError(f"a sheet shows squares, got pictures of shape {tuple(pictures.shape)}")
        small = images.resize(pictures, self.side)
        return images.tile(small, self.columns, self.gap, labels=list(self.labels) or None)

    def save(self, recipe: Recipe, pictures: Float[Tensor, "pictures 3 height width"], path: str | Path) -> None:
        """Write the sheet as a PNG that says how it was made.

        Args:
            recipe: what made the pictures.
            pictures: what `pictures` gives for it.
            path: ending in .png.

        Raises:
            ValueError: there are more or fewer pictures than the recipe makes, or they are no squares.
        """
        if len(pictures) != len(self.entries(recipe)):
            raise ValueError(f"{len(pictures)} pictures for the {len(self.entries(recipe))} {self.of} of the recipe")
        told = asdict(self) | {"labels": list(self.labels)}
        images.save(self.draw(pictures), path, recipe=recipe.document() | {"sheet": told})

    def fits(self, recipe: Recipe, width: int, height: int) -> bool:
        """Whether a file of so many pixels can be the sheet of this recipe; nothing is computed for it."""
        count = len(self.entries(recipe))
        columns = min(self.columns, count)
        wide, high = (number * (self.side + self.gap) - self.gap for number in (columns, math.ceil(count / columns)))
        if wide != width or high > height or not self.labels:  # nothing of a size that only the file claims is drawn
            return (wide, high) == (width, height)
        return self.draw(torch.ones(1, 1, 1, 1).expand(count, 3, self.side, self.side)).size == (width, height)
