"""One web page for all that a results folder holds: every executed notebook, its parameters, its pictures.

The page is a view of the folder and nothing else: `nbhelpers.batch` leaves a note of each run in the executed
notebook's metadata, and the page is made from these notes. It is one file without scripts or addresses; the small
pictures are inside it, and link to the full ones beside it.
"""

import base64
import io
import json
from html import escape
from pathlib import Path
from typing import Any

from nbconvert import HTMLExporter
from nbformat import NotebookNode
from PIL import Image

from nbhelpers import notebooks

_THUMBNAIL = 900
_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --dim: #667085; --paper: #f6f5f2; --card: #fff; --line: #e3e1db;
        --accent: #b4471f; --bad: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e6e1; --dim: #9aa3b2; --paper: #14171c; --card: #1c2027; --line: #2d333d; --accent: #f0916b;
          --bad: #ff8a7a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
header, main { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 48px; padding-bottom: 8px; }
h1 { font-size: 34px; line-height: 1.15; margin: 0 0 6px; letter-spacing: -0.02em; }
h2 { font-size: 22px; line-height: 1.25; margin: 0; letter-spacing: -0.01em; }
a { color: var(--accent); text-decoration-thickness: 1px; text-underline-offset: 3px; }
.dim { color: var(--dim); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 24px; margin: 24px 0; }
.top { display: flex; flex-wrap: wrap; gap: 4px 20px; align-items: baseline; justify-content: space-between; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); grid-auto-flow: dense;
  gap: 18px; margin-top: 20px; }
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; } figure.wide img { height: auto; max-height: 420px; }
figure img { width: 100%; height: 220px; object-fit: contain; display: block; background: var(--paper);
  border-radius: 8px; }
figcaption { font-size: 13px; overflow-wrap: anywhere; padding-top: 6px; }
details { margin-top: 14px; font-size: 14px; }
figcaption details { margin-top: 2px; font-size: 13px; }
summary { cursor: pointer; color: var(--dim); }
table { border-collapse: collapse; width: 100%; margin-top: 8px; }
td { border-top: 1px solid var(--line); padding: 5px 14px 5px 0; vertical-align: top; }
td:first-child { width: 18%; } td:nth-child(2) { width: 34%; }
td:first-child, td:nth-child(2), pre { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
tr.given td:nth-child(2) { color: var(--accent); font-weight: 600; }
pre { background: var(--paper); padding: 12px; border-radius: 8px; white-space: pre-wrap; margin: 8px 0 0; }
.failed { border-color: var(--bad); } .failed .time { color: var(--bad); }
"""


def write(results: str | Path) -> Path:
    """Writes `index.html`, which shows every executed notebook of a results folder.

    Args:
        results: a folder that `nbhelpers.batch` wrote to.

    Returns:
        The page's path.
    """
    results = Path(results)
    runs = [(path, notebooks.read(path)) for path in sorted(results.glob("*.ipynb")) if not path.name.startswith(".")]
    runs = [(path, notebook) for path, notebook in runs if "nbhelpers" in notebook.metadata]
    seconds = sum(notebook.metadata.nbhelpers.seconds for _, notebook in runs)
    failed = sum(bool(notebook.metadata.nbhelpers.errors) for _, notebook in runs)
    counts = f"{len(runs)} notebook{'' if len(runs) == 1 else 's'} in {seconds:.0f} s"
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Inside convolutional networks</title><style>{_STYLE}</style></head>
<body><header><h1>Inside convolutional networks</h1>
<div class="dim">{counts}{f", {failed} failed" if failed else ""}. Every picture carries its recipe.</div></header>
<main>{"".join(_section(path, notebook) for path, notebook in runs)}</main></body></html>
"""
    notebooks.write_text(page, results / "index.html")
    return results / "index.html"


def write_notebook_page(notebook: NotebookNode, path: Path) -> None:
    """Writes an executed notebook as a web page, for readers without Jupyter."""
    notebooks.write_text(HTMLExporter().from_notebook_node(notebook)[0], path)


def _section(path: Path, notebook: NotebookNode) -> str:
    run = notebook.metadata.nbhelpers
    errors = "".join(f"<pre>{escape(error)}</pre>" for error in run.errors)
    links = [f'<a href="{escape(path.with_suffix(".html").name)}">read it</a>'] * path.with_suffix(".html").exists()
    links.append(f'<a href="{escape(path.name)}">notebook</a>')
    pictures = "".join(_figure(path.parent, name) for name in run.pictures if (path.parent / name).exists())
    time = f"{'failed after ' if run.errors else ''}{run.seconds:.1f} s"
    return f"""
<section id="{escape(path.stem)}"{' class="failed"' if run.errors else ""}>
<div class="top"><h2>{escape(notebooks.title(notebook) or path.stem)}</h2>
<div class="dim"><span class="time">{time}</span> · {" · ".join(links)}</div></div>
{errors}<div class="pictures">{pictures}</div>{_parameters(run.parameters)}</section>"""


def _parameters(parameters: list[dict[str, Any]]) -> str:
    if not parameters:
        return ""
    rows = "".join(
        f"<tr{' class=given' if p['given'] else ''}><td>{escape(p['name'])}</td>"
        f"<td>{escape(json.dumps(p['value']))}</td><td class=dim>{escape(p['comment'])}</td></tr>"
        for p in parameters
    )
    given = ", ".join(p["name"] for p in parameters if p["given"])
    changed = f" (given: {escape(given)})" if given else ""
    return f"<details open><summary>{len(parameters)} parameters{changed}</summary><table>{rows}</table></details>"


def _figure(results: Path, name: str) -> str:
    path, file = results / name, io.BytesIO()
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            small = picture.convert("RGBA" if "A" in picture.getbands() else "RGB")
    except OSError as error:
        return f"<figure><figcaption>{escape(path.name)} cannot be shown: {escape(str(error))}</figcaption></figure>"
    small.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    small.save(file, "WEBP", quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    shape = ' class="wide"' if width > 1.8 * height else ""
    image = f'<img alt="{escape(path.stem)}" src="data:image/webp;base64,{data}">'
    return (
        f'<figure{shape}><a href="{escape(name)}">{image}</a>'
        f"<figcaption>{escape(path.name)} <span class=dim>{width} x {height}</span>{_recipe(path)}</figcaption>"
        "</figure>"
    )


def _recipe(path: Path) -> str:
    from nbhelpers import images  # brings torch with it: seconds, which a refused parameter need not wait for

    try:
        recipe = images.read_recipe(path)
    except (ValueError, KeyError):
        return ""  # a figure that somebody saved by other means
    if not recipe:
        return ""
    return f"<details><summary>recipe</summary><pre>{escape(json.dumps(recipe, indent=1))}</pre></details>"
