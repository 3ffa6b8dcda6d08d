"""Figures become pictures of the size asked for, without pyplot."""

import io

import numpy as np
from PIL import Image

from nbhelpers.images import figures


def test_a_figure_becomes_a_picture_of_its_size():
    figure, axes = figures.new(3, 2, columns=2)
    axes[0].plot([0, 1], color="red")
    image = figures.to_pil(figure, dpi=50)
    assert (image.size, image.mode) == ((150, 100), "RGB")
    pixels = np.asarray(image).astype(int)
    red = (pixels[..., 0] > 200) & (pixels[..., 1:] < 80).all(-1)
    assert red[:, :75].any()
    assert not red[:, 75:].any()
    assert (pixels[0] == 255).all()
    single = figures.new(1, 1)[1]
    assert not single.spines["top"].get_visible()


def test_shown_pictures_are_jpegs_close_to_the_original():
    rows, columns = np.mgrid[:40, :60]
    original = Image.fromarray(np.stack([rows * 6, columns * 4, rows + columns], -1).astype(np.uint8))
    shown = figures.show(original)
    decoded = Image.open(io.BytesIO(shown.data))
    assert (decoded.format, decoded.size) == ("JPEG", (60, 40))
    assert np.abs(np.asarray(decoded).astype(int) - np.asarray(original)).mean() < 3
