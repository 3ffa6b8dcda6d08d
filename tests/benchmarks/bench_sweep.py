"""What sweeps cost and gain: overhead per job, two workers against one after another, kernels forked from a server that
has imported torch already, and the bookkeeping of ten thousand jobs.

    python tests/benchmarks/bench_sweep.py --jobs 16

The job imports torch and this package and makes a small computation, as the shortest real jobs do. The rival is
`papermill.execute_notebook`, called again and again in one process that has imported papermill already.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

IMPORTS = "import torch\nfrom nbhelpers import capture, images, models, objectives"
WORK = """\
import time
end = time.monotonic() + seconds
while time.monotonic() < end:
    torch.rand(64, 64) @ torch.rand(64, 64)
print(seed)"""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def write(folder: Path, jobs: int, seconds: float) -> tuple[Path, Path]:
    """The notebook, and the file of its sweep."""
    declared = new_code_cell(f"seed = 0\nseconds = {seconds}", metadata={"tags": ["parameters"]})
    cells = [declared, new_code_cell(IMPORTS), new_code_cell(WORK)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=metadata), folder / "job.ipynb")
    (folder / "jobs.yaml").write_text(f"notebook: job.ipynb\ngrid: {{seed: 0..{jobs - 1}}}\n")
    return folder / "job.ipynb", folder / "jobs.yaml"


def one_after_another(notebook: Path, jobs: int) -> list[float]:
    """Seconds of each bare papermill call."""
    import logging

    import papermill

    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    spent = []
    with quiet_kernels():
        for seed in range(jobs):
            output = notebook.with_name(f"out{seed}.ipynb")
            begun = time.perf_counter()
            papermill.execute_notebook(notebook, output, {"seed": seed}, progress_bar=False, cwd=notebook.parent)
            spent.append(time.perf_counter() - begun)
    return spent


def swept(yaml: Path, workers: int, preload: bool, folder: Path) -> tuple[float, float]:
    """Seconds of the whole command with that many workers, and those of it that went before the first job was begun."""
    log = folder / "log.txt"
    command = [sys.executable, "-m", "nbhelpers", "sweep", str(yaml), "--workers", str(workers), "--log", str(log)]
    command += ["--results", str(folder / "results"), "--preload" if preload else "--no-preload"]
    begun, at = time.perf_counter(), time.time()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    first = min(line[:23] for line in log.read_text().splitlines() if " begins on " in line)
    return time.perf_counter() - begun, datetime.strptime(first, "%Y-%m-%d %H:%M:%S,%f").timestamp() - at


def single_jobs(yaml: Path, preload: bool, folder: Path, jobs: int) -> list[float]:
    """Seconds of each job as a worker does it, the one that starts the server of processes left out."""
    from nbhelpers import __version__
    from nbhelpers.sweeps import imports, plan, store
    from nbhelpers.sweeps.work import Shared, work

    planned = plan.read(yaml)
    place = store.place(str(folder / ("forked" if preload else "fresh")), planned.name)
    place.prepare()
    modules = imports.of(planned.source) if preload else None
    source, here = nbformat.writes(planned.source), str(yaml.parent)
    shared = Shared("", source, "job.ipynb", here, __version__, place, modules, 1, 600, None)
    spent = []
    for job in planned.jobs[: jobs + 1]:
        begun = time.perf_counter()
        outcome = work(shared, job)
        assert outcome["state"] == "done", outcome
        spent.append(time.perf_counter() - begun)
    return spent[1:]


def bookkeeping(folder: Path, jobs: int = 10_000) -> tuple[float, ...]:
    """Plans, records and finishes jobs that do nothing: seconds, those of the processor, peak memory in MB."""
    _, yaml = write(folder, jobs, 0)
    code = f"""
import sys, time
begun = time.perf_counter()
from nbhelpers.sweeps import plan, store
from nbhelpers.sweeps.manifest import DONE
from nbhelpers.sweeps.record import Sweep, description
planned = plan.read({str(yaml)!r})
with Sweep(planned, store.place({str(folder / "dry")!r}, planned.name)) as sweep:
    sweep.store.write("sweep.json", description(planned, "job.ipynb"))
    for job in sweep.missing():
        sweep.manifest.attempt(job.id, "tcp://127.0.0.1:1")
        sweep.manifest.set(job.id, DONE, seconds=1.0, peak_mb=500)
    assert not sweep.missing() and sweep.cost() == (1.0, {jobs})
sys.path.insert(0, {str(Path(__file__).parent)!r})
from peak_memory import peak_megabytes
print(time.perf_counter() - begun, time.process_time(), peak_megabytes())
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return tuple(map(float, told.split()))


@contextmanager
def quiet_kernels() -> Iterator[None]:
    """What kernels say of their sockets goes nowhere."""
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


@contextmanager
def environment() -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main(arguments: Sequence[str] = ()) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0, help="that a job computes")
    parser.add_argument("--singles", type=int, default=4, help="jobs for the overhead of one")
    given = parser.parse_args(arguments)
    with environment(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        notebook, yaml = write(folder, given.jobs, given.seconds)
        fresh, forked, bare = [], [], []
        for number in range(2):  # in turns, for the machine may get busier or quieter
            (folder / str(number)).mkdir()
            bare += one_after_another(notebook, given.singles)
            fresh += single_jobs(yaml, False, folder / str(number), given.singles)
            forked += single_jobs(yaml, True, folder / str(number), given.singles)
        base = statistics.median(bare)
        print(f"one job that computes for {given.seconds:g} s, seconds (median of {len(bare)})")
        print(f"{'':36}{'seconds':>9}{'to the bare call':>18}")
        for row, spent in (("bare papermill call", bare), ("sweep, --no-preload", fresh), ("sweep", forked)):
            print(f"{row:36}{statistics.median(spent):>9.2f}{statistics.median(spent) / base - 1:>+17.0%}")

        print(f"\n{given.jobs} jobs, seconds of the whole")
        print(f"{'':36}{'seconds':>9}{'before the jobs':>17}{'speed-up':>10}")
        begun = time.perf_counter()
        one_after_another(notebook, given.jobs)
        serial = time.perf_counter() - begun
        print(f"{'papermill, one after another':36}{serial:>9.1f}")
        for row, preload in (("sweep, 2 workers, --no-preload", False), ("sweep, 2 workers", True)):
            (folder / row).mkdir()
            spent, before = swept(yaml, 2, preload, folder / row)
            print(f"{row:36}{spent:>9.1f}{before:>17.1f}{serial / spent:>9.2f}x", flush=True)

        seconds, busy, megabytes = bookkeeping(folder)
        print(
            f"\n10,000 dry jobs: plan, record, two notes a job: {seconds:.2f} s ({busy:.2f} s of the processor), ",
            end="",
        )
        print(f"{megabytes:.0f} MB at most")


if __name__ == "__main__":
    main(sys.argv[1:])
