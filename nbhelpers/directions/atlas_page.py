"""An activation atlas as one web page: zoom, move, look into a square, find where a class lives.

    nbhelpers atlas minivgg_robust block4.relu1 --photos FOLDER

The page is one file. Its pictures are inside it, so it works from a disk, a server or an attachment; and without the
photos, which is how an atlas of photos that are not one's own may be shown to others.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from nbhelpers import edge, images, pages
from nbhelpers.directions.activation_atlas import Atlas

PATCHES = 6  # photos shown of each square
PATCH = 48  # pixels, their side
ANSWERS = 5  # classes of each square
ACROSS = 32  # pictures in a row of the image that holds them all


def write(atlases: Sequence[Atlas], folder: str | Path, photos: bool = True) -> Path:
    """Write the page `NETWORK-LAYER/index.html` in a folder, or `NETWORK-LAYER-CLASS/index.html` of a class.

    Two maps beside each other are two pages, each with a link to the other.

    Args:
        atlases: one map under one or several grids, coarse to fine, all drawn.
        folder: where the page's own folder is made.
        photos: whether the photos nearest to each square's mean are shown.

    Returns:
        The page; of two, the first.
    """
    maps = [list(atlases)]
    if atlases[0].beside:
        maps.append([atlas.beside for atlas in atlases])
    names = [_folder(levels[0]) for levels in maps]
    for number, levels in enumerate(maps):
        beside = {
            maps[other][0].title: f"../{quote(names[other])}/index.html"
            for other in range(len(maps))
            if other != number
        }
        edge.write_text(text(levels, photos, beside), Path(folder) / names[number] / "index.html")
    return Path(folder) / names[0] / "index.html"


def text(atlases: Sequence[Atlas], photos: bool = True, beside: Mapping[str, str] | None = None) -> str:
    """The page as text; `beside` are titles and addresses of the pages of maps on the same plane."""
    return pages.render(
        "atlas.html",
        title=atlases[-1].title,
        about=replace(atlases[-1], beside=None).report(),
        beside=beside or {},
        data=contents(atlases, photos),
    )


def contents(atlases: Sequence[Atlas], photos: bool = True) -> dict[str, Any]:
    """What the script of the page, and of `controls.walk`, shows: every level's squares, and the names of classes."""
    return {"levels": [_level(atlas, photos) for atlas in atlases], "classes": _named(atlases)}


def framed(page: str) -> str:
    """A page as a frame within another one, for a notebook that is read where no kernel runs."""
    text = page.replace("&", "&amp;").replace("'", "&#39;")  # of which there are fewer than double quotes
    style = "width: 100%; height: 720px; border: 0"
    return f"<div><iframe title='activation atlas' style='{style}' srcdoc='{text}'></iframe></div>"


def _folder(atlas: Atlas) -> str:
    """A name for the page's folder; what is no letter, digit or dot becomes a hyphen."""
    recipe = atlas.recipe
    return re.sub(r"[^\w.]+", "-", "-".join(filter(None, [recipe.network, recipe.layer, recipe.label])))


def _level(atlas: Atlas, photos: bool) -> dict[str, Any]:
    shown = [members[:PATCHES].tolist() for members in atlas.members] if photos else []
    patches = [atlas.collected.patch(atlas.pictures, place) for some in shown for place in some]
    first = [sum(len(some) for some in shown[:square]) for square in range(len(shown))]
    return {
        "cells": atlas.recipe.cells,
        "pictures": _sheet(list(atlas.picture), atlas.picture.shape[-1], 85),
        "photos": _sheet(patches, PATCH, 60) if patches else None,
        "squares": [
            {
                "at": atlas.grid[square].tolist(),
                "side": round(atlas.sides[square], 3),
                "count": len(atlas.members[square]),
                "name": atlas.name(square),
                "said": [[name, round(100 * share)] for name, share in atlas.said(square, ANSWERS)],
                "labels": [[name, round(100 * share)] for name, share in atlas.labelled(square)],
                "photos": [first[square], len(shown[square])] if photos else [0, 0],
            }
            for square in range(len(atlas.grid))
        ],
    }


def _named(atlases: Sequence[Atlas]) -> list[str]:
    """Every class that some square is answered with, in order."""
    return sorted(
        {name for atlas in atlases for square in range(len(atlas.grid)) for name, _ in atlas.said(square, ANSWERS)}
    )


def _sheet(pictures: Sequence[Float[Tensor, "3 side side"]], side: int, quality: int) -> dict[str, Any]:
    """Many pictures as one image, `ACROSS` in a row, ready for a page."""
    rows = -(-len(pictures) // ACROSS)
    across = min(ACROSS, len(pictures))
    sheet = Image.new("RGB", (across * side, rows * side))
    for index, picture in enumerate(pictures):
        small = images.to_pil(picture)
        if small.width != side:
            small = small.resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(small, (index % ACROSS * side, index // ACROSS * side))
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=quality)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"webp": encoded, "across": across, "rows": rows}
