"""Filter gradients: what a class owes to each filter of a layer.

The gradient of a class logit with respect to the *weights* of a convolution has one small pattern per filter; its
length is how much the logit hangs on that filter, for one photo. Averaged over photos of the class it is the filter's
importance; from photo to photo of the class, of a similar and of a dissimilar one it can be compared, as the CNN-VIS
study (Dresden) did in two and three dimensions. Whether importance means anything is shown by taking filters away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbhelpers import images, models
from nbhelpers.attribution.gradients import frozen
from nbhelpers.images import Photos
from nbhelpers.models import Network
from nbhelpers.recipes import Field, NetworkName, PhotoFit, PhotoSize, Recipe
from nbhelpers.techniques.filter_gradients import filter_weights
from nbhelpers.techniques.filter_gradients.filter_pictures import grid

GROUPS = ("reference", "similar", "dissimilar")


class FilterGradients(Recipe):
    """Importance of a convolution's filters for a class, from the gradient of its logit by the filter weights."""

    unsaid: ClassVar[dict[str, Any]] = {"fit": "crop"}

    network: NetworkName = Field("minivgg_robust", description="a bundled network or any torchvision classifier")
    layer: str = Field("block3.conv2", description="dotted name of a convolution")
    target: str | int = Field("obelisk", description="the class: its name or number")
    reference: str = Field("../sample_images/rocket.jpg", description="photos of the class: a file, or a folder")
    similar: str = Field("../sample_images/temple.jpg", description="photos of a similar class: a file, or a folder")
    dissimilar: str = Field("../sample_images/cat.jpg", description="photos of another class: a file, or a folder")
    views: int = Field(6, ge=1, le=64, description="crops of each photo; 1 for folders with many photos")
    size: PhotoSize = Field(96, description="shorter side of the photos in pixels, or (height, width)")
    fit: PhotoFit = Field(
        "crop", description="photos' centre, so that all have as many places; whole; or whole, padded"
    )
    batch_size: int = Field(6, ge=1, le=256, description="photos at a time; bounds the memory")
    top: int = Field(16, ge=1, le=256, description="how many of the most important filters are drawn")
    removed: list[int] = Field([0, 1, 2, 4, 8, 16, 32, 64], min_length=1, description="numbers of filters taken away")
    draws: int = Field(6, ge=1, le=1000, description="random choices of filters to compare with")
    frames: int = Field(4, ge=1, le=60, description="pictures of the animation from one photo to the next")
    seed: int = Field(0, ge=0, description="of the random choices")

    def scored(self) -> str:
        return "mean logit of the class"

    def iterate(self, network: nn.Module | None = None) -> Iterator[Importance]:
        """Average over the reference photos, yielding after every batch."""
        yield from averaged(self, network)


@dataclass
class Importance:
    """The average so far.

    Attributes:
        index: photos so far. total: photos there are.
        gradient: mean gradient of the logit, `(filters, inputs, height, width)`.
        lengths: mean over photos of the length of each filter's gradient, `(filters,)`.
        scores: mean logit, `(1,)`.
        skipped: files that could not be read, with the reason.
    """

    index: int
    total: int
    gradient: Float[Tensor, "filters inputs height width"]
    lengths: Float[Tensor, " filters"]
    scores: Float[Tensor, "1"]
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def importance(self) -> Float[Tensor, " filters"]:
        """The lengths, divided by the greatest, `(filters,)` in [0, 1]; all zero if no filter matters."""
        greatest = self.lengths.max()
        return self.lengths / greatest if greatest > 0 else self.lengths

    @property
    def ranking(self) -> list[int]:
        """Filters by importance, the greatest first; equal ones by number."""
        return self.lengths.argsort(descending=True, stable=True).tolist()

    @property
    def picture(self) -> Float[Tensor, "1 3 rows columns"]:
        """The map of the layer, one cell per filter, `(1, 3, rows, columns)` in [0, 1]."""
        return grid(self.importance)[None, None].expand(1, 3, -1, -1)


@dataclass
class Comparison:
    """Gradients of one logit for photos of three groups.

    Attributes:
        photos: all of them, group after group.
        groups: "reference", "similar" or "dissimilar", per photo.
        patterns: gradient of the logit by each kernel as a whole (summed over its places), `(N, filters, inputs)`.
        lengths: length of each filter's gradient, `(N, filters)`.
        logits: `(N,)`.
    """

    photos: Photos
    groups: list[str]
    patterns: Float[Tensor, "photos filters inputs"]
    lengths: Float[Tensor, "photos filters"]
    logits: Float[Tensor, " photos"]

    @property
    def correlations(self) -> Float[Tensor, "photos photos"]:
        """Pearson correlation between the patterns of any two photos, `(N, N)`."""
        flat = self.patterns.flatten(1).double()
        unit = nn.functional.normalize(flat - flat.mean(1, keepdim=True), dim=1)
        return (unit @ unit.T).clamp(-1, 1)

    def table(self) -> dict[str, float]:
        """Mean correlation of the reference photos with the photos of each group, no photo with itself."""
        groups = torch.tensor([GROUPS.index(group) for group in self.groups])
        others = ~torch.eye(len(groups), dtype=torch.bool)
        return {
            name: self.correlations[(groups[:, None] == 0) & (groups[None] == number) & others].mean().item()
            for number, name in enumerate(GROUPS)
        }


def averaged(recipe: FilterGradients, network: nn.Module | None = None) -> Iterator[Importance]:
    """Importance of every filter for the class, averaged over the reference photos; yields after every batch.

    Memory holds one batch of gradients and the mean, however many photos there are.

    Raises:
        KeyError, ValueError: no such convolution or class; FileNotFoundError, ValueError: no photo can be read.
    """
    network = models.as_network(network if network is not None else recipe.network)
    filter_weights.convolution(network, recipe.layer)
    (target,) = models.class_indices(network, [recipe.target], recipe.size)
    photos = read_photos(recipe, network, recipe.reference)
    gradient = lengths = logit = 0.0
    done = 0
    for _, each, logits in _gradients(recipe, network, target, photos):
        done += len(each)
        gradient = gradient + each.sum(0).cpu()
        lengths = lengths + filter_lengths(each).sum(0).cpu()
        logit = logit + logits.sum().cpu()
        yield Importance(done, len(photos), gradient / done, lengths / done, logit[None] / done, photos.skipped)


def compare(recipe: FilterGradients, network: nn.Module | None = None) -> Comparison:
    """Gradients of the reference class's logit for photos of it, of a similar class and of a dissimilar one.

    Raises:
        KeyError, ValueError: no such convolution or class; or a single reference photo, which can't be compared with
            others of its class. FileNotFoundError, ValueError: no photo can be read.
    """
    network = models.as_network(network if network is not None else recipe.network)
    filter_weights.convolution(network, recipe.layer)
    (target,) = models.class_indices(network, [recipe.target], recipe.size)
    parts = [read_photos(recipe, network, getattr(recipe, group)) for group in GROUPS]
    if len(parts[0]) < 2:
        raise ValueError(
            f"{recipe.reference} gives a single photo of {recipe.target!r}: nothing to compare it with. "
            "Add photos to the folder, or raise views"
        )
    pictures = [picture for part in parts for picture in part.pictures]
    photos = Photos(
        images.in_order([range(len(pictures))], [pictures]),
        [name for part in parts for name in part.names],
        {name: reason for part in parts for name, reason in part.skipped.items()},
    )
    numbers, patterns, lengths, scores = [], [], [], []
    for some, each, logits in _gradients(recipe, network, target, photos):
        numbers.append(some)
        patterns.append(each.sum((3, 4)).cpu())
        lengths.append(filter_lengths(each).cpu())
        scores.append(logits.cpu())
    groups = [group for group, part in zip(GROUPS, parts, strict=True) for _ in part.names]
    return Comparison(photos, groups, *(images.in_order(numbers, each) for each in (patterns, lengths, scores)))


def _gradients(
    recipe: FilterGradients, network: Network, target: int, photos: Photos
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Numbers, gradients and logits of some photos of one shape at a time."""
    for numbers, pictures in images.alike(photos.pictures, recipe.batch_size):
        for each, logits in filter_weights.gradients(network, recipe.layer, target, pictures, recipe.batch_size):
            yield numbers, each, logits


@dataclass
class Ablation:
    """How the class fares when filters are taken away.

    Attributes:
        removed: numbers of filters.
        logits: mean logit by strategy ("most important", "most active", "random", "least important"), one per number.
        accuracy: share of photos that the network gives this class, likewise.
        spread: standard deviation of the random mean logits between draws, one per number.
    """

    removed: list[int]
    logits: dict[str, list[float]]
    accuracy: dict[str, list[float]]
    spread: list[float]

    def table(self) -> str:
        """The numbers as text."""
        lines = [
            " " * 8 + "".join(f"{name:>18}" for name in self.logits),
            f"{'filters':>8}" + f"{'logit  top-1':>18}" * len(self.logits),
        ]
        for row, count in enumerate(self.removed):
            cells = [f"{self.logits[name][row]:.2f}  {self.accuracy[name][row]:5.0%}" for name in self.logits]
            lines.append(f"{count:>8}" + "".join(f"{cell:>18}" for cell in cells))
        return "\n".join(lines)


def ablate(recipe: FilterGradients, ranking: Sequence[int], network: nn.Module | None = None) -> Ablation:
    """Take away the most important, random and the least important filters, and see how the class fares.

    Beside chance there is a second baseline: the filters that are most active for the class's photos. The photos are
    the reference photos mirrored, which the importance was not measured on.

    Args:
        recipe: which numbers of filters, how many random draws.
        ranking: filters by importance, the greatest first.
        network: used in place of the one the recipe names; left as it is.

    Raises:
        ValueError: more filters to remove than there are.
    """
    network = frozen(network if network is not None else recipe.network)
    (target,) = models.class_indices(network, [recipe.target], recipe.size)
    if max(recipe.removed) > len(ranking) or min(recipe.removed) < 0:
        raise ValueError(f"removed is {recipe.removed}, but layer {recipe.layer!r} has {len(ranking)} filters")
    mirrored = [picture.flip(2) for picture in read_photos(recipe, network, recipe.reference).pictures]
    pictures = [some for _, some in images.alike(mirrored, recipe.batch_size)]
    generator = torch.Generator().manual_seed(recipe.seed)
    # each draw is one shuffled ranking: 4 random filters are the first 4 of the same 8
    shuffles = [torch.randperm(len(ranking), generator=generator).tolist() for _ in range(recipe.draws)]
    strategies = {
        "most important": [list(ranking)],
        "most active": [_by_activity(network, recipe, pictures)],
        "random": shuffles,
        "least important": [list(ranking)[::-1]],
    }
    logits: dict[str, list[float]] = {name: [] for name in strategies}
    accuracy: dict[str, list[float]] = {name: [] for name in strategies}
    spread = []
    whole = _fare(network, recipe, target, [], pictures)
    for count in recipe.removed:
        for name, rankings in strategies.items():
            results = (
                [whole] if count == 0 else [_fare(network, recipe, target, each[:count], pictures) for each in rankings]
            )
            logits[name].append(sum(logit for logit, _ in results) / len(results))
            accuracy[name].append(sum(share for _, share in results) / len(results))
            if name == "random":
                values = torch.tensor([logit for logit, _ in results])
                spread.append(values.std(correction=0).item())
    return Ablation(list(recipe.removed), logits, accuracy, spread)


def read_photos(recipe: FilterGradients, network: Network, source: str) -> Photos:
    """One group of the recipe's photos as its network takes them, in crops; a list where their shapes differ.

    Raises:
        FileNotFoundError, ValueError: no photo can be read.
    """
    return crops(source, recipe.views, recipe.size, **models.photo_fit(network, recipe.size, recipe.fit))


def crops(source: str, views: int, size: models.Size, fit: str = "crop", stride: int = 1) -> Photos:
    """Photos from a file or a folder, each in several crops, along the diagonals, of nine tenths of its shorter side.

    Args:
        source: path of a photo or of a folder.
        views: crops per photo; 1 leaves what is seen of it as it is.
        size: shorter side of the crops in pixels, or `(height, width)`.
        fit, stride: what is seen of a photo, as `images.read` takes them.
    """
    if views == 1:
        return images.read_many(source, size, None, fit, stride)
    margin = max(1, round(min(models.sides(size)) / 9))
    larger = size + margin if isinstance(size, int) else (size[0] + margin, size[1] + margin)
    photos = images.read_many(source, larger, None, fit)
    pictures, names = [], []
    for picture, name in zip(photos.pictures, photos.names, strict=True):
        height, width = (length - margin for length in picture.shape[1:])
        for number in range(views):
            along = round(margin * number / (views - 1))
            left = margin - along if number % 2 else along
            pictures.append(picture[:, along : along + height, left : left + width])
            names.append(f"{name} {number + 1}")
    return Photos(images.in_order([range(len(pictures))], [pictures]), names, photos.skipped)


def filter_lengths(gradients: Float[Tensor, "*photos filters inputs height width"]) -> Float[Tensor, "*photos filters"]:
    """Length (L2) of each filter's gradient: `(..., filters, inputs, height, width)` to `(..., filters)`."""
    return gradients.flatten(-3).norm(dim=-1)


def _fare(
    network: Network, recipe: FilterGradients, target: int, filters: Sequence[int], pictures: Sequence[Tensor]
) -> tuple[float, float]:
    """Mean logit, and share of photos with this class on top, without some filters; `pictures` come in batches."""
    logits = torch.cat([filter_weights.logits_without(network, recipe.layer, filters, batch) for batch in pictures])
    return logits[:, target].mean().item(), (logits.argmax(1) == target).float().mean().item()


def _by_activity(network: Network, recipe: FilterGradients, pictures: Sequence[Tensor]) -> list[int]:
    """Filters by the mean of what passes the ReLU after them, the greatest first; `pictures` come in batches."""
    given = (each for batch in pictures for each in models.activation_batches(network, recipe.layer, batch))
    total = sum(each.clamp(min=0).mean((2, 3)).sum(0) for each in given)
    return total.argsort(descending=True, stable=True).tolist()
