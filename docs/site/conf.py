"""Sphinx's settings for the site. `python -m tools.website` puts its sources together and builds it (`make site`)."""

import inspect
import os
import re
from html import escape
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup
from docutils import nodes
from sphinx.application import Sphinx

from nbhelpers import pages, recipes

project = "Inside convolutional networks"
author = "the nbhelpers authors"
copyright = "2026, " + author
version = release = version_of("nbhelpers")
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_design"]
myst_enable_extensions = ["dollarmath", "colon_fence", "attrs_inline", "attrs_block"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # the committed outputs are shown
nb_mime_priority_overrides = [("html", "image/gif", 0), ("html", "image/jpeg", 5), ("html", "image/png", 5)]
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type", "misc.highlighting_failure", "ref.python"]

autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_custom_sections = ["Source"]
default_role = "literal"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_extra_path = ["_extra"]
exclude_patterns = ["_extra", ".doctrees"]
html_css_files = ["site.css"]
html_js_files = ["tags.js", "scrolling.js"]
html_math_renderer = "mathml"
html_copy_source = html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True, "sidebar_hide_name": False}

# Where the site will be, if that is known: previews of pages in messages and feeds want a whole address.
address = os.environ.get("SITE_ADDRESS", "").rstrip("/")
html_baseurl = address + "/" if address else ""


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", inline_renderers=(_formula, None), block_renderers=(_formula, None))
    app.connect("html-page-context", describe)
    app.connect("autodoc-process-docstring", examples_as_code, priority=400)  # before napoleon reads it
    app.connect("autodoc-process-docstring", one_error_a_line, priority=400)
    app.connect("autodoc-process-docstring", of_its_own, priority=300)
    app.connect("autodoc-process-docstring", with_parameters)
    app.connect("autodoc-process-signature", without_fields)
    app.connect("autodoc-skip-member", without_machinery)
    app.connect("build-finished", without_barriers)


def _formula(writer: Any, node: nodes.Element) -> None:
    writer.body.append(pages.formula(node.astext(), block=isinstance(node, nodes.math_block)))
    raise nodes.SkipNode


def describe(app: Sphinx, name: str, template: str, context: dict[str, Any], tree: nodes.document | None) -> None:
    """A description and a preview picture for every page: its first paragraph and its first picture."""
    first = next(iter(tree.findall(nodes.paragraph)), None) if tree else None
    title = re.sub(r"<[^>]+>", "", str(context.get("title") or project))
    text = re.sub(r"\s+", " ", first.astext()).strip() if first else f"{title}: {project}"
    if len(text) > 200:
        text = text[:200].rpartition(" ")[0] + " …"
    images = [str(image["uri"]) for image in tree.findall(nodes.image)] if tree else []
    local = next((app.builder.images[uri] for uri in images if uri in app.builder.images), None)
    picture = f"_images/{local}" if local else "_static/preview.webp"
    where = f"{address}/{picture}" if address else context["pathto"](picture, resource=True)
    said = {
        'name="description"': text,
        'property="og:title"': title,
        'property="og:description"': text,
        'property="og:type"': "article",
        'property="og:site_name"': project,
        'property="og:image"': where,
        'name="twitter:card"': "summary_large_image",
    }
    lines = [f'<meta {key} content="{escape(value)}">' for key, value in said.items()]
    # Sphinx's own description comes from myst's front matter, which none of these pages has
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def _recipe(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, recipes.Recipe) and thing is not recipes.Recipe


def with_parameters(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Under a recipe's docstring the table of its parameters, from their declarations."""
    if not _recipe(thing):
        return
    rows = [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in recipes.parameters_table(thing).splitlines()
        if "---" not in line
    ]
    lines += ["", ".. list-table::", "   :header-rows: 1", "   :class: parameters", ""]
    for row in rows:
        for index, cell in enumerate(row):
            lines.append(f"   {'* -' if index == 0 else '  -'} {cell}")
    lines.append("")


def of_its_own(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """A constant without a docstring has none, and not that of `str` or `tuple`."""
    if inspect.cleandoc("\n".join(lines)) == inspect.getdoc(type(thing)):
        lines.clear()


def examples_as_code(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """What stands indented after a blank line is code, as in Markdown; for Sphinx alone it would be a quotation."""
    found, paragraph, code = [], "", False  # the last line that is not blank
    for line in lines:
        code = code and (line.startswith(" ") or not line)
        if line.startswith("    ") and found[-1:] == [""] and not code and not paragraph.startswith((" ", "-", "*")):
            found += ["::", ""]
            code = True
        found.append(line)
        paragraph = line or paragraph
    lines[:] = found


def one_error_a_line(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Several errors in one paragraph under "Raises:" become one line each, as napoleon wants them."""
    if "Raises:" not in (bare := [line.strip() for line in lines]):
        return
    first = bare.index("Raises:") + 1
    last = next((i for i in range(first, len(lines)) if not bare[i]), len(lines))
    errors = re.split(r"(?<=[.;]) (?=[A-Z]\w+(?:, [A-Z]\w+)*: )", " ".join(bare[first:last]))
    lines[first:last] = [f"    {error}" for error in errors]


def without_fields(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    return ("(**parameters)", "") if _recipe(thing) else None


def without_machinery(app: Sphinx, what: str, name: str, thing: object, skip: bool, options: object) -> bool | None:
    return True if name.startswith("model_") and what == "class" else None


def without_barriers(app: Sphinx, failed: Exception | None) -> None:
    """Mends what `tools/audit.py` finds in what Sphinx and furo write: headings without a level, regions without a
    name, parameters as a list of definitions without terms, headers without words, a search without a title."""
    for path in Path(app.outdir).rglob("*.html"):
        page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        if failed or not page.find(class_="sidebar-brand"):
            continue  # pages of their own: the atlas, the microscope, the filterable gallery
        for caption in page.select("p.caption[role=heading]"):
            caption["aria-level"] = "2"
        for region, name in (("sidebar-drawer", "All pages"), ("toc-drawer", "On this page")):
            for aside in page.select(f"aside.{region}"):
                aside["aria-label"] = name
        for parameters in page.select("dt.sig > dl"):
            for each in [parameters, *parameters.find_all("dd")]:
                each.name = "div"
            parameters["class"] = "sig-params"
        for header in page.select("th"):
            if not header.get_text(strip=True):
                header.name = "td"
        if path.name == "search.html" and not page.find("h1"):
            title = page.new_tag("h1")
            title.string = "Search"
            page.find(id="furo-main-content").insert(0, title)
        path.write_text(str(page), encoding="utf-8")
