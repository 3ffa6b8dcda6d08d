"""The two-choice test: do pictures of a channel tell which of two photos excites it?

People who were shown made pictures of a channel named the strongly exciting of two photos in 82 % of the cases, with
real ones in 92 % (Borowski, Zimmermann et al., "Exemplary Natural Images Explain CNN Activations Better than
State-of-the-Art Feature Visualization", ICLR 2021). Here another network is the judge: it takes the photo whose
features are more like those of the references. It is no person, and what it finds like is not what people do.

Features count as far as they differ from those of the mean photo. They are never negative, so all photos are much alike
to a judge, and a photo nearer to that mean is more like any reference whatever; a channel that likes such photos would
be told by a picture of anything. Without the mean a photo drawn at random is no help, as it should be. And the judge
looks at a layer of its own that sees as much as the layer in question: its last one finds things alike, not textures.
"""

from __future__ import annotations

import math
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
ANY = 20  # photos drawn for each channel, one after the other, where chance is asked
JUDGES = {"minivgg_robust": "minivgg", "minivgg": "minivgg_robust"}
"""Each bundled network is judged by the other; any other network by the robust one."""

WHOLE = 4
"""Units that see more than this many times the picture's side are all alike in what they see."""

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
    first = spared(photos)
    strong = order[first : first + max(1, round(photos * 0.018))]
    low, high = (photos // 2, photos) if weak == "lower half" else (photos // 10, photos // 2)
    others = order[low:high]
    others = others[answers[others] < answers[strong].min()]
    if not len(others):
        raise ValueError("the channel answers to strong and weak photos alike: there is nothing to ask about it")
    drawn = torch.Generator().manual_seed(seed)
    pick = lambda some: some[torch.randint(len(some), (count,), generator=drawn)]  # noqa: E731
    return Questions(pick(strong), pick(others))


def spared(photos: int) -> int:
    """How many of a channel's strongest photos no question is about, so that they can be references."""
    return min(9, photos // 20)


def level(judge: Network, network: Network, layer: str) -> str:
    """The judge's layer that sees as much of its pictures as a layer does of its own network's: textures are judged by
    what answers to textures, things by what answers to things.

    Raises:
        KeyError: the network has no such layer. ValueError: the judge has none with maps.
    """

    def seen(table: models.LayerTable, of: Network, name: str) -> float:
        side = min(models.sides(of.size))
        return math.log(min(table[name].receptive_field, WHOLE * side) / side)

    table = models.layers(judge)
    maps = [each for each in table if each.height > 1]
    rectified = [each.name for each in maps if each.kind == "ReLU"] or [each.name for each in maps]
    if not rectified:
        raise ValueError(f"{judge.name} has no layer with maps to judge by: name another network")
    wanted = seen(models.layers(network), network, layer)
    return min(reversed(rectified), key=lambda name: abs(seen(table, judge, name) - wanted))


@torch.no_grad()
def features(
    judge: Network,
    pictures: Float[Tensor, "pictures 3 height width"],
    layers: Sequence[str],
    whole: int,
    batch_size: int = 64,
) -> dict[str, Float[Tensor, "pictures _"]]:
    """What the judge sees: each channel's mean over a picture, by layer.

    Args:
        judge: any network.
        pictures: in [0, 1]; scaled as a whole photo is, so that textures are as fine in smaller pictures as in photos.
        layers: whose channels.
        whole: side of a whole photo in pixels, which is scaled to the size that the judge is for.
        batch_size: pictures at a time.
    """
    factor = min(models.sides(judge.size)) / whole
    height, width = (max(16, round(side * factor)) for side in pictures.shape[2:])
    look, found = models.capture(judge, *layers, stop=True), {name: [] for name in layers}
    for batch in pictures.split(batch_size):
        scaled = torch.nn.functional.interpolate(batch, (height, width), mode="bilinear", antialias=True)
        seen = look(scaled.to(judge.mean.device))
        for name, parts in found.items():
            parts.append(seen[name].float().mean((2, 3)).cpu())
    return {name: torch.cat(parts) for name, parts in found.items()}


def judged(
    references: Sequence[Float[Tensor, "references channels"]],
    photos: Float[Tensor, "photos channels"],
    asked: Sequence[Questions],
) -> Float[np.ndarray, "asked questions"]:
    """What the judge answers: the photo with the higher mean cosine between its features and those of the references.

    Args:
        references: features of each channel's references: made pictures, its strongest photos, or a photo of chance.
        photos: features of all photos, whose mean is taken from all features first.
        asked: as many questions of each channel.

    Returns:
        1 where it takes the strong photo, 0 where it takes the weak one, 0.5 where it finds both alike.

    Raises:
        ValueError: no channels, or not as many questions as references.
    """
    if not references or len(references) != len(asked):
        raise ValueError(f"each channel needs references and questions: {len(references)} and {len(asked)} are given")
    mean = photos.double().mean(0)
    apart = lambda features: torch.nn.functional.normalize(features.double() - mean, dim=1)  # noqa: E731
    rows = []
    for each, some in zip(references, asked, strict=True):
        known = apart(each).mean(0)
        strong, weak = (apart(photos[chosen]) @ known for chosen in (some.strong, some.weak))
        rows.append((strong > weak).double() + 0.5 * (strong == weak))
    return torch.stack(rows).numpy()


def test(
    references: Sequence[Float[Tensor, "references channels"]],
    photos: Float[Tensor, "photos channels"],
    asked: Sequence[Questions],
) -> Verdict:
    """The judge's verdict over channels, from arguments as `judged` takes them."""
    return verdict(judged(references, photos, asked).mean(1))


def by_chance(photos: Float[Tensor, "photos channels"], asked: Sequence[Questions], seed: int = 0) -> Verdict:
    """The verdict where the judge is shown any photo, which must not help: the mean over several, drawn one by one."""
    drawn = torch.randint(len(photos), (ANY, len(asked)), generator=torch.Generator().manual_seed(seed))
    return verdict(np.mean([judged(list(photos[some][:, None]), photos, asked).mean(1) for some in drawn], axis=0))


def verdict(shares: Float[np.ndarray, " channels"]) -> Verdict:
    """Shares of channels with the 95 % interval of their mean; of differences between two verdicts' as well."""
    drawn = np.random.default_rng(0).choice(shares, (RESAMPLED, len(shares))).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Verdict(shares, float(low), float(high))


def default_judge(network: Network) -> str:
    """The name of the network that judges when none is named: never the network itself."""
    return JUDGES.get(network.name, "minivgg_robust")
