"""Every notebook's parameters cell says what its recipe declares: names, types, defaults and comments."""

import ast
from pathlib import Path

import pytest

from nbhelpers import notebooks, recipes
from nbhelpers.recipes import Recipe

FOLDER = Path(__file__).parents[2] / "notebooks"
TOUR = "00_tour.ipynb"


def kinds_of(path: Path) -> list[type[Recipe]]:
    """The recipes that the notebook's `recipes.from_notebook(KIND, globals())` names, or `several_from_notebook`."""
    code = "\n".join(cell.source for cell in notebooks.read(path).cells if cell.cell_type == "code")
    lines = [line for line in code.splitlines() if not line.lstrip().startswith(("%", "!"))]
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("from_notebook"):
            with pytest.raises(ValueError, match="unknown recipe None"):
                recipes.from_document({})  # imports every technique
            named = node.args[0].elts if isinstance(node.args[0], ast.List) else node.args[:1]
            return [Recipe.kinds[ast.unparse(each).rsplit(".", 1)[-1]] for each in named]
    return []


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_parameters_cell_is_the_recipes(path):
    cells = notebooks.tagged(notebooks.read(path), "parameters")
    assert len(cells) == 1
    kinds = kinds_of(path)
    if path.name == TOUR:
        # a tour shows a few of them
        assert set(cells[0].source.splitlines()) <= set(recipes.parameters_cell(*kinds).splitlines())
        return
    assert kinds, "a notebook makes its recipe by recipes.from_notebook(KIND, globals())"
    assert cells[0].source == recipes.parameters_cell(*kinds)
