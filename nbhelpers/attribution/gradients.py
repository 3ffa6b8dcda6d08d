"""What a class logit owes to the pixels, or to a layer's activations: for a whole batch at once.

    logits, gradients = pixel_gradients(network, photos, ["tabby", "obelisk"])
    activations, gradients, logits = layer_gradients(network, "block4.conv2", photos)

No photo of a batch looks at another, so the gradient of the sum of the wanted logits holds every photo's own. All of it
happens on a frozen twin of the network: the user's model keeps its mode and its flags, and no gradient of a weight is
computed. For a layer the pass before it leaves no graph, so only what comes behind it is remembered and gone back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsIndex

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nbhelpers import edge, models
from nbhelpers.models import Capture, Network, Size, differentiable, twin

Classes = Sequence[str | SupportsIndex] | Int[Tensor, "*photos"] | str | SupportsIndex | None
OUTPUT = ""  # the layer that is the network's own output
# So many bytes in the largest activation at a time: a processor is faster while it lies in memory that is used again
# and again. At 32 MB the C library stops doing so: nine photos of 224 pixels on ResNet-50. Peak memory falls, too.
PORTION = 30 * 2**20
# Every portion reads all weights, so it is at least worth this share of their bytes: ten photos on VGG16, of whose time
# two at once would spend a quarter on reading linear layers.
WEIGHTS_SHARE = 1 / 4


class NotFinite(ValueError):
    """A gradient is infinite or not a number; the message says for which photos. The others are fine on their own."""


def pixel_gradients(
    network: str | nn.Module, photos: Float[Tensor, "photos 3 height width"], classes: Classes = None
) -> tuple[Float[Tensor, "photos classes"], Float[Tensor, "photos 3 height width"]]:
    """Gradient of each photo's class logit with respect to its pixels.

    Args:
        network: a name, a `Network` or your own module; left as it is. Works in training mode (evaluation mode is
            used), with frozen weights and under `torch.no_grad`.
        photos: `(B, 3, H, W)` in [0, 1].
        classes: one name or number per photo, or one for all; None for the class that each photo is given.

    Returns:
        Logits `(B, classes)` and gradients `(B, 3, H, W)`, on the network's device.

    Raises:
        ValueError: no batch of photos, an unknown class, another number of classes than of photos, a network without
            class logits, or a gradient that is not finite (says for which photos).

    Source: Simonyan, Vedaldi, Zisserman 2014, section 3.
    """
    fast = frozen(network)
    logits, gradients = raw_pixel_gradients(fast, as_batch(fast, photos), classes)
    return logits, check_finite(gradients)


def raw_pixel_gradients(
    fast: Network, pixels: Float[Tensor, "photos 3 height width"], classes: Classes
) -> tuple[Float[Tensor, "photos classes"], Float[Tensor, "photos 3 height width"]]:
    """What `pixel_gradients` returns, of a `frozen` network and photos `as_batch`; finite or not."""
    found = []
    for part in _parts(fast, pixels):
        with differentiable():
            some = pixels[part].clone().requires_grad_()
            logits = class_logits(fast, fast(some), len(some))
            wanted = _wanted(fast, logits, of_part(classes, part, len(pixels)))
            found.append((logits.detach(), *torch.autograd.grad(wanted.sum(), some)))
    logits, gradients = (torch.cat(each) for each in zip(*found, strict=True))
    return logits, gradients


def layer_gradients(
    network: str | nn.Module, layer: str, photos: Float[Tensor, "photos 3 height width"], classes: Classes = None
) -> tuple[Float[Tensor, "photos ..."], Float[Tensor, "photos ..."], Float[Tensor, "photos classes"]]:
    """Gradient of each photo's class logit with respect to a layer's activations, and the activations.

    Args:
        network: a name, a `Network` or your own module; left as it is, as in `pixel_gradients`.
        layer: dotted name; one that runs several times in a pass counts at its first run.
        photos: `(B, 3, H, W)` in [0, 1].
        classes: one name or number per photo, or one for all; None for the class that each photo is given.

    Returns:
        Activations and gradients, both as the layer gives them, `(B, C, h, w)` for feature maps, and logits
        `(B, classes)`, on the network's device.

    Raises:
        KeyError: no such layer, or the forward pass does not use it. ValueError: as `pixel_gradients`, or the logits do
            not depend on the layer.

    Source: Selvaraju et al. 2017, equation 1 before the mean.
    """
    fast = frozen(network, gradients=False)
    module = models.find_module(fast, layer)
    module.register_forward_hook(_begin_graph)
    look = Capture(fast, layer, OUTPUT)
    pixels = as_batch(fast, photos)
    found = []
    with differentiable():
        for part in _parts(fast, pixels):
            seen = look(pixels[part])
            logits = class_logits(fast, seen[OUTPUT], len(pixels[part]))
            activations, wanted = seen[layer], _wanted(fast, logits, of_part(classes, part, len(pixels)))
            on_the_way = wanted.requires_grad
            gradients = torch.autograd.grad(wanted.sum(), activations, allow_unused=True)[0] if on_the_way else None
            gradients = depending(network, layer, pixels, gradients)
            found.append((activations.detach(), gradients, logits.detach()))
    activations, gradients, logits = (torch.cat(each) for each in zip(*found, strict=True))
    return activations, check_finite(gradients), logits


def depending(
    network: str | nn.Module, layer: str, photos: Float[Tensor, "photos ..."], gradients: Float[Tensor, "..."] | None
) -> Float[Tensor, "..."]:
    """The gradients of a layer, if the logits depend on it.

    Raises:
        ValueError: they do not (says why).
    """
    if gradients is not None and gradients.any():
        return gradients
    network = models.as_network(network)
    why = models.examine(network, tuple(photos.shape[2:])).no_gradient
    if gradients is None or why:
        raise ValueError(
            f"the logits of {network.name} do not depend on layer {layer!r} by any gradient: "
            + (why or "choose a layer on their way")
        )
    return gradients


class GuidedReLUs(models.Rectifiers):
    """Within this context a ReLU passes back only gradients that are positive, at units that are on.

        with GuidedReLUs():
            logits, gradients = pixel_gradients(network, photos)

    Source: Springenberg, Dosovitskiy, Brox, Riedmiller 2015, "Striving for Simplicity", section 3.4.
    """

    def __init__(self) -> None:
        super().__init__(_Guided)


def frozen(network: str | nn.Module, gradients: bool = True) -> Network:
    """A frozen twin of a network in evaluation mode, with its weights; in float64 if they are, else in float32."""
    return twin(models.as_network(network), gradients=gradients)


def _begin_graph(module: nn.Module, inputs: tuple, output: Tensor) -> None:
    if not isinstance(output, Tensor):
        raise ValueError(f"this layer gives a {type(output).__name__}, expected one tensor: choose a layer inside it")
    output.requires_grad_()


def as_batch(
    network: Network, photos: Float[Tensor, "photos 3 height width"]
) -> Float[Tensor, "photos 3 height width"]:
    """The photos on the network's device and in its precision.

    Raises:
        ValueError: not a batch of photos.
    """
    fits = isinstance(photos, Tensor) and photos.ndim == 4 and photos.shape[1] in (3, network.channels)
    if not fits or not photos.is_floating_point():
        got = f"{photos.dtype} {tuple(photos.shape)}" if isinstance(photos, Tensor) else type(photos).__name__
        raise ValueError(f"expected a batch of photos, a float tensor (B, 3, H, W) in [0, 1], got {got}")
    with torch.inference_mode(False):
        photos = photos.clone() if photos.is_inference() else photos.detach()
        return photos.to(network.mean)


def class_logits(network: Network, output: object, count: int) -> Float[Tensor, "photos classes"]:
    """The output of a network, if it is class logits `(count, classes)`.

    Raises:
        ValueError: it is not.
    """
    if isinstance(output, Tensor) and output.ndim == 2 and len(output) == count:
        return output
    raise ValueError(
        f"{network.name} gives {models.described(output)} for {count} photos, expected class logits "
        f"({count}, classes): a gradient needs a class. Take a network with its classifier head, or say where the "
        "logits are: Network(module, output=lambda out: ...)"
    )


def targets(network: Network, logits: Float[Tensor, "photos classes"], classes: Classes) -> list[int]:
    """Each photo's class as a number, of logits `(B, classes)` that the network gave; `classes` as everywhere here.

    Raises:
        ValueError: an unknown class, or another number of classes than of photos.
    """
    # classes without names are called by their numbers
    names = network.classes or [str(number) for number in range(logits.shape[1])]
    known = Network(nn.Identity(), network.name, names)
    found = logits.argmax(1).tolist() if classes is None else models.class_indices(known, classes)
    if len(found) not in (1, len(logits)):
        raise ValueError(f"{len(found)} classes for {len(logits)} photos: give one per photo, or one for all")
    return found * (len(logits) // max(1, len(found)))


def chosen_class(network: Network, target: str | int, size: Size) -> int | None:
    """Number of the class that a recipe's `target` names; None for "", where each photo has the class it is given.

    Raises:
        ValueError: the network has no such class.
    """
    nothing = isinstance(target, str) and not target.strip()
    return None if nothing else models.class_indices(network, [target], size)[0]


def _parts(fast: Network, pixels: Tensor) -> list[slice]:
    """A batch in portions that suit the device."""
    count = portion = max(1, len(pixels))
    if count > 1 and pixels.device.type == "cpu":
        largest = fast.examined(tuple(pixels.shape[2:])).largest * pixels.element_size()
        weights = sum(each.numel() * each.element_size() for each in fast.parameters())
        portion = min(count, max(1, PORTION // largest, int(WEIGHTS_SHARE * weights) // largest))
    return [slice(start, start + portion) for start in range(0, count, portion)]


def of_part(classes: Classes, part: slice | Sequence[int], count: int) -> Classes:
    """The classes of some of `count` photos.

    Raises:
        ValueError: another number of classes than of photos.
    """
    if classes is None or isinstance(classes, str) or not hasattr(classes, "__len__") or len(classes) == 1:
        return classes
    if len(classes) != count:
        raise ValueError(f"{len(classes)} classes for {count} photos: give one per photo, or one for all")
    return classes[part] if isinstance(part, slice) else [classes[number] for number in part]


def _wanted(network: Network, logits: Tensor, classes: Classes) -> Tensor:
    """Each photo's logit of its class, `(B,)`."""
    places = torch.as_tensor(targets(network, logits, classes), device=logits.device)
    return logits.gather(1, places[:, None])[:, 0]


def check_finite(gradients: Float[Tensor, "photos ..."]) -> Float[Tensor, "photos ..."]:
    """The gradients without their graph.

    Raises:
        NotFinite: one is infinite or not a number (says for which photos).
    """
    bad = (~gradients.flatten(1).isfinite().all(1)).nonzero().flatten().tolist()
    if bad:
        raise NotFinite(
            f"the gradient of photo {edge.few(bad)} is infinite or not a number: check the photo, and the "
            "network's weights"
        )
    return gradients.detach()


class _Guided(torch.autograd.Function):
    @staticmethod
    def forward(context, inputs: Tensor, ceiling: float) -> Tensor:
        context.save_for_backward((inputs > 0) & (inputs < ceiling))
        return inputs.clamp(0, ceiling)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None]:
        (on,) = context.saved_tensors
        return gradient.clamp(min=0) * on, None
