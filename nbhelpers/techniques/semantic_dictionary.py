"""Semantic dictionary: what a layer says at one place of a photo, channel by channel.

At every place of its map a layer answers with one number per channel. The strongest of them, each beside the picture
that its channel means, read like the entries of a dictionary; how much an entry speaks for a class is its activation
times the gradient of the class logit there (Olah, Satyanarayan, Johnson, Carter, Schubert, Ye, Mordvintsev,
"The Building Blocks of Interpretability", Distill 2018). Taken together, the whole vector at a place is a direction,
which can be drawn as well. The control takes the strongest channels away and looks at what the class loses, against
as many channels drawn at random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nbhelpers import images, models
from nbhelpers.attribution import cams, gradients, pixel_maps
from nbhelpers.images import overlays
from nbhelpers.models import Network
from nbhelpers.recipes import Field, NetworkName, PhotoFit, PhotoSize, Recipe

MAPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    **cams.GRADIENT_METHODS,
    "eigen_cam": lambda activations, gradients: cams.eigen_cam(activations),
}
PIXEL_MAPS = {
    "pixels": pixel_maps.gradient,
    "gradient_times_input": pixel_maps.gradient_times_input,
    "smoothgrad": pixel_maps.smoothgrad,
    "integrated_gradients": pixel_maps.integrated_gradients,
    "guided_backpropagation": pixel_maps.guided_backpropagation,
}
SCORED = 32  # channels of Score-CAM, those whose maps vary most: it takes a pass for each, and the reader waits
CLASSLESS = {"eigen_cam": "eigen_cam knows no class", "principal_features": "principal features know no class"}


class SemanticDictionary(Recipe):
    """What a layer says at places of a photo, and how much it speaks for a class (Olah et al. 2018)."""

    unsaid: ClassVar[dict[str, Any]] = {"fit": "crop"}

    network: NetworkName = Field("minivgg_robust", description="a bundled network or any torchvision classifier")
    layer: str = Field("block4.conv1", description="dotted name of a layer that gives feature maps")
    photo: str = Field("../sample_images/cat.jpg", description="path of the photo")
    photo_size: PhotoSize = Field(96, description="shorter side of the photo in pixels, or (height, width)")
    fit: PhotoFit = "whole"
    target: str | int = Field("", description="the class: its name or number; empty: the one the photo is given")
    rival: str | int = Field("", description="why not this class? evidence for it is subtracted; empty: no rival")
    places: list[list[float]] = Field(
        [[0.42, 0.4], [0.9, 0.1]], min_length=1, description="shares of the photo's height and width, 0 to 1"
    )
    channels: int = Field(6, ge=1, le=64, description="strongest channels per place")
    map: Literal[
        "grad_cam",
        "grad_cam_plus_plus",
        "layer_cam",
        "eigen_cam",
        "score_cam",
        "guided_grad_cam",
        "pixels",
        "gradient_times_input",
        "smoothgrad",
        "integrated_gradients",
        "guided_backpropagation",
        "principal_features",
    ] = Field("grad_cam", description="the map over the photo")
    opacity: float = Field(0.5, ge=0, le=1, description="share of the map in the overlay; 0 shows the photo alone")
    cells: int = Field(4, ge=1, le=16, description="cells along the shorter side of the grid of places")
    draws: int = Field(40, ge=2, le=1000, description="random sets of channels that are taken away as a control")
    seed: int = Field(0, ge=0, description="of the random sets, the made pictures and the untrained network")

    def idle(self) -> dict[str, str]:
        """A rival, where the map knows no class."""
        return {"rival": CLASSLESS[self.map]} if self.map in CLASSLESS else {}

    def scored(self) -> str:
        return "share of the class"

    def iterate(self, network: nn.Module | None = None) -> Iterator[Look]:
        """Look at the photo once; see `look`."""
        yield look(self, network)


@dataclass
class Look:
    """One photo in one layer.

    Attributes:
        photo: `(1, 3, H, W)` in [0, 1].
        logits: `(classes,)`.
        target: number of the class that the gradients belong to.
        activations, gradients: of the layer, `(C, h, w)`.
        evidence: the map over the photo, `(1, h, w)`; principal features are three, one per colour, `(3, h, w)`.
    """

    photo: Float[Tensor, "1 3 height width"]
    logits: Float[Tensor, " classes"]
    target: int
    activations: Float[Tensor, "channels map_height map_width"]
    gradients: Float[Tensor, "channels map_height map_width"]
    evidence: Float[Tensor, "maps _ _"]
    index: int = 1
    total: int = 1

    @property
    def scores(self) -> Float[Tensor, " 1"]:
        """Share of the class."""
        return models.shares(self.logits[None])[:, self.target]

    @property
    def shares(self) -> Float[Tensor, "channels map_height map_width"]:
        """Activation times gradient: what each channel speaks for the class at each place, to first order."""
        return self.activations * self.gradients

    def cell(self, place: Sequence[float]) -> tuple[int, int]:
        """Row and column of the layer's map at shares of the photo's height and width.

        Raises:
            ValueError: it is no place within the photo.
        """
        if len(place) != 2 or not all(0 <= share <= 1 for share in place):
            raise ValueError(f"{list(place)} is no place: give shares of the height and of the width, 0 to 1")
        sides = self.activations.shape[1:]
        return tuple(min(int(share * side), side - 1) for share, side in zip(place, sides, strict=True))


@dataclass
class Answer:
    """A channel, how strongly it answers at a place, and how much that speaks for the class."""

    channel: int
    strength: float
    share: float


@dataclass
class Ablation:
    """What the class loses without some channels, in logits, and without as many at random."""

    lost: float
    random: list[float]

    @property
    def above(self) -> float:
        """Share of the random sets whose loss is smaller."""
        return sum(loss < self.lost for loss in self.random) / len(self.random)


def look(recipe: SemanticDictionary, network: nn.Module | None = None) -> Look:
    """Pass the photo through the network once, and go back from the class to the layer.

    Raises:
        KeyError: the layer is unknown. ValueError: it has no feature maps; the photo cannot be read; an unknown class.
        FileNotFoundError: there is no such photo.
    """
    network = models.as_network(network if network is not None else recipe.network)
    models.check_layer(network, recipe.layer, recipe.photo_size)
    manner = models.photo_fit(network, recipe.photo_size, recipe.fit)
    photo = images.read(recipe.photo, recipe.photo_size, **manner)[None].to(network.mean.device)
    wanted = gradients.chosen_class(network, recipe.target, recipe.photo_size)
    activations, slopes, logits = gradients.layer_gradients(network, recipe.layer, photo, wanted)
    (target,) = gradients.targets(network, logits, wanted)
    rival = gradients.chosen_class(network, recipe.rival, recipe.photo_size)
    if rival is not None:
        slopes = slopes - gradients.layer_gradients(network, recipe.layer, photo, rival)[1]
    evidence = _evidence(recipe, network, photo, activations, slopes, target, rival)
    return Look(photo, logits[0], target, activations[0], slopes[0], evidence.float())


def _evidence(
    recipe: SemanticDictionary,
    network: Network,
    photo: Float[Tensor, "1 3 height width"],
    activations: Float[Tensor, "1 channels map_height map_width"],
    slopes: Float[Tensor, "1 channels map_height map_width"],
    target: int,
    rival: int | None,
) -> Float[Tensor, "maps _ _"]:
    """The recipe's map; with a rival, of what speaks for the class and not for the rival."""
    if recipe.map in MAPS:
        return MAPS[recipe.map](activations, slopes)
    if recipe.map == "principal_features":
        return principal_maps(activations[0])

    def of(number: int) -> Tensor:
        if recipe.map == "score_cam":
            return cams.score_cam(network, activations, photo, [number], channels=SCORED)
        if recipe.map == "guided_grad_cam":
            return cams.guided_grad_cam(network, recipe.layer, photo, number)
        return PIXEL_MAPS[recipe.map](network, photo, number)[1]

    found = of(target) if rival is None else of(target) - of(rival)
    return pixel_maps.strongest(found) if found.ndim == 4 else found.relu()


def principal_maps(
    activations: Float[Tensor, "channels map_height map_width"],
) -> Float[Tensor, "3 map_height map_width"]:
    """The three directions in which a layer's answers differ most between the places of one photo, each in [0, 1].

    The answers of all places, less their mean, are projected on their first three principal components; each map is
    stretched on its own and means the same only within this photo. Where there are fewer components, a map is 0.5.
    """
    height, width = activations.shape[1:]
    places = activations.flatten(1).T.float()
    places = places - places.mean(0)
    basis, strengths, _ = torch.linalg.svd(places, full_matrices=False)
    maps = torch.full((3, height * width), 0.5, device=places.device)
    for number in range(min(3, len(strengths))):
        if strengths[number] > 1e-4 * strengths[0].clamp(min=1e-12):
            values = basis[:, number]
            values = values * (1 if values[values.abs().argmax()] >= 0 else -1)  # the sign of a component is free
            maps[number] = (values - values.min()) / (values.max() - values.min())
    return maps.reshape(3, height, width)


def strongest(look: Look, place: Sequence[float], count: int) -> list[Answer]:
    """The channels that answer most strongly at a place, in order."""
    row, column = look.cell(place)
    strengths, shares = look.activations[:, row, column], look.shares[:, row, column]
    best = strengths.topk(min(count, len(strengths))).indices.tolist()
    return [Answer(channel, strengths[channel].item(), shares[channel].item()) for channel in best]


def grid(look: Look, cells: int) -> tuple[int, int]:
    """Rows and columns of a grid of cells that are as square as can be, so many along the photo's shorter side."""
    sides = look.photo.shape[2:]
    rows, columns = (round(cells * side / min(sides)) for side in sides)
    return rows, columns


def directions(look: Look, cells: int) -> Float[Tensor, "cells channels"]:
    """The mean activation of every cell of the `grid` over the photo, row by row."""
    return F.adaptive_avg_pool2d(look.activations[None], grid(look, cells))[0].flatten(1).T


def agreement(
    network: nn.Module,
    layer: str,
    vectors: Float[Tensor, "pictures channels"],
    pictures: Float[Tensor, "pictures 3 _ _"],
) -> tuple[float, float]:
    """Whether the layer answers made pictures in the directions that they were made for.

    Returns:
        The mean cosine, -1 to 1, of what the layer answers a picture (its mean over the places) with the picture's own
        direction, and with those of the other pictures. Only the distance between the two says something: where all
        directions are much alike, as in an untrained network, every picture fits every one.
    """
    answers = models.pooled_activations(network, layer, pictures)
    cosines = F.normalize(answers, dim=1) @ F.normalize(vectors.cpu().float(), dim=1).T
    own = cosines.diagonal().mean().item()
    others = (cosines.sum() - cosines.trace()) / max(1, cosines.numel() - len(cosines))
    return own, others.item()


def ablate(
    recipe: SemanticDictionary, look: Look, channels: Sequence[int], network: nn.Module | None = None
) -> Ablation:
    """Take channels away in the whole photo, and as many random ones, again and again; what does the class lose?"""
    network = models.as_network(network if network is not None else recipe.network)
    generator = torch.Generator().manual_seed(recipe.seed)
    sets = [list(channels)]
    for _ in range(recipe.draws):
        sets.append(torch.randperm(len(look.activations), generator=generator)[: len(channels)].tolist())
    kept = torch.ones(len(sets), len(look.activations), 1, 1)
    for mask, some in zip(kept, sets, strict=True):
        mask[some] = 0
    losses = [
        look.logits[look.target].item() - logit
        for some in kept.split(16)
        for logit in _without(network, recipe.layer, look.photo, some)[:, look.target].tolist()
    ]
    return Ablation(losses[0], losses[1:])


def draw(recipe: SemanticDictionary, look: Look) -> Float[Tensor, "1 3 height width"]:
    """The photo under its map."""
    if len(look.evidence) == 3:
        colours = F.interpolate(look.evidence[None], look.photo.shape[2:], mode="bilinear").to(look.photo)
        return look.photo * (1 - recipe.opacity) + colours * recipe.opacity
    return overlays.overlay(look.photo, look.evidence, recipe.opacity)


@torch.no_grad()
def _without(network: Network, layer: str, photo: Tensor, kept: Tensor) -> Tensor:
    """Logits of one photo as often as there are rows in `kept`, each with the layer's channels times that row."""
    double = models.twin(network)
    kept = kept.to(photo)
    models.find_module(double, layer).register_forward_hook(lambda module, inputs, output: output * kept)
    return double(photo.expand(len(kept), -1, -1, -1)).float()
