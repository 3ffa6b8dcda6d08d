"""The exercises of notebook 08: where the photo is lost, the strongest voxels, an order for a new photo."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nbhelpers import edge, images, models
from nbhelpers.exercises.checking import exercise, expect, samples
from nbhelpers.techniques import activation_volumes
from nbhelpers.techniques.activation_volumes import ActivationVolume
from nbhelpers.volumes import ordering

LEARNT = ("cat", "coffee", "flower", "rocket", "bricks", "portrait")


def _likeness() -> dict[str, float]:
    """For each ReLU, how well its best map correlates with the grey photo, without sign."""
    photo = images.read(samples() / "cat.jpg", 224)[None]
    network = models.load("minivgg_robust")
    names = [layer.name for layer in models.layers(network, 224) if layer.kind == "ReLU"]
    found = {}
    with torch.no_grad():
        seen = models.capture(network, *names, stop=True)(photo)
    for name in names:
        maps = seen[name][0].flatten(1)
        grey = F.interpolate(photo.mean(1, keepdim=True), size=seen[name].shape[2:], mode="area").flatten()
        alike = [torch.corrcoef(torch.stack([grey, each]))[0, 1] for each in maps if each.std() > 0]
        found[name] = torch.stack(alike).abs().max().item()
    return found


def _lost() -> str:
    return next(name for name, alike in _likeness().items() if alike < 0.5)


@exercise(
    "08.1",
    "a layer's name, such as 'stem.relu'",
    hints=[
        "Shrink the grey photo to each layer's size and correlate it with every map of the layer.",
        "Take the best map of each layer without regard to sign: where does it fall below one half for the first time?",
    ],
    reference=_lost,
)
def where_the_cat_is_lost(answer: str) -> str:
    """The first ReLU of which no map is a picture of the photo any more."""
    alike = _likeness()
    expect(answer in alike, f"The ReLUs are {edge.few(alike, 9)}.")
    expect(alike[answer] < 0.5, f"In {answer} one map still correlates with the photo to {alike[answer]:.2f}.")
    expect(answer == _lost(), "No map there is a picture of the photo, but in an earlier layer it was so already.")
    return (
        f"The best map of {answer} correlates with the photo to {alike[answer]:.2f}. The maps before it are still "
        "pictures of the cat in other colours; from here on they say where something is, and no longer how light it "
        "is."
    )


def _maps(photo: str) -> Float[Tensor, "channels height width"]:
    return activation_volumes.activations(
        ActivationVolume(), models.load("minivgg_robust"), str(samples() / f"{photo}.jpg")
    )


def _brightest() -> list[int]:
    maps = _maps("cat")
    return sorted(set((maps.flatten().topk(10).indices // maps[0].numel()).tolist()))


@exercise(
    "08.2",
    "a list of channels' numbers",
    hints=[
        "`stacked.maps` holds the activations, channel by channel: find the ten greatest of all of them.",
        "`stacked.maps.flatten().topk(10).indices // stacked.maps[0].numel()` are their channels.",
    ],
    reference=_brightest,
)
def the_last_voxels(answer: list[int]) -> str:
    """The channels of the ten strongest voxels."""
    true = set(_brightest())
    expect(not (wrong := set(answer) - true), f"None of the ten is in {edge.few(sorted(wrong))}.")
    expect(not (missing := true - set(answer)), f"{len(missing)} more channels hold some of the ten.")
    return (
        f"Ten voxels in {len(true)} channels: a bright voxel has bright neighbours in its own map, and few in other "
        "maps. What notebook 01 draws for these channels is what this photo excites most."
    )


def _carried_over() -> list[int]:
    together = torch.cat([_maps(name) for name in LEARNT], 1)
    return activation_volumes.ordered(ActivationVolume(), together).channels


@exercise(
    "08.3",
    "an order: a list of all the layer's channels, each once",
    hints=[
        "Lay the maps of several photos side by side (`torch.cat(maps, 1)`), so that channels are compared over all "
        "of them.",
        "`activation_volumes.ordered(recipe, together).channels`, of other photos than the temple.",
    ],
    reference=_carried_over,
)
def an_order_for_a_new_photo(answer: list[int]) -> str:
    """An order that suits the temple's maps better than the order learnt from the cat alone."""
    temple = _maps("temple")
    expect(sorted(answer) == list(range(len(temple))), f"An order holds each of the {len(temple)} channels once.")
    of_cat = activation_volumes.ordered(ActivationVolume(), _maps("cat")).channels
    of_temple = activation_volumes.ordered(ActivationVolume(), temple).channels
    own, one, best = (ordering.neighbour_correlation(temple, order) for order in (answer, of_cat, of_temple))
    expect(own > one, f"The temple's neighbours correlate to {own:.3f}; in the cat's order to {one:.3f}.")
    return (
        f"The temple's neighbours correlate to {own:.3f}, in the cat's order to {one:.3f}; in an order of its own to "
        f"{best:.3f}. More photos make an order more general, and none replaces the photo's own."
    )
