"""The exercises of notebook 05: what speaks against a class, an object out of the middle, a map without a side."""

import torch
from jaxtyping import Float
from torch import Tensor

from nbhelpers import edge, images, models
from nbhelpers.attribution import boxes, cams, faithfulness
from nbhelpers.exercises.checking import exercise, expect, samples

LAYER = "block4"


def _against() -> tuple[list[str], Float[Tensor, " photos"]]:
    """What speaks most strongly against an orange, in each sample photo."""
    photos = images.read_many(samples(), 96)
    network = models.load("minivgg_robust")
    maps, _ = cams.class_maps(network, LAYER, photos.pictures, "orange", counterfactual=True)
    return photos.names, maps.cpu().amax((1, 2))


def _most_against() -> str:
    names, strongest = _against()
    return names[int(strongest.argmax())]


@exercise(
    "05.1",
    "a photo's name, such as 'cat.jpg'",
    hints=[
        "`cams.class_maps(model, 'block4', pictures, 'orange', counterfactual=True)` gives the maps of all photos.",
        "Compare the maps' greatest values, before they are scaled for the overlay: `maps.amax((1, 2))`.",
    ],
    reference=_most_against,
)
def against_orange(answer: str) -> str:
    """The photo with the strongest evidence against an orange."""
    names, strongest = _against()
    expect(answer in names, f"No sample photo is called {edge.short(answer)!r}: there are {edge.few(names, 12)}.")
    own = strongest[names.index(answer)]
    expect(own > 0, f"The counterfactual map of {answer} is empty: nothing in it speaks against an orange.")
    expect(own == strongest.max(), "Something there speaks against an orange, but in another photo more does.")
    empty = [name for name, each in zip(names, strongest.tolist(), strict=True) if each <= 0]
    return (
        f"Nowhere is more said against an orange than in {answer}. The map is empty for {edge.few(empty, 12)}: not to "
        "be given a class is not the same as to speak against it."
    )


Crop = tuple[str, int, int, int]


def _examined(crop: Crop) -> tuple[bool, bool]:
    """Whether the middle of the crop, and whether its Grad-CAM, lies on the object."""
    name, left, top, side = crop
    boxed = boxes.read(samples(), 192)
    index = boxed.photos.names.index(name)
    network = models.load("minivgg_robust")
    with torch.no_grad():
        label = int(network(images.resize(boxed.photos.pictures[index][None], 96)).argmax())
    cut = images.resize(boxed.photos.pictures[index][None, :, top : top + side, left : left + side], 96)
    moved = (boxed.boxes[index] - torch.tensor([left, top, left, top])) * (96 / side)
    one = boxes.Boxed(images.Photos(cut, [name]), [moved.clamp(0, 96)], [boxed.labels[index]], {})
    maps, _ = cams.class_maps(network, LAYER, cut, label)
    return bool(boxes.hits(faithfulness.centre_maps(cut), one)[0]), bool(boxes.hits(maps.cpu(), one)[0])


def _a_crop() -> Crop:
    """The first crop of a photo in whose middle the object is not, while the map finds it."""
    for name in boxes.read(samples(), 192).photos.names:
        for side in (112, 96, 80):
            for top in range(0, 193 - side, 16):
                for left in range(0, 193 - side, 16):
                    if _examined((name, left, top, side)) == (False, True):
                        return name, left, top, side
    raise LookupError("no crop of the sample photos has its object outside the middle and found")


@exercise(
    "05.2",
    "a crop: a photo's name, then left, top and side in pixels of the 192-pixel photo, such as ('cat.jpg', 0, 0, 96)",
    hints=[
        "Choose the crop so that the object lies in a corner of it: the middle must be more than 0.067 of a side away.",
        "Objects fill most of these photos; take one with a small box, or cut off most of the object.",
    ],
    reference=_a_crop,
)
def out_of_the_middle(answer: Crop) -> str:
    """A crop that the blob in the middle misses and Grad-CAM does not."""
    name, left, top, side = answer
    known = boxes.read(samples(), 192).photos.names
    expect(name in known, f"{edge.short(name)!r} is no sample photo with a box: there are {edge.few(known, 12)}.")
    inside = 32 <= side <= 192 and 0 <= left <= 192 - side and 0 <= top <= 192 - side
    expect(inside, "The crop is to lie inside the 192 pixels, and to have at least 32 of them.")
    middle, found = _examined(answer)
    expect(not middle, "The middle of this crop is still on the object.")
    expect(found, "The middle misses the object, but so does the map.")
    return (
        "Here the blob in the middle loses and the map wins: with objects anywhere, the pointing game can tell them "
        "apart."
    )


def _both_ways() -> tuple[Tensor, Tensor, Tensor, int]:
    """The photo, its Grad-CAM, the mean of it and of its mirror image's (turned back), and the class."""
    network = models.load("minivgg_robust")
    photo = images.read(samples() / "coffee.jpg", 96)[None]
    with torch.no_grad():
        label = int(network(photo).argmax())
    plain, turned = (cams.class_maps(network, LAYER, each, label)[0].cpu() for each in (photo, photo.flip(3)))
    return photo, plain, (plain + turned.flip(2)) / 2, label


@exercise(
    "05.3",
    "a map as a tensor `(1, height, width)`, of the layer's size",
    hints=[
        "Map `photo.flip(3)` for the same class, turn that map back with `.flip(2)`, and take the mean of the two.",
        "Ask for the class that the photo as it is was given, at 96 pixels, both times.",
    ],
    reference=lambda: _both_ways()[2],
)
def without_a_side(answer: Float[Tensor, "1 height width"]) -> str:
    """The mean of a photo's map and of its mirror image's."""
    photo, plain, mean, label = _both_ways()
    expect(
        answer.shape == mean.shape,
        f"The layer's map has {tuple(mean.shape[1:])} cells, not {tuple(answer.shape[1:])}.",
    )
    off = ((answer.float() / answer.max() - mean / mean.max()).abs()).max().item()
    expect(off < 0.02, f"It differs from that mean by {off:.0%} of the greatest value.")
    network = models.load("minivgg_robust")
    before, after = (faithfulness.curves(network, photo, each, [label], 6).areas.item() for each in (plain, mean))
    word = "shrinks" if after < before - 0.005 else "grows" if after > before + 0.005 else "hardly changes"
    return (
        f"The deletion area {word}: {before:.2f} before, {after:.2f} after. What the two maps share is of the photo; "
        "where they differ it was the grid of cells."
    )
