"""From a YAML file to the jobs of a sweep, everything checked before anything starts.

notebook: ../notebooks/01_activation_maximization.ipynb   # beside this file
fixed:
  network: minivgg_robust
grid:                                    # every combination of these
  layer: [block3.conv2, block4.conv1]
  seed: 0..3                             # 0, 1, 2, 3; also 0..511 step 16
  channels: 0..255 in chunks of 16       # [0, ..., 15], [16, ..., 31], ...
  start: {files: ../sample_images/*.jpg} # beside the notebook; s3://bucket/*.jpg works, too
zipped:                                  # lists that go together: the first with the first, and so on
  - {steps: [16, 64], size: [96, 128]}
threads: 1                               # these three may be left out
timeout: 600                             # seconds a job
memory: 4 GB                             # a job
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode

from nbhelpers import __version__, edge, notebooks
from nbhelpers.notebooks.arguments import check_names
from nbhelpers.sweeps.values import Loader, in_bytes, spelled_out

MOST = 1_000_000
"""Jobs of one sweep: more than anybody waits for, and no more than memory holds."""
KEYS = ("name", "notebook", "fixed", "grid", "zipped", "threads", "timeout", "memory")


@dataclass(frozen=True)
class Job:
    """One run of the notebook.

    Attributes:
        id: hash of the notebook's cells, the parameters and the package's version: the same work has the same id.
        parameters: all that are given to the notebook.
        varied: those of them that the sweep varies.
    """

    id: str
    parameters: dict[str, Any]
    varied: dict[str, Any]

    def __str__(self) -> str:
        return " ".join(
            f"{name}={value if isinstance(value, str) else _short(value)}" for name, value in self.varied.items()
        )


@dataclass
class Plan:
    """A sweep that can be carried out.

    Attributes:
        name: of the folder its results go to.
        notebook: path of the notebook.
        source: the notebook without its outputs.
        axes: each varied parameter's values.
        zipped: groups of parameters whose values go together.
        threads, timeout, memory: threads, seconds and bytes a job may use; None where the file does not say.
    """

    name: str
    notebook: Path
    source: NotebookNode
    fixed: dict[str, Any]
    axes: dict[str, list[Any]]
    zipped: list[list[str]]
    jobs: list[Job] = field(repr=False)
    threads: int | None = None
    timeout: float | None = None
    memory: int | None = None


def read(path: str | Path) -> Plan:
    """Reads a sweep's YAML file, looks up its notebook and its photos, and lists its jobs.

    Raises:
        FileNotFoundError: no such YAML file, or no such notebook; the nearest name is offered.
        ValueError: what the file says cannot be carried out: not YAML, an unknown key or parameter, an empty grid, a
            range that leads nowhere, the same job twice.
    """
    path = Path(path)
    said = _load(path)
    check_names(said, KEYS, f"{path.name} has the unknown key", "A sweep has")
    if not isinstance(said.get("notebook"), str):
        raise ValueError(
            f"{path.name} names no notebook: add a line `notebook: path/of/it.ipynb`, relative to this file"
        )
    notebook = _found(path.parent / said["notebook"])
    source = _without_outputs(notebooks.read(notebook))
    declared = [parameter.name for parameter in notebooks.parameters(source, notebook)]

    fixed = _mapping(said, "fixed", path)
    groups = [{name: values} for name, values in _mapping(said, "grid", path).items()]
    zipped = said.get("zipped") or []
    zipped = [zipped] if isinstance(zipped, dict) else zipped
    if not isinstance(zipped, list) or not all(isinstance(group, dict) and group for group in zipped):
        raise ValueError(f"{path.name}: zipped is a list of groups such as {{network: [a, b], layer: [c, d]}}")
    groups += zipped
    if not groups:
        raise ValueError(f"{path.name} varies nothing: give its grid a parameter with a list of values")
    names = [*fixed, *(name for group in groups for name in group)]
    check_names(names, declared, f"{notebook.name} has no parameter", "It has")
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise ValueError(f"{path.name} gives {twice[0]!r} twice: once in fixed, grid and zipped together")

    groups = [{name: spelled_out(name, values, notebook.parent) for name, values in group.items()} for group in groups]
    for group in groups:
        if len({len(values) for values in group.values()}) > 1:
            counts = ", ".join(f"{name} {len(values)}" for name, values in group.items())
            raise ValueError(f"{path.name}: zipped lists have the same length; these have {counts}")
    try:
        json.dumps([fixed, groups], allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path.name}: a parameter is infinite or not a number, which no JSON can hold") from error
    except TypeError as error:
        raise ValueError(f"{path.name}: parameters are plain numbers, strings, lists and the like: {error}") from error
    jobs = _jobs(source, fixed, groups)
    name = str(said.get("name", path.stem))
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"{path.name}: the name {name!r} is to be a folder's: letters, digits, dots and dashes")
    return Plan(
        name=name,
        notebook=notebook,
        source=source,
        fixed=fixed,
        axes={name: values for group in groups for name, values in group.items()},
        zipped=[list(group) for group in groups if len(group) > 1],
        jobs=jobs,
        threads=_positive(said, "threads", path, int),
        timeout=_positive(said, "timeout", path, (int, float)),
        memory=None if said.get("memory") is None else in_bytes(said["memory"]),
    )


def _jobs(source: NotebookNode, fixed: dict[str, Any], groups: list[dict[str, list[Any]]]) -> list[Job]:
    cells = [[cell.cell_type, cell.source] for cell in source.cells]
    same = hashlib.sha256(json.dumps([cells, __version__]).encode())
    counts = [len(next(iter(group.values()))) for group in groups]
    if math.prod(counts) > MOST:
        sides = edge.few([f"{count:,}" for count in counts], separator=" x ")
        raise ValueError(
            f"the grid has {sides} = {math.prod(counts):,} jobs, and {MOST:,} "
            "are the most: leave out values, or put several into one job (`0..511 in chunks of 16`)"
        )
    choices = [[dict(zip(group, row, strict=True)) for row in zip(*group.values(), strict=True)] for group in groups]
    jobs: dict[str, Job] = {}
    for combination in product(*choices):
        varied = {name: value for choice in combination for name, value in choice.items()}
        parameters = {**fixed, **varied}
        digest = same.copy()
        digest.update(json.dumps(parameters, sort_keys=True).encode())
        job = Job(digest.hexdigest()[:12], parameters, varied)
        if job.id in jobs:
            raise ValueError(f"the same job twice: {job}; no value may stand twice in the grid")
        jobs[job.id] = job
    return list(jobs.values())


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no sweep at {path}{_nearest(path, '*.y*ml')}; give the path of a YAML file")
    try:
        said = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{path.name} is not YAML{place}: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is not YAML: {error}") from error
    if not isinstance(said, dict):
        raise ValueError(f"{path.name} is to be lines of `key: value`, with the keys {', '.join(KEYS)}")
    return said


def _found(notebook: Path) -> Path:
    if not notebook.is_file():
        raise FileNotFoundError(f"no notebook at {notebook}{_nearest(notebook, '*.ipynb')}")
    return notebook


def _nearest(path: Path, pattern: str) -> str:
    beside = [other.name for other in path.parent.glob(pattern)] if path.parent.is_dir() else []
    near = edge.close(path.name, beside)
    return f"; did you mean {near[0]!r}?" if near else ""


def _without_outputs(notebook: NotebookNode) -> NotebookNode:
    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def _mapping(said: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    found = said.get(key) or {}
    if not isinstance(found, dict):
        raise ValueError(f"{path.name}: {key} is a list of lines `parameter: value`, got {found!r}")
    return found


def _positive(said: dict[str, Any], key: str, path: Path, kind: type | tuple[type, ...]) -> Any:
    value = said.get(key)
    if value is None or (isinstance(value, kind) and not isinstance(value, bool) and value > 0):
        return value
    raise ValueError(f"{path.name}: {key} is a number above 0, got {value!r}")


def _short(value: Any) -> str:
    """A list of numbers as its ends, so that a job fits on a line."""
    if isinstance(value, list) and len(value) > 4 and all(isinstance(v, int) for v in value):
        return f"[{value[0]}, {value[1]}, ..., {value[-1]}]"
    return json.dumps(value, ensure_ascii=False)
