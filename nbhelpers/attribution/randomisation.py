"""Does a map depend on what was learned? Forget the network layer by layer, from the output down, and compare.

    for layer, forgetful in cascade(network, stages=8):
        others = ...                                  # the map of the network with this layer and all above it random
        rank_correlations(maps, others)               # (B,): near 0 for a map that depends on the weights

A map that stays the same while the network forgets shows the photo, not the network: an edge detector would do.

Source: Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, "Sanity Checks for Saliency Maps", NeurIPS 2018.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from nbhelpers import models
from nbhelpers.images import overlays
from nbhelpers.models import Network, copied, drawn_from, parts, reinitialise

LEAST_SIDE = 7  # of the window in which SSIM compares, pixels


def cascade(network: str | nn.Module, stages: int | None = None, seed: int = 0) -> Iterator[tuple[str, Network]]:
    """The network with more and more of its layers random, from the output down (cascading randomisation).

    Args:
        network: a name, a `Network` or your own module; it stays untouched, a copy forgets.
        stages: how many times to stop, after about as many layers each; after every layer if not given.
        seed: of the random weights; layer by layer, so that more stages see the same random layers.

    Yields:
        The lowest layer that is random now, and the copy, which is the same object every time: use it before you go
        on. The last one has nothing learned left.

    Raises:
        ValueError: fewer stages than one, a network without parameters, or one that refuses pictures of its own size.
    """
    network = models.as_network(network)
    if stages is not None and stages < 1:
        raise ValueError(f"{stages} stages: at least one is needed")
    names = parts.weighted_layers(network, network.size)[::-1]
    if not names:
        raise ValueError(f"{network.name} has no parameters: there is nothing to forget")
    forgetful = copied(network).eval()
    forgetful.name = f"{network.name} (partly random)"
    modules = dict(forgetful.net.named_modules())
    count = min(stages or len(names), len(names))
    stops = {math.ceil(len(names) * (stage + 1) / count) - 1 for stage in range(count)}
    for number, name in enumerate(names):
        device = next(modules[name].parameters(recurse=False)).device
        # drawn on the processor, so that every device sees the same
        with drawn_from(seed * 100_003 + number) as generator:
            reinitialise(modules[name].cpu(), generator)
        modules[name].to(device)
        if number in stops:
            yield name, forgetful


def rank_correlations(
    first: Float[Tensor, "photos height width"], second: Float[Tensor, "photos height width"]
) -> Float[Tensor, " photos"]:
    """Spearman's rank correlation between maps, place by place.

    Args:
        first, second: `(B, H, W)`, with or without a sign.

    Returns:
        `(B,)` in [-1, 1]; 0 where a map is the same everywhere, which has nothing in common with any other.

    Raises:
        ValueError: different shapes, or values that are not finite.
    """
    found = []
    for one, other in _pairs(first, second):
        varied = one.min() < one.max() and other.min() < other.max()
        found.append(float(spearmanr(one.ravel(), other.ravel()).statistic) if varied else 0.0)
    return torch.tensor(found)


def structural_similarities(
    first: Float[Tensor, "photos height width"], second: Float[Tensor, "photos height width"]
) -> Float[Tensor, " photos"]:
    """Structural similarity (SSIM, Wang et al. 2004) between maps, each stretched to [0, 1] on its own.

    Args:
        first, second: `(B, H, W)`, at least 7 pixels a side.

    Returns:
        `(B,)`, 1 for maps that look the same.

    Raises:
        ValueError: different shapes, maps that are too small, or values that are not finite.
    """
    if min(first.shape[1:]) < LEAST_SIDE:
        raise ValueError(
            f"maps of {tuple(first.shape[1:])} are too small to compare: at least {LEAST_SIDE} pixels a side"
        )
    pairs = _pairs(overlays.stretch(first), overlays.stretch(second))
    return torch.tensor([float(structural_similarity(one, other, data_range=1)) for one, other in pairs])


def _pairs(first: Tensor, second: Tensor):
    overlays.check(first)
    overlays.check(second)
    if first.shape != second.shape:
        raise ValueError(f"maps of {tuple(first.shape)} and {tuple(second.shape)} cannot be compared place by place")
    return zip(first.detach().cpu().double().numpy(), second.detach().cpu().double().numpy(), strict=True)
