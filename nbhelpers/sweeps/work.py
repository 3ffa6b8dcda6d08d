"""What a worker of the cluster does: one job at a time, watched, and put into its place when it is whole."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import nbformat

from nbhelpers import __version__, edge
from nbhelpers.notebooks import arguments
from nbhelpers.sweeps import processes
from nbhelpers.sweeps.manifest import DONE, FAILED
from nbhelpers.sweeps.plan import Job
from nbhelpers.sweeps.store import Store

STOPPED = "stopped"
_LOOK = 0.2
_ADDED = {"injected-parameters", "papermill-error-cell-tag"}


@dataclass(frozen=True)
class Shared:
    """What all jobs of a sweep have in common.

    Attributes:
        topic: name under which workers tell the sweep that they begin a job.
        source: the notebook, as text.
        notebook: its path as the sweep was given it, for the command that makes a job again.
        folder: the current folder of the notebook's code.
        version: of the package; jobs are named after it.
        store: where results go.
        modules: what a worker imports once for all jobs; None to start every job from scratch.
        threads, timeout, memory: threads, seconds and bytes a job may use.
    """

    topic: str
    source: str
    notebook: str
    folder: str
    version: str
    store: Store
    modules: list[str] | None
    threads: int
    timeout: float
    memory: int | None


def work(shared: Shared, job: Job, wanted: Callable[[], bool] = lambda: True) -> dict[str, Any]:
    """Does a job, unless it is done.

    Args:
        shared: what it has in common with the others.
        job: what to do.
        wanted: asked again and again; when it says no, the job is ended.

    Returns:
        `state` (done, failed or stopped), and as far as they are known `seconds`, `peak_mb`, `error`, `cell`.
    """
    if shared.version != __version__:
        said = f"this worker has nbhelpers {__version__}, the sweep {shared.version}: install the same everywhere"
        return {"state": FAILED, "error": said}
    try:
        if done := shared.store.job(job.id):
            return {"state": DONE, "seconds": done["seconds"], "peak_mb": done["peak_mb"]}
        with shared.store.workspace() as workspace, _scratch() as folder:
            return _attempt(shared, job, workspace, folder, wanted)
    except OSError as error:
        return {"state": FAILED, "error": f"{type(error).__name__}: {error}"}


def _attempt(shared: Shared, job: Job, workspace: Path, folder: Path, wanted: Callable[[], bool]) -> dict[str, Any]:
    here = Path(shared.folder)
    request = {
        "parameters": job.parameters,
        "workspace": str(workspace),
        "folder": str(here if here.is_dir() else workspace),
        "environment": _environment(shared.threads, folder),
    }
    (folder / "source.ipynb").write_text(shared.source, encoding="utf-8")
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    start = time.perf_counter()
    ended, peak = _watch(processes.start(folder, shared.modules), shared, wanted)
    outcome = {"seconds": round(time.perf_counter() - start, 3), "peak_mb": round(peak / 2**20)}
    if ended == STOPPED:
        return {**outcome, "state": STOPPED}
    told = _told(folder)
    outcome["seconds"] = round(told.get("seconds", outcome["seconds"]), 3)  # without the start of the server
    outcome["peak_mb"] = round(told.get("peak_mb") or outcome["peak_mb"])
    errors = [ended] if ended else told.get("errors", [_silence(folder)])
    executed = workspace / "notebook.ipynb"
    if errors:
        cell = _unfinished_cell(executed, died=any("DeadKernelError" in error for error in errors))
        if executed.exists():
            shared.store.keep_failed(executed, job.id)
        return {**outcome, "state": FAILED, "error": "\n\n".join(errors), "cell": cell}
    description = {
        "id": job.id,
        "notebook": shared.notebook,
        "parameters": job.parameters,
        "varied": job.varied,
        "seconds": outcome["seconds"],
        "peak_mb": outcome["peak_mb"],
        "version": shared.version,
        "command": arguments.command(shared.notebook, job.parameters),
        "pictures": sorted(path.relative_to(workspace).as_posix() for path in workspace.rglob("*.png")),
        "results": told["results"],
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    edge.write_text(edge.to_json(description, indent=1, ensure_ascii=False), workspace / "job.json")
    shared.store.keep(workspace, job.id)
    return {**outcome, "state": DONE}


def _watch(process: processes.Process, shared: Shared, wanted: Callable[[], bool]) -> tuple[str | None, int]:
    """Waits for a process; ends it when its time or memory is up, or nobody wants it. Why, and the peak in bytes."""
    begun, peak, why = time.monotonic(), 0, None
    try:
        while why is None and process.wait(_LOOK) is None:
            used = _used_by_children(process.pid)
            peak = max(peak, used)
            if not wanted():
                why = STOPPED
            elif time.monotonic() - begun > shared.timeout:
                why = f"TimeoutError: stopped after {shared.timeout:g} s (`timeout:` in the file, or --timeout)"
            elif shared.memory and used > shared.memory:
                why = (
                    f"MemoryError: stopped at {used / 1e9:.2f} GB; a job may use {shared.memory / 1e9:.2f} GB "
                    "(`memory:` in the file)"
                )
    finally:  # also when a notebook ended well but left processes behind
        processes.end(process)
    return why, peak


def _told(folder: Path) -> dict[str, Any]:
    outcome = folder / "outcome.json"
    return json.loads(outcome.read_text(encoding="utf-8")) if outcome.exists() else {}


def _silence(folder: Path) -> str:
    """What can be said of a process that ended without an outcome."""
    log = folder / "log.txt"
    last = log.read_text(encoding="utf-8", errors="replace").strip()[-2000:] if log.exists() else ""
    return last or "ChildProcessError: the job's process was ended from outside"


def _unfinished_cell(executed: Path, died: bool) -> str | None:
    """The number, from 0, of the cell that failed, or was running when the job was stopped or its kernel `died`."""
    try:
        cells = nbformat.read(executed, as_version=4).cells
    except Exception:  # papermill was writing it when it was stopped, or never came to it
        return None
    of_the_notebook = [cell for cell in cells if not _ADDED.intersection(cell.metadata.get("tags", []))]
    last = None
    for number, cell in enumerate(of_the_notebook):
        noted = cell.metadata.get("papermill", {})
        if noted.get("status") in ("running", "failed"):
            return str(number)
        if noted.get("start_time"):
            last = str(number)
    # papermill takes the cell in which a kernel died, and all that would have followed, for completed
    return last if died else None


def _environment(threads: int, folder: Path) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return dict.fromkeys(names, str(threads)) | {"JUPYTER_RUNTIME_DIR": str(folder)}


def _used_by_children(pid: int) -> int:
    """Resident memory in bytes of a process's children and theirs."""
    import psutil  # comes with the extra that sweeps need; what reads a sweep's results does without

    total = 0
    with suppress(psutil.Error):  # it has just ended
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                total += child.memory_info().rss
    return total


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nbhelpers-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
