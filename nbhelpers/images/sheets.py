"""From tensors to images for the eye: one picture, or many in a grid with labels."""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate

from nbhelpers import edge


def to_pil(picture: Float[Tensor, "3 height width"]) -> Image.Image:
    """Turn a picture into a Pillow image, each value rounded to the nearest of 256.

    Args:
        picture: shape `(3, H, W)`, float in [0, 1], on any device.

    Returns:
        An RGB image.

    Raises:
        ValueError: another shape or type, or values that are not finite or outside [0, 1].
    """
    if not isinstance(picture, Tensor) or picture.ndim != 3 or picture.shape[0] != 3 or not picture.is_floating_point():
        got = f"{picture.dtype} {tuple(picture.shape)}" if isinstance(picture, Tensor) else type(picture).__name__
        raise ValueError(f"expected one picture, a float tensor (3, H, W), got {got}; pictures[0] is one of a batch")
    pixels = picture.detach().float().cpu()
    if not pixels.isfinite().all():
        bad = (~pixels.isfinite()).sum()
        raise ValueError(f"{bad} of the picture's {pixels.numel()} values are not finite; keep an earlier step of it")
    low, high = pixels.min().item(), pixels.max().item()
    if low < -1e-3 or high > 1 + 1e-3:
        raise ValueError(f"values run from {low:.3g} to {high:.3g}, expected [0, 1]; rescale them, or clamp(0, 1)")
    return Image.fromarray((pixels * 255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy())


def tile(
    pictures: Float[Tensor, "pictures 3 height width"] | Sequence[Float[Tensor, "3 height width"]],
    columns: int | None = None,
    gap: int = 2,
    labels: Sequence[str] | None = None,
    background: str = "white",
) -> Image.Image:
    """Lay pictures out in a grid, row by row, each with its label below.

    Args:
        pictures: shape `(B, 3, H, W)`, or as many pictures `(3, H, W)` of one size, float in [0, 1].
        columns: pictures in a row; `None` chooses the squarest grid with few empty places.
        gap: pixels between pictures.
        labels: one per picture; a line that is wider than its picture is broken once, then ends in an ellipsis.
        background: any colour name or `#rrggbb` that Pillow knows; labels are black or white upon it.

    Returns:
        An RGB image.

    Raises:
        ValueError: no pictures, pictures of different sizes, or another number of labels than of pictures.
    """
    tiles = [to_pil(picture) for picture in pictures]
    if not tiles:
        raise ValueError("there are no pictures to tile")
    if len({image.size for image in tiles}) > 1:
        sizes = edge.few(f"{height} x {width}" for width, height in sorted({image.size for image in tiles}))
        raise ValueError(f"tile takes pictures of one size, got {sizes}; images.resize brings them to one")
    if labels is not None and len(labels) != len(tiles):
        raise ValueError(f"{len(labels)} labels for {len(tiles)} pictures; give one each")
    columns = _columns(len(tiles)) if columns is None else min(columns, len(tiles))
    if columns < 1 or gap < 0:
        raise ValueError(f"expected at least one column and a gap of 0 or more, got {columns} and {gap}")

    width, height = tiles[0].size
    letters = font(max(11, min(24, width // 13)))
    line = sum(letters.getmetrics()) if labels else 0
    texts = [
        [part for text in str(label).split("\n") for part in _wrap(text, letters, width - 4)] for label in labels or []
    ]
    cell = height + (line * max(map(len, texts)) + 2 if texts else 0)
    rows = math.ceil(len(tiles) / columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (cell + gap) - gap), background)
    draw = ImageDraw.Draw(sheet)
    # Rec. 601 luma
    bright = np.dot(ImageColor.getrgb(background)[:3], (0.299, 0.587, 0.114)) > 127
    for index, image in enumerate(tiles):
        left, top = index % columns * (width + gap), index // columns * (cell + gap)
        sheet.paste(image, (left, top))
        for number, text in enumerate(texts[index] if texts else []):
            place = (left + width / 2, top + height + 1 + number * line)
            draw.text(place, text, "black" if bright else "white", letters, anchor="ma")
    return sheet


def framed(
    pictures: Float[Tensor, "pictures 3 _ _"] | Sequence[Float[Tensor, "3 _ _"]], side: int
) -> Float[Tensor, "pictures 3 height width"]:
    """Pictures of any shapes as one batch: each scaled to a longer side of `side` pixels, on white."""
    scaled = []
    for picture in pictures:
        shape = [max(1, round(length * side / max(picture.shape[1:]))) for length in picture.shape[1:]]
        if list(picture.shape[1:]) != shape:
            picture = interpolate(picture[None], shape, mode="bicubic", antialias=True).clamp(0, 1)[0]
        scaled.append(picture.cpu())
    height, width = (max(picture.shape[axis] for picture in scaled) for axis in (1, 2))
    frames = torch.ones(len(scaled), 3, height, width)
    for frame, picture in zip(frames, scaled, strict=True):
        top, left = (height - picture.shape[1]) // 2, (width - picture.shape[2]) // 2
        frame[:, top : top + picture.shape[1], left : left + picture.shape[2]] = picture
    return frames


def _columns(count: int) -> int:
    """Of the widths from a square to twice as wide, the one with the fewest empty places; few make one row."""
    if count <= 4:
        return count
    square = math.ceil(math.sqrt(count))
    return min(range(square, 2 * square), key=lambda columns: (-count % columns, columns))


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: Pillow's own font has no accents, Greek, arrows or times sign."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The line as it is, or two of it, broken between words, the last of them shortened if need be."""
    words = text.split(" ")
    for count in range(len(words), 0, -1):
        line, rest = " ".join(words[:count]), " ".join(words[count:])
        if line and font.getlength(line) <= width:
            return [line, _shorten(rest, font, width)] if rest else [line]
    return [_shorten(text, font, width)]


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…" if text else ""
