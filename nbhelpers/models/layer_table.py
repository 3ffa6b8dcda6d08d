"""The layers of a network that give feature maps: name, size, stride and receptive field of each, in order.

One pass over a batch of no pictures tells every shape without any arithmetic, in milliseconds whatever the
network's size. It runs a copy, so hooks and modes of the original do not matter. `nbhelpers.models.layers` is the
way in.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nbhelpers import edge
from nbhelpers.models.examination import refusal
from nbhelpers.models.network import Network, Size, quiet_copy, sides
from nbhelpers.models.receptive_field import Field, Watch


@dataclass(frozen=True)
class Layer:
    """One layer that gives feature maps `(B, channels, height, width)`.

    `stride` is the shift in the picture, in pixels, from a unit's view to its neighbour's; `receptive_field` the side
    of that view (the longer one where it is not square), infinite where every unit sees the whole picture.
    """

    name: str
    kind: str
    channels: int
    height: int
    width: int
    stride: float
    receptive_field: float


class LayerTable(Sequence[Layer]):
    """Layers in the order of execution: by number, by slice, by name; shows itself as text and in a notebook."""

    HEADINGS = ("layer", "kind", "channels", "size", "stride", "receptive field")

    def __init__(self, layers: Sequence[Layer], title: str) -> None:
        self.layers = list(layers)
        self.title = title

    @property
    def names(self) -> list[str]:
        """Dotted names, in order."""
        return [layer.name for layer in self.layers]

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, key: int | slice | str) -> "Layer | LayerTable":
        if isinstance(key, slice):
            return LayerTable(self.layers[key], self.title)
        if isinstance(key, str):
            for layer in self.layers:
                if layer.name == key:
                    return layer
            raise KeyError(f"no layer {key!r} gives feature maps in {self.title}. {nearest(key, self.names)}")
        return self.layers[key]

    def __contains__(self, item: object) -> bool:
        return item in (self.names if isinstance(item, str) else self.layers)

    def __str__(self) -> str:
        rows = [self.HEADINGS, *map(_cells, self.layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        aligned = [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([self.title, *aligned])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def row(tag: str, cells: Sequence[str]) -> str:
            sides = ["left", "left", *["right"] * (len(cells) - 2)]
            return "".join(
                f'<{tag} style="text-align: {side}">{html.escape(cell)}</{tag}>'
                for side, cell in zip(sides, cells, strict=True)
            )

        body = "\n".join(f"<tr>{row('td', _cells(layer))}</tr>" for layer in self.layers)
        head = f"<thead><tr>{row('th', self.HEADINGS)}</tr></thead>"
        return f"<table><caption>{html.escape(self.title)}</caption>{head}\n<tbody>\n{body}\n</tbody></table>"


def _cells(layer: Layer) -> tuple[str, ...]:
    seen = "whole picture" if math.isinf(layer.receptive_field) else f"{layer.receptive_field:g}"
    size = f"{layer.height} x {layer.width}"
    return (layer.name, layer.kind, str(layer.channels), size, f"{layer.stride:g}", seen)


def table(network: Network, size: Size) -> LayerTable:
    """Every named layer of a network that gives feature maps, for pictures of `size` pixels.

    Raises:
        ValueError: the pictures are too small or otherwise not what the network takes (says the cause), or it has no
            feature maps.
    """
    found, error = survey(network, size)
    title, (height, width) = network.name, sides(size)
    if error is not None:
        least = least_size(network)
        if least is not None and least > min(height, width):
            side = height if height == width else f"{height} x {width}"
            raise ValueError(f"pictures of {side} pixels are too small for {title}: at least {least} pixels") from error
        # some modules cannot run an empty batch: `view(len(x), -1)`
        found, error = survey(network, size, count=1)
    if error is not None:
        raise refusal(network, size, error) from error
    if not found:
        raise ValueError(f"{title} has no feature maps: no layer's output has the shape (B, channels, height, width)")
    convolutions = [layer for layer in found if layer.kind == "Conv2d"]
    if len(convolutions) < 2 and any(isinstance(module, nn.LayerNorm) for module in network.net.modules()):
        raise ValueError(
            f"{title} has no feature maps: it cuts the picture into patches ({found[0].name!r}) and is a transformer "
            "from there on, without channels to look at. Take a convolutional network"
        )
    return LayerTable(found, f"{title}, pictures of {height} x {width} pixels")


MAPS = (2, 3)  # of (picture, channel, down, across)
TURNED = (1, 2)  # of (picture, down, across, channel), as transformers have it


class _Reached(Exception):
    """The layer asked for has been seen."""


def survey(
    network: Network, size: Size, until: str | None = None, count: int = 0, axes: tuple[int, int] = MAPS
) -> tuple[list[Layer], Exception | None]:
    """The layers that a picture passes, and the error that it ran into on the way, if it did.

    Args:
        network: a copy is run.
        size: side of the picture in pixels, or (height, width).
        until: stop after this layer.
        count: pictures in the batch; with 0 nothing is computed.
        axes: which of a layer's axes run down and across the picture.
    """
    found: dict[str, Layer] = {}
    watch = Watch()

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            if name not in found and isinstance(output, Tensor) and output.ndim == 4:
                field = watch.field(output)
                if field is None and any(isinstance(each, Tensor) and watch.field(each) for each in inputs):
                    field = watch.lost(output)
                if field is not None and field.axes == axes and min(output.shape[1:]) > 0:
                    found[name] = _measured(name, type(module).__name__, output, field, sides(size)[0])
            if name == until:
                raise _Reached

        return hook

    error = None
    try:
        double = quiet_copy(network)
        for name, module in double.net.named_modules():
            if name:
                module.register_forward_hook(note(name))
        pictures = double.normalise(torch.zeros(count, network.channels, *sides(size)))
        with torch.no_grad(), watch:
            double.net(watch.start(pictures))
    except _Reached:
        pass
    except Exception as caught:  # a module of the user's own may raise anything
        error = caught
    return list(found.values()), error


def least_size(network: Network, layer: str | None = None) -> int | None:
    """The least picture side, in pixels, at which a layer (or the whole network) still has a unit.

    Returns:
        Pixels, or None where no size up to 2048 works or the module cannot run an empty batch.
    """

    def fits(size: int) -> bool:
        found, error = survey(network, size, until=layer)
        return error is None and (layer is None or any(each.name == layer for each in found))

    enough = next((size for size in (2**power for power in range(12)) if fits(size)), None)
    if enough is None:
        return None
    too_small = enough // 2
    while enough - too_small > 1:
        middle = (enough + too_small) // 2
        enough, too_small = (middle, too_small) if fits(middle) else (enough, middle)
    return enough


def nearest(name: str, known: Sequence[str]) -> str:
    """A sentence that offers the names closest to one that is not known."""
    close = edge.close(name, known, most=4)
    if close:
        return f"Nearest: {', '.join(close)}"
    return f"There are: {edge.few(known)}"


def _measured(name: str, kind: str, output: Tensor, field: Field, size: int) -> Layer:
    _, channels, height, width = output.shape
    stride = max(field.down.stride, field.across.stride)
    stride = size / height if math.isnan(stride) else stride
    return Layer(name, kind, channels, height, width, _tidy(stride), _tidy(max(field.down.size, field.across.size)))


def _tidy(number: float) -> float:
    return int(number) if float(number).is_integer() else number
