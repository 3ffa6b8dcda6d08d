"""Where a sweep's results lie: a folder here, or a place that fsspec knows (`s3://`, `gs://`, `abfs://`, ...).

    RESULTS/NAME/sweep.json           what was asked for
    RESULTS/NAME/jobs/ID/             one finished job, whole: notebook.ipynb and a page of it, its pictures, job.json
    RESULTS/NAME/failed/ID.ipynb      how far a failed one came; ID.html, the page of it
    RESULTS/NAME/damaged/ID-.../      what looked like a finished one and was not
    RESULTS/NAME/manifest.sqlite      the record of all

A job's folder on a disk is filled beside its place and renamed, which happens at once or not at all. An object store
has no such step: there job.json is written last, and a job without it is not there.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from nbhelpers import edge


@runtime_checkable
class Store(Protocol):
    """What the engine and its workers ask of the place for results. Every method may raise `OSError`."""

    state: Path
    """Folder on this machine for the manifest and the lock."""

    def prepare(self) -> None:
        """Makes the place, sees that it can be written to, and clears away what dead sweeps left."""

    def finished(self) -> set[str]:
        """The ids of all whole jobs."""

    def examined(self) -> tuple[set[str], list[str]]:
        """The ids of all whole jobs; and of those that look finished and are not, as their `job.json` is empty or cut
        off. These are set aside."""

    def job(self, job: str) -> dict[str, Any] | None:
        """A whole job's `job.json`; None where there is none, or a damaged one."""

    def workspace(self) -> Any:
        """A context that gives a folder to work in, removed on leaving unless it was kept."""

    def keep(self, workspace: Path, job: str) -> None:
        """Puts a filled workspace into its place as a whole job."""

    def keep_failed(self, executed: Path, job: str) -> None:
        """Keeps how far a failed job came, and the page beside it if there is one."""

    def write(self, name: str, text: str) -> None:
        """Writes a text file beside the jobs."""

    def close(self) -> None:
        """At the end of a sweep."""


def place(results: str, name: str) -> Store:
    """The store for a sweep of this name.

    Args:
        results: a folder, or an address such as `s3://bucket/results`.

    Raises:
        ValueError: no installed package can write to this kind of address.
    """
    if "://" not in results:
        return Folder(Path(results).resolve() / name)
    try:
        import fsspec

        fsspec.core.url_to_fs(results)
    except (ImportError, ValueError) as error:
        raise ValueError(f"results cannot go to {results}: {error}") from error
    return Remote(f"{results.rstrip('/')}/{name}")


@dataclass(frozen=True)
class Folder:
    """A folder on a disk that the workers see under the same path."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder

    def __str__(self) -> str:
        return os.path.relpath(self.folder)

    def prepare(self) -> None:
        (self.folder / "jobs").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.folder) as probe:
            probe.write(b"can be written to")
        shutil.rmtree(self._partial, ignore_errors=True)

    def finished(self) -> set[str]:
        return {each.name for each in (self.folder / "jobs").iterdir() if self.job(each.name) is not None}

    def examined(self) -> tuple[set[str], list[str]]:
        whole, wrong = set(), []
        for each in sorted((self.folder / "jobs").iterdir()):
            if not each.is_dir():
                wrong.append(each.name)
            elif (each / "job.json").exists():
                (wrong.append if self.job(each.name) is None else whole.add)(each.name)
        for name in wrong:
            there = self.folder / "damaged" / f"{name}-{uuid.uuid4().hex[:6]}"
            there.parent.mkdir(exist_ok=True)
            (self.folder / "jobs" / name).rename(there)
        return whole, wrong

    def job(self, job: str) -> dict[str, Any] | None:
        path = self.folder / "jobs" / job / "job.json"
        return _description(path.read_bytes()) if path.is_file() else None

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"the worker does not see the results' folder {self.folder}: choose one that all machines share, "
                "or an address such as s3://bucket/results"
            )
        self._partial.mkdir(exist_ok=True)
        workspace = Path(tempfile.mkdtemp(dir=self._partial))
        workspace.chmod(0o777 & ~_umask())
        try:
            yield workspace
        finally:
            shutil.rmtree(workspace, ignore_errors=True)

    def keep(self, workspace: Path, job: str) -> None:
        there = self.folder / "jobs" / job
        if self.job(job) is None:  # else two workers did it, as one was thought dead
            shutil.rmtree(there, ignore_errors=True)  # somebody took a part of it away
            for made in workspace.rglob("*"):
                edge.synced(made)
            workspace.rename(there)
        for each in (self.folder / "failed").glob(f"{job}.*"):
            each.unlink(missing_ok=True)

    def keep_failed(self, executed: Path, job: str) -> None:
        (self.folder / "failed").mkdir(exist_ok=True)
        for each in _with_page(executed):
            os.replace(each, self.folder / "failed" / f"{job}{each.suffix}")

    def write(self, name: str, text: str) -> None:
        edge.write_text(text, self.folder / name)

    def close(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)

    @property
    def _partial(self) -> Path:
        return self.folder / ".partial"


@dataclass(frozen=True)
class Remote:
    """A place behind an address. The manifest is kept in a cache folder here and copied there at the end."""

    address: str

    @property
    def state(self) -> Path:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "nbhelpers" / "sweeps" / hashlib.sha256(self.address.encode()).hexdigest()[:12]

    def __str__(self) -> str:
        return self.address

    def prepare(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        files, root = self._opened()
        files.makedirs(f"{root}/jobs", exist_ok=True)
        files.pipe_file(f"{root}/.probe", b"can be written to")
        files.rm_file(f"{root}/.probe")
        manifest = self.state / "manifest.sqlite"
        if not manifest.exists() and files.exists(f"{root}/manifest.sqlite"):
            files.get_file(f"{root}/manifest.sqlite", str(manifest))

    def finished(self) -> set[str]:
        return {job for job, text in self._descriptions() if _description(text) is not None}

    def examined(self) -> tuple[set[str], list[str]]:
        files, root = self._opened()
        whole = {job: _description(text) is not None for job, text in self._descriptions()}
        wrong = sorted(job for job in whole if not whole[job])
        for job in wrong:
            files.mv(f"{root}/jobs/{job}", f"{root}/damaged/{job}-{uuid.uuid4().hex[:6]}", recursive=True)
        return set(whole) - set(wrong), wrong

    def job(self, job: str) -> dict[str, Any] | None:
        files, root = self._opened()
        path = f"{root}/jobs/{job}/job.json"
        return _description(files.cat_file(path)) if files.exists(path) else None

    def _descriptions(self) -> Iterator[tuple[str, bytes]]:
        files, root = self._opened()
        files.invalidate_cache()
        found = [path for path in files.find(f"{root}/jobs") if path.endswith("/job.json")]
        if found:
            texts = files.cat(found)
            yield from ((path.split("/")[-2], text) for path, text in texts.items())

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="nbhelpers-") as folder:
            yield Path(folder)

    def keep(self, workspace: Path, job: str) -> None:
        files, root = self._opened()
        made = sorted(path for path in workspace.rglob("*") if path.is_file())
        try:
            for path in sorted(made, key=lambda path: path == workspace / "job.json"):
                there = f"{root}/jobs/{job}/{path.relative_to(workspace).as_posix()}"
                files.makedirs(there.rpartition("/")[0], exist_ok=True)
                files.put_file(str(path), there)
        except OSError:  # a full disk: half a job, and half a file of it, would only take its room
            with contextlib.suppress(OSError):
                files.rm(f"{root}/jobs/{job}", recursive=True)
            raise
        for failed in files.glob(f"{root}/failed/{job}.*"):
            files.rm_file(failed)

    def keep_failed(self, executed: Path, job: str) -> None:
        files, root = self._opened()
        files.makedirs(f"{root}/failed", exist_ok=True)
        for each in _with_page(executed):
            files.put_file(str(each), f"{root}/failed/{job}{each.suffix}")

    def write(self, name: str, text: str) -> None:
        files, root = self._opened()
        files.pipe_file(f"{root}/{name}", text.encode())

    def close(self) -> None:
        files, root = self._opened()
        files.put_file(str(self.state / "manifest.sqlite"), f"{root}/manifest.sqlite")

    def _opened(self) -> tuple[Any, str]:
        import fsspec

        return fsspec.core.url_to_fs(self.address)


def _with_page(executed: Path) -> list[Path]:
    """An executed notebook, and the page of it, which a job that was ended did not come to write."""
    return [each for each in (executed, executed.with_suffix(".html")) if each.exists()]


def _description(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found else None


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
