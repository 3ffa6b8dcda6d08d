"""Notebooks, photos and sweeps that come along: in a copy of the repository, and in a wheel."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from nbhelpers import edge
from nbhelpers.edge import companions
from nbhelpers.notebooks import cli

ROOT = Path(__file__).parents[2]


def test_in_a_copy_of_the_repository_they_lie_beside_the_package() -> None:
    assert [edge.companion(name) for name in edge.COMPANIONS] == [ROOT / name for name in edge.COMPANIONS]


def test_in_a_wheel_they_lie_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companions, "PACKAGE", tmp_path / "nbhelpers")
    (tmp_path / "notebooks").mkdir()  # somebody's, not ours
    with pytest.raises(FileNotFoundError, match="the folder notebooks does not come with this installation"):
        edge.companion("notebooks")
    inside = tmp_path / "nbhelpers" / "companions" / "notebooks"
    inside.mkdir(parents=True)
    assert edge.companion("notebooks") == inside


def test_they_are_copied_to_work_on_and_never_over_work(tmp_path: Path) -> None:
    ran = CliRunner().invoke(cli.notebooks, [str(tmp_path / "course")])
    assert ran.exit_code == 0, ran.output
    assert "00_tour.ipynb" in ran.output
    for name in edge.COMPANIONS:
        wanted = {path.name for path in (ROOT / name).glob("*.*") if path.suffix != ".pyc"}
        assert wanted <= {path.name for path in (tmp_path / "course" / name).iterdir()}
    mine = tmp_path / "course" / "notebooks" / "00_tour.ipynb"
    mine.write_text("my work")
    ran = CliRunner().invoke(cli.notebooks, [str(tmp_path / "course")])
    assert ran.exit_code == 2
    assert "is there already, perhaps with your work in it" in ran.output
    assert mine.read_text() == "my work"


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    ran = CliRunner().invoke(cli.notebooks, [str(tmp_path / "course")])
    assert ran.exit_code == 1
    assert "No space left" in ran.output
