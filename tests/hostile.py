"""Documents that no technique wrote: damaged, made to harm, or of another kind; each as the text inside a PNG."""

import json
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from nbhelpers.images import recipe_text


def document(**entries: Any) -> str:
    """A sound document, but for the entries given."""
    sound = {"recipe": "ActivationMaximization", "parameters": {"layer": "block2.conv1"}, "nbhelpers": "0.1.0"}
    return json.dumps(sound | {"index": 0} | entries)


def with_seed(text: str) -> str:
    """A sound document, but for the seed, which is any text."""
    return document(parameters={"seed": 0}).replace('"seed": 0', f'"seed": {text}')


NO_DATA = {
    "no JSON": ("{", "Expecting property name"),
    "a list": ("[1]", "it is a list, expected names and values"),
    "a number of 4,000 digits": (with_seed("1" + "0" * 3999), "it holds a number of 4,000 digits"),
    "a number of 40,000 digits": (with_seed("1" + "0" * 39_999), "it holds a number of 40,000 digits"),
    "a number beyond all": (with_seed("1e999"), "it holds a number that is too large"),
    "NaN": (with_seed("NaN"), "it holds NaN, which is no number"),
    "infinity": (with_seed("-Infinity"), "it holds -Infinity, which is no number"),
    "lists in lists": (with_seed("[" * 500 + "]" * 500), "it holds lists in lists, more than 32 deep"),
    "lists without end": (with_seed("[" * 100_000), "it holds lists in lists, more than 32 deep"),
    "a huge text": (document(parameters={"layer": "x" * 2_000_000}), r"its text has 2,000,\d+ characters, the limit"),
    "a long text": (document(parameters={"layer": "x" * 20_000}), "it holds a text of 20,000 characters"),
    "a name twice": (with_seed('0, "seed": 1'), "it says 'seed' twice"),
    "half a character": (document(parameters={"layer": "\ud800"}), r"it holds '\\ud800', with half a character"),
}
"""Text that is refused as soon as it is read, and what is said."""

NO_RECIPE = {
    "recipe is a list": (document(recipe=["Saliency"]), r"its 'recipe' is \['Saliency'\], expected a name"),
    "recipe is nothing": (document(recipe=None), "its 'recipe' is None, expected a name"),
    "recipe is unknown": (document(recipe="x" * 9000), "unknown recipe 'x{50,300}…x+'"),
    "parameters are a list": (document(parameters=[1, 2]), r"its 'parameters' is \[1, 2\], expected names and values"),
    "parameters are text": (document(parameters="seed"), "its 'parameters' is 'seed', expected names and values"),
    "a parameter called self": (document(parameters={"self": 1}), "has no parameter 'self'"),
    "a parameter of lists": (document(parameters={"seed": [[0] * 900] * 9}), r"seed = \[\[0, 0.*….*valid integer"),
    "a thousand parameters": (document(parameters={f"p{n}": 0 for n in range(1000)}), "and 995 more"),
    "a thousand mistakes": (document(parameters={"channels": ["x"] * 1000}), "and 995 more"),
    "index is a list": (document(index=[0]), r"its number in the batch is \[0\], expected 0, 1, 2"),
    "index is true": (document(index=True), "its number in the batch is True, expected 0, 1, 2"),
    "version is a list": (document(nbhelpers=["0.1.0"]), r"its 'nbhelpers' is \['0\.1\.0'\], expected a version"),
    "sheet is a list": (document(sheet=[6, 160]), r"its 'sheet' is \[6, 160\], expected names and values"),
    "a sheet with an index": (document(sheet={}), "it says 'index' and 'sheet', and a picture is only one of these"),
}
"""Text that is sound data and no recipe, and what is said."""


def picture(path: Path, text: str) -> Path:
    """A picture with this text in place of its recipe."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt(recipe_text.CHUNK, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (29, 29)).save(path, pnginfo=info)
    return path
