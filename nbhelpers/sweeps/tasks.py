"""What the workers of a Dask cluster are given: once what all jobs have in common, and then one task a job."""

from typing import Any

from distributed import Worker, WorkerPlugin, get_worker

from nbhelpers.sweeps.plan import Job
from nbhelpers.sweeps.work import Shared, work


class Common(WorkerPlugin):
    """Brings to every worker what its jobs have in common."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared


def carry_out(topic: str, job: Job) -> dict[str, Any]:
    """Does a job, unless it is done: the task that the cluster's workers are given.

    Args:
        topic: of the sweep, under whose name each worker has a `Common`.
        job: what to do.

    Returns:
        As `work`.
    """
    worker = get_worker()
    key = worker.get_current_task()

    def wanted() -> bool:
        """A task whose sweep has been stopped, or has died, is cancelled; its thread has to see to it itself."""
        task = worker.state.tasks.get(key)
        return task is not None and task.state != "cancelled"

    worker.log_event(topic, {"job": job.id, "worker": worker.address})
    return work(worker.plugins[topic].shared, job, wanted)


def busy(topic: str, dask_worker: Worker) -> bool:
    """Whether a worker's threads are still at a job of this sweep, cancelled or not."""
    return any(str(key).startswith(topic) for key in list(dask_worker.active_threads.values()))
