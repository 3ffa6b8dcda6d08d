"""Figures and pictures for a notebook's output.

Matplotlib without pyplot, which may not be used on the thread that a slider runs on.
"""

import base64
import io
from typing import Any

import matplotlib
from IPython import display
from PIL import Image

INK, ACCENT, QUIET = "#30343b", "#d1495b", "#b8bec8"


def new(width: float, height: float, columns: int = 1, rows: int = 1, **options):
    """A figure of `width` x `height` inches and its axes, in the collection's plain style."""
    from matplotlib.figure import Figure  # takes a second to load, which a page without one need not wait for

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, **options)
    for each in getattr(axes, "flat", [axes]):
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(colors=INK, labelsize=8)
    return figure, axes


def to_pil(figure: "matplotlib.figure.Figure", dpi: int = 110) -> Image.Image:
    """The figure as an RGB image."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return Image.open(buffer).convert("RGB")


def png(image: Image.Image) -> bytes:
    """The image as a PNG file's bytes, for an image widget."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def address(image: Image.Image) -> str:
    """A picture as an address of data, to be put into a page."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(image)).decode('ascii')}"


def jpeg(image: Image.Image) -> bytes:
    """The image as JPEG, for what is kept in a notebook: a made picture as PNG takes ten times the room."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue()


def show(image: Image.Image) -> display.Image:
    """The image for a notebook's output."""
    return display.Image(jpeg(image), format="jpeg")


def still(image: Image.Image, text: str) -> dict[str, str]:
    """What Jupyter shows of something live where widgets do not run: by media type."""
    return {"image/jpeg": base64.b64encode(jpeg(image)).decode("ascii"), "text/plain": text}


def live(widget: Any, image: Image.Image, text: str) -> dict[str, Any]:
    """A widget's media types with a still picture beside it (for `_repr_mimebundle_`)."""
    bundle = widget._repr_mimebundle_()
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    return {**bundle, **still(image, text)}
