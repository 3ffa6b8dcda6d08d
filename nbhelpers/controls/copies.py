"""A recipe's settings as text to paste elsewhere: in code, on the command line, into a sweep's file.

Only what differs from the defaults is written, so that the reader sees what was changed.
"""

import json
import shlex
from collections.abc import Callable
from typing import Any

import yaml

from nbhelpers.recipes import Recipe


def changes(recipe: Recipe) -> dict[str, Any]:
    """The parameters that differ from the defaults."""
    fields = type(recipe).model_fields
    return {
        name: value
        for name, value in recipe.model_dump(mode="json").items()
        if fields[name].is_required() or value != fields[name].get_default(call_default_factory=True)
    }


def as_code(recipe: Recipe) -> str:
    """The call that makes the recipe."""
    return f"{type(recipe).__name__}({', '.join(f'{name}={value!r}' for name, value in changes(recipe).items())})"


def as_parameters(recipe: Recipe) -> str:
    """Options of `nbhelpers run` and of papermill's `-y`."""
    return " ".join(f"-p {name} {shlex.quote(_plain(value))}" for name, value in changes(recipe).items())


def as_yaml(recipe: Recipe) -> str:
    """The fixed part of a sweep's file."""
    return yaml.safe_dump({"fixed": changes(recipe)}, sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


FORMS: dict[str, Callable[[Recipe], str]] = {"code": as_code, "parameters": as_parameters, "YAML": as_yaml}
