"""The rooms of the package: everything lies in one, arrows go down only, and a room is entered by its face."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import nbformat
import pytest

from nbhelpers import techniques

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "nbhelpers"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
FLOORS = next(contract["layers"] for contract in CONTRACTS if contract["type"] == "layers")
ROOMS = {room.strip() for floor in FLOORS for room in floor.split("|")}
BESIDE = {
    "__init__": "the package's docstring and version",
    "__main__": "the command line",
    "recipes": "a technique's parameters: every room from ascent up declares or reads them",
}
"""Files that lie in no folder, and why."""

FACES = sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)


def handed_on(folder: Path) -> set[str]:
    """The names in a face's `__all__`; a command line is entered by its commands."""
    face = import_module(".".join(folder.relative_to(ROOT).parts))
    return {*getattr(face, "__all__", []), "cli"}


def imports(tree: ast.Module) -> Iterator[str]:
    """Every name of this package that some code imports, dotted, modules and what is taken from them alike."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("nbhelpers"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("nbhelpers."))


def reached_past_a_face(tree: ast.Module, home: Path) -> list[str]:
    """The imports of some code in the folder `home` that a room on the way does not hand on."""
    found = []
    for name in imports(tree):
        folder = PACKAGE
        for part in name.split(".")[1:]:
            if folder != PACKAGE and folder != home and folder not in home.parents and part not in handed_on(folder):
                found.append(name)
            folder = folder / part
            if not (folder / "__init__.py").exists():
                break
    return found


def test_every_module_lies_in_a_room() -> None:
    here = {path.stem if path.suffix else path.name for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}
    here -= {"__pycache__"}
    assert here - set(BESIDE) == ROOMS - set(BESIDE), "a new room has its place among the floors in pyproject.toml"
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(BESIDE), "a new file belongs into a room"


@pytest.mark.parametrize("folder", FACES, ids=lambda folder: folder.name)
def test_a_face_says_what_its_room_is_for_and_hands_on_what_is_there(folder: Path) -> None:
    name = ".".join(folder.relative_to(ROOT).parts)
    face = import_module(name)
    assert face.__doc__
    assert handed_on(folder) - {"cli"} <= set(dir(face))
    assert all(hasattr(face, each) for each in handed_on(folder) - {"cli"})


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_is_entered_by_its_face(path: Path) -> None:
    assert reached_past_a_face(ast.parse(path.read_text()), path.parent) == []


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_uses_what_the_faces_hand_on(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            source = "\n".join(line for line in cell.source.splitlines() if not line.startswith(("%", "!")))
            assert reached_past_a_face(ast.parse(source), path.parent) == []


def test_what_is_private_is_found_out() -> None:
    private = "from nbhelpers.models.sources import at_hand\nfrom nbhelpers.images import decoding"
    assert reached_past_a_face(ast.parse(private), PACKAGE / "ascent") == [
        "nbhelpers.models.sources.at_hand",
        "nbhelpers.images.decoding",
    ]
    assert reached_past_a_face(ast.parse(private), PACKAGE / "models") == ["nbhelpers.images.decoding"]
    public = "from nbhelpers.models import stages, load\nfrom nbhelpers.attribution.cams import METHODS"
    assert reached_past_a_face(ast.parse(public), PACKAGE / "techniques") == []


def test_every_technique_is_announced() -> None:
    announced = {each.name: each.value for each in entry_points(group="nbhelpers.recipes")}
    found_in_data = {name: f"nbhelpers.directions.{name}" for name in ("activation_atlas", "concepts")}
    found_in_data["channel_study"] = "nbhelpers.microscope.channel_study"
    assert announced == {name: f"nbhelpers.techniques.{name}" for name in techniques.__all__} | found_in_data
    assert set(techniques.__all__) == {path.stem for path in (PACKAGE / "techniques").iterdir() if path.stem[0] != "_"}


def test_the_tests_mirror_the_rooms() -> None:
    folders = {path.parent.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders <= ROOMS | {"tools", "gpu"}
    assert {"models", "images", "ascent", "attribution", "volumes", "techniques", "controls", "notebooks"} <= folders


def test_the_page_of_the_architecture_names_every_module_and_notebook() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = re.search(r"## The floors\n\n((?:    .*\n)+)", page)[1].splitlines()
    assert [re.sub(r"\.py\b", "", re.split(r"\s{3,}", line.strip())[0]) for line in drawn] == [
        re.sub(r" \| ", "  |  ", floor) for floor in FLOORS
    ]
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]:
        name = path.parent.name if path.stem in ("__init__", "technique") else path.stem
        assert re.search(rf"\b{name}\b", page), f"{path.relative_to(ROOT)} is not on the page"
    for link in re.findall(r"\]\(([^#)]+)\)", page):
        assert (ROOT / "docs" / link).exists(), link


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("models/loading.py", "from nbhelpers.techniques import saliency", "arrows go down only"),
        ("techniques/saliency.py", "from nbhelpers.techniques import grad_cam", "no technique imports another"),
        ("images/photos.py", "import ipywidgets", "widgets only in controls"),
        ("models/network.py", "from nbhelpers.models import layer_table", "no circle inside a room"),
        ("misplaced.py", "", "arrows go down only"),
    ],
)
def test_the_contracts_notice(module: str, line: str, broken: str, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "nbhelpers", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "nbhelpers" / module).open("a") as file:
        file.write(f"\n{line}\n")
    command = [shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or "lint-imports", "--no-cache"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)})
    assert ran.returncode == 1
    assert f"{broken} BROKEN" in ran.stdout
