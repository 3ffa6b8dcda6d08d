"""Copies for students: the same notebooks with empty answers and without the solutions.

A cell tagged `exercise` holds an answer and its check, a cell tagged `solution` how it is found.
"""

import re
import shutil
from copy import deepcopy
from pathlib import Path

from nbformat import NotebookNode

from nbhelpers import edge
from nbhelpers.notebooks import documents

EXERCISE, SOLUTION = "exercise", "solution"
"""The tags of the cells that hold an answer, and of those that tell it."""

_CHECK = re.compile(r"^exercises\.check\(.*\)$", re.MULTILINE)
_BESIDE = (Path("sample_images"), Path("docs") / "glossary.md")
"""What notebooks read or link to, beside their folder."""


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """A copy of a notebook as students get it: no solutions, every answer empty and unchecked; all else as it is."""
    copy = deepcopy(notebook)
    copy.cells = [cell for cell in copy.cells if SOLUTION not in cell.metadata.get("tags", [])]
    for cell in documents.tagged(copy, EXERCISE):
        check = _CHECK.search(cell.source)
        cell.source = "answer = ...  # your answer" + (f"\n{check[0]}" if check else "")
        cell.outputs, cell.execution_count = [], None
    return copy


def write_copies(folder: str | Path, source: str | Path = "notebooks") -> list[Path]:
    """Writes student copies of all notebooks of a folder, with the sample photos that they read.

    Args:
        folder: where to; `notebooks/`, and what the notebooks need beside it, are made in it.
        source: folder of the notebooks.

    Returns:
        The copies, in the order of their names.

    Raises:
        FileNotFoundError: there is no such folder. ValueError: it holds no notebooks; a copy is there already, perhaps
            with somebody's answers; the folder cannot be written to.
    """
    source = edge.existing_folder(source)
    originals = {path.name: documents.read(path) for path in sorted(source.glob("*.ipynb"))}
    if not originals:
        raise ValueError(f"there are no notebooks in {source}: name their folder with --from")
    target = edge.folder_to_write(Path(folder) / "notebooks")
    if there := [name for name in originals if (target / name).exists()]:
        raise ValueError(f"already in {target}, perhaps with answers: {edge.few(there)}. Choose another folder")
    for name, notebook in originals.items():
        documents.write(without_solutions(notebook), target / name)
    for each in _BESIDE:
        _copy(source.parent / each, target.parent / each)
    return [target / name for name in originals]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
