"""What to maximise: values that read as they compute.

    2 * channel("features.24", [3, 271]) - 0.5 * diversity_loss ...

An `Objective` maps captured activations to one score per picture, shape `(B,)`. More is better, always: penalties
are subtracted. Objectives add, subtract, negate and scale, so a sum of ideas is written as a sum.
Source: Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017, for the idea of objectives as values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from nbhelpers import edge
from nbhelpers.models import log_shares

OUTPUT = ""  # the network's own output: the logits of a classifier
PICTURE = "<picture>"  # the picture itself, before the transforms; always there


class Objective:
    """A score per picture, and the layers it needs to see.

    Args:
        layers: dotted names of the layers whose activations `score` reads.
        score: maps activations by layer name (and the picture, under `PICTURE`) to `(B,)` scores.
        text: how the objective reads.
        of_one: the same for picture i alone; None where its score depends on the other pictures.
        pictures: how many it is for, if it is for so many and no others.
    """

    def __init__(
        self,
        layers: Sequence[str],
        score: Callable[[Mapping[str, Shaped[Tensor, "..."]]], Float[Tensor, " pictures"]],
        text: str,
        of_one: Callable[[int], Objective] | None = None,
        pictures: int | None = None,
    ) -> None:
        self.layers = tuple(dict.fromkeys(layers))
        self.score = score
        self.text = text
        self.of_one, self.pictures = of_one, pictures

    def each(self, pictures: int) -> list[Objective] | None:
        """One objective for each picture of a batch; None where they hang together, or it is for another number."""
        if self.of_one is None or self.pictures not in (None, pictures):
            return None
        return [self.of_one(index) for index in range(pictures)]

    def __call__(self, seen: Mapping[str, Shaped[Tensor, "..."]]) -> Float[Tensor, " pictures"]:
        return self.score(seen)

    def __repr__(self) -> str:
        return self.text

    def __add__(self, other: Objective) -> Objective:
        if not isinstance(other, Objective):
            return NotImplemented
        return Objective(
            self.layers + other.layers,
            lambda seen: self(seen) + other(seen),
            f"{self.text} + {other.text}",
            _both(self.of_one, other.of_one, self.pictures, other.pictures),
            self.pictures if other.pictures is None else other.pictures,
        )

    def __mul__(self, weight: float) -> Objective:
        if not isinstance(weight, int | float):
            return NotImplemented
        of_one = self.of_one
        return Objective(
            self.layers,
            lambda seen: weight * self(seen),
            f"{weight:g} * ({self.text})",
            None if of_one is None else lambda index: weight * of_one(index),
            self.pictures,
        )

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1

    def __sub__(self, other: Objective) -> Objective:
        return self + -other


def channel(layer: str, channels: Sequence[int]) -> Objective:
    """Mean activation of one channel per picture (Erhan et al. 2009).

    Args:
        layer: dotted name; a layer with output `(B, C)`, such as the logits, works too.
        channels: one channel per picture of the batch.
    """

    def score(seen: Mapping[str, Tensor]) -> Tensor:
        return _one_each(_positions(seen[layer]), channels, layer).float().mean(1)

    return Objective(
        [layer],
        score,
        f"channel({layer!r}, {list(channels)})",
        lambda index: channel(layer, [channels[index]]),
        len(channels),
    )


def unit(layer: str, channels: Sequence[int], row: int | None = None, column: int | None = None) -> Objective:
    """Activation of a single unit per picture; the centre of the feature map unless a position is given.

    Args:
        layer: dotted name of a layer that gives feature maps.
        channels: one channel per picture of the batch.
        row, column: the position in the feature map.
    """

    def score(seen: Mapping[str, Tensor]) -> Tensor:
        if seen[layer].ndim != 4:
            raise ValueError(f"unit({layer!r}, ...): this layer gives no feature maps to point into; use channel(...)")
        maps = _one_each(seen[layer], channels, layer)
        height, width = maps.shape[1:]
        y = height // 2 if row is None else row
        x = width // 2 if column is None else column
        if not (0 <= y < height and 0 <= x < width):
            raise ValueError(f"unit ({y}, {x}) is outside the {height} x {width} feature map of layer {layer!r}")
        return maps[:, y, x].float()

    place = "" if row is None and column is None else f", {row}, {column}"
    return Objective(
        [layer],
        score,
        f"unit({layer!r}, {list(channels)}{place})",
        lambda index: unit(layer, [channels[index]], row, column),
        len(channels),
    )


def logit(classes: Sequence[int]) -> Objective:
    """Class logit, one class per picture (Simonyan et al. 2014); the logit, so that no other class need be lowered."""
    objective = channel(OUTPUT, classes)
    text = f"logit({list(classes)})"
    return Objective(objective.layers, objective.score, text, lambda index: logit([classes[index]]), len(classes))


def probability(classes: Sequence[int]) -> Objective:
    """Class probability, as `models.shares` gives it; it also rises when the other classes fall."""
    objective = log_probability(classes)
    return Objective(
        objective.layers,
        lambda seen: objective(seen).exp(),
        f"probability({list(classes)})",
        lambda index: probability([classes[index]]),
        len(classes),
    )


def log_probability(classes: Sequence[int]) -> Objective:
    """Logarithm of the class probability: the logit, less a soft maximum of all logits."""

    def score(seen: Mapping[str, Tensor]) -> Tensor:
        if seen[OUTPUT].ndim != 2:
            raise ValueError(
                f"the network gives {tuple(seen[OUTPUT].shape)}, expected class logits (pictures, classes)"
            )
        return _one_each(log_shares(seen[OUTPUT].float()), classes, OUTPUT)

    text = f"log_probability({list(classes)})"
    return Objective([OUTPUT], score, text, lambda index: log_probability([classes[index]]), len(classes))


def direction(layer: str, vectors: Float[Tensor, "pictures channels"]) -> Objective:
    """Mean projection of the activations on one direction in channel space per picture.

    Args:
        layer: dotted name; a layer with output `(B, C)`, such as the logits, works too.
        vectors: `(B, C)`, scaled to unit length here.
    """
    unit_vectors = torch.nn.functional.normalize(vectors.float(), dim=1)

    def score(seen: Mapping[str, Tensor]) -> Tensor:
        mean = _positions(seen[layer]).float().mean(2)
        if mean.shape != unit_vectors.shape:
            raise ValueError(
                f"layer {layer!r} gives {tuple(mean.shape)} (pictures, channels), but the directions are "
                f"{tuple(unit_vectors.shape)}: one vector per picture, one number per channel"
            )
        return (mean * unit_vectors.to(mean.device, non_blocking=True)).sum(1)

    return Objective(
        [layer],
        score,
        f"direction({layer!r})",
        lambda index: direction(layer, vectors[index : index + 1]),
        len(vectors),
    )


def deep_dream(layer: str) -> Objective:
    """Mean squared activation of a whole layer: more of whatever is there already (Mordvintsev et al. 2015)."""

    def score(seen: Mapping[str, Tensor]) -> Tensor:
        return seen[layer].float().flatten(1).square().mean(1)

    return Objective([layer], score, f"deep_dream({layer!r})", lambda index: deep_dream(layer))


def diversity(layer: str) -> Objective:
    """How unlike the other pictures of the batch each one is, from -1 (the same) to 1.

    Minus the mean cosine between its Gram matrix of channels and those of the others (Olah et al. 2017, appendix);
    0 for a batch of one.
    """

    def score(seen: Mapping[str, Tensor]) -> Tensor:
        activations = _positions(seen[layer]).float()
        grams = torch.nn.functional.normalize((activations @ activations.transpose(1, 2)).flatten(1), dim=1)
        cosines = grams @ grams.T
        others = max(len(cosines) - 1, 1)
        return -(cosines.sum(1) - cosines.diagonal()) / others

    return Objective([layer], score, f"diversity({layer!r})")


def squared_norm() -> Objective:
    """Mean squared distance of the pixels from mid-grey: the L2 penalty of Simonyan et al. 2014, per pixel."""

    def score(seen: Mapping[str, Tensor]) -> Tensor:
        return (seen[PICTURE] - 0.5).flatten(1).square().mean(1)

    return Objective([], score, "squared_norm()", lambda index: squared_norm())


def total_variation() -> Objective:
    """Mean absolute difference between neighbouring pixels (anisotropic total variation, per pixel)."""

    def score(seen: Mapping[str, Tensor]) -> Tensor:
        picture = seen[PICTURE]
        vertical = picture.diff(dim=2).abs().flatten(1).mean(1)
        horizontal = picture.diff(dim=3).abs().flatten(1).mean(1)
        return vertical + horizontal

    return Objective([], score, "total_variation()", lambda index: total_variation())


def _both(
    one: Callable[[int], Objective] | None,
    other: Callable[[int], Objective] | None,
    pictures: int | None,
    others: int | None,
) -> Callable[[int], Objective] | None:
    """The sum of two objectives of one picture, where both have such, for as many pictures."""
    if one is None or other is None or (None not in (pictures, others) and pictures != others):
        return None
    return lambda index: one(index) + other(index)


def _positions(activations: Tensor) -> Tensor:
    """`(B, C, positions)`; logits `(B, C)` have a single one."""
    return activations.flatten(2) if activations.ndim > 2 else activations.unsqueeze(2)


def _one_each(activations: Tensor, channels: Sequence[int], layer: str) -> Tensor:
    """Channel `channels[i]` of picture i."""
    if len(channels) != len(activations):
        raise ValueError(
            f"{len(activations)} pictures but {len(channels)} channels for layer {layer!r}: give one per picture"
        )
    if not all(0 <= index < activations.shape[1] for index in channels):
        raise ValueError(
            f"channels {edge.few(channels)} for layer {layer!r}, which has {activations.shape[1]}: "
            f"each must be from 0 to {activations.shape[1] - 1}"
        )
    chosen = torch.as_tensor(channels).to(activations.device, non_blocking=True)
    return activations[torch.arange(len(channels), device=activations.device), chosen]
