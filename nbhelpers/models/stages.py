"""The stages of a network: its last layer before each reduction of resolution.

Networks reduce resolution by pooling, by a strided convolution, in one branch of a block or in several at once, or
by a mean over the whole map that is no module at all. So the layers are found by what the layer table says of their
strides, whatever kind of module does the work; the kinds only tell whether something was computed in between.
"""

import math

from torch import Tensor, nn

from nbhelpers.models import loading, parts
from nbhelpers.models.examination import described
from nbhelpers.models.layer_table import Layer
from nbhelpers.models.network import Network, Size, sides

_IDLE = ("Dropout", "Dropout2d", "Identity")


def stages(network: str | nn.Module, size: Size | None = None) -> list[Layer]:
    """The last layer of each resolution at which the network computes something, from fine to coarse.

    A layer counts if convolutions run at its resolution, so the pooled maps at the end of a VGG or the global mean
    of a ResNet are no stages of their own. Where a block reduces the resolution in one of its branches (ResNet,
    Inception, ShuffleNet), the stage ends before the block: what is in a branch is only a part of the features. The
    class maps of a fully convolutional classifier (SqueezeNet) are no features and left out.

    Args:
        network: a name, a `Network` or your own module.
        size: side of the pictures in pixels, or `(height, width)`; the network's own size if not given.

    Returns:
        Layers of the table, one per stage; the last one is the deepest.

    Raises:
        ValueError: the pictures are too small for the network, it has no convolutions, or it gives neither logits nor
        maps of classes (a detector), so that its features cannot be told from its answers.
    """
    network = loading.as_network(network)
    modules = dict(network.net.named_modules())
    # adaptive pooling makes one size out of any, also a larger one, and computes nothing
    table = [layer for layer in _features(network, size or network.size) if "Adaptive" not in layer.kind]
    main = _main_path(table)
    found: list[Layer] = []
    for number, stride in enumerate(levels := sorted({table[index].stride for index in main})):
        here = [index for index in main if table[index].stride == stride]
        if not any("Conv" in table[index].kind for index in here):
            continue
        last = here[-1]
        if number + 1 < len(levels):
            last = _before(_first_at(levels[number + 1], table, main), table, modules, stride)
        while last > here[0] and table[last].kind in _IDLE:
            last -= 1
        found.append(table[last])
    if not found:
        raise ValueError(f"{network.name} has no convolutions, so there are no features to compare")
    return found


def select(network: str | nn.Module, layer: str = "", size: Size | None = None) -> tuple[Layer, list[Layer]]:
    """A layer and the stages that are finer than it.

    Args:
        network: a name, a `Network` or your own module.
        layer: dotted name; empty for the deepest stage.
        size: side of the pictures in pixels, or `(height, width)`; the network's own size if not given.

    Raises:
        KeyError, ValueError: no such layer, or one without feature maps.
    """
    network = loading.as_network(network)
    found = stages(network, size)
    chosen = loading.check_layer(network, layer, size) if layer else found[-1]
    return chosen, [each for each in found if each.stride < chosen.stride]


def _features(network: Network, size: Size) -> list[Layer]:
    """The table without maps of classes: what its last convolutions give, if it is one map per class.

    An answer that is maps counts as classes where it has the picture's own size (segmentation); else the network is a
    part of one, and gives features.
    """
    table = list(loading.layers(network, size))
    behind, answer = parts.weighted_back(network, size)
    if not isinstance(answer, Tensor) or answer.ndim < 2:
        raise ValueError(
            f"{network.name} gives {described(answer)}, no logits, so which of its layers are features and which are "
            "answers cannot be told: name a layer (models.layers lists them)"
        )
    convolutions = [index for index, layer in enumerate(table) if "Conv" in layer.kind]
    last = next(iter(behind), "")
    ends = next((place for place, index in enumerate(convolutions) if table[index].name == last), 0)
    end = len(table)
    if answer.ndim > 2 and answer.shape[2:] != sides(size):
        return table
    while ends > 0 and table[convolutions[ends]].channels == answer.shape[1]:
        end, ends = convolutions[ends], ends - 1
    return table[:end]


def _main_path(table: list[Layer]) -> list[int]:
    """Indices of layers that no finer layer follows: without the branches and gates that look ahead or aside."""
    path, finest = [], math.inf
    for index in range(len(table) - 1, -1, -1):
        if table[index].stride <= finest:
            path.append(index)
            finest = table[index].stride
    return path[::-1]


def _first_at(stride: float, table: list[Layer], main: list[int]) -> int:
    """Index of the first layer at this stride, in whichever branch; gates that shrink their map to a unit aside."""
    on_path = set(main)
    here = (index for index, layer in enumerate(table) if layer.stride == stride)
    return next(index for index in here if index in on_path or table[index].height > 1)


def _before(reducing: int, table: list[Layer], modules: dict[str, nn.Module], stride: float) -> int:
    """Index of the layer whose output is all that the reducing layer, or the block it belongs to, gets to see."""
    places = {layer.name: index for index, layer in enumerate(table)}
    name, first = table[reducing].name, reducing
    while "." in name:
        parent = name.rpartition(".")[0]
        start = min(index for index, layer in enumerate(table) if layer.name.startswith(parent + "."))
        chained = isinstance(modules[parent], nn.Sequential) and start < first
        end = places.get(parent)
        whole = end is not None and table[end].stride == table[reducing].stride
        if chained or not whole or start == 0 or table[start - 1].stride != stride:
            break
        name, first = parent, start
    return first - 1
