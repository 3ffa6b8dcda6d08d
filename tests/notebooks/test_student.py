"""Copies for students: valid, complete, without solutions; they run, and their checks judge."""

from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from nbclient import NotebookClient

from nbhelpers import notebooks
from nbhelpers.__main__ import main
from nbhelpers.notebooks import student
from nbhelpers.notebooks.execution import ThisPython

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return student.write_copies(tmp_path_factory.mktemp("course"), ROOT / "notebooks")


def test_every_notebook_is_copied_with_what_it_reads(copies: list[Path]) -> None:
    originals = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert [copy.name for copy in copies] == [path.name for path in originals]
    beside = copies[0].parents[1]
    assert {path.name for path in (beside / "sample_images").iterdir()} >= {"cat.jpg", "boxes.json"}
    for copy, path in zip(copies, originals, strict=True):
        theirs, ours = (nbformat.read(each, as_version=4) for each in (copy, path))
        nbformat.validate(theirs)
        assert not notebooks.tagged(theirs, "solution")
        assert [cell.id for cell in theirs.cells] == [
            cell.id for cell in ours.cells if "solution" not in cell.metadata.get("tags", [])
        ]
        for cell in notebooks.tagged(theirs, "exercise"):
            assert cell.source.startswith("answer = ...  # your answer\nexercises.check(")
            assert cell.outputs == []
        kept = [cell for cell in theirs.cells if not cell.id.startswith("exercise-")]
        assert kept == [cell for cell in ours.cells if not cell.id.startswith("exercise-")]


def test_the_original_is_left_alone_and_a_filled_answer_is_emptied() -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell('answer = 3\nmore = 1\nexercises.check("02.1", answer)')]
    notebook.cells[0].metadata = {"tags": ["exercise"]}
    notebook.cells += [nbformat.v4.new_code_cell("answer = 3", metadata={"tags": ["solution"]})]
    copy = student.without_solutions(notebook)
    assert [cell.source for cell in copy.cells] == ['answer = ...  # your answer\nexercises.check("02.1", answer)']
    assert len(notebook.cells) == 2
    assert notebook.cells[0].source.startswith("answer = 3")


def test_the_command_says_where_they_are_and_never_writes_over_answers(tmp_path: Path) -> None:
    arguments = ["student", str(tmp_path), "--from", str(ROOT / "notebooks")]
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 0, ran.output
    assert f"notebooks for students are in {tmp_path / 'notebooks'}" in ran.output
    answered = tmp_path / "notebooks" / "00_tour.ipynb"
    answered.write_text(answered.read_text().replace("your answer", "mine"))
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 2
    assert "perhaps with answers" in again.output
    assert "mine" in answered.read_text()


@pytest.mark.parametrize(("given", "said"), [("nowhere", "nowhere"), ("empty", "no notebooks")])
def test_a_folder_without_notebooks_is_said(tmp_path: Path, given: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    ran = CliRunner().invoke(main, ["student", str(tmp_path / "course"), "--from", str(tmp_path / given)])
    assert ran.exit_code == 2
    assert said in ran.output


def test_a_copy_runs_with_no_answer_a_wrong_one_and_a_right_one(
    copies: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NBHELPERS_RESULTS", str(tmp_path))
    (path,) = (copy for copy in copies if copy.stem == "02_testing_interpretations")
    notebook = notebooks.read(path)
    cells = notebooks.tagged(notebook, "exercise")
    _, wrong, right = cells
    wrong.source = wrong.source.replace("...  # your answer", "5")
    right.source = right.source.replace("...  # your answer", '"galaxies.jpg"')
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=120, kernel_manager_class=ThisPython, resources=resources).execute()
    said = [cell.outputs[-1].data["text/plain"] for cell in cells]
    assert "02.1: Not answered yet" in said[0]
    assert "02.2: Not yet. " in said[1]
    assert "Hint: " in said[1]
    assert "02.3: Right. " in said[2]
