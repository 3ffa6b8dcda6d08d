"""Is a map true of the network? Take away what it points to, and see whether the class suffers.

    deletion = curves(network, photos, maps, classes, mode="deletion")
    deletion.areas          # (B,): small when the map is right

Deletion: replace the pixels of a photo in the order of the map, the strongest first, and follow the probability of
the class; a true map makes it fall at once. Insertion: bring them back into a blurred photo; a true map makes it rise
at once. One number each: the area under the curve. Random maps and a blob in the centre are what a map must beat.

Source: Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, sec. 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nbhelpers import models
from nbhelpers.ascent import generators
from nbhelpers.attribution.gradients import frozen
from nbhelpers.images import overlays
from nbhelpers.images.smoothing import gaussian_blur

MODES = ("deletion", "insertion")
BASELINES = ("blur", "mean", "grey", "black")
BLUR = 1 / 16  # standard deviation of the blur, in sides of the photo: what is left says little of what was there


@dataclass
class Curves:
    """How a class fares while pixels go, or come back.

    Attributes:
        fractions: share of the pixels that have been replaced, or brought back, `(S + 1,)`, from 0 to 1.
        scores: probability of the class, `(B, S + 1)`.
    """

    fractions: Float[Tensor, " steps"]
    scores: Float[Tensor, "photos steps"]

    @property
    def areas(self) -> Float[Tensor, " photos"]:
        """Area under each curve, by trapezoids, `(B,)` in [0, 1]."""
        return torch.trapezoid(self.scores, self.fractions, dim=1)


@torch.no_grad()
def curves(
    network: str | nn.Module,
    photos: Float[Tensor, "photos 3 height width"],
    maps: Float[Tensor, "photos map_height map_width"],
    classes: Sequence[str | int],
    steps: int = 32,
    mode: Literal["deletion", "insertion"] = "deletion",
    baseline: Literal["blur", "mean", "grey", "black"] = "blur",
    batch_size: int = 32,
) -> Curves:
    """The probability of a class while a photo's pixels are taken away, or brought back, in the order of a map.

    Args:
        network: a name, a `Network` or your own module; it stays untouched.
        photos: `(B, 3, H, W)` in [0, 1].
        maps: `(B, h, w)`, greatest where it matters most; resized to the photos.
        classes: one per photo, by name or number.
        steps: how many portions the pixels come in.
        mode: "deletion", from the photo to the baseline; or "insertion", from the baseline to the photo.
        baseline: what stands in for a pixel: the blurred photo, its mean colour, mid-grey or black.
        batch_size: pictures at a time; bounds the memory, not the result.

    Raises:
        ValueError: an unknown mode, baseline or class; other numbers of maps or classes than of photos; fewer steps
            than one or more than pixels; a map that is not finite.
    """
    network = models.as_network(network)
    targets = models.class_indices(network, classes)
    _check(photos, maps, targets, steps, mode)
    fast = frozen(network)
    photos = photos.to(network.mean)
    ranks = pixel_ranks(overlays.resized(maps, tuple(photos.shape[2:]))).to(photos.device)
    stand_ins = stand_in(photos, baseline)
    before, after = (photos, stand_ins) if mode == "deletion" else (stand_ins, photos)
    pixels = ranks[0].numel()
    counts = [round(pixels * step / steps) for step in range(steps + 1)]

    scores = torch.empty(len(photos), steps + 1)
    frames = [(photo, step) for photo in range(len(photos)) for step in range(steps + 1)]
    for start in range(0, len(frames), batch_size):
        chosen = frames[start : start + batch_size]
        which = torch.tensor([photo for photo, _ in chosen], device=photos.device)
        limits = torch.tensor([counts[step] for _, step in chosen], device=photos.device)
        changed = (ranks[which] < limits[:, None, None])[:, None]
        logits = fast(torch.where(changed, after[which], before[which]))
        found = models.shares(logits.float()).cpu()
        for row, (photo, step) in zip(found, chosen, strict=True):
            scores[photo, step] = row[targets[photo]]
    return Curves(torch.tensor(counts) / pixels, scores)


def pixel_ranks(maps: Float[Tensor, "photos height width"]) -> Int[Tensor, "photos height width"]:
    """Place of every pixel in the order of its map, 0 for the greatest value.

    Equal values, such as the zeros that a ReLU leaves, come in an order that is random and always the same: from top
    to bottom would be a story of its own.

    Args:
        maps: `(B, H, W)`.

    Returns:
        `(B, H, W)`, int64.
    """
    flat = maps.flatten(1)
    shuffle = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(0)).to(flat.device)
    order = shuffle[flat[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    return (
        torch.empty_like(order)
        .scatter_(1, order, torch.arange(flat.shape[1], device=flat.device).expand_as(order))
        .view(maps.shape)
    )


def stand_in(photos: Float[Tensor, "photos 3 height width"], baseline: str) -> Float[Tensor, "photos 3 height width"]:
    """What is left where pixels are taken away, `(B, 3, H, W)`.

    Args:
        photos: `(B, 3, H, W)` in [0, 1].
        baseline: "blur", the blurred photo; "mean", its mean colour; "grey", mid-grey; or "black".

    Raises:
        ValueError: an unknown baseline.
    """
    if baseline not in BASELINES:
        raise ValueError(f"baseline {baseline!r} is unknown: choose one of {', '.join(BASELINES)}")
    if baseline == "blur":
        return gaussian_blur(photos, BLUR * min(photos.shape[2:]))
    if baseline == "mean":
        return photos.mean((2, 3), keepdim=True).expand_as(photos)
    return torch.full_like(photos, 0.5 if baseline == "grey" else 0.0)


def random_maps(
    photos: Float[Tensor, "photos 3 height width"], seed: int | Sequence[int] = 0
) -> Float[Tensor, "photos height width"]:
    """Maps that know nothing: uniform noise, `(B, H, W)` in [0, 1]; no photo's depends on the others.

    Args:
        photos: `(B, 3, H, W)`.
        seed: of the first photo's map, the others counting on; or one for each.
    """
    seeds = range(seed, seed + len(photos)) if isinstance(seed, int) else seed
    return torch.stack([torch.rand(photos.shape[2:], generator=each) for each in generators(list(seeds))])


def centre_maps(photos: Float[Tensor, "photos 3 height width"]) -> Float[Tensor, "photos height width"]:
    """Maps that know only how people take photos: a blob in the centre, `(B, H, W)` in [0, 1]."""
    down, across = (torch.linspace(-1, 1, side).square() for side in photos.shape[2:])
    return torch.exp(-2 * (down[:, None] + across)).expand(len(photos), -1, -1)


def _check(photos: Tensor, maps: Tensor, targets: list[int], steps: int, mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is unknown: choose one of {', '.join(MODES)}")
    if not len(photos) == len(maps) == len(targets):
        raise ValueError(f"{len(photos)} photos, {len(maps)} maps, {len(targets)} classes: give as many of each")
    pixels = photos.shape[2] * photos.shape[3]
    if not 1 <= steps <= pixels:
        raise ValueError(f"{steps} steps: expected 1 to {pixels}, a pixel a step")
