"""Figures and pictures for a notebook's output.

Matplotlib without pyplot, which may not be used on the thread that a slider runs on.
"""

import io

from IPython import display
from matplotlib.figure import Figure
from PIL import Image

INK, ACCENT, QUIET = "#30343b", "#d1495b", "#b8bec8"


def new(width: float, height: float, columns: int = 1, rows: int = 1, **options):
    """A figure of `width` x `height` inches and its axes, in the collection's plain style."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, **options)
    for each in getattr(axes, "flat", [axes]):
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(colors=INK, labelsize=8)
    return figure, axes


def to_pil(figure: Figure, dpi: int = 110) -> Image.Image:
    """The figure as an RGB image."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return Image.open(buffer).convert("RGB")


def show(image: Image.Image) -> display.Image:
    """The image for a notebook's output, as JPEG: a made picture is as rich as noise, and as PNG ten times the size."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=88, subsampling=0)
    return display.Image(buffer.getvalue(), format="jpeg")
