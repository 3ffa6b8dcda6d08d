"""`nbhelpers sweep FILE.yaml`: what is asked for, how it goes, how it ended."""

import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

import click

from nbhelpers import edge
from nbhelpers.sweeps import clusters, engine, plan, store
from nbhelpers.sweeps.engine import Settings, Sweep
from nbhelpers.sweeps.manifest import DONE, FAILED, RUNNING
from nbhelpers.sweeps.plan import Job

_SHOWN = 12
_NEEDED = 'sweeps run on Dask: `pip install distributed`, or `pip install -e ".[batch]"` in a checkout, brings it'


@click.command(help="Run a notebook with all the parameters that FILE, a YAML file, asks for.")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--results", default="results", show_default=True, help="Folder or address (s3://...) for results/NAME.")
@click.option("--workers", type=click.IntRange(1), help="Jobs at once on this machine.  [default: cores / threads]")
@click.option("--threads", type=click.IntRange(1), help="Threads a job may use.  [default: the file's, or 1]")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds a job may take.  [default: 3600]")
@click.option("--scheduler", metavar="ADDRESS", help="Use the Dask cluster at this address (tcp://...).")
@click.option("--dry-run", is_flag=True, help="List the jobs and say what they take; see --first.")
@click.option(
    "--first", type=click.IntRange(0), metavar="N", help="Do only the first N that are missing.  [with --dry-run: 1, to"
    " know what one takes, unless that is known]",
)  # fmt: skip
@click.option("--preload/--no-preload", default=True, help="Import torch and the like once a worker, not in each job.")
@click.option("--log", type=click.Path(dir_okay=False), help="Write what happens, line by line, to this file.")
def sweep(file: str, results: str, dry_run: bool, first: int | None, log: str | None, **given: Any) -> None:
    if sys.platform == "win32":
        raise click.ClickException("sweeps need Linux or macOS; on Windows, WSL is a Linux")
    try:
        planned = plan.read(file)
        place = store.place(results, planned.name)
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error
    try:
        with _logging(log), Sweep(planned, place) as at_work:
            code = _carry_out(at_work, Settings(**given), dry_run, first)
            if place.finished():
                _page(place)
    except BlockingIOError as error:
        raise click.UsageError(f"{place}: {error}: wait for it, or choose other --results") from error
    except ModuleNotFoundError as error:
        raise click.ClickException(_NEEDED if error.name == "distributed" else str(error)) from error
    except ConnectionError as error:
        raise click.ClickException(f"{error}; {_again()}") from error
    except OSError as error:
        raise click.ClickException(f"results cannot be written to {place}: {error}") from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    sys.exit(code)


def _carry_out(at_work: Sweep, settings: Settings, dry_run: bool, first: int | None) -> int:
    missing = at_work.missing()
    total = len(at_work.plan.jobs)
    done = total - len(missing)
    for line in at_work.said:
        click.echo(line)
    click.echo(f"{at_work.plan.name}: {total} jobs, {done} done, {len(missing)} to do, in {at_work.store}")
    if dry_run:
        _list(at_work.plan.jobs, {job.id for job in missing})
        if first is None:
            first = 0 if at_work.cost() else 1
        if first and missing:
            click.echo(f"doing {first} to know what a job takes; the result is kept (--first 0 does none)")
    chosen = missing if first is None else missing[:first]
    interrupted, full = False, False
    try:
        _watched(at_work, chosen, settings)
    except KeyboardInterrupt:
        interrupted = True
    except engine.FullDisk:
        full = True
    failures = at_work.failures()
    _table(failures)
    counts = at_work.manifest.counts(at_work.plan.jobs)
    click.echo(f"{counts[DONE]} of {total} jobs are done" + (f", {counts[FAILED]} failed" if failures else ""))
    if dry_run:
        _estimate(at_work, settings)
    if full:
        click.echo(f"the disk of {at_work.store} is full: what is finished is whole. Make room; {_again()}", err=True)
    if interrupted:
        click.echo(f"interrupted, no job is running any more; {_again()}", err=True)
        return 130
    return 1 if full or failures else 0


def _watched(at_work: Sweep, jobs: Sequence[Job], settings: Settings) -> None:
    """The sweep under one progress bar."""
    shown = os.path.relpath(at_work.plan.notebook)
    with edge.Bar(total=len(jobs), unit="job", disable=None) as bar:

        def state(counts: Counter) -> None:
            bar.set_postfix_str(f"{counts[FAILED]} failed, {counts[RUNNING]} running", refresh=False)
            bar.n = counts[DONE] + counts[FAILED]
            bar.refresh()

        def ended(job: Job, state: str, error: str) -> None:
            if state == FAILED:
                bar.write(shorten(f"FAILED {job}: {_last_line(error)}", 120, placeholder=" ..."), file=sys.stdout)

        def cluster(said: str) -> None:
            bar.write(said, file=sys.stdout)

        engine.run(at_work, jobs, settings, shown, engine.Progress(cluster, state, ended))


def _list(jobs: Sequence[Job], missing: set[str]) -> None:
    for number, job in enumerate(jobs):
        if number < _SHOWN or number == len(jobs) - 1:
            click.echo(f"  {job.id}  {'to do' if job.id in missing else 'done ':5}  {job}")
        elif number == _SHOWN:
            click.echo(f"  ... {len(jobs) - _SHOWN - 1:,} more ...")


def _estimate(at_work: Sweep, settings: Settings) -> None:
    cost, missing = at_work.cost(), len(at_work.missing())
    if cost is None:
        click.echo("no job is done yet, so nothing is known about the time; --first 1 does one")
        return
    until_done = ""
    if not settings.scheduler:  # how many workers a cluster has by then is up to the cluster
        workers = clusters.at_once(at_work.plan, settings, missing)
        rounds = -(-missing // workers)
        until_done = f"{_time(cost[0] * rounds)} on {workers} worker{'' if workers == 1 else 's'}, "
    click.echo(
        f"a job takes {_time(cost[0])} (the median of {cost[1]} done): the {missing} missing take about "
        f"{until_done}{_time(cost[0] * missing)} of computing in all"
    )


def _table(failures: Sequence[tuple[Job, dict[str, Any]]]) -> None:
    if not failures:
        return
    click.echo(f"\nfailed, each tried {engine.TRIES} times; how far it came is in failed/ID.ipynb")
    click.echo(f"  {'ID':12}  {'cell':>4}  error")
    for job, row in failures[:_SHOWN]:
        click.echo(f"  {job.id}  {row['cell'] or '-':>4}  {_last_line(row['error'])}\n{'':20}{job}")
    if len(failures) > _SHOWN:
        click.echo(f"  ... {len(failures) - _SHOWN:,} more ...")
    click.echo()


def _last_line(error: str | None) -> str:
    return next((line for line in reversed((error or "").splitlines()) if line.strip()), "")


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _again() -> str:
    return "the same command goes on where this one stopped"


def _page(place: store.Store) -> None:
    from nbhelpers import gallery

    try:
        click.echo(f"see {gallery.write(str(place))}")
    except (OSError, ValueError) as error:  # the results are there all the same
        click.echo(f"the page that shows them could not be written: {error}", err=True)


@contextmanager
def _logging(path: str | None) -> Iterator[None]:
    if path is None:
        yield
        return
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    engine.log.addHandler(handler)
    engine.log.setLevel(logging.INFO)
    try:
        yield
    finally:
        engine.log.removeHandler(handler)
        handler.close()
