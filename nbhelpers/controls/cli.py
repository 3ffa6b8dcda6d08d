"""`nbhelpers explore [PHOTO]`: the explorer as an app in the browser, without code, served by Voila.

A notebook of one cell, which makes the explorer, is written to a folder of its own and served on this machine alone,
behind a token; both are gone when the command ends.
"""

import tempfile
from importlib.util import find_spec
from pathlib import Path

import click
import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from nbhelpers import edge, models
from nbhelpers.controls import copies
from nbhelpers.techniques.semantic_dictionary import SemanticDictionary

FIRST = "cat.jpg"  # of the sample photos


@click.command(help="Explore what a network sees in PHOTO, as an app in the browser.")
@click.argument("photo", required=False)
@click.option("--network", default=models.DEFAULT, show_default=True, help="A bundled network or any torchvision one.")
@click.option("--layer", default="", help="A layer of it; without, its deepest stage.")
@click.option("--results", default="results", show_default=True, help="Where made pictures are kept.")
@click.option("--port", default=8866, show_default=True, help="The first free one from here on is taken.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def explore(photo: str | None, network: str, layer: str, results: str, port: int, no_browser: bool) -> None:
    if find_spec("voila") is None:
        raise click.ClickException("the app is served by Voila: pip install nbhelpers[app]")
    try:
        path = edge.existing_file(Path(photo) if photo else edge.companion("sample_images") / FIRST).resolve()
        folder = edge.folder_to_write(Path(results)).resolve()
        recipe = first_recipe(path, network, layer)
    except (ValueError, KeyError, OSError) as error:
        raise click.ClickException(str(error.args[0] if isinstance(error, KeyError) else error)) from error
    with tempfile.TemporaryDirectory(prefix="nbhelpers-explore-") as scratch:
        notebook = Path(scratch) / "explorer.ipynb"
        nbformat.write(app(recipe, folder), notebook)
        serve(notebook, port, no_browser)


def first_recipe(photo: Path, network: str, layer: str) -> SemanticDictionary:
    """What the app begins with: this photo, at the size that the network sees best."""
    loaded = models.load(network)
    size = max(96, *models.sides(loaded.size))
    chosen = layer or (
        SemanticDictionary().layer if network in models.bundled() else models.stages.stages(loaded)[-1].name
    )
    models.check_layer(loaded, chosen, size)
    return SemanticDictionary(photo=str(photo), network=network, layer=chosen, photo_size=size, places=[[0.5, 0.5]])


def app(recipe: SemanticDictionary, folder: Path) -> nbformat.NotebookNode:
    """A notebook that shows the explorer and nothing else."""
    lines = [
        "from nbhelpers import controls",
        "from nbhelpers.techniques.semantic_dictionary import SemanticDictionary",
        "",
        f"controls.explore({copies.as_code(recipe)}, folder={str(folder)!r})",
    ]
    notebook = new_notebook(cells=[new_code_cell("\n".join(lines))])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata.title = "nbhelpers explorer"
    return notebook


def serve(notebook: Path, port: int, no_browser: bool) -> None:
    """Serve a notebook as an app on this machine, until interrupted."""
    from voila.app import Voila

    options = [f"--port={port}", "--Voila.ip=127.0.0.1", "--Voila.auto_token=True"]
    Voila.launch_instance([str(notebook), *options, *(["--no-browser"] if no_browser else [])])
