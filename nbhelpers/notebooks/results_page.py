"""One web page for all that a results folder holds: every executed notebook, its parameters, its pictures.

The page is a view of the folder and nothing else: `nbhelpers run` leaves a note of each run in the executed
notebook's metadata, and the page is made from these notes. It is one file without scripts or addresses; the small
pictures are inside it, and link to the full ones beside it.
"""

import base64
import io
import os
from pathlib import Path
from typing import Any

from nbconvert import HTMLExporter
from nbformat import NotebookNode

from nbhelpers import edge, pages
from nbhelpers.notebooks import documents

_THUMBNAIL = 900


def write(results: str | Path) -> Path:
    """Writes `index.html`, which shows every executed notebook of a results folder.

    Args:
        results: a folder that `nbhelpers run` wrote to.

    Returns:
        The page's path.
    """
    results = Path(results)
    found = [_run(path) for path in sorted(results.glob("*.ipynb")) if not path.name.startswith(".")]
    runs = [run for run in found if run]
    page = pages.render(
        "results.html",
        runs=runs,
        seconds=sum(run["seconds"] for run in runs),
        failed=sum(bool(run["errors"]) for run in runs),
    )
    edge.write_text(page, results / "index.html")
    return results / "index.html"


def write_notebook_page(notebook: NotebookNode, path: Path) -> None:
    """Writes an executed notebook as a web page, for readers without Jupyter."""
    edge.write_text(HTMLExporter().from_notebook_node(notebook)[0], path)


def _run(path: Path) -> dict[str, Any]:
    """What the page says of one executed notebook; nothing of a notebook that another program executed."""
    try:
        notebook = documents.read(path)
        with edge.understood(path, "a notebook that was run here", "Run it again"):
            return _told(notebook, path)
    except (ValueError, OSError) as error:  # the page of all others is not lost for it
        said = {"name": path.stem, "title": path.stem, "seconds": 0, "errors": [str(error)], "notebook": path.name}
        return said | {"page": "", "pictures": [], "parameters": []}


def _told(notebook: NotebookNode, path: Path) -> dict[str, Any]:
    if "nbhelpers" not in notebook.metadata:
        return {}
    run, page = notebook.metadata.nbhelpers, path.with_suffix(".html")
    return {
        "name": path.stem,
        "title": documents.title(notebook) or path.stem,
        "seconds": float(run.seconds),
        "errors": [str(error) for error in run.errors],
        "page": page.name if page.exists() else "",
        "notebook": path.name,
        "pictures": [_picture(path.parent, name) for name in run.pictures if (path.parent / name).exists()],
        "parameters": [
            {"name": str(each["name"]), "value": each["value"], "comment": str(each["comment"]), "given": each["given"]}
            for each in run.parameters
        ],
    }


def _picture(results: Path, name: str) -> dict[str, Any]:
    from nbhelpers import images  # brings torch with it: seconds, which a refused parameter need not wait for

    path, file = results / name, io.BytesIO()
    try:
        small, width, height = images.thumbnail(path, _THUMBNAIL)
    except (OSError, ValueError) as error:
        return {"name": path.name, "problem": str(error).replace(f"{results}{os.sep}", "")}
    small.save(file, "WEBP", quality=85)
    data = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    about = {"name": path.name, "link": name, "width": width, "height": height, "data": data}
    try:
        recipe = images.read_recipe(path)
    except (ValueError, OSError):
        recipe = {}  # a figure that somebody saved by other means
    return about | {"problem": "", "recipe": recipe}
