"""Circuits by weight: which channels excite and inhibit a channel, and which it feeds.

Where a convolution reads nothing but the rectified maps of the one before it, pooled or not, its kernels are the whole
truth about the step between the two, up to that ReLU (Olah et al., "Zoom In: An Introduction to Circuits", Distill
2020). Whether it does so is not taken from names: the network looks at noise, and what arrives is compared. Where the
way is no such step (a sum, a norm, several branches), photographs say to first order what is added: gradient times
activation, which is not exact and is said to be so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbhelpers import models
from nbhelpers.models import Layer, Network

STRONGEST = 5
NEAREST = 3  # layers before one that it may read
BATCH = 16
MOST = 1024  # channels of a layer whose gradients are taken, one after the other


def kernels(network: Network, before: Layer, after: Layer) -> Float[Tensor, "channels inputs height width"] | None:
    """The kernels between two layers, or None where the second reads something else than the first's rectified maps."""
    module = models.find_module(network, after.name)
    if not isinstance(module, nn.Conv2d) or module.groups != 1 or module.in_channels != before.channels:
        return None
    given = _inputs(network, before.name, after.name)
    if given is None:
        return None
    said, read = given
    rectified = said.relu()
    if read.shape != rectified.shape:
        factor = rectified.shape[-1] // read.shape[-1]
        if factor < 2:
            return None
        rectified = nn.functional.max_pool2d(rectified, factor)
    same = read.shape == rectified.shape and torch.allclose(read, rectified, atol=1e-5, rtol=1e-4)
    return module.weight.detach().float().cpu() if same else None


def added(
    network: Network, before: Layer, after: Layer, pictures: Float[Tensor, "photos inputs height width"]
) -> Float[Tensor, "channels before"] | None:
    """What each channel of a layer adds to each channel's mean answer of a later one, or None where none arrives there.

    Gradient times activation, summed over places and averaged over photos: exact where all between is linear.
    """
    capture, total = models.capture(network, before.name, after.name, stop=True), None
    for batch in pictures.split(BATCH):
        with torch.enable_grad():
            seen = capture(batch.to(network.mean.device).clone().requires_grad_())
            maps, means = seen[before.name], seen[after.name].mean((2, 3)).sum(0)
            total = torch.zeros(len(means), maps.shape[1]) if total is None else total
            for row, each in zip(total, means, strict=True):
                (slope,) = torch.autograd.grad(each, maps, retain_graph=True, allow_unused=True)
                if slope is None:
                    return None
                row += (slope * maps).detach().sum((0, 2, 3)).float().cpu()
    return total / len(pictures)


def facts(
    network: Network, layers: Sequence[Layer], pictures: Float[Tensor, "photos inputs height width"] | None = None
) -> list[list[dict[str, Any]]]:
    """What the page of each channel of each layer says of its circuit.

    Args:
        network: whose layers they are.
        layers: in the order in which they run.
        pictures: that say what is added where weights alone do not tell; without them nothing is said there.
    """
    found: list[list[dict[str, Any]]] = [[{} for _ in range(layer.channels)] for layer in layers]
    for index, after in enumerate(layers):
        known = _step(network, layers[max(0, index - NEAREST) : index], after, pictures)
        if known is None:
            continue
        place, sums, weights, note = known
        before = layers[index - 1 - place]
        for channel in range(after.channels):
            fact, order = found[index][channel], sums[channel].argsort(descending=True).tolist()
            kernel = None if weights is None else weights[channel]
            fact["circuit_note"] = note
            fact["excited"] = _linked(before, order, sums[channel], kernel, 1)
            fact["inhibited"] = _linked(before, order[::-1], sums[channel], kernel, -1)
        for channel, fact in enumerate(found[index - 1 - place]):
            order = sums[:, channel].abs().argsort(descending=True).tolist()
            fact.setdefault("circuit_note", note)
            fact.setdefault(
                "feeds", _linked(after, order, sums[:, channel], None if weights is None else weights[:, channel], 0)
            )
    return found


def _step(
    network: Network, earlier: Sequence[Layer], after: Layer, pictures: Tensor | None
) -> tuple[int, Tensor, Tensor | None, str] | None:
    """From the nearest layer that a layer reads: how far back it lies, what each channel adds, kernels, words."""
    for place, before in enumerate(reversed(earlier)):
        weights = kernels(network, before, after)
        if weights is not None:
            note = f"Sums of the kernels between {before.name} and {after.name}: exact up to the ReLU."
            return place, weights.sum((2, 3)), weights, note
    if pictures is None or after.channels > MOST:
        return None
    for place, before in enumerate(reversed(earlier)):
        sums = added(network, before, after, pictures)
        if sums is not None:
            note = (
                f"What {before.name} adds to {after.name} by gradient times activation, to first order, the mean over "
            )
            note += f"{len(pictures)} photographs: between the two is more than one convolution of rectified maps."
            return place, sums, None, note
    return None


def _linked(layer: Layer, order: list[int], sums: Tensor, weights: Tensor | None, sign: int) -> list[dict[str, Any]]:
    chosen = [each for each in order[:STRONGEST] if not sign or sums[each] * sign > 0]
    rounded = lambda value: float(f"{float(value):.3g}")  # noqa: E731
    return [
        {
            "layer": layer.name,
            "channel": each,
            "value": rounded(sums[each]),
        }
        | ({} if weights is None else {"kernel": [[rounded(value) for value in row] for row in weights[each].tolist()]})
        for each in chosen
    ]


@torch.no_grad()
def _inputs(network: Network, before: str, after: str) -> tuple[Tensor, Tensor] | None:
    """What the first layer gives to noise, and what the second reads."""
    looking, read = models.capture(network, before, after), []
    target = models.find_module(looking.network, after)
    target.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0].clone()))
    size = max(models.sides(network.size))
    noise = torch.rand(2, network.channels, size, size, generator=torch.Generator().manual_seed(0))
    said = looking(noise.to(network.mean.device))[before]
    return (said, read[0]) if len(read) == 1 and isinstance(said, Tensor) else None
