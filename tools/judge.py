"""Are class pictures pictures of something? Other networks say what they see in them.

    python tools/judge.py --network minivgg_robust

Draws a picture for each class of a bundled network, has other networks name what they see (`ascent.recognised`), and
writes the contact sheet. With `--data` the judges also say what they see in photographs of the classes, for comparison.
"""

import argparse
import json
from pathlib import Path

from torch import Tensor

from nbhelpers.ascent import recognised
from nbhelpers.gallery import Sheet
from nbhelpers.models import Network, load
from nbhelpers.techniques.class_pictures import ClassPictures, for_bundled_networks
from nbhelpers.training import card, data

PHOTOGRAPHS = 5  # of each class


def sheet_of(network: Network) -> Sheet:
    """How the pictures of all classes are made, ten at a time, and laid out."""
    return Sheet("classes", side=128, columns=10, labels=network.classes, batch=10)


def class_pictures(network: Network, recipe: ClassPictures) -> Tensor:
    """One picture per class of the network, `(classes, 3, side, side)` in [0, 1]; `recipe` says how."""
    return sheet_of(network).pictures(recipe.changed(classes=network.classes), network)


def main() -> None:
    """Make the class pictures, have them judged, write the contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="minivgg_robust")
    parser.add_argument("--steps", type=int, default=for_bundled_networks().steps)
    parser.add_argument("--sheet", type=Path, default=Path("results/gallery/minivgg_robust_classes.png"))
    parser.add_argument("--data", type=Path, help="Tiny-ImageNet folder or packed shards: judge photographs as well")
    parser.add_argument("--card", type=Path, help="NAME.json whose model card gets the verdict")
    chosen = parser.parse_args()
    network = load(chosen.network)
    recipe = for_bundled_networks(network=chosen.network, steps=chosen.steps)
    pictures = class_pictures(network, recipe)
    judged = {"how": how(recipe)}
    photographs = data.load(chosen.data, "val").first_of_each(PHOTOGRAPHS) if chosen.data else None
    for name, key in (("minivgg", "minivgg"), ("mobilenet_v2", "mobilenet")):
        found = recognised(pictures, network.classes, load(name))
        judged |= {
            f"{key}_top1": _percent(found.top1),
            f"{key}_top5": _percent(found.top5),
            f"{key}_classes": found.known,
        }
        print(found)
        if photographs is not None:
            shown = [network.classes[label] for label in photographs.labels]
            real = recognised(photographs.batch(slice(None))[0], shown, load(name))
            judged |= {f"{key}_photographs_top1": _percent(real.top1), f"{key}_photographs_top5": _percent(real.top5)}
            judged["photographs"] = real.known
            print(f"photographs: {real}")
    if chosen.card:
        document = json.loads(chosen.card.read_text(encoding="utf-8"))
        card.write(document | {"judged": judged}, chosen.card)
    sheet_of(network).save(recipe.changed(classes=network.classes), pictures, chosen.sheet)


def _percent(share: float) -> float:
    return round(100 * share, 1)


def how(recipe: ClassPictures) -> str:
    """The recipe in words, as far as it is not what a `ClassPictures` is anyway; for the model card."""
    usual = ClassPictures()
    told = {name: value for name, value in recipe.model_dump().items() if value != getattr(usual, name)}
    return ", ".join(f"{name} {value}" for name, value in told.items() if name not in ("network", "classes"))


if __name__ == "__main__":
    main()
