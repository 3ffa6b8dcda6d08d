"""The recipe inside a PNG as text, and the one place where such a document is examined.

A picture's file may come from anywhere, so nothing in it is believed: what is damaged, made to harm or of another
kind is refused in a sentence, before anybody computes with it. A document is names and plain values:

    recipe, parameters      the kind of recipe and its parameters
    nbhelpers               the version that made the picture
    index                   which picture of its recipe's batch this is
    drawn_by                or else: the technique's function, `sheet` or `draw`, that drew all of them
    sheet                   or else: how they were laid out (`nbhelpers.gallery.Sheet`)

A picture with none of the last three is a figure that only a notebook can draw again.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from nbhelpers import edge

CHUNK = "nbhelpers"
"""Keyword of the PNG text chunk (iTXt) that holds the document as JSON."""

LONGEST = 1_000_000
"""Characters of the longest document: a thousand classes by name are thirty thousand."""

LONGEST_TEXT = 10_000
"""Characters of the longest text in it: a path has at most 4,096."""

LONGEST_NUMBER = 100
"""Digits of the longest whole number in it; a seed may be long."""

DEEPEST = 32
"""Lists in lists."""

_KINDS = {
    "recipe": (str, "a name"),
    "parameters": (Mapping, "names and values"),
    "nbhelpers": (str, "a version"),
    "index": (int, "0, 1, 2, ..."),
    "drawn_by": (str, "the name of a function"),
    "sheet": (Mapping, "names and values"),
}
_NUMBERS = {"index": "its number in the batch"}


@runtime_checkable
class Dumps(Protocol):
    """Anything that gives itself as plain JSON data, as pydantic models do."""

    def model_dump(self, *, mode: str) -> dict[str, Any]: ...


def write(recipe: dict[str, Any] | Dumps) -> str:
    """The document as text, from which `read` gives the same again.

    Raises:
        ValueError: it is not plain JSON data, or what `read` would refuse.
    """
    data = recipe if isinstance(recipe, dict) else recipe.model_dump(mode="json")
    try:
        text = json.dumps(data, allow_nan=False)
        again = read(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the recipe is not plain JSON data ({error}); use text, finite numbers and lists") from error
    if again != data:
        raise ValueError("the recipe would not come back from JSON as it is; use lists for tuples, text for keys")
    return text


def read(text: str) -> dict[str, Any]:
    """The document that a text holds, as plain data.

    Raises:
        ValueError: it is no JSON, no names and values, or it holds what no recipe does; one sentence says what.
    """
    if len(text) > LONGEST:
        raise ValueError(f"its text has {len(text):,} characters, the limit is {LONGEST:,}")
    try:
        document = json.loads(text, object_pairs_hook=_names_and_values, parse_constant=_no_number, parse_int=_integer)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    if not isinstance(document, dict):
        raise ValueError(f"it is a {type(document).__name__}, expected names and values")
    _examine(document, 1)
    return document


def check(document: Any) -> None:
    """Refuses a document whose entries are not of the kind that they should be.

    Raises:
        ValueError: says which entry it is.
    """
    if not isinstance(document, Mapping):
        raise ValueError(f"a recipe's document is names and values, got {edge.short(repr(document))}")
    for name, (kind, expected) in _KINDS.items():
        value = document.get(name)
        right = isinstance(value, kind) and not isinstance(value, bool)
        if name in document and not (right and (kind is not int or value >= 0)):
            raise ValueError(f"{_NUMBERS.get(name, f'its {name!r}')} is {edge.short(repr(value))}, expected {expected}")
    told = [name for name in ("index", "drawn_by", "sheet") if name in document]
    if len(told) > 1:
        raise ValueError(f"it says {' and '.join(map(repr, told))}, and a picture is only one of these")


_TOO_DEEP = f"it holds lists in lists, more than {DEEPEST} deep"


def _names_and_values(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"it says {edge.short(repr(name))} twice")
        found[name] = value
    return found


def _no_number(word: str) -> None:
    raise ValueError(f"it holds {word}, which is no number")


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"it holds a number of {len(digits):,} digits")
    return int(digits)


def _examine(value: Any, depth: int) -> None:
    """Refuses what the parser lets pass: endless nesting, endless texts, halves of characters, infinite numbers."""
    if depth > DEEPEST:
        raise ValueError(_TOO_DEEP)
    if isinstance(value, dict):
        for name, inner in value.items():
            _examine(name, depth)
            _examine(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _examine(inner, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it holds a number that is too large")
    elif isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise ValueError(f"it holds a text of {len(value):,} characters, the limit is {LONGEST_TEXT:,}")
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError(f"it holds {edge.short(repr(value))}, with half a character in it")
