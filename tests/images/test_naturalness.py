"""The three numbers of naturalness, against the colours' own definitions in scikit-image and NumPy."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2hsv

from nbhelpers import images


def test_saturation_is_that_of_hsv_times_the_value() -> None:
    picture = torch.rand(2, 3, 9, 14, generator=torch.Generator().manual_seed(0))
    hsv = rgb2hsv(picture.permute(0, 2, 3, 1).numpy())
    expected = (hsv[..., 1] * hsv[..., 2]).mean((1, 2))
    assert np.allclose(images.naturalness(picture).saturation, expected, atol=1e-6)


def test_contrast_is_the_deviation_of_the_grey_picture() -> None:
    picture = torch.rand(2, 3, 9, 14, generator=torch.Generator().manual_seed(0))
    expected = picture.numpy().mean(1).std((1, 2))
    assert np.allclose(images.naturalness(picture).contrast, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("picture", "saturation", "edge", "contrast"),
    [
        (torch.full((1, 3, 4, 4), 0.5), 0, 0, 0),
        (torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 4, 4), 1, 1, 0),
        (torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(1, 3, 4, 2), 0, 1, 0.5),
        (torch.tensor([8.0, 247, 9, 246]).view(1, 1, 1, 4).expand(1, 3, 4, 4) / 255, 0, 0.5, 0.465),
    ],
    ids=["grey", "red", "black and white", "at the bounds"],
)
def test_plain_pictures(picture: torch.Tensor, saturation: float, edge: float, contrast: float) -> None:
    found = images.naturalness(picture)
    assert found.saturation.item() == pytest.approx(saturation)
    assert found.edge.item() == pytest.approx(edge)
    assert found.contrast.item() == pytest.approx(contrast, abs=2e-3)


def test_one_line_per_picture() -> None:
    assert images.naturalness(torch.full((2, 3, 4, 4), 0.5)).lines() == ["saturation 0.00\ncontrast 0.00, burnt 0%"] * 2
