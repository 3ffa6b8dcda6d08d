"""What teachers rely on: every notebook says what it is for, has slides, and no link leads nowhere."""

import json
import math
import re
from pathlib import Path

import nbformat
import pytest
from nbconvert import SlidesExporter
from traitlets.config import Config

from nbhelpers import exercises
from tools import parameter_tables

ROOT = Path(__file__).parents[2]
NOTEBOOKS = [next((ROOT / "notebooks").glob(f"{number}_*.ipynb")) for number in exercises.NOTEBOOKS]
PAGES = [ROOT / "docs" / "teaching.md", ROOT / "docs" / "glossary.md", ROOT / "notebooks" / "README.md"]


def markdown(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_with_what_for_what_before_and_how_long(path: Path) -> None:
    title, *opening = markdown(path)[0].split("\n\n")
    assert title.startswith("# ")
    assert [re.match(r"\*\*(.+?)\*\*", each)[1] for each in opening] == [
        "You will be able to",
        "You should know",
        "It takes",
    ]
    words = sum(len(source.split()) for source in markdown(path))
    minutes = int(re.search(r"It takes\*\* (\d+) minutes to read", opening[2])[1])
    assert abs(minutes - math.ceil(words / 200)) <= 1


def test_what_builds_on_what_begins_with_the_tour_and_never_goes_round() -> None:
    known = {path.stem[:2]: parameter_tables.builds_on(nbformat.read(path, as_version=4)) for path in NOTEBOOKS}
    assert known.pop("00") == []
    reached = {"00"}
    while ready := {number for number, earlier in known.items() if set(earlier) <= reached} - reached:
        reached |= ready
    assert all(known.values())
    assert reached == {*known, "00"}


@pytest.mark.parametrize("path", [*NOTEBOOKS, *PAGES], ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    text = "\n\n".join(markdown(path)) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", PAGES[1].read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        assert not file or (path.parent / file).exists(), target
        assert not file.endswith("glossary.md") or not anchor or anchor in anchors, target


def test_every_notebook_is_in_the_notes_for_teachers() -> None:
    page = PAGES[0].read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        notes = page.partition(f"(../notebooks/{path.name})")[2].partition("\n### ")[0]
        assert [each in notes for each in ("*They get wrong*", "*Ask*", "*Show*", "*Answers*")] == [True] * 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_slide_holds_one_picture_and_little_text(path: Path) -> None:
    slides: list[list[nbformat.NotebookNode]] = []
    for cell in nbformat.read(path, as_version=4).cells:
        kind = cell.metadata.slideshow.slide_type
        assert kind in ("slide", "subslide", "-", "skip", "notes"), cell.id
        if kind in ("slide", "subslide"):
            slides.append([])
        if kind in ("slide", "subslide", "-"):
            slides[-1].append(cell)
    assert 8 <= len(slides) <= 45
    for slide in slides:
        pictures = [
            output
            for cell in slide
            for output in cell.get("outputs", [])
            if "slide-code" not in cell.metadata.get("tags", [])
            and any(kind.startswith("image/") for kind in output.get("data", {}))
        ]
        assert len(pictures) <= 2, slide[0].id
        assert sum(map(lines_shown, slide)) <= (8 if pictures else 24), slide[0].id
        assert sum(len(cell.source.split()) for cell in slide if cell.cell_type == "markdown") <= 190, slide[0].id


def lines_shown(cell: nbformat.NotebookNode) -> int:
    """Lines of code, and of what it printed, that a slide shows of a cell."""
    tags, outputs = cell.metadata.get("tags", []), cell.get("outputs", [])
    code = cell.source if cell.cell_type == "code" and "slide-output" not in tags else ""
    printed = "".join(output.get("text", "") for output in outputs if "slide-code" not in tags)
    return len(code.splitlines()) + len(printed.splitlines())


def test_slides_are_large_and_without_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `docs/teaching.md` says to make them, in the notebooks' folder."""
    monkeypatch.chdir(ROOT / "notebooks")
    settings = Config(json.loads((ROOT / "tools" / "slides.json").read_text(encoding="utf-8")))
    slides, _ = SlidesExporter(config=settings).from_filename(str(NOTEBOOKS[2]))
    assert slides.count("<section>") >= 8
    assert "max-height: 490px" in slides
    assert slides.index("max-height: 490px") < slides.index("<body")
