"""The site: notebooks with their kept pictures, a gallery, the reference, the docs; static, and without a network.

    python -m tools.website           # build/site/index.html (`make site`)
    python -m tools.website --check   # only look at the links of what is built
    python -m tools.website --covers  # docs/covers/*.webp: the notebooks' pictures in the README

Sphinx with MyST-NB builds it from `build/site-sources/`, where this tool lays out copies in the repository's own
order, so that every link between documents stays as it is. A link to a file of code leads to a page with that code.
"""

import base64
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import nbformat
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from nbformat.v4 import new_markdown_cell
from PIL import Image, ImageOps

from nbhelpers import gallery, images, notebooks
from nbhelpers.notebooks import reading, results_page
from tools import course_graph, links, parameter_tables

ROOT = Path(__file__).resolve().parent.parent
OWN = ROOT / "docs" / "site"
SOURCES, SITE, DATA = ROOT / "build" / "site-sources", ROOT / "build" / "site", ROOT / "build" / "site-data"
PREVIEW = ROOT / "results" / "gallery" / "minivgg_robust_classes.png"
ROOMS = (
    *("edge", "models", "images", "recipes", "ascent", "attribution", "volumes", "training"),
    *("techniques", "directions", "controls", "exercises", "notebooks", "gallery", "sweeps", "microscope"),
)
# The few sample photos fill a map of this many squares.
ATLAS = ("minivgg_robust", "block3.relu2", "--cells", "8", "--coarser", "4", "--fewest", "3", "--places", "4")
ATLAS += ("--whitening", "none", "--names", "labels", "--no-photos")
# The picture that stands for a notebook, by its number among the outputs, where the choice by shape is a poor one; and
# never a person's photo under the name of a class.
COVERS = {"00": 1, "03": 2, "04": 2, "05": 4, "07": 2, "08": 2, "10": 7, "12": 1, "13": 3, "15": 3}
SHOWN = ("layer", "size", "rounds", "steps", "canvas")
NOTE = (
    "This page shows the notebook as it was last run. Its sliders come alive where it runs: {{download}}`{name}`, in "
    "JupyterLab (`make lab`) or VS Code, on a laptop without a graphics card."
)


def documents() -> list[Path]:
    """The Markdown files that become pages, by their place in the repository."""
    chosen = [*ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.md"), *ROOT.glob("sample_images/*.md")]
    cards = ROOT.glob("nbhelpers/models/weights/*.md")
    return sorted(p.relative_to(ROOT) for p in [*chosen, *cards, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])


def lay_out(chosen: Sequence[Path] | None = None) -> None:
    """Writes everything that Sphinx reads to `build/site-sources/`, anew; of the notebooks all or those chosen."""
    shutil.rmtree(SOURCES, ignore_errors=True)
    static = SOURCES / "_static"
    static.mkdir(parents=True)
    shutil.copy(OWN / "conf.py", SOURCES)
    for name in ("site.css", "tags.js", "scrolling.js"):
        shutil.copy(OWN / name, static)
    hero = Image.open(PREVIEW).convert("RGB")
    hero.crop((0, 0, hero.width, hero.width * 630 // 1200)).resize((1200, 630)).save(static / "preview.webp")
    code: set[Path] = set()
    for path in documents():
        write(path, drawn(linked((ROOT / path).read_text(encoding="utf-8"), path, code)))
        copy_pictures(path)
    cards = [lay_out_notebook(path, code) for path in chosen or sorted(ROOT.glob("notebooks/*.ipynb"))]
    pictures = [lay_out_picture(path) for path in sorted(ROOT.glob("results/gallery/*.png"))]
    extras = lay_out_extras()
    names = {short: tag for picture in pictures for short, tag in picture["tags"].items()}
    shown = dict(notebooks=cards, pictures=pictures, extras=extras, names=names)
    fill = Environment(loader=FileSystemLoader(OWN), undefined=StrictUndefined, trim_blocks=True)
    for template in OWN.glob("*.md"):
        text = fill.get_template(template.name).render(shown)
        write(Path(template.name), linked(text, Path(template.name), code))
    for name in ("atlas.webp", "explorer.webp"):  # on the front page, as in the README
        shutil.copy(ROOT / "docs" / name, SOURCES / "docs")
    for room in ROOMS:
        write(Path("reference") / f"{room}.md", reference(room))
    # shown for any address, however deep: what it leads to must be whole
    home = (os.environ.get("SITE_ADDRESS") or ".").rstrip("/")
    write(Path("_extra") / "404.html", fill.get_template("404.html").render(home=home))
    while code:  # a folder's page may lead to others
        write_code(code.pop(), code)


def linked(text: str, path: Path, code: set[Path]) -> str:
    """A document's text, with links to code leading to pages of it; the files that need such a page go to `code`."""

    def follow(target: str) -> str:
        place, _, anchor = target.partition("#")
        if not place or links.outside(target):
            return target
        found = Path(os.path.normpath(path.parent / place))
        if str(found) == "README.md":
            found = Path("index.md")
        elif is_code(found):
            code.add(found)
            found, anchor = code_page(found), ""  # such a page has one heading
        return os.path.relpath(found, path.parent) + (f"#{anchor}" if anchor else "")

    return links.replaced(text, follow)


def drawn(text: str) -> str:
    """A document's text with the diagram of the course as a drawing, for which a page needs no script."""
    picture = f"```{{raw}} html\n{course_graph.svg(parameter_tables.course())}\n```"
    return re.sub(r"^```mermaid\n.*?^```$", lambda _: picture, text, flags=re.MULTILINE | re.DOTALL)


def is_code(path: Path) -> bool:
    whole = ROOT / path
    pages = whole.suffix in (".md", ".ipynb") and (path in documents() or path.parts[0] == "notebooks")
    return whole.exists() and not pages and whole.suffix not in (".png", ".jpg", ".webp", ".gif")


def code_page(path: Path) -> Path:
    return Path("code") / path.parent / f"{path.name}.md"


def write_code(path: Path, code: set[Path]) -> None:
    """A page with a file of code, or with links to all files of a folder."""
    target = code_page(path)
    if (SOURCES / target).exists():
        return
    if (ROOT / path).is_dir():
        inside = [p.relative_to(ROOT) for p in sorted((ROOT / path).iterdir()) if p.suffix in (".py", ".yaml", ".md")]
        code.update(inside)
        rows = [f"- [{each.name}]({os.path.relpath(code_page(each), target.parent)})" for each in inside]
        write(target, f"---\norphan: true\n---\n# {path}/\n\nThe files of this folder.\n\n" + "\n".join(rows) + "\n")
        return
    language = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}.get(path.suffix, "text")
    try:
        text = (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        text = f"{(ROOT / path).stat().st_size / 1e6:.1f} MB that are no text\n"
    fence = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 3)
    write(target, f"---\norphan: true\n---\n# {path}\n\nThe code of this file.\n\n{fence}{language}\n{text}{fence}\n")


def lay_out_notebook(path: Path, code: set[Path]) -> dict[str, str]:
    """Copies a notebook with what a page of it needs; returns what its card on the front page says."""
    notebook, place = notebooks.read(path), path.relative_to(ROOT)
    texts = reading.picture_texts(notebook)
    several_titles = any(re.search(r"^# ", c.source, re.MULTILINE) for c in notebook.cells[1:] if is_prose(c))
    cells = []
    for number, cell in enumerate(notebook.cells):
        cells.append(cell)
        if is_prose(cell):
            cell.source = linked(cell.source, place, code)
            if several_titles and number:
                cell.source = re.sub(r"^(#+ )", r"#\1", cell.source, flags=re.MULTILINE)
        elif "solution" in cell.metadata.get("tags", []):
            cell.metadata.tags = list(dict.fromkeys([*cell.metadata.tags, "hide-cell"]))
        if number in texts:
            cell.metadata["mystnb"] = {"image": {"alt": texts[number]}}
            if reading.settings(cell):
                cells.append(new_markdown_cell(f"{{.caption-note}}\n{texts[number]}. {reading.ALIVE}"))
    cells.insert(1, new_markdown_cell("```{note}\n" + NOTE.format(name=path.name) + "\n```"))
    notebook.cells = cells
    (SOURCES / place).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, SOURCES / place)
    return {
        "title": notebooks.title(notebook),
        "number": path.stem[:2],
        "link": str(place),
        "picture": thumbnail_of(notebook, path.stem),
        "aim": aim(notebook),
    }


def is_prose(cell: nbformat.NotebookNode) -> bool:
    return cell.cell_type == "markdown"


def aim(notebook: nbformat.NotebookNode) -> str:
    """What a reader will be able to do, from the notebook's opening, without marks."""
    said = re.search(r"^\*\*You will be able to\*\* (.+)$", notebook.cells[0].source, re.MULTILINE)
    plain = re.sub(r"[*`]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", said[1])) if said else ""
    return plain[:1].upper() + plain[1:]


def thumbnail_of(notebook: nbformat.NotebookNode, name: str, folder: Path | None = None, width: int = 640) -> str:
    """Saves the notebook's picture that suits a card best, wide and large; its place in the site."""
    outputs = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    data = [each[kind] for each in outputs for kind in ("image/jpeg", "image/png") if kind in each]
    pictures = [Image.open(io.BytesIO(base64.b64decode(each))).convert("RGB") for each in data]
    best = min(pictures, key=lambda p: abs(p.width / p.height - 1.6) - min(p.width, 800) / 4000)
    chosen = pictures[COVERS[name[:2]]] if COVERS.get(name[:2], len(pictures)) < len(pictures) else best
    return save_thumbnail(ImageOps.fit(chosen, (width, width * 5 // 8), centering=(0.5, 0)), name, folder)


def save_thumbnail(picture: Image.Image, name: str, folder: Path | None = None) -> str:
    target = (folder or SOURCES / "_thumbnails") / f"{name}.webp"
    target.parent.mkdir(parents=True, exist_ok=True)
    picture.save(target, quality=82)
    return f"_thumbnails/{name}.webp"


def lay_out_picture(path: Path) -> dict[str, object]:
    """Copies a picture of the gallery; returns what its card says: its recipe in words, and tags."""
    document = images.read_recipe(path)
    values = document["parameters"]
    small = Image.open(path).convert("RGB")
    size = small.size
    small.thumbnail((640, 4000))
    target = SOURCES / path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)
    technique = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", document["recipe"]).lower()
    canvas = [f"canvas {values['canvas']}"] if "canvas" in values else []
    tags = [technique, values["network"], *canvas]
    return {
        "words": f"{values['network']}: {results_page.words('', document)}",
        "link": f"pictures/{path.name}",
        "picture": save_thumbnail(small, path.stem),
        "tags": {re.sub(r"[^a-z0-9]+", "-", tag): tag for tag in tags},
        "size": f"{size[0]} x {size[1]}",
        "settings": ", ".join(
            f"{k} {values[k]}" for k in ("layer", "size", "rounds", "steps", "canvas") if values.get(k)
        ),
    }


def lay_out_extras() -> dict[str, str]:
    """Pages of their own that `make site` makes or finds: the filterable gallery, the atlas, the microscope."""
    extra = SOURCES / "_extra"
    shutil.copytree(ROOT / "results" / "gallery", extra / "pictures", ignore=shutil.ignore_patterns("*.webp", "*.gif"))
    gallery.write(extra / "pictures")
    found = {"gallery": "pictures/index.html"}
    for name in ("atlas", "microscope"):
        pages = sorted((DATA / name).rglob("index.html"), key=lambda page: len(page.parts))
        if pages:
            shutil.copytree(pages[0].parent, extra / name, ignore=shutil.ignore_patterns("*.png.part", "poster*"))
            found[name] = f"{name}/index.html"
    for page in (extra / place for place in found.values()):
        preview = '<meta property="og:image" content="../_static/preview.webp">'
        page.write_text(page.read_text(encoding="utf-8").replace("</head>", f"{preview}</head>", 1), encoding="utf-8")
    return found


def make_data() -> None:
    """The atlas of the bundled network, and its microscope where this version has one; kept from build to build."""
    commands = import_module("nbhelpers.__main__").COMMANDS
    made = {
        "atlas": ["atlas", *ATLAS, "--results", str(DATA)],
        "microscope": ["microscope", "--photos", "sample_images", "--results", str(DATA)],
    }
    for name, arguments in made.items():
        if name in commands and not any((DATA / name).rglob("index.html")):
            ran = subprocess.run([sys.executable, "-m", "nbhelpers", *arguments], cwd=ROOT)
            if ran.returncode:
                print(f"the site has no {name}: see above", file=sys.stderr)


def reference(room: str) -> str:
    """A room's page of the reference: its docstring, then each public name, then its public modules."""
    face = import_module(f"nbhelpers.{room}")
    if room == "recipes":
        return f"# {room}\n\n```{{eval-rst}}\n.. automodule:: nbhelpers.{room}\n   :members:\n```\n"
    names = {name: getattr(face, name) for name in getattr(face, "__all__", [])}
    modules = {name: each for name, each in names.items() if type(each).__name__ == "module"}
    lines = [f"# {room}", "", "```{eval-rst}", f".. automodule:: nbhelpers.{room}", "   :no-members:", ""]
    lines += [
        line for name, each in names.items() if name not in modules for line in entry(f"nbhelpers.{room}.{name}", each)
    ]
    lines += ["```", ""]
    for name, module in modules.items():
        lines += [f"## {room}.{name}", "", "```{eval-rst}", f".. automodule:: {module.__name__}", "   :no-members:", ""]
        public = getattr(module, "__all__", None) or [
            each for each, thing in vars(module).items()
            if not each.startswith("_") and getattr(thing, "__module__", "") == module.__name__
        ]  # fmt: skip
        for each in public:
            home = getattr(getattr(module, each), "__module__", module.__name__) or ""
            if not home.startswith(f"nbhelpers.{room}") or any(
                getattr(module, each) is known for known in names.values()
            ):
                continue  # another room's, or handed on by this room, and above
            lines += entry(f"{module.__name__}.{each}", getattr(module, each))
        lines += ["```", ""]
    return "\n".join(lines) + "\n"


def entry(name: str, thing: object) -> list[str]:
    """The directive that documents a public name."""
    if type(thing).__name__ == "module":
        return []
    if isinstance(thing, type):
        return [f".. autoclass:: {name}", "   :members:", ""]
    if callable(thing) and hasattr(thing, "__code__"):
        return [f".. autofunction:: {name}", ""]
    if isinstance(thing, dict):  # of which autodata would tell what `dict` says of itself
        return [f".. py:data:: {name}", ""]
    return [f".. autodata:: {name}", "   :no-value:", ""]


def write(path: Path, text: str) -> None:
    (SOURCES / path).parent.mkdir(parents=True, exist_ok=True)
    (SOURCES / path).write_text(text, encoding="utf-8")


def copy_pictures(path: Path) -> None:
    """The pictures that a document shows, beside its copy."""
    for target in links.targets((ROOT / path).read_text(encoding="utf-8")):
        source = ROOT / path.parent / target.partition("#")[0]
        if source.suffix in (".png", ".jpg", ".webp", ".gif") and source.is_file():
            place = SOURCES / os.path.normpath(path.parent / target)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)


def command(strict: bool = True) -> list[str]:
    """Sphinx over the sources; if it is strict, a warning is an error."""
    options = ["-q", "-W", "--keep-going"] if strict else ["-Q"]
    folders = [str(SOURCES / ".doctrees"), str(SOURCES), str(SITE)]
    return [sys.executable, "-m", "sphinx", *options, "-d", *folders]


def write_covers() -> None:
    """A small picture of every notebook, for the README."""
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        thumbnail_of(notebooks.read(path), path.stem, ROOT / "docs" / "covers", width=440)


def main(arguments: list[str]) -> int:
    if "--covers" in arguments:
        write_covers()
        return 0
    if "--check" not in arguments:
        make_data()
        lay_out()
        shutil.rmtree(SITE, ignore_errors=True)
        if failed := subprocess.run(command()).returncode:
            return failed
    problems = links.of_site(SITE)
    print("\n".join(problems) or f"every page is whole: {SITE / 'index.html'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
