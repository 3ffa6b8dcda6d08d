"""Are class pictures pictures of something? Another network says what it sees in them.

A picture that raises a logit can be noise that fools one network only. If a second network, trained otherwise, names
the same class, the picture shows that class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.stats import binomtest
from torch import Tensor, nn

from nbhelpers import edge, images, models
from nbhelpers.models import Network

BATCH = 10  # pictures judged at once


@dataclass(frozen=True)
class Recognition:
    """What a network sees in pictures, and what it should see.

    Attributes:
        judge: name of the network that judged.
        classes: what each picture should show.
        answers: what the judge names first, one per picture.
        ranks: place of the right class among the judge's answers, from 1; None where it knows no such class.
    """

    judge: str
    classes: list[str]
    answers: list[str]
    ranks: list[int | None]

    @property
    def known(self) -> int:
        """How many of the pictures show a class that the judge knows."""
        return sum(rank is not None for rank in self.ranks)

    @property
    def top1(self) -> float:
        """Share of these that the judge names right."""
        return self.within(1)

    @property
    def top5(self) -> float:
        """Share of these with the right class among the judge's first five answers."""
        return self.within(5)

    def within(self, places: int) -> float:
        """Share of the pictures of known classes with the right one among the judge's first answers."""
        return self._right(places) / self.known

    def interval(self, places: int) -> tuple[float, float]:
        """Where the share of all classes these were drawn from lies, with 95 % confidence (Wilson 1927)."""
        low, high = binomtest(self._right(places), self.known).proportion_ci(method="wilson")
        return float(low), float(high)

    @property
    def labels(self) -> list[str]:
        """Two lines per picture, for a sheet: what it should show, and what the judge says."""
        return [
            f"{name}\n" + ("recognised" if rank == 1 else answer if rank is None else f"{answer} (right: no. {rank})")
            for name, answer, rank in zip(self.classes, self.answers, self.ranks, strict=True)
        ]

    def __str__(self) -> str:
        text = (
            f"{self.judge} names {self._told(1)} of {self.known} pictures right, {self._told(5)} within its first five"
        )
        unknown = len(self.ranks) - self.known
        return text + (f"; it does not know the classes of {unknown} others" if unknown else "")

    def _right(self, places: int) -> int:
        return sum(rank is not None and rank <= places for rank in self.ranks)

    def _told(self, places: int) -> str:
        low, high = self.interval(places)
        return f"{100 * self.within(places):.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


@torch.no_grad()
def recognised(
    pictures: Float[Tensor, "pictures 3 height width"], classes: Sequence[str], judge: str | nn.Module
) -> Recognition:
    """Have another network say what it sees in class pictures.

    Classes are matched by name, in any case, or by one of the comma-separated synonyms of either network. A name that
    means several classes of the judge (the two cranes of ImageNet) counts for each of them.

    Args:
        pictures: `(N, 3, H, W)` in [0, 1], one per class; scaled to the judge's size.
        classes: what each picture should show.
        judge: a network with class names.

    Raises:
        ValueError: another number of names than of pictures, the judge has no class names, or knows none of these.
    """
    judge = models.as_network(judge)
    if len(pictures) != len(classes):
        raise ValueError(f"{len(pictures)} pictures but {len(classes)} classes: give one name per picture")
    if judge.classes is None:
        raise ValueError(f"the class names of {judge.name} are not known, so it can't say what it sees")
    matches = [matching(name, judge) for name in classes]
    if not any(matches):
        raise ValueError(f"{judge.name} knows none of these classes: {edge.few(classes)}")
    scaled = images.resize(pictures, judge.size)
    look = models.sharing_copy(judge)
    logits = torch.cat([look(part).float().cpu() for part in scaled.split(BATCH)])
    order = logits.argsort(1, descending=True)
    places = order.argsort(1)
    ranks = [int(places[row, found].min()) + 1 if found else None for row, found in enumerate(matches)]
    return Recognition(judge.name, list(classes), [judge.classes[best] for best in order[:, 0]], ranks)


def matching(name: str, network: Network) -> list[int]:
    """The classes of a network that go by this name or one of its comma-separated synonyms; none if it is unknown.

    As it is written, or else in any case: `Cardigan` is a dog, `cardigan` is worn.
    """
    same = [index for index, known in enumerate(network.classes or []) if known == name]
    wanted = _synonyms(name)
    return same or [index for index, known in enumerate(network.classes or []) if wanted & _synonyms(known)]


def _synonyms(name: str) -> set[str]:
    return {synonym.strip() for synonym in name.lower().split(",")}
