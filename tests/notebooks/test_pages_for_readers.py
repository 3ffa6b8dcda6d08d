"""Pages for readers without Jupyter: titles, words for pictures, formulas; nothing that asks a network."""

import base64
import io
import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from nbhelpers import notebooks, pages
from nbhelpers.notebooks import reading, results_page

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
PLAYED = "ActivationMaximization(layer='block4', channels=[18, 20], places=[[0.4, 0.2]], start='', blur=3)"


def picture(text: str = "<Image>", kind: str = "execute_result") -> NotebookNode:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    data = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": text}
    return new_output(kind, data, **({"execution_count": 1} if kind == "execute_result" else {}))


def notebook() -> NotebookNode:
    return new_notebook(
        cells=[
            new_markdown_cell("# A *technique*: what it is\n\nThe idea, as $x^2 < y$. More."),
            new_code_cell("show()", outputs=[picture()]),
            new_markdown_cell(
                "## Play\n\nDrag [it](x.md), `blur` too. And more.\n\n| a | b |\n|---|---|\n\n$$\\arg\\max_I S$$"
            ),
            new_code_cell("controls.play(recipe)", outputs=[picture(PLAYED, "display_data")]),
            new_code_cell("import os", outputs=[]),
        ]
    )


def test_every_picture_has_words() -> None:
    assert reading.picture_texts(notebook()) == {
        1: "A technique: what it is. The idea, as x^2 < y.",
        3: "ActivationMaximization with layer block4, channels [18, 20], places [[0.4, 0.2]], blur 3",
    }


@pytest.mark.parametrize("text", ["Shown(1)", "Recipe(x=open('a'))", "Recipe(x=", "<Image>"])
def test_what_is_no_control_has_no_settings(text: str) -> None:
    cell = new_code_cell("controls.play(recipe)", outputs=[picture(text, "display_data")])
    assert reading.settings(cell) == ""


def test_a_page_says_its_title_and_shows_its_pictures_in_words(tmp_path: Path) -> None:
    reading.write_page(notebook(), tmp_path / "page.html")
    page = BeautifulSoup((tmp_path / "page.html").read_text(), "html.parser")
    assert page.title.get_text() == "A technique: what it is"
    assert [image["alt"] for image in page.find_all("img")] == list(reading.picture_texts(notebook()).values())
    note = page.find(class_="nbhelpers-note").get_text()
    assert "channels [18, 20]" in note
    assert "JupyterLab" in note
    assert [each["display"] for each in page.find_all("math")] == ["inline", "block"]
    assert page.find_all("script") == []
    assert "prefers-color-scheme: dark" in str(page.find_all("style")[-1])


@pytest.mark.parametrize("path", NOTEBOOKS[::5], ids=lambda path: path.stem)
def test_a_committed_notebook_is_a_page_without_a_network(path: Path, tmp_path: Path) -> None:
    reading.write_page(notebooks.read(path), tmp_path / "page.html")
    page = BeautifulSoup((tmp_path / "page.html").read_text(), "html.parser")
    assert page.find_all(["script", "link"], src=True) + page.find_all("link", href=re.compile("^http")) == []
    assert all(len(image["alt"]) > 20 for image in page.find_all("img"))
    assert len(page.find_all("img")) >= len(reading.picture_texts(notebooks.read(path)))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_formula_of_the_notebooks_can_be_drawn(path: Path) -> None:
    prose = "\n\n".join(cell.source for cell in notebooks.read(path).cells if cell.cell_type == "markdown")
    prose = re.sub(r"`[^`]*`", "", prose)
    for tex in re.findall(r"\$\$?([^$]+)\$\$?", prose):
        assert pages.formula(tex).startswith("<math")


def test_a_command_that_cannot_be_drawn_is_named() -> None:
    assert "<mi>arg</mi>" in pages.formula(r"\arg x") or ">arg<" in pages.formula(r"\arg x")
    with pytest.raises(ValueError, match=r"has \\nonsense, which cannot be drawn"):
        pages.formula(r"\nonsense x")


@pytest.mark.parametrize(
    ("name", "document", "words"),
    [
        (
            "activation_maximization-01234567-block4.conv1-5-0",
            {"recipe": "ActivationMaximization", "parameters": {"layer": "block4.conv1", "channels": [5]}, "index": 0},
            "block4.conv1, channel 5",
        ),
        (
            "class_pictures-01234567-tree_frog-1",
            {"recipe": "ClassPictures", "parameters": {"classes": ["a", "tree frog"]}, "index": 1},
            "class tree frog",
        ),
        (
            "grad_c_a_m-01234567-methods",
            {"recipe": "GradCAM", "parameters": {"layer": "block4"}},
            "Grad CAM, block4, methods",
        ),
        ("saliency-01234567", {"recipe": "Saliency", "parameters": {"layer": ""}}, "Saliency"),
        ("my_own-figure", {}, "my own figure"),
        ("x", {"recipe": "ClassPictures", "parameters": {"classes": ["a"]}, "index": 7}, "Class pictures, x"),
        ("x", {"recipe": 3, "parameters": []}, "x"),
    ],
)
def test_a_picture_is_called_by_what_it_shows(name: str, document: dict, words: str) -> None:
    assert results_page.words(name, document) == words


def test_the_results_page_begins_with_a_table_of_contents(tmp_path: Path) -> None:
    for name, title in (("a", "First"), ("b", "Second")):
        executed = new_notebook(cells=[new_markdown_cell(f"# {title}")])
        run = {"seconds": 1.0, "errors": [], "pictures": [], "parameters": []}
        run["parameters"] = [{"name": "steps", "value": 3, "comment": "how many", "given": False}]
        executed.metadata["nbhelpers"] = run
        nbformat.write(executed, tmp_path / f"{name}.ipynb")
    page = BeautifulSoup(results_page.write(tmp_path).read_text(), "html.parser")
    links = page.select("nav a")
    assert [link.get_text(strip=True) for link in links] == ["First", "Second"]
    assert [page.find(id=link["href"][1:]).h2.get_text() for link in links] == ["First", "Second"]
    assert [details.get("open") for details in page.find_all("details")] == [None, None]
