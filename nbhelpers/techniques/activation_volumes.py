"""Activation volumes: all feature maps of a layer at once, as a grid and as a solid.

A layer's maps are pictures of one photo, each seen through another filter. Side by side they fill a wall; stacked
they are a volume, height x width x channel, that can be turned, cut and thresholded like a tomography, as the CNN-VIS
study (Dresden) did. A volume is worth looking at when its third dimension means something: `volumes.ordering` puts maps
that resemble each other side by side, and says by a number how well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from nbhelpers import images, models, volumes
from nbhelpers.models import capture
from nbhelpers.recipes import Field, NetworkName, PhotoFit, PhotoSize, Recipe
from nbhelpers.volumes import Order, ordering
from nbhelpers.volumes.rendering import coloured, projections, strongest

SHUFFLES = 20


class ActivationVolume(Recipe):
    """The feature maps of a layer for one photo, ordered and stacked to a volume."""

    network: NetworkName = Field("minivgg_robust", description="a bundled network or any torchvision classifier")
    layer: str = Field("block3.relu2", description="dotted name of the layer")
    photo: str = Field("../sample_images/cat.jpg", description="path of the photo")
    size: PhotoSize = Field(224, description="shorter side of the photo in pixels, or (height, width)")
    fit: PhotoFit = "crop"
    maps: Literal["all", "first", "strongest"] = Field("strongest", description="which maps the grid shows")
    count: int = Field(24, ge=1, le=4096, description="how many maps the grid shows, unless all")
    scaling: Literal["common", "each"] = Field("common", description="one scale for all maps, or each map its own")
    order: Literal[
        "natural",
        "shuffled",
        "row_clusters",
        "row_component",
        "row_component_standardised",
        "principal_map",
        "principal_map_uncentred",
        "tree",
        "seriation",
    ] = Field("tree", description="order of the maps in the volume")
    slice_index: int | None = Field(None, ge=0, description="row that row_* methods compare; None: the middle one")
    clusters: int = Field(8, ge=1, le=256, description="groups of row_clusters")
    gap: int = Field(3, ge=0, le=32, description="empty maps between groups")
    threshold: int = Field(40, ge=0, le=255, description="voxels below it are transparent")
    binary: bool = Field(False, description="show only what is above the threshold, without its strength")
    seed: int = Field(0, ge=0, description="of the shuffled order")

    def scored(self) -> str:
        return "mean correlation of neighbouring slices"

    def iterate(self, network: nn.Module | None = None) -> Iterator[Stacked]:
        """Look at the photo, order the maps, stack them; one step."""
        yield stacked(self, activations(self, network))


@dataclass
class Stacked:
    """A layer's maps, ordered and stacked.

    Attributes:
        maps: `(C, H, W)` float32, by channel.
        order: the order of the volume.
        volume: `(H, W, C + gaps)`, uint8.
    """

    maps: Float[Tensor, "channels height width"]
    order: Order
    volume: UInt8[np.ndarray, "height width depth"]
    index: int = 1
    total: int = 1

    @property
    def scores(self) -> Float[Tensor, "1"]:
        """Mean correlation between neighbours, `(1,)`."""
        return torch.tensor([ordering.neighbour_correlation(self.maps, self.order.channels)])

    @property
    def picture(self) -> Float[Tensor, "1 3 height width"]:
        """The volume from the front: the strongest of all maps at each place, `(1, 3, H, W)` in [0, 1]."""
        return coloured(self.volume.max(2))[None]


@torch.no_grad()
def activations(
    recipe: ActivationVolume, network: nn.Module | None = None, photo: str | None = None
) -> Float[Tensor, "channels height width"]:
    """The layer's feature maps for the recipe's photo, or for another one.

    Args:
        recipe: says which layer, photo and size.
        network: used in place of the one the recipe names; left as it is.
        photo: path of a photo to look at in place of the recipe's.

    Returns:
        `(C, H, W)` float32, on the processor.

    Raises:
        FileNotFoundError, ValueError: no such photo. KeyError, ValueError: no such layer, or no feature maps.
    """
    network = models.as_network(network if network is not None else recipe.network)
    models.check_layer(network, recipe.layer, recipe.size)
    manner = models.photo_fit(network, recipe.size, recipe.fit)
    picture = images.read(photo if photo is not None else recipe.photo, recipe.size, **manner)
    seen = capture(network, recipe.layer, stop=True)(picture[None].to(network.mean.device))
    return seen[recipe.layer][0].float().cpu()


def ordered(recipe: ActivationVolume, maps: Float[Tensor, "channels height width"], method: str | None = None) -> Order:
    """The order of the maps by the recipe's method, or by another one.

    Raises:
        ValueError: too few or constant maps, `slice_index` outside the map, more clusters than maps.
    """
    method = method or recipe.order
    options = {
        "shuffled": {"seed": recipe.seed},
        "row_clusters": {"slice_index": recipe.slice_index, "clusters": recipe.clusters},
        "row_component": {"slice_index": recipe.slice_index},
        "row_component_standardised": {"slice_index": recipe.slice_index},
    }
    order = ordering.METHODS[method](maps, **options.get(method, {}))
    order.about = {"network": recipe.network, "layer": recipe.layer, "photo": recipe.photo.rsplit("/", 1)[-1]}
    return order


def stacked(
    recipe: ActivationVolume, maps: Float[Tensor, "channels height width"], order: Order | None = None
) -> Stacked:
    """The maps in the recipe's order, or in one found before (on another photo), as a volume of bytes.

    Args:
        recipe: order, scaling and gap.
        maps: `(C, H, W)`, by channel.
        order: used in place of the recipe's.

    Raises:
        ValueError: as `ordered`, or the order is of another number of channels.
    """
    order = order if order is not None else ordered(recipe, maps)
    in_order = torch.from_numpy(volumes.to_bytes(maps, recipe.scaling)).permute(2, 0, 1)
    return Stacked(maps, order, order.stack(in_order, recipe.gap).astype(np.uint8).transpose(1, 2, 0).copy())


def compare_orders(recipe: ActivationVolume, maps: Float[Tensor, "channels height width"]) -> dict[str, float]:
    """Mean correlation between neighbours for every method; the shuffled one is the mean of 20 shuffles.

    Args:
        recipe: slice_index, clusters and seed.
        maps: `(C, H, W)`.
    """
    table = {}
    for method in ordering.METHODS:
        recipes = [recipe.changed(seed=recipe.seed + n) for n in range(SHUFFLES if method == "shuffled" else 1)]
        values = [ordering.neighbour_correlation(maps, ordered(each, maps, method).channels) for each in recipes]
        table[method] = float(np.mean(values))
    return table


def chosen(recipe: ActivationVolume, maps: Float[Tensor, "channels height width"]) -> list[int]:
    """Channels that the grid shows: all, the first, or those with the strongest mean activation, strongest first."""
    if recipe.maps == "strongest":
        return maps.mean((1, 2)).argsort(descending=True, stable=True)[: recipe.count].tolist()
    return list(range(len(maps)))[: recipe.count if recipe.maps == "first" else None]


def grid(recipe: ActivationVolume, maps: Float[Tensor, "channels height width"], side: int = 84) -> Image.Image:
    """The chosen maps side by side, titled with channel and mean activation.

    Args:
        recipe: which maps, how many, how scaled.
        maps: `(C, H, W)`.
        side: least side of a map in the image, in pixels; small maps are enlarged by whole numbers.
    """
    channels = chosen(recipe, maps)
    # scaled before the choice, so that a common scale stays the layer's
    scaled = volumes.to_bytes(maps, recipe.scaling)
    times = max(1, -(-side // scaled.shape[0]))
    pictures = [coloured(scaled[:, :, channel].repeat(times, 0).repeat(times, 1)) for channel in channels]
    labels = [f"{channel}: {maps[channel].mean():.2f}" for channel in channels]
    return images.tile(pictures, gap=4, labels=labels)


def draw(recipe: ActivationVolume, step: Stacked) -> Image.Image:
    """What the sliders show: the volume on paper."""
    depth = strongest(step.volume)
    return projections(
        step.volume,
        recipe.threshold,
        recipe.binary,
        depth,
        title=f"{recipe.layer}, {recipe.order}: neighbours correlate by {step.scores.item():.2f}",
        slice_title=f"slice {depth}: channel {step.order.places(recipe.gap)[depth]}",
    )


def order_table(table: dict[str, float]) -> str:
    """The comparison as text, best order last but for the baselines."""
    rows: Sequence[tuple[str, float]] = sorted(table.items(), key=lambda row: row[1])
    return "\n".join(f"{method:26}{value:7.3f}" for method, value in rows)
