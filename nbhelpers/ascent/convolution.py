"""Convolutions that give the same bits on one thread and on many.

An ascent of a hundred steps by Adam makes another picture of the last bits, and some of torch's convolutions on a
processor change them with the number of threads: torch chooses how to apply kernels of one unit by that number, the
way that it takes for small maps sums by threads, and oneDNN's way back through a stride, or to a few colours, cuts the
rows among them. Here these are done by oneDNN's forward convolution, there and back: a kernel of single units tells
what each unit gives back through each weight, which is added up where the kernel stood (Dumoulin and Visin, "A guide to
convolution arithmetic for deep learning", 2016, section 4). All others, and those on other devices, are torch's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

TYPES = (torch.float32, torch.bfloat16)
FEW = 4  # colours of a picture
SMALL = 20480  # numbers, up to which torch does not ask oneDNN
Pictures = Float[Tensor, "pictures channels height width"]


def steadily(look: Callable[[Pictures], Any]) -> Callable[[Pictures], Any]:
    """The same pass with steady convolutions, where the pictures lie on a processor."""
    steady = SteadyConvolutions()

    def within(pictures: Pictures) -> Any:
        if pictures.device.type != "cpu" or not torch.backends.mkldnn.is_available():
            return look(pictures)
        with steady:
            return look(pictures)

    return within


class SteadyConvolutions(TorchFunctionMode):
    """Within it, two-dimensional convolutions whose weights are frozen do not depend on the number of threads."""

    def __init__(self) -> None:
        super().__init__()
        self._ways_back: dict[Tensor, Tensor] = {}  # kernels of single units, by those of the way there

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.conv2d:
            return self._convolved(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _convolved(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: str | int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
    ) -> Tensor:
        strides, (_, colours, *sides) = _pair(stride), weight.shape
        small = colours <= FEW or input.numel() <= SMALL
        unsteady = groups == 1 and (max(sides) == 1 or max(strides) > 1 or small)
        known = input.ndim == 4 and input.dtype == weight.dtype in TYPES and not isinstance(padding, str)
        if not (unsteady and known) or weight.requires_grad:
            return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
        return _Convolution.apply(input, weight, bias, strides, _pair(padding), _pair(dilation), self._way_back)

    def _way_back(self, weight: Tensor) -> Tensor:
        """A kernel of a single unit for each colour and place of this one."""
        if weight in self._ways_back:
            return self._ways_back[weight]
        kernel = weight.permute(1, 2, 3, 0).reshape(-1, len(weight), 1, 1).contiguous()
        if isinstance(weight, nn.Parameter):  # others are computed anew in every pass
            self._ways_back[weight] = kernel
        return kernel


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        input: Float[Tensor, "pictures colours height width"],
        weight: Float[Tensor, "maps colours high wide"],
        bias: Float[Tensor, " maps"] | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        way_back: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "pictures maps out_height out_width"]:
        context.save_for_backward(weight)
        context.sides, context.way_back = input.shape[2:], way_back
        context.arithmetic = stride, padding, dilation
        return torch.mkldnn_convolution(input, weight, bias, padding, stride, dilation, 1)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Float[Tensor, "pictures maps height width"]) -> tuple[Tensor | None, ...]:
        (weight,) = context.saved_tensors
        stride, padding, dilation = context.arithmetic
        back = torch.mkldnn_convolution(gradient, context.way_back(weight), None, [0, 0], [1, 1], [1, 1], 1)
        if max(*weight.shape[2:], *stride, *(1 + each for each in padding)) > 1:
            back = F.fold(back.flatten(2), context.sides, weight.shape[2:], dilation, padding, stride)
        return back, *[None] * 6


def _pair(number: int | tuple[int, ...]) -> tuple[int, ...]:
    return (number, number) if isinstance(number, int) else tuple(number) * (2 // len(number))
