"""The newest job wins, none is done twice, and no thread is left."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from nbhelpers import edge

WAIT = 30


def test_of_the_jobs_that_come_meanwhile_only_the_last_is_done():
    begun, go_on, done = threading.Event(), threading.Event(), []

    def work(job):
        begun.set()
        assert go_on.wait(WAIT)
        done.append((job, latest.stopped, latest.replaced))

    latest = edge.Latest(work, "test")
    latest.put(1)
    assert begun.wait(WAIT)
    for job in (2, 3, 4):
        latest.put(job)
    go_on.set()
    latest.wait(WAIT)
    assert done == [(1, True, True), (4, False, False)]
    assert latest.thread is None


def test_stop_forgets_what_waits():
    begun, go_on, done = threading.Event(), threading.Event(), []

    def work(job):
        begun.set()
        assert go_on.wait(WAIT)
        done.append((job, latest.stopped))

    latest = edge.Latest(work, "test")
    latest.put(1)
    assert begun.wait(WAIT)
    latest.put(2)
    latest.stop()
    go_on.set()
    latest.wait(WAIT)
    assert done == [(1, True)]


@given(jobs=st.lists(st.integers(), min_size=1, max_size=20))
def test_the_last_job_is_always_done_last(jobs):
    done = []
    latest = edge.Latest(done.append, "test")
    for job in jobs:
        latest.put(job)
    latest.wait(WAIT)
    assert done[-1] == jobs[-1]
    assert len(done) <= len(jobs)
