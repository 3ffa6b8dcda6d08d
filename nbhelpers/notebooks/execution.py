"""One notebook through papermill: what running one (`batch`) and a thousand (`nbhelpers.sweeps`) share."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import papermill
import zmq
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbformat import NotebookNode
from traitlets import Type

from nbhelpers.notebooks import documents

KERNEL_STARTS = 3


class Attentive(AsyncKernelClient):
    """Looks at what has arrived whenever it is asked whether the kernel lives: every second while a cell runs.

    pyzmq's sockets are told once that something has come. Where it is read elsewhere in that moment that there is
    something, whoever waits for it is never woken, and a notebook whose last cell was done ran for ever. To ask a
    socket for its events wakes them.
    """

    async def is_alive(self) -> bool:
        for channel in (self.shell_channel, self.iopub_channel):
            if channel.is_alive():  # it is not once the client has stopped
                channel.socket.get(zmq.EVENTS)
        return await super().is_alive()


class ThisPython(AsyncKernelManager):
    """Starts kernels with the running Python, whatever kernel of the same name a user has installed."""

    client_factory = Type(Attentive, klass=AsyncKernelClient)

    @property
    def kernel_spec(self) -> KernelSpec:
        # Log level 50: what ipykernel says of itself, as that its sockets are local ones, would break the progress bar.
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict(extra_arguments=["--log-level=50"]))


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any],
    pictures: Path,
    folder: Path,
    kernels: type[AsyncKernelManager] = ThisPython,
) -> list[str]:
    """Executes one notebook and leaves it, as far as it came, at `output`.

    Args:
        notebook: path of the notebook.
        output: path of the executed one; written anew after every cell.
        parameters: plain values by name.
        pictures: folder that the notebook saves its pictures to.
        folder: the current folder of its code.
        kernels: what starts the kernel.

    Returns:
        What went wrong outside of the notebook's cells: a kernel that died or never came up, a full disk. Errors in
        cells and widgets are in the executed notebook (`notebooks.errors`).
    """
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    with _environment(**{documents.RESULTS_VARIABLE: str(pictures)}):
        for attempt in range(1, KERNEL_STARTS + 1):
            try:
                papermill.execute_notebook(
                    notebook,
                    output,
                    dict(parameters),
                    kernel_name="python3",
                    language="python",
                    progress_bar=False,
                    cwd=folder,
                    kernel_manager_class=kernels,
                )
            except papermill.PapermillExecutionError:
                pass  # the error is in the executed notebook, where the widgets' errors are, too
            except Exception as error:
                # A plain RuntimeError is a kernel that did not come up: two that start at once can pick the same port.
                if type(error) is RuntimeError and attempt < KERNEL_STARTS:
                    continue
                return [f"{type(error).__name__}: {error}"]
            return []
    raise AssertionError("the last attempt returns")


def without_the_run(executed: NotebookNode) -> NotebookNode:
    """An executed notebook without what only its run needed, in place: paths, bars, widgets nobody can start again."""
    for key in ("input_path", "output_path"):
        executed.metadata.get("papermill", {}).pop(key, None)
    return documents.without_bars(documents.show_statically(executed))


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
