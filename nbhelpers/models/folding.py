"""Batch normalisation folded into the convolution before it: the same numbers, two walks over the activations less.

In evaluation mode a batch normalisation multiplies each channel by a number and adds another, which the convolution
before it can do on the way: its weights are scaled instead (Jacob et al. 2018, "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference", section 3.2).

Which convolutions are read by a normalisation alone is learned from a pass (`run_watched`), since only the forward pass
knows, not the order of the modules; how much memory the largest activation takes is learned on the way. A convolution
that somebody looks at gives its own numbers still.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


class FoldedConvolution(nn.Conv2d):
    """A convolution that normalises, too, and marks what it gives with the name of the normalisation."""

    follower: str
    own: tuple[Shaped[Tensor, "..."], Shaped[Tensor, "..."] | None]  # weight and bias as they were
    behind: tuple[FoldedNormalisation]  # in a tuple, since a module's modules are its parts

    def forward(
        self, input: Shaped[Tensor, "*pictures channels height width"]
    ) -> Shaped[Tensor, "*pictures maps high wide"]:
        if self._forward_hooks or self.behind[0]._forward_pre_hooks:  # somebody looks at what is between the two
            weight, bias = (None if each is None else each.to(input.dtype) for each in self.own)
            return self._conv_forward(input, weight, bias)
        made = super().forward(input)
        made.normalised_by = self.follower
        return made

    def take_over(self) -> None:
        """Scale the weights by what the normalisation knows."""
        (norm,) = self.behind
        known = (*self.own, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        precise = torch.promote_types(self.weight.dtype, torch.float32)  # of a half the weights would be rounded twice
        weight, bias, mean, variance, scale, shift = (None if each is None else each.to(precise) for each in known)
        self.weight, self.bias = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift)


class FoldedNormalisation(nn.BatchNorm2d):
    """A normalisation that leaves alone what its convolution has normalised already."""

    name: str

    def forward(
        self, input: Shaped[Tensor, "pictures maps height width"]
    ) -> Shaped[Tensor, "pictures maps height width"]:
        return input if getattr(input, "normalised_by", None) == self.name else super().forward(input)


def fold(net: nn.Module, pairs: Iterable[tuple[str, str]]) -> None:
    """Let convolutions do the work of their normalisations, from when they `take_over`.

    Args:
        net: a copy, in evaluation mode.
        pairs: names of convolutions and normalisations, as `run_watched` finds them.
    """
    for convolution, follower in pairs:
        module: Any = net.get_submodule(convolution)
        norm: Any = net.get_submodule(follower)
        module.__class__, norm.__class__ = FoldedConvolution, FoldedNormalisation
        module.follower = norm.name = follower
        module.own, module.behind = (module.weight, module.bias), (norm,)


@dataclass(frozen=True)
class Watched:
    """What a pass told.

    Attributes:
        given: what the module gives.
        foldable: names of convolutions and of the normalisations behind them.
        largest: numbers in the largest tensor that was computed on the way, for one picture.
    """

    given: Any
    foldable: tuple[tuple[str, str], ...]
    largest: int


def run_watched(net: nn.Module, pictures: Shaped[Tensor, "pictures channels height width"]) -> Watched:
    """A pass that finds convolutions and normalisations that may be folded.

    They run once each, one behind the other, in evaluation mode and as torch's own classes, nothing hooked in between,
    and nothing but the normalisation reads what the convolution gives.

    Args:
        net: hooks are added to it and taken away.
        pictures: as the bare module takes them.
    """
    with _Watch(net) as watch:
        given = net(pictures)
    watch.read(given)
    return Watched(given, watch.pairs(), watch.largest // len(pictures))


class _Watch(TorchFunctionMode):
    """Who reads what each convolution gives: the name of a normalisation, or "" for anybody else."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self._made: dict[int, tuple[str, Tensor]] = {}  # the tensor itself, such that its id stays its own
        self._readers: dict[str, set[str]] = {}
        self._runs: list[str] = []
        self._within = ""  # the normalisation that runs
        self.largest = 0
        self._handles = []
        for name, module in net.named_modules():
            if module._forward_hooks or module._forward_pre_hooks:
                continue
            if type(module) is nn.Conv2d:
                self._handles.append(module.register_forward_hook(self._keep(name)))
            elif type(module) is nn.BatchNorm2d and not module.training and module.running_mean is not None:
                self._handles.append(module.register_forward_pre_hook(self._enter(name)))
                self._handles.append(module.register_forward_hook(self._leave))

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self._handles:
            handle.remove()

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.read((args, kwargs))
        made = function(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.largest = max(self.largest, made.numel())
        return made

    def read(self, values: Any) -> None:
        """Note who reads the convolutions' results that are among these values."""
        for each in tree_leaves(values):
            if id(each) in self._made:
                self._readers[self._made[id(each)][0]].add(self._within)

    def pairs(self) -> tuple[tuple[str, str], ...]:
        once = {name for name in self._runs if self._runs.count(name) == 1}
        read_once = ((name, *readers) for name, readers in self._readers.items() if len(readers) == 1)
        return tuple((name, reader) for name, reader in read_once if {name, reader} <= once)

    def _keep(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            self._runs.append(name)
            self._made[id(output)] = name, output
            self._readers.setdefault(name, set())

        return hook

    def _enter(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple) -> None:
            self._runs.append(name)
            self._within = name

        return hook

    def _leave(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        self._within = ""
