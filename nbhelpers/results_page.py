"""One web page for all that a results folder holds: every executed notebook, its parameters, its pictures.

The page is a view of the folder and nothing else: `nbhelpers.batch` leaves a note of each run in the executed
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
from PIL import Image

from nbhelpers import decoding, notebooks, pages

_THUMBNAIL = 900


def write(results: str | Path) -> Path:
    """Writes `index.html`, which shows every executed notebook of a results folder.

    Args:
        results: a folder that `nbhelpers.batch` wrote to.

    Returns:
        The page's path.
    """
    results = Path(results)
    found = [(path, notebooks.read(path)) for path in sorted(results.glob("*.ipynb")) if not path.name.startswith(".")]
    runs = [_run(path, notebook) for path, notebook in found if "nbhelpers" in notebook.metadata]
    page = pages.render(
        "results.html",
        runs=runs,
        seconds=sum(run["seconds"] for run in runs),
        failed=sum(bool(run["errors"]) for run in runs),
    )
    notebooks.write_text(page, results / "index.html")
    return results / "index.html"


def write_notebook_page(notebook: NotebookNode, path: Path) -> None:
    """Writes an executed notebook as a web page, for readers without Jupyter."""
    notebooks.write_text(HTMLExporter().from_notebook_node(notebook)[0], path)


def thumbnail(path: Path, side: int) -> tuple[Image.Image, int, int]:
    """A picture made small enough for a square of `side` pixels, and the width and height it has in its file.

    Raises:
        FileNotFoundError, ValueError: there is no such file; it is no picture, damaged, or too large.
    """
    with decoding.opened(path) as picture:
        decoding.load(picture, path)
        width, height = picture.size
        small = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small, width, height


def _run(path: Path, notebook: NotebookNode) -> dict[str, Any]:
    run, page = notebook.metadata.nbhelpers, path.with_suffix(".html")
    return {
        "name": path.stem,
        "title": notebooks.title(notebook) or path.stem,
        "seconds": run.seconds,
        "errors": run.errors,
        "page": page.name if page.exists() else "",
        "notebook": path.name,
        "pictures": [_picture(path.parent, name) for name in run.pictures if (path.parent / name).exists()],
        "parameters": run.parameters,
    }


def _picture(results: Path, name: str) -> dict[str, Any]:
    path, file = results / name, io.BytesIO()
    try:
        small, width, height = thumbnail(path, _THUMBNAIL)
    except (OSError, ValueError) as error:
        return {"name": path.name, "problem": str(error).replace(f"{results}{os.sep}", "")}
    small.save(file, "WEBP", quality=85)
    data = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    about = {"name": path.name, "link": name, "width": width, "height": height, "data": data}
    return about | {"problem": "", "recipe": _recipe(path)}


def _recipe(path: Path) -> dict[str, Any]:
    from nbhelpers import images  # brings torch with it: seconds, which a refused parameter need not wait for

    try:
        return images.read_recipe(path)
    except (ValueError, KeyError):
        return {}  # a figure that somebody saved by other means
