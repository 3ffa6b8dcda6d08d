"""What a class logit owes to the weights of one convolution: gradients per photo, and the network without some filters.

The weight of a convolution is `(filters, inputs, height, width)`; its gradient for a photo has the same shape and says
how the logit would change if each weight were raised a little. `torch.func` gives the gradients of a whole batch of
photos at once, each on its own (per-sample gradients), without touching the network.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import vjp, vmap

from nbhelpers import edge, models
from nbhelpers.attribution.gradients import as_batch, class_logits, depending
from nbhelpers.models import Network, copied, differentiable, nearest, sharing_copy, twin


def convolution(network: Network, layer: str) -> nn.Conv2d:
    """The convolution with this name.

    Raises:
        KeyError: no layer has this name. ValueError: it is no convolution (the nearest convolutions are offered).
    """
    module = models.find_module(network, layer)
    if not isinstance(module, nn.Conv2d):
        models.examine(network, network.size)  # says what else is the matter
        convolutions = [name for name, each in network.net.named_modules() if isinstance(each, nn.Conv2d)]
        raise ValueError(
            f"layer {layer!r} of {network.name} is a {type(module).__name__}: only a convolution has filter weights. "
            f"{nearest(layer, convolutions)}"
        )
    return module


def gradients(
    network: Network, layer: str, target: int, pictures: Float[Tensor, "photos 3 height width"], batch_size: int = 8
) -> Iterator[tuple[Float[Tensor, "batch filters inputs kernel_height kernel_width"], Float[Tensor, " batch"]]]:
    """Gradient of one class logit with respect to a convolution's weight, for each picture on its own.

    Args:
        network: left as it is.
        layer: dotted name of a convolution.
        target: index of the class.
        pictures: `(N, 3, H, W)` in [0, 1].
        batch_size: pictures at a time; bounds the memory, not the result.

    Yields:
        For each batch of b pictures: gradients `(b, filters, inputs, height, width)` and logits `(b,)`.

    Raises:
        KeyError, ValueError: no such convolution; or a gradient that is not finite (says for which pictures).
    """
    convolution(network, layer)
    # our own copy of the modules, with the same weights, frozen: its hook needs no cleaning up
    fast = twin(network, gradients=False)
    module = convolution(fast, layer)
    calls: list[tuple[Tensor, Tensor]] = []

    def tap(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        calls.append((inputs[0].detach(), output.requires_grad_()))
        return output.clone()  # an in-place ReLU must not change what was kept

    def by_weight(inputs: Tensor, by_output: Tensor) -> Tensor:
        _, backward = vjp(lambda weight: module._conv_forward(inputs[None], weight, None), module.weight)
        return backward(by_output[None])[0]

    module.register_forward_hook(tap)
    for start in range(0, len(pictures), batch_size):
        calls.clear()
        some = pictures[start : start + batch_size]
        with differentiable():
            logits = class_logits(fast, fast(as_batch(fast, some)), len(some))[:, target]
            total = logits.sum()
        if not calls:
            raise ValueError(f"the forward pass of {network.name} does not use layer {layer!r}: choose another one")
        outputs = [output for _, output in calls]
        by_outputs = (
            torch.autograd.grad(total, outputs, materialize_grads=True)
            if total.requires_grad
            else [depending(network, layer, some, None)]
        )
        depending(network, layer, some, torch.stack([each.abs().amax() for each in by_outputs]))
        # a convolution that runs more than once owes something to every run
        found = sum(vmap(by_weight)(x, y) for (x, _), y in zip(calls, by_outputs, strict=True))
        finite = found.flatten(1).isfinite().all(1) & logits.isfinite()
        if not finite.all():
            bad = [start + i for i, fine in enumerate(finite.tolist()) if not fine]
            raise ValueError(
                f"the gradient of picture {edge.few(bad)} is infinite or not a number: check the network's weights"
            )
        yield found.detach(), logits.detach()


@torch.no_grad()
def finite_differences(
    network: Network,
    layer: str,
    target: int,
    picture: Float[Tensor, "3 height width"],
    weights: Sequence[Sequence[int]],
    step: float = 1e-6,
) -> Float[Tensor, " weights"]:
    """The same gradient by moving weights: (logit(w + step) - logit(w - step)) / (2 step), in float64.

    A network of ReLUs is linear in the weights of one layer as long as no unit switches on or off, so a small step
    makes no error but rounding.

    Args:
        network: left as it is; a copy in float64 computes.
        layer: dotted name of a convolution.
        target: index of the class.
        picture: `(3, H, W)` in [0, 1].
        weights: for each weight to move, its (filter, input, row, column).
        step: how far.

    Returns:
        One derivative per weight, float64.
    """
    double = copied(network).double().eval()
    values = convolution(double, layer).weight
    found = []
    for place in map(tuple, weights):
        before = values[place].item()
        sides = []
        for sign in (1, -1):
            values[place] = before + sign * step
            sides.append(double(picture[None].to(values))[0, target])
        values[place] = before
        found.append((sides[0] - sides[1]) / (2 * step))
    return torch.stack(found)


@torch.no_grad()
def logits_without(
    network: Network, layer: str, filters: Sequence[int], pictures: Float[Tensor, "photos 3 height width"]
) -> Float[Tensor, "photos classes"]:
    """Logits when some filters of a convolution give nothing: zero, wherever their weights come from.

    Args:
        network: left as it is.
        layer: dotted name of a convolution.
        filters: which ones.
        pictures: `(N, 3, H, W)` in [0, 1].

    Returns:
        `(N, classes)`.
    """
    convolution(network, layer)
    double = sharing_copy(network)
    index = torch.as_tensor(list(filters), dtype=torch.long, device=network.mean.device)
    convolution(double, layer).register_forward_hook(lambda module, inputs, output: output.index_fill(1, index, 0))
    return class_logits(double, double(pictures.to(network.mean)), len(pictures))
