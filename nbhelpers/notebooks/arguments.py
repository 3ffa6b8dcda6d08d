"""A notebook's parameters as they come from outside: checked, read from a command line, and written as one."""

import ast
import json
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
        ValueError: an unknown name (the nearest is offered), a value that is not a plain one, or a parameters cell
            that is not Python.
    """
    declared = [p.name for p in documents.parameters(documents.read(path), path)]
    check_names(parameters, declared, f"{path.name} has no parameter", "It has")
    try:
        return json.loads(json.dumps(dict(parameters)))
    except TypeError as error:
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


def parse(text: str) -> Any:
    """`3`, `0.5`, `[1, 2]`, `true`, `None` as what they say; anything else as a string."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            pass
    return text


def command(notebook: str, parameters: Mapping[str, Any]) -> str:
    """The command line that runs a notebook with these parameters; `parse` reads its values back."""
    words = ["nbhelpers", "run", notebook]
    for name, value in parameters.items():
        plain = isinstance(value, str) and parse(value) == value
        words += ["-p", name, value if plain else json.dumps(value, ensure_ascii=False)]
    return shlex.join(words)
