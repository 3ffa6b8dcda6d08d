"""A map as one picture: squares where they lie, each named if there is room for a caption, else regions by their names.

A caption of a thirty-second of a poster's side is too small for anybody. There, neighbouring squares of one name make a
region, and the largest regions are named across their pictures, as countries are on a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from nbhelpers import images

PAPER, INK, DIM = "#faf9f6", "#1c2126", "#7b8088"
MARGIN = 0.25  # of a square's side, around the map
LEGIBLE = 84  # pixels; squares of this side have room for a caption,
FINEST = 20  # where there are no more of them along a side: on a larger map the captions are too small beside it
LETTERS = 1 / 90  # of the map's side, the height of a region's name
LEAST, LARGEST = 11, 1.7  # pixels; times as high in a large region
REGION = 3  # squares that a region needs to be named


@dataclass
class Square:
    """One square of a map.

    Attributes:
        column, row: where it lies, from 0.
        picture: `(3, H, W)` in [0, 1].
        side: of the picture as a part of the square's, from 0 to 1.
        name: what it is called.
    """

    column: int
    row: int
    picture: Float[Tensor, "3 height width"]
    side: float
    name: str


def laid_out(squares: Sequence[Square], cells: int, width: int) -> Image.Image:
    """All squares on paper, which stays empty where there are none.

    Args:
        squares: of the map.
        cells: squares along each side.
        width: side of the whole map in pixels.
    """
    side = width / (cells + 2 * MARGIN)
    sheet = Image.new("RGB", (width, width), PAPER)
    pen = ImageDraw.Draw(sheet)
    captioned = side >= LEGIBLE and cells <= FINEST
    letters = images.font(max(9, round(side / 11)))
    room = side - (sum(letters.getmetrics()) + 2 if captioned else 0)
    for square in squares:
        length = max(1, round(room * square.side - 1))
        middle = (square.column + MARGIN + 0.5) * side
        left, top = middle - length / 2, (square.row + MARGIN) * side + (room - length) / 2
        image = images.to_pil(square.picture).resize((length, length), Image.Resampling.LANCZOS)
        sheet.paste(image, (round(left), round(top)))
        if captioned:
            text = _fitted(square.name, letters, side - 2)
            pen.text((middle, top + length + 1), text, DIM, letters, anchor="ma")
    if not captioned:
        _name_regions(pen, squares, side, width)
    return sheet


def regions(squares: Sequence[Square]) -> list[tuple[str, list[Square]]]:
    """Neighbouring squares of one name, side by side or one upon the other: the name and the squares, largest first."""
    at = {(square.column, square.row): square for square in squares}
    found = []
    while at:
        region = [at.pop(next(iter(at)))]
        for square in region:  # grows on the way
            for step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                place = square.column + step[0], square.row + step[1]
                if place in at and at[place].name == square.name:
                    region.append(at.pop(place))
        found.append((region[0].name, region))
    return sorted(found, key=lambda each: -len(each[1]))


def side_by_side(maps: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """Maps of one size beside each other, each under its title."""
    width = maps[0].width
    letters = images.font(max(14, width // 40))
    line = round(1.6 * sum(letters.getmetrics()))
    sheet = Image.new("RGB", (len(maps) * width, maps[0].height + line), PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (each, title) in enumerate(zip(maps, titles, strict=True)):
        sheet.paste(each, (number * width, line))
        pen.text(((number + 0.5) * width, 0.6 * line), _fitted(title, letters, 0.94 * width), INK, letters, anchor="mm")
    return sheet


def _name_regions(pen: ImageDraw.ImageDraw, squares: Sequence[Square], side: float, width: int) -> None:
    """Regions of several squares by their names, the largest first; a name that would touch another is left out."""
    taken: list[tuple[float, ...]] = []
    named = [(name, region) for name, region in regions(squares) if len(region) >= REGION and name]
    for name, region in named:
        size = max(LEAST, width * LETTERS * min(LARGEST, (len(region) / 4) ** 0.5))
        letters, edge = images.font(round(size)), max(2, round(size / 7))
        places = np.array([[square.column, square.row] for square in region]) + MARGIN + 0.5
        # across the square that is nearest to the region's middle, and not over the paper's edge
        x, y = places[np.square(places - places.mean(0)).sum(1).argmin()] * side
        half = letters.getlength(name) / 2 + edge
        x = min(max(x, half + edge), width - half - edge)
        box = pen.textbbox((x, y), name, letters, anchor="mm", stroke_width=2 * edge)
        if not any(
            box[0] < right and left < box[2] and box[1] < bottom and top < box[3] for left, top, right, bottom in taken
        ):
            taken.append(box)
            pen.text((x, y), name, INK, letters, anchor="mm", stroke_width=edge, stroke_fill=PAPER)


def _fitted(text: str, letters, room: float) -> str:
    """The text, shortened to fit."""
    while text and letters.getlength(text) > room:
        text = text[:-2] + "…" if len(text) > 2 else ""
    return text
