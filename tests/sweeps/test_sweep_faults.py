"""Sweeps on a real cluster of two worker processes, and what kills them: workers, kernels, drivers, full disks.

After each, every finished result is whole, the same command does exactly the rest, and no process or temporary file of
a job is left.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner, Result
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from nbhelpers import notebooks
from nbhelpers.__main__ import main

distributed = pytest.importorskip("distributed")
if sys.platform != "linux":
    pytest.skip("looks for processes in /proc", allow_module_level=True)

# Every job notes its kernel and its papermill process, so that the tests can see that they have gone.
NOTE = """\
import os, time
from pathlib import Path
Path("pids").mkdir(exist_ok=True)
Path(f"pids/{x}-{os.getpid()}").write_text(f"{os.getpid()} {os.getppid()}")"""
RESULT = "(Path(os.environ['NBHELPERS_RESULTS']) / 'picture.png').write_bytes(bytes([x]) * size)"


@pytest.fixture(autouse=True)
def _limit() -> Iterator[None]:
    """No test of these hangs."""

    def stop(*_: object) -> None:
        raise TimeoutError("the test took two minutes")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module", autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A place for the temporary files of these jobs alone: other tests that run at the same time have theirs."""
    tmp_path_factory.getbasetemp()  # stays where it was
    with (
        tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator["distributed.LocalCluster"]:
    options = dict(n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=0, silence_logs=50)
    with distributed.LocalCluster(**options) as cluster:
        yield cluster


class Case:
    """A sweep over `x` in a folder of its own."""

    def __init__(self, folder: Path, jobs: int, *sources: str, results: str = "", extra: str = "") -> None:
        self.folder, self.results = folder, results or str(folder / "r")
        declared = new_code_cell("x = 0\nsize = 100", metadata={"tags": ["parameters"]})
        cells = [new_markdown_cell("# T"), declared, *map(new_code_cell, (NOTE, *sources, RESULT))]
        nbformat.write(new_notebook(cells=cells), folder / "n.ipynb")
        (folder / "s.yaml").write_text(f"notebook: n.ipynb\ngrid: {{x: 0..{jobs - 1}}}\n{extra}")
        self.arguments = ["sweep", str(folder / "s.yaml"), "--results", self.results, "--log", str(folder / "log")]

    def run(self, *options: str) -> Result:
        return CliRunner().invoke(main, [*self.arguments, *options])

    def start(self, *options: str) -> subprocess.Popen:
        """The same as a process, in a group of its own as a terminal would make it."""
        command = [sys.executable, "-m", "nbhelpers", *self.arguments, *options]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def whole(self) -> dict[int, float]:
        """Each finished job's x and when its folder was made; fails if one is not whole."""
        found = {}
        for folder in (self.folder / "r" / "s" / "jobs").iterdir():
            told = json.loads((folder / "job.json").read_text())
            x = told["parameters"]["x"]
            assert (folder / "picture.png").read_bytes() == bytes([x]) * told["parameters"].get("size", 100)
            executed = notebooks.read(folder / "notebook.ipynb")
            assert notebooks.errors(executed) == []
            assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")
            assert told["pictures"] == ["picture.png"]
            found[x] = (folder / "job.json").stat().st_mtime
        return found

    def nothing_is_left(self) -> None:
        """No process of any job, no unfinished folder."""
        noted = [path.read_text().split() for path in (self.folder / "pids").iterdir()]
        wait_for(lambda: not any(alive(pid) for pids in noted for pid in pids), "the jobs' processes end")
        assert not (self.folder / "r" / "s" / ".partial").exists()

    def kernels(self, x: int) -> list[str]:
        return [path.name.partition("-")[2] for path in (self.folder / "pids").glob(f"{x}-*")]


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.05)


def begun(case: Case, x: int) -> Callable[[], bool]:
    return lambda: any((case.folder / "pids").glob(f"{x}-*")) if (case.folder / "pids").exists() else False


@pytest.fixture(autouse=True)
def scratch(temporary: Path) -> Iterator[None]:
    """Temporary folders of jobs made during the test have gone after it."""
    yield
    wait_for(lambda: not any(temporary.glob("nbhelpers-*")), "temporary folders go", 30)


def test_one_job_of_twenty_fails_and_only_it_is_done_again(tmp_path: Path, cluster: "distributed.LocalCluster") -> None:
    case = Case(tmp_path, 20, "if x == 7 and not Path('mended').exists():\n    raise ValueError('seven')")
    first = case.run("--scheduler", cluster.scheduler_address)
    assert first.exit_code == 1, first.output
    assert "19 of 20 jobs are done, 1 failed" in first.output
    assert "x=7" in first.output
    assert "ValueError: seven" in first.output
    before = case.whole()
    assert sorted(before) == [x for x in range(20) if x != 7]
    assert len(case.kernels(7)) == 2  # tried twice
    (partial,) = (tmp_path / "r" / "s" / "failed").glob("*.ipynb")
    assert "ValueError: seven" in notebooks.errors(notebooks.read(partial))[0]
    assert "3  ValueError" in first.output  # the cell
    log = (tmp_path / "log").read_text()
    assert log.count("is done after") == 19
    assert log.count("tried again") == 1
    case.nothing_is_left()

    (tmp_path / "mended").touch()
    second = case.run("--scheduler", cluster.scheduler_address)
    assert second.exit_code == 0, second.output
    assert "19 done, 1 to do" in second.output
    after = case.whole()
    assert len(after) == 20
    assert {x: when for x, when in after.items() if x != 7} == before
    assert list((tmp_path / "r" / "s" / "failed").iterdir()) == []
    assert case.run("--dry-run").exit_code == 0


def test_a_worker_is_killed_in_the_middle(tmp_path: Path, cluster: "distributed.LocalCluster") -> None:
    case = Case(tmp_path, 6, "if x == 1 and not Path('killed').exists():\n    time.sleep(1000)")
    driver = case.start("--scheduler", cluster.scheduler_address)
    wait_for(begun(case, 1), "job 1 begins")
    with distributed.Client(cluster, set_as_default=False) as client:
        kernel = int(case.kernels(1)[0])
        server = parent(parent(kernel))
        worker = parent(server)
        assert worker in client.run(os.getpid).values()
    (tmp_path / "killed").touch()
    os.kill(worker, signal.SIGKILL)
    output, _ = driver.communicate(timeout=90)
    assert driver.returncode == 0, output
    assert sorted(case.whole()) == list(range(6))
    assert len(case.kernels(1)) == 2
    assert not alive(str(server))
    case.nothing_is_left()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_kernel_is_killed(tmp_path: Path, cluster: "distributed.LocalCluster") -> None:
    once = "if x == 1 and not Path('died').exists():\n    Path('died').touch()\n    os.kill(os.getpid(), 9)"
    always = "if x == 2:\n    os.kill(os.getpid(), 9)"
    case = Case(tmp_path, 4, once, always)
    ran = case.run("--scheduler", cluster.scheduler_address)
    assert ran.exit_code == 1, ran.output
    assert sorted(case.whole()) == [0, 1, 3]
    assert "4  DeadKernelError: Kernel died" in ran.output, ran.output
    assert len(case.kernels(1)) == len(case.kernels(2)) == 2
    case.nothing_is_left()


def test_a_job_that_hangs_and_one_that_fills_the_memory(tmp_path: Path, cluster: "distributed.LocalCluster") -> None:
    source = "if x == 1: time.sleep(1000)\nif x == 2: block = bytearray(600_000_000); time.sleep(1000)"
    case = Case(tmp_path, 4, source, extra="timeout: 6\nmemory: 300 MB\n")
    ran = case.run("--scheduler", cluster.scheduler_address)
    assert ran.exit_code == 1, ran.output
    assert sorted(case.whole()) == [0, 3]
    assert "3  TimeoutError: stopped after 6 s" in ran.output
    assert "a job may use 0.30 GB" in ran.output
    case.nothing_is_left()


def test_a_driver_is_killed_and_started_again_while_another_waits_outside(
    tmp_path: Path, cluster: "distributed.LocalCluster"
) -> None:
    case = Case(tmp_path, 5, "while x >= 2 and not Path('go').exists():\n    time.sleep(0.1)")
    driver = case.start("--workers", "2")
    wait_for(begun(case, 2), "job 2 begins")
    wait_for(begun(case, 3), "job 3 begins")
    second = case.run("--workers", "1")
    assert second.exit_code == 2
    assert f"another sweep is at work there (process {driver.pid} on" in " ".join(second.output.split())
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    before = case.whole()
    assert sorted(before) == [0, 1]
    noted = [pid for path in (tmp_path / "pids").iterdir() for pid in path.read_text().split()]
    wait_for(lambda: not any(map(alive, noted)), "the jobs of the killed sweep end", 20)
    (tmp_path / "go").touch()
    again = case.run("--scheduler", cluster.scheduler_address)
    assert again.exit_code == 0, again.output
    assert "2 done, 3 to do" in again.output
    after = case.whole()
    assert sorted(after) == list(range(5))
    assert {x: after[x] for x in before} == before
    case.nothing_is_left()


def test_the_driver_of_a_cluster_is_killed(tmp_path: Path, cluster: "distributed.LocalCluster") -> None:
    case = Case(tmp_path, 3, "while x >= 1 and not Path('go').exists():\n    time.sleep(0.1)")
    driver = case.start("--scheduler", cluster.scheduler_address)
    wait_for(begun(case, 1), "job 1 begins")
    wait_for(begun(case, 2), "job 2 begins")
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    noted = [pid for path in (tmp_path / "pids").iterdir() for pid in path.read_text().split()]
    wait_for(lambda: not any(map(alive, noted)), "the cluster ends the jobs of the killed sweep", 20)
    assert sorted(case.whole()) == [0]
    (tmp_path / "go").touch()
    again = case.run("--scheduler", cluster.scheduler_address)
    assert again.exit_code == 0, again.output
    assert sorted(case.whole()) == [0, 1, 2]
    case.nothing_is_left()


def test_ctrl_c_ends_the_jobs_and_says_how_to_go_on(tmp_path: Path, cluster: "distributed.LocalCluster") -> None:
    case = Case(tmp_path, 4, "while x >= 1 and not Path('go').exists():\n    time.sleep(0.1)")
    driver = case.start("--workers", "2")
    wait_for(begun(case, 1), "job 1 begins")
    wait_for(begun(case, 2), "job 2 begins")
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: to the driver and all it has started
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, output
    assert "no job is running any more; the same command goes on" in output
    assert "Traceback" not in output
    assert sorted(case.whole()) == [0]
    case.nothing_is_left()
    (tmp_path / "go").touch()
    again = case.run("--scheduler", cluster.scheduler_address)
    assert again.exit_code == 0, again.output
    assert "1 done, 3 to do" in again.output
    assert sorted(case.whole()) == [0, 1, 2, 3]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "r"
    folder.mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder]).returncode
    ):
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder])


def test_a_full_disk(tmp_path: Path, small_disk: Path, cluster: "distributed.LocalCluster") -> None:
    case = Case(tmp_path, 6, extra="fixed: {size: 220000}")
    ran = case.run("--scheduler", cluster.scheduler_address)
    assert ran.exit_code == 1, ran.output
    assert "is full: what is finished is whole. Make room; the same command goes on" in ran.output
    assert "Traceback" not in ran.output
    before = case.whole()
    assert 1 <= len(before) < 6
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    again = case.run("--scheduler", cluster.scheduler_address)
    assert again.exit_code == 0, again.output
    assert f"{len(before)} done, {6 - len(before)} to do" in again.output
    after = case.whole()
    assert sorted(after) == list(range(6))
    assert {x: after[x] for x in before} == before
    case.nothing_is_left()


def test_a_disk_that_may_not_be_written_to(tmp_path: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    ran = Case(tmp_path, 2).run()
    assert ran.exit_code == 1
    assert "results cannot be written to" in ran.output
    assert "Read-only file system" in ran.output
    assert not (tmp_path / "pids").exists()


def test_results_behind_an_address(
    tmp_path: Path, cluster: "distributed.LocalCluster", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    case = Case(tmp_path, 3, results=(tmp_path / "r").as_uri())
    first = case.run("--scheduler", cluster.scheduler_address, "--first", "1")
    assert first.exit_code == 0, first.output
    assert list(case.whole()) == [0]
    shutil.rmtree(tmp_path / "cache")  # another machine goes on
    again = case.run("--scheduler", cluster.scheduler_address)
    assert "1 done, 2 to do" in again.output
    assert again.exit_code == 0, again.output
    assert sorted(case.whole()) == [0, 1, 2]
    there = {path.name for path in (tmp_path / "r" / "s").iterdir()}
    assert {"sweep.json", "manifest.sqlite", "index.html", "jobs"} <= there
    case.nothing_is_left()


def test_a_dry_run_says_what_it_takes(
    tmp_path: Path, cluster: "distributed.LocalCluster", monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path, 30)
    none = case.run("--dry-run", "--first", "0")
    assert none.exit_code == 0, none.output
    assert "30 jobs, 0 done, 30 to do" in none.output
    assert "... 17 more ..." in none.output
    assert "nothing is known about the time" in none.output
    assert not (tmp_path / "pids").exists()
    one = case.run("--dry-run", "--scheduler", cluster.scheduler_address, "--workers", "2")
    assert one.exit_code == 0, one.output
    assert re.search(r"\(the median of 1 done\): the 29 missing take about [\d.]+ \w+ of computing in all", one.output)
    assert list(case.whole()) == [0]
    assert len(list((tmp_path / "pids").iterdir())) == 1
    case.run("--dry-run", "--scheduler", cluster.scheduler_address)
    assert len(list((tmp_path / "pids").iterdir())) == 1  # the cost is known now
    monkeypatch.setattr("nbhelpers.sweeps.clusters.here", lambda threads: 64)
    assert "on 29 workers, " in case.run("--dry-run", "--first", "0").output
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 10e9)
    with (tmp_path / "s.yaml").open("a") as file:
        file.write("memory: 4 GB\n")
    assert "on 2 workers, " in case.run("--dry-run", "--first", "0").output


def test_a_scheduler_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbhelpers.sweeps.clusters._PATIENCE", 1)
    ran = Case(tmp_path, 2).run("--scheduler", "tcp://127.0.0.1:9")
    assert ran.exit_code == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in " ".join(ran.output.split())


def test_without_dask_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    ran = Case(tmp_path, 2).run()
    assert ran.exit_code == 1
    assert "pip install distributed" in ran.output


@pytest.mark.parametrize("deaths", [1, 9])
def test_workers_that_are_killed_while_they_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: int) -> None:
    real, died = distributed.LocalCluster, []

    def killed(**options: object) -> "distributed.LocalCluster":
        if len(died) < deaths:
            died.append(options)
            raise RuntimeError("Nanny failed to start.")
        return real(**options)

    monkeypatch.setattr(distributed, "LocalCluster", killed)
    ran = Case(tmp_path, 2).run("--workers", "1")
    said = " ".join(ran.output.split())
    assert "a worker was ended while it started; once more" in said
    if deaths == 1:
        assert (ran.exit_code, len(died)) == (0, 1)
        assert "2 of 2 jobs are done" in said
    else:
        assert (ran.exit_code, len(died)) == (1, 3)
        assert "something ended one of them each time before it was ready (Nanny failed to start). Is the" in said
        assert "Traceback" not in said
