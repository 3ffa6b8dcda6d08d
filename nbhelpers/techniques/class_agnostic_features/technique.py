"""Class-agnostic features: what in a set of photos does a layer respond to, without naming a class?

Photos that look alike to a layer form a facet (`facets`). For each facet a picture is made from two wishes
at once: excite the channels that are strongest for the facet's photos, and stay near all of their activations. It
starts from the facet's mean photo and grows from the middle outwards, under a Gaussian mask on the gradient, seen
through a window on a larger picture that moves now and then.
Source: Stergiou, "The Mind's Eye: Visualizing Class-Agnostic Features of CNNs", ICIP 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from nbhelpers import images, models, recipes
from nbhelpers.recipes import Field, NetworkName, PhotoFit, PhotoSize, Recipe
from nbhelpers.techniques.class_agnostic_features import facets
from nbhelpers.techniques.class_agnostic_features.facet_ascent import FacetStep, Run, Settings, load_state, save_state
from nbhelpers.techniques.class_agnostic_features.facets import Facets


class ClassAgnosticFeatures(Recipe):
    """One picture for each facet of a set of photos, as a layer sees them (Stergiou 2021)."""

    unsaid: ClassVar[dict[str, Any]] = {"fit": "crop"}

    network: NetworkName = Field("minivgg_robust", description="a bundled network or any torchvision classifier")
    layer: str = Field("block4.relu1", description="dotted name of the target layer")
    penalty_layer: str = Field("block4.conv1", description="dotted name; what goes into this layer is kept small")
    folder: str = Field("../sample_images", description="the set of photos")
    crops: int = Field(3, ge=1, le=6, description="overlapping crops along each side of a photo; 1 takes it as it is")
    fit: PhotoFit = Field(
        "crop",
        description="what crops are cut from: the centre, as all get one shape; whole, to a photo's ends; or pad",
    )
    clusters: int = Field(6, ge=1, le=50, description="facets, one picture each")
    components: int = Field(50, ge=1, le=200, description="principal components kept for t-SNE")
    nearest: int = Field(10, ge=1, le=100, description="photos nearest a facet's centre that make its target")
    top_channels: int = Field(50, ge=1, le=1000, description="strongest channels of the target, to be excited")
    start: Literal["photos", "grey"] = Field("photos", description="from the facet's mean photo, or from grey")
    size: PhotoSize = Field(128, description="side of the pictures and crops in pixels, or (height, width)")
    steps: int = Field(80, ge=1, le=10_000, description="steps of gradient ascent")
    start_lr: float = Field(0.5, gt=0, le=2, description="learning rate of the first step")
    end_lr: float = Field(0.08, gt=0, le=2, description="learning rate of the last step")
    start_mask_sigma: float = Field(420, gt=0, le=2000, description="width of the mask at first, for 512 pixels")
    end_mask_sigma: float = Field(340, gt=0, le=2000, description="width of the mask at last, for 512 pixels")
    start_sigma: float = Field(0.9, ge=0, le=5, description="width of the blur at first in pixels")
    end_sigma: float = Field(0.2, ge=0, le=5, description="width of the blur at last in pixels")
    start_denoise_weight: float = Field(2, gt=0, le=50, description="denoising at first; the smaller, the flatter")
    end_denoise_weight: float = Field(8, gt=0, le=50, description="denoising at last; the smaller, the flatter")
    start_lambda: float = Field(1e-4, ge=0, le=0.01, description="weight of the penalty at first")
    end_lambda: float = Field(5e-4, ge=0, le=0.01, description="weight of the penalty at last")
    window: float = Field(0.4, ge=0, le=2, description="spread of the window's places, in parts of its free way")
    window_step: int = Field(400, ge=1, le=10_000, description="steps between two moves of the window")
    brightness_step: int = Field(50, ge=1, le=10_000, description="steps between two steps of brightness")
    scale: float = Field(1.2, ge=1, le=2, description="side of the whole picture, in parts of the window's")
    smoothness: float = Field(0.5, ge=0, le=2, description="how much large shapes go first; 0 as published")
    checkpoint_step: int = Field(20, ge=1, le=10_000, description="steps between two pictures kept for the strip")
    seed: int = Field(0, ge=0, description="of t-SNE, k-means and the window's places")

    def scored(self) -> str:
        return "likeness to the facet in the layer"

    def iterate(self, network: nn.Module | None = None, saved: str | Path | None = None) -> Iterator[FacetStep]:
        """Find the facets and make their pictures, yielding every step; see `visualise`."""
        return visualise(self, network, saved=saved)


def visualise(
    recipe: ClassAgnosticFeatures,
    network: nn.Module | None = None,
    found: Facets | None = None,
    saved: str | Path | None = None,
) -> Iterator[FacetStep]:
    """Make one picture for each facet, all as one batch, yielding every step.

    Args:
        recipe: what to make.
        network: used in place of the one the recipe names.
        found: facets to use in place of those that the recipe finds.
        saved: a file for the state of the run. It is written every `checkpoint_step` steps and when the run is
            stopped, whole or not at all; where it is there already, the run goes on from it.

    Raises:
        KeyError, ValueError: a layer is unknown or gives no feature maps, the penalty's layer lies behind the target
            layer, the photos cannot be used, or `saved` belongs to another recipe.
        NonFiniteScore: with the last good pictures, at the first score that is infinite or not a number.
    """
    network = models.as_network(network if network is not None else recipe.network)
    check_layers(network, recipe)
    found = find_facets(recipe, network) if found is None else found
    run, parameters = Run(settings(recipe), network, found), recipe.model_dump(mode="json")
    if saved is not None and Path(saved).expanduser().exists():
        state = load_state(saved, parameters, network.mean.device, recipe.unsaid)
        if state.index == recipe.steps:
            yield run.step(state)
    else:
        state = run.begin()
    try:
        while state.index < recipe.steps:
            state = run.advance(state)
            if saved is not None and state.index % recipe.checkpoint_step == 0:
                save_state(state, parameters, saved)
            yield run.step(state)
    finally:
        if saved is not None:
            save_state(state, parameters, saved)


def find_facets(recipe: ClassAgnosticFeatures, network: nn.Module | None = None) -> Facets:
    """The recipe's photos, grouped by what its layer sees in them.

    Raises:
        FileNotFoundError, KeyError, ValueError: no photos, no such layer, or activations that are not numbers.
    """
    network = models.as_network(network if network is not None else recipe.network)
    models.check_layer(network, recipe.layer, recipe.size)
    photos = facets.read_crops(recipe.folder, recipe.size, recipe.crops, recipe.fit)
    activations = models.pooled_activations(network, recipe.layer, photos.pictures)
    return facets.find(photos, activations, recipe.clusters, recipe.components, recipe.seed)


def check_layers(network: nn.Module, recipe: ClassAgnosticFeatures) -> None:
    """Make sure that both layers are there, give feature maps, and come in the right order.

    Raises:
        KeyError, ValueError: they do not; says what to choose.
    """
    network = models.as_network(network)
    for layer in (recipe.layer, recipe.penalty_layer):
        models.check_layer(network, layer, recipe.size)
    order = models.layers(network, recipe.size).names
    target, penalty = order.index(recipe.layer), order.index(recipe.penalty_layer)
    if penalty > target:
        raise ValueError(
            f"the target layer {recipe.layer!r} is too shallow for the penalty layer {recipe.penalty_layer!r}, which "
            f"runs after it: choose a penalty layer up to {recipe.layer!r}, such as {order[max(0, target - 1)]!r}"
        )


def similarities(found: Facets, pooled: Float[Tensor, "pictures channels"]) -> Float[Tensor, "pictures facets"]:
    """Mean cosine between pooled activations and those of every facet's photos.

    Args:
        found: the facets, with activations `(N, C)`.
        pooled: activations of pictures, `(B, C)`, of the same network and layer.

    Returns:
        `(B, facets)`.
    """
    cosines = torch.nn.functional.cosine_similarity(pooled[:, None], found.activations[None], dim=2)
    return torch.stack([cosines[:, found.labels == facet].mean(1) for facet in range(found.count)], dim=1)


def evidence(
    found: Facets, pictures: Float[Tensor, "facets 3 height width"], network: nn.Module, layer: str
) -> tuple[Float[Tensor, " facets"], Float[Tensor, " facets"]]:
    """How near each facet's picture is to its own photos, and to those of the nearest other facet.

    Args:
        found: the facets, whose activations are those of this network and layer.
        pictures: one per facet, `(facets, 3, H, W)`.
        network, layer: where activations are taken.

    Returns:
        Two mean cosines per facet, `(facets,)` each; the second is -1 where there is but one facet.
    """
    table = similarities(found, models.pooled_activations(network, layer, pictures))
    own = table.diagonal()
    others = table.masked_fill(torch.eye(len(table), dtype=torch.bool), -1).amax(1)
    return own, others


def strip(step: FacetStep, count: int = 6) -> Image.Image:
    """The pictures on their way, from the start to the last step: a row per facet, a column per checkpoint."""
    kept = sorted(step.checkpoints)
    chosen = sorted({kept[round(place * (len(kept) - 1) / max(count - 1, 1))] for place in range(count)})
    rows = [step.checkpoints[index][facet] for facet in range(step.facets.count) for index in chosen]
    labels = [f"facet {facet}, step {index}" for facet in range(step.facets.count) for index in chosen]
    return images.tile(rows, columns=len(chosen), labels=labels)


def animate(step: FacetStep, path: str | Path, size: int | None = None, seconds_per_frame: float = 0.2) -> None:
    """Write the checkpoints of all facets, side by side, as an endless .webp or .gif.

    Args:
        step: the last step of a run.
        path: ending in .webp or .gif.
        size: shorter side of each picture in pixels; as it was made if not given.
        seconds_per_frame: how long each checkpoint is shown; the last one five times as long.
    """
    made = [step.checkpoints[index] for index in sorted(step.checkpoints)]
    frames = [images.from_pil(images.tile(images.resize(each, size or min(each.shape[2:])))) for each in made]
    images.animate([*frames, *frames[-1:] * 4], path, seconds_per_frame)


def save(recipe: ClassAgnosticFeatures, step: FacetStep, folder: str | Path) -> list[Path]:
    """Write each facet's picture as a PNG with its recipe inside, from which `recipes.remake` makes it again.

    Returns:
        The paths, one per facet.
    """
    names = [f"{recipe.layer}-facet{facet}" for facet in range(len(step.picture))]
    return recipes.save_pictures(recipe, step.picture, names, folder, measured=images.naturalness_of_each(step.picture))


def settings(recipe: ClassAgnosticFeatures) -> Settings:
    own = {name: getattr(recipe, name) for name in Settings.__dataclass_fields__ if hasattr(recipe, name)}
    return Settings(
        **own,
        learning_rate=(recipe.start_lr, recipe.end_lr),
        mask_sigma=(recipe.start_mask_sigma, recipe.end_mask_sigma),
        blur_sigma=(recipe.start_sigma, recipe.end_sigma),
        denoise_weight=(recipe.start_denoise_weight, recipe.end_denoise_weight),
        penalty_weight=(recipe.start_lambda, recipe.end_lambda),
    )
