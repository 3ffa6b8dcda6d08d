"""A palette: the principal components of a layer, and what turns them into colours.

    seen = observe(network, stages, pictures)       # a batch's features, and where its finer stages are active
    palette = learn(network, stages, size, [seen])
    palette.paint(seen, [1, 2, 3])                  # one RGB map per photo

What is painted depends on the photo and on the palette alone, so a palette learnt on thousands of photos gives the
same colour the same meaning in every batch. `palette_learning` learns one from a folder.

Source: Bakken, Kvam, Stepanov, Berge, "Principal Feature Visualisation in Convolutional Neural Networks", ECCV 2020.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional as F

from nbhelpers import edge, models
from nbhelpers.models import Layer, capture
from nbhelpers.models.covariance import Moments, exact_device, leading

KEPT = 9  # components in a palette, where there are as many
SMALLEST = 1e-6  # a component with less than this share of the first one's variance is rounding, not a feature


@dataclass
class Seen:
    """What a network gives for a batch of photos.

    Attributes:
        features: activations of the layer that is decomposed, `(B, C, h, w)`.
        energies: of each finer stage, from fine to coarse, the activations' magnitudes summed over its channels,
            `(B, 1, H_s, W_s)`. Behind a ReLU that is their sum.
        size: height and width of the photos in pixels.
    """

    features: Float[Tensor, "photos channels height width"]
    energies: list[Float[Tensor, "photos 1 _ _"]]
    size: tuple[int, int]


class Spread:
    """Count, mean, sum of squared deviations and extremes of each component's map, over all pixels added."""

    def __init__(self, values: Float64[Tensor, "..."] | None = None) -> None:
        self.values = values  # (5, k) float64: those five in this order

    def add(self, maps: Float[Tensor, "photos components height width"]) -> None:
        """Add maps `(B, k, H, W)`."""
        flat = maps.transpose(0, 1).flatten(1).to(exact_device(maps.device)).double()
        mean = flat.mean(1)
        squares = (flat - mean[:, None]).square().sum(1)
        count = torch.full_like(mean, flat.shape[1])
        added = torch.stack([count, mean, squares, flat.amin(1), flat.amax(1)]).cpu()
        self.values = _merged(self.values, added)

    def over(self, components: Sequence[int]) -> tuple[float, float, float, float]:
        """Mean, standard deviation, least and greatest value of these components (from 0) taken together."""
        total = None
        for component in components:
            total = _merged(total, self.values[:, component, None])
        count, mean, squares, low, high = total[:, 0].tolist()
        return mean, (squares / count) ** 0.5, low, high


@dataclass
class Palette:
    """Principal components and the spread of their maps.

    Attributes:
        network, layer: whose features these are.
        shallower: names of the finer stages that weight the maps, from fine to coarse.
        hierarchical, upsampling: how they do.
        mean: of the features, `(C,)` float64.
        directions: one component a row, `(k, C)` float64, from large to small variance.
        variances: of the components, `(k,)` float64.
        total: variance of all features together.
        count: number of positions they were learnt from.
        maxima: the greatest energy of each finer stage, `(S,)`.
        spread: of the components' maps.
    """

    network: str
    layer: str
    shallower: list[str]
    hierarchical: bool
    upsampling: str
    mean: Float64[Tensor, " channels"]
    directions: Float64[Tensor, "components channels"]
    variances: Float64[Tensor, " components"]
    total: float
    count: int
    maxima: Float[Tensor, " stages"]
    spread: Spread

    @property
    def explained(self) -> Float[Tensor, " components"]:
        """Share of the variance that each component explains, `(k,)`."""
        return self.variances / self.total

    def scores(
        self, features: Float[Tensor, "photos channels height width"]
    ) -> Float[Tensor, "photos components height width"]:
        """Coordinates of features `(B, C, h, w)` along the components, `(B, k, h, w)` float32."""
        directions = self.directions.to(features)
        offset = (self.directions @ self.mean).to(features)
        return torch.einsum("kc,bchw->bkhw", directions, features) - offset[:, None, None]

    def maps(self, seen: Seen) -> Float[Tensor, "photos components height width"]:
        """The components' maps at the photos' size, weighted by the finer stages, `(B, k, H, W)`."""
        maps = self.scores(seen.features)
        options = {"mode": self.upsampling}
        if self.upsampling != "nearest":
            options["align_corners"] = False
        if self.hierarchical:
            for energy, largest in zip(reversed(seen.energies), reversed(self.maxima.tolist()), strict=True):
                maps = F.interpolate(maps, size=energy.shape[2:], **options) * (energy / largest)
            return F.interpolate(maps, size=seen.size, **options)
        maps = F.interpolate(maps, size=seen.size, **options)
        if seen.energies:
            maps = maps * sum(F.interpolate(energy, size=seen.size, **options) for energy in seen.energies)
        return maps

    def paint(
        self, seen: Seen, components: Sequence[int] = (1, 2, 3), n_sigma: float = 1.0
    ) -> Float[Tensor, "photos 3 height width"]:
        """One RGB map per photo.

        Args:
            seen: from `observe`, of the palette's network and layers.
            components: numbers, from 1, of those shown as red, green and blue.
            n_sigma: standard deviations at which values are clipped.

        Returns:
            `(B, 3, H, W)` in [0, 1].

        Raises:
            ValueError: the palette has no such component.
        """
        chosen = [number - 1 for number in check_components(components, len(self.variances), self.layer)]
        mean, deviation, low, high = self.spread.over(chosen)
        if not deviation > 0:
            raise ValueError(
                f"the maps of layer {self.layer!r} are the same at every pixel of all photos; there is nothing to "
                "contrast: take other photos or another layer"
            )
        low, high = max(-n_sigma, (low - mean) / deviation), min(n_sigma, (high - mean) / deviation)
        maps = (self.maps(seen)[:, chosen] - mean) / deviation
        return (maps.clamp(low, high) - low) / (high - low)


class Learner:
    """Learns a palette in two passes: `add` every batch, `settle`, then `measure` every batch (or many of them)."""

    def __init__(
        self,
        network: models.Network,
        layer: Layer,
        finer: Sequence[Layer],
        hierarchical: bool = False,
        upsampling: str = "bilinear",
    ) -> None:
        self.names = {"network": network.name, "layer": layer.name, "shallower": [each.name for each in finer]}
        self.manner = {"hierarchical": hierarchical, "upsampling": upsampling}
        self.device = network.mean.device
        self.moments = Moments(layer.channels, self.device)
        self.maxima = torch.zeros(len(finer), dtype=torch.float64)
        self.palette: Palette | None = None

    def add(self, seen: Seen) -> None:
        """First pass: a batch's features."""
        self.moments.add(seen.features)
        largest = [energy.amax().cpu().double() for energy in seen.energies]
        self.maxima = torch.maximum(self.maxima, torch.stack(largest)) if largest else self.maxima

    def settle(self) -> Palette:
        """Make the components of everything added final.

        Raises:
            ValueError: the features do not vary.
        """
        self.palette = self.draft()
        return self.palette

    def draft(self) -> Palette:
        """The components of what has been added so far, without the spread of their maps."""
        covariance, layer = self.moments.covariance, self.names["layer"]
        total = covariance.trace().item()
        if not total > 1e-12 * self.moments.mean.square().sum().item():
            raise ValueError(
                f"the features of layer {layer!r} are the same everywhere (zero variance), so they have no principal "
                "components: take photos that differ, or another layer"
            )
        kept = max(1, min(KEPT, len(covariance), self.moments.count - 1))
        variances, directions = leading(covariance, kept)
        rank = int((variances > SMALLEST * variances[0]).sum())
        return Palette(
            **self.names,
            **self.manner,
            mean=self.moments.mean.clone(),
            directions=directions[:rank],
            variances=variances[:rank],
            total=total,
            count=self.moments.count,
            maxima=self.maxima.clamp(min=torch.finfo(torch.float32).tiny),
            spread=Spread(),
        )

    def measure(self, seen: Seen) -> None:
        """Second pass: how far the components' maps spread."""
        self.palette.spread.add(self.palette.maps(seen))


@torch.no_grad()
def observe(
    network: nn.Module,
    layer: str,
    finer: Sequence[str],
    pictures: Float[Tensor, "photos 3 height width"],
    batch_size: int = 8,
) -> Seen:
    """The features of photos and the energies of the finer stages.

    Args:
        network: a `Network` or any module; left as it is.
        layer: dotted name of the layer to decompose.
        finer: names of the stages that weight it, from fine to coarse.
        pictures: `(B, 3, H, W)` in [0, 1].
        batch_size: photos at a time; bounds the memory, not the result.

    Raises:
        ValueError: an activation is not finite (says of which layer and which photo).
    """
    parts: list[list[Tensor]] = []
    like = next(network.parameters())
    look = capture(network, layer, *finer, stop=True)
    for number, batch in enumerate(pictures.split(batch_size)):
        seen = look(batch.to(like))
        part = [seen[layer].float()] + [seen[name].float().abs().sum(1, keepdim=True) for name in finer]
        for name, values in zip([layer, *finer], part, strict=True):
            finite = values.flatten(1).isfinite().all(1)
            if not finite.all():
                first = number * batch_size + int((~finite).nonzero()[0])
                raise ValueError(
                    f"layer {name!r} gives values that are not finite for photo number {first + 1} of the batch; "
                    "check the network's weights, or leave the photo out"
                )
        parts.append(part)
    features, *energies = (torch.cat(part) for part in zip(*parts, strict=True))
    return Seen(features, list(energies), tuple(pictures.shape[2:]))


def learn(learner: Learner, batches: Iterable[Seen]) -> Palette:
    """The palette of batches that are all in memory."""
    batches = list(batches)
    for seen in batches:
        learner.add(seen)
    palette = learner.settle()
    for seen in batches:
        learner.measure(seen)
    return palette


def check_components(components: Sequence[int], available: int, layer: str) -> list[int]:
    """Three component numbers, from 1, that exist.

    Raises:
        ValueError: not three, below 1, or beyond the rank.
    """
    beyond = [number for number in components if not 1 <= number <= available]
    if len(components) != 3 or beyond:
        wrong = f"there is no component {edge.few(beyond)}" if beyond else f"got {edge.few(components)}"
        raise ValueError(
            f"three components are shown as red, green and blue, numbered from 1; the features of layer {layer!r} "
            f"have {available}: {wrong}"
        )
    return list(components)


def _merged(first: Tensor | None, second: Tensor) -> Tensor:
    """Both sets of `(5, k)` statistics as one (Chan et al. 1979)."""
    if first is None:
        return second
    count = first[0] + second[0]
    difference = second[1] - first[1]
    mean = first[1] + difference * second[0] / count
    squares = first[2] + second[2] + difference.square() * first[0] * second[0] / count
    return torch.stack([count, mean, squares, torch.minimum(first[3], second[3]), torch.maximum(first[4], second[4])])
