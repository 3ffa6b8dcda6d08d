"""What a folder of pictures holds: each picture with its recipe, the run that made it, and a small version of it.

A sweep's folder has a `sweep.json` and a `job.json` beside the pictures of each run; jobs that the sweep no longer
asks for, as its notebook has changed since, are passed over. Any other folder of PNGs is read just so, from the recipes
inside them.
"""

import fnmatch
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nbhelpers import edge, images, notebooks
from nbhelpers.gallery.columns import natural

THUMBNAILS = "thumbnails"
"""Folder of the small pictures, in the folder itself."""

SIDE = 320
"""Largest side of a small picture in pixels: a card's width on a screen of two pixels per point."""

ONE_OF = {"channels": "channel", "classes": "class"}
"""Lists in a recipe of several pictures; a PNG's index into them says what it shows."""


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        name: its path within the folder.
        width, height: in pixels.
        thumbnail: name of its small version in the folder `THUMBNAILS`.
        document: what `images.read_recipe` found in it; empty without a recipe.
        job: what `job.json` says of the run that made it; empty outside a sweep.
        notebook: path of the executed notebook within the folder, of its page if it has one; empty where there is none.
    """

    name: str
    width: int
    height: int
    thumbnail: str
    document: dict[str, Any]
    job: dict[str, Any]
    notebook: str = ""

    @property
    def recipe(self) -> dict[str, Any]:
        """The parameters inside the PNG."""
        return mapping(self.document.get("parameters"))

    @property
    def parameters(self) -> dict[str, Any]:
        """What it can be found by: its own channel or class, its recipe, and above both what a sweep set."""
        index, own, told = self.document.get("index"), {}, {**self.recipe, **mapping(self.job.get("parameters"))}
        for many, one in ONE_OF.items():
            values = self.recipe.get(many)
            if isinstance(values, list) and isinstance(index, int) and 0 <= index < len(values) and one not in told:
                own[one] = values[index]
                told.pop(many)
        return own | told


@dataclass(frozen=True)
class Job:
    """A sweep's job without a picture: its notebook, what set it apart, and the last line of the error if it failed."""

    name: str
    notebook: str
    parameters: dict[str, Any]
    error: str = ""


@dataclass
class PictureFolder:
    """A folder as it was read.

    Attributes:
        path: the folder.
        sweep: what `sweep.json` says; empty for other folders.
        pictures: in the order of the sweep's axes, then of their names.
        unreadable: PNGs that are none, by name, with the reason.
        failed: a sweep's failed jobs.
        bare: its jobs that are done and made no picture.
        jobs: what `job.json` says of each job that is done, by the job's folder.
    """

    path: Path
    sweep: dict[str, Any]
    pictures: list[Picture] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    failed: list[Job] = field(default_factory=list)
    bare: list[Job] = field(default_factory=list)
    jobs: dict[Path, dict[str, Any]] = field(default_factory=dict)

    @property
    def axes(self) -> dict[str, list[Any]]:
        """The values of each parameter that the sweep varies, in the order of its file."""
        axes = mapping(self.sweep.get("axes"))
        return {name: values for name, values in axes.items() if isinstance(values, list)}

    @cached_property
    def asked(self) -> set[str] | None:
        """The names of the jobs that the sweep asks for; None where it does not say."""
        jobs = self.sweep.get("jobs")
        return {str(job) for job in jobs} if isinstance(jobs, list) else None

    def asks_for(self, job: str) -> bool:
        """Whether a job of this name is to be shown."""
        return self.asked is None or job in self.asked


def read(path: Path) -> PictureFolder:
    """Reads a folder and the folders in it, and makes the small pictures that are not there yet.

    Raises:
        FileNotFoundError: there is no such folder. ValueError: it is none, or nothing may be written there.
    """
    path = edge.existing_folder(path)
    _check_writable(path)
    folder = PictureFolder(path, mapping(_json(path / "sweep.json")))
    homes: dict[Path, tuple[Path, dict[str, Any]]] = {}
    for file in _files(folder):
        if file.parent not in homes:
            home = _home(path, file.parent)
            homes[file.parent] = home, mapping(_json(home / "job.json"))
        home, job = homes[file.parent]
        if folder.sweep and path / "jobs" in home.parents and not (home / "job.json").exists():
            continue  # where folders cannot be moved into place, job.json comes last: this job is not whole
        if not folder.pictures and not folder.unreadable:
            _check_writable(path / THUMBNAILS)
        try:
            folder.pictures.append(_picture(path, file, home, job))
        except (ValueError, OSError) as error:
            name = file.relative_to(path).as_posix().encode(errors="replace").decode()
            folder.unreadable[name] = str(error).replace(f"{path}{os.sep}", "")
    ranks = {name: {json.dumps(value): rank for rank, value in enumerate(axis)} for name, axis in folder.axes.items()}

    def place(picture: Picture) -> tuple:
        given = picture.recipe | mapping(picture.job.get("parameters"))
        return [rank.get(json.dumps(given.get(name)), len(rank)) for name, rank in ranks.items()], natural(picture.name)

    folder.pictures.sort(key=place)
    folder.jobs = {home: job for home, job in homes.values() if job}
    for file in sorted((path / "jobs").glob("*/job.json")) if folder.sweep else []:
        if folder.asks_for(file.parent.name) and file.parent not in folder.jobs:
            folder.jobs[file.parent] = job = mapping(_json(file))
            folder.bare.append(Job(file.parent.name, _executed(path, file.parent, job), mapping(job.get("varied"))))
    failed = [file for file in sorted((path / "failed").glob("*.ipynb")) if folder.asks_for(file.stem)]
    folder.failed = [_failed(file, list(folder.axes)) for file in failed]
    _forget_thumbnails(folder)
    return folder


def mapping(value: Any) -> dict[str, Any]:
    """The value, where it is names and values; otherwise nothing: files from elsewhere may hold anything."""
    return dict(value) if isinstance(value, Mapping) else {}


def _check_writable(folder: Path) -> None:
    """Before the first picture is read: a picture whose small version cannot be written is not unreadable."""
    try:
        edge.folder_to_write(folder)
    except ValueError as error:
        raise ValueError(
            f"{error}; the page and its small pictures go there: copy them to where you may write"
        ) from error


def _files(folder: PictureFolder) -> Iterator[Path]:
    """All PNGs of the folder and the folders in it, but no hidden ones, which are not whole yet."""
    for here, folders, names in os.walk(folder.path):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != THUMBNAILS)
        if Path(here) == folder.path / "jobs":
            folders[:] = filter(folder.asks_for, folders)
        yield from (Path(here) / name for name in sorted(fnmatch.filter(names, "*.png")) if not name.startswith("."))


def _home(folder: Path, inner: Path) -> Path:
    """The folder of the run that made the pictures in `inner`: the nearest one with a `job.json`, or `inner`."""
    above = [inner, *inner.parents]
    within = above[: above.index(folder)]
    return next((each for each in within if (each / "job.json").exists()), inner)


def _picture(folder: Path, path: Path, home: Path, job: dict[str, Any]) -> Picture:
    name, status = path.relative_to(folder).as_posix(), edge.existing_file(path).stat()
    version = f"{name} {status.st_size} {status.st_mtime_ns} {SIDE}"
    try:
        small = hashlib.sha256(version.encode()).hexdigest()[:16] + ".webp"
    except UnicodeEncodeError as error:
        raise ValueError("its name is not in UTF-8, and a page cannot link to it; rename it") from error
    if (folder / THUMBNAILS / small).exists():
        with images.opened(path) as image:
            width, height = image.size
    else:
        picture, width, height = images.thumbnail(path, SIDE)
        with edge.replacing(folder / THUMBNAILS / small) as temporary:
            picture.save(temporary, "WEBP", quality=82)
    try:
        document = images.read_recipe(path)
    except ValueError:
        document = {}  # a figure that somebody saved by other means
    return Picture(name, width, height, small, document, job, _executed(folder, home, job))


def _executed(folder: Path, home: Path, job: dict[str, Any]) -> str:
    """What made a run's pictures, a page if there is one, else a notebook: in a sweep's folder, or beside the run's."""
    if home == folder:
        return ""
    notebook = home / "notebook.ipynb" if job else home.with_name(f"{home.name}.ipynb")
    return _page_of(notebook).relative_to(folder).as_posix() if notebook.exists() else ""


def _page_of(notebook: Path) -> Path:
    """What a reader opens of an executed notebook: the page beside it, if there is one."""
    page = notebook.with_suffix(".html")
    return page if page.exists() else notebook


def _failed(path: Path, axes: list[str]) -> Job:
    name, link = path.stem, f"{path.parent.name}/{_page_of(path).name}"
    try:
        notebook = notebooks.read(path)
    except (ValueError, OSError):
        return Job(name, link, {})
    given = mapping(notebook.metadata.get("papermill", {}).get("parameters"))
    errors = notebook.metadata.get("nbhelpers", {}).get("errors") or notebooks.errors(notebook)
    lines = "\n".join(errors).strip().splitlines()
    return Job(name, link, {axis: given[axis] for axis in axes if axis in given}, lines[-1] if lines else "")


def _forget_thumbnails(folder: PictureFolder) -> None:
    """Removes the small versions of pictures that are gone or have changed."""
    used = {picture.thumbnail for picture in folder.pictures}
    for path in (folder.path / THUMBNAILS).glob("[0-9a-f]*.webp"):
        if len(path.stem) == 16 and path.name not in used:
            path.unlink(missing_ok=True)


def _json(path: Path) -> Any:
    try:
        return json.loads(edge.existing_file(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # not there, or not whole: the pictures are shown all the same
