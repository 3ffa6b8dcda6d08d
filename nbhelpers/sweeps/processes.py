"""How a worker starts a job's process, and ends it.

Starting Python, papermill and the notebook's own imports takes seconds. On Linux a worker therefore starts one server
that imports them once and then forks a process for every job. Elsewhere, and where something imported has started
threads, which do not survive a fork, every job gets a process of its own from scratch.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, runtime_checkable

FORKABLE = ("nbhelpers", "torch", "torchvision", "numpy", "scipy", "sklearn", "matplotlib", "PIL", "pandas", "skimage")
"""Packages that a process can import before it forks: no threads, no open files, no GPU. pyplot looks at the kernel
it is in when it is imported, and is left to the notebook."""

_STARTING = 120
_of_this_thread = threading.local()


@runtime_checkable
class Process(Protocol):
    """A job's process, the first of its group."""

    pid: int

    def wait(self, seconds: float) -> int | None:
        """The exit status (negative for a signal), or None if it has not ended by then."""


def start(folder: Path, modules: Sequence[str] | None) -> Process:
    """Starts the job that a folder describes (`job.main`).

    Args:
        folder: with the job's request; what the process prints goes into `log.txt` there.
        modules: what the job's notebook imports, to be imported once for all jobs of this worker's thread; None to
            start every process from scratch.
    """
    if modules is not None and sys.platform == "linux":
        server: _Server | None = getattr(_of_this_thread, "server", None)
        if server is None or server.modules != forkable(modules) or server.dead:
            if server:
                server.close()
            server = _of_this_thread.server = _Server(forkable(modules))
        if not server.dead:
            with contextlib.suppress(OSError):
                return server.fork(folder)
    return _Fresh(folder)


def end(process: Process) -> None:
    """Ends a job's process, its kernel and whatever these have started, at once."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def forkable(modules: Sequence[str]) -> list[str]:
    """Those of a notebook's imports that a server can import for all of its jobs."""
    chosen = []
    for name in modules:
        if name.partition(".")[0] in FORKABLE and "pyplot" not in name:
            with contextlib.suppress(ImportError, ValueError, AttributeError):
                if find_spec(name.partition(".")[0]):
                    chosen.append(name)
    return chosen


class _Fresh:
    """A process from scratch."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "nbhelpers.sweeps.job", str(folder)]
        with (folder / "log.txt").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.pid = self._process.pid

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


class _Server:
    """The worker's side of `fork_server`: one line asks for a process, one tells its number, one how it ended."""

    def __init__(self, modules: list[str]) -> None:
        self.modules = modules
        self.dead = False
        command = [sys.executable, "-m", "nbhelpers.sweeps.fork_server", *modules]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._unread = b""
        if self._answer(_STARTING) != "ready":
            self.close()

    def fork(self, folder: Path) -> "_Forked":
        os.write(self._process.stdin.fileno(), json.dumps(str(folder)).encode() + b"\n")
        answer = self._answer(_STARTING)
        if answer is None:
            self.close()
            raise ChildProcessError("the server of processes does not answer")
        return _Forked(int(answer), self)

    def ended(self, seconds: float) -> int | None:
        """The exit status of the process it forked last; if the server itself has died, that of a killed one."""
        answer = self._answer(seconds)
        return int(answer) if answer else -signal.SIGKILL if self.dead else None

    def close(self) -> None:
        self.dead = True
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def _answer(self, seconds: float) -> str | None:
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            if self.dead or not select.select([pipe], [], [], seconds)[0]:
                return None
            read = os.read(pipe, 4096)
            if not read:
                self.dead = True
                return None
            self._unread += read
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode()


class _Forked:
    def __init__(self, pid: int, server: _Server) -> None:
        self.pid = pid
        self._server = server
        self._status: int | None = None

    def wait(self, seconds: float) -> int | None:
        if self._status is None:
            self._status = self._server.ended(seconds)
        return self._status
