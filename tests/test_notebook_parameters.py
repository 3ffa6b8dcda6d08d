"""Every notebook's parameters cell says what its recipe declares: names, types, defaults and comments."""

import ast
from pathlib import Path

import pytest

from nbhelpers import notebooks, recipes
from nbhelpers.recipes import Recipe

FOLDER = Path(__file__).parent.parent / "notebooks"
TOUR = "00_tour.ipynb"


def kind_of(path: Path) -> type[Recipe] | None:
    """The recipe that the notebook's `recipes.from_notebook(KIND, globals())` names."""
    code = "\n".join(cell.source for cell in notebooks.read(path).cells if cell.cell_type == "code")
    lines = [line for line in code.splitlines() if not line.lstrip().startswith(("%", "!"))]
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("from_notebook"):
            name = ast.unparse(node.args[0]).rsplit(".", 1)[-1]
            with pytest.raises(ValueError, match="unknown recipe None"):
                recipes.from_document({})  # imports every technique
            return Recipe.kinds[name]
    return None


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_parameters_cell_is_the_recipes(path):
    cells = notebooks.tagged(notebooks.read(path), "parameters")
    assert len(cells) == 1
    kind = kind_of(path)
    if path.name == TOUR:
        if kind is not None:  # a tour shows a few of them
            assert set(cells[0].source.splitlines()) <= set(recipes.parameters_cell(kind).splitlines())
        return
    assert kind is not None, "a notebook makes its recipe by recipes.from_notebook(KIND, globals())"
    assert cells[0].source == recipes.parameters_cell(kind)
