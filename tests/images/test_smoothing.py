"""Blur and denoising, against scipy and scikit-image."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.restoration import denoise_tv_bregman

from nbhelpers import images
from nbhelpers.images import smoothing

PHOTOS = str(Path(__file__).parents[2] / "sample_images")


def noise(count: int, side: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, side, side, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("weight", [2.0, 8.0])
def test_denoising_agrees_with_scikit_image(weight: float) -> None:
    photos = images.read_folder(PHOTOS, 48, limit=2).pictures.double()
    noisy = (photos + 0.1 * torch.randn(photos.shape, dtype=torch.float64)).clamp(0, 1)
    ours = smoothing.denoise_total_variation(noisy, weight, iterations=1500, tolerance=1e-9)
    theirs = [
        [denoise_tv_bregman(channel.numpy(), weight=weight, max_num_iter=1500, eps=1e-9) for channel in picture]
        for picture in noisy
    ]
    np.testing.assert_allclose(ours.numpy(), np.array(theirs), atol=5e-6)
    assert (ours - noisy).abs().mean() > 0.03


def test_denoising_a_batch_is_denoising_each() -> None:
    pictures = torch.cat([noise(2), noise(1) * 0.01 + 0.5])  # the last is done long before the others
    together = smoothing.denoise_total_variation(pictures, 4.0)
    alone = torch.cat([smoothing.denoise_total_variation(picture[None], 4.0) for picture in pictures])
    torch.testing.assert_close(together, alone, atol=1e-12, rtol=0)


def test_denoising_refuses_a_weight_of_nothing() -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        smoothing.denoise_total_variation(noise(1), 0)


@pytest.mark.parametrize("sigma", [0.2, 0.9, 3.0])
def test_blur_agrees_with_scipy(sigma: float) -> None:
    pictures = noise(2)
    # four standard deviations on both sides; our end is rounded up, and the difference is below 1e-4
    expected = gaussian_filter(pictures.numpy(), (0, 0, sigma, sigma), mode="mirror", truncate=6)
    np.testing.assert_allclose(smoothing.gaussian_blur(pictures, sigma).numpy(), expected, atol=2e-4)
    assert smoothing.gaussian_blur(pictures, 0) is pictures


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_large_shapes_are_favoured_by_their_frequency(power: float) -> None:
    place = torch.arange(40, dtype=torch.float64) * 2 * math.pi / 40
    waves = torch.cos(4 * place[:, None] + 3 * place)[None, None]  # 5 periods in all
    torch.testing.assert_close(smoothing.favour_large_shapes(waves, power), waves * 8**power)
    assert smoothing.favour_large_shapes(waves, 0) is waves
