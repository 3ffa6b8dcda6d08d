"""The two-choice test: do pictures of a channel tell which of two photos excites it?

People who were shown made pictures of a channel named the strongly exciting of two photos in 82 % of the cases, with
real ones in 92 % (Borowski, Zimmermann et al., "Exemplary Natural Images Explain CNN Activations Better than
State-of-the-Art Feature Visualization", ICLR 2021). Here another network is the judge: it takes the photo whose
features are more like those of the references. It is no person, and what it finds like is not what people do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from nbhelpers import models
from nbhelpers.models import Network

QUESTIONS = 20
RESAMPLED = 2000
JUDGES = {"minivgg_robust": "minivgg", "minivgg": "minivgg_robust"}
"""Each bundled network is judged by the other; any other network by the robust one."""

Weak = Literal["lower half", "middling"]


@dataclass(frozen=True)
class Questions:
    """Pairs of photos for one channel, by number.

    Attributes:
        strong: excite it more.
        weak: excite it less.
    """

    strong: Int[Tensor, " questions"]
    weak: Int[Tensor, " questions"]


@dataclass(frozen=True)
class Verdict:
    """How often the judge was right.

    Attributes:
        shares: per channel, from 0 to 1; a tie counts half.
        low: lower end of the 95 % interval of their mean, by drawing channels anew.
        high: its upper end.
    """

    shares: Float[np.ndarray, " channels"]
    low: float
    high: float

    @property
    def share(self) -> float:
        """The mean over channels; chance is 0.5."""
        return float(self.shares.mean())

    def __str__(self) -> str:
        return f"{self.share:.1%} right [{self.low:.1%}, {self.high:.1%}] of {len(self.shares)} channels; chance 50 %"


def questions(
    answers: Float[Tensor, " photos"], count: int = QUESTIONS, weak: Weak = "lower half", seed: int = 0
) -> Questions:
    """Pairs of a strongly exciting photo and a weakly exciting one, drawn at random.

    The strong one is of ranks 10 to 100 of 5,000, and of the same shares of fewer or more: the nine before them are
    left for references. The weak one is of the lower half, or, which is harder, from the upper tenth to the median.

    Args:
        answers: of the channel to each photo.
        count: of pairs.
        weak: where the weak one comes from.
        seed: of the draw.

    Raises:
        ValueError: fewer than 20 photos, an answer that is not finite, or a channel that answers to all alike.
    """
    photos = len(answers)
    if photos < 20:
        raise ValueError(f"two choices need at least 20 photos, for strong and weak ones; there are {photos}")
    if not answers.isfinite().all():
        raise ValueError("answers that are not finite cannot be ranked: check the network's weights")
    order = answers.argsort(descending=True, stable=True)
    first = min(9, photos // 20)
    strong = order[first : first + max(1, round(photos * 0.018))]
    low, high = (photos // 2, photos) if weak == "lower half" else (photos // 10, photos // 2)
    others = order[low:high]
    others = others[answers[others] < answers[strong].min()]
    if not len(others):
        raise ValueError("the channel answers to strong and weak photos alike: there is nothing to ask about it")
    drawn = torch.Generator().manual_seed(seed)
    pick = lambda some: some[torch.randint(len(some), (count,), generator=drawn)]  # noqa: E731
    return Questions(pick(strong), pick(others))


@torch.no_grad()
def features(
    judge: Network, pictures: Float[Tensor, "pictures 3 height width"], layer: str | None = None, batch_size: int = 64
) -> Float[Tensor, "pictures channels"]:
    """What the judge sees: each channel's mean over a whole picture.

    Args:
        judge: any network.
        pictures: in [0, 1]; scaled to the size that the judge is for.
        layer: whose channels; None for the last with maps.
        batch_size: pictures at a time.
    """
    if layer is None:
        layer = [each.name for each in models.layers(judge) if each.height > 1][-1]
    side = models.sides(judge.size)
    return torch.cat([
        models.pooled_activations(
            judge, layer, torch.nn.functional.interpolate(batch, side, mode="bilinear", antialias=True), batch_size
        )
        for batch in pictures.split(batch_size)
    ])  # fmt: skip


def right(
    references: Float[Tensor, "references channels"], photos: Float[Tensor, "photos channels"], asked: Questions
) -> float:
    """The share of questions for which the strong photo is more like the references, by the mean cosine of features."""
    known = torch.nn.functional.normalize(references.double(), dim=1).mean(0)
    strong, weak = (
        torch.nn.functional.normalize(photos[some].double(), dim=1) @ known for some in (asked.strong, asked.weak)
    )
    return float(((strong > weak).double() + 0.5 * (strong == weak)).mean())


def test(
    references: Sequence[Float[Tensor, "references channels"]],
    photos: Float[Tensor, "photos channels"],
    asked: Sequence[Questions],
) -> Verdict:
    """The judge's verdict over channels.

    Args:
        references: features of each channel's references: made pictures, its strongest photos, or a photo of chance.
        photos: features of all photos.
        asked: the questions of each channel.

    Raises:
        ValueError: no channels, or not as many questions as references.
    """
    if not references or len(references) != len(asked):
        raise ValueError(f"each channel needs references and questions: {len(references)} and {len(asked)} are given")
    shares = np.array([right(each, photos, some) for each, some in zip(references, asked, strict=True)])
    drawn = np.random.default_rng(0).choice(shares, (RESAMPLED, len(shares))).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Verdict(shares, float(low), float(high))


def default_judge(network: Network) -> str:
    """The name of the network that judges when none is named: never the network itself."""
    return JUDGES.get(network.name, "minivgg_robust")
