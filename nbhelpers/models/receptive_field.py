"""How much of the picture one unit of a layer sees, and how far its neighbour's view is shifted.

Unit i of a layer sees the pixels from `low + i * stride` to `high + i * stride`. Every operation of a network turns
such a span into another one by a line of arithmetic, so it is enough to watch the operations of one forward pass:
`Watch` does so for any module, also with a batch of no pictures, where nothing is computed.

A squeeze to one number per channel, attention, or a normalisation over the whole map makes the span infinite: the
unit sees the whole picture. Upsampling gives spans exact in size, and placed to within half a unit.

Source: Araujo, Norris and Sim 2019, Computing Receptive Fields of Convolutional Neural Networks, Distill.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Window(NamedTuple):
    """What one output unit takes from its input, along one axis, in units of the input."""

    centre: float  # of the first output unit's window
    extent: float  # from the first to the last unit in the window
    step: float  # from one output unit's window to the next


class Span(NamedTuple):
    """The pixels that the first unit sees along one axis, and the shift from unit to unit."""

    low: float
    high: float
    stride: float

    @property
    def size(self) -> float:
        """Pixels seen by one unit; infinite where it is the whole picture."""
        return self.high - self.low + 1

    def through(self, window: Window) -> "Span":
        """The span after an operation with this window."""
        if math.isinf(self.low):
            return self._replace(stride=self.stride * window.step)
        low = self.low + (window.centre - window.extent / 2) * self.stride
        high = self.high + (window.centre + window.extent / 2) * self.stride
        return Span(low, high, self.stride * window.step)

    def whole(self) -> "Span":
        return Span(-math.inf, math.inf, self.stride)


class Field(NamedTuple):
    """The spans of a tensor's units; `axes` says which of its dimensions run down and across (None: mixed up)."""

    down: Span
    across: Span
    axes: tuple[int, int] | None = (2, 3)

    def whole(self, axes: tuple[int, int] | None) -> "Field":
        spans = self.down.whole(), self.across.whole()
        # where the dimensions are mixed up, how far apart two units look is no longer known
        return Field(*(spans if axes else (span._replace(stride=math.nan) for span in spans)), axes)


PIXELS = Field(Span(0, 0, 1), Span(0, 0, 1))


class Watch(TorchFunctionMode):
    """While active, follows the field of every tensor that comes from a picture given to `start`."""

    def start(self, pictures: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Declare that these are pixels, `(B, C, H, W)`; the same tensor is returned."""
        pictures._field = PIXELS
        return pictures

    def lost(self, output: Shaped[Tensor, "..."]) -> Field:
        """Declare that this tensor comes from the picture in a way we could not see."""
        output._field = PIXELS.whole(None)._replace(axes=(output.ndim - 2, output.ndim - 1))
        return output._field

    def field(self, tensor: Shaped[Tensor, "..."]) -> Field | None:
        """The field of a tensor's units, or None where it does not come from the picture in any way we saw."""
        return getattr(tensor, "_field", None)

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        sources = [tensor for tensor in _tensors((*args, *kwargs.values())) if hasattr(tensor, "_field")]
        # noted first: an operation in place changes them
        before = [(tensor.shape, tensor._field) for tensor in sources]
        output = func(*args, **kwargs)
        if sources:
            for tensor in _tensors((output,)):
                try:
                    tensor._field = _follow(func, before, tensor, args, kwargs)
                except (TypeError, ValueError, KeyError, IndexError):  # called in a way that is not foreseen here
                    tensor._field = before[0][1].whole(None)
        return output


def _tensors(values: Iterable) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _follow(func: Callable, before: list[tuple[torch.Size, Field]], output: Tensor, args: tuple, kwargs: dict) -> Field:
    name = getattr(func, "__name__", "").strip("_")  # Tensor.__getitem__, relu_
    shape, field = before[0]
    if name in WINDOWS:
        windows = WINDOWS[name](shape, output.shape, *args[1:], **kwargs)
        if field.axes is None:
            return field.whole((output.ndim - 2, output.ndim - 1))
        return Field(field.down.through(windows[0]), field.across.through(windows[1]), field.axes)
    if field.axes is not None and name in PERMUTATIONS:
        # the same on a tensor whose sizes tell its dimensions apart
        marker = torch.empty(()).expand([1000 + axis for axis in range(len(shape))])
        moved = func(marker, *args[1:], **kwargs).shape
        return field._replace(axes=tuple(moved.index(1000 + axis) for axis in field.axes))
    if field.axes is not None and name in ("pad", "getitem") and output.ndim == len(shape):
        windows = (_padding if name == "pad" else _slicing)(shape, args[1] if len(args) > 1 else kwargs["pad"])
        down, across = (windows.get(axis, Window(0, 0, 1)) for axis in field.axes)
        return Field(field.down.through(down), field.across.through(across), field.axes)
    if field.axes is not None and name in REDUCTIONS and output.ndim == len(shape) and len(before) == 1:
        spans = [
            span.through(Window(0, math.inf, shape[axis])) if output.shape[axis] != shape[axis] else span
            for span, axis in zip(field[:2], field.axes, strict=True)
        ]
        return Field(*spans, field.axes)
    if (output.ndim != len(shape) and len(before) == 1) or name in ("view", "reshape"):
        axes = field.axes and _where(shape, field.axes, output.shape)
        return field._replace(axes=axes) if axes else field.whole(None)
    return _pointwise(name, before, output, args, kwargs)


def _pointwise(name: str, before: list, output: Tensor, args: tuple, kwargs: dict) -> Field:
    """The union of what the operands see, where they line up unit by unit; else the whole picture."""
    aligned = []
    for shape, field in before:
        if field.axes is not None:
            axes = tuple(axis + output.ndim - len(shape) for axis in field.axes)
            sizes = [(shape[axis], output.shape[new]) for axis, new in zip(field.axes, axes, strict=True) if new >= 0]
            if len(sizes) == 2 and all(size in (1, new) for size, new in sizes):
                # an operand of one unit is spread over all units, so its stride says nothing
                aligned.append((-math.prod(size for size, _ in sizes), field._replace(axes=axes)))
    if not aligned:
        shape, field = before[0]
        if field.axes is None or output.ndim != len(shape):
            return field.whole(None)
        # an operation nobody here knows: taken to see the whole map and to keep the order of the dimensions
        scales = (Window(0, math.inf, shape[axis] / max(output.shape[axis], 1)) for axis in field.axes)
        return Field(*(span.through(window) for span, window in zip(field[:2], scales, strict=True)), field.axes)
    fields = [field for _, field in sorted(aligned, key=lambda pair: pair[0])]
    axes = fields[0].axes
    mixed = name in GLOBAL or (name == "layer_norm" and _normalises(args, kwargs, output.ndim, axes))
    mixed |= name == "linear" and output.ndim - 1 in axes
    if mixed or len(aligned) < len(before):
        return fields[0].whole(axes)
    return Field(_union([field.down for field in fields]), _union([field.across for field in fields]), axes)


def _union(spans: list[Span]) -> Span:
    stride = next((span.stride for span in spans if not math.isnan(span.stride)), math.nan)
    return Span(min(span.low for span in spans), max(span.high for span in spans), stride)


def _normalises(args: tuple, kwargs: dict, dimensions: int, axes: tuple[int, int]) -> bool:
    normalised = args[1] if len(args) > 1 else kwargs["normalized_shape"]
    return max(axes) >= dimensions - len(normalised)


def _where(shape: torch.Size, axes: tuple[int, int], new: torch.Size) -> tuple[int, int] | None:
    """Where two dimensions are after a reshape that leaves them alone: same size, and as much behind them."""
    found = []
    for axis in axes:
        behind = math.prod(shape[axis + 1 :])
        places = [i for i, size in enumerate(new) if size == shape[axis] and math.prod(new[i + 1 :]) == behind]
        found += places[-1:]
    return tuple(found) if len(found) == 2 and found[0] != found[1] else None


# One function per operation with a window, called with the shapes before and after and the operation's own arguments.


def _pair(value: Any) -> tuple:
    return tuple(value) * (2 // len(value)) if isinstance(value, list | tuple) else (value, value)


def _sliding(kernel: Any, stride: Any, padding: Any, dilation: Any) -> list[Window]:
    return [
        Window(dilation * (kernel - 1) / 2 - padding, dilation * (kernel - 1), stride)
        for kernel, stride, padding, dilation in zip(*map(_pair, (kernel, stride, padding, dilation)), strict=True)
    ]


def _convolution(shape, new, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> list[Window]:
    kernel = tuple(weight.shape[2:])
    if padding == "same":
        padding = [d * (k - 1) // 2 for d, k in zip(_pair(dilation), kernel, strict=True)]
    return _sliding(kernel, stride, 0 if padding == "valid" else padding, dilation)


def _transposed(shape, new, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    return [
        Window((p - d * (k - 1) / 2) / s, d * (k - 1) // s, 1 / s)
        for k, s, p, d in zip(weight.shape[2:], *map(_pair, (stride, padding, dilation)), strict=True)
    ]


def _max_pool(shape, new, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    return _sliding(kernel_size, stride or kernel_size, padding, dilation)


def _average_pool(shape, new, kernel_size, stride=None, padding=0, *rest, **options) -> list[Window]:
    return _sliding(kernel_size, stride or kernel_size, padding, 1)


def _lp_pool(shape, new, norm_type, kernel_size, stride=None, ceil_mode=False) -> list[Window]:
    return _sliding(kernel_size, stride or kernel_size, 0, 1)


def _adaptive(shape, new, *rest, **options) -> list[Window]:
    windows = []
    for before, after in zip(shape[-2:], new[-2:], strict=True):
        # bins run from floor(i * before / after) to ceil((i + 1) * before / after)
        largest = max(-(-(i + 1) * before // after) - i * before // after for i in range(after))
        extent = math.inf if after == 1 else largest - 1
        windows.append(Window(extent / 2 if after > 1 else 0, extent, before / after))
    return windows


def _interpolation(shape, new, *rest, mode="nearest", antialias=False, **options) -> list[Window]:
    extent = {"bilinear": 1, "bicubic": 3}.get(mode, 0)
    ratios = [before / after for before, after in zip(shape[-2:], new[-2:], strict=True)]
    return [Window(ratio / 2 - 0.5, extent * (max(1, ratio) if antialias else 1), ratio) for ratio in ratios]


def _padding(shape: torch.Size, amounts: Sequence[int]) -> dict[int, Window]:
    return {len(shape) - 1 - i: Window(-amounts[2 * i], 0, 1) for i in range(len(amounts) // 2)}


def _slicing(shape: torch.Size, index: Any) -> dict[int, Window]:
    index = list(index) if isinstance(index, tuple) else [index]
    place = next((i for i, part in enumerate(index) if part is Ellipsis), None)
    if place is not None:
        index[place : place + 1] = [slice(None)] * (len(shape) - len(index) + 1)
    windows = {}
    for axis, part in enumerate(index):
        start, _, step = part.indices(shape[axis]) if isinstance(part, slice) else (0, 0, 0)
        windows[axis] = Window(start, 0 if step else math.inf, step or 1)
    return windows


WINDOWS: dict[str, Callable[..., list[Window]]] = {
    "conv2d": _convolution,
    "conv_transpose2d": _transposed,
    "max_pool2d": _max_pool,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _average_pool,
    "lp_pool2d": _lp_pool,
    "adaptive_avg_pool2d": _adaptive,
    "adaptive_max_pool2d": _adaptive,
    "adaptive_max_pool2d_with_indices": _adaptive,
    "interpolate": _interpolation,
    # sees one unit; here because its maps are known to run (channel, down, across)
    "batch_norm": lambda shape, new, *rest, **options: [Window(0, 0, 1)] * 2,
}
PERMUTATIONS = {"permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "unsqueeze"}
REDUCTIONS = {"mean", "sum", "amax", "amin", "max", "min", "std", "var", "norm", "vector_norm", "logsumexp"}
GLOBAL = {
    "matmul",
    "bmm",
    "einsum",
    "scaled_dot_product_attention",
    "multi_head_attention_forward",
    "group_norm",
    "instance_norm",
    "roll",
}
