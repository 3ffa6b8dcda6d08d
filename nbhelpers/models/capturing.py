"""See what a layer gives: activations at named layers, and a forward pass that ends when they are there.

    look = capture(network, "features.24", stop=True)
    seen = look(pictures)
    seen["features.24"]          # (B, C, H, W), with its gradient graph

It is a copy that looks, with the same weights: the network itself has no hook at any time, so a slider's thread and a
cell can look into one network at once. Gradients come from `torch.autograd.grad(score, seen["features.24"])`.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from nbhelpers import edge
from nbhelpers.models.loading import check_layout, find_module
from nbhelpers.models.network import sharing_copy


class Seen(dict):
    """Activations by layer name; asking for one that is not there says why."""

    def __missing__(self, layer: str) -> Tensor:
        known = edge.few(map(repr, self)) or "nothing"
        raise KeyError(
            f"no activation of layer {layer!r}: captured was {known}. Name the layer in capture(...), and check that "
            "the network's forward pass uses it."
        )


class _Reached(Exception):
    """Every layer asked for has been seen."""


class Capture:
    """A network, in evaluation mode and with frozen weights, that tells what its layers give; made by `capture`.

    Calling it with pictures runs a forward pass and returns what was seen in it, a dictionary by layer name. A layer
    that runs several times in one pass (a shared ReLU) is seen at its first run.

    Args:
        network: hooks are added to it, so it is a copy of the caller's own.
        layers: dotted names; "" is the network's own output.
        stop: end each pass as soon as all layers are seen.

    Raises:
        KeyError: a layer is unknown (the nearest names are offered).
    """

    def __init__(self, network: nn.Module, *layers: str, stop: bool = False) -> None:
        self.network = network
        # behind its own output nothing is left to be spared
        self._stop, self._count = stop and "" not in layers, len(set(layers))
        self._passes = [Seen()]  # the one that runs; hooks hold this, and not `self`, which holds the network
        for layer in set(layers):
            module = find_module(network, layer) if layer else network
            module.register_forward_hook(self._look_at(layer))

    def __call__(self, pictures: Float[Tensor, "pictures channels height width"]) -> Seen:
        """What the layers give for these pictures."""
        self._passes[0] = seen = Seen()
        with contextlib.suppress(_Reached):
            self.network(pictures)
        self._passes[0] = Seen()
        return seen

    def alone(self, pictures: Float[Tensor, "pictures channels height width"]) -> Seen:
        """The same, to the last bit, whatever batch a picture stands in: on a processor each passes alone.

        The order in which a convolution sums depends on how many pictures it is given. A processor loses little by
        that, a GPU would lose most of its speed and takes them together.
        """
        if len(pictures) == 1 or pictures.device.type != "cpu":
            return self(pictures)
        each = [self(picture) for picture in pictures.split(1)]
        return Seen({layer: torch.cat([seen[layer] for seen in each]) for layer in each[0]})

    def _look_at(self, layer: str) -> Callable[..., Tensor | None]:
        passes, stop, count = self._passes, self._stop, self._count

        def hook(module: nn.Module, inputs: tuple, output: Any) -> Tensor | None:
            seen = passes[0]
            if layer in seen:
                return None
            seen[layer] = output
            if stop and len(seen) == count:
                raise _Reached
            # what follows gets a copy: an in-place ReLU must not change what was seen
            return output.clone() if isinstance(output, Tensor) else None

        return hook


def capture(network: nn.Module, *layers: str, stop: bool = False) -> Capture:
    """Something to call with pictures that tells what named layers give for them.

    Args:
        network: a `Network` or any module; never touched, a copy that shares its weights is run.
        layers: dotted names as in `named_modules()`; "" is the network's own output.
        stop: end each forward pass as soon as all layers are seen.

    Raises:
        KeyError: a layer is unknown (the nearest names are offered), or was never reached when it is looked up.
        ValueError: the network cannot be copied (says why).
    """
    for layer in layers:
        find_module(network, layer)  # names the network's own class where there is no such layer
    return Capture(sharing_copy(network), *layers, stop=stop)


@torch.no_grad()
def pooled_activations(
    network: nn.Module, layer: str, pictures: Float[Tensor, "pictures channels height width"], batch_size: int = 16
) -> Float[Tensor, "pictures maps"]:
    """Mean of every feature map over its places, `(N, C)` float32, on the processor; see `activation_batches`."""
    batches = activation_batches(network, layer, pictures, batch_size)
    return torch.cat([each.float().mean((2, 3)).cpu() for each in batches])


def activation_batches(
    network: nn.Module, layer: str, pictures: Float[Tensor, "pictures channels height width"], batch_size: int = 16
) -> Iterator[Shaped[Tensor, "batch ..."]]:
    """What a layer gives for many pictures, a batch at a time, in evaluation mode and without gradients.

    Args:
        network: a `Network` or any module; left as it is.
        layer: dotted name.
        pictures: `(N, 3, H, W)` in [0, 1].
        batch_size: pictures at a time; bounds the memory, not the result.

    Yields:
        The layer's output for each batch in order, on the network's device.

    Raises:
        KeyError, ValueError: no such layer, or one whose channels come last.
    """
    check_layout(network, [layer], tuple(pictures.shape[2:]))
    like = next((parameter for parameter in network.parameters() if parameter.is_floating_point()), pictures)
    look = capture(network, layer, stop=True)
    for batch in pictures.split(batch_size):
        yield look(batch.to(like.device, like.dtype))[layer]
