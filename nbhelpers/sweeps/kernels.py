"""Kernels for jobs: in the job's own process group, over sockets that are files, and forked where that is possible.

A job's process and its kernel are one group, so that one signal ends both whatever the notebook is doing. Sockets that
are files in the job's own folder cannot race for ports. A kernel that is forked from a process that has imported torch
already need not import it again, which is most of what a short job costs.
"""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

from nbhelpers.notebooks.execution import ThisPython


class JobKernel(ThisPython):
    """Starts a kernel in this process's group: from `prepared` if there is one, as a new process otherwise."""

    prepared: "PreparedKernel | None" = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.transport = "ipc"
        # a short name: the path of a socket has about 100 characters at most
        self.connection_file = str(Path(os.environ["JUPYTER_RUNTIME_DIR"]) / "k.json")

    async def _async_pre_start_kernel(self, **options: Any) -> tuple[list[str], dict[str, Any]]:
        self.kernel_id = self.kernel_id or "job"
        if self.provisioner is None:
            self.provisioner = _Provisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
        return await super()._async_pre_start_kernel(**options)


class _Provisioner(LocalProvisioner):
    """The usual one would give the kernel a group of its own."""

    async def launch_kernel(self, cmd: list[str], **options: Any) -> KernelConnectionInfo:
        environment, folder = options["env"], str(options.get("cwd") or Path.cwd())
        if JobKernel.prepared:
            self.process, JobKernel.prepared = JobKernel.prepared, None
            self.process.begin(cmd, environment, folder)
        else:
            self.process = subprocess.Popen(cmd, env=environment, cwd=folder, stdin=subprocess.DEVNULL)
        self.pid, self.pgid, self.cwd = self.process.pid, None, folder
        return self.connection_info


class PreparedKernel:
    """A fork of this process that waits to become a kernel; from then on what `subprocess.Popen` is to others.

    Made first thing in a job's process, while it has one thread and no sockets.
    """

    stdin = stdout = stderr = None

    def __init__(self) -> None:
        orders, self._orders = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._orders)
                _become_kernel(orders)
            finally:
                os._exit(1)
        os.close(orders)

    def begin(self, command: list[str], environment: dict[str, str], folder: str) -> None:
        with os.fdopen(self._orders, "w") as orders:
            json.dump([command, environment, folder], orders)

    def poll(self) -> int | None:
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        return self._reap(0)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _reap(self, options: int) -> Any:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def _become_kernel(orders: int) -> None:
    with os.fdopen(orders) as said:
        text = said.read()
    if not text:
        return  # the job ended without a kernel
    command, environment, folder = json.loads(text)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if "numpy" in sys.modules:  # Python and torch see to it that no two forks draw the same; numpy does not
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:  # read its environment when it was imported
        sys.modules["torch"].set_num_threads(int(environment.get("OMP_NUM_THREADS", 1)))
    arguments = command[command.index("ipykernel_launcher") + 1 :]
    sys.argv = [find_spec("ipykernel_launcher").origin, *arguments]
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=arguments)
