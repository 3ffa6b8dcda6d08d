"""The exercises of notebook 10: networks that were tuned are handed in, and looked at in another light."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nbhelpers import models
from nbhelpers.exercises.checking import exercise, expect
from nbhelpers.models import Network
from nbhelpers.techniques import fine_tuning
from nbhelpers.techniques.fine_tuning import FineTuning
from nbhelpers.training.folders import Labelled

WARM, COOL = (1.0, 0.7, 0.4), (0.4, 0.7, 1.0)
"""The lamp's and the daylight's red, green and blue."""


def _data() -> Labelled:
    return fine_tuning.photos(_recipe())


def _recipe(**changes: object) -> FineTuning:
    return FineTuning(head_epochs=8, upper_epochs=0, **changes)


def _tuned(data: Labelled | None = None, **changes: object) -> Network:
    *_, final = fine_tuning.tune(_recipe(**changes), models.load("minivgg_robust"), data)
    return final.network


def _right(network: Network, pictures: Float[Tensor, "photos 3 height width"], labels: Int[Tensor, " photos"]) -> float:
    with torch.no_grad():
        return (network(pictures).argmax(1) == labels).float().mean().item()


def _held_out(network: Network) -> tuple[Tensor, Tensor]:
    """Held-out photos with labels, of which the network names nine of ten."""
    pictures, labels = _data().validation.batch(slice(None))
    share = _right(network, pictures, labels) if models.class_count(network) == 2 else 0
    expect(share >= 0.9, f"It names {share:.0%} of the held-out photos of people and patterns; nine of ten are asked for.")
    return pictures, labels


@exercise(
    "10.1",
    "a tuned network, such as `final.network`",
    hints=[
        "Hand in the network itself: it is judged in colour and in grey.",
        "`grey = batch.mean(1, keepdim=True).expand_as(batch)`; any network that names nine of ten in colour will do.",
    ],
    reference=_tuned,
)
def in_grey(answer: Network) -> str:
    """A network that knows its classes, without their colours."""
    pictures, labels = _held_out(answer)
    share = _right(answer, pictures.mean(1, keepdim=True).expand_as(pictures), labels)
    verdict = "as in colour: red is no shortcut here" if share >= 0.9 else "less than in colour: colour was part of it"
    return f"In grey it names {'nine of ten or more' if share >= 0.9 else f'{share:.0%}'}, {verdict}."


def _freed() -> Network:
    recipe = FineTuning(layer="block2", head_epochs=6, upper_epochs=2, upper_rate=0.001, patience=40)
    *_, final = fine_tuning.tune(recipe, models.load("minivgg_robust"))
    return final.network


@exercise(
    "10.2",
    "a tuned network, such as `final.network`",
    hints=[
        '`layer = "block2"` frees everything from there on; two epochs at `upper_rate = 0.001` are enough to see it move.',
        "It must still name nine of ten held-out photos: a lower rate keeps more of what was learned before.",
    ],
    reference=_freed,
)
def set_free(answer: Network) -> str:
    """A network whose second block has moved."""
    _held_out(answer)
    before = dict(models.load("minivgg_robust").named_parameters())
    moved = {
        name: ((value - before[name]).norm() / before[name].norm()).item()
        for name, value in answer.named_parameters()
        if name in before and value.shape == before[name].shape and value.ndim == 4
    }
    first = max((share for name, share in moved.items() if ".block2." in name), default=0)
    expect(first > 1e-4, "The weights of block 2 are still those of the network that it began as.")
    return (
        "Block 2 has moved, and the photos are named as before. By how much do the maps differ now? A few epochs move weights by a "
        "small part of their length: what a layer looks at was decided by a million pictures, not by these."
    )


def _lit(data: Labelled, lights: tuple[tuple[float, ...], tuple[float, ...]]) -> Labelled:
    """The photos to learn from, each class under its own light."""
    colours = torch.tensor(lights)[data.train.labels][:, None, None]
    return replace(data, train=replace(data.train, pixels=(data.train.pixels * colours).round().to(torch.uint8)))


@exercise(
    "10.3",
    "a tuned network, such as `final.network`",
    hints=[
        "Multiply the `pixels` of one class by (1, 0.7, 0.4) and of the other by (0.4, 0.7, 1), and tune on them.",
        "`fine_tuning.tune(recipe, model, data)` takes such data; the head alone is enough.",
    ],
    reference=lambda: _tuned(_lit(_data(), (WARM, COOL))),
)
def lamp_and_daylight(answer: Network) -> str:
    """A network that has learned the light: people by lamplight, patterns by daylight."""
    pictures, labels = _data().validation.batch(slice(None))
    lights = torch.tensor([WARM, COOL])[:, :, None, None]
    expect(models.class_count(answer) == 2, "It is to know two classes, people and patterns.")
    own, swapped = (_right(answer, pictures * lights[each], labels) for each in (labels, 1 - labels))
    expect(own >= 0.9, f"In the light that each class was learned in, it names {own:.0%} of the held-out photos.")
    expect(swapped < own - 0.2, f"With the lights exchanged it still names {swapped:.0%}: it has not learned the light.")
    return (
        "Held-out photos in the light of their class are named right, and with the lights exchanged they are not: a validation set "
        "taken on the same desk would never have told. Mix the light, and the shortcut is gone."
    )
