"""The Dask cluster a sweep runs on: one of this machine's own, or one that is there already."""

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import resource_tracker
from typing import Any

from nbhelpers.sweeps.plan import Plan

_PATIENCE = 10
_TRIES = 3


@dataclass(frozen=True)
class Settings:
    """How a sweep is carried out.

    Attributes:
        workers: processes of the local cluster; None for as many as the cores (and the memory) allow.
        scheduler: address of a running Dask scheduler in place of a local cluster.
        threads, timeout, memory: threads, seconds, bytes a job may use; None for what the plan says, or else 1 thread,
            an hour, and on a local cluster an equal share of 90 % of the machine's memory.
        preload: import the notebook's packages once a worker and not in every job.
    """

    workers: int | None = None
    scheduler: str | None = None
    threads: int | None = None
    timeout: float | None = None
    memory: int | None = None
    preload: bool = True


def here(threads: int) -> int:
    """How many jobs of so many threads this machine takes at once."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def at_once(plan: Plan, settings: Settings, jobs: int) -> int:
    """How many of so many jobs run at once on this machine: as its cores, its memory and the settings allow."""
    memory = settings.memory or plan.memory
    workers = settings.workers or here(settings.threads or plan.threads or 1)
    if memory and not settings.workers:
        workers = min(workers, int(_memory() // memory))
    return max(1, min(workers, jobs))


@contextmanager
def reached(
    plan: Plan, settings: Settings, jobs: int, say: Callable[[str], None]
) -> Iterator[tuple[Any, dict[str, float], int | None]]:
    """A client, the resources each task asks for, and the bytes of memory a job may use."""
    import distributed

    memory = settings.memory or plan.memory
    if settings.scheduler:
        try:
            client = distributed.Client(settings.scheduler, timeout=_PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConnectionError(f"no Dask scheduler answers at {settings.scheduler}: {error}") from error
        with client:
            say(f"{_workers(client)} at {settings.scheduler}{_dashboard(client)}")
            yield client, _asked(client, memory, say), memory
        return
    workers = at_once(plan, settings, jobs)
    share = _memory() / workers
    if memory and memory > share:
        raise ValueError(f"{workers} jobs of {memory / 1e9:.1f} GB at once are more than this machine's memory")
    with _deaf_to_interrupts():
        cluster = _own(workers, share, say)
        client = distributed.Client(cluster, set_as_default=False)
    try:
        say(f"{_workers(client)} here{_dashboard(client) if find_spec('bokeh') else ''}")
        yield client, {"memory": memory} if memory else {}, memory or int(share)
    finally:
        with contextlib.suppress(Exception):
            client.close(timeout=5)
            cluster.close(timeout=15)


def _own(workers: int, share: float, say: Callable[[str], None]) -> Any:
    """A cluster of this machine's own; one whose workers die while they start is tried again."""
    import distributed

    for again in range(_TRIES):
        try:
            return distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,  # of the worker itself; its jobs are watched one by one
                resources={"memory": share},
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
            )
        except RuntimeError as error:  # what Dask makes of a worker's death
            if again == _TRIES - 1:
                said = str(error).rstrip(".")
                raise ConnectionError(
                    f"{workers} worker processes were started {_TRIES} times, and something ended one of them each "
                    f"time before it was ready ({said}). Is the machine out of memory? Fewer may fit: --workers 1"
                ) from error
            say("a worker was ended while it started; once more")


def _memory() -> float:
    """Bytes of this machine's memory that jobs may share."""
    import distributed

    return 0.9 * distributed.system.MEMORY_LIMIT


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Threads and processes begun here leave a Ctrl-C in the terminal to the sweep, which ends its jobs in order."""
    resource_tracker.ensure_running()  # multiprocessing's first process; starting it would open the ears again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _asked(client: Any, memory: int | None, say: Callable[[str], None]) -> dict[str, float]:
    """On somebody's cluster, memory is asked for if its workers were started with that resource."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values() if memory else ()
    if any(worker["resources"].get("memory", 0) >= memory for worker in workers):
        return {"memory": memory}
    if workers:
        say(
            f"no worker was started with --resources 'memory={memory}': how many jobs share a machine is up to the "
            "cluster; a job that uses more is stopped"
        )
    return {}


def _workers(client: Any) -> str:
    count = len(client.ncores())
    return f"{count} worker{'' if count == 1 else 's'}"


def _dashboard(client: Any) -> str:
    return f", dashboard at {client.dashboard_link}" if client.dashboard_link else ""
