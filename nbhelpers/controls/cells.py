"""A cell that runs again closes what it made before: widgets that nobody sees any more are not kept alive."""

from __future__ import annotations

import html
from typing import Protocol, runtime_checkable

import ipywidgets as widgets
from IPython import get_ipython


@runtime_checkable
class Closing(Protocol):
    """What a cell may make: it begins with a recipe, and can be closed."""

    def close(self) -> None: ...


_made: dict[str, tuple[str, list[Closing]]] = {}
"""By cell: the run of it, and what it made in that run."""


def succeed(maker: Closing) -> list[Closing]:
    """Close what the running cell made when it ran before.

    Returns:
        What was closed, for its settings; nothing where the front end does not say which cell runs.
    """
    shell = get_ipython()
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    cell = parent.get("metadata", {}).get("cellId")
    if cell is None:
        return []
    run = parent["header"]["msg_id"]
    before, made = _made.get(cell, ("", []))
    if before == run:
        made.append(maker)
        return []
    _made[cell] = (run, [maker])
    for old in made:
        old.close()
    return made


def heard_meanwhile(widget: widgets.Widget) -> None:
    """Let what the reader does with a widget be heard while its cell still runs.

    JupyterLab (4.4 and later) speaks to widgets on a thread of their own, but ipykernel (7.4 and later) hands what
    comes to the thread that last wrote to the widget: the one that is busy with the cell. A widget forgets here who
    that was; it must not be written to again while the cell runs. With other front ends and kernels it is heard when
    the cell has ended; there, interrupting the kernel does the same as Stop.
    """
    vars(widget.comm).pop("_reply_subshell_id", None)


def complaint(error: Exception) -> str:
    """An error as HTML, for a line of a widget: what a callback or a thread raises has no other audience."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return f"<b class='nbhelpers-error'>{html.escape(f'{type(error).__name__}: {text}')}</b>"


def close(widget: widgets.Widget) -> None:
    """Close a widget and all that belongs to it: children, layouts, styles."""
    for value in widget.trait_values().values():
        for part in value if isinstance(value, tuple | list) else [value]:
            if isinstance(part, widgets.Widget) and part is not widget:
                close(part)
    widget.close()
