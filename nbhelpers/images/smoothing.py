"""Smoothing that keeps a picture a picture: Gaussian blur, and total-variation denoising by split Bregman.

Both work on a batch and give every picture what it would get alone.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def gaussian_blur(
    pictures: Float[Tensor, "pictures channels height width"], sigma: float
) -> Float[Tensor, "pictures channels height width"]:
    """Weighted mean over the neighbourhood, with weights that fall off as a Gaussian.

    Args:
        pictures: `(B, C, H, W)`.
        sigma: standard deviation in pixels; 0 changes nothing. The Gaussian is cut off at four of them.

    Returns:
        The same shape; what lies outside is the mirror image.
    """
    reach = min(math.ceil(4 * sigma), *(side - 1 for side in pictures.shape[2:]))
    if sigma <= 0 or reach < 1:
        return pictures
    offsets = torch.arange(-reach, reach + 1, dtype=pictures.dtype, device=pictures.device)
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).expand(pictures.shape[1], 1, -1)
    padded = F.pad(pictures, (reach,) * 4, mode="reflect")
    across = F.conv2d(padded, weights[:, :, None, :], groups=pictures.shape[1])
    return F.conv2d(across, weights[:, :, :, None], groups=pictures.shape[1])


def favour_large_shapes(
    gradients: Float[Tensor, "pictures channels height width"], power: float
) -> Float[Tensor, "pictures channels height width"]:
    """Each wave of a gradient divided by its frequency to some power, so that large shapes move first.

    Args:
        gradients: `(B, C, H, W)`.
        power: 0 changes nothing; with 1 waves move in proportion to their amplitude in photographs, which falls off
            about as 1 / frequency (Field 1987).

    Returns:
        The same shape; the mean counts as the slowest wave.
    """
    if power == 0:
        return gradients
    height, width = gradients.shape[2:]
    down = torch.fft.fftfreq(height, device=gradients.device)[:, None]
    across = torch.fft.rfftfreq(width, device=gradients.device)
    frequency = (down**2 + across**2).sqrt().clamp(min=1 / max(height, width)).to(gradients.dtype)
    return torch.fft.irfft2(torch.fft.rfft2(gradients) / frequency**power, s=(height, width))


@torch.no_grad()
def denoise_total_variation(
    pictures: Float[Tensor, "pictures channels height width"],
    weight: float,
    iterations: int = 100,
    tolerance: float = 1e-3,
) -> Float[Tensor, "pictures channels height width"]:
    """Flatten small differences and keep edges: the Rudin-Osher-Fatemi model, solved by split Bregman.

    Minimises the total variation plus `weight` times the squared distance to the picture. The gradient of the
    picture is a variable `d` of its own, tied to it by `b`, so that each step is a plain formula: one relaxation of
    a linear system for the picture (Gauss-Seidel), one shrinkage for `d`.

    Args:
        pictures: `(B, C, H, W)` in [0, 1].
        weight: above 0; the smaller, the flatter. 2 leaves a cartoon, 20 takes the noise off.
        iterations: at most so many.
        tolerance: a picture is done when its root mean square change in an iteration is not above this.

    Returns:
        The same shape.

    Source: Goldstein, Osher 2009, "The Split Bregman Method for L1-Regularized Problems"; boundary and stopping rule
    as in scikit-image's `denoise_tv_bregman`, which it agrees with.
    """
    if not weight > 0:
        raise ValueError(f"the denoising weight is {weight}: it must be above 0 (the smaller, the flatter)")
    pull = 2 * weight  # lambda of the paper, how strongly d is held to the gradient
    height, width = pictures.shape[2:]
    # neighbours are never of one colour, so half the pixels can move at once without overshooting
    red = (torch.arange(height)[:, None] + torch.arange(width)).remainder(2).eq(0).to(pictures.device)
    result = pictures.clone()
    busy = torch.arange(len(pictures), device=pictures.device)
    noisy, u = pictures, F.pad(F.pad(pictures, (1, 0, 1, 0), mode="reflect"), (0, 1, 0, 1), mode="replicate")
    b = u.new_zeros(2, *u.shape)
    difference = torch.zeros_like(b)  # d - b
    inside = (..., slice(1, -1), slice(1, -1))
    for _ in range(iterations):
        fixed = difference[0][..., 1:-1, :-2] - difference[0][inside]
        fixed += difference[1][..., :-2, 1:-1] - difference[1][inside]
        fixed = fixed.mul_(pull).add_(noisy, alpha=weight)
        before = u[inside].clone()
        for colour in (red, ~red):
            neighbours = u[..., 2:, 1:-1] + u[..., :-2, 1:-1] + u[..., 1:-1, 2:] + u[..., 1:-1, :-2]
            relaxed = neighbours.mul_(pull).add_(fixed).div_(weight + 4 * pull)
            u[inside] = torch.where(colour, relaxed, u[inside])

        gradient = torch.stack([u[..., 1:-1, 2:] - u[inside], u[..., 2:, 1:-1] - u[inside]]) + b[inside]
        length = gradient.square().sum(0).sqrt()
        b[inside] = gradient / (1 + pull * length)
        difference[inside] = gradient - 2 * b[inside]

        result[busy] = u[inside]
        going = (u[inside] - before).square().flatten(1).mean(1).sqrt() > tolerance
        if not going.all():
            if not going.any():
                break
            busy, noisy, u = busy[going], noisy[going], u[going]
            b, difference = b[:, going], difference[:, going]
    return result
