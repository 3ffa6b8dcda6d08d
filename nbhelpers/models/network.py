"""A network together with its preprocessing, and its copy that has learned nothing.

Every picture in this package is `(B, 3, H, W)` float32 in [0, 1]. What a network was trained on besides that (its
normalisation) belongs to the network and is applied inside it, so a technique never asks which network it looks at.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn


class Network(nn.Module):
    """A network together with what it needs to look at a picture in [0, 1].

    Layer names are those of the bare module `net` (`"block3.conv2"`, `"features.24"`); `""` is its output.

    Args:
        net: the bare module, pictures `(B, 3, H, W)` in, logits `(B, classes)` out.
        name: what to call it in titles and messages.
        classes: class names in the order of the logits, or None where they are not known.
        size: side of the pictures it is at home with, in pixels.
        mean: per colour, subtracted from the picture first.
        std: per colour, what the difference is divided by.
    """

    def __init__(
        self,
        net: nn.Module,
        name: str,
        classes: Sequence[str] | None = None,
        size: int = 224,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        self.net = net
        self.name = name
        self.classes = None if classes is None else list(classes)
        self.size = size
        self.training = net.training
        parameter = next(net.parameters(), None)
        device = None if parameter is None else parameter.device
        self.register_buffer("mean", torch.tensor(mean, device=device).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, device=device).view(3, 1, 1), persistent=False)
        self._plain = all(value == 0 for value in mean) and all(value == 1 for value in std)

    def normalise(
        self, pictures: Float[Tensor, "*pictures 3 height width"]
    ) -> Float[Tensor, "*pictures 3 height width"]:
        """The pictures as the bare module wants them: on its device, normalised, same shape."""
        pictures = pictures.to(self.mean.device)
        return pictures if self._plain else (pictures - self.mean) / self.std

    def forward(self, pictures: Float[Tensor, "*pictures 3 height width"]) -> Shaped[Tensor, "..."]:
        """Logits `(B, classes)` of pictures `(B, 3, H, W)` in [0, 1]."""
        return self.net(self.normalise(pictures))

    def class_name(self, number: int) -> str:
        """What a class is called: its name, or `class 7` where the names are not known."""
        return f"class {number}" if self.classes is None else self.classes[number]

    def extra_repr(self) -> str:
        known = "classes not named" if self.classes is None else f"{len(self.classes)} classes"
        return f"{self.name!r}, {self.size} pixels, {known}"


def randomised_copy(network: Network, seed: int) -> Network:
    """What `nbhelpers.models.randomised` returns, from a network."""
    with drawn_from(seed):
        double = copied(network).cpu()
        for module in double.net.modules():
            reinitialise(module)
    double.name = f"{network.name} (random)"
    return double.to(network.mean.device)


def copied(module: nn.Module, shared: Mapping[int, Any] | None = None) -> Any:
    """A deep copy that works after the module was used, whatever its last pass left on it.

    Tensors that a module keeps from its last pass are copied without their graph, which torch refuses to copy. Hooks
    (the user's, or left behind by another library) go on working; what they hold is not copied.

    Args:
        module: left as it is.
        shared: what stands in the copy for objects of the original, by the original's `id`.
    """
    memo: dict[int, Any] = {}
    for each in module.modules():
        memo |= {id(tensor): tensor.detach() for tensor in _kept(vars(each)) if not tensor.is_leaf}
        memo |= {id(value): value.copy() for name, value in vars(each).items() if name.endswith("_hooks")}
    return copy.deepcopy(module, memo | dict(shared or {}))


def sharing_copy(network: nn.Module) -> Any:
    """A copy in evaluation mode with the same, frozen weights: what is hooked into it leaves the original alone.

    So a slider's thread and a cell can look into one network at the same time.
    """
    shared = {}
    for tensor in [*network.parameters(), *network.buffers()]:
        frozen = tensor.detach()
        shared[id(tensor)] = nn.Parameter(frozen, requires_grad=False) if isinstance(tensor, nn.Parameter) else frozen
    return copied(network, shared).eval()


def _kept(value: object) -> Iterator[Tensor]:
    """The tensors in a module's attributes, also in lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _kept(inner)


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Torch's processor randomness from this seed, and the global state put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@torch.no_grad()
def reinitialise(module: nn.Module) -> None:
    """Draw a module's own parameters anew, in place, as `nbhelpers.models.randomised` says; not those within it."""
    linear = isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
    if linear and "weight" in module._parameters:
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            module.bias.zero_()
        return
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    if reset is not None and not linear:
        reset()
        return
    # nobody knows how to draw these, or (weight norm) the weight is computed from them
    for parameter in module.parameters(recurse=False):
        shuffled = parameter.flatten()[torch.randperm(parameter.numel())]
        parameter.copy_(shuffled.view_as(parameter))
