"""Networks by name, their layers, channels and classes.

Two small networks are bundled and load in milliseconds. Every torchvision classifier loads by its torchvision name,
through torchvision's own cache and download. A module of your own works everywhere a name does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nbhelpers import edge
from nbhelpers.models import libraries, offered, own_files
from nbhelpers.models.examination import examine, refusal, takes
from nbhelpers.models.layer_table import TURNED, Layer, LayerTable, least_size, nearest, survey, table
from nbhelpers.models.network import Network, Size, randomised_copy, sides
from nbhelpers.models.sources import (
    DEFAULT,
    bundled,
    from_bundled,
    from_own_file,
    from_torchvision,
    torchvision_names,
)


def load(
    name: str | nn.Module = DEFAULT,
    weights: str | Path | None = "DEFAULT",
    device: str | torch.device = "auto",
    classes: Sequence[str] | str | Path | None = None,
) -> Network:
    """A network by name, in evaluation mode; a module of your own as it is, with what `as_network` puts around it.

    Args:
        name: `"minivgg_robust"`, `"minivgg"` (both bundled), any torchvision classifier (`"vgg16"`), or one of another
            library: `"timm/resnet18.a1_in1k"`, `"hf/microsoft/resnet-18"`. What was offered (`offer`) under this name
            is returned as it is.
        weights: `"DEFAULT"`; one of torchvision's versions by name (`"IMAGENET1K_V1"`); a file of your own
            (`"mine.pth"`, `"mine.safetensors"`), of which nothing but tensors is read; or None for a random network,
            the same one every time, as a control. `"DEFAULT"` is torchvision's newest version; where only an older
            one has been downloaded already, that one is used and a warning says so.
        classes: names of the classes in the order of the logits, or a file of them, one a line or JSON, where the
            weights bring none or others.
        device: `"auto"` (a GPU where there is one), or a torch device.

    Returns:
        The network, normalisation inside.

    Raises:
        ValueError: unknown network or weights (the nearest names are offered), a file of weights that are not those of
            this network (says which), or not one name per class.
        FileNotFoundError: the weights are not on this machine and cannot be downloaded.
        RuntimeError: the weights file is damaged.
    """
    if isinstance(name, Named | nn.Module):
        return as_network(name)
    if name in offered.offered() and weights == "DEFAULT" and classes is None:
        return offered.offered()[name]
    if own_files.is_file_of_weights(name):
        raise ValueError(
            f"{name} is a file of weights, which does not say what network they belong to. Name it: "
            f"load('resnet18', weights={name!r})"
        )
    own = own_files.is_file_of_weights(weights)
    if libraries.of_a_library(name):
        network = libraries.from_library(name, weights)
    elif name in bundled():
        network = (from_own_file if own else from_bundled)(name, weights)
    elif name in torchvision_names():
        network = (from_own_file if own else from_torchvision)(name, weights)
    else:
        raise ValueError(
            f"no network is called {name!r}. {nearest(name, [*offered.offered(), *bundled(), *torchvision_names()])}"
        )
    if classes is not None:
        network.classes = own_files.class_names(classes, class_count(network))
    return network.eval().to(chosen_device(device))


def chosen_device(device: str | torch.device = "auto") -> torch.device:
    """The device of this name; of `"auto"` a GPU where there is one."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


class Named(str):
    """A network's name that carries the module: what a recipe holds where a module was given in place of a name."""

    module: nn.Module

    @classmethod
    def of(cls, module: nn.Module) -> Named:
        """The name of a module, and with it the module."""
        name = cls(as_network(module).name)
        name.module = module
        return name


def as_network(network: str | nn.Module) -> Network:
    """The network itself, whichever way it was named.

    Args:
        network: a name for `load`; a `Network`, returned as it is; or your own module, which takes pictures
            `(B, 3, H, W)` in [0, 1]. Nothing is added to it. For another picture size than 224, class names or
            a normalisation, wrap it yourself: `Network(module, "mine", size=64)`.

    Raises:
        TypeError: neither a name nor a module.
    """
    if isinstance(network, Named):
        return as_network(network.module)
    if isinstance(network, Network):
        return network
    if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return as_network(network.module)
    if isinstance(network, nn.Module):
        compiled = getattr(network, "_orig_mod", None)  # asking for the class would load torch's compiler, a second
        return as_network(compiled) if isinstance(compiled, nn.Module) else Network(network)
    if isinstance(network, str):
        return load(network)
    raise TypeError(f"expected a network's name or an nn.Module, got {type(network).__name__}: {network!r:.80}")


def randomised(network: str | nn.Module, seed: int = 0) -> Network:
    """A copy with nothing learned left in it, for controls.

    Convolutions and linear layers are drawn anew so that a ReLU network neither fades nor explodes (He et al. 2015);
    with torch's own default the picture would drown in the biases after a few layers, and a control that sees
    nothing proves nothing. Other layers return to their initial state. A parameter that no layer knows how to draw
    (a class token, a layer scale) keeps its values in shuffled order.

    Args:
        network: left as it is.
        seed: the same seed gives the same copy, on any device; the global random state is not touched.

    Returns:
        A network of the same architecture, size, normalisation and class names, on the same device.

    Source: Adebayo et al. 2018, Sanity Checks for Saliency Maps.
    """
    return randomised_copy(as_network(network), seed)


def find_module(network: nn.Module, layer: str) -> nn.Module:
    """The module with this dotted name; "" is the bare network itself.

    Raises:
        KeyError: no module has this name; the nearest ones are offered.
    """
    net, name = (network.net, network.name) if isinstance(network, Network) else (network, type(network).__name__)
    modules = dict(net.named_modules(remove_duplicate=False))
    if layer not in modules:
        raise KeyError(f"{name} has no layer {layer!r}. {nearest(layer, [known for known in modules if known])}")
    return modules[layer]


def first_name(network: nn.Module, layer: str) -> str:
    """The first of a module's names: one that is used in two places has two, and tables list it once."""
    net = network.net if isinstance(network, Network) else network
    module = find_module(network, layer)
    return next(name for name, each in net.named_modules() if each is module)


def layers(network: str | nn.Module, size: Size | None = None) -> LayerTable:
    """Every layer that gives feature maps, in the order of execution.

    Args:
        network: a name, a `Network` or your own module.
        size: side of the pictures in pixels, or (height, width); the network's own size if not given.

    Returns:
        A table of `Layer(name, kind, channels, height, width, stride, receptive_field)`, by number or by name.

    Raises:
        ValueError: the pictures are too small (says the least size), or the network has no feature maps.
    """
    network = as_network(network)
    return table(network, size or network.size)


def check_layer(network: str | nn.Module, layer: str, size: Size | None = None) -> Layer:
    """What is known of a layer that must give feature maps, at this picture size.

    Args:
        network: a name, a `Network` or your own module.
        layer: dotted name.
        size: side of the pictures in pixels, or (height, width); the network's own size if not given.

    Raises:
        KeyError: no layer has this name; the nearest ones are offered.
        ValueError: the layer gives no feature maps, or none at this size (says the least size).
    """
    network = as_network(network)
    size = size or network.size
    module = find_module(network, layer)
    known = first_name(network, layer)
    for count in (0, 1):
        found, error = survey(network, size, until=known, count=count)
        for each in found:
            if each.name == known:
                return replace(each, name=layer)
        if error is None:
            break
        least = least_size(network, known)
        if least is not None and least > min(sides(size)):
            height, width = sides(size)
            raise ValueError(
                f"pictures of {height if height == width else f'{height} x {width}'} pixels are too small for layer "
                f"{layer!r} of {network.name}: at least {least} pixels"
            ) from error
    if error is not None:
        raise refusal(network, size, error) from error
    kind = type(module).__name__
    raise ValueError(
        f"layer {layer!r} of {network.name} ({kind}) gives no feature maps (B, channels, height, width). "
        "layers(network) lists those that do"
    )


def check_layout(network: nn.Module, layers: Iterable[str], size: Size) -> None:
    """Refuses layers whose channels come last, as transformers have them: read as maps they would be taken wrongly.

    Args:
        network: a `Network` or your own module.
        layers: dotted names; those that give no maps at all pass.
        size: side of the pictures in pixels, or (height, width).

    Raises:
        ValueError: names the layer.
    """
    if not any(isinstance(module, nn.LayerNorm) for module in network.modules()):
        return
    network = as_network(network)
    for layer in layers:
        found, _ = survey(network, size, until=first_name(network, layer), axes=TURNED) if layer else ([], None)
        if any(each.name == first_name(network, layer) for each in found):
            raise ValueError(
                f"layer {layer!r} of {network.name} gives (B, height, width, channels), no feature maps "
                "(B, channels, height, width): choose one of models.layers(network)"
            )


def check_channels(network: str | nn.Module, layer: str, channels: Sequence[int], size: Size | None = None) -> Layer:
    """The layer, after making sure that it has these channels.

    Args:
        network: a name, a `Network` or your own module.
        layer: dotted name.
        channels: numbers from 0.
        size: side of the pictures in pixels, or (height, width); the network's own size if not given.

    Raises:
        KeyError, ValueError: as `check_layer`, and ValueError for a channel out of range (says how many there are).
    """
    found = check_layer(network, layer, size)
    wrong = [channel for channel in channels if not 0 <= channel < found.channels]
    if wrong:
        raise ValueError(
            f"layer {layer!r} has {found.channels} channels, 0 to {found.channels - 1}: "
            f"there is no channel {edge.few(wrong)}"
        )
    return found


def photo_fit(network: Network, size: Size, fit: str) -> dict[str, Any]:
    """How `images.read` brings a photo to what this network takes: its `fit` and `stride`.

    Args:
        network: one that takes nothing but the square of this size gets whole photos inside the square.
        size: shorter side of the photos in pixels, or `(height, width)` of all.
        fit: "whole", "crop" or "pad", as `images.read` explains them.
    """
    if fit != "whole":
        return {"fit": fit}
    if not isinstance(size, int) or not takes(network, (size, 2 * size)):
        return {"fit": "pad"}
    strides = [layer.stride for layer in layers(network, size) if layer.stride < size]
    return {"fit": "whole", "stride": max(1, round(max(strides, default=1)))}


def class_count(network: Network, size: Size | None = None) -> int:
    """How many classes a network has names for, or logits at this picture size.

    Raises:
        ValueError: it has neither, or does not take such pictures.
    """
    if network.classes is not None:
        return len(network.classes)
    examination = examine(network, size or network.size)
    if examination.classes is None:
        raise ValueError(
            f"{network.name} gives {examination.output}, expected class logits (B, classes): say where "
            "they are, Network(module, output=lambda out: ...)"
        )
    return examination.classes
