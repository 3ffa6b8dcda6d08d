"""The sheets in `results/gallery`, drawn again; `nbhelpers replay` then gives each of them to the pixel.

    python -m tools.gallery_sheets                              # all nine: a quarter of an hour on two cores
    python -m tools.gallery_sheets minivgg_robust-maco          # some of them
    nbhelpers replay results/gallery/minivgg_robust-maco.png    # on the same kind of processor: the same

The ImageNet networks need torchvision's weights: its own folder, or the one that TORCH_HOME names.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nbhelpers import models
from nbhelpers.ascent import Recognition, recognised
from nbhelpers.directions import activation_atlas
from nbhelpers.directions.activation_atlas import ActivationAtlas
from nbhelpers.gallery import Sheet
from nbhelpers.recipes import Recipe
from nbhelpers.techniques.activation_maximization import ActivationMaximization
from nbhelpers.techniques.class_pictures import for_bundled_networks, for_large_networks
from tools import judge

FOLDER = Path("results/gallery")
JUDGE = "mobilenet_v2"
CLASSES = [
    *("goldfish", "bald eagle", "tree frog", "tarantula", "flamingo", "golden retriever", "tabby", "African elephant"),
    *("school bus", "steam locomotive", "airliner", "mountain bike", "teapot", "violin", "analog clock", "umbrella"),
    *("pizza", "strawberry", "volcano", "lakeside"),
]
CHANNELS = Sheet("channels", side=160, columns=6, gap=3)


@dataclass(frozen=True)
class Drawing:
    """One sheet of the gallery: what it shows, how it is laid out, and whether its labels are a judge's verdict."""

    recipe: Recipe
    sheet: Sheet = CHANNELS
    judged: bool = False


def _channels(network: str, layer: str, channels: list[int], **settings: object) -> Drawing:
    """A little larger than the defaults, with more and smaller steps."""
    usual = {"size": 128, "steps": 50, "learning_rate": 0.02}
    return Drawing(ActivationMaximization(network=network, layer=layer, channels=channels, **{**usual, **settings}))


def _hundred_classes() -> Drawing:
    network = models.load("minivgg_robust")
    recipe = for_bundled_networks(network="minivgg_robust", classes=network.classes)
    return Drawing(recipe, judge.sheet_of(network.classes))


DRAWINGS: dict[str, Callable[[], Drawing]] = {
    "minivgg_robust-block3": lambda: _channels(
        "minivgg_robust", "block3.conv2", [7, 34, 35, 112, 157, 160, 222, 25, 67, 52, 3, 9], size=96, steps=30
    ),
    "minivgg_robust-block4": lambda: _channels(
        "minivgg_robust", "block4.conv1", [5, 18, 31, 44, 57, 70, 83, 200, 109, 122, 135, 148], size=112
    ),
    "minivgg_robust-maco": lambda: _channels(
        "minivgg_robust", "block4.conv1", [18, 57, 122, 200, 31, 83], size=112, canvas="maco", learning_rate=0.02
    ),
    "squeezenet1_0-features.7": lambda: _channels(
        "squeezenet1_0", "features.7.expand3x3", [0, 5, 10, 20, 30, 40], steps=30
    ),
    "squeezenet1_0-features.12": lambda: _channels("squeezenet1_0", "features.12.expand3x3", [5, 10, 20, 30, 0, 40]),
    "mobilenet_v2-features.14": lambda: _channels("mobilenet_v2", "features.14.conv", [0, 5, 10, 20, 30, 40]),
    "squeezenet1_0-classes": lambda: Drawing(
        for_large_networks(network="squeezenet1_0", classes=CLASSES),
        Sheet("classes", side=152, columns=5, labels=CLASSES),
        judged=True,
    ),
    "minivgg_robust_classes": _hundred_classes,
}
"""By file name, the quick ones first."""

ATLASES = {
    "minivgg_robust-atlas": ActivationAtlas(
        **dict(layer="block4.relu1", drawn="block4.conv1", photos="../sample_images", cuts=100, places=2),
        **dict(cells=10, fewest=5, rounds=2, names="answers", width=960),
    )
}
"""Maps of what a layer tells apart, made pictures only, of the photos that come along, as a notebook finds them."""


def draw(name: str, drawing: Drawing, folder: Path = FOLDER) -> Path:
    """Make the pictures of one sheet and write it."""
    network = models.load(drawing.recipe.network)
    pictures, sheet = drawing.sheet.pictures(drawing.recipe, network), drawing.sheet
    if drawing.judged:
        found = recognised(pictures, drawing.recipe.classes, models.load(JUDGE))
        print(found)
        sheet = replace(sheet, labels=verdict(found))
    sheet.save(drawing.recipe, pictures, folder / f"{name}.png")
    return folder / f"{name}.png"


def draw_atlas(name: str, recipe: ActivationAtlas, folder: Path = FOLDER) -> Path:
    """Draw a map and write it."""
    atlas = recipe.changed(photos=recipe.photos.removeprefix("../")).run()
    return activation_atlas.save(replace(atlas, recipe=recipe), folder).rename(folder / f"{name}.png")


def verdict(found: Recognition) -> list[str]:
    """Two lines per picture: its class, and that a judge recognises it, or at which place of its answers it stands."""
    places = ["recognised" if rank == 1 else f"no. {rank}" for rank in found.ranks]
    return [f"{name}\n{place}" for name, place in zip(found.classes, places, strict=True)]


def main() -> None:
    """Draw the sheets that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *DRAWINGS, *ATLASES], metavar="NAME")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    chosen = parser.parse_args()
    for name in chosen.names or [*DRAWINGS, *ATLASES]:
        if name in ATLASES:
            print(draw_atlas(name, ATLASES[name], chosen.folder))
        else:
            print(draw(name, DRAWINGS[name](), chosen.folder))


if __name__ == "__main__":
    main()
