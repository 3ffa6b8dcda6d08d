"""How much of a class logit each pixel answers for: five ways to go back from the logit to the photo.

    logits, gradients = gradient(network, photos, classes)     # (B, classes), (B, 3, H, W)
    maps = strongest(gradients)                                # (B, H, W)

All of them start from the gradient of the logit with respect to the pixels. SmoothGrad averages it over noisy copies;
integrated gradients sum it on the way from a picture that shows nothing; guided backpropagation goes back through
ReLUs only where it raises the logit. Each takes photos in [0, 1], normalisation is the network's own affair.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbhelpers import models
from nbhelpers.ascent import generators
from nbhelpers.attribution import gradients
from nbhelpers.attribution.faithfulness import stand_in
from nbhelpers.attribution.gradients import Classes


def gradient(
    network: str | nn.Module, photos: Float[Tensor, "photos 3 height width"], classes: Classes = None
) -> tuple[Float[Tensor, "photos classes"], Float[Tensor, "photos 3 height width"]]:
    """Gradient of the logit with respect to the pixels (Simonyan, Vedaldi, Zisserman 2014, section 3).

    Args:
        network: a name, a `Network` or your own module; left as it is.
        photos: `(B, 3, H, W)` in [0, 1].
        classes: one name or number per photo, or one for all; None for the class that each photo is given.

    Returns:
        Logits `(B, classes)`, and what the logit gains per unit of each pixel's value, `(B, 3, H, W)`.

    Raises:
        ValueError: as `gradients.pixel_gradients`.
    """
    return gradients.pixel_gradients(network, photos, classes)


def gradient_times_input(
    network: str | nn.Module, photos: Float[Tensor, "photos 3 height width"], classes: Classes = None
) -> tuple[Float[Tensor, "photos classes"], Float[Tensor, "photos 3 height width"]]:
    """The gradient times the pixel (Shrikumar et al. 2016): what a pixel gives to a logit that were linear in it.

    Black pixels give nothing, whatever they mean. Arguments, result and errors as `gradient`.
    """
    logits, found = gradient(network, photos, classes)
    return logits, found * photos.to(found)


def smoothgrad(
    network: str | nn.Module,
    photos: Float[Tensor, "photos 3 height width"],
    classes: Classes = None,
    samples: int = 16,
    noise: float = 0.15,
    seed: int | Sequence[int] = 0,
    batch_size: int = 32,
) -> tuple[Float[Tensor, "photos classes"], Float[Tensor, "photos 3 height width"]]:
    """The gradient averaged over noisy copies of each photo (Smilkov, Thorat, Kim, Viégas, Wattenberg 2017).

    Args:
        network, photos, classes: as `gradient`.
        samples: noisy copies of each photo.
        noise: standard deviation of the noise, as a share of the range of the photo's values.
        seed: of the noise: one for each photo, or the first one's, from which the others count on. Each photo draws its
            own, so that its map does not depend on the others of its batch.
        batch_size: copies at a time; bounds the memory, not the result.

    Returns:
        Logits `(B, classes)` and the averaged gradient, `(B, 3, H, W)`.
    """
    fast, pictures, logits, targets = _prepared(network, photos, classes)
    sources = generators(range(seed, seed + len(pictures)) if isinstance(seed, int) else seed)
    found = torch.zeros_like(pictures)
    for number, (picture, target, source) in enumerate(zip(pictures, targets, sources, strict=True)):
        deviation = noise * float(picture.max() - picture.min())
        for start in range(0, samples, batch_size):
            # copy by copy: how torch fills a tensor with normal numbers depends on the tensor's size
            draws = [torch.randn(picture.shape, generator=source) for _ in range(min(batch_size, samples - start))]
            copies = picture + deviation * torch.stack(draws).to(picture)
            found[number] += gradients.raw_pixel_gradients(fast, copies, target)[1].sum(0) / samples
    return logits, gradients.check_finite(found)


def integrated_gradients(
    network: str | nn.Module,
    photos: Float[Tensor, "photos 3 height width"],
    classes: Classes = None,
    samples: int = 16,
    baseline: str = "black",
    batch_size: int = 32,
) -> tuple[Float[Tensor, "photos classes"], Float[Tensor, "photos 3 height width"]]:
    """The gradient summed on the straight way from a baseline to the photo (Sundararajan, Taly, Yan 2017); captum's.

    The values of all pixels add up to what the logit gains on that way (completeness).

    Args:
        network, photos, classes: as `gradient`.
        samples: points on the way, of Gauss-Legendre quadrature.
        baseline: the picture that shows nothing: "blur", "mean", "grey" or "black" (see `faithfulness.stand_in`).
        batch_size: pictures at a time; bounds the memory, not the result.

    Returns:
        Logits `(B, classes)` and each pixel's share of what the logit gains, `(B, 3, H, W)`.

    Raises:
        ValueError: as `gradient`, or an unknown baseline.
    """
    from captum.attr import IntegratedGradients  # with all of captum, half a second, which no other method needs

    fast, pictures, logits, targets = _prepared(network, photos, classes)
    with models.differentiable():
        pictures = pictures.clone()
        found = IntegratedGradients(fast).attribute(
            pictures.requires_grad_(),
            baselines=stand_in(pictures.detach(), baseline),
            target=targets,
            n_steps=samples,
            internal_batch_size=max(batch_size, len(pictures)),
        )
    return logits, gradients.check_finite(found.to(pictures.dtype))


def guided_backpropagation(
    network: str | nn.Module, photos: Float[Tensor, "photos 3 height width"], classes: Classes = None
) -> tuple[Float[Tensor, "photos classes"], Float[Tensor, "photos 3 height width"]]:
    """The gradient, with ReLUs that pass back only what raises the logit (Springenberg et al. 2015, section 3.4).

    Beautiful, and nearly the same for every class and for a network with random upper layers (Nie et al. 2018): a
    picture of the photo's edges rather than of the decision. captum gives the same numbers where it can: it needs a
    module of its own, not in-place, for each ReLU; here the function is guided, so that any ReLU is.

    Raises:
        ValueError: as `gradient`; or the network has no ReLU to guide.
    """
    network = models.as_network(network)
    photos = gradients.as_batch(network, photos)
    models.examine(network, tuple(photos.shape[2:]))  # its passes are none whose ReLUs count
    with gradients.GuidedReLUs() as relus:
        logits, found = gradient(network, photos, classes)
    if not relus.replaced:
        raise ValueError(
            f"{network.name} has no ReLU, and guided backpropagation is about ReLUs: take another method, or a network "
            "with ReLUs"
        )
    if relus.others:
        kinds = ", ".join(f"{count} x {name}" for name, count in relus.others.items())
        total = relus.replaced + sum(relus.others.values())
        warnings.warn(
            f"guided in {relus.replaced} of the {total} activations of {network.name}: the others are no ReLUs and "
            f"pass their gradient back as it is ({kinds})",
            stacklevel=2,
        )
    return logits, found


def strongest(values: Float[Tensor, "photos 3 height width"]) -> Float[Tensor, "photos height width"]:
    """Each pixel's greatest magnitude over the colours, `(B, 3, H, W)` to `(B, H, W)` (Simonyan et al. 2014, 3.1)."""
    return values.abs().amax(1)


def total(values: Float[Tensor, "photos 3 height width"]) -> Float[Tensor, "photos height width"]:
    """Each pixel's sum over the colours, with its sign, `(B, 3, H, W)` to `(B, H, W)`.

    Of a gradient: what the logit gains when the pixel gets brighter. Of a contribution: the pixel's own.
    """
    return values.sum(1)


def _prepared(
    network: str | nn.Module, photos: Tensor, classes: Classes
) -> tuple[nn.Module, Tensor, Tensor, list[int]]:
    """A frozen twin, the photos on its device, their logits, and each photo's class as a number."""
    fast = gradients.frozen(network)
    pictures = gradients.as_batch(fast, photos)
    with torch.no_grad():
        logits = gradients.class_logits(fast, fast(pictures), len(pictures))
    return fast, pictures.clone(), logits, gradients.targets(fast, logits, classes)
