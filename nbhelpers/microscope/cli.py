"""`nbhelpers microscope NETWORK`."""

import errno
import os
from pathlib import Path

import click

from nbhelpers import edge, models
from nbhelpers.directions import photographs
from nbhelpers.microscope import made, site


@click.command(help="Every layer and channel of a network as a site: made pictures, photographs, what speaks for whom.")
@click.argument("network", default="minivgg_robust")
@click.option("--layers", "names", default="", help="Dotted names, with commas between.  [default: all convolutions]")
@click.option(
    "--pictures",
    type=click.Choice(["one", "full"]),
    default="one",
    show_default=True,
    help="One of each channel; or also four diverse ones, the negative, the untrained network's.",
)
@click.option("--classes/--no-classes", default=True, help="Whether each class is drawn as well.  [default: classes]")
@click.option("--photos", default="", help="Folder of photographs, labelled by its sub-folders, or a data folder.")
@click.option("--no-photos", is_flag=True, help="Leave photographs out, so that the site may be published.")
@click.option("--judge", default="", help="Network that answers the two-choice test.  [default: another bundled one]")
@click.option("--limit", default=5000, show_default=True, type=click.IntRange(1), help="Most photographs to look at.")
@click.option(
    "--steps", default=24, show_default=True, type=click.IntRange(1, 500), help="Steps of Adam for each picture."
)
@click.option("--workers", type=click.IntRange(1), help="Processes on this machine.  [default: one a core]")
@click.option("--scheduler", metavar="ADDRESS", help="Use the Dask cluster at this address (tcp://...).")
@click.option("--results", default="results", show_default=True, help="The site goes to RESULTS/microscope/NETWORK.")
def microscope(
    network: str,
    names: str,
    pictures: str,
    classes: bool,
    photos: str,
    no_photos: bool,
    judge: str,
    limit: int,
    steps: int,
    workers: int | None,
    scheduler: str | None,
    results: str,
) -> None:
    try:
        model = models.load(network)
        chosen = made.layers(model, [name.strip() for name in names.split(",") if name.strip()])
        kinds = list(made.KINDS) if pictures == "full" else ["made"]
        shown = _photographs(photos, max(models.sides(model.size)), limit, judge) if photos and not no_photos else None
        about = [f"{len(shown.pictures):,} photographs of {Path(photos).name}"] if shown else ["made pictures only"]
        folder = edge.folder_to_write(results)
        jobs = made.jobs(model, chosen, kinds, classes, steps)
        kept = made.Folder(folder, model)
        _draw(jobs, model, kept, workers or _cores(), scheduler)
        target = folder / "microscope" / model.name.replace("/", "-")
        click.echo(site.write(model, chosen, jobs, kept, target, shown, about))
    except KeyboardInterrupt:
        click.echo("interrupted: what is drawn is kept, and the same command goes on", err=True)
        raise SystemExit(130) from None
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error}: `pip install distributed` brings it, or use --workers 1") from error
    except ConnectionError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise click.ClickException(
                f"the disk of {results} is full: what is drawn is whole. Make room, and the same command goes on"
            ) from error
        raise click.UsageError(str(error)) from error
    except (ValueError, KeyError) as error:
        raise click.UsageError(str(error.args[0] if isinstance(error, KeyError) else error)) from error


def _photographs(source: str, size: int, limit: int, judge: str) -> site.Photographs:
    """Read under the network's size; what cannot be read is named and left out."""
    if judge:
        models.load(judge)  # one that is not there is known before hours of drawing
    pictures, labels = photographs.read(source, size, limit, cuts=1, seed=0)
    if pictures.skipped:
        click.echo(f"not read: {edge.few(pictures.skipped, separator='; ')}", err=True)
    pictures.names = pictures.names or [labels[number] for number in pictures.labels.tolist()]
    return site.Photographs(pictures, labels, judge)


def _draw(
    jobs: list[made.Job], network: models.Network, kept: made.Folder, workers: int, scheduler: str | None
) -> None:
    missing = [job for job in jobs if kept.pictures(job) is None]
    total, left = (sum(len(job.channels) for job in some) for some in (jobs, missing))
    click.echo(f"{network.name}: {total:,} pictures, {total - left:,} drawn before, {left:,} to draw")
    if not missing:
        return
    with edge.Bar(total=left, desc="drawing", unit="picture", disable=None) as bar:
        for job in made.draw(missing, network, kept, min(workers, len(missing)), scheduler):
            bar.update(len(job.channels))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
