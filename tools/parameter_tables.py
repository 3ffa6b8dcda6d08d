"""Write `notebooks/README.md`: every notebook with its recipe's parameters, taken from the code.

python tools/parameter_tables.py          write it
python tools/parameter_tables.py --check  say whether it is up to date
"""

import re
import sys
from pathlib import Path

from nbformat import NotebookNode

from nbhelpers import notebooks, recipes

FOLDER = Path(__file__).parent.parent / "notebooks"
HEAD = """# The notebooks

Each notebook is a lecture, a set of sliders and a batch program at once. Its parameters, from the code
(`python tools/parameter_tables.py` writes this page):
"""


def recipes_of(notebook: NotebookNode) -> list[type[recipes.Recipe]]:
    """The kinds of recipe that a notebook makes from its parameters."""
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    found = re.search(r"from_notebook\(\[?([\w., ]+?)\]?, globals\(\)\)", source)
    if found is None:
        raise ValueError("the notebook has no line `recipe = recipes.from_notebook(KIND, globals())`")
    return [recipes.kind_named(name.strip().rpartition(".")[2]) for name in found[1].split(",")]


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for path in sorted(FOLDER.glob("*.ipynb")):
        notebook = notebooks.read(path)
        shown = {parameter.name for parameter in notebooks.parameters(notebook)}
        parts.append(f"## [{notebooks.title(notebook)}]({path.name})\n")
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
