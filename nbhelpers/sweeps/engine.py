"""Drives a sweep: hands its jobs to a Dask cluster, keeps the record, tries again once, stops cleanly.

Dask does the sending, the balancing and the recovering from dead workers. What is added is what papermill's jobs need:
a job that is done is not done again, one that fails does not stop the others, and nothing is left running at the end.
"""

import contextlib
import errno
import logging
import os
import queue
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import nbformat

from nbhelpers import __version__
from nbhelpers.sweeps import clusters, imports
from nbhelpers.sweeps.clusters import Settings
from nbhelpers.sweeps.manifest import FAILED, QUEUED, RUNNING, Manifest
from nbhelpers.sweeps.plan import Job
from nbhelpers.sweeps.record import Sweep, description
from nbhelpers.sweeps.work import STOPPED, Shared

TRIES = 2
_TICK = 0.5
_FULL = os.strerror(errno.ENOSPC)

log = logging.getLogger("nbhelpers.sweep")
log.propagate = False
log.addHandler(logging.NullHandler())


@dataclass
class Progress:
    """What a sweep tells while it runs.

    Attributes:
        cluster: called once with a sentence about the cluster.
        state: called with the number of jobs done, failed and running, whenever it has changed.
        ended: called with each job that is done or has failed for good, its state and its error.
    """

    cluster: Callable[[str], None] = lambda said: None
    state: Callable[[Counter], None] = lambda counts: None
    ended: Callable[[Job, str, str], None] = lambda job, state, error: None


class FullDisk(OSError):
    """The results' place has no room left: no use in trying the other jobs."""


def run(sweep: Sweep, jobs: Sequence[Job], settings: Settings, shown: str, progress: Progress | None = None) -> None:
    """Carries out jobs of a sweep.

    Args:
        sweep: entered, so that nobody else works on it.
        jobs: those of its jobs that are to be done.
        settings: how.
        shown: the notebook's path for the command in each result.
        progress: what is called while it runs.

    Raises:
        KeyboardInterrupt: after the running jobs have been ended.
        FullDisk: likewise.
        ConnectionError: the scheduler cannot be reached, or was lost.
        ModuleNotFoundError: distributed is not installed.
    """
    import distributed  # noqa: F401  an extra: say so before anything else

    progress = progress or Progress()
    sweep.store.write("sweep.json", description(sweep.plan, shown))
    if not jobs:
        return
    with clusters.reached(sweep.plan, settings, len(jobs), progress.cluster) as (client, resources, memory):
        plan = sweep.plan
        shared = Shared(
            topic=f"nbhelpers-{plan.name}-{os.getpid()}",
            source=nbformat.writes(plan.source),
            notebook=shown,
            folder=str(plan.notebook.parent.resolve()),
            version=__version__,
            store=sweep.store,
            modules=imports.of(plan.source) if settings.preload else None,
            threads=settings.threads or plan.threads or 1,
            timeout=settings.timeout or plan.timeout or 3600,
            memory=memory,
        )
        _Drive(client, shared, resources, sweep.manifest, progress).until_the_end(jobs)


class _Drive:
    """Submits the jobs and takes in what happens, one event after the other, until each is done or has failed twice."""

    def __init__(
        self, client: Any, shared: Shared, resources: dict[str, float], manifest: Manifest, progress: Progress
    ) -> None:
        self.client, self.shared, self.resources = client, shared, resources
        self.manifest, self.progress = manifest, progress
        self.events: queue.SimpleQueue = queue.SimpleQueue()
        self.futures: dict[str, Any] = {}
        self.tries: Counter = Counter()
        self.states: dict[str, str] = {}
        self.place: dict[str, int] = {}
        self.counts: Counter = Counter()

    def until_the_end(self, jobs: Sequence[Job]) -> None:
        from nbhelpers.sweeps.tasks import Common

        topic = self.shared.topic
        try:
            self.client.subscribe_topic(topic, lambda event: self.events.put((self._begins, event[1])))
            # A plugin reaches every worker once, those that come later as well.
            self.client.register_plugin(Common(self.shared), name=topic)
            self.place = {job.id: number for number, job in enumerate(jobs)}
            for job in jobs:
                self._submit(job)
            while self.futures:
                try:
                    take_in, *event = self.events.get(timeout=_TICK)
                except queue.Empty:
                    self.manifest.commit()
                    self.progress.state(self.counts)
                else:
                    take_in(*event)
        except sqlite3.OperationalError as error:  # of the manifest, which lies where the results do
            raise FullDisk(errno.ENOSPC, str(error)) from error
        finally:
            with contextlib.suppress(Exception):  # the scheduler may be what has gone
                if self.futures:
                    _stop(self.client, topic, list(self.futures.values()))
                self.client.unsubscribe_topic(topic)
                self.client.unregister_worker_plugin(topic)

    def _submit(self, job: Job) -> None:
        from nbhelpers.sweeps.tasks import carry_out

        self.tries[job.id] += 1
        topic = self.shared.topic
        key = f"{topic}-{job.id}-{self.tries[job.id]}"
        self._count(job.id, QUEUED)
        future = self.client.submit(
            carry_out, topic, job, key=key, resources=self.resources, priority=-self.place[job.id], pure=False
        )
        self.futures[job.id] = future
        future.add_done_callback(lambda future: self.events.put((self._ends, job, future)))

    def _begins(self, told: dict[str, str]) -> None:
        if told["job"] in self.futures:
            log.info("%s begins on %s", told["job"], told["worker"])
            self.manifest.attempt(told["job"], told["worker"])
            self._count(told["job"], RUNNING)

    def _ends(self, job: Job, future: Any) -> None:
        outcome = _outcome(future)
        state, error = outcome.pop("state"), outcome.get("error") or ""
        if state == STOPPED:
            raise ConnectionError("the scheduler has dropped the sweep's jobs")
        self.manifest.set(job.id, state, **{"error": None, "cell": None, **outcome})
        if _FULL in error:
            raise FullDisk(errno.ENOSPC, _FULL)
        if state == FAILED and self.tries[job.id] < TRIES:
            log.warning("%s failed and is tried again: %s", job.id, error)
            self._submit(job)
            return
        del self.futures[job.id]
        self._count(job.id, state)
        log.info("%s is %s after %s s %s", job.id, state, outcome.get("seconds"), error)
        self.progress.ended(job, state, error)

    def _count(self, job: str, state: str) -> None:
        if job in self.states:
            self.counts[self.states[job]] -= 1
        self.states[job] = state
        self.counts[state] += 1
        self.progress.state(self.counts)


def _outcome(future: Any) -> dict[str, Any]:
    """What a worker said of a job, or what Dask says of the worker."""
    if future.status == "finished":
        return future.result()
    if future.status == "error":
        error = future.exception()
        return {"state": FAILED, "error": f"{type(error).__name__}: {error}"}
    return {"state": STOPPED}


def _stop(client: Any, topic: str, futures: list[Any]) -> None:
    """Cancels what is not done, and waits until no worker is at it any more."""
    from nbhelpers.sweeps.tasks import busy

    client.cancel(futures, force=True)
    deadline = time.monotonic() + 10
    while any(client.run(busy, topic).values()) and time.monotonic() < deadline:
        time.sleep(0.1)
