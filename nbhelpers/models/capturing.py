"""See what a layer gives: activations at named layers, and a forward pass that ends when they are there.

    with capture(network, "features.24", stop=True) as seen:
        network(pictures)
    seen["features.24"]          # (B, C, H, W), with its gradient graph

Gradients come from `torch.autograd.grad(score, seen["features.24"])`: no backward hook, no `.grad` left behind.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from nbhelpers import edge
from nbhelpers.models.loading import find_module
from nbhelpers.models.network import Network, sharing_copy


class Seen(dict):
    """Activations by layer name; asking for one that is not there says why."""

    def __missing__(self, layer: str) -> Tensor:
        known = edge.few(map(repr, self)) or "nothing"
        raise KeyError(
            f"no activation of layer {layer!r}: captured was {known}. Name the layer in capture(...), call the network "
            "inside the `with` block, and check that its forward pass uses this layer."
        )


class _Reached(Exception):
    """Every layer asked for has been seen."""


@contextmanager
def capture(network: nn.Module, *layers: str, stop: bool = False) -> Iterator[Seen]:
    """Collect the outputs of named layers during the forward passes made inside the `with` block.

    Inside the block the network is in evaluation mode with frozen weights; on leaving, also by an exception or an
    interrupt, the hooks are gone and `training` and `requires_grad` are as they were. A layer that runs several
    times in one pass (a shared ReLU) is seen at its first run.

    The network itself is changed for that time. Where a slider's thread may use it too, give a copy of
    it (`network.sharing_copy`).

    Args:
        network: a `Network` or any module.
        layers: dotted names as in `named_modules()`; "" is the network's own output.
        stop: end each forward pass as soon as all layers are seen; what the call itself returns is of no use then.

    Yields:
        A dictionary from layer name to its output, of the latest forward pass.

    Raises:
        KeyError: a layer is unknown (the nearest names are offered), or was never reached when it is looked up.
    """
    net = network.net if isinstance(network, Network) else network
    modules = {layer: find_module(net, layer) for layer in layers}
    seen = Seen()
    this_pass: set[str] = set()
    was_training = [(module, module.training) for module in net.modules()]
    had_gradient = [(parameter, parameter.requires_grad) for parameter in net.parameters()]

    def begin(module: nn.Module, inputs: tuple) -> None:
        this_pass.clear()

    def look_at(layer: str):
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
            if layer in this_pass:
                return None
            seen[layer] = output
            this_pass.add(layer)
            if stop and len(this_pass) == len(modules) and module is not network:  # behind its output nothing is left
                raise _Reached
            # what follows gets a copy: an in-place ReLU must not change what was seen
            return output.clone() if isinstance(output, Tensor) else None

        return hook

    forward = network.forward

    def forward_until_seen(*inputs, **options):
        try:
            return forward(*inputs, **options)
        except _Reached:
            return None

    own_forward = network.__dict__.get("forward")
    handles = []
    try:
        handles.append(net.register_forward_pre_hook(begin))
        handles += [module.register_forward_hook(look_at(layer)) for layer, module in modules.items()]
        if stop:
            network.forward = forward_until_seen
        net.eval()
        net.requires_grad_(False)
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        if stop and own_forward is None:
            network.__dict__.pop("forward", None)
        elif stop:
            network.forward = own_forward
        for module, training in was_training:
            module.training = training
        for parameter, requires_gradient in had_gradient:
            parameter.requires_grad_(requires_gradient)


@torch.no_grad()
def activation_batches(
    network: nn.Module, layer: str, pictures: Float[Tensor, "pictures 3 height width"], batch_size: int = 16
) -> Iterator[Shaped[Tensor, "batch ..."]]:
    """What a layer gives for many pictures, a batch at a time, in evaluation mode and without gradients.

    Args:
        network: a `Network` or any module; left as it is, a copy that shares its weights is run.
        layer: dotted name.
        pictures: `(N, 3, H, W)` in [0, 1].
        batch_size: pictures at a time; bounds the memory, not the result.

    Yields:
        The layer's output for each batch in order, on the network's device.
    """
    like = next((parameter for parameter in network.parameters() if parameter.is_floating_point()), pictures)
    network = sharing_copy(network)
    with capture(network, layer, stop=True) as seen:
        for batch in pictures.split(batch_size):
            network(batch.to(like.device, like.dtype))
            yield seen[layer]
