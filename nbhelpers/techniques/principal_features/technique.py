"""Principal features: what contrasts in a batch of photos, as one RGB map per photo.

Take the features of the deepest layer at every position of every photo, and look for the three directions in which
they vary most: their principal components. Shown as red, green and blue, two places of one colour mean the same to
the network, and two colours mean a contrast, without a class being named. The finer layers, summed over their
channels, tell where something is; they weight the map and sharpen it (Bakken, Kvam, Stepanov, Berge, "Principal
Feature Visualisation in Convolutional Neural Networks", ECCV 2020).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image
from pydantic import field_validator
from torch import Tensor, nn

from nbhelpers import edge, images, models
from nbhelpers.images import figures
from nbhelpers.models.stages import select
from nbhelpers.recipes import Field, NetworkName, PhotoFit, PhotoSize, Recipe
from nbhelpers.techniques.principal_features import palette_learning, palettes
from nbhelpers.techniques.principal_features.palettes import Palette

NETWORKS = (
    "vgg16",
    "alexnet",
    "resnet50",
    "squeezenet1_0",
    "googlenet",
    "inception_v3",
    "densenet121",
    "mobilenet_v2",
    "shufflenet_v2_x1_0",
    "efficientnet_b0",
)


class PrincipalFeatures(Recipe):
    """Paints what contrasts in a batch of photos (Bakken et al. 2020)."""

    unsaid: ClassVar[dict[str, Any]] = {"fit": "crop"}

    network: NetworkName = Field("minivgg_robust", description="a bundled network or any torchvision classifier")
    layer: str = Field("", description="the layer to decompose; empty: the deepest before a reduction of resolution")
    components: list[int] = Field([1, 2, 3], description="principal components shown as red, green, blue; from 1")
    photos: str = Field("../sample_images", description="a folder of photos, or one photo")
    first: int = Field(1, ge=1, description="number of the batch's first photo in its folder")
    batch: int = Field(12, ge=1, le=256, description="photos that are compared with each other")
    size: PhotoSize = Field(128, description="shorter side of the photos in pixels, or (height, width)")
    fit: PhotoFit = "whole"
    n_sigma: float = Field(1.0, ge=0.1, le=5, description="standard deviations at which colours saturate")
    hierarchical: bool = Field(False, description="multiply by the finer layers one by one instead of by their sum")
    upsampling: Literal["bilinear", "bicubic", "nearest"] = Field("bilinear", description="how maps are enlarged")
    palette: str = Field("", description="a file of components learnt from a folder; empty: learn from the batch")

    @field_validator("components")
    @classmethod
    def _three(cls, components: list[int]) -> list[int]:
        if len(components) != 3 or min(components) < 1:
            raise ValueError("expected three numbers from 1")
        return components

    def scored(self) -> str:
        return "share of the variance that the components explain"

    def iterate(self, network: nn.Module | None = None) -> Iterator[Painting]:
        """Paint the batch; one step."""
        yield paint(self, network)


@dataclass
class Painting:
    """A batch and its maps.

    Attributes:
        photos: the batch, with names and what was skipped.
        picture: the maps, `(B, 3, H, W)` in [0, 1]; a list, as `photos.pictures`, where shapes differ.
        palette: the components and their colours.
        notes: what was reduced or left out, in sentences.
        scores: share of the variance that each shown component explains, `(3,)`.
    """

    photos: images.Photos
    picture: Float[Tensor, "photos 3 height width"] | list[Float[Tensor, "3 _ _"]]
    palette: Palette
    notes: list[str]
    scores: Float[Tensor, "3"]
    index: int = 1
    total: int = 1

    def report(self) -> list[str]:
        """What was painted, in a few sentences."""
        palette, channels = self.palette, self.palette.directions.shape[1]
        weighted = f"weighted by {', '.join(palette.shallower)}" if palette.shallower else "not weighted"
        first = palette.explained[:3]
        return [
            f"{palette.layer} of {palette.network}: {channels} channels at {palette.count} positions, {weighted}",
            f"explained variance: {', '.join(f'{share:.1%}' for share in first.tolist())} by the first components, "
            f"{first.sum():.1%} together",
            *self.notes,
        ]


def paint(recipe: PrincipalFeatures, network: nn.Module | None = None) -> Painting:
    """Paint a batch of photos.

    Args:
        recipe: which photos, layer and components.
        network: used in place of the one the recipe names.

    Raises:
        FileNotFoundError, ValueError: no photos or palette there, nothing that varies, or no such component.
        KeyError: no such layer.
    """
    network = models.as_network(network if network is not None else recipe.network)
    batches, notes = _batches(recipe, network)
    layer, finer = select(network, recipe.layer, recipe.size)
    if not finer:
        notes.append(f"{layer.name} has no stage before it: its map is not weighted")
    names, numbers = [each.name for each in finer], [each for each, _ in batches]
    seen = [palettes.observe(network, layer.name, names, photos.pictures) for _, photos in batches]
    if recipe.palette:
        palette = palette_learning.load(recipe.palette, network, recipe)
    else:
        learner = palettes.Learner(network, layer, finer, recipe.hierarchical, recipe.upsampling)
        palette = palettes.learn(learner, seen)
    painted = [palette.paint(each, recipe.components, recipe.n_sigma).cpu() for each in seen]
    scores = palette.explained[[number - 1 for number in recipe.components]]
    return Painting(images.joined(batches), images.in_order(numbers, painted), palette, notes, scores.cpu())


def side_by_side(recipe: PrincipalFeatures, networks: Sequence[str]) -> tuple[dict[str, Painting], list[str]]:
    """The same batch through several networks, one after the other, each at its own picture size if that is larger.

    Args:
        recipe: everything but the network, the layer and the palette.
        networks: names; those whose weights are not on this machine are left out rather than downloaded.

    Returns:
        Paintings by the name of the network, and the names left out.
    """
    here = [name for name in networks if models.at_hand(name)]
    paintings = {}
    for name in here:
        network = models.load(name)
        size = max(recipe.size, network.size, key=lambda each: min(models.sides(each)))
        changes = {"network": name, "layer": "", "palette": "", "size": size}
        paintings[name] = paint(recipe.changed(**changes), network)
    return paintings, [name for name in networks if name not in here]


def sheet(painting: Painting, columns: int = 6) -> Image.Image:
    """Every photo with its map below it."""
    side = max(max(each.shape[1:]) for each in painting.photos.pictures)
    photos, maps = images.framed(painting.photos.pictures, side), images.framed(painting.picture, side)
    rows = []
    for start in range(0, len(photos), columns):
        blank = torch.ones(max(0, columns - len(photos[start:])) if start else 0, *photos.shape[1:])
        for pictures in (photos, maps):
            rows.append(torch.cat([pictures[start : start + columns], blank]))
    return images.tile(torch.cat(rows), columns=min(columns, len(photos)))


def strips(rows: dict[str, Float[Tensor, "photos 3 _ _"] | list[Float[Tensor, "3 _ _"]]], width: float = 11) -> Figure:
    """Rows of pictures under each other, each with its name: the same photos seen in several ways.

    Args:
        rows: pictures `(B, 3, H, W)` in [0, 1] by name, or lists of them where shapes differ, of any size, as many in
            each row.
        width: of the figure in inches.
    """
    count = max(map(len, rows.values()))
    width = min(width, 1.8 * count)
    side = min(112, 1400 // count)
    framed = {name: images.framed(pictures, side) for name, pictures in rows.items()}
    aspect = max(pictures.shape[2] / pictures.shape[3] for pictures in framed.values())
    figure, axes = figures.new(width, (width - 0.3) / count * 1.07 * len(rows) * aspect, rows=len(rows), squeeze=False)
    for each, (name, small) in zip(axes[:, 0], framed.items(), strict=True):
        each.imshow(torch.cat(list(small), 2).permute(1, 2, 0).numpy())
        each.set_xticks([])
        each.set_yticks([])
        each.spines[:].set_visible(False)
        each.set_ylabel(name, fontsize=7)
    return figure


def _batches(
    recipe: PrincipalFeatures, network: models.Network
) -> tuple[list[tuple[list[int], images.Photos]], list[str]]:
    """The recipe's photos with their numbers, those of one shape together, and what is to be said about them."""
    files = images.listed(recipe.photos)
    if edge.is_folder(recipe.photos):
        if recipe.first > len(files):
            raise ValueError(f"{recipe.photos} holds {len(files)} photos: there is no number {recipe.first}")
        files = dict(list(files.items())[recipe.first - 1 :])
    manner = models.photo_fit(network, recipe.size, recipe.fit)
    read = list(images.read_batches(files, recipe.size, recipe.batch, recipe.batch, **manner))
    photos, batches, notes = images.joined(read), [(numbers, photos) for numbers, photos in read if numbers], []
    if photos.skipped:
        listed = edge.few((f"{name} ({reason})" for name, reason in photos.skipped.items()), separator="; ")
        notes.append(f"skipped {len(photos.skipped)} unreadable: {listed}")
    if len(photos) < recipe.batch:
        notes.append(f"{len(photos)} photos instead of {recipe.batch}: there are no more")
    if len(photos) == 1:
        notes.append("one photo: what contrasts is within it, there is nothing to compare it with")
    elif all(torch.equal(each, photos.pictures[0]) for each in photos.pictures):
        notes.append("the photos are identical: what contrasts is within each of them")
    return batches, notes
