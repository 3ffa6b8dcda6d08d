"""Direction pictures: what a layer means by a vector of its channels.

A channel is one direction of many in the space of a layer's activations. Any other can be drawn as well: the activation
at a place of a photo, the mean of a thousand such places, a component of their covariance, a concept that was found in
them (Olah et al., "The Building Blocks of Interpretability", Distill 2018; Carter et al., "Activation Atlas", Distill
2019). All directions of a recipe are drawn together, each from the same noise under the same shakes, so that what
differs between two pictures comes from the directions alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbhelpers import ascent, edge, images, models, recipes
from nbhelpers.ascent import Step, Transforms, generators, objectives, picture_seeds, planned
from nbhelpers.ascent.canvas import canvas_of
from nbhelpers.models import Network
from nbhelpers.recipes import Field, NetworkName, PictureSize, Recipe

DIGITS = 3
"""Significant digits of a direction in a recipe: what is beyond them cannot be seen, and every picture carries them."""

TOGETHER = 16
"""Pictures in one batch: more at a time are hardly faster, and each carries the directions of its whole batch."""


class DirectionPictures(Recipe):
    """Pictures that maximise directions in a layer's activations (Olah et al. 2018)."""

    network: NetworkName = Field("minivgg_robust", description="a bundled network or any torchvision classifier")
    layer: str = Field("block4.conv1", description="dotted name of the layer, best before its ReLU")
    directions: list[list[float]] = Field(
        min_length=1, description="one picture each: as many numbers as the layer has channels, of any length"
    )
    size: PictureSize = Field(64, description="side of the first round's picture in pixels, or (height, width)")
    rounds: int = Field(2, ge=1, le=16, description="sizes, from small to large")
    steps: int = Field(20, ge=1, le=1000, description="steps of Adam a round; 1.3 times as many in the later half")
    learning_rate: float = Field(0.01, gt=0, le=0.2, description="of Adam, in the canvas's own unit")
    upscale_factor: float = Field(1.2, ge=1, le=2, description="growth of the side per round")
    blur: int = Field(5, ge=0, le=15, description="side of the box blur after each enlargement in pixels; 0 for none")
    jitter: float = Field(8, ge=0, le=32, description="largest shift before each step in pixels")
    scale: float = Field(0.2, ge=0, le=1, description="largest relative change of size before each step")
    rotate: float = Field(10, ge=0, le=45, description="largest rotation before each step in degrees")
    seed: int = Field(0, ge=0, description="the same seed gives the same picture")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the network's arithmetic")

    def idle(self) -> dict[str, str]:
        """The growth between rounds, where there is one round."""
        return dict.fromkeys(("upscale_factor", "blur"), "a single round enlarges nothing") if self.rounds == 1 else {}

    def scored(self) -> str:
        return "mean activation along the direction"

    def iterate(self, network: nn.Module | None = None) -> Iterator[Step]:
        """Climb, yielding every step; see `climb`."""
        return climb(self, network)


def rounded(vectors: Float[Tensor, "directions channels"]) -> list[list[float]]:
    """Vectors as a recipe takes them: scaled to unit length, each number to a few significant digits."""
    unit = nn.functional.normalize(vectors.double(), dim=1)
    return [[float(f"{number:.{DIGITS}g}") for number in vector] for vector in unit.tolist()]


def climb(recipe: DirectionPictures, network: nn.Module | None = None) -> Iterator[Step]:
    """Maximise every direction of the recipe in one batch, in `rounds` sizes, yielding every step of all of them.

    Args:
        recipe: what to maximise, and how.
        network: used in place of the one the recipe names.

    Yields:
        Steps, numbered through all rounds. The picture grows from round to round.

    Raises:
        KeyError: the layer is unknown. ValueError: it has no feature maps, or a direction does not fit it or points
        nowhere. NonFiniteScore: the climb left the numbers; the last good picture is kept.
    """
    network = models.as_network(network if network is not None else recipe.network)
    _check(recipe, network)
    seeds = picture_seeds(recipe.seed, [0]) * len(recipe.directions)
    kind = canvas_of("fourier", network.channels)
    yield from ascent.climb(
        network,
        _objective(recipe),
        kind.random(*models.sides(recipe.size), generators(seeds), network.mean.device),
        plan=planned(recipe.rounds, recipe.steps),
        upscale_factor=recipe.upscale_factor,
        blur=recipe.blur,
        seeds=seeds,
        learning_rate=recipe.learning_rate,
        transforms=Transforms(recipe.jitter, recipe.scale, recipe.rotate),
        precision=recipe.precision,
        together=True,  # an atlas has hundreds of small ones, in batches that their recipes hold
    )


def draw(recipe: DirectionPictures, network: nn.Module | None = None) -> Float[Tensor, "directions 3 height width"]:
    """The finished pictures of all directions, however many: one batch of the recipe after the other, under a bar."""
    network = models.as_network(network if network is not None else recipe.network)
    _check(recipe, network)
    pictures = []
    with edge.Bar(total=len(recipe.directions), desc="drawing", unit="picture", leave=False) as bar:
        for batch in batches(recipe):
            pictures.append(batch.run(network).picture.cpu())
            bar.update(len(batch.directions))
    return torch.cat(pictures)


def batches(recipe: DirectionPictures) -> list[DirectionPictures]:
    """The recipe cut into batches of at most `TOGETHER` pictures; what it draws is what these draw, end to end."""
    directions = recipe.directions
    starts = range(0, len(directions), TOGETHER)
    return [recipe.changed(directions=directions[start : start + TOGETHER]) for start in starts]


def strengths(
    recipe: DirectionPictures, pictures: Float[Tensor, "directions 3 height width"], network: nn.Module | None = None
) -> Float[Tensor, " directions"]:
    """How far each finished picture drives the layer along its own direction: the mean projection on it."""
    network = models.as_network(network if network is not None else recipe.network)
    return ascent.measure(network, _objective(recipe), pictures.to(network.mean.device)).cpu()


def save(
    recipe: DirectionPictures, pictures: Float[Tensor, "directions 3 height width"], folder: str | Path
) -> list[Path]:
    """Write each picture that `draw` gave as a PNG with the recipe of its batch inside.

    The whole batch, because the last bits of a network's arithmetic depend on it, and a climb makes much of them: so
    `recipes.remake` gives the same pixels again.

    Returns:
        The paths, one per picture, named after recipe, layer and number.
    """
    paths = []
    for batch in batches(recipe):
        names = [f"{recipe.layer}-{index}" for index in range(len(batch.directions))]
        drawn = pictures[len(paths) :][: len(names)]
        natural = images.naturalness_of_each(drawn)
        paths += recipes.save_pictures(batch, drawn, names, folder, measured=natural)
    return paths


def _objective(recipe: DirectionPictures) -> objectives.Objective:
    return objectives.direction(recipe.layer, torch.tensor(recipe.directions, dtype=torch.float32))


def _check(recipe: DirectionPictures, network: Network) -> None:
    channels = models.check_layer(network, recipe.layer, recipe.size).channels
    for index, direction in enumerate(recipe.directions):
        if len(direction) != channels:
            raise ValueError(
                f"direction {index} has {len(direction)} numbers, and layer {recipe.layer!r} of {network.name} has "
                f"{channels} channels: give one number per channel"
            )
        vector = torch.tensor(direction, dtype=torch.float32)
        if not vector.isfinite().all() or not vector.any():
            raise ValueError(f"direction {index} points nowhere: its numbers are all 0, or some are not finite")
