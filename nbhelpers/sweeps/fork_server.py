"""A process that has imported what jobs need, and forks itself for each.

    python -m nbhelpers.sweeps.fork_server MODULE ...

It reads a job's folder from its input, answers with the number of the process that does it, and, when that has ended,
with its exit status; then it reads the next. When its input ends, because the worker has, it ends the running job.
"""

import contextlib
import importlib
import json
import os
import select
import shutil
import signal
import sys
from pathlib import Path


def main(modules: list[str]) -> None:
    """Serves until the input ends."""
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # what a kernel would set
    answers = os.dup(1)
    os.dup2(2, 1)
    os.set_inheritable(answers, False)
    for name in ["nbhelpers.sweeps.job", "ipykernel.kernelapp", "ipykernel.ipkernel", *modules]:
        try:
            importlib.import_module(name)
        except Exception:  # the name is of something in a module; or the import fails, as the notebook will tell
            continue
    if len(os.listdir("/proc/self/task")) > 1:
        os.write(answers, b"threads\n")
        return
    os.write(answers, b"ready\n")
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    while request := os.read(0, 65536):
        folder = Path(json.loads(request))
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            _do(folder, [answers, woken, wake])
        with contextlib.suppress(OSError):  # either of the two comes first
            os.setpgid(pid, pid)
        os.write(answers, b"%d\n" % pid)
        os.write(answers, b"%d\n" % _exit_status(pid, woken, folder))


def _exit_status(pid: int, woken: int, folder: Path) -> int:
    """Waits for a job; ends it and clears up when the worker has gone."""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        elif not os.read(0, 65536):
            os.killpg(pid, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)
            sys.exit()


def _do(folder: Path, files: list[int]) -> None:
    """In the fork: carries out the job as the first process of a group of its own."""
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for file in files:
            os.close(file)
        nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT, 0o666)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from nbhelpers.sweeps import job

        job.main(folder, forked=True)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
