"""A notebook's parameters as they come from outside: checked, read from a command line, and written as one."""

import ast
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbhelpers import edge
from nbhelpers.notebooks import documents


def check(path: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as a notebook can take them, if it declares every one.

    papermill would only warn about an unknown name, and would hand a tuple over as a string.

    Raises:
        ValueError: an unknown name (the nearest is offered), a value that is not a plain one (or infinite, or not a
            number, which no JSON can hold), or a parameters cell that is not Python.
    """
    declared = [p.name for p in documents.parameters(documents.read(path), path)]
    check_names(parameters, declared, f"{path.name} has no parameter", "It has")
    try:
        return json.loads(json.dumps(dict(parameters), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"parameters are plain numbers, strings, lists and the like: {error}") from error


def check_names(names: Iterable[str], known: Sequence[str], complaint: str, offer: str) -> None:
    """Refuses a name that is not known.

    Raises:
        ValueError: `complaint 'name'; did you mean 'nearest'? offer: a few of them`.
    """
    for name in names:
        if name not in known:
            near = edge.close(name, known)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"{complaint} {name!r}; {hint}{offer}: {edge.few(known) or 'none at all'}")


def given(notebook: Path, words: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Names and values of a command line, each value as the type that the notebook declares for its name."""
    kinds = {each.name: each.kind for each in documents.parameters(documents.read(notebook), notebook)}
    return {name: parse(text, kinds.get(name, "")) for name, text in words}


def parse(text: str, kind: str = "") -> Any:
    """A value from a command line: `3`, `0.5`, `[1, 2]`, `true`, `None` as what they say, anything else as a string.

    Args:
        text: what was typed.
        kind: the declared type, as in `int | None`: what says something of another type is a string. A folder may be
            called `2024` or `true`. Empty: any type will do.
    """
    for read in (_json, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if _fits(value, kind):
            return value
    return text


def _json(text: str) -> Any:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def _fits(value: Any, kind: str) -> bool:
    named = set(re.findall(r"\w+", kind))
    name = "None" if value is None else type(value).__name__
    wider = {"int": "float", "list": "tuple"}  # what holds values of another type too
    return not named or "Any" in named or bool(named & {name, wider.get(name)})


def command(notebook: str, parameters: Mapping[str, Any]) -> str:
    """The command line that runs a notebook with these parameters; `parse` reads its values back."""
    words = ["nbhelpers", "run", notebook]
    for name, value in parameters.items():
        plain = isinstance(value, str) and parse(value) == value  # whatever type its name has
        words += ["-p", name, value if plain else json.dumps(value, ensure_ascii=False)]
    return shlex.join(words)
