"""Circuits by weight: which channels excite and inhibit a channel, and which it feeds.

Where a convolution reads nothing but the rectified maps of the one before it, pooled or not, its kernels are the whole
truth about the step between the two, up to that ReLU (Olah et al., "Zoom In: An Introduction to Circuits", Distill
2020). Whether it does so is not taken from names: the network looks at noise, and what arrives is compared.
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


def facts(network: Network, layers: Sequence[Layer]) -> list[list[dict[str, Any]]]:
    """What the page of each channel of each layer says of its circuit; nothing where weights do not tell it."""
    found: list[list[dict[str, Any]]] = [[{} for _ in range(layer.channels)] for layer in layers]
    for index in range(len(layers) - 1):
        before, after = layers[index], layers[index + 1]
        weights = kernels(network, before, after)
        if weights is None:
            continue
        sums = weights.sum((2, 3))
        note = f"Sums of the kernels between {before.name} and {after.name}: exact up to the ReLU."
        for channel in range(after.channels):
            fact, order = found[index + 1][channel], sums[channel].argsort(descending=True).tolist()
            fact["circuit_note"] = note
            fact["excited"] = _linked(before, order, sums[channel], weights[channel], 1)
            fact["inhibited"] = _linked(before, order[::-1], sums[channel], weights[channel], -1)
        for channel in range(before.channels):
            order = sums[:, channel].abs().argsort(descending=True).tolist()
            fact = found[index][channel]
            fact.setdefault("circuit_note", note)
            fact["feeds"] = _linked(after, order, sums[:, channel], weights[:, channel], 0)
    return found


def _linked(layer: Layer, order: list[int], sums: Tensor, weights: Tensor, sign: int) -> list[dict[str, Any]]:
    chosen = [each for each in order[:STRONGEST] if not sign or sums[each] * sign > 0]
    rounded = lambda value: float(f"{float(value):.3g}")  # noqa: E731
    return [
        {
            "layer": layer.name,
            "channel": each,
            "value": rounded(sums[each]),
            "kernel": [[rounded(value) for value in row] for row in weights[each].tolist()],
        }
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
