"""For which classes a channel speaks, and what they lose when it is taken away.

The first is what its maps add to a logit to first order: gradient times activation, summed over places (Shrikumar,
Greenside, Kundaje, "Learning Important Features Through Propagating Activation Differences", ICML 2017, compare it).
The second is measured: the channel gives zero, and the logits are read again, of a pass that runs what is behind the
layer alone. Where the two differ, later layers bend.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nbhelpers import edge, models
from nbhelpers.directions.photographs import Behind
from nbhelpers.models import Layer, Network

BATCH = 16


def contributions(
    network: Network, layers: Sequence[Layer], pictures: Float[Tensor, "photos channels height width"]
) -> dict[str, Float[Tensor, "maps classes"]]:
    """Gradient times activation of every channel of some layers for every class: the mean over photos.

    Args:
        network: left as it is.
        layers: with maps.
        pictures: in [0, 1].

    Returns:
        By the layer's name, one row a channel.
    """
    capture = models.capture(network, *(layer.name for layer in layers), "")
    sums: dict[str, Tensor | float] = {layer.name: 0.0 for layer in layers}
    for batch in edge.Bar(pictures.split(BATCH), desc="speaks for", unit="batch", leave=False, disable=None):
        with torch.enable_grad():
            seen = capture(batch.to(network.mean.device).clone().requires_grad_())
            maps, logits = [seen[name] for name in sums], seen[""]
            for name, rows in zip(list(sums), _rows(maps, logits), strict=True):
                sums[name] = sums[name] + rows
    return {name: total / len(pictures) for name, total in sums.items() if isinstance(total, Tensor)}


def _rows(maps: list[Tensor], logits: Tensor) -> list[Tensor]:
    """Each layer's sums over photos and places, `(channels, classes)`."""
    # made before the loop: small results between large gradients would keep the heap from using their places again
    sums = [torch.zeros(each.shape[1], logits.shape[1]) for each in maps]
    for number in range(logits.shape[1]):
        gradients = torch.autograd.grad(logits[:, number].sum(), maps, retain_graph=True, allow_unused=True)
        for total, slope, each in zip(sums, gradients, maps, strict=True):
            if slope is not None:
                total[:, number] = (slope * each).detach().sum((0, 2, 3)).float().cpu()
    return sums


@torch.no_grad()
def lost(
    network: Network, layer: str, channels: Sequence[int], pictures: Float[Tensor, "photos inputs height width"]
) -> Float[Tensor, "taken classes"]:
    """How far each class's logit falls when a channel gives zero: the mean over photos, one row a channel."""
    falls = torch.zeros(len(channels), 0)
    bar = edge.Bar(total=len(channels) * len(pictures), desc=f"without {layer}", unit="pass", leave=False, disable=None)
    for batch in pictures.split(BATCH):
        behind = Behind(network, layer, tuple(batch.shape[2:]), batch)  # what comes before the layer runs once
        maps = models.capture(network, layer, stop=True)(batch.to(network.mean.device))[layer]
        whole, without = behind(maps), []
        for channel in channels:
            taken = maps.index_fill(1, torch.tensor([channel], device=maps.device), 0)
            without.append((whole - behind(taken)).sum(0))
            bar.update(len(batch))
        rows = torch.stack(without)
        falls = rows if not falls.numel() else falls + rows
    bar.close()
    return falls / len(pictures)
