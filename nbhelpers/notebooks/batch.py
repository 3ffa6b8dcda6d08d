"""Run notebooks: one, all of them, or the same one with other parameters (`nbhelpers run`).

papermill executes them. What is added here: unknown parameters are refused before anything starts; an exception in a
widget's callback counts as a failure; a run that fails keeps what it made and does not stop the others; each run's
pictures get a folder of their own, `results/NAME/`, beside the executed `results/NAME.ipynb`; and
`results/index.html` shows them all.
"""

import hashlib
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from nbhelpers import edge
from nbhelpers.notebooks import arguments, documents, execution, reading, results_page


@dataclass(frozen=True)
class Outcome:
    """What came of running one notebook."""

    name: str
    notebook: Path
    executed: Path
    seconds: float
    pictures: list[Path] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def line(self) -> str:
        """The run in one line, for the terminal."""
        made = f"{len(self.pictures)} picture{'' if len(self.pictures) == 1 else 's'}"
        return f"{'FAILED' if self.errors else 'ok':7}{self.name:40} {self.seconds:6.1f} s   {made}"


def run(
    notebook: str | Path,
    parameters: Mapping[str, Any] | None = None,
    results: str | Path = "results",
    name: str | None = None,
) -> Outcome:
    """Executes one notebook, in its own folder, with the Python that runs this line.

    Args:
        notebook: path of the notebook.
        parameters: values by name, for names that the notebook's parameters cell declares.
        results: folder for the executed notebook `NAME.ipynb`, a web page of it, and its pictures in `NAME/`.
        name: NAME; by default the notebook's own, followed by the parameters given.

    Returns:
        The outcome. A notebook that fails is not an exception: its errors are in the outcome, and what it had
        executed and drawn is kept.

    Raises:
        FileNotFoundError, ValueError: no such notebook; an unknown parameter or one that no notebook can be given; or
            a folder for results that cannot be written to.
    """
    notebook = Path(notebook)
    parameters = arguments.check(notebook, parameters or {})
    name = name or _run_name(notebook.stem, parameters)
    results = _ready(results, [name])
    pictures, partial = results / name, results / f".{name}.{os.getpid()}.ipynb"
    pictures.mkdir(parents=True, exist_ok=True)
    began, start = time.time(), time.perf_counter()
    interrupted = None
    try:
        failures = execution.execute(notebook, partial, parameters, pictures, folder=notebook.parent)
    except KeyboardInterrupt as error:
        failures, interrupted = ["interrupted"], error
    outcome = Outcome(
        name=name,
        notebook=notebook,
        executed=results / f"{name}.ipynb",
        seconds=time.perf_counter() - start,
        # a second's slack: file systems keep times more coarsely than the clock
        pictures=sorted(p for p in pictures.rglob("*.png") if p.stat().st_mtime >= began - 1),
        errors=failures,
    )
    _keep(notebook, partial, parameters, outcome)
    if interrupted:
        raise interrupted
    return outcome


def run_all(
    paths: Sequence[str | Path],
    parameters: Mapping[str, Any] | None = None,
    results: str | Path = "results",
    words: Sequence[tuple[str, str]] = (),
) -> list[Outcome]:
    """Executes notebooks one after the other, with one progress bar, one line for each, and a page of all results.

    Args:
        paths: the notebooks. All are looked at before the first one starts; one that is named twice is run once.
        parameters: values by name, for every notebook.
        results: as for `run`.
        words: more of them, as typed: each notebook says of what type they are.

    Returns:
        One outcome per notebook. After an interrupt the page is still written, and the interrupt goes on.

    Raises:
        FileNotFoundError, ValueError: as for `run`; or two notebooks have the same file name.
    """
    paths = _distinct(paths, Path(results))
    values = {path: arguments.check(path, {**(parameters or {}), **arguments.given(path, words)}) for path in paths}
    _ready(results, [_run_name(path.stem, values[path]) for path in paths])
    outcomes: list[Outcome] = []
    try:
        with edge.Bar(paths, unit="notebook", disable=None) as progress:
            for path in progress:
                progress.set_description(path.stem)
                outcomes.append(run(path, values[path], results))
                progress.write(outcomes[-1].line(), file=sys.stdout)
    finally:
        results_page.write(results)
    return outcomes


def _distinct(paths: Sequence[str | Path], results: Path) -> list[Path]:
    """The notebooks without repetitions; refuses two whose results would go to the same place."""
    named: dict[str, Path] = {}
    for path in map(Path, paths):
        first = named.setdefault(path.stem, path)
        if first.resolve() != path.resolve():
            raise ValueError(
                f"{first} and {path} would both write {results / path.stem}: run them separately with different "
                "--results, or rename one"
            )
    return list(named.values())


def _ready(results: str | Path, names: Sequence[str]) -> Path:
    """The folder for results, made if it is not there, when it can take all that runs of these names leave in it."""
    try:
        folder = edge.folder_to_write(results).resolve()
    except ValueError as error:
        raise ValueError(f"{error}; name another folder for the results (--results)") from error
    folders = [folder / name for name in names]
    files = [folder / "index.html", *(folder / f"{name}{ending}" for name in names for ending in (".ipynb", ".html"))]
    wrong = [path for path in folders if path.exists() and not path.is_dir()] + [
        path for path in files if path.is_dir()
    ]
    if wrong:
        raise ValueError(f"{edge.few(wrong)} stands where the results go: move it, or name another folder (--results)")
    return folder


def _keep(notebook: Path, partial: Path, parameters: dict[str, Any], outcome: Outcome) -> None:
    """Moves the executed notebook into place, with a note of the run for the results page."""
    executed = documents.read(partial) if partial.exists() else documents.read(notebook)
    partial.unlink(missing_ok=True)
    outcome.errors.extend(documents.errors(executed))
    executed.metadata["nbhelpers"] = NotebookNode(
        seconds=round(outcome.seconds, 2),
        errors=outcome.errors,
        pictures=[str(p.relative_to(outcome.executed.parent)) for p in outcome.pictures],
        parameters=[
            {**asdict(p), "value": parameters.get(p.name, p.value), "given": p.name in parameters}
            for p in documents.parameters(executed)
        ],
    )
    documents.write(execution.without_the_run(executed), outcome.executed)
    reading.write_page(executed, outcome.executed.with_suffix(".html"))


def _run_name(stem: str, parameters: Mapping[str, Any]) -> str:
    given = "".join(f"_{key}={value}" for key, value in parameters.items())
    name = stem + re.sub(r"[^\w.=-]+", "-", given)
    # other parameters, another name, though signs that no file may have are dashes in both; file systems stop at 255
    # bytes, people sooner
    texts = [value for value in parameters.values() if isinstance(value, str)]
    doubtful = any("=" in text or arguments.parse(text) != text for text in texts)  # "1" is not 1
    if name != stem + given or doubtful or len(name) > 100:
        name = name[:90] + "_" + hashlib.sha1(f"{stem}{list(parameters.items())}".encode()).hexdigest()[:8]
    return name
