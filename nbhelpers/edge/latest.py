"""Work that follows a control: only the newest wish counts."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")


class Latest(Generic[Job]):
    """Carries out the newest of the jobs that it is given, one at a time, on a thread that ends when none is left.

    Args:
        work: carries out a job. It asks now and then whether to go on (`stopped`), and shows its own errors.
        name: of the thread.
    """

    def __init__(self, work: Callable[[Job], None], name: str) -> None:
        self._work, self._name = work, name
        self._turn = threading.Condition()
        self._next: list[Job] = []
        self._stopped = False
        self.thread: threading.Thread | None = None

    @property
    def replaced(self) -> bool:
        """Whether a newer job waits for the one under way to end."""
        return bool(self._next)

    @property
    def stopped(self) -> bool:
        """Whether the job under way is to end, for a newer one or for none."""
        return self._stopped

    def put(self, job: Job) -> None:
        """Carry out this job next, and nothing else that was waiting."""
        with self._turn:
            self._next, self._stopped = [job], True
            if self.thread is None:
                self.thread = threading.Thread(target=self._carry_out, name=self._name, daemon=True)
                self.thread.start()

    def stop(self) -> None:
        """End the job under way, and forget what was waiting."""
        with self._turn:
            self._next, self._stopped = [], True

    def wait(self, timeout: float | None = None) -> None:
        """Wait until nothing is left to do."""
        if (thread := self.thread) is not None:
            thread.join(timeout)

    def _carry_out(self) -> None:
        while True:
            with self._turn:
                if not self._next:
                    self.thread = None
                    return
                (job,), self._next, self._stopped = self._next, [], False
            self._work(job)
