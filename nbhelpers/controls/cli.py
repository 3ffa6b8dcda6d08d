"""`nbhelpers explore [PHOTO]`: the explorer as an app in the browser, without code, served by Voila.

A notebook of one cell, which makes the explorer, is written to a folder of its own and served on this machine alone,
behind a token; both are gone when the command ends. The kernel is started with the server and runs the notebook while
the browser still opens. The command itself does without torch, unless it is to check what it was given.
"""

import json
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

import click
import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from nbhelpers import edge

REFILL = 60  # seconds after which a kernel is made ready for the next visit: not while the first one is beginning
FIRST = "cat.jpg"  # of the sample photos
TEMPLATE = "nbhelpers"  # Voila's own, without what that asks from other machines: icons that the explorer has none of
PAGE = """{% extends "lab/index.html.j2" %}
{% block notebook_css %}{{ super() | replace('href="https:', 'data-left-out="https:') }}{% endblock %}
"""


@click.command(help="Explore what a network sees in PHOTO, as an app in the browser.")
@click.argument("photo", required=False)
@click.option("--network", help="A bundled network or any torchvision one; without, the bundled minivgg_robust.")
@click.option("--layer", help="A layer of it; without, its deepest stage.")
@click.option("--results", default="results", show_default=True, help="Where made pictures are kept.")
@click.option("--port", default=8866, show_default=True, help="The first free one from here on is taken.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def explore(
    photo: str | None, network: str | None, layer: str | None, results: str, port: int, no_browser: bool
) -> None:
    if find_spec("voila") is None:
        raise click.ClickException('the app is served by Voila: `pip install "nbhelpers[app]"` brings it')
    try:
        path = edge.existing_file(Path(photo) if photo else edge.companion("sample_images") / FIRST).resolve()
        folder = edge.folder_to_write(Path(results)).resolve()
        if network or layer:
            from nbhelpers.controls.explorer import first_recipe

            first_recipe(path, network, layer)
    except (ValueError, KeyError, OSError) as error:
        raise click.ClickException(str(error.args[0] if isinstance(error, KeyError) else error)) from error
    with tempfile.TemporaryDirectory(prefix="nbhelpers-explore-") as scratch:
        serve(app(path, network, layer, folder), Path(scratch), port, no_browser)


def app(photo: Path, network: str | None, layer: str | None, folder: Path) -> nbformat.NotebookNode:
    """A notebook that shows the explorer and nothing else."""
    first = f"explorer.first_recipe({str(photo)!r}, {network!r}, {layer!r})"
    lines = ["from nbhelpers.controls import explorer", "", f"explorer.explore({first}, folder={str(folder)!r})"]
    notebook = new_notebook(cells=[new_code_cell("\n".join(lines))])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata.title = "nbhelpers explorer"
    return notebook


def serve(notebook: nbformat.NotebookNode, scratch: Path, port: int, no_browser: bool) -> None:
    """Serve a notebook as an app on this machine, until interrupted; it is written to an empty folder."""
    from voila.app import Voila

    path, template = scratch / "explorer.ipynb", scratch / "voila" / "templates" / TEMPLATE
    nbformat.write(notebook, path)
    template.mkdir(parents=True)
    (template / "conf.json").write_text(json.dumps({"base_template": "lab"}))
    (template / "index.html.j2").write_text(PAGE)
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(scratch), os.environ.get("JUPYTER_PATH")]))
    options = [f"--port={port}", "--Voila.ip=127.0.0.1", "--Voila.auto_token=True", f"--template={TEMPLATE}"]
    ready = ["--preheat_kernel=True", "--pool_size=1", f"--VoilaKernelManager.fill_delay={REFILL}"]
    Voila.launch_instance([str(path), *options, *ready, *(["--no-browser"] if no_browser else [])])
