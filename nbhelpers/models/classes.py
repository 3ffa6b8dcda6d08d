"""Classes: from what people write to the number of a logit, and from logits to shares."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbhelpers import edge
from nbhelpers.models.layer_table import nearest
from nbhelpers.models.loading import as_network, class_count
from nbhelpers.models.network import Network, Size

TINY = 1e-38  # a share of which the logarithm is still finite in float32


def class_indices(
    network: str | nn.Module, names: str | SupportsIndex | Sequence[str | SupportsIndex], size: Size | None = None
) -> list[int]:
    """The logits of classes given by name or number.

    Args:
        network: a name, a `Network` or your own module.
        names: numbers from 0, also NumPy's and torch's, or names: the whole name as it is written, or in any case the
            whole name, one of its comma-separated synonyms, a part that only one class has, or another name that
            WordNet has for one of ImageNet's classes ("puma" for cougar). Digits that are no name are a number, as a
            text field gives it.
        size: side of the pictures in pixels at which the classes are counted where their names are not known; the
            network's own size if not given.

    Returns:
        One index per name, in order.

    Raises:
        ValueError: a name is unknown (the nearest are offered) or means several classes (all are offered), a number is
            out of range (says how many classes there are), or a name was given and the class names are not known.
        TypeError: neither a name nor a whole number.
    """
    network = as_network(network)
    given: Iterable[Any] = [names] if isinstance(names, str) or not hasattr(names, "__iter__") else names
    if getattr(names, "ndim", None) == 0:
        given = [names]
    return [_named(network, each, size) if isinstance(each, str) else _numbered(network, each, size) for each in given]


def log_shares(logits: Float[Tensor, "pictures classes"]) -> Float[Tensor, "pictures classes"]:
    """Logarithms of what `shares` gives; differentiable, and nothing waits for a GPU.

    Where a network ends in a softmax, all rows add up to 1 and none is negative: they are taken as they are. The
    exponentials of one that ends in a log-softmax do so. Of one logit alone the share is its sigmoid.
    """
    near = 5e-3 if logits.dtype in (torch.float16, torch.bfloat16) else 1e-4
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    if logits.shape[1] == 1:
        return torch.nn.functional.logsigmoid(logits)
    exponentials = logits.clamp(max=1).exp()
    adds_up = ((logits.sum(1) - 1).abs() < near).all() & (logits >= 0).all()
    logarithms = ((exponentials.sum(1) - 1).abs() < near).all() & (logits <= 0).all()
    finished = torch.where(adds_up, logits.clamp(min=TINY).log(), logits)
    return torch.where(adds_up | logarithms, finished, logits.log_softmax(1))


def shares(logits: Float[Tensor, "pictures classes"]) -> Float[Tensor, "pictures classes"]:
    """Probabilities of the classes, `(B, classes)` in [0, 1], of what a network gives for `B` pictures."""
    return log_shares(logits).exp()


def _named(network: Network, name: str, size: Size | None) -> int:
    wanted, classes = name.strip().lower(), [known.lower() for known in network.classes or []]
    synonyms = [[synonym.strip() for synonym in known.split(",")] for known in classes]
    whole_word = re.compile(rf"\b{re.escape(wanted)}\b")
    found: list[int] = []
    for fits in (
        lambda index: network.classes[index] == name.strip(),  # Cardigan is a dog, cardigan is worn
        lambda index: classes[index] == wanted,
        lambda index: wanted in synonyms[index],
        lambda index: not wanted.isdecimal() and bool(wanted) and whole_word.search(classes[index]),
        lambda index: not wanted.isdecimal() and len(wanted) > 2 and wanted in classes[index],
        lambda index: any(wanted in _other_names().get(known, ()) for known in synonyms[index]),
    ):
        found = found or [index for index in range(len(classes)) if fits(index)]
    if not found and wanted.isdecimal():
        return _numbered(network, int(wanted), size)
    if network.classes is None:
        raise ValueError(f"the class names of {network.name} are not known: give {name!r} as a number")
    if len(found) > 1:
        meant = edge.few(f"{index} ({network.classes[index]})" for index in found)
        raise ValueError(f"{name!r} means several classes of {network.name}: {meant}. Give the number")
    if not found:
        raise ValueError(f"{network.name} knows no class {name!r}. {nearest(name, network.classes)}")
    return found[0]


@cache
def _other_names() -> dict[str, list[str]]:
    """By a name in small letters: all that goes by it among ImageNet's classes; not where it means several."""
    text = (files("nbhelpers.models") / "imagenet_names.txt").read_text(encoding="utf-8")
    rows = [line.lower().split(", ") for line in text.splitlines() if not line.startswith("#")]
    times = Counter(name for names in rows for name in names)
    return {name: names for names in rows for name in names if times[name] == 1}


def _numbered(network: Network, number: Any, size: Size | None) -> int:
    boolean = isinstance(number, bool) or "bool" in str(getattr(number, "dtype", ""))
    fraction = isinstance(number, float) or "float" in str(getattr(number, "dtype", ""))
    if boolean or fraction or not hasattr(number, "__index__"):
        raise TypeError(f"{number!r} is no class: give a name or a whole number, 0 to {class_count(network, size) - 1}")
    index = operator.index(number)
    count = class_count(network, size)
    if index < 0 or index >= count:
        raise ValueError(f"{network.name} has {count} classes, 0 to {count - 1}: there is no class {index}")
    return index
