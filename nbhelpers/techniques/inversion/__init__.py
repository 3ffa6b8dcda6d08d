"""Inversion: the picture with the same features, and so what a layer still knows (Mahendran, Vedaldi 2015)."""

from nbhelpers.techniques.inversion import representations
from nbhelpers.techniques.inversion.technique import (
    Inversion,
    draw,
    figure_layers,
    first_canvas,
    invert,
    nearest,
    numbers,
    plan,
    published_layers,
    quality,
    read_photos,
    representation,
    save,
    sheet,
    through,
)

__all__ = [
    "Inversion",
    "draw",
    "figure_layers",
    "first_canvas",
    "invert",
    "nearest",
    "numbers",
    "plan",
    "published_layers",
    "quality",
    "read_photos",
    "representation",
    "representations",
    "save",
    "sheet",
    "through",
]
