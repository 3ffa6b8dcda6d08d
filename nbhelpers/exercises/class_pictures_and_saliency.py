"""The exercises of notebook 03: how rough a gradient is, a class in a portrait, black in place of a blur."""

import torch
from jaxtyping import Float
from torch import Tensor

from nbhelpers import edge, images, models
from nbhelpers.attribution import faithfulness, pixel_maps
from nbhelpers.exercises.checking import exercise, expect, samples
from nbhelpers.techniques import saliency

NETWORKS = ("minivgg_robust", "minivgg")
PHOTOS, PORTIONS = 4, 6


def _roughness() -> dict[str, float]:
    photos = images.read_many(samples(), 96).pictures
    found = {}
    for name in NETWORKS:
        network = models.load(name)
        with torch.no_grad():
            classes = network(photos).argmax(1).tolist()
        maps = pixel_maps.strongest(pixel_maps.gradient(network, photos, classes)[1])
        found[name] = (maps.diff(dim=2).abs().mean() / maps.mean()).item()
    return found


@exercise(
    "03.1",
    "two numbers by network, such as {'minivgg_robust': 0.5, 'minivgg': 0.5}",
    hints=[
        "`pixel_maps.strongest(pixel_maps.gradient(network, pictures, classes)[1])` gives a network's maps of all "
        "photos.",
        "`maps.diff(dim=2).abs().mean() / maps.mean()`, each network asked for the classes that it gives itself.",
    ],
    reference=_roughness,
)
def roughness(answer: dict[str, float]) -> str:
    """Neighbours' difference in the maps of two networks, as a share of the maps' mean."""
    expect(set(answer) == set(NETWORKS), f"One number each for {' and '.join(NETWORKS)} is asked for.")
    true = _roughness()
    for name in NETWORKS:
        expect(
            abs(answer[name] - true[name]) < 0.03 * true[name],
            f"The number for {name} is not {answer[name]:.2f}.",
        )
    return (
        f"A pixel's neighbour differs by {true['minivgg']:.0%} of the mean in `minivgg`, by "
        f"{true['minivgg_robust']:.0%} in `minivgg_robust`. Who was trained to withstand small changes has no use for "
        "a gradient that jumps from pixel to pixel; that is why its maps, and its class pictures, have shapes."
    )


def _bow_ties() -> tuple[list[str], Float[Tensor, " photos"]]:
    photos, network = images.read_many(samples(), 96), models.load("minivgg_robust")
    (number,) = models.class_indices(network, ["bow tie"], 96)
    with torch.no_grad():
        return photos.names, network(photos.pictures)[:, number]


def _with_a_bow_tie() -> str:
    names, logits = _bow_ties()
    return names[int(logits.argmax())]


@exercise(
    "03.2",
    "a photo's name, such as 'cat.jpg'",
    hints=[
        "A map is drawn for every photo, whether the class is there or not. Ask the logit, not the map.",
        "`model(pictures)[:, model.classes.index('bow tie')]` at 96 pixels has one logit for each photo.",
    ],
    reference=_with_a_bow_tie,
)
def the_bow_tie(answer: str) -> str:
    """The photo in which the network sees a bow tie most."""
    names, logits = _bow_ties()
    expect(answer in names, f"No sample photo is called {edge.short(answer)!r}: there are {edge.few(names, 12)}.")
    more = int((logits > logits[names.index(answer)]).sum())
    expect(not more, f"{more} photos have a greater logit for it than {answer}.")
    return (
        f"{answer} has the greatest logit for it, and a map for it is about the collar, not the face that people look "
        "at first. A map of the other photos is no less lively: a map never says that the thing is not there."
    )


def _areas() -> dict[str, float]:
    photos, network = images.read_many(samples(), 96).pictures[:PHOTOS], models.load("minivgg_robust")
    with torch.no_grad():
        classes = network(photos).argmax(1).tolist()
    rivals = {
        name: pixel_maps.strongest(saliency.attribute(saliency.Saliency(method=name), network, photos, classes)[1])
        for name in ("gradient", "smoothgrad")
    } | {"noise": faithfulness.random_maps(photos, 0), "blob in the middle": faithfulness.centre_maps(photos)}
    return {
        name: faithfulness.curves(network, photos, maps, classes, PORTIONS, "deletion", "black").areas.mean().item()
        for name, maps in rivals.items()
    }


def _sooner() -> str:
    areas = _areas()
    return min(areas, key=areas.__getitem__)


@exercise(
    "03.3",
    "one of 'gradient', 'smoothgrad', 'noise', 'blob in the middle'",
    hints=[
        '`faithfulness.curves(model, pictures, maps, classes, 6, "deletion", "black").areas.mean()`, for each map.',
        "The smallest area under the curve of deletion wins: the probability fell soonest.",
    ],
    reference=_sooner,
)
def black_for_blur(answer: str) -> str:
    """Which map's pixels, turned black, make the class fall soonest."""
    areas = _areas()
    expect(answer in areas, f"The rivals are {edge.few(areas)}.")
    won = min(areas, key=areas.__getitem__)
    expect(answer == won, f"Its area is {areas[answer]:.2f}; another map's is smaller.")
    return (
        "The areas: "
        + ", ".join(f"{name} {area:.2f}" for name, area in areas.items())
        + ". Black pixels are a pattern of their own that no photo has: scattered anywhere they hurt, so black "
        "measures damage as much as the map."
    )
