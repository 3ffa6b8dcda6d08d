"""Grad-CAM: where the network looks when it says a class.

The last convolutional layer still knows places, and already knows objects. How the class logit would change with each
of its channels says how much a channel matters; the channels added up by that weight are a map of the evidence
(Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, "Grad-CAM", ICCV 2017). With the gradients negated the map shows
what speaks against the class. Five relatives weigh the channels otherwise; which of them tells the truth is judged by
where they point and by what happens when the pixels they point at are taken away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from nbhelpers import images, models
from nbhelpers.attribution import boxes, cams, contest, explanations
from nbhelpers.attribution.contest import Verdict
from nbhelpers.attribution.explanations import Explanation
from nbhelpers.attribution.gradients import chosen_class, targets
from nbhelpers.images import overlays
from nbhelpers.models import Network
from nbhelpers.models.stages import select
from nbhelpers.recipes import Field, NetworkName, PhotoFit, PhotoSize, Recipe

LEGIBLE = 144  # pixels; smaller pictures are enlarged to this on a sheet, so that their labels fit


class GradCAM(Recipe):
    """Maps of where the evidence for a class lies, one per photo (Selvaraju et al. 2017)."""

    unsaid: ClassVar[dict[str, Any]] = {"fit": "crop"}

    network: NetworkName = Field("minivgg_robust", description="a bundled network or any torchvision classifier")
    layer: str = Field("block4", description="a layer that gives feature maps; empty: the deepest stage")
    photos: str = Field("../sample_images", description="a folder of photos, or one photo")
    photo_size: PhotoSize = Field(96, description="shorter side of the photos in pixels, or (height, width)")
    fit: PhotoFit = "whole"
    target: str | int = Field("", description="the class: its name or number; empty: the one each photo is given")
    method: Literal["grad_cam", "grad_cam_plus_plus", "layer_cam", "eigen_cam", "score_cam", "guided_grad_cam"] = Field(
        "grad_cam", description="how the channels of the layer are weighed"
    )
    counterfactual: bool = Field(False, description="what speaks against the class, instead of for it")
    score_channels: int = Field(16, ge=1, le=4096, description="channels per photo that score_cam tries; 4096 for all")
    opacity: float = Field(0.55, ge=0, le=1, description="share of the map in the overlay; 0 shows the photo alone")
    colour_map: Literal["magma", "inferno", "viridis", "turbo", "gray"] = Field(
        "magma", description="colours of the overlay, from no evidence to most"
    )
    boxes: str = Field("", description="file of the objects' boxes, for the table; empty: boxes.json beside the photos")
    tolerance: float = Field(0.067, ge=0, le=1, description="distance from a box that counts as a hit, in sides")
    data: str = Field("", description="a data folder with boxes, for a contest over thousands; empty: none")
    data_count: int = Field(500, ge=1, description="pictures of the data folder that take part")
    steps: int = Field(6, ge=1, le=512, description="portions in which pixels are taken away, for the table")
    batch_size: int = Field(32, ge=1, le=1024, description="photos at a time; bounds the memory")
    seed: int = Field(0, ge=0, description="of the untrained network that is the control")

    def idle(self) -> dict[str, str]:
        """What only one of the methods asks for, and the colours of a map that is not seen."""
        found = {} if self.method == "score_cam" else {"score_channels": "only score_cam tries channels"}
        return found | ({"colour_map": "at opacity 0 the map is not seen"} if self.opacity == 0 else {})

    def scored(self) -> str:
        return "logit of the class"

    def iterate(self, network: nn.Module | None = None, numbers: Sequence[int] | None = None) -> Iterator[Explanation]:
        """Map the photos, yielding every batch; see `mapped`."""
        yield from mapped(self, network, numbers)

    def joined(self, steps: Iterable[Explanation]) -> Explanation:
        """All batches as one."""
        return explanations.joined(steps)

    def one_picture(self, index: int, network: nn.Module | None = None) -> Float[Tensor, "3 height width"]:
        """One photo's overlay, by the photo's number; no other is mapped."""
        (step,) = mapped(self, network, [index])
        return step.picture[0]


def mapped(
    recipe: GradCAM, network: nn.Module | None = None, numbers: Sequence[int] | None = None
) -> Iterator[Explanation]:
    """Maps for all photos of a recipe, a batch at a time.

    Args:
        recipe: which photos, layer, class and method.
        network: used in place of the one the recipe names.
        numbers: of the photos that are wanted, from 0; all unless given.

    Yields:
        Every batch. A photo that cannot be mapped is named in `failed`, and the others of its batch keep their maps.

    Raises:
        FileNotFoundError, ValueError: no photo can be read or mapped; an unknown class (the nearest are offered); a
            network without class logits; a layer without feature maps, or with a single place; Eigen-CAM asked for a
            counterfactual. KeyError: no such layer (the nearest are offered).
    """
    network = models.as_network(network if network is not None else recipe.network)
    layer = chosen_layer(recipe, network)
    target = chosen_class(network, recipe.target, recipe.photo_size)
    files = images.listed(recipe.photos)
    batches = explanations.photo_batches(network, recipe, files, numbers)
    manner = {"channels": recipe.score_channels, "counterfactual": recipe.counterfactual}

    def attributed(pictures: Tensor, places: list[int]) -> tuple[Tensor, Tensor]:
        maps, logits = cams.class_maps(network, layer, pictures, target, recipe.method, **manner)
        return logits, maps.float()

    options = {"opacity": recipe.opacity, "colour_map": recipe.colour_map}
    total = len(files) if numbers is None else len(numbers)
    yield from explanations.explain(network, batches, total, target, attributed, **options)


def chosen_layer(recipe: GradCAM, network: Network) -> str:
    """Name of the recipe's layer, which gives feature maps.

    Raises:
        KeyError, ValueError: no such layer, or no feature maps at this size.
    """
    if not recipe.layer:
        return select(network, "", recipe.photo_size)[0].name
    return models.check_layer(network, recipe.layer, recipe.photo_size).name


def sheet(step: Explanation, columns: int = 6) -> Image.Image:
    """Every photo with its overlay below it, and below that the class and its probability; "a person" for people."""
    side = max(LEGIBLE, *(max(picture.shape[1:]) for picture in step.picture))
    photos, overlaid = (images.framed(pictures, side) for pictures in (step.photos.pictures, step.picture))
    columns = min(columns, len(photos))
    texts = [f"{label} {share:.0%}" for label, share in zip(step.labels, step.probabilities.tolist(), strict=True)]
    texts = step.photos.captions(texts)
    pictures, labels = [], []
    for start in range(0, len(photos), columns):
        row = slice(start, start + columns)
        blank = [torch.ones_like(photos[0])] * (columns - len(photos[row]))
        pictures += [*photos[row], *blank, *overlaid[row], *blank]
        labels += [""] * columns + texts[row] + [""] * len(blank)
    return images.tile(pictures, columns=columns, labels=labels)


def methods_sheet(
    recipe: GradCAM,
    network: nn.Module | None = None,
    methods: Sequence[str] = cams.METHODS,
    places: Sequence[int] | None = None,
) -> Image.Image:
    """One photo a row: the photo, and its overlay by each of the methods.

    Args:
        recipe: `method` has no say.
        network: used in place of the one the recipe names.
        methods: of `cams.METHODS`.
        places: which of the recipe's photos, counted from 0; all unless given.
    """
    network = models.as_network(network if network is not None else recipe.network)
    manner = models.photo_fit(network, recipe.photo_size, recipe.fit)
    photos = images.read_many(recipe.photos, recipe.photo_size, **manner)
    chosen = list(range(len(photos)) if places is None else places)
    options = {"counterfactual": recipe.counterfactual, "channels": recipe.score_channels}
    layer, target = chosen_layer(recipe, network), chosen_class(network, recipe.target, recipe.photo_size)
    rows: dict[int, list[Tensor]] = {}
    texts: dict[int, str] = {}
    for numbers, pictures in images.alike([photos.pictures[place] for place in chosen]):
        maps, logits = cams.all_class_maps(network, layer, pictures, target, methods, **options)
        painted = [overlays.overlay(pictures, each.cpu(), recipe.opacity, recipe.colour_map) for each in maps.values()]
        rows |= zip(numbers, map(list, zip(pictures, *painted, strict=True)), strict=True)
        given = targets(network, logits, target)
        shares = models.shares(logits).cpu()[range(len(given)), given].tolist()
        told = [f"{network.class_name(number)} {share:.0%}" for number, share in zip(given, shares, strict=True)]
        texts |= zip(numbers, told, strict=True)
    ordered = [picture for _, row in sorted(rows.items()) for picture in row]
    side = max(LEGIBLE, *(max(picture.shape[1:]) for picture in ordered))
    named = replace(photos, names=[photos.names[place] for place in chosen])
    captions = named.captions([text for _, text in sorted(texts.items())])
    labels = [label for text in captions for label in (text, *map(_title, methods))]
    return images.tile(images.framed(ordered, side), columns=1 + len(methods), labels=labels)


def save(recipe: GradCAM, step: Explanation, folder: str | Path) -> list[Path]:
    """Write each overlay as a PNG with its recipe inside, from which `recipes.remake` makes it again.

    Returns:
        The paths, one per photo that could be mapped.
    """
    return explanations.save(recipe, step, folder)


def write(recipe: GradCAM, folder: str | Path, network: nn.Module | None = None) -> Iterator[Explanation]:
    """Map any number of photos, each overlay written as soon as it is there; see `explanations.write`."""
    yield from explanations.write(recipe, images.listed(recipe.photos), folder, network)


def compare(recipe: GradCAM, network: nn.Module | None = None, methods: Sequence[str] = cams.METHODS) -> Verdict:
    """Which method is best here: pointing game and deletion area over the recipe's photos, which need boxes.

    Args:
        recipe: which photos, boxes, layer and class; `method` and `counterfactual` have no say.
        network: used in place of the one the recipe names.
        methods: of `cams.METHODS`.

    Raises:
        As `mapped`; and FileNotFoundError, ValueError: no file of boxes, or one that does not match the photos.
    """
    network = models.as_network(network if network is not None else recipe.network)
    manner = models.photo_fit(network, recipe.photo_size, recipe.fit)
    boxed = boxes.read(recipe.photos, recipe.photo_size, recipe.boxes or None, **manner)
    return contest.compare(
        network,
        chosen_layer(recipe, network),
        boxed,
        chosen_class(network, recipe.target, recipe.photo_size),
        methods,
        steps=recipe.steps,
        tolerance=recipe.tolerance,
        channels=recipe.score_channels,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
    )


def _title(method: str) -> str:
    return method.replace("_plus_plus", "++").replace("_", " ")
