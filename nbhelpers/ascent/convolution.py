"""Convolutions that give the same bits on one thread and on many, for one picture and for several.

torch chooses how to convolve by the number of threads and of pictures, and oneDNN's way back through a stride cuts the
rows among the threads: the last bits differ, and an ascent of a hundred steps by Adam makes another picture of them.
Here every convolution on a processor is oneDNN's own forward one, and so is the way back: with no stride it is the
convolution with the kernel turned by half a circle, with a stride it is what each unit gives back, added up where the
kernel stood (Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, sections 4.1 and 4.5).
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
Pictures = Float[Tensor, "pictures channels height width"]


class SteadyConvolutions(TorchFunctionMode):
    """Within it, two-dimensional convolutions on a processor are the same on any number of threads.

    Those whose weights want a gradient, in double precision, or padded by a word are left as torch has them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._turned: dict[Tensor, Tensor] = {}  # kernels for the way back, by those of the way there

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
        stride, dilation = _pair(stride), _pair(dilation)
        steady = (
            torch.backends.mkldnn.is_available()
            and (input.ndim, input.device.type) == (4, "cpu")
            and input.dtype in TYPES
            and input.dtype == weight.dtype
            and not weight.requires_grad
            and not isinstance(padding, str)
        )
        if not steady:
            return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
        return _Convolution.apply(input, weight, bias, stride, _pair(padding), dilation, groups, self._way_back)

    def _way_back(self, weight: Tensor, turn: bool, groups: int) -> Tensor:
        """The kernel that carries a gradient back: turned, or one of a single unit for each weight."""
        if weight in self._turned:
            return self._turned[weight]
        maps, colours, *sides = weight.shape
        grouped = weight.reshape(groups, maps // groups, colours, *sides)
        if turn:
            kernel = grouped.flip(3, 4).transpose(1, 2).reshape(groups * colours, maps // groups, *sides)
        else:
            kernel = grouped.permute(0, 2, 3, 4, 1).reshape(-1, maps // groups, 1, 1)
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        if isinstance(weight, nn.Parameter):  # others are computed anew in every pass
            self._turned[weight] = kernel
        return kernel


def steadily(look: Callable[[Pictures], Any]) -> Callable[[Pictures], Any]:
    """The same pass with steady convolutions."""
    steady = SteadyConvolutions()

    def within(pictures: Pictures) -> Any:
        with steady:
            return look(pictures)

    return within


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        input: Float[Tensor, "pictures colours height width"],
        weight: Float[Tensor, "maps colours_each high wide"],
        bias: Float[Tensor, " maps"] | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
        way_back: Callable[..., Tensor],
    ) -> Float[Tensor, "pictures maps out_height out_width"]:
        context.save_for_backward(weight)
        context.sides, context.way_back = input.shape[2:], way_back
        context.arithmetic = stride, padding, dilation, groups
        return torch.mkldnn_convolution(input, weight, bias, padding, stride, dilation, groups)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Float[Tensor, "pictures maps height width"]) -> tuple[Tensor | None, ...]:
        (weight,) = context.saved_tensors
        stride, padding, dilation, groups = context.arithmetic
        sides = weight.shape[2:]
        around = [each * (side - 1) - pad for each, side, pad in zip(dilation, sides, padding, strict=True)]
        turn = max(stride) == 1 and min(around) >= 0
        kernel = context.way_back(weight, turn, groups)
        if turn:
            back = torch.mkldnn_convolution(gradient, kernel, None, around, [1, 1], dilation, groups)
        else:
            given = torch.mkldnn_convolution(gradient, kernel, None, [0, 0], [1, 1], [1, 1], groups)
            back = F.fold(given.flatten(2), context.sides, sides, dilation, padding, stride)
        return back, *[None] * 7


def _pair(number: int | tuple[int, ...]) -> tuple[int, ...]:
    return (number, number) if isinstance(number, int) else tuple(number) * (2 // len(number))
