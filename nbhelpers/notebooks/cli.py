"""`nbhelpers run NOTEBOOK...`, `notebooks FOLDER`, `student FOLDER`: notebooks from the command line.

nbhelpers run notebooks                                   # all of a folder
nbhelpers run notebooks/01_activation_maximization.ipynb -p layer block3.conv2 -p channels "[0, 5]"
nbhelpers run notebooks/01_activation_maximization.ipynb --list
nbhelpers notebooks course                                # copies to work on, where only the package is installed
nbhelpers student course                                  # copies without the solutions
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from nbhelpers import edge
from nbhelpers.notebooks import batch, documents
from nbhelpers.notebooks import student as copies


def _notebooks_in(paths: Sequence[str]) -> list[Path]:
    folders = {path: edge.kind(path) == "folder" for path in map(Path, paths)}
    found = [each for path, folder in folders.items() for each in (sorted(path.glob("*.ipynb")) if folder else [path])]
    if not found:
        raise click.UsageError(f"no notebooks in {edge.few(paths)}")
    return found


@click.command(help="Run notebooks with papermill. A folder stands for all notebooks in it.")
@click.argument("paths", nargs=-1, required=True, metavar="NOTEBOOK...")
@click.option("-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter; may be repeated.")
@click.option("--results", default="results", show_default=True, help="Where pictures and executed notebooks go.")
@click.option("--list", "only_list", is_flag=True, help="List the parameters and run nothing.")
@click.option("--update", is_flag=True, help="Also put the new outputs, cleaned, into the notebooks themselves.")
def run(
    paths: tuple[str, ...], given: tuple[tuple[str, str], ...], results: str, only_list: bool, update: bool
) -> None:
    if update and given:
        raise click.UsageError("--update keeps the outputs of the default parameters: leave out -p")
    try:
        found = _notebooks_in(paths)
        if only_list:
            for path in found:
                declared = documents.parameters(documents.read(path), path)
                click.echo(f"{path}\n" + "".join(_described(p) for p in declared))
            return
        outcomes = batch.run_all(found, results=results, words=given)
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:  # a disk that is full, a folder that went away
        raise click.ClickException(f"what was made so far is in {results}, and then: {error}") from error
    except KeyboardInterrupt:
        click.echo("interrupted; what was made so far is kept in " + results, err=True)
        sys.exit(130)
    failed = [o for o in outcomes if o.errors]
    for outcome in failed:
        click.echo(f"\n{'-' * 75}\n{outcome.name} failed: " + "\n\n".join(outcome.errors), err=True)
    click.echo(f"{len(outcomes) - len(failed)} of {len(outcomes)} notebooks ran; see {Path(results) / 'index.html'}")
    if update:
        _update([outcome for outcome in outcomes if not outcome.errors])
    sys.exit(1 if failed else 0)


@click.command(help="Copy the notebooks, with their photos and sweeps, into FOLDER, to work on.")
@click.argument("folder")
def notebooks(folder: str) -> None:
    try:
        copied = edge.copy_companions(folder)
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:  # a disk that is full
        raise click.ClickException(f"what was copied so far is in {folder}, and then: {error}") from error
    click.echo(f"{edge.few(copied)}; now: jupyter lab {copied[0] / '00_tour.ipynb'}")


@click.command(help="Copy the notebooks for students: the answers empty, the solutions left out.")
@click.argument("folder")
@click.option("--from", "source", default="notebooks", show_default=True, help="The folder of the notebooks.")
def student(folder: str, source: str) -> None:
    try:
        written = copies.write_copies(folder, source)
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"the copies are not complete: {error}") from error
    click.echo(f"{len(written)} notebooks for students are in {written[0].parent}")


def _update(outcomes: list[batch.Outcome]) -> None:
    for outcome in outcomes:
        documents.write(documents.clean(documents.read(outcome.executed), Path.cwd()), outcome.notebook)


def _described(parameter: documents.Parameter) -> str:
    return f"  {parameter.name + ' = ' + repr(parameter.value):45} {parameter.comment}\n"
