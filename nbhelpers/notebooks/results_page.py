"""One web page for all that a results folder holds: every executed notebook, its parameters, its pictures.

The page is a view of the folder and nothing else: `nbhelpers run` leaves a note of each run in the executed
notebook's metadata, and the page is made from these notes. It is one file without scripts or addresses; the small
pictures are inside it, and link to the full ones beside it.
"""

import base64
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from PIL import Image

from nbhelpers import edge, pages
from nbhelpers.notebooks import documents

_THUMBNAIL, _COVER = 900, 320


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

    path = results / name
    try:
        small, width, height = images.thumbnail(path, _THUMBNAIL)
    except (OSError, ValueError) as error:
        return {"name": path.name, "problem": str(error).replace(f"{results}{os.sep}", "")}
    about = {"name": path.name, "link": name, "width": width, "height": height, "data": _data(small)}
    small.thumbnail((_COVER, _COVER))
    about["small"] = _data(small)
    try:
        recipe = images.read_recipe(path)
    except (ValueError, OSError):
        recipe = {}  # a figure that somebody saved by other means
    return about | {"problem": "", "recipe": recipe, "words": words(path.stem, recipe)}


def words(name: str, document: Mapping[str, Any]) -> str:
    """What a picture is, in words: `block4.conv1, channel 5` and not a file's name.

    Args:
        name: the file's name without its ending, which says more where a recipe makes several pictures.
        document: the recipe inside it, with `index` where it is one of several; empty where there is none.
    """
    values, kind = document.get("parameters"), document.get("recipe")
    rest = re.sub(r"^[a-z_]+-[0-9a-f]{8}-?", "", name)
    if not isinstance(values, dict) or not isinstance(kind, str):
        return re.sub(r"[-_]+", " ", rest or name)
    index, layer = document.get("index"), values.get("layer")
    one = None
    for several, single in (("channels", "channel"), ("classes", "class")):
        listed = values.get(several)
        if isinstance(listed, list) and isinstance(index, int) and 0 <= index < len(listed):
            one = f"{single} {listed[index]}"
    about = [layer if isinstance(layer, str) and layer else "", one or re.sub(r"[-_]+", " ", rest)]
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).split(" ")
    technique = " ".join([parts[0], *(part if part.isupper() else part.lower() for part in parts[1:])])
    return ", ".join(filter(None, about if one else [technique, *about]))


def _data(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
