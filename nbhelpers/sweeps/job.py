"""One job, in a process of its own: papermill, then what came out of it in one small file.

    python -m nbhelpers.sweeps.job FOLDER

The folder holds `request.json` and `source.ipynb`; at the end it holds `outcome.json`, too. The process is the first
of a group, in which the kernel is the second; when the worker that started it dies, the group ends itself.
"""

import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from nbhelpers import edge, notebooks
from nbhelpers.notebooks import execution, reading
from nbhelpers.sweeps.kernels import JobKernel, PreparedKernel

CHECKED = "nbval-check-output"


def main(folder: Path, forked: bool = False) -> None:
    """Carries out the job a folder describes.

    Args:
        folder: with the request; sockets and the outcome go there as well.
        forked: this process is a fork that has imported what the notebook needs; its kernel may be a fork of it.
    """
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    os.environ.update(request["environment"])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    JobKernel.prepared = PreparedKernel() if forked else None
    threading.Thread(target=_end_with_parent, args=(os.getppid(), folder), daemon=True).start()
    workspace = Path(request["workspace"])
    executed, start = workspace / "notebook.ipynb", time.perf_counter()
    errors = execution.execute(
        folder / "source.ipynb", executed, request["parameters"], workspace, Path(request["folder"]), JobKernel
    )
    outcome: dict[str, Any] = {"seconds": time.perf_counter() - start, "peak_mb": _peak_megabytes()}
    if executed.exists():
        notebook = notebooks.read(executed)
        errors += notebooks.errors(notebook)
        outcome["results"] = _results(workspace, notebook)
        notebooks.write(execution.without_the_run(notebook), executed)
        reading.write_page(notebook, executed.with_suffix(".html"))
    outcome["errors"] = errors
    edge.write_text(edge.to_json(outcome), folder / "outcome.json")


def _results(workspace: Path, notebook: Any) -> dict[str, Any]:
    """What the notebook recorded (`notebooks.record`), and the facts it printed in its checked cells."""
    recorded = workspace / notebooks.RECORDED
    results = json.loads(recorded.read_text(encoding="utf-8")) if recorded.exists() else {}
    recorded.unlink(missing_ok=True)
    for cell in notebooks.tagged(notebook, CHECKED):
        for line in "".join(output.get("text", "") for output in cell.outputs).splitlines():
            fact, colon, value = line.partition(": ")
            if colon:
                results.setdefault(fact.strip(), value.strip())
    return results


def _peak_megabytes() -> float:
    """Of the kernel: the largest of the processes this one has waited for."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _end_with_parent(parent: int, folder: Path) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
