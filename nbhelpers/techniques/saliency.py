"""Saliency: which pixels of a photo a class hangs on.

One backward pass tells, for every pixel, how much the class logit would change if the pixel did: where that is large,
the class is at stake (Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks", 2014, section 3). The
paper's map is the greatest magnitude over the colours; with a sign, the sum over them says whether brighter helps.
SmoothGrad, integrated gradients and guided backpropagation are later ways to a calmer or a sharper map.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from nbhelpers import images, models
from nbhelpers.attribution import explanations, pixel_maps, randomisation
from nbhelpers.attribution.explanations import Explanation
from nbhelpers.attribution.gradients import Classes, chosen_class
from nbhelpers.images import Photos, overlays
from nbhelpers.models import Network
from nbhelpers.recipes import Field, NetworkName, PhotoFit, PhotoSize, Recipe

LEGIBLE = 112  # pixels; pictures on a sheet are scaled to this side


class Saliency(Recipe):
    """Maps of the pixels that a class logit hangs on, one per photo (Simonyan et al. 2014)."""

    unsaid: ClassVar[dict[str, Any]] = {"fit": "crop"}

    network: NetworkName = Field("minivgg_robust", description="a bundled network or any torchvision classifier")
    photos: str = Field("../sample_images", description="a folder of photos, or one photo")
    first: int = Field(1, ge=1, description="number of the first photo in its folder")
    count: int = Field(12, ge=1, le=1_000_000, description="how many photos")
    photo_size: PhotoSize = Field(96, description="shorter side of the photos in pixels, or (height, width)")
    fit: PhotoFit = "whole"
    target: str | int = Field("", description="the class: its name or number; empty: the one each photo is given")
    method: Literal["gradient", "gradient x input", "smoothgrad", "integrated gradients", "guided backpropagation"] = (
        Field("gradient", description="how the logit is followed back to the pixels")
    )
    sign: Literal["absolute", "signed"] = Field(
        "absolute", description="greatest magnitude over the colours, or their sum with its sign"
    )
    samples: int = Field(16, ge=1, le=500, description="noisy copies of SmoothGrad; points of integrated gradients")
    noise: float = Field(0.15, ge=0, le=1, description="of SmoothGrad: standard deviation, share of the photo's range")
    baseline: Literal["blur", "mean", "grey", "black"] = Field(
        "black", description="the picture that integrated gradients start from"
    )
    opacity: float = Field(0.8, ge=0, le=1, description="share of the map in the overlay; 0 shows the photo alone")
    colour_map: str = Field("", description="any of matplotlib's; empty: magma, or red and blue for maps with a sign")
    foreground: float = Field(
        0.9, gt=0, lt=1, description="localisation: quantile of the map above which is the object"
    )
    background: float = Field(
        0.3, gt=0, lt=1, description="localisation: quantile of the map below which is background"
    )
    portions: int = Field(12, ge=1, le=1000, description="deletion and insertion: portions that the pixels come in")
    stages: int = Field(8, ge=1, le=500, description="cascading randomisation: how many times to stop on the way down")
    batch_size: int = Field(32, ge=1, le=1024, description="photos at a time; bounds the memory")
    seed: int = Field(0, ge=0, description="of SmoothGrad's noise; the same seed gives the same map")

    def idle(self) -> dict[str, str]:
        """What only some of the methods ask for."""
        users = {
            "samples": ["smoothgrad", "integrated gradients"],
            "noise": ["smoothgrad"],
            "baseline": ["integrated gradients"],
            "seed": ["smoothgrad"],
        }
        return {
            name: f"only {' and '.join(methods)} use it"
            for name, methods in users.items()
            if self.method not in methods
        }

    def scored(self) -> str:
        return "logit of the class"

    def iterate(self, network: nn.Module | None = None, numbers: Sequence[int] | None = None) -> Iterator[Explanation]:
        """Explain the photos, yielding every batch; see `explain`."""
        yield from explain(self, network, numbers)

    def joined(self, steps: Iterable[Explanation]) -> Explanation:
        """All batches as one."""
        return explanations.joined(steps)

    def one_picture(self, index: int, network: nn.Module | None = None) -> Float[Tensor, "3 height width"]:
        """One photo's overlay, by the photo's number; no other is explained."""
        (step,) = explain(self, network, [index])
        return step.picture[0]


def explain(
    recipe: Saliency, network: nn.Module | None = None, numbers: Sequence[int] | None = None
) -> Iterator[Explanation]:
    """Maps for all photos of a recipe, a batch at a time.

    Args:
        recipe: which photos, class and method.
        network: used in place of the one the recipe names.
        numbers: of the photos that are wanted, from 0; all unless given.

    Yields:
        Every batch. A photo that cannot be explained is named in `failed`, and the others of its batch keep their maps.

    Raises:
        FileNotFoundError, ValueError: no photo can be read or explained; an unknown class (the nearest are offered);
            a network without class logits or, for guided backpropagation, without ReLUs; an unknown colour map.
    """
    network = models.as_network(network if network is not None else recipe.network)
    target = chosen_class(network, recipe.target, recipe.photo_size)
    files = photo_files(recipe)
    batches = explanations.photo_batches(network, recipe, files, numbers, recipe.count)
    colours = recipe.colour_map or overlays.default_colours(recipe.sign == "signed")

    def attributed(pictures: Tensor, places: list[int]) -> tuple[Tensor, Tensor]:
        logits, values = attribute(recipe, network, pictures, target, places)
        return logits, maps_of(recipe, values)

    total = min(len(files) if numbers is None else len(numbers), recipe.count)
    yield from explanations.explain(
        network, batches, total, target, attributed, opacity=recipe.opacity, colour_map=colours
    )


def photo_files(recipe: Saliency) -> dict[str, Path]:
    """Where the recipe's photos are, by name, from the first on.

    Raises:
        FileNotFoundError, ValueError: nothing there, or a first photo beyond the last.
    """
    files = images.listed(recipe.photos)
    if recipe.first > len(files):
        raise ValueError(f"{recipe.photos} holds {len(files)} photos: there is no number {recipe.first}")
    return dict(list(files.items())[recipe.first - 1 :])


def read_photos(recipe: Saliency) -> Photos:
    """The central squares of the recipe's photos, all at once.

    Raises:
        FileNotFoundError, ValueError: as `photo_files`, or nothing that can be read.
    """
    files = photo_files(recipe)
    found = [photos for _, photos in images.read_batches(files, recipe.photo_size, recipe.count, recipe.count)]
    skipped = {name: reason for photos in found for name, reason in photos.skipped.items()}
    return replace(found[0], skipped=skipped)


def attribute(
    recipe: Saliency,
    network: Network,
    pictures: Float[Tensor, "photos 3 height width"],
    classes: Classes,
    numbers: Sequence[int] | None = None,
) -> tuple[Float[Tensor, "photos classes"], Float[Tensor, "photos 3 height width"]]:
    """What each pixel of each colour answers for, by the recipe's method.

    Args:
        recipe: method, samples, noise, baseline and seed.
        network: left as it is.
        pictures: `(B, 3, H, W)` in [0, 1].
        classes: one per picture, or one for all; None for the class that each picture is given.
        numbers: of the pictures among all photos, so that each draws the same noise in any batch; from 0 unless given.

    Returns:
        Logits `(B, classes)` and attributions `(B, 3, H, W)`.
    """
    arguments = (network, pictures, classes)
    if recipe.method == "gradient":
        return pixel_maps.gradient(*arguments)
    if recipe.method == "gradient x input":
        return pixel_maps.gradient_times_input(*arguments)
    if recipe.method == "guided backpropagation":
        return pixel_maps.guided_backpropagation(*arguments)
    options = {"samples": recipe.samples, "batch_size": recipe.batch_size}
    if recipe.method == "integrated gradients":
        return pixel_maps.integrated_gradients(*arguments, baseline=recipe.baseline, **options)
    seeds = [recipe.seed * 1_000_003 + number for number in numbers or range(len(pictures))]
    return pixel_maps.smoothgrad(*arguments, noise=recipe.noise, seed=seeds, **options)


def maps_of(recipe: Saliency, values: Float[Tensor, "photos 3 height width"]) -> Float[Tensor, "photos height width"]:
    """Attributions `(B, 3, H, W)` as maps `(B, H, W)`, with or without their sign."""
    return pixel_maps.total(values) if recipe.sign == "signed" else pixel_maps.strongest(values)


def forgetting(
    recipe: Saliency,
    network: Network,
    pictures: Float[Tensor, "photos 3 height width"],
    classes: list[int],
    kinds: Mapping[str, tuple[str, str]],
) -> tuple[list[str], dict[str, list[Float[Tensor, "photos height width"]]]]:
    """Maps of a network that forgets from its output down, in the recipe's number of stages.

    Args:
        recipe: stages, seed, and what the methods need; its own method and sign have no say.
        network: left as it is, a copy forgets.
        pictures: `(B, 3, H, W)` in [0, 1].
        classes: one per picture.
        kinds: method and sign of each kind of map, by the name it goes by.

    Returns:
        The stages: "trained", then the lowest layer that is random; and for each kind its maps, one `(B, H, W)` each.

    Source: Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 3.1.
    """
    methods = dict.fromkeys(method for method, _ in kinds.values())
    stages, maps = [], {kind: [] for kind in kinds}

    def look(stage: str, forgetful: Network) -> None:
        values = {
            method: attribute(recipe.changed(method=method), forgetful, pictures, classes)[1] for method in methods
        }
        stages.append(stage)
        for kind, (method, sign) in kinds.items():
            maps[kind].append(maps_of(recipe.changed(sign=sign), values[method].cpu()))

    look("trained", network)
    for layer, forgetful in randomisation.cascade(network, recipe.stages, recipe.seed):
        look(layer, forgetful)
    return stages, maps


def sheet(explanation: Explanation, columns: int = 6, limit: int | None = None) -> Image.Image:
    """Every photo (at most `limit`) with its overlay below it, and below that the class and its probability."""
    return explanations.sheet(explanation, captions(explanation), LEGIBLE, columns, limit)


def methods_sheet(
    photos: Float[Tensor, "photos 3 height width"],
    values: Mapping[str, Float[Tensor, "photos 3 height width"]],
    signed: Sequence[str] = (),
) -> Image.Image:
    """One photo a row: the photo, its map by each method, and again with a sign by those in `signed`.

    Args:
        photos: `(B, 3, H, W)` in [0, 1].
        values: attributions, as `attribute` gives them, by method.
        signed: methods whose map is shown as a sum over the colours as well.
    """
    maps = [overlays.colour(pixel_maps.strongest(each)) for each in values.values()]
    maps += [overlays.colour(pixel_maps.total(values[method]), overlays.DIVERGING) for method in signed]
    titles = [
        name.replace("backpropagation", "backprop.").replace(" ", "\n", 1) for name in ("photo", *values, *signed)
    ]
    pictures = torch.stack([photos, *maps], 1).flatten(0, 1)  # one photo a column as computed, one a row as shown
    return images.tile(images.resize(pictures, 96), columns=len(titles), labels=titles * len(photos))


def captions(explanation: Explanation) -> list[str]:
    """Two lines per photo: its class, and the class's probability; "a person" for people."""
    shares = explanation.probabilities.tolist()
    texts = [f"{label}\n{share:.0%}" for label, share in zip(explanation.labels, shares, strict=True)]
    return explanation.photos.captions(texts)


def write(recipe: Saliency, folder: str | Path, network: nn.Module | None = None) -> Iterator[Explanation]:
    """Explain any number of photos, each overlay written as soon as it is there; see `explanations.write`."""
    files = dict(list(photo_files(recipe).items())[: recipe.count])
    yield from explanations.write(recipe, files, folder, network)


def save(recipe: Saliency, explanation: Explanation, folder: str | Path) -> list[Path]:
    """Write each overlay as a PNG with its recipe inside, from which `recipes.remake` makes it again.

    Returns:
        The paths, one per photo that could be explained.
    """
    return explanations.save(recipe, explanation, folder)
