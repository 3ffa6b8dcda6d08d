"""A concept from examples: photos with it and photos without it, and the direction that tells them apart.

A linear classifier between what a layer gives for both has a normal vector, the concept's direction (Kim et al. 2018,
"Interpretability Beyond Feature Attribution"). A class is sensitive to the concept if a small step along it would raise
the class's logit, and that for more of its photos than a step along directions between random photos and random ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nbhelpers import models
from nbhelpers.directions.photographs import Behind

RANDOM = 20
"""Random splits that a concept is compared with."""


@dataclass
class Example:
    """A concept from examples.

    Attributes:
        direction: `(C,)`, of unit length, from without to with.
        accuracy: share of held-out examples that it puts on the right side.
        random_accuracies: the same for random splits of the same photos.
        random_directions: their directions, `(RANDOM, C)`.
    """

    direction: Float[Tensor, " channels"]
    accuracy: float
    random_accuracies: list[float]
    random_directions: Float[Tensor, "random channels"]

    @property
    def p_value(self) -> float:
        """How often a random split is told apart as well."""
        as_well = sum(accuracy >= self.accuracy for accuracy in self.random_accuracies)
        return (1 + as_well) / (1 + len(self.random_accuracies))


@dataclass
class Sensitivity:
    """How a class depends on a concept.

    Attributes:
        share: of the class's photos whose logit would rise along the concept.
        random_shares: the same along random splits' directions.
    """

    share: float
    random_shares: list[float]

    @property
    def p_value(self) -> float:
        """How often a random direction is as far from one half."""
        as_far = sum(abs(share - 0.5) >= abs(self.share - 0.5) for share in self.random_shares)
        return (1 + as_far) / (1 + len(self.random_shares))


def learn(
    with_it: Float[Tensor, "positive channels"], without_it: Float[Tensor, "negative channels"], seed: int = 0
) -> Example:
    """The direction between examples with a concept and examples without.

    Args:
        with_it, without_it: what a layer gives for both, at least four of each.
        seed: of the random splits.

    Raises:
        ValueError: too few examples, or numbers that are not finite.
    """
    if min(len(with_it), len(without_it)) < 4:
        raise ValueError(
            f"{len(with_it)} photos with the concept and {len(without_it)} without: at least four of each are needed, "
            "half of them to learn from and half to test"
        )
    generator = torch.Generator().manual_seed(seed % 2**63)
    together = torch.cat([with_it, without_it])
    if not together.isfinite().all():
        raise ValueError("some activations of the examples are not finite: check the network's weights")
    shuffled = [together[torch.randperm(len(together), generator=generator)] for _ in range(RANDOM)]
    direction, accuracy = _separate(with_it, without_it)
    random = [_separate(each[: len(with_it)], each[len(with_it) :]) for each in shuffled]
    return Example(direction, accuracy, [each[1] for each in random], torch.stack([each[0] for each in random]))


def sensitivity(
    behind: Behind, example: Example, maps: Float[Tensor, "photos channels height width"], label: int
) -> Sensitivity:
    """Share of a class's photos whose logit would rise along a concept, and along random directions.

    Args:
        behind: the network behind the layer.
        example: the concept.
        maps: what the layer gives for photos of the class.
        label: the class.
    """
    with models.differentiable():
        maps = maps.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(behind(maps)[:, label].sum(), maps)
    slopes = gradient.sum((2, 3)) @ torch.cat([example.direction[None], example.random_directions]).T
    shares = (slopes > 0).float().mean(0).tolist()
    return Sensitivity(shares[0], shares[1:])


def _separate(first: Tensor, second: Tensor) -> tuple[Tensor, float]:
    """Direction from the second to the first, learned from every other one of each; share of the rest put right."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def halves(start: int) -> tuple:
        some = torch.cat([first[start::2], second[start::2]]).double().numpy()
        return some, [1] * len(first[start::2]) + [0] * len(second[start::2])

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    model.fit(*halves(0))
    normal = model[1].coef_[0] / model[0].scale_
    found = model.predict(halves(1)[0]) == halves(1)[1]
    positive = torch.tensor(halves(1)[1], dtype=torch.bool).numpy()
    accuracy = (found[positive].mean() + found[~positive].mean()) / 2
    return F.normalize(torch.from_numpy(normal).float(), dim=0), float(accuracy)
