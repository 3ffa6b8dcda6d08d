"""The exercises of notebook 01: where textures begin, one thing or several, a channel that starts dead."""

import torch
from jaxtyping import Float
from torch import Tensor

from nbhelpers import ascent, edge, images, models
from nbhelpers.ascent import objectives
from nbhelpers.exercises.checking import exercise, expect, samples
from nbhelpers.techniques.activation_maximization import ActivationMaximization

ROOM = 24
"""Pixels that a unit must see for a pattern of a few pixels to repeat."""


def _first_with_room() -> str:
    return next(each.name for each in models.layers(models.load("minivgg_robust"), 96) if each.receptive_field >= ROOM)


@exercise(
    "01.1",
    "a layer's name, such as 'block1.conv1'",
    hints=[
        "`models.layers(model, 96)` has a column for the receptive field.",
        "It grows with every convolution and doubles its pace at each pooling; look in block 2.",
    ],
    reference=_first_with_room,
)
def room_for_a_texture(answer: str) -> str:
    """The first layer whose units see 24 pixels."""
    known = {each.name: each.receptive_field for each in models.layers(models.load("minivgg_robust"), 96)}
    expect(answer in known, f"There is no layer {edge.short(answer)!r}.")
    expect(known[answer] >= ROOM, f"A unit of {answer} sees {known[answer]:.0f} pixels.")
    first = _first_with_room()
    expect(answer == first, f"A unit of {answer} sees {known[answer]:.0f} pixels, but an earlier layer sees enough.")
    return (
        f"Before {answer} a unit sees too little for anything to repeat: edges and corners. From here on textures fit."
    )


def _several(diversity: float, steps: int = 24) -> Float[Tensor, "4 3 height width"]:
    recipe = ActivationMaximization(channels=[200] * 4, diversity=diversity, size=64, rounds=1, steps=steps)
    return recipe.run(models.load("minivgg_robust")).picture


@exercise(
    "01.2",
    "several pictures of channel 200 as a tensor `(pictures, 3, height, width)`, at least two",
    hints=[
        "`recipe.changed(channels=[200] * 4, diversity=2).run(model).picture` are four pictures that avoid each other.",
        "The pictures must still excite the channel: a diversity above 5 or so wins over it.",
    ],
    reference=lambda: _several(2),
)
def one_thing_or_several(answer: Float[Tensor, "pictures 3 height width"]) -> str:
    """Pictures that differ and excite the channel all the same."""
    expect(len(answer) >= 2, "One picture cannot differ from the others.")
    network, layer = models.load("minivgg_robust"), "block4.conv1"
    photos = images.read_many(samples(), 96).pictures
    by_photos = ascent.measure(network, objectives.channel(layer, [200] * len(photos)), photos).max()
    scores = ascent.measure(network, objectives.channel(layer, [200] * len(answer)), answer)
    weak = int((scores <= by_photos).sum())
    expect(not weak, f"{weak} of {len(answer)} pictures excite channel 200 less than a photo does.")
    unlike = objectives.diversity(layer)
    others = ascent.measure(network, unlike, _several(0)).mean()
    expect(
        ascent.measure(network, unlike, answer).mean() > others,
        "They are no more unlike than pictures that were made without diversity.",
    )
    return (
        "All of them excite it more than any photo, and they are less alike than without diversity: the channel "
        "likes more than the one thing that a single picture shows."
    )


def _on_noise() -> Float[Tensor, " channels"]:
    start = 0.5 + 0.1 * (torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)) - 0.5)
    layer = "block4.relu1"
    return models.capture(models.load("minivgg_robust"), layer, stop=True)(start)[layer].amax((2, 3))[0]


@exercise(
    "01.3",
    "a channel's number, 0 to 511",
    hints=[
        "Capture `block4.relu1` on the picture `start`: a dead channel is zero everywhere.",
        "`look(start)['block4.relu1'].amax((2, 3))[0]` is each channel's greatest activation.",
    ],
    reference=lambda: int(_on_noise().argmin()),
)
def dead_at_the_start(answer: int) -> str:
    """A channel of a ReLU that noise does not wake."""
    greatest = _on_noise()
    expect(0 <= answer < len(greatest), f"`block4.relu1` has the channels 0 to {len(greatest) - 1}.")
    expect(greatest[answer] <= 0, f"Channel {answer} fires on the noise, up to {greatest[answer]:.3f}.")
    return (
        f"Channel {answer} is zero at every place, and behind a closed ReLU so is its gradient: a plain climb stands "
        "still. `ascend` lets the gradient pass closed ReLUs of that channel until the channel fires."
    )
