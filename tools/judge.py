"""Are class pictures pictures of something? Other networks say what they see in them.

    python -m tools.judge --sheet results/minivgg_robust_classes.png
    python -m tools.judge --sheet results/squeezenet1_0_classes.png --network squeezenet1_0       # 100 of its 1,000

Draws a picture for each class, has other networks name what they see (`ascent.recognised`), and writes the contact
sheet. With `--data` the judges also say what they see in photographs of the classes, for comparison.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from nbhelpers.ascent import recognised
from nbhelpers.gallery import Sheet
from nbhelpers.models import Network, bundled, load
from nbhelpers.techniques.class_pictures import ClassPictures, class_names, for_bundled_networks, for_large_networks
from nbhelpers.training import card, data

PHOTOGRAPHS = 5  # of each class


def sheet_of(classes: list[str]) -> Sheet:
    """How the pictures of classes are made, ten at a time, and laid out."""
    return Sheet("classes", side=80, columns=10, labels=classes, batch=10)


def class_pictures(network: Network, recipe: ClassPictures) -> Tensor:
    """One picture per class of the recipe, `(classes, 3, side, side)` in [0, 1]."""
    return sheet_of(class_names(recipe, network)).pictures(recipe, network)


def drawn(network: Network, count: int) -> list[str | int]:
    """So many classes by number, drawn at random once and for all; all of them by name if there are no more."""
    if count >= len(network.classes):
        return network.classes
    order = torch.randperm(len(network.classes), generator=torch.Generator().manual_seed(0))
    return order[:count].tolist()


def main() -> None:
    """Make the class pictures, have them judged, write the contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="minivgg_robust")
    parser.add_argument("--classes", type=int, default=100, help="how many are drawn at random, where there are more")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--sheet", type=Path, required=True, help="PNG for the pictures")
    parser.add_argument("--data", type=Path, help="Tiny-ImageNet folder or packed shards: judge photographs as well")
    parser.add_argument("--card", type=Path, help="NAME.json whose model card gets the verdict")
    chosen = parser.parse_args()
    network = load(chosen.network)
    settings = for_bundled_networks if chosen.network in bundled() else for_large_networks
    recipe = settings(network=chosen.network, classes=drawn(network, chosen.classes))
    recipe = recipe.changed(steps=chosen.steps or recipe.steps)
    pictures, names = class_pictures(network, recipe), class_names(recipe, network)
    judged = {"how": how(recipe)}
    photographs = data.load(chosen.data, "val").first_of_each(PHOTOGRAPHS) if chosen.data else None
    for name, key in (("minivgg", "minivgg"), ("mobilenet_v2", "mobilenet")):
        try:
            found = recognised(pictures, names, load(name))
        except ValueError as error:  # it knows none of them
            print(error)
            continue
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
    sheet_of(names).save(recipe, pictures, chosen.sheet)


def _percent(share: float) -> float:
    return round(100 * share, 1)


def how(recipe: ClassPictures) -> str:
    """The recipe in words, as far as it is not what a `ClassPictures` is anyway; for the model card."""
    usual = ClassPictures()
    told = {name: value for name, value in recipe.model_dump().items() if value != getattr(usual, name)}
    return ", ".join(f"{name} {value}" for name, value in told.items() if name not in ("network", "classes"))


if __name__ == "__main__":
    main()
