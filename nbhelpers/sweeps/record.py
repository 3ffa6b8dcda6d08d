"""A sweep on the way: its plan, its place, its manifest, and nobody else at it."""

import logging
import sqlite3
import statistics
from dataclasses import dataclass, field
from typing import Any

from nbhelpers import __version__, edge
from nbhelpers.sweeps.manifest import DONE, FAILED, Lock, Manifest
from nbhelpers.sweeps.plan import Job, Plan
from nbhelpers.sweeps.store import Store

log = logging.getLogger("nbhelpers.sweep")


@dataclass
class Sweep:
    """A plan, its place and its record, ready to be carried out; a context that keeps other sweeps out.

    `said` is what somebody should know of the place: what was damaged there.
    """

    plan: Plan
    store: Store
    manifest: Manifest = field(init=False)
    said: list[str] = field(default_factory=list)

    def __enter__(self) -> "Sweep":
        """Raises `OSError` where results cannot be written, `BlockingIOError` where another sweep is at work."""
        try:
            self.store.state.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(self.store.state)
            self.store.prepare()
            finished, damaged = self.store.examined()
            if damaged:
                self.said.append(f"{len(damaged)} damaged jobs are set aside and done again: {edge.few(damaged)}")
            self.manifest = Manifest(self.store.state / "manifest.sqlite")
            if self.manifest.set_aside:
                self.said.append(
                    f"the record was damaged or of another version: set aside as {self.manifest.set_aside.name}; "
                    "what is finished stays finished"
                )
            self.manifest.plan(self.plan.jobs, finished)
        except sqlite3.OperationalError as error:
            raise OSError(str(error)) from error
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.manifest.close()
            self.store.close()
        except (sqlite3.OperationalError, OSError) as error:
            log.error("the record could not be written: %s; what is finished is whole all the same", error)
        finally:
            self._lock.release()

    def missing(self) -> list[Job]:
        """The jobs that are not done."""
        rows = self.manifest.rows()
        return [job for job in self.plan.jobs if rows[job.id]["state"] != DONE]

    def failures(self) -> list[tuple[Job, dict[str, Any]]]:
        """The jobs that have failed, with their rows of the manifest."""
        rows = self.manifest.rows()
        return [(job, rows[job.id]) for job in self.plan.jobs if rows[job.id]["state"] == FAILED]

    def cost(self) -> tuple[float, int] | None:
        """Seconds that a job takes, the median of those done, and how many these are."""
        rows = self.manifest.rows()
        seconds = [rows[job.id]["seconds"] for job in self.plan.jobs if rows[job.id]["state"] == DONE]
        seconds = [each for each in seconds if each is not None]
        return (statistics.median(seconds), len(seconds)) if seconds else None


def description(plan: Plan, shown: str) -> str:
    """The text of `sweep.json`."""
    said = {
        "name": plan.name,
        "notebook": shown,
        "version": __version__,
        "fixed": plan.fixed,
        "axes": plan.axes,
        "zipped": plan.zipped,
        "jobs": [job.id for job in plan.jobs],
    }
    return edge.to_json(said, ensure_ascii=False)
