"""Parameters of many pictures as columns: each distinct value once, and a number per picture that says which.

A thousand pictures of a sweep share most of their parameters. As columns they take a few bytes per picture in a page,
and the page filters and sorts by comparing small numbers. Values are kept as JSON text, so that what is shown, linked
and compared is exact, whatever a browser's numbers can hold.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

MISSING = -1


class Column(TypedDict, total=False):
    """One parameter of many pictures.

    `values`: its distinct values as JSON text, in order. `of`: for each picture the index of its value, `MISSING`
    without one; left out where all pictures have the first. `numeric`: all values are finite numbers. `labels`: what
    to show in place of the values, where that is shorter.
    """

    values: list[str]
    of: list[int]
    numeric: bool
    labels: list[str]


def columns(rows: Sequence[Mapping[str, Any]], orders: Mapping[str, Sequence[Any]] | None = None) -> dict[str, Column]:
    """Turns one mapping per picture into one column per name.

    Args:
        rows: names and plain JSON values, one mapping per picture.
        orders: for some names the values in the order they should have; elsewhere numbers and texts are sorted, texts
            by the numbers in them, too (`block2` before `block10`).

    Returns:
        A column per name, in the order in which the names first appear.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: _column([row.get(name, _NOTHING) for row in rows], (orders or {}).get(name, ())) for name in names}


def varies(column: Column) -> bool:
    """Whether pictures that have it differ in it."""
    return len(column["values"]) > 1


def natural(text: str) -> list[tuple[int, float, str]]:
    """A key that sorts texts by the numbers in them."""
    return [(0, float(part), "") if part.isdecimal() else (1, 0.0, part) for part in re.split(r"(\d+)", text) if part]


_NOTHING = object()


def _column(cells: list[Any], order: Sequence[Any]) -> Column:
    texts = [None if cell is _NOTHING else json.dumps(cell, ensure_ascii=False) for cell in cells]
    found = {text: cell for text, cell in zip(texts, cells, strict=True) if text is not None}
    ranks = {json.dumps(value, ensure_ascii=False): rank for rank, value in enumerate(order)}
    values = sorted(found, key=lambda text: (ranks.get(text, len(ranks)), _sort_key(found[text])))
    column: Column = {"values": values, "numeric": all(_is_number(found[text]) for text in values)}
    labels = _short_paths([found[text] for text in values])
    if labels:
        column["labels"] = labels
    if len(values) > 1 or None in texts:
        places = {text: place for place, text in enumerate(values)}
        column["of"] = [MISSING if text is None else places[text] for text in texts]
    return column


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _sort_key(value: Any) -> tuple[int, Any]:
    if isinstance(value, int | float) and not math.isnan(value):
        return 0, value
    if isinstance(value, str):
        return 1, natural(value)
    if isinstance(value, list):
        return 2, [_sort_key(each) for each in value]
    return 3, str(value)


def _short_paths(values: list[Any]) -> list[str]:
    """Paths without the folder that all of them share; empty where the values are no such paths."""
    if len(values) < 2 or not all(isinstance(value, str) and "/" in value for value in values):
        return []
    shared = 0
    for parts in zip(*(value.split("/")[:-1] for value in values), strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return ["/".join(value.split("/")[shared:]) for value in values] if shared else []
