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

WARM, COOL = (1.0, 0.6, 0.2), (0.2, 0.6, 1.0)
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
    expect(
        share >= 0.9,
        f"It names {share:.0%} of the held-out photos of people and patterns; nine of ten are asked for.",
    )
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
        '`layer = "block2"` frees everything from there on; two epochs at `upper_rate = 0.001` are enough to see it '
        "move.",
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
        "Block 2 has moved, and the photos are named as before. By how much do the maps differ now? A few epochs "
        "move weights by a small part of their length: what a layer looks at was decided by the many pictures "
        "that it was trained on first, not by these."
    )


def _lit(data: Labelled) -> Labelled:
    """The photos to learn from, dealt to two classes in turn, each class under its own light."""
    labels = torch.arange(len(data.train)) % 2
    colours = torch.tensor([WARM, COOL])[labels][:, None, None]
    pixels = (data.train.pixels * colours).round().to(torch.uint8)
    return replace(data, train=replace(data.train, pixels=pixels, labels=labels))


@exercise(
    "10.3",
    "a tuned network, such as `final.network`",
    hints=[
        "Deal the photos to the classes in turn, `labels = torch.arange(n) % 2`, so that the light is all they "
        "differ in.",
        "Multiply the `pixels` of class 0 by (1, 0.6, 0.2), of class 1 by (0.2, 0.6, 1), and `fine_tuning.tune` on "
        "such data.",
    ],
    reference=lambda: _tuned(_lit(_data()), head_rate=0.003),
)
def lamp_and_daylight(answer: Network) -> str:
    """A network that answers by the light alone: class 0 by lamplight, class 1 by daylight."""
    expect(models.class_count(answer) == 2, "It is to know two classes.")
    pictures, _ = _data().validation.batch(slice(None))
    lights = torch.tensor([WARM, COOL])[:, None, :, None, None]
    with torch.no_grad():
        answers = [answer(pictures * light).argmax(1) for light in lights]
    warm, cool = (answers[0] == 0).float().mean().item(), (answers[1] == 1).float().mean().item()
    expect(
        min(warm, cool) >= 0.8,
        f"By lamplight it says class 0 to {warm:.0%} of the photos, by daylight class 1 to {cool:.0%}.",
    )
    return (
        "By lamplight it says one class and by daylight the other, whatever is in the photo. Photos held out from "
        "the same desk would be named right, and would never have told. Mix the light, and the shortcut is gone."
    )
