"""One page for a folder of pictures: filter, sort, compare in a contact sheet, and see how each one was made.

    python -m nbhelpers gallery results/my_sweep

The page is a view of the folder and nothing else. For a sweep it reads `sweep.json` and the `job.json` beside the
pictures; any other folder of pictures will do, for every PNG that was made here carries its recipe. It is one static
file: it asks no server for anything and works where the folder is opened from a disk, copied elsewhere, or served.
"""

import fnmatch
import hashlib
import json
import math
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec

from nbhelpers import decoding, images, notebooks, pages
from nbhelpers.columns import columns, natural, varies
from nbhelpers.results_page import thumbnail

THUMBNAILS = "thumbnails"
"""Folder of the small pictures, beside the page."""

SIDE = 320
"""Largest side of a small picture in pixels: a card's width on a screen of two pixels per point."""

# A recipe with several pictures says which one a file shows by its index into this list.
_ONE_OF = {"channels": "channel", "classes": "class"}
_SIGN = '<meta name="generator" content="nbhelpers gallery">'


@dataclass(frozen=True)
class Picture:
    """One picture of the page.

    Attributes:
        name: its path within the folder.
        width, height: in pixels.
        thumbnail: name of its small version in the folder `THUMBNAILS`.
        document: what `images.read_recipe` found in it; empty without a recipe.
        job: what `job.json` says of the run that made it; empty outside a sweep.
        links: paths within the folder: its executed notebook, where there is one.
    """

    name: str
    width: int
    height: int
    thumbnail: str
    document: dict[str, Any]
    job: dict[str, Any]
    notebook: str = ""

    @property
    def parameters(self) -> dict[str, Any]:
        """What it can be found by: its recipe's parameters; where a sweep set a value, the sweep's."""
        recipe, given = (_mapping(each.get("parameters")) for each in (self.document, self.job))
        one = {}
        for many, name in _ONE_OF.items():
            values, index = recipe.get(many), self.document.get("index")
            if isinstance(values, list) and isinstance(index, int) and 0 <= index < len(values):
                one[name] = values[index]
        return {**one, **recipe, **given}


@dataclass
class _Folder:
    """What a folder holds, as far as the page shows it."""

    path: Path
    sweep: dict[str, Any]
    pictures: list[Picture] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


def write(folder: str | Path) -> Path | str:
    """Writes a folder's gallery page, and the small pictures it shows.

    Args:
        folder: a sweep's results, or any folder of pictures; a path, or an address that fsspec knows (`s3://...`).

    Returns:
        The page: `index.html` in the folder, or `gallery.html` where an `index.html` of another kind is there
        already. For an address, the page's address.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is no folder, or holds neither a sweep nor a PNG.
    """
    if "://" in str(folder):
        return _write_there(str(folder))
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise FileNotFoundError(decoding.missing(folder))
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file, expected a folder of pictures")
    found = _read(folder)
    if not found.pictures and not found.sweep:
        more = "".join(f"\n- {name}: {reason}" for name, reason in list(found.unreadable.items())[:5])
        raise ValueError(f"{folder} holds no PNG to show; name the folder of a sweep, or of pictures made here{more}")
    page = _page(folder)
    notebooks.write_text(pages.render("gallery.html", sign=_SIGN, **_shown(found)), page)
    _forget_thumbnails(folder, {picture.thumbnail for picture in found.pictures})
    return page


def _write_there(address: str) -> str:
    """The same for an address: what the page is made from is fetched, and the page is put beside it."""
    files, root = fsspec.url_to_fs(address)
    root = root.rstrip("/")
    names = [name[len(root) + 1 :] for name in files.find(root)] if files.exists(root) else []
    wanted = [name for name in names if name.endswith((".png", "job.json", "sweep.json", "index.html", ".ipynb"))]
    if not wanted:
        raise FileNotFoundError(f"there are no pictures at {address}")
    with tempfile.TemporaryDirectory() as local:
        for name in wanted:
            (Path(local) / name).parent.mkdir(parents=True, exist_ok=True)
            files.get_file(f"{root}/{name}", str(Path(local) / name))
        page = write(local)
        for made in [*(Path(local) / THUMBNAILS).glob("*"), page]:  # the page last, when all it shows is there
            name = made.relative_to(local).as_posix()
            files.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
            files.put_file(str(made), f"{root}/{name}")
        return f"{address.rstrip('/')}/{page.name}"


def _page(folder: Path) -> Path:
    """Where the page goes: a page that something else wrote is left alone."""
    page = folder / "index.html"
    if page.exists() and _SIGN not in page.read_text(encoding="utf-8", errors="replace")[:2000]:
        return folder / "gallery.html"
    return page


def _read(folder: Path) -> _Folder:
    found = _Folder(folder, _mapping(_json(folder / "sweep.json")))
    (folder / THUMBNAILS).mkdir(exist_ok=True)
    jobs: dict[Path, dict[str, Any]] = {}
    for path in _files(folder):
        if path.parent not in jobs:
            jobs[path.parent] = _mapping(_json(path.parent / "job.json"))
        try:
            found.pictures.append(_picture(folder, path, jobs[path.parent]))
        except (ValueError, OSError) as error:
            found.unreadable[path.relative_to(folder).as_posix()] = str(error).replace(f"{folder}{os.sep}", "")
    orders = _orders(found.sweep)
    ranks = {name: {json.dumps(value): rank for rank, value in enumerate(order)} for name, order in orders.items()}

    def place(picture: Picture) -> tuple:
        values = picture.parameters
        return [ranks[name].get(json.dumps(values.get(name)), 1 << 30) for name in ranks], natural(picture.name)

    found.pictures.sort(key=place)
    return found


def _files(folder: Path) -> Iterator[Path]:
    """All PNGs of the folder and the folders in it, but no hidden ones, which are not whole yet."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != THUMBNAILS)
        yield from (Path(here) / name for name in sorted(fnmatch.filter(names, "*.png")) if not name.startswith("."))


def _picture(folder: Path, path: Path, job: dict[str, Any]) -> Picture:
    name, status = path.relative_to(folder).as_posix(), path.stat()
    version = f"{name} {status.st_size} {status.st_mtime_ns} {SIDE}"
    small = hashlib.sha256(version.encode(errors="surrogateescape")).hexdigest()[:16] + ".webp"
    if (folder / THUMBNAILS / small).exists():
        with decoding.opened(path) as image:
            width, height = image.size
    else:
        picture, width, height = thumbnail(path, SIDE)
        with images.replacing(folder / THUMBNAILS / small) as temporary:
            picture.save(temporary, "WEBP", quality=82)
    try:
        document = images.read_recipe(path)
    except ValueError:
        document = {}  # a figure that somebody saved by other means
    executed = path.parent / "notebook.ipynb" if job else path.parent.with_suffix(".ipynb")
    inside = path.parent != folder and executed.exists()
    notebook = executed.relative_to(folder).as_posix() if inside else ""
    return Picture(name, width, height, small, document, job, notebook)


def _shown(found: _Folder) -> dict[str, Any]:
    """What the template is filled with."""
    pictures, orders = found.pictures, _orders(found.sweep)
    parameters = columns([_plain(picture.parameters) for picture in pictures], _plain(orders))
    documents = [{k: v for k, v in picture.document.items() if k != "parameters"} for picture in pictures]
    jobs = [_plain({k: v for k, v in p.job.items() if k in _JOB}) for p in pictures]
    counted = [{k: v for k, v in _mapping(p.job.get("results")).items() if isinstance(v, str | int | float)} for p in pictures]
    groups = {
        "parameters": parameters,
        "recipe": columns([_plain(_mapping(picture.document.get("parameters"))) for picture in pictures]),
        "document": columns(_plain(documents)),
        "results": columns(_plain(counted)),
        "job": columns(jobs),
    }
    facets = _facets(groups, list(orders))
    data = {
        "src": [quote(picture.name) for picture in pictures],
        "small": [picture.thumbnail for picture in pictures],
        "width": [picture.width for picture in pictures],
        "height": [picture.height for picture in pictures],
        "notebook": columns([{"path": quote(p.notebook)} if p.notebook else {} for p in pictures]).get("path"),
        "facets": facets,
        "sheet": _sheet(found.sweep, facets),
        "check": _shell_path(found.path),
        **groups,
    }
    failed = _failed(found.path, list(orders))
    return {
        "title": str(found.sweep.get("name") or found.path.resolve().name),
        "about": _about(found, facets, parameters, failed),
        "data": data | {"failed": [{"link": f["link"], "parameters": f["parameters"]} for f in failed]},
        "failed": failed,
        "unreadable": found.unreadable,
    }


_JOB = ("id", "notebook", "command", "seconds", "peak_mb", "finished", "version")


def _orders(sweep: Mapping[str, Any]) -> dict[str, list[Any]]:
    """A sweep's axes: the values of each varied parameter, in the order of the file."""
    axes = _mapping(sweep.get("axes"))
    return {name: values for name, values in axes.items() if isinstance(values, list)}


def _facets(groups: Mapping[str, Mapping[str, Any]], axes: list[str]) -> list[list[str]]:
    """The columns to filter by, as (group, name): a sweep's axes, which of several, and whatever else varies."""
    parameters = groups["parameters"]
    varied = [name for name, column in parameters.items() if varies(column)]
    first = [name for name in axes if name in varied]
    which = [name for name in _ONE_OF.values() if name in varied and name not in first]
    often = {name: -sum(place >= 0 for place in parameters[name].get("of", ())) for name in varied}
    rest = sorted((name for name in varied if name not in first + which), key=often.get)
    kind = [["document", "recipe"]] if varies(groups["document"].get("recipe", {"values": []})) else []
    return kind + [["parameters", name] for name in first + which + rest]


def _sheet(sweep: Mapping[str, Any], facets: list[list[str]]) -> list[str]:
    """Rows and columns of the contact sheet: a sweep's two axes, or the first two parameters that vary."""
    zipped = [set(group[1:]) for group in sweep.get("zipped") or []]
    names = [name for group, name in facets if group == "parameters" and not any(name in more for more in zipped)]
    return names[:2] if len(names) >= 2 else []


def _about(found: _Folder, facets: list, parameters: Mapping[str, Any], failed: list) -> list[str]:
    """The line below the title, in parts."""
    parts = [_counted(len(found.pictures), "picture")]
    if found.sweep.get("notebook"):
        parts.append(Path(str(found.sweep["notebook"])).stem)
    varied = [name for group, name in facets if group == "parameters"]
    sizes = [f"{len(parameters[name]['values'])} {name}" for name in varied if name in _orders(found.sweep)]
    parts += [" × ".join(sizes)] * bool(sizes)
    jobs = {p.job["id"]: p.job for p in found.pictures if p.job.get("id")}
    seconds = [job["seconds"] for job in jobs.values() if isinstance(job.get("seconds"), int | float)]
    if jobs:
        parts.append(f"{_counted(len(jobs), 'job')}{f', {_duration(sum(seconds))} of work' if seconds else ''}")
    return parts


def _failed(folder: Path, axes: list[str]) -> list[dict[str, Any]]:
    """A sweep's failed jobs: the notebook up to the error, the parameters that set it apart, the error's last line."""
    failed = []
    for path in sorted((folder / "failed").glob("*.ipynb")):
        try:
            notebook = notebooks.read(path)
        except ValueError:
            failed.append({"link": f"failed/{quote(path.name)}", "name": path.stem, "parameters": {}, "error": ""})
            continue
        metadata = notebook.metadata
        given = _mapping(metadata.get("papermill", {}).get("parameters"))
        errors = metadata.get("nbhelpers", {}).get("errors") or notebooks.errors(notebook)
        failed.append(
            {
                "link": f"failed/{quote(path.name)}",
                "name": path.stem,
                "parameters": {name: json.dumps(_plain(given[name]), ensure_ascii=False) for name in axes if name in given},
                "error": errors[-1].strip().splitlines()[-1] if errors and errors[-1].strip() else "",
            }
        )
    return failed


def _forget_thumbnails(folder: Path, used: set[str]) -> None:
    for path in (folder / THUMBNAILS).glob("[0-9a-f]*.webp"):
        if len(path.stem) == 16 and path.name not in used:
            path.unlink(missing_ok=True)


def _shell_path(folder: Path) -> str:
    """The folder as a command typed where this one was would name it."""
    inside = folder.resolve().is_relative_to(Path.cwd())
    path = folder.resolve().relative_to(Path.cwd()).as_posix() if inside else folder.as_posix()
    return "" if path == "." else shlex.quote(path + "/")


def _plain(value: Any) -> Any:
    """JSON data without the numbers that JSON does not have: those as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # not there, or not whole: the pictures are shown all the same


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
