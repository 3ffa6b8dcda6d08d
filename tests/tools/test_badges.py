"""Badges and cells for Colab follow one line of pyproject.toml."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from nbhelpers import notebooks
from tools import badges, hygiene


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The README and one notebook, in a folder whose project says where it lies."""
    (tmp_path / "notebooks").mkdir()
    for name in ("README.md", "notebooks/12_explorer.ipynb"):
        shutil.copy(badges.ROOT / name, tmp_path / name)
    says_address(tmp_path, "https://github.com/ada/engine.git")
    return tmp_path


def says_address(folder: Path, address: str) -> None:
    (folder / "pyproject.toml").write_text(f'[project]\nname = "x"\n[project.urls]\nRepository = "{address}"\n')


def test_what_is_committed_is_what_the_tool_writes() -> None:
    name = badges.repository()
    readme = (badges.ROOT / "README.md").read_text()
    assert readme.count(badges.BEGIN) == readme.count(badges.END) == 1
    assert badges.with_badges(readme, name) == readme
    for path in sorted((badges.ROOT / "notebooks").glob("*.ipynb")):
        cells = notebooks.tagged(notebooks.read(path), badges.TAG)
        assert [cell.source for cell in cells] == [
            cell.source for cell in notebooks.tagged(badges.with_cell(notebooks.read(path), name), badges.TAG)
        ]


def test_an_address_gives_badges_and_a_cell_and_without_one_they_go(copy: Path) -> None:
    before = {path: path.read_text() for path in (copy / "README.md", copy / "notebooks" / "12_explorer.ipynb")}
    badges.main(copy)
    badges.main(copy)  # a second time changes nothing
    readme, path = (copy / "README.md").read_text(), copy / "notebooks" / "12_explorer.ipynb"
    assert "(https://colab.research.google.com/github/ada/engine/blob/main/notebooks/00_tour.ipynb)" in readme
    assert "(https://codespaces.new/ada/engine)" in readme
    assert "(https://mybinder.org/v2/gh/ada/engine/HEAD?urlpath=lab/tree/notebooks/00_tour.ipynb)" in readme
    notebook = notebooks.read(path)
    nbformat.validate(notebook)
    assert hygiene.notebook_problems(path) == []
    subprocess.run(
        [sys.executable, "-m", "ruff", "check", "-q", "--config", badges.ROOT / "pyproject.toml", path], check=True
    )
    assert [number for number, cell in enumerate(notebook.cells) if badges.TAG in cell.metadata.get("tags", [])] == [1]
    assert '"nbhelpers @ git+https://github.com/ada/engine"' in notebook.cells[1].source
    (copy / "pyproject.toml").write_text('[project]\nname = "x"\n')
    badges.main(copy)
    assert {path: path.read_text() for path in before} == before


def test_where_the_package_is_there_the_cell_does_nothing() -> None:
    notebook = badges.with_cell(new_notebook(cells=[new_code_cell("here = %pwd")]), "ada/engine")
    notebook.cells.append(new_code_cell("assert here == get_ipython().run_line_magic('pwd', '')"))
    NotebookClient(notebook, timeout=60).execute()
    assert [cell.outputs for cell in notebook.cells] == [[], [], []]


@pytest.mark.parametrize("address", ["https://example.com/ada/engine", "https://github.com/ada", "ada/engine"])
def test_an_address_that_the_services_do_not_take_is_refused(copy: Path, address: str) -> None:
    says_address(copy, address)
    with pytest.raises(ValueError, match=r"is to be https://github\.com/OWNER/NAME"):
        badges.main(copy)
