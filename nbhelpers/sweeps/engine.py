"""Drives a sweep: hands its jobs to a Dask cluster, keeps the record, tries again once, stops cleanly.

Dask does the sending, the balancing and the recovering from dead workers. What is added is what papermill's jobs need:
a job that is done is not done again, one that fails does not stop the others, and nothing is left running at the end.
"""

import contextlib
import errno
import logging
import os
import queue
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import nbformat

from nbhelpers import __version__
from nbhelpers.sweeps import clusters, imports
from nbhelpers.sweeps.clusters import Settings
from nbhelpers.sweeps.manifest import FAILED, QUEUED, Manifest
from nbhelpers.sweeps.plan import Job
from nbhelpers.sweeps.record import Sweep, description
from nbhelpers.sweeps.work import STOPPED, Shared

TRIES = 2
_TICK = 0.5
_FULL = os.strerror(errno.ENOSPC)

log = logging.getLogger("nbhelpers.sweep")


@dataclass
class Progress:
    """What a sweep tells while it runs.

    Attributes:
        cluster: called once with a sentence about the cluster.
        state: called with the number of jobs done, failed and running, whenever it has changed.
        ended: called with each job that is done or has failed for good, and its outcome.
    """

    cluster: Callable[[str], None] = lambda said: None
    state: Callable[[Counter], None] = lambda counts: None
    ended: Callable[[Job, dict[str, Any]], None] = lambda job, outcome: None


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
        _drive(client, shared, {job.id: job for job in jobs}, resources, sweep.manifest, progress)


def _drive(
    client: Any,
    shared: Shared,
    jobs: dict[str, Job],
    resources: dict[str, float],
    manifest: Manifest,
    progress: Progress,
) -> None:
    """Submits the jobs and takes in what happens, one event after the other, until each is done or has failed twice."""
    from nbhelpers.sweeps.tasks import Common, carry_out

    events: queue.SimpleQueue = queue.SimpleQueue()
    client.subscribe_topic(shared.topic, lambda event: events.put(event[1]))
    # A plugin reaches every worker once, those that come later as well.
    client.register_plugin(Common(shared), name=shared.topic)
    futures: dict[str, Any] = {}
    tries: Counter = Counter()
    states = dict.fromkeys(jobs, QUEUED)

    def submit(job: Job) -> None:
        tries[job.id] += 1
        key = f"{shared.topic}-{job.id}-{tries[job.id]}"
        futures[job.id] = client.submit(carry_out, shared.topic, job, key=key, resources=resources, pure=False)
        futures[job.id].add_done_callback(lambda future: events.put((job, future)))

    def move(job: Job, state: str, **columns: Any) -> None:
        states[job.id] = state
        manifest.set(job.id, state, **columns)
        progress.state(Counter(states.values()))

    try:
        for job in jobs.values():
            submit(job)
        while futures:
            try:
                event = events.get(timeout=_TICK)
            except queue.Empty:
                manifest.commit()
                progress.state(Counter(states.values()))
                continue
            if isinstance(event, dict):
                if event["job"] in futures:
                    log.info("%s begins on %s", event["job"], event["worker"])
                    states[event["job"]] = "running"
                    manifest.attempt(event["job"], event["worker"])
                continue
            job, future = event
            outcome = _outcome(future, job)
            if outcome["state"] == STOPPED:
                raise ConnectionError("the scheduler has dropped the sweep's jobs")
            outcome.pop("id")
            error = outcome.get("error") or ""
            if _FULL in error:
                move(job, **outcome)
                raise FullDisk(errno.ENOSPC, _FULL)
            if outcome["state"] == FAILED and tries[job.id] < TRIES:
                log.warning("%s failed and is tried again: %s", job.id, error.strip().splitlines()[-1:])
                move(job, QUEUED, error=error, cell=outcome.get("cell"))
                submit(job)
                continue
            del futures[job.id]
            move(job, **{"error": None, "cell": None, **outcome})
            log.info("%s %s in %s s", job.id, outcome["state"], outcome.get("seconds"))
            progress.ended(job, outcome)
    finally:
        _stop(client, list(futures.values()))
        with contextlib.suppress(Exception):  # the scheduler may be what has gone
            client.unsubscribe_topic(shared.topic)
            client.unregister_worker_plugin(shared.topic)
        manifest.commit()


def _outcome(future: Any, job: Job) -> dict[str, Any]:
    """What a worker said of a job, or what Dask says of the worker."""
    if future.status == "finished":
        return future.result()
    if future.status == "error":
        error = future.exception()
        return {"id": job.id, "state": FAILED, "error": f"{type(error).__name__}: {error}"}
    return {"id": job.id, "state": STOPPED}


def _stop(client: Any, futures: list[Any]) -> None:
    """Cancels what is not done, and waits until no worker is at it any more."""
    if not futures:
        return
    with contextlib.suppress(Exception):  # the scheduler may be what has gone
        client.cancel(futures, force=True)
        deadline = time.monotonic() + 10
        while any(client.processing().values()) and time.monotonic() < deadline:
            time.sleep(0.1)


def _same(shared: Shared) -> Shared:
    return shared
