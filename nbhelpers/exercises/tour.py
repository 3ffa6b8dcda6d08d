"""The exercises of notebook 00: layers, answers and channels of a network that is new to the reader."""

from typing import Literal

import torch

from nbhelpers import edge, images, models
from nbhelpers.exercises.checking import exercise, expect, samples

PARTS = ("names", "channels", "receptive fields", "weights", "activations")
Part = Literal["names", "channels", "receptive fields", "weights", "activations"]
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "grey": (1 / 3, 1 / 3, 1 / 3)}


def _kept() -> list[str]:
    trained, untrained = models.load("minivgg"), models.load("minivgg", weights=None)
    tables = [models.layers(network, 128) for network in (trained, untrained)]
    photo = images.read(samples() / "coffee.jpg", 128)[None]
    weights = zip(trained.parameters(), untrained.parameters(), strict=True)
    seen = [models.capture(network, "block4", stop=True)(photo)["block4"] for network in (trained, untrained)]
    same = [
        [each.name for each in tables[0]] == [each.name for each in tables[1]],
        [each.channels for each in tables[0]] == [each.channels for each in tables[1]],
        [each.receptive_field for each in tables[0]] == [each.receptive_field for each in tables[1]],
        all(torch.equal(one, other) for one, other in weights),
        torch.equal(*seen),
    ]
    return [part for part, kept in zip(PARTS, same, strict=True) if kept]


@exercise(
    "00.1",
    f"a list of some of {', '.join(map(repr, PARTS))}",
    hints=[
        "Put `models.layers(trained, 128)` beside the same of the untrained network, column by column.",
        "A receptive field follows from kernels and strides. Do those come from training?",
    ],
    reference=_kept,
)
def what_training_leaves(answer: list[Part]) -> str:
    """What an untrained network has in common with the trained one."""
    kept = set(_kept())
    expect(not (wrong := set(answer) - kept), f"{edge.few(sorted(wrong))}: not the same in both networks.")
    expect(not (missing := kept - set(answer)), f"{len(missing)} more of the five did not change.")
    return (
        "The architecture decides what the table says; only weights, and with them all activations, come from training."
    )


def _answers() -> tuple[list[str], torch.Tensor]:
    network, photos = models.load("minivgg_robust"), images.read_many(samples(), 128)
    with torch.no_grad():
        return photos.names, network(photos.pictures).softmax(1)


def _surest() -> str:
    names, probabilities = _answers()
    return names[int(probabilities.amax(1).argmax())]


@exercise(
    "00.2",
    "a photo's name, such as 'cat.jpg'",
    hints=[
        "The greatest number in each row of `probabilities` is how sure the network is of that photo.",
        "`probabilities.amax(1).argmax()` is a place in `photos.names`.",
    ],
    reference=_surest,
)
def surest(answer: str) -> str:
    """The photo that the network is surest of."""
    names, probabilities = _answers()
    expect(answer in names, f"No sample photo is called {edge.short(answer)!r}: there are {edge.few(names, 12)}.")
    own = probabilities[names.index(answer)].max()
    best = int(probabilities.amax(1).argmax())
    expect(own >= probabilities.max(), f"Of {answer} it is {own:.0%} sure; of another photo it is surer.")
    label = models.load("minivgg_robust").classes[int(probabilities[best].argmax())]
    return (
        f"It is {own:.0%} sure that {answer} shows: {label}. Of the classes it has, none other comes near; whether "
        "that is what *you* see is no part of a probability."
    )


def _by_colour() -> torch.Tensor:
    flat = torch.tensor(list(COLOURS.values()))[:, :, None, None].expand(-1, -1, 32, 32)
    network = models.load("minivgg_robust")
    return models.capture(network, "stem.conv", stop=True)(flat)["stem.conv"].clamp(min=0).mean((2, 3))


@exercise(
    "00.3",
    "a channel's number, 0 to 31",
    hints=[
        "Show `stem.conv` four pictures of one colour each, as light as each other: red, green, blue and grey.",
        "Subtract the greatest of the other three means, clamped at zero, from the one for red.",
    ],
    reference=lambda: int((_by_colour()[0] - _by_colour()[1:].amax(0)).argmax()),
)
def red(answer: int) -> str:
    """A channel that a name can be put to: it prefers red."""
    means = _by_colour()
    expect(0 <= answer < means.shape[1], f"`stem.conv` has the channels 0 to {means.shape[1] - 1}.")
    favourite = list(COLOURS)[int(means[:, answer].argmax())]
    expect(means[:, answer].max() > 0, f"Channel {answer} is silent for all four colours.")
    expect(favourite == "red", f"Channel {answer} answers most to {favourite}.")
    return f"Channel {answer} gives {means[0, answer]:.2f} for red and {means[1:, answer].max():.2f} for the next best."
