"""Write `notebooks/README.md`: ways through, what builds on what, every notebook with its recipe's parameters.

python tools/parameter_tables.py          write it
python tools/parameter_tables.py --check  say whether it is up to date
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from nbhelpers import notebooks, recipes

FOLDER = Path(__file__).parent.parent / "notebooks"
HEAD = """# The notebooks

Each notebook is a lecture, a set of sliders and a batch program at once. Words are explained in the
[glossary](../docs/glossary.md); notes for teachers are in [docs/teaching.md](../docs/teaching.md).

## Ways through

- **90 minutes**: the first half of [00](00_tour.ipynb), then [01](01_activation_maximization.ipynb) and
  [05](05_grad_cam.ipynb): a network's favourite pictures, and where it looks in yours.
- **A day**: [00](00_tour.ipynb), [01](01_activation_maximization.ipynb), [02](02_testing_interpretations.ipynb) in
  the morning; [03](03_class_pictures_and_saliency.ipynb), [05](05_grad_cam.ipynb), [12](12_explorer.ipynb) in the
  afternoon.
- **A term**, one a week: *pictures* 00, 01, 02, 04; *maps* 03, 05, 09; *sets of photos* 06, 07, 08; *vocabularies* 12,
  13, 14, 15; *networks of your own* 11, 10.

What builds on what, from the links under "You should know" at the top of each notebook:
"""
PARAMETERS = """## Parameters

From the code (`python tools/parameter_tables.py` writes this page):
"""


def builds_on(notebook: NotebookNode) -> list[str]:
    """The numbers of the notebooks that one says its reader should know."""
    known = re.search(r"^\*\*You should know\*\*(.*)$", notebook.cells[0].source, re.MULTILINE)
    return re.findall(r"\((\d\d)_\w+\.ipynb\)", known[1]) if known else []


@dataclass(frozen=True)
class Step:
    """A notebook's place in the course: its file, the first words of its title, numbers of what it builds on."""

    file: str
    title: str
    earlier: list[str]


def course() -> dict[str, Step]:
    """Every notebook by its number."""
    read = {path: notebooks.read(path) for path in sorted(FOLDER.glob("*.ipynb"))}
    return {
        path.stem[:2]: Step(path.name, notebooks.title(notebook).partition(":")[0], builds_on(notebook))
        for path, notebook in read.items()
    }


def graph() -> str:
    """What builds on what, as a Mermaid diagram."""
    lines = []
    for number, step in course().items():
        lines.append(f'    n{number}["{number} {step.title}"]')
        lines += [f"    n{earlier} --> n{number}" for earlier in step.earlier]
    return "\n".join(["```mermaid", "graph LR", *lines, "```", ""])


def recipes_of(notebook: NotebookNode) -> list[type[recipes.Recipe]]:
    """The kinds of recipe that a notebook makes from its parameters."""
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    found = re.search(r"from_notebook\(\[?([\w., ]+?)\]?, globals\(\)\)", source)
    if found is None:
        raise ValueError("the notebook has no line `recipe = recipes.from_notebook(KIND, globals())`")
    return [recipes.kind_named(name.strip().rpartition(".")[2]) for name in found[1].split(",")]


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD, graph(), PARAMETERS]
    for path in sorted(FOLDER.glob("*.ipynb")):
        notebook = notebooks.read(path)
        shown = {parameter.name for parameter in notebooks.parameters(notebook)}
        parts.append(f"### [{notebooks.title(notebook)}]({path.name})\n")
        for kind in recipes_of(notebook):
            summary = (kind.__doc__ or "").strip().splitlines()[0]
            parts.append(f"`{kind.__name__}`: {summary}\n")
            if shown >= set(kind.model_fields):
                parts.append(recipes.parameters_table(kind) + "\n")
            else:
                parts.append(f"Parameters: {', '.join(f'`{name}`' for name in kind.model_fields if name in shown)}.\n")
    return "\n".join(parts)


if __name__ == "__main__":
    target = FOLDER / "README.md"
    if "--check" in sys.argv:
        if target.read_text(encoding="utf-8") != page():
            raise SystemExit("notebooks/README.md is out of date: run python tools/parameter_tables.py")
    else:
        target.write_text(page(), encoding="utf-8")
