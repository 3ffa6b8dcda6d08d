"""The exercises of notebook 12: a channel that speaks against, what a mirror keeps, what tells two classes apart."""

import torch

from nbhelpers import edge, images, models
from nbhelpers.directions import photographs
from nbhelpers.exercises.checking import exercise, expect, samples
from nbhelpers.techniques import semantic_dictionary
from nbhelpers.techniques.semantic_dictionary import Look, SemanticDictionary

STRONGEST, TELLING = 6, 20


def _recipe(**changes: object) -> SemanticDictionary:
    return SemanticDictionary(photo=str(samples() / "cat.jpg"), **changes)


def _look(**changes: object) -> Look:
    return semantic_dictionary.look(_recipe(**changes), models.load("minivgg_robust"))


def _against() -> tuple[float, float]:
    look = _look()
    loudest = look.activations.argmax(0, keepdim=True)
    shares = look.shares.gather(0, loudest)[0]
    row, column = divmod(int(shares.argmin()), shares.shape[1])
    return round((row + 0.5) / shares.shape[0], 3), round((column + 0.5) / shares.shape[1], 3)


@exercise(
    "12.1",
    "a place as two shares of the photo, down and across, such as (0.5, 0.25)",
    hints=[
        "Start at the border of the thing, where the background begins: its bar is orange, its share has a minus.",
        "`look.shares.gather(0, look.activations.argmax(0, keepdim=True))[0]` is the loudest channel's share, place "
        "by place.",
    ],
    reference=_against,
)
def loud_and_against(answer: tuple[float, float]) -> str:
    """A place whose strongest channel speaks against the class."""
    expect(all(0 <= each <= 1 for each in answer), "Both shares lie between 0 and 1.")
    (first,) = semantic_dictionary.strongest(_look(), answer, 1)
    expect(
        first.share < 0,
        f"Channel {first.channel} is strongest there and speaks for the class ({first.share:+.3f}).",
    )
    return (
        f"Channel {first.channel} is strongest there, {first.strength:.1f}, and its share is {first.share:+.3f}: what "
        "is loud is not what counts."
    )


def _mirrored() -> list[int]:
    photo = images.read(samples() / "coffee.jpg", 96)[None]
    layer = "block4.conv1"
    both = models.capture(models.load("minivgg_robust"), layer, stop=True)(torch.cat([photo, photo.flip(3)]))[layer]
    row, column = (side // 2 for side in both.shape[2:])
    one, other = both[0, :, row, column], both[1, :, row, both.shape[3] - 1 - column]
    kept = set(one.topk(STRONGEST).indices.tolist()) & set(other.topk(STRONGEST).indices.tolist())
    return sorted(kept)


@exercise(
    "12.2",
    "a list of channels' numbers",
    hints=[
        "Capture `block4.conv1` for the photo and for `photo.flip(3)`; column c of one is column width - 1 - c of "
        "the other.",
        "At 96 pixels the layer has 6 x 6 places: compare `seen[0, :, 3, 3]` with `seen[1, :, 3, 2]`, six strongest "
        "each.",
    ],
    reference=_mirrored,
)
def what_a_mirror_keeps(answer: list[int]) -> str:
    """The entries that stay when the photo is mirrored."""
    true = set(_mirrored())
    expect(not (wrong := set(answer) - true), f"Not among the six strongest both times: {edge.few(sorted(wrong))}.")
    expect(not (missing := true - set(answer)), f"{len(missing)} more are among the six strongest both times.")
    return (
        f"{len(true)} of six stay. Nobody told the network that a cup is a cup in the mirror; as far as its entries "
        "stay, it has found that out from pictures. Try it with one thing on two backgrounds."
    )


def _second() -> str:
    first = _look()
    return models.load("minivgg_robust").class_name(int(first.logits.topk(2).indices[1]))


def _telling() -> list[int]:
    return _look(rival=_second()).shares.sum((1, 2)).topk(TELLING).indices.tolist()


@exercise(
    "12.3",
    f"a list of at most {TELLING} channels' numbers",
    hints=[
        "With `rival` set to the second class the shares are those of the difference of the two logits.",
        f"`look.shares.sum((1, 2)).topk({TELLING}).indices` are the channels that tell the two apart; fewer may do.",
    ],
    reference=_telling,
)
def what_tells_two_apart(answer: list[int]) -> str:
    """Channels without which the second class wins."""
    look, network = _look(), models.load("minivgg_robust")
    expect(0 < len(set(answer)) <= TELLING, f"Between one and {TELLING} channels are asked for.")
    expect(all(0 <= each < len(look.activations) for each in answer), "There are no such channels in this layer.")
    without = look.activations.clone()
    without[answer] = 0
    first, second = look.logits.topk(2).indices.tolist()
    logits = photographs.Behind(network, "block4.conv1", tuple(look.photo.shape[2:]))(without[None])[0]
    gap, left = (float(each[first] - each[second]) for each in (look.logits, logits))
    expect(left < 0, f"Without them the first class is ahead by {left:.2f}; with all channels it is by {gap:.2f}.")
    return (
        f"With all channels the first class is ahead by {gap:.2f}; without these {len(set(answer))} the order of the "
        "two is reversed. What counts between two classes need not be what counts for either."
    )
