"""The exercises of notebook 13: one photo or nine, brightness with a label, what holds a channel back."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from nbhelpers import edge, models
from nbhelpers.directions import photographs as source
from nbhelpers.exercises.checking import exercise, expect, samples
from nbhelpers.microscope import circuits, photographs, two_choice
from nbhelpers.microscope.channel_study import ChannelStudy
from nbhelpers.microscope.photographs import Seen
from nbhelpers.training.data import Pictures

BEFORE = "block3.conv2"
NEAR = 0.03  # of a share that was asked for


@cache
def _squares() -> tuple[ChannelStudy, models.Network, Pictures, list[str]]:
    recipe = ChannelStudy(photos=str(samples()))
    return (
        recipe,
        models.load(recipe.network),
        *source.read(recipe.photos, recipe.size, recipe.limit, recipe.cuts, recipe.seed),
    )


@cache
def _seen() -> Seen:
    recipe, network, photos, _ = _squares()
    return photographs.look(network, [models.layers(network)[recipe.layer]], photos)[recipe.layer]


def _by_count() -> dict[int, float]:
    """How often the judge is right over the layer's channels, shown their one strongest square or nine."""
    recipe, network, photos, _ = _squares()
    judge, seen = models.load("minivgg"), _seen()
    level = two_choice.level(judge, network, recipe.layer)
    features = two_choice.features(judge, photos.batch(slice(None))[0], [level], recipe.size)[level]
    asked = [two_choice.questions(answers, recipe.asked, seed=recipe.seed) for answers in seen.means.T]
    order = seen.means.argsort(dim=0, descending=True, stable=True).T
    return {count: two_choice.test([features[row[:count]] for row in order], features, asked).share for count in (1, 9)}


@exercise(
    "13.1",
    "two shares by number of squares, such as {1: 0.5, 9: 0.5}",
    hints=[
        "Questions for every channel: `[two_choice.questions(answers, recipe.asked, seed=0) for answers in "
        "seen.means.T]`.",
        "`order = seen.means.argsort(dim=0, descending=True, stable=True).T`, then `two_choice.test([known[row[:1]] "
        "for row in order], known, asked).share`, and the same with `row[:9]`.",
    ],
    reference=_by_count,
)
def one_or_nine(answer: dict[int, float]) -> str:
    """How often the judge is right over all channels of the layer, shown the strongest square or the nine strongest."""
    true = _by_count()
    expect(set(answer) == set(true), "One share each for 1 and 9 squares is asked for.")
    for count, share in true.items():
        expect(abs(answer[count] - share) <= NEAR, f"With {count} the judge is not right in {answer[count]:.0%}.")
    return (
        f"{true[1]:.0%} with one square, {true[9]:.0%} with nine, where guessing gives 50 %. One photo holds much "
        "besides what the channel likes; what nine share is the channel's."
    )


def _of_brightness() -> tuple[str, float, float]:
    """The label that a square's mean brightness separates best, with its area and p-value."""
    _, _, photos, labels = _squares()
    brightness = photos.batch(slice(None))[0].mean((1, 2, 3))[:, None]
    area, chance = photographs.areas(brightness, photos.labels, len(labels))
    best = int(area[:, 0].argmax())
    return labels[best], float(area[best, 0]), float(chance[best, 0])


@exercise(
    "13.2",
    "a label, such as 'cat'",
    hints=[
        "A square's brightness is `photos.batch(slice(None))[0].mean((1, 2, 3))`; `areas` wants a column of it, "
        "`[:, None]`.",
        "`area, chance = photographs.areas(brightness[:, None], photos.labels, len(labels))`; which row is greatest?",
    ],
    reference=lambda: _of_brightness()[0],
)
def brightness_with_a_label(answer: str) -> str:
    """The label that mean brightness, which no network computed, separates best."""
    labels = _squares()[3]
    expect(answer in labels, f"There is no label {edge.short(answer)!r}: there are {edge.few(labels, 12)}.")
    name, area, chance = _of_brightness()
    expect(answer == name, f"Another label is told better by brightness than {answer!r}.")
    return (
        f"Brightness is a {name!r} detector: area {area:.2f}, p {chance:.0e}. The p-value takes squares of one photo "
        "for independent, and they are not: there is one photo of each label, whatever the number of squares."
    )


def _contributions() -> Float[Tensor, " inputs"]:
    """What each channel of the layer before adds to the channel's mean answer over the squares."""
    recipe, network, photos, _ = _squares()
    table = models.layers(network)
    weights = circuits.kernels(network, table[BEFORE], table[recipe.layer])
    with torch.no_grad():
        maps = models.capture(network, BEFORE, stop=True)(photos.batch(slice(None))[0])[BEFORE]
        read = torch.nn.functional.max_pool2d(maps.relu(), 2)
        one = weights[recipe.channel][:, None]
        return torch.nn.functional.conv2d(read, one, padding=1, groups=len(one)).mean((0, 2, 3))


@exercise(
    "13.3",
    "a channel's number, 0 to 351",
    hints=[
        "`adds` holds what each input adds to the channel: the most negative number holds it back most.",
        "`int(adds.argmin())`; by its weights alone another may look worse, but it is seldom awake.",
    ],
    reference=lambda: int(_contributions().argmin()),
)
def held_back(answer: int) -> str:
    """The input whose loss lets the channel's answer rise most."""
    adds = _contributions()
    expect(0 <= answer < len(adds), f"`{BEFORE}` has the channels 0 to {len(adds) - 1}.")
    expect(adds[answer] < 0, f"Channel {answer} does not hold it back: it adds {float(adds[answer]):+.3f}.")
    expect(
        adds[answer] <= adds.min() + 1e-3,
        f"Without channel {answer} it rises by {-float(adds[answer]):.3f}; another does more.",
    )
    return (
        f"Without channel {answer} of `{BEFORE}` the channel's mean answer rises by {-float(adds[answer]):.2f}. A "
        "weight says what an input could do, its activation how often it does; only their product is what happens."
    )
