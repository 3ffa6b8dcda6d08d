"""What opens this collection on somebody else's computer: badges in the README, and each notebook's cell for Colab.

    python -m tools.badges      # write them for the address in pyproject.toml; none without one

They need to know where the repository lies, and one line says it, in `pyproject.toml`:

    [project.urls]
    Repository = "https://github.com/OWNER/NAME"

The cell for Colab installs the package where it is missing and goes to where the photos are; elsewhere it does nothing.
"""

import re
import sys
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from nbhelpers import notebooks

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- badges: python -m tools.badges -->\n", "<!-- /badges -->\n"
TAG = "colab"
CELL = """\
# Only for Colab and the like, where the package is missing: install it, and go to where the photos are.
from importlib.util import find_spec

if find_spec("nbhelpers") is None:
    %pip install -q "nbhelpers @ git+{address}"
    !nbhelpers notebooks /content/course
    %cd /content/course/notebooks"""


def repository(root: Path = ROOT) -> str:
    """The repository's address as `OWNER/NAME`, from `pyproject.toml`; empty where it is not said.

    Raises:
        ValueError: it is said, and is not on GitHub, which the services ask for.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address = project.get("urls", {}).get("Repository", "")
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", address)
    if address and not found:
        raise ValueError(f"Repository in pyproject.toml is to be https://github.com/OWNER/NAME, not {address}")
    return found[1] if found else ""


def line(name: str) -> str:
    """The badges of a repository `OWNER/NAME` as Markdown; nothing without one."""
    if not name:
        return ""
    tour = "notebooks/00_tour.ipynb"
    colab, binder = "https://colab.research.google.com", "https://mybinder.org"
    badges = [
        ("Open in Colab", f"{colab}/assets/colab-badge.svg", f"{colab}/github/{name}/blob/main/{tour}"),
        ("Open in Codespaces", "https://github.com/codespaces/badge.svg", f"https://codespaces.new/{name}"),
        ("Open in Binder", f"{binder}/badge_logo.svg", f"{binder}/v2/gh/{name}/HEAD?urlpath=lab/tree/{tour}"),
    ]
    return "\n".join(f"[![{words}]({picture})]({target})" for words, picture, target in badges) + "\n"


def with_badges(text: str, name: str) -> str:
    """A README with the badges of a repository between its two marks."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{line(name)}{END}{rest.partition(END)[2]}"


def with_cell(notebook: NotebookNode, name: str) -> NotebookNode:
    """Gives a notebook, in place, its cell for Colab, after what it opens with; takes it away without a repository."""
    notebook.cells = [cell for cell in notebook.cells if TAG not in cell.metadata.get("tags", [])]
    if name:
        metadata = {"tags": [TAG], "slideshow": {"slide_type": "skip"}}
        source = CELL.format(address=f"https://github.com/{name}")
        notebook.cells.insert(1, new_code_cell(source, id=TAG, metadata=metadata))
    return notebook


def main(root: Path = ROOT) -> None:
    name = repository(root)
    readme = root / "README.md"
    readme.write_text(with_badges(readme.read_text(encoding="utf-8"), name), encoding="utf-8")
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebooks.write(with_cell(notebooks.read(path), name), path)
    print(f"badges for {name}" if name else "no badges: pyproject.toml names no repository")


if __name__ == "__main__":
    main()
