"""A notebook for readers without Jupyter: words for every picture, and a web page that needs no network."""

import ast
import re
from pathlib import Path

from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from nbhelpers import edge, pages
from nbhelpers.notebooks import documents

ALIVE = "The sliders come alive where the notebook runs: in JupyterLab (`make lab`) or in VS Code."
"""What stands under the picture of a control on a page where nothing runs."""

_HEADING = re.compile(r"^#+\s+(.+?)\s*#*$", re.MULTILINE)
_PLAYED = re.compile(r"[A-Z]\w+\(\w+=")


def picture_texts(notebook: NotebookNode) -> dict[int, str]:
    """What every picture shows, for those who cannot see it: one text for each cell with a picture, by its number.

    It is the heading above and the sentence before the picture; a control's picture names its settings.
    """
    found, heading, sentence = {}, documents.title(notebook), ""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            headings = _HEADING.findall(cell.source)
            heading = _plain(headings[-1]) if headings else heading
            if last := _plain(_HEADING.sub("", cell.source)):
                sentence = re.split(r"(?<=[.:!?])\s", last)[0]
        elif any(kind.startswith("image/") for o in cell.get("outputs", []) for kind in o.get("data", {})):
            found[number] = settings(cell) or f"{heading.rstrip('.?!')}. {sentence}"[:250]
    return found


def settings(cell: NotebookNode) -> str:
    """What a control stood at when its picture was kept, in words; empty where the cell has no control."""
    for output in cell.get("outputs", []):
        text = output.get("data", {}).get("text/plain", "")
        if output.get("output_type") == "display_data" and "controls." in cell.source and _PLAYED.match(text):
            try:
                call = ast.parse(text, mode="eval").body
                values = {each.arg: ast.literal_eval(each.value) for each in call.keywords}
            except (SyntaxError, ValueError):
                continue  # some other thing that was displayed
            told = ", ".join(f"{name} {value}" for name, value in values.items() if value not in ("", [], None))
            return f"{call.func.id} with {told}"
    return ""


def write_page(notebook: NotebookNode, path: Path) -> None:
    """Writes an executed notebook as a web page: its title, words for its pictures, formulas, a dark face.

    A page with widgets that have no picture beside them still asks the network for the widgets' scripts.
    """
    notebook = documents.show_statically(NotebookNode(notebook))
    exporter = HTMLExporter(mathjax_url="", require_js_url="", mermaid_js_url="")
    exporter.register_filter("markdown2html", _markdown)
    title = documents.title(notebook) or path.stem
    soup = BeautifulSoup(exporter.from_notebook_node(notebook, {"metadata": {"name": title}})[0], "html.parser")
    for script in soup.find_all("script"):
        if "widgets" not in notebook.metadata or "mathjax" in str(script).lower():
            script.decompose()
    texts, cells = picture_texts(notebook), soup.select(".jp-Cell")
    for number, text in texts.items():
        for image in cells[number].select("img"):
            image["alt"] = text
        if settings(notebook.cells[number]):
            note = soup.new_tag("p", attrs={"class": "nbhelpers-note"})
            note.string = f"{text}. {ALIVE.replace('`', '')}"
            cells[number].select_one(".jp-OutputArea").append(note)
    style = soup.new_tag("style")
    style.string = _style(exporter)
    soup.head.append(style)
    viewport = soup.find("meta", attrs={"name": "viewport"})
    if viewport is None:
        soup.head.append(soup.new_tag("meta", attrs={"name": "viewport", "content": "width=device-width"}))
    edge.write_text(str(soup), path)


def _style(exporter: HTMLExporter) -> str:
    """JupyterLab's dark colours for readers who ask for dark pages, and what small screens need."""
    dark = next((p for p in map(Path, exporter.template_paths) if (p / "static" / "theme-dark.css").exists()), None)
    colours = (dark / "static" / "theme-dark.css").read_text(encoding="utf-8") if dark else ""
    return f"@media (prefers-color-scheme: dark) {{ {colours} }}\n" + pages.text("notebook.css")


class _Renderer(IPythonRenderer):
    """nbconvert's own, with formulas drawn at once."""

    def inline_math(self, body: str) -> str:
        return pages.formula(body)

    def block_math(self, body: str) -> str:
        return f"<p>{pages.formula(body, block=True)}</p>"


def _markdown(source: str) -> str:
    return MarkdownWithMath(renderer=_Renderer(escape=False)).render(source)


def _plain(markdown: str) -> str:
    """Text without its marks: links, emphasis, code; tables and lists are left out."""
    lines = [line for line in markdown.splitlines() if not re.match(r"\s*(\||[-*] |\d+\. |!\[|<)", line)]
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(lines))
    return re.sub(r"\s+", " ", re.sub(r"[*`$]|(?<!\w)_|_(?!\w)", "", text)).strip()
