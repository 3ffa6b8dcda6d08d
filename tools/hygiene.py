"""What may be committed: rules for notebooks and for every other file, and the command that makes a notebook fit.

    python tools/hygiene.py check            # everything git tracks
    python tools/hygiene.py check FILE...    # these files
    python tools/hygiene.py clean NOTEBOOK...

The pre-commit hooks and `tests/test_house.py` call the same functions.
"""

import re
import subprocess
import sys
from pathlib import Path

import nbformat

from nbhelpers import notebooks

ROOT = Path(__file__).resolve().parent.parent
MEGABYTE = 1_000_000
NOTEBOOK_LIMIT = 1 * MEGABYTE
RESULTS_LIMIT = 20 * MEGABYTE
# Hosts of package registries, in two parts each: this file is checked by its own rule.
_REGISTRIES = re.compile(
    "|".join(re.escape(a + b) for a, b in [
        ("pypi", ".org"), ("pypi", ".python.org"), ("pythonhosted", ".org"), ("download.pytorch", ".org"),
        ("conda.anaconda", ".org"), ("repo.anaconda", ".com"), ("registry.npmjs", ".org"), ("registry.yarnpkg", ".com"),
    ])
    + r"|--(?:extra-)?index-url[ =]\S*://|^\s*(?:extra-)?index-url\s*=",
    re.MULTILINE,
)  # fmt: skip
_LOCK_FILES = {"poetry.lock", "uv.lock", "pdm.lock", "Pipfile.lock", "conda-lock.yml", "package-lock.json", "yarn.lock"}


def notebook_problems(path: Path, root: Path = ROOT) -> list[str]:
    """What keeps a notebook from being committed, one sentence each; empty if it is fit."""
    size = path.stat().st_size
    problems = [f"is {size / MEGABYTE:.1f} MB; the limit is 1 MB: make its figures smaller"] * (size > NOTEBOOK_LIMIT)
    try:
        notebook = notebooks.read(path)
        nbformat.validate(notebook)
    except (ValueError, nbformat.ValidationError) as error:
        return [*problems, f"is not a valid notebook: {str(error).splitlines()[0]}"]
    outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
    if "widgets" in notebook.metadata or any(notebooks.WIDGET_VIEW in o.get("data", {}) for o in outputs):
        problems.append("has widget state; run `python tools/hygiene.py clean`")
    problems += [f"holds an error, {error.splitlines()[0]}" for error in notebooks.errors(notebook)]
    if "papermill" in notebook.metadata or notebooks.tagged(notebook, "injected-parameters"):
        problems.append("is a papermill output; commit the notebook itself, refreshed by `make notebooks`")
    if [notebook.metadata.get(key, {}).get("name") for key in ("kernelspec", "language_info")] != ["python3", "python"]:
        # without the language ruff would pass over the notebook in silence
        problems.append("asks for something other than the kernel python3; run `python tools/hygiene.py clean`")
    readable = [c.source for c in notebook.cells] + [t for o in outputs for t in notebooks.texts(o).values()]
    for found in notebooks.machine_paths("\n".join(readable), root):
        problems.append(f"names a path of one machine, {found!r}")
    return problems + _structure_problems(notebook)


def text_problems(path: Path, root: Path = ROOT) -> list[str]:
    """What keeps any other file from being committed: paths of one machine, addresses of package registries."""
    if path.name in _LOCK_FILES:
        return ["is a lock file, which holds addresses; version bounds belong in pyproject.toml"]
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return []  # a picture, weights
    problems = [f"names a path of one machine, {found!r}" for found in notebooks.machine_paths(text, root)]
    return problems + [f"holds a registry's address, {match[0]!r}" for match in _REGISTRIES.finditer(text)]


def results_problems(files: list[Path], root: Path = ROOT) -> list[str]:
    """Whether the committed part of `results/` is too large."""
    size = sum(path.stat().st_size for path in files if (root / "results") in path.parents)
    return [f"results/ holds {size / MEGABYTE:.1f} MB; the limit is 20 MB"] * (size > RESULTS_LIMIT)


def problems(files: list[Path], root: Path = ROOT) -> list[str]:
    """Every problem of these files, each with the file's name in front."""
    found = []
    for path in files:
        of_file = (notebook_problems if path.suffix == ".ipynb" else text_problems)(path, root)
        found += [f"{path.relative_to(root) if root in path.parents else path}: {problem}" for problem in of_file]
    return found + results_problems(files, root)


def tracked(root: Path = ROOT) -> list[Path]:
    """All files that git tracks and that are still there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout
    return [path for name in listed.decode().split("\0") if name and (path := root / name).is_file()]


def _structure_problems(notebook: nbformat.NotebookNode) -> list[str]:
    problems = []
    if (count := len(notebooks.tagged(notebook, "parameters"))) != 1:
        problems.append(f"has {count} code cells tagged `parameters`; papermill needs exactly one")
    checked = notebooks.tagged(notebook, "nbval-check-output")
    if not checked:
        problems.append("has no cell tagged `nbval-check-output`: print at least one fact that a test can compare")
    for cell in checked:
        if cell.execution_count is None or not cell.outputs:
            # nbval compares nothing in such a cell, and passes
            first = cell.source.splitlines()[0] if cell.source else "(empty)"
            problems.append(f"has a checked cell without a kept output ({first}); run `make notebooks`")
    return problems


def main(arguments: list[str]) -> int:
    command, files = (arguments or [""])[0], [Path(name).resolve() for name in arguments[1:]]
    if command == "clean" and files:
        for path in files:
            notebooks.write(notebooks.clean(notebooks.read(path), ROOT), path)
        return 0
    if command == "check":
        found = problems(files or tracked())
        print("\n".join(found) or "all files are fit to be committed")
        return 1 if found else 0
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
