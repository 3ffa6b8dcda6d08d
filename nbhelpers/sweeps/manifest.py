"""The record of a sweep: one row a job in an SQLite file, written by the one process that drives the sweep.

The jobs' folders say what is finished; the manifest says the rest: what failed, where and how often, what a job costs.
It is brought up to date with the folders whenever a sweep starts, so a lost or damaged one costs nothing but history.
"""

import json
import os
import re
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbhelpers.sweeps.plan import Job

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, position INTEGER, parameters TEXT, state TEXT NOT NULL, attempts INTEGER DEFAULT 0,
    seconds REAL, peak_mb REAL, error TEXT, cell TEXT, worker TEXT, changed REAL)
"""
_COLUMNS = re.findall(r"(\w+) (?:TEXT|INTEGER|REAL)", _TABLE)
_PATIENCE = 0.5


class Lock:
    """Keeps a second sweep from a folder for as long as this process lives; nothing to clean up after a crash."""

    def __init__(self, folder: Path) -> None:
        """Raises `BlockingIOError` if another process has it."""
        self._note = folder / ".sweep"
        # SQLite's lock, because it works on every system and ends with the process that holds it
        try:
            self._take(folder / ".lock")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            who = self._note.read_text(errors="replace") if self._note.is_file() else "another process"
            raise BlockingIOError(f"another sweep is at work there ({who})") from error
        except sqlite3.DatabaseError:  # damaged, so nobody holds it; there is nothing in it to keep
            (folder / ".lock").unlink()
            self._take(folder / ".lock")
        self._note.write_text(f"process {os.getpid()} on {socket.gethostname()}")

    def _take(self, path: Path) -> None:
        self._held = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            self._held.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError:
            self._held.close()
            raise

    def release(self) -> None:
        self._note.unlink(missing_ok=True)
        self._held.close()


class Manifest:
    """The jobs of a sweep and how far each one is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set_aside: Path | None = None
        """Where a manifest went that was damaged, or of another version of this package."""
        if not self._opened():
            earlier = sum(1 for _ in path.parent.glob(f"{path.stem}.damaged*"))
            self.set_aside = path.with_suffix(f".damaged{earlier + 1 if earlier else ''}")
            path.replace(self.set_aside)
            for left in ("-journal", "-wal", "-shm"):  # of the damaged one, which SQLite would apply to the new one
                path.with_name(path.name + left).unlink(missing_ok=True)
            self._opened()
        self._written = time.monotonic()

    def _opened(self) -> bool:
        """Opens the file, made if need be; False where it is no manifest of this version, or damaged."""
        if self.path.is_dir():
            return False
        self._rows = sqlite3.connect(self.path)
        self._rows.row_factory = sqlite3.Row
        try:
            self._rows.execute(_TABLE)
            self._rows.commit()
            columns = {row["name"] for row in self._rows.execute("PRAGMA table_info(jobs)")}
            if columns == set(_COLUMNS) and self._rows.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok":
                return True
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # a full disk, a folder that may not be written to
        self._rows.close()
        return False

    def plan(self, jobs: Iterable[Job], finished: set[str]) -> None:
        """Takes in a sweep's jobs: those finished are done whatever the record says, and only those."""
        now = time.time()
        self._rows.executemany(
            "INSERT INTO jobs (id, position, parameters, state, changed) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET position = excluded.position, parameters = excluded.parameters, "
            f"state = CASE WHEN excluded.state = '{DONE}' OR state <> '{FAILED}' THEN excluded.state ELSE state END",
            (
                (job.id, position, json.dumps(job.parameters), DONE if job.id in finished else QUEUED, now)
                for position, job in enumerate(jobs)
            ),
        )
        self._rows.execute(f"UPDATE jobs SET error = NULL, cell = NULL WHERE state = '{DONE}'")
        self._rows.commit()

    def set(self, job: str, state: str, **columns: Any) -> None:
        """Notes a job's new state. Rows reach the disk half a second later at most, and with `commit`."""
        columns = {"state": state, "changed": time.time(), **columns}
        names = ", ".join(f"{name} = ?" for name in columns)
        self._rows.execute(f"UPDATE jobs SET {names} WHERE id = ?", (*columns.values(), job))
        if time.monotonic() - self._written > _PATIENCE:
            self.commit()

    def attempt(self, job: str, worker: str) -> None:
        """Notes that a worker has begun a job, as often as one does."""
        self._rows.execute("UPDATE jobs SET attempts = attempts + 1 WHERE id = ?", (job,))
        self.set(job, RUNNING, worker=worker)

    def commit(self) -> None:
        self._rows.commit()
        self._written = time.monotonic()

    def rows(self) -> dict[str, dict[str, Any]]:
        """All jobs ever planned in this folder, by id, in the order of the last plan."""
        return {row["id"]: dict(row) for row in self._rows.execute("SELECT * FROM jobs ORDER BY position")}

    def counts(self, jobs: Iterable[Job]) -> Counter:
        """How many of these jobs are in each state."""
        states = dict(self._rows.execute("SELECT id, state FROM jobs").fetchall())
        return Counter(states.get(job.id, QUEUED) for job in jobs)

    def close(self) -> None:
        """Whatever was under way is not any more."""
        self._rows.execute(f"UPDATE jobs SET state = '{QUEUED}' WHERE state = '{RUNNING}'")
        self.commit()
        self._rows.close()
