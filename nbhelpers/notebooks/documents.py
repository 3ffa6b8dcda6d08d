"""Notebooks as data: their parameters, their errors, where their pictures go, and a copy fit to be kept.

A notebook is executed by papermill (`nbhelpers run`), by nbval (the tests) and by people; what all of them need to
know about it is here. Nothing in this module starts a kernel.
"""

import ast
import io
import json
import os
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from nbhelpers import edge

RESULTS_VARIABLE = "NBHELPERS_RESULTS"
RECORDED = "results.json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"

_COLOUR_CODES = re.compile("\x1b\\[[0-9;]*[A-Za-z]")
_TRACEBACK = re.compile(r"^Traceback \(most recent call last\)", re.MULTILINE)
_RAISED = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b(?::.*)?$", re.MULTILINE)
_NOT_PYTHON = re.compile(r"^[%!].*$", re.MULTILINE)
_KEPT_CELL_METADATA = ("tags", "jupyter", "slideshow")
# What a path of somebody's machine looks like, and what stands for it in a committed output.
_MACHINE_PATHS = (
    (re.compile(r"/tmp/ipykernel_\d+/\d+\.py"), "<cell>"),
    (re.compile(r"(?<![\w.])/[\w./-]+/(?:site|dist)-packages/"), "site-packages/"),
    (re.compile(r"file:/{2}\S+"), "<file>"),
    (re.compile(r"(?<![\w.])/(?:home|Users)/[\w.-]+"), "~"),
    (re.compile(r"(?<![\w.])/(?:root)/(?=[\w.])"), "~/"),
    (re.compile(r"(?<![\w.+/])/(?:tmp(?!/ipykernel_)|var/folders)/[\w./-]+"), "<temporary>"),
    (re.compile(r"(?i)\b[a-z]:\\+Users\\+[\w.-]+"), "~"),
)


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's parameters cell: `name: type = value  # comment`.

    `kind` is the source of its type; where none is declared, that of a value which is a text.
    """

    name: str
    value: Any
    comment: str
    kind: str = ""


def results_folder() -> Path:
    """The folder a notebook saves its pictures to, made if it is not there.

    Returns:
        The folder named by the environment variable `NBHELPERS_RESULTS`, which `nbhelpers run` sets for each run;
        without it `results` beside the folder `notebooks`, where notebooks run from, or else in the current folder.

    Raises:
        ValueError: it cannot be written to.
    """
    named = os.environ.get(RESULTS_VARIABLE)
    here = Path.cwd()
    folder = Path(named) if named else (here.parent if here.name == "notebooks" else here) / "results"
    return edge.folder_to_write(folder)


def record(**results: Any) -> None:
    """Notes results, plain numbers and texts by name, in `results.json` beside the pictures; a sweep collects them.

    What is infinite or not a number is kept as null: JSON has no such numbers.
    """
    path = results_folder() / RECORDED
    before = {}
    if path.exists():
        with edge.understood(path, "a file of results", "Delete it"):
            before = dict(json.loads(path.read_text(encoding="utf-8")))
    edge.write_text(edge.to_json({**before, **results}), path)


def read(path: str | Path) -> NotebookNode:
    """Reads a notebook, whatever its format version.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no file, or not a notebook.
    """
    try:
        path = edge.existing_file(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no notebook at this place, {error}") from error
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:
        raise ValueError(
            f"{path} is not a Jupyter notebook ({type(error).__name__}); expected an .ipynb file"
        ) from error


def write(notebook: NotebookNode, path: str | Path) -> None:
    """Writes a notebook under a temporary name and moves it into place, so that no half-written one is ever seen."""
    edge.write_text(nbformat.writes(notebook).rstrip("\n") + "\n", path)


def title(notebook: NotebookNode) -> str:
    """The text of the notebook's first heading, or an empty string."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (heading := re.search(r"^#+\s+(.+?)\s*#*$", cell.source, re.MULTILINE)):
            return re.sub(r"[*`]", "", heading[1])
    return ""


def tagged(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    """The notebook's code cells with this tag."""
    return [c for c in notebook.cells if c.cell_type == "code" and tag in c.metadata.get("tags", [])]


def parameters(notebook: NotebookNode, path: str | Path = "the notebook") -> list[Parameter]:
    """The parameters a notebook declares in its cell tagged `parameters`.

    papermill's own reader goes by regular expressions and does not see `size: int | None = None`; this one parses,
    and passes over lines with a magic (`%matplotlib inline`) or a shell command (`!ls`).

    Args:
        notebook: the notebook.
        path: what the message calls it.

    Returns:
        One `Parameter` per assignment, in order; a value that is no literal is its source text.

    Raises:
        ValueError: the cell is not Python; the message names the line.
    """
    found = []
    for cell in tagged(notebook, "parameters")[:1]:
        source = _NOT_PYTHON.sub("", cell.source)
        try:
            body = ast.parse(source).body
            comments = {
                token.start[0]: token.string.lstrip("# ").rstrip()
                for token in tokenize.generate_tokens(io.StringIO(source).readline)
                if token.type == tokenize.COMMENT
            }
        except (SyntaxError, tokenize.TokenError) as error:
            line = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error.args[0])
            raise ValueError(
                f"{path}: the parameters cell is not Python: {line}; mend it, one `name = value` a line"
            ) from error
        for node in body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value and isinstance(targets[0], ast.Name):
                try:
                    value = ast.literal_eval(node.value)
                except ValueError:
                    value = ast.unparse(node.value)
                said = getattr(node, "annotation", None)
                text = "str" if isinstance(node.value, ast.Constant) and isinstance(value, str) else ""
                kind = ast.unparse(said) if said is not None else text
                found.append(Parameter(targets[0].id, value, comments.get(node.end_lineno or 0, ""), kind))
    return found


def errors(notebook: NotebookNode) -> list[str]:
    """Everything that went wrong in an executed notebook, each as one readable block.

    An exception in a widget's callback does not stop a notebook, and papermill reports success: it is only visible
    as an output of an `Output` widget, as text in another widget, or as a traceback on the cell's stderr. All of
    them count.
    """
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if message := _error_in(output):
                count = cell.execution_count or "not numbered"
                code = "\n".join("    " + line for line in cell.source.splitlines())
                found.append(f"cell {number} (In [{count}]):\n{code}\n\n{message}")
    for widget in notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {}).values():
        model, state = widget.get("model_name", "widget"), widget.get("state", {})
        texts = [state[key] for key in ("value", "description") if isinstance(state.get(key), str)]
        messages = [_error_in(output) for output in state.get("outputs", [])]
        messages += [text for text in texts if _TRACEBACK.search(text) or _RAISED.search(_without_tags(text))]
        found += [f"in a widget ({model}), probably from a callback:\n{m}" for m in messages if m]
    return found


def show_statically(notebook: NotebookNode) -> NotebookNode:
    """Drops, in place, every widget view that has a picture or a page beside it; with the last goes the widgets' state.

    What cannot start widgets (a repository's web view, a mail) then shows the picture. Views without one keep their
    state.
    """
    for output in _outputs(notebook):
        data = output.get("data", {})
        if any(kind.startswith("image/") or kind == "text/html" for kind in data):
            data.pop(WIDGET_VIEW, None)
    if not any(WIDGET_VIEW in output.get("data", {}) for output in _outputs(notebook)):
        notebook.metadata.pop("widgets", None)
    return notebook


def without_bars(notebook: NotebookNode) -> NotebookNode:
    """Drops, in place, what progress bars wrote that are gone: a terminal would show nothing of it."""
    for cell in notebook.cells:
        errors = [output for output in cell.get("outputs", []) if output.get("name") == "stderr"]
        written = "".join("".join(output.text) for output in errors)
        if errors and "\n" not in written and not written.rpartition("\r")[2].strip():
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def clean(notebook: NotebookNode, root: Path | None = None) -> NotebookNode:
    """Makes an executed notebook fit to be committed, in place: the same outputs, and nothing of the run around them.

    Widgets' views and state, progress bars, timings, papermill's notes and the editor's metadata go; paths of the
    machine in printed text become short names; the kernel becomes the plain `python3`.

    Args:
        notebook: the executed notebook.
        root: the repository's folder, written as `.` wherever an output names it.
    """
    without_bars(show_statically(notebook))
    notebook.metadata = NotebookNode(
        kernelspec=NotebookNode(display_name="Python 3", language="python", name="python3"),
        language_info=NotebookNode(name="python"),
    )
    for cell in notebook.cells:
        cell.metadata = NotebookNode({k: cell.metadata[k] for k in _KEPT_CELL_METADATA if cell.metadata.get(k)})
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if WIDGET_VIEW not in o.get("data", {})]
            for output in cell.outputs:
                _shorten_paths(output, root)
    return notebook


def machine_paths(text: str, root: Path | None = None) -> list[str]:
    """The paths of somebody's machine that a text contains: home and temporary folders, the repository's own."""
    own = [str(root)] if root is not None and str(root) in text else []
    others = text.replace(str(root), ".") if own else text
    return own + [match[0] for pattern, _ in _MACHINE_PATHS for match in pattern.finditer(others)]


def texts(output: NotebookNode) -> dict[str, str]:
    """The readable parts of an output by kind: what was printed, the plain and HTML forms; never a picture's bytes."""
    readable = {"text": output["text"]} if "text" in output else {}
    return readable | {k: v for k, v in output.get("data", {}).items() if k.startswith("text/") and isinstance(v, str)}


def _shorten_paths(output: NotebookNode, root: Path | None) -> None:
    for kind, text in texts(output).items():
        short = text if root is None else text.replace(str(root), ".")
        for pattern, name in _MACHINE_PATHS:
            short = pattern.sub(name, short)
        (output if kind == "text" else output.data)[kind] = short


def _outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def _error_in(output: NotebookNode) -> str:
    if output.get("output_type") == "error":
        trace = "\n".join(output.get("traceback", [])) or f"{output.get('ename')}: {output.get('evalue')}"
        return _COLOUR_CODES.sub("", trace)
    text = _COLOUR_CODES.sub("", output.get("text", "")) if output.get("name") == "stderr" else ""
    return text if _TRACEBACK.search(text) else ""


def _without_tags(text: str) -> str:
    return re.sub(r"<[^>]*>", "", text).strip()
