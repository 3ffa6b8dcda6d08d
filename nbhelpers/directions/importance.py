"""What a part of a dictionary is worth to a class: by taking it away a little, in all combinations, or by the gradient.

The network runs on what the dictionary makes of a layer's maps, with some of the parts turned down. Sobol's total index
of a part is the share of the logit's variance that would be left if all the others were known (Fel et al. 2023; the
estimator is Jansen's, 1999). Gradient times code says nearly the same from a single backward pass.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nbhelpers import models
from nbhelpers.directions.dictionaries import Dictionary
from nbhelpers.directions.photographs import Behind

MANY = 128  # passes at a time


def total_indices(
    function: Callable[[Float[Tensor, "points dimensions"]], Float[Tensor, " points"]],
    dimensions: int,
    samples: int,
    seed: int = 0,
) -> Float[Tensor, " dimensions"]:
    """Sobol's total index of every argument of a function on the unit cube, by Jansen's estimator.

    Args:
        function: of points `(N, dimensions)` in [0, 1], to `(N,)`.
        dimensions: its arguments.
        samples: base points, best a power of 2; `samples * (dimensions + 2)` points are asked for.
        seed: of the quasi-random points.
    """
    from scipy.stats import qmc

    points = qmc.Sobol(2 * dimensions, seed=seed % 2**32).random(samples).astype(np.float32)
    first, second = torch.from_numpy(points).split(dimensions, dim=1)
    mixed = first.repeat(dimensions, 1, 1)
    mixed[torch.arange(dimensions), :, torch.arange(dimensions)] = second.T
    base, other = function(first), function(second)
    exchanged = function(mixed.flatten(0, 1)).view(dimensions, samples)
    variance = torch.cat([base, other]).double().var(correction=0).clamp(min=1e-12)
    return ((base - exchanged).double().square().mean(1) / 2 / variance).float()


def codes_of(
    dictionary: Dictionary, maps: Float[Tensor, "photos channels height width"]
) -> Float[Tensor, "photos height width parts"]:
    """How much of each part is at every place of a layer's maps."""
    vectors = maps.permute(0, 2, 3, 1)
    return dictionary.encode(vectors.flatten(0, 2)).view(*vectors.shape[:3], -1)


def sobol(
    behind: Behind, dictionary: Dictionary, maps: Float[Tensor, "photos channels height width"], label: int,
    samples: int = 16, seed: int = 0,
) -> Float[Tensor, " parts"]:  # fmt: skip
    """Mean total index of every part over photos: how much of a class's logit hangs on it.

    Args:
        behind: the network behind the layer.
        dictionary: of the layer.
        maps: what the layer gives for photos of the class.
        label: the class.
        samples: base points of each photo.
        seed: of the points.
    """
    found = []
    for codes in codes_of(dictionary, maps):

        def logit(masks: Tensor, codes: Tensor = codes) -> Tensor:
            said = []
            for some in masks.split(MANY):
                with torch.no_grad():
                    said.append(behind(_maps(dictionary, codes * some[:, None, None]))[:, label])
            return torch.cat(said)

        found.append(total_indices(logit, len(dictionary.directions), samples, seed))
    return torch.stack(found).mean(0)


def by_gradient(
    behind: Behind, dictionary: Dictionary, maps: Float[Tensor, "photos channels height width"], label: int
) -> Float[Tensor, " parts"]:
    """Gradient of a class's logit times code, summed over places: what each part adds, in the mean over photos."""
    codes = codes_of(dictionary, maps)
    with models.differentiable():
        codes = codes.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(behind(_maps(dictionary, codes))[:, label].sum(), codes)
    return (gradient * codes).detach().sum((1, 2)).mean(0)


@torch.no_grad()
def without(
    behind: Behind, dictionary: Dictionary, codes: Float[Tensor, "photos height width parts"], label: int,
    parts: list[int],
) -> float:  # fmt: skip
    """Mean logit of a class when the network runs on what the dictionary makes of photos, some parts left out."""
    codes = codes.clone()
    codes[..., parts] = 0
    return float(behind(_maps(dictionary, codes))[:, label].mean())


@torch.no_grad()
def without_random(
    behind: Behind, dictionary: Dictionary, codes: Float[Tensor, "photos height width parts"], label: int,
    count: int, seed: int = 0,
) -> float:  # fmt: skip
    """The same with so many random directions taken out of the activations instead."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    made = _maps(dictionary, codes)
    random = torch.linalg.qr(torch.randn(made.shape[1], count, generator=generator)).Q
    gone = torch.einsum("bchw,ck,dk->bdhw", made, random, random)
    return float(behind(made - gone)[:, label].mean())


@torch.no_grad()
def kept(behind: Behind, dictionary: Dictionary, maps: Float[Tensor, "photos channels height width"]) -> float:
    """Share of photos whose first answer stays the same when the network runs on what the dictionary makes of them."""
    again = behind(_maps(dictionary, codes_of(dictionary, maps))).argmax(1)
    return float((again == behind(maps).argmax(1)).float().mean())


@torch.no_grad()
def recovered(
    behind: Behind, dictionary: Dictionary, maps: Float[Tensor, "photos channels height width"], label: int,
    mean: Float[Tensor, " channels"],
) -> float:  # fmt: skip
    """Share of a class's logit that is kept when the network runs on what the dictionary makes of photos of the class.

    1, nothing is lost; 0, no more is left than what the layer's mean activation, said everywhere, would give.

    Args:
        behind: the network behind the layer.
        dictionary: of the layer.
        maps: what the layer gives for photos of the class.
        label: the class.
        mean: the layer's mean activation.
    """
    again = _maps(dictionary, codes_of(dictionary, maps))
    nothing = mean[:, None, None].expand_as(maps).contiguous()
    whole, left, bottom = (behind(each)[:, label].mean() for each in (maps, again, nothing))
    return float((left - bottom) / (whole - bottom))


def _maps(dictionary: Dictionary, codes: Tensor) -> Tensor:
    """What the layer would give, as far as the parts go."""
    return dictionary.decode(codes.flatten(0, 2)).view(*codes.shape[:3], -1).permute(0, 3, 1, 2)
