"""One page for a folder of pictures: filter, sort, compare in a contact sheet, and see how each one was made.

    nbhelpers gallery results/my_sweep

The page is a view of the folder and nothing else (`picture_folder` says what it looks at). It is one static
file: it asks no server for anything and works where the folder is opened from a disk, copied elsewhere, or served.
The small pictures it shows lie beside it, and a browser reads only those that come into view.
"""

import json
import math
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec

from nbhelpers import edge, pages
from nbhelpers.gallery import picture_folder
from nbhelpers.gallery.columns import Column, columns, varies
from nbhelpers.gallery.picture_folder import ONE_OF, THUMBNAILS, Job, Picture, PictureFolder, mapping

_SIGN = '<meta name="generator" content="nbhelpers gallery">'
_TOLD_OF_A_JOB = ("seconds", "peak_mb", "finished", "version")
_FETCHED = (".png", "job.json", "sweep.json", ".html", ".ipynb")
_ONLY_LINKED = ("/notebook.html", "/notebook.ipynb")


def write(folder: str | Path) -> Path | str:
    """Writes a folder's gallery page, and the small pictures it shows.

    Args:
        folder: a sweep's results, or any folder of pictures; a path, or an address that fsspec knows (`s3://...`).

    Returns:
        The page: `index.html` in the folder, or `gallery.html` where an `index.html` of another kind is there
        already. For an address, the page's address.

    Raises:
        FileNotFoundError: there is no such folder, or nothing at the address.
        ValueError: it is no folder, may not be written to, or holds neither a sweep nor a PNG; or no installed package
            can read from this kind of address.
    """
    if "://" in str(folder):
        return _write_there(str(folder))
    path = edge.existing_folder(folder)
    return _write_here(path, str(path), _typed(path))


def _write_here(path: Path, name: str, typed: str | None) -> Path:
    """The page of a folder on this machine.

    Args:
        path: the folder.
        name: what the reader knows it as.
        typed: what goes before a picture's name in a command; None where no command reaches the pictures.
    """
    found = picture_folder.read(path)
    if not found.pictures and not found.sweep:
        unreadable = [f"\n- {file}: {reason}" for file, reason in found.unreadable.items()]
        held = f"{_counted(len(unreadable), 'PNG')}, and none can be shown" if unreadable else "no PNG to show"
        more = "".join(unreadable[:5]) + (f"\nand {len(unreadable) - 5:,} more" if len(unreadable) > 5 else "")
        raise ValueError(f"{name} holds {held}; name the folder of a sweep, or of pictures made here{more}")
    page = _page(path)
    edge.write_text(pages.render("gallery.html", sign=_SIGN, **_shown(found, typed)), page)
    return page


def _page(folder: Path) -> Path:
    """Where the page goes: a page that something else wrote is left alone."""
    page = folder / "index.html"
    ours = page.is_file() and _SIGN in page.read_text(encoding="utf-8", errors="replace")[:2000]
    return page if ours or not page.exists() else folder / "gallery.html"


def _write_there(address: str) -> str:
    """The same for an address: what the page is made from is fetched, and the page is put where it belongs."""
    try:
        files, root = fsspec.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{address} cannot be read: {error}") from error
    root = root.rstrip("/")
    names = [name[len(root) + 1 :] for name in files.find(root)] if files.exists(root) else []
    wanted = [name for name in names if name.endswith(_FETCHED) and ".." not in name.split("/")]
    if not wanted:
        raise FileNotFoundError(f"there are no pictures at {address}")
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch) / root.rpartition("/")[2]
        for name in wanted:
            (local / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(_ONLY_LINKED):
                (local / name).touch()
            else:
                files.get_file(f"{root}/{name}", str(local / name))
        page = _write_here(local, address, typed=None)  # `replay` reads no address
        for made in [*(local / THUMBNAILS).glob("*"), page]:  # the page last, when all it shows is there
            place = f"{root}/{made.relative_to(local).as_posix()}"
            files.makedirs(place.rpartition("/")[0], exist_ok=True)
            files.put_file(str(made), place)
    return f"{address.rstrip('/')}/{page.name}"


def _shown(folder: PictureFolder, typed: str | None) -> dict[str, Any]:
    """What the template is filled with."""
    groups = _groups(folder)
    facets = _facets(folder, groups)
    data = {
        "src": [quote(picture.name) for picture in folder.pictures],
        "small": [picture.thumbnail for picture in folder.pictures],
        "width": [picture.width for picture in folder.pictures],
        "height": [picture.height for picture in folder.pictures],
        "facets": facets,
        "sheet": _sheet(folder, facets),
        "folder": typed,
        "failed": [cell for job in folder.failed for cell in _failed_cells(job)],
        **groups,
    }
    return {
        "title": str(folder.sweep.get("name") or folder.path.resolve().name),
        "about": _about(folder, groups["parameters"]),
        "data": data,
        "failed": folder.failed,
        "bare": folder.bare,
        "unreadable": folder.unreadable,
    }


def _groups(folder: PictureFolder) -> dict[str, dict[str, Column]]:
    """All that is known of the pictures, as columns: what they are found by, their recipes, their jobs."""

    def told(picture: Picture) -> dict[str, Any]:
        job = {key: value for key, value in picture.job.items() if key in _TOLD_OF_A_JOB}
        if not picture.notebook:
            return job
        way = os.path.relpath(picture.notebook, os.path.dirname(picture.name) or ".").replace(os.sep, "/")
        return job | {"executed": quote(way)}

    def command(picture: Picture) -> dict[str, str]:
        """In parts, for commands of one sweep differ in few of them."""
        parts = re.split(r"(?= -p )", str(picture.job.get("command") or ""))
        return {str(place): part for place, part in enumerate(parts) if part}

    def results(picture: Picture) -> dict[str, Any]:
        values = mapping(picture.document.get("measured")) | mapping(picture.job.get("results"))
        return {key: value for key, value in values.items() if isinstance(value, str | int | float)}

    pictures = folder.pictures
    said = ("parameters", "measured")  # in columns of their own
    documents = [{key: value for key, value in p.document.items() if key not in said} for p in pictures]
    return {
        "parameters": columns([_plain(picture.parameters) for picture in pictures], _plain(folder.axes)),
        "recipe": columns([_plain(picture.recipe) for picture in pictures]),
        "document": columns(_plain(documents)),
        "results": columns([_plain(results(picture)) for picture in pictures]),
        "job": columns([_plain(told(picture)) for picture in pictures]),
        "command": columns([command(picture) for picture in pictures]),
    }


def _facets(folder: PictureFolder, groups: Mapping[str, Mapping[str, Column]]) -> list[tuple[str, str]]:
    """The columns to filter by, as (group, name): a sweep's axes first, then what most pictures have."""
    parameters = groups["parameters"]
    varied = [name for name, column in parameters.items() if varies(column)]
    first = [name if name in varied else ONE_OF.get(name) for name in folder.axes]
    first = list(dict.fromkeys(name for name in [*first, *ONE_OF.values()] if name in varied))
    often = {name: sum(place >= 0 for place in parameters[name].get("of", ())) for name in varied}
    rest = sorted((name for name in varied if name not in first), key=lambda name: -often[name])
    kind = groups["document"].get("recipe")
    return [("document", "recipe")] * bool(kind and varies(kind)) + [("parameters", name) for name in first + rest]


def _sheet(folder: PictureFolder, facets: list[tuple[str, str]]) -> list[str]:
    """Rows and columns of the contact sheet at first: a sweep's first two axes, or the first two that vary."""
    along = {name for group in folder.sweep.get("zipped") or [] for name in group[1:]}
    names = [name for group, name in facets if group == "parameters" and name not in along]
    return names[:2] if len(names) >= 2 else []


def _failed_cells(job: Job) -> list[dict[str, Any]]:
    """A failed job as the contact sheet looks for it: once for each of the channels or classes it was to show."""
    cells = [{name: json.dumps(_plain(value), ensure_ascii=False) for name, value in job.parameters.items()}]
    for many, one in ONE_OF.items():
        values = job.parameters.get(many)
        if isinstance(values, list):
            cells = [{**cell, one: json.dumps(value)} for cell in cells for value in values]
    return [{"link": pages.link(job.notebook), "parameters": cell} for cell in cells]


def _about(folder: PictureFolder, parameters: Mapping[str, Column]) -> list[str]:
    """The line below the title, in parts."""
    parts = [_counted(len(folder.pictures), "picture")]
    if folder.sweep.get("notebook"):
        parts.append(Path(str(folder.sweep["notebook"])).stem)
    axes = [name if name in parameters else ONE_OF.get(name) for name in folder.axes]
    sizes = [_counted(len(parameters[name]["values"]), name) for name in axes if name in parameters]
    parts += [" by ".join(sizes)] * bool(sizes)
    done, asked = len(folder.jobs), len(folder.asked or ())
    seconds = sum(job["seconds"] for job in folder.jobs.values() if isinstance(job.get("seconds"), int | float))
    if folder.sweep:
        jobs = f"{done:,} of {_counted(asked, 'job')}" if asked > done else _counted(done, "job")
        parts.append(jobs + (f", {_duration(seconds)} of work" if seconds else ""))
    return parts


def _typed(folder: Path) -> str:
    """What goes before a picture's name in a command, as typed where this one was; empty for the current folder."""
    whole, here = folder.resolve(), Path.cwd()
    path = whole.relative_to(here) if whole.is_relative_to(here) else folder
    return "" if path == Path(".") else f"{path.as_posix()}/"


def _plain(value: Any) -> Any:
    """JSON data without the numbers that JSON does not have: those as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _counted(number: int, thing: str) -> str:
    plural = "" if number == 1 or thing.endswith("s") else "s"
    return f"{number:,} {thing}{plural}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
