"""The exercises of notebook 02: photos that could refute a story, and channels that are high for everything."""

import torch

from nbhelpers import edge, models
from nbhelpers.exercises.checking import exercise, expect, samples
from nbhelpers.techniques import interpretation_test
from nbhelpers.techniques.interpretation_test import InterpretationTest

TOP = 15


def _measured() -> tuple[list[str], torch.Tensor]:
    evidence = interpretation_test.weigh(InterpretationTest(photos=str(samples())), models.load("minivgg_robust"))
    return evidence.names, evidence.activations


def _favourite(channel: int) -> str:
    names, activations = _measured()
    return names[int(activations[:, channel].argmax())]


def _judged(answer: str, channel: int) -> tuple[int, int, int]:
    """Whether it is the photo that excites the channel most; the channel's place for it among so many channels."""
    names, activations = _measured()
    expect(answer in names, f"No sample photo is called {edge.short(answer)!r}: there are {edge.few(names, 12)}.")
    own = activations[:, channel]
    before = int((own > own[names.index(answer)]).sum())
    expect(not before, f"{before} other sample photos excite channel {channel} more than {answer}.")
    place = interpretation_test.rank(activations, channel)[names.index(answer)]
    high = sum(number <= TOP for number in interpretation_test.rank(activations, channel))
    return place, activations.shape[1], high


@exercise(
    "02.1",
    "a photo's name, such as 'cat.jpg'",
    hints=[
        "`evidence.activations[:, 18]` has one number for each of `evidence.names`.",
        "The greatest of them is the photo to look at: is there a fountain in it?",
    ],
    reference=lambda: _favourite(18),
)
def against_the_fountain(answer: str) -> str:
    """The photo that excites channel 18 most."""
    place, channels, _ = _judged(answer, 18)
    return (
        f"{answer} excites it most (place {place} of {channels}), and there is no fountain in it, only light that "
        "rises before darkness. A photo of a fountain by day would refute the story: if the channel stays low, it "
        "was the light."
    )


def _counts() -> torch.Tensor:
    _, activations = _measured()
    places = [interpretation_test.rank(activations, channel) for channel in range(activations.shape[1])]
    return (torch.tensor(places) <= TOP).sum(1)


@exercise(
    "02.2",
    "a channel's number, 0 to 511",
    hints=[
        "`interpretation_test.rank(evidence.activations, channel)` gives a channel's places, one for each photo.",
        "Count the places up to 15 for each of the 512 channels, and take the greatest count.",
    ],
    reference=lambda: int(_counts().argmax()),
)
def high_for_many(answer: int) -> str:
    """A channel that is among the top 15 for more photos than others are."""
    counts = _counts()
    expect(0 <= answer < len(counts), f"The layer has the channels 0 to {len(counts) - 1}.")
    most = int(counts.max())
    own = int(counts[answer])
    expect(own == most, f"Channel {answer} is among the top {TOP} for {own} of 12 photos; another is for {most}.")
    return (
        f"Channel {answer} is among the top {TOP} for {own} of 12 photos. For each of those the rule supports "
        "whatever story you tell of it; see whether its picture shows what these photos share."
    )


@exercise(
    "02.3",
    "a photo's name, such as 'cat.jpg'",
    hints=[
        "Rank the photos by channel 5, as for channel 18.",
        "`evidence.names[int(evidence.activations[:, 5].argmax())]`",
    ],
    reference=lambda: _favourite(5),
)
def a_story_that_waits(answer: str) -> str:
    """The photo that excites channel 5 most, and what the rule says of it."""
    place, channels, high = _judged(answer, 5)
    return (
        f"{answer} excites channel 5 most, and still the channel is only number {place} of {channels} for it; it is "
        f"among the top {TOP} for {high} of 12 photos. A story of channel 5 cannot be tested with these photos: none "
        "of them is what it waits for."
    )
