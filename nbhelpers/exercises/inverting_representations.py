"""The exercises of notebook 04: what a ReLU throws away, what seeds share, what the weakest channels keep."""

import torch
from jaxtyping import Float
from torch import Tensor

from nbhelpers import ascent, images, models
from nbhelpers.exercises.checking import exercise, expect, samples
from nbhelpers.techniques.inversion import Inversion, representations


def _thrown_away() -> float:
    photo = images.read(samples() / "cat.jpg", 112)[None]
    layer = "block3.conv2"
    seen = models.capture(models.load("minivgg_robust"), layer, stop=True)(photo)[layer]
    return (seen <= 0).float().mean().item()


@exercise(
    "04.1",
    "a share between 0 and 1, such as 0.25",
    hints=[
        "Capture `block3.conv2` for `cat.jpg` at 112 pixels. What does a ReLU make of a number below zero?",
        "`(seen <= 0).float().mean()`",
    ],
    reference=_thrown_away,
)
def behind_the_relu(answer: float) -> str:
    """The share of a convolution's values that its ReLU sets to zero."""
    true = _thrown_away()
    expect(abs(answer - true) < 0.01, f"It is not {answer:.2f}.")
    return (
        f"The ReLU sets {true:.0%} of the numbers to zero, and how far below zero they were is forgotten: the "
        "convolution before it says more of the photo."
    )


def _several() -> Float[Tensor, "3 3 height width"]:
    recipe = Inversion(photos=str(samples() / "cat.jpg"), layer="block4", size=64, steps=60)
    network = models.load("minivgg_robust")
    return torch.cat([recipe.changed(seed=seed).run(network).picture for seed in range(3)])


@exercise(
    "04.2",
    "at least two pictures as a tensor `(pictures, 3, size, size)`",
    hints=[
        '`recipe.changed(layer="block4", seed=seed).run(model).picture` for several seeds, and `torch.cat`.',
        "They must come from the cat, with enough steps to be nearer to its features than any other photo is.",
    ],
    reference=_several,
)
def what_seeds_share(answer: Float[Tensor, "pictures 3 size size"]) -> str:
    """Pictures with the cat's features that are not the same picture."""
    expect(len(answer) >= 2, "One picture cannot be compared.")
    photos = images.read_many(samples(), answer.shape[-1])
    cat = photos.pictures[photos.names.index("cat.jpg")][None]
    network = models.load("minivgg_robust")

    def errors(pictures: Tensor) -> Tensor:
        target = representations.represent(network, "block4", cat.expand(len(pictures), -1, -1, -1))
        return -ascent.measure(network, representations.feature_distance(target), pictures)

    others = photos.pictures[[name != "cat.jpg" for name in photos.names]]
    own, nearest = errors(answer).abs(), errors(others).abs().min()
    far = int((own >= nearest / 2).sum())
    expect(not far, f"{far} of the pictures are more than half as far from the cat's features as another photo is.")
    flat = answer.flatten(1)
    alike = torch.corrcoef(flat)[0, 1:].max().item()
    expect(alike < 0.98, "Two of them are the same picture, pixel by pixel.")
    return (
        "All of them give the layer nearly what the cat gives it, and no two are the same in pixels. What they "
        "share, the kinds of texture and roughly where, is what the layer knows; the rest is the seed's."
    )


def _means() -> Float[Tensor, " channels"]:
    photo = images.read(samples() / "cat.jpg", 112)[None]
    layer = "block3.relu2"
    return models.capture(models.load("minivgg_robust"), layer, stop=True)(photo)[layer].mean((0, 2, 3))


@exercise(
    "04.3",
    "a list of ten channels' numbers",
    hints=[
        "`target.features.mean((0, 2, 3))` has one number for each channel; sort them upwards.",
        "Layer `block3.relu2`, `cat.jpg` at 112 pixels: `.argsort()[:10].tolist()`.",
    ],
    reference=lambda: _means().argsort()[:10].tolist(),
)
def the_weakest(answer: list[int]) -> str:
    """The ten channels that respond least to the photo."""
    means = _means()
    expect(len(set(answer)) == 10, f"{len(set(answer))} different channels are not ten.")
    expect(all(0 <= each < len(means) for each in answer), f"The layer has the channels 0 to {len(means) - 1}.")
    bound = means.sort().values[9]
    strong = int((means[answer] > bound).sum())
    expect(not strong, f"{strong} of these channels respond more than the ten weakest.")
    silent = int((means[answer] == 0).sum())
    return (
        f"{silent} of the ten are silent for the cat. That a channel is silent is knowledge, too, but of what is not "
        "in the photo: an inversion of these alone has next to nothing to go by."
    )
