"""The exercises of notebook 11: a large attack, a radius at which nothing is left, attacks that carry over."""

import torch
from jaxtyping import Float
from torch import Tensor

from nbhelpers import images, models
from nbhelpers.exercises.checking import exercise, expect, samples
from nbhelpers.training.attack import attack

NETWORKS = ("minivgg", "minivgg_robust")


def _photos() -> images.Photos:
    return images.read_folder(samples(), 64)


def _answers(network: models.Network, pictures: Float[Tensor, "pictures 3 height width"]) -> Tensor:
    with torch.no_grad():
        return network(pictures).argmax(1)


def _attacked(name: str, pictures: Float[Tensor, "pictures 3 height width"], radius: float) -> Tensor:
    network = models.load(name)
    generator = torch.Generator().manual_seed(0)
    return attack(network, pictures, _answers(network, pictures), radius, 10, generator).detach()


def _cat() -> Float[Tensor, "1 3 64 64"]:
    return images.read(samples() / "cat.jpg", 64)[None]


@exercise(
    "11.1",
    "a picture as a tensor `(1, 3, 64, 64)`",
    hints=[
        "`attack(network, cat, answers, 3, 10, generator)`, as in the method's cell, with the cat alone.",
        "Colours stay between 0 and 1, and the change of all pixels together is at most 3 long.",
    ],
    reference=lambda: _attacked("minivgg_robust", _cat(), 3),
)
def a_large_attack(answer: Float[Tensor, "1 3 64 64"]) -> str:
    """The cat, changed by a length of at most 3, so that the robust network takes it for something else."""
    cat, network = _cat(), models.load("minivgg_robust")
    length = (answer - cat).norm().item()
    expect(length <= 3.001, f"The change is {length:.2f} long.")
    expect(answer.min() >= 0 and answer.max() <= 1, "Some colours lie outside 0 and 1.")
    before, after = (int(_answers(network, each)) for each in (cat, answer))
    expect(before != after, "The network's answer is still the same.")
    names = network.classes
    return (
        f"{names[before]} has become {names[after]}. Look at the picture: at this length there is something to be seen."
    )


def _erasing() -> float:
    return (_photos().pictures - 0.5).flatten(1).norm(dim=1).max().item()


@exercise(
    "11.2",
    "a length, such as 4.0",
    hints=[
        "If every photo may become the same picture, nothing tells them apart. Take an even grey of 0.5.",
        "How far is each sample photo (64 pixels) from that grey, all pixels together? The greatest is enough for all.",
    ],
    reference=_erasing,
)
def nothing_is_left(answer: float) -> str:
    """The smallest radius within which every sample photo can be turned into mid-grey."""
    true = _erasing()
    expect(answer >= true - 0.05, f"Within {answer:.1f} at least one photo cannot be turned into grey.")
    expect(answer <= true + 0.05, f"{answer:.1f} is enough, but a smaller radius is, too.")
    return (
        f"Within {true:.1f} the attack may hand every photo over as the same grey, and no training can tell them "
        "apart. In truth learning ends far earlier: halfway to another class is enough."
    )


def _carried() -> dict[str, int]:
    """How many answers of the other network the changes made for each network change."""
    pictures = _photos().pictures
    found = {}
    for name, other in (NETWORKS, NETWORKS[::-1]):
        judge = models.load(other)
        changed = _answers(judge, _attacked(name, pictures, 1.0)) != _answers(judge, pictures)
        found[name] = int(changed.sum())
    return found


@exercise(
    "11.3",
    "two counts by the network that the attack was made for, such as {'minivgg': 3, 'minivgg_robust': 3}",
    hints=[
        "Attack one network (radius 1, ten steps, its own answers), and count the answers of the *other* that change.",
        "`attack(models.load('minivgg'), pictures, answers, 1.0, 10, generator)` shown to `minivgg_robust`, and the "
        "reverse.",
    ],
    reference=_carried,
)
def carried_over(answer: dict[str, int]) -> str:
    """How far attacks made for one network work on the other."""
    expect(set(answer) == set(NETWORKS), f"One count each for {' and '.join(NETWORKS)} is asked for.")
    true = _carried()
    for name in NETWORKS:
        expect(abs(answer[name] - true[name]) <= 1, f"{answer[name]} is not the count for attacks made for {name}.")
    stronger = max(true, key=true.__getitem__)
    return (
        f"More carries over from {stronger}: what changes the robust network's answer is in the picture for anyone to "
        "see; what changes the standard network's is mostly its own."
    )
