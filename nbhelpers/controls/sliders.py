"""Which widget suits a recipe's field: its type, range and description decide, and for layers and channels the network.

A widget's value is not always the field's: one channel stands for a list of one, typed text for numbers; `from_slider`
translates.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from types import NoneType
from typing import Any

import ipywidgets as widgets
from IPython import get_ipython
from torch import nn

from nbhelpers import models
from nbhelpers.ascent.objectives import OUTPUT
from nbhelpers.controls.photo_picker import PhotoPicker
from nbhelpers.models import class_count
from nbhelpers.recipes import Recipe, bounds, choices, types

CHANNELS = ("channels", "channel")  # parameters whose range is the layer's
PHOTOS = ("photo", "photos", "start", "second")  # parameters that are a path to a photo, or to a folder of them
APART = " · "  # between a name and what is told about it
CLASSES = ("target", "rival", "classes")  # parameters that name a class, or several
UNITS = {"in pixels": " (px)", "in degrees": " (°)"}  # as descriptions name them, and as labels do
LAYERS = ("layer", "penalty_layer", "drawn")  # that name a layer; the others have as many channels as the first
_PLAIN = {"ReLU", "ReLU6", "BatchNorm2d", "MaxPool2d", "AvgPool2d", "Dropout", "Dropout2d", "SiLU", "Hardswish"}


def slider(recipe: Recipe, name: str, network: models.Network, options: Sequence[Any] | None) -> widgets.Widget:
    """The widget that suits a field: its type, range, and description decide."""
    field = type(recipe).model_fields[name]
    value = getattr(recipe, name)
    common = {
        "description": _label(name, field.description),
        "tooltip": field.description,
        "style": {"description_width": "9em"},
        "layout": widgets.Layout(width="auto"),
    }
    if name in LAYERS:
        return widgets.Dropdown(options=_layer_options(network, value, options), value=value, **common)
    if name in CHANNELS and "layer" in type(recipe).model_fields and options is None:
        last = last_channel(network, recipe.layer)
        first = (value[0] if value else 0) if isinstance(value, list) else value
        return widgets.IntSlider(first, 0, last, **{**common, "description": "channel"})
    options = options or choices(type(recipe), name)
    if name == "map":  # many, and by name rather than by degree
        return widgets.Dropdown(options=options, value=value, **common)
    if not options and name == "network":
        _keep(value)
        return _typed(value, network_names(), common)
    if not options and name in CLASSES and (network.classes or not isinstance(value, list)):
        return _typed(_as_text(recipe, name), class_names(network), common)
    if not options and name in PHOTOS and isinstance(value, str):
        common.pop("style")
        return PhotoPicker(value, **common)
    if options:
        return widgets.SelectionSlider(options=options, value=value, **common)
    low, high = bounds(type(recipe), name)
    if isinstance(value, bool):
        return widgets.Checkbox(value, **common)
    if isinstance(value, int) and NoneType not in types(type(recipe), name):  # a slider can't be set to None
        return widgets.IntSlider(value, low or 0, high or max(4 * value, 100), **common)
    if isinstance(value, float):
        high = high if high is not None else max(4 * value, 1.0)
        low = low or 0.0
        small = 0 < value < (high - low) / 50  # in a wide range it is set by its order of magnitude
        step = _on_grid(10 ** math.floor(math.log10(high - low)) / 20, value - low)
        if _excluded(type(recipe), name, "gt", low):
            low = min(low + step, value)
        if _excluded(type(recipe), name, "lt", high):
            high = max(high - step, value)
        if small:
            least, most = math.log10(value) - 2, math.log10(high)  # so that the value itself is a stop
            return widgets.FloatLogSlider(
                value, min=least, max=most, readout_format=".1e" if value < 1e-3 else ".2", **common
            )
        return widgets.FloatSlider(value, min=low, max=high, step=step, readout_format=".3", **common)
    return widgets.Text(_as_text(recipe, name), continuous_update=False, **common)


def _label(name: str, description: str) -> str:
    """A field's name, with the unit that its description names."""
    unit = next((short for unit, short in UNITS.items() if unit in description), "")
    return f"{name.replace('_', ' ')}{unit}"


def _excluded(kind: type[Recipe], name: str, limit: str, end: float) -> bool:
    """Whether a field refuses this end of its range ("gt", "lt"), which a slider could reach otherwise."""
    return any(getattr(constraint, limit, None) == end for constraint in kind.model_fields[name].metadata)


def last_channel(network: models.Network, layer: str) -> int:
    """The greatest channel number of a layer, or the greatest class number where the layer is the logits."""
    if layer != OUTPUT:
        return models.check_layer(network, layer).channels - 1
    return class_count(network) - 1


def from_slider(recipe: Recipe, name: str, value: Any) -> Any:
    if name == "channels" and isinstance(value, int):
        return [value]
    if name == "network" and isinstance(value, str):
        return _network(value)
    if name in CLASSES and isinstance(value, str):
        value = value.partition(APART)[0].strip()
    return _from_text(value, types(type(recipe), name)) if isinstance(value, str) else value


def _from_text(text: str, kinds: list[Any]) -> Any:
    """What was typed: `a, b` is a list, with brackets and quotes or without; nothing is None where that is allowed."""
    if NoneType in kinds and text.strip() in ("", "None"):
        return None
    if not {list, tuple} & set(kinds):
        return text
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        value = [part.strip() for part in text.strip("[] ").split(",") if part.strip()]
    if isinstance(value, list | tuple):
        return list(value)
    return value if type(value) in kinds else [value]


def to_slider(recipe: Recipe, name: str, slider: widgets.Widget) -> Any:
    """The value of a slider that stands for what the recipe has."""
    value = getattr(recipe, name)
    if isinstance(slider, widgets.IntSlider) and isinstance(value, list | tuple):
        return value[0] if value else 0
    return _as_text(recipe, name) if isinstance(slider, widgets.Text | widgets.Combobox) else value


def _as_text(recipe: Recipe, name: str) -> str:
    """A value as people type it: a list without brackets and quotes, where that is read as the same list."""
    value = getattr(recipe, name)
    if isinstance(value, list):
        text = ", ".join(map(str, value))
        if _from_text(text, [list]) == value:
            return text
    return "" if value is None else str(value)


def offer_layers(slider: widgets.Dropdown, value: str, network: models.Network, options: Sequence[Any] | None) -> None:
    """Let a slider offer a network's layers, and stand on one of them."""
    slider.options = _layer_options(network, value, options)  # which selects the first
    slider.value = value


def offer_classes(slider: widgets.Combobox, network: models.Network, shares: Sequence[tuple[str, float]] = ()) -> None:
    """Let a slider offer a network's classes, those that a photo is given first."""
    slider.options = class_names(network, shares)


def carried_over(recipe: Recipe, begun: Recipe, before: models.Network, after: models.Network) -> dict[str, Any]:
    """What a recipe's layers, classes and size become when another network takes the place of its own.

    Args:
        recipe: as it is set now.
        begun: as it was first; photos are at least as large as there, and as the network is at home with, unless their
            size was set by hand since and the other network takes it.
        before: the recipe's network.
        after: the one that takes its place.
    """
    fields = type(recipe).model_fields
    changes: dict[str, Any] = {}
    for name in [name for name in LAYERS if name in fields]:
        first = changes.get(LAYERS[0]) if name != LAYERS[0] else None
        changes[name] = nearest_layer(before, getattr(recipe, name), after, first)
    for name in [name for name in CLASSES if name in fields]:
        value = getattr(recipe, name)
        changes[name] = value if _known(after, value) else _first_class(fields[name], after, value)
    for name in [name for name in ("photo_size", "size") if name in fields]:
        first, now = getattr(begun, name), getattr(recipe, name)
        by_hand = now not in (first, _at_home(first, before))
        made = name == "size"  # a picture need not be large
        kept = (made or by_hand or isinstance(now, tuple)) and _runs(after, now)
        changes[name] = now if kept else _at_home(first, after)
    return changes


def _at_home(first: models.Size, network: models.Network) -> models.Size:
    """A size at least as large as it was first, and as the network is at home with."""
    if isinstance(first, int) and isinstance(network.size, int):
        return max(first, network.size)
    return network.size


def _known(network: models.Network, value: str | int | list[str | int]) -> bool:
    try:
        models.class_indices(network, [each for each in (value if isinstance(value, list) else [value]) if each != ""])
    except ValueError:
        return False
    return True


def _first_class(field: Any, network: models.Network, value: str | int | list[str | int]) -> Any:
    """A class that the network has: the recipe's default, which may be none at all, or else its first."""
    default = field.get_default(call_default_factory=True)
    if default != [] and _known(network, default):
        return default
    return [0] if isinstance(value, list) else 0


def _runs(network: models.Network, size: models.Size) -> bool:
    try:
        return bool(models.layers(network, size))
    except ValueError:
        return False


def nearest_layer(before: models.Network, layer: str, after: models.Network, beside: str | None = None) -> str:
    """The layer of another network that is where this one is in its own: stage, kind, place among its like.

    Args:
        before: the network that has the layer.
        layer: dotted name; the logits stay the logits.
        after: the other network.
        beside: a layer of the other network that this one is used with: it then has as many channels, and comes no
            later.
    """
    if layer == OUTPUT:
        return layer
    own, theirs = _features(before), _features(after)
    levels, their_levels = _levels(own), _levels(theirs)
    known = next((each for each in own if each.name == layer), own[len(own) // 2])
    level = min(range(len(levels)), key=lambda index: abs(levels[index] - known.stride))
    stride = their_levels[_as_far(level, len(levels), len(their_levels))]
    there = [each for each in theirs if each.stride == stride]
    if beside is not None and (fixed := next((each for each in theirs if each.name == beside), None)) is not None:
        until = theirs[: theirs.index(fixed) + 1]
        there = [each for each in until if each.channels == fixed.channels and each.stride == fixed.stride]
    for fits in (lambda each: each.kind == known.kind, lambda each: each.kind not in _PLAIN, lambda each: True):
        if alike := [each.name for each in there if fits(each)]:
            break
    peers = [each.name for each in own if each.stride == known.stride and each.kind == known.kind]
    return layer if layer in alike else alike[_as_far(peers.index(known.name), len(peers), len(alike))]


def _as_far(index: int, count: int, others: int) -> int:
    """The index among others that is as far on as this one is among `count`."""
    return max(0, round((index + 1) / count * others) - 1)


def _features(network: models.Network) -> list[models.Layer]:
    """The layers that have maps, up to the deepest stage: what comes after it are answers."""
    table = [layer for layer in models.layers(network) if layer.height > 1] or list(models.layers(network))
    try:
        deepest = models.stages.stages(network)[-1]
    except ValueError:  # no convolutions, or no classes
        return table
    return table[: table.index(deepest) + 1] if deepest in table else table


def _levels(table: list[models.Layer]) -> list[float]:
    """The strides at which something is computed."""
    return sorted({each.stride for each in table if "Conv" in each.kind} or {each.stride for each in table})


def similar_layers(before: models.Network, options: Sequence[Any] | None, after: models.Network) -> list[Any] | None:
    """What to choose layers from in another network: those of the kinds that were offered, and what names no layer."""
    if options is None:
        return None
    kinds = {layer.name: layer.kind for layer in models.layers(before)}
    values = [option[1] if isinstance(option, tuple) else option for option in options]
    wanted = {kinds[value] for value in values if value in kinds}
    others = [option for option, value in zip(options, values, strict=True) if value not in kinds]
    found = [layer.name for layer in _features(after) if layer.kind in wanted]
    return [*others, *(found or layer_names(after))]


def layer_names(network: models.Network) -> list[str]:
    """Layers worth a place in the list: convolutions, and the blocks built of them."""
    table = [layer for layer in models.layers(network) if layer.height > 1]
    return [layer.name for layer in table if layer.kind not in _PLAIN] or [layer.name for layer in table]


def network_names() -> list[str]:
    """Networks by name: the reader's own, the bundled ones, those on this machine, then those to be downloaded."""
    names = sorted(models.torchvision_names(), key=lambda name: not models.at_hand(name))
    own = dict.fromkeys([*models.offered(), *_variables()])
    return [*own, *models.bundled(), *map(_with_download, names)]


def _with_download(name: str) -> str:
    size = None if models.at_hand(name) else models.download_size(name)
    return name if size is None else f"{name}{APART}{size:,.0f} MB to download"


def _keep(name: str) -> None:
    """A module that was given in place of a name can be had again after another network was chosen."""
    if isinstance(name, models.Named) and name not in {*models.bundled(), *models.torchvision_names()}:
        models.offer(name.module, str(name))


def class_names(network: models.Network, shares: Sequence[tuple[str, float]] = ()) -> list[str]:
    """A network's classes to choose from: those that a photo is given first, each with its share, 0 to 1."""
    names = network.classes or []
    first = {name: f"{name}{APART}{share:.0%}" for name, share in shares}
    return [*first.values(), *(name for name in names if name not in first)]


def _variables() -> dict[str, nn.Module]:
    """Modules in the notebook's variables that no name stands for already."""
    shell = get_ipython()
    known = {*models.bundled(), *models.torchvision_names()}
    return {
        name: value
        for name, value in (shell.user_ns if shell else {}).items()
        if isinstance(value, nn.Module) and not name.startswith("_") and name not in known
        if not (isinstance(value, models.Network) and value.name in known)
    }


def _network(text: str) -> str:
    """The name in an entry of the list of networks; a notebook's variable is offered under its own."""
    name = text.partition(APART)[0].strip()
    if name not in models.offered() and (module := _variables().get(name)) is not None:
        models.offer(module, name)
    return name


def _layer_options(network: models.Network, value: str, options: Sequence[Any] | None) -> list[tuple[str, str]]:
    """Each layer with its channels and how much of the picture it sees, beside the names that were asked for."""
    table = {layer.name: layer for layer in models.layers(network)}
    pairs = [pair if isinstance(pair, tuple) else (pair, pair) for pair in options or layer_names(network)]
    if value not in [name for _, name in pairs]:
        pairs.insert(0, (value or "(empty)", value))
    levels = sorted({layer.stride for layer in table.values()})
    return [(_told(label, table.get(name), levels), name) for label, name in pairs]


def _told(label: str, layer: models.Layer | None, levels: list[float]) -> str:
    if layer is None:
        return label or "(empty)"
    sees = "all of it" if math.isinf(layer.receptive_field) else f"{layer.receptive_field:g} px"
    return APART.join([label, f"stage {levels.index(layer.stride) + 1}", f"{layer.channels} channels", f"sees {sees}"])


def _typed(value: str, options: Sequence[str], common: dict[str, Any]) -> widgets.Combobox:
    """A text box that offers the names with what was typed in them."""
    return widgets.Combobox(
        value=value,
        options=list(options),
        ensure_option=False,
        continuous_update=False,
        placeholder="type to search",
        **common,
    )


def _on_grid(step: float, distance: float) -> float:
    """A step, made finer until the distance is a whole number of them: a browser shows stops only."""
    for finer in (step / 10**power for power in range(5)):
        if math.isclose(distance / finer, round(distance / finer), abs_tol=1e-6):
            return finer
    return step
