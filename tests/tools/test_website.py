"""The site's sources, and a small site built from them and read in a browser."""

import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import browser
import nbformat
import pytest
from nbformat.v4 import new_code_cell

from nbhelpers import notebooks
from tools import links, parameter_tables, website

TWO = ("00_tour", "12_explorer")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the site's sources go, in a folder of the test's own."""
    monkeypatch.setattr(website, "SOURCES", tmp_path / "sources")
    monkeypatch.setattr(website, "SITE", tmp_path / "site")
    return tmp_path / "sources"


def test_links_to_code_lead_to_pages_of_code() -> None:
    code: set[Path] = set()
    text = "[a](../nbhelpers/edge/words.py) [b](scaling.md#x) [c](../README.md) [d](https://example.com) [e](../sweeps)"
    assert website.linked(text, Path("docs/x.md"), code) == (
        "[a](../code/nbhelpers/edge/words.py.md) [b](scaling.md#x) [c](../index.md) [d](https://example.com) "
        "[e](../code/sweeps.md)"
    )
    assert code == {Path("nbhelpers/edge/words.py"), Path("sweeps")}


def test_a_page_of_a_folder_leads_to_its_files(sources: Path) -> None:
    code: set[Path] = set()
    website.write_code(Path("sweeps"), code)
    assert "[layer.yaml](sweeps/layer.yaml.md)" in (sources / "code" / "sweeps.md").read_text()
    assert Path("sweeps/layer.yaml") in code
    website.write_code(Path("nbhelpers/edge/words.py"), code)
    page = (sources / "code" / "nbhelpers" / "edge" / "words.py.md").read_text()
    assert (website.ROOT / "nbhelpers" / "edge" / "words.py").read_text() in page


def test_a_notebook_gets_its_note_its_words_and_folded_solutions(
    sources: Path, monkeypatch: pytest.MonkeyPatch, chromium: Any
) -> None:
    original = notebooks.read(website.ROOT / "notebooks" / "12_explorer.ipynb")
    original.cells.append(new_code_cell("answer = 3", metadata={"tags": ["solution"]}))
    monkeypatch.setattr(notebooks, "read", lambda path: original)
    card = website.lay_out_notebook(website.ROOT / "notebooks" / "12_explorer.ipynb", set())
    page = nbformat.read(sources / "notebooks" / "12_explorer.ipynb", 4)
    assert "come alive where it runs" in page.cells[1].source
    assert page.cells[-1].metadata.tags == ["solution", "hide-cell"]
    with_pictures = [c for c in page.cells if any("image/jpeg" in o.get("data", {}) for o in c.get("outputs", []))]
    assert with_pictures
    assert all(cell.metadata.mystnb.image.alt for cell in with_pictures)
    assert (card["number"], card["title"]) == ("12", notebooks.title(original))
    assert card["aim"].startswith("Click on a photo and read what a layer says there, tell ")
    assert (sources / card["picture"]).stat().st_size > 1000


def test_the_diagram_of_the_course_is_drawn_without_a_script() -> None:
    text = website.drawn((website.ROOT / "notebooks" / "README.md").read_text())
    assert "mermaid" not in text
    assert text.count("<a href=") == len(parameter_tables.course())


@pytest.mark.parametrize("room", ["edge", "models", "techniques"])
def test_the_reference_names_every_public_thing(room: str) -> None:
    page = website.reference(room)
    for name in import_module(f"nbhelpers.{room}").__all__:
        assert f"nbhelpers.{room}.{name}" in page or f"## {room}.{name}" in page


def test_a_reader_finds_a_notebook_unfolds_a_solution_searches_and_goes_on(
    sources: Path, monkeypatch: pytest.MonkeyPatch, chromium: Any
) -> None:
    """The whole way, on a site of two notebooks and nothing else."""
    kept = [website.ROOT / "notebooks" / f"{name}.ipynb" for name in TWO]
    read = notebooks.read
    original = {path: read(path) for path in kept}
    original[kept[0]].cells.append(new_code_cell("answer = 3", metadata={"tags": ["solution"]}))
    monkeypatch.setattr(notebooks, "read", lambda path: original.get(Path(path)) or read(path))
    monkeypatch.setattr(website, "ROOMS", ("recipes",))
    monkeypatch.setattr(website, "documents", lambda: [Path("docs/troubleshooting.md"), Path("docs/glossary.md")])
    monkeypatch.setattr(website, "DATA", sources / "none")
    website.lay_out(kept)
    assert subprocess.run([*website.command(strict=False)], capture_output=True, text=True).returncode == 0
    reference = (website.SITE / "reference" / "recipes.html").read_text(encoding="utf-8")
    assert "<blockquote>" not in reference  # what stands indented in a docstring is an example, code
    wrong = [said for said in links.of_site(website.SITE) if said.startswith("notebooks/00_tour")]
    assert [said for said in wrong if ".ipynb: no such place" not in said] == []  # the other notebooks are not there
    summaries = "Access to fetch at 'file:|net::ERR_FAILED|Failed to fetch"  # fetched where there is a server
    front = (website.SITE / "index.html").as_uri()
    with browser.page(chromium, front, color_scheme="dark", harmless=summaries) as page:
        page.locator(".sd-card", has_text="A tour").click()
        page.wait_for_url("**/notebooks/00_tour.html")
        folded = page.locator("details.hide").last
        assert not folded.locator("pre").first.is_visible()
        folded.locator("summary").click()
        assert "answer = 3" in folded.inner_text()
        page.get_by_role("textbox").first.fill("semantic dictionary")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html**")
        page.locator("#search-results li a").first.wait_for()
        page.go_back()
        page.locator(".next-page").click()
        page.wait_for_url("**/notebooks/12_explorer.html")
        for width in (400, 1280):
            page.set_viewport_size({"width": width, "height": 720})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
