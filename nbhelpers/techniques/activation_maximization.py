"""Activation maximization: the picture that a channel responds to most.

Start from noise and climb: change the picture, never the weights, so that a channel's mean activation grows (Erhan,
Bengio, Courville, Vincent, "Visualizing Higher-Layer Features of a Deep Network", 2009). Climbing from a small
picture to a large one, with a blur at each enlargement, keeps the fine noise from winning; the canvas and the
transforms do the rest (Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017). At the defaults light and
colour stay about as strong as in photographs, and every round ends in small steps: what a picture shows is then what
the channel likes to see, and not how loud the optimiser could make it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from nbhelpers import ascent, images, models, recipes
from nbhelpers.ascent import Step, Transforms, generators, last_size, measure, objectives, picture_seeds, planned
from nbhelpers.ascent.canvas import Canvas, canvas_of
from nbhelpers.recipes import Field, NetworkName, Numbers, PictureSize, Recipe

SIDE = 220
"""Of a picture on a sheet in pixels, at least: the lines under it take as much."""
MANY = 16
"""More pictures than so many make a layer's sheet: smaller, each with its channel's number and height alone."""
SMALL = 112
"""Of a picture on a layer's sheet in pixels, at most."""


class ActivationMaximization(Recipe):
    """Pictures that maximise channels, units or a whole layer of a network (Erhan et al. 2009)."""

    network: NetworkName = Field("minivgg_robust", description="a bundled network or any torchvision classifier")
    layer: str = Field("block4.conv1", description="dotted name of the layer, best before its ReLU; empty: the logits")
    channels: Numbers = Field([18, 57, 122, 200], min_length=1, description="feature maps, one picture each")
    objective: Literal["channel", "unit", "layer"] = Field(
        "channel", description="what is maximised: the channel's mean, its centre unit, or the whole layer (deep dream)"
    )
    canvas: Literal["natural", "fourier", "fourier_rgb", "maco", "pixels"] = Field(
        "natural", description="what is optimised"
    )
    start: str = Field("noise", description="'noise', or the path of a photo to start from")
    size: PictureSize = Field(96, description="side of the first round's picture in pixels, or (height, width)")
    rounds: int = Field(3, ge=1, le=16, description="sizes, from small to large")
    steps: int = Field(32, ge=1, le=1000, description="steps of Adam a round; 1.3 times as many in the later half")
    learning_rate: float = Field(0.03, gt=0, le=0.2, description="of Adam, in the canvas's own unit")
    settle: bool = Field(True, description="whether the learning rate falls to zero along half a cosine in every round")
    weight_decay: float = Field(1e-6, ge=0, le=1, description="of Adam")
    upscale_factor: float = Field(1.2, ge=1, le=2, description="growth of the side per round")
    blur: int = Field(3, ge=0, le=15, description="side of the box blur after each enlargement in pixels; 0 for none")
    jitter: float = Field(4, ge=0, le=32, description="largest shift before each step in pixels")
    scale: float = Field(0.1, ge=0, le=1, description="largest relative change of size before each step")
    rotate: float = Field(5, ge=0, le=45, description="largest rotation before each step in degrees")
    diversity: float = Field(0, ge=0, le=100, description="weight of being unlike the other pictures of the batch")
    seed: int = Field(0, ge=0, description="the same seed gives the same picture")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the network's arithmetic")

    unsaid: ClassVar[dict[str, Any]] = {"settle": False}

    def idle(self) -> dict[str, str]:
        """The growth between rounds, where there is one round; what concerns several pictures, where there is one."""
        found = dict.fromkeys(("upscale_factor", "blur"), "a single round enlarges nothing") if self.rounds == 1 else {}
        return found | ({"diversity": "a single picture has no others"} if len(self.channels) == 1 else {})

    def scored(self) -> str:
        said = {
            "channel": "mean activation",
            "unit": "activation of the centre unit",
            "layer": "mean squared activation",
        }
        return said[self.objective] + (" and diversity" if self.diversity else "")

    def iterate(self, network: nn.Module | None = None) -> Iterator[Step]:
        """Climb, yielding every step; see `climb`."""
        return climb(self, network)


def multi_scale(**changes) -> ActivationMaximization:
    """The published multi-scale procedure: plain pixels, twelve sizes from 56 up, enlarged and blurred in between."""
    published = {
        **{
            "canvas": "pixels",
            "size": 56,
            "rounds": 12,
            "steps": 50,
            "learning_rate": 0.01,
            "settle": False,
            "blur": 5,
        },
        **{"jitter": 0, "scale": 0, "rotate": 0},
    }
    return ActivationMaximization(**{**published, **changes})


def ladder(recipe: ActivationMaximization) -> dict[str, ActivationMaximization]:
    """The same channel and seed six times, each rung with one trick more; all end at one size after as many steps."""
    final = last_size(recipe.size, recipe.rounds, recipe.upscale_factor)
    all_steps = sum(planned(recipe.rounds, recipe.steps))
    still = recipe.changed(canvas="pixels", jitter=0, scale=0, rotate=0)
    shaken = recipe.changed(canvas="pixels")
    return {
        # not `changed`: the last side and all steps may be more than a recipe allows for one round
        "pixels": still.model_copy(update={"size": final, "rounds": 1, "steps": all_steps}),
        "+ scales and blur": still,
        "+ jitter": shaken,
        "+ Fourier": shaken.changed(canvas="fourier_rgb"),
        "+ colour": shaken.changed(canvas="fourier"),
        "+ limits": shaken.changed(canvas="natural"),
    }


def climb(recipe: ActivationMaximization, network: nn.Module | None = None) -> Iterator[Step]:
    """Maximise the recipe's objective in `rounds` sizes, yielding every step of all of them.

    Args:
        recipe: what to maximise, and how.
        network: used in place of the one the recipe names.

    Yields:
        Steps, numbered through all rounds. The picture grows from round to round.

    Raises:
        KeyError: the layer is unknown. ValueError: it has no feature maps or no such channel, or the first round's
        picture is too small for it. NonFiniteScore: the climb left the numbers; the last good picture is kept.
    """
    network = models.as_network(network if network is not None else recipe.network)
    if recipe.layer == objectives.OUTPUT:
        models.class_indices(network, recipe.channels, recipe.size)
    else:
        models.check_channels(network, recipe.layer, recipe.channels, recipe.size)
    objective = _objective(recipe)
    seeds = picture_seeds(recipe.seed, recipe.channels)
    yield from ascent.climb(
        network,
        objective,
        _first_canvas(recipe, seeds, network),
        plan=planned(recipe.rounds, recipe.steps),
        upscale_factor=recipe.upscale_factor,
        blur=recipe.blur,
        seeds=seeds,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        transforms=Transforms(recipe.jitter, recipe.scale, recipe.rotate),
        settle=recipe.settle,
        precision=recipe.precision,
    )


def verdicts(recipe: ActivationMaximization, step: Step, network: nn.Module | None = None) -> list[str]:
    """One line per picture: its channel's mean activation, or that it never fires."""
    network = models.as_network(network if network is not None else recipe.network)
    scores = measure(network, _objective(recipe.changed(diversity=0)), step.pixels)
    lines = []
    for channel, score, alive in zip(recipe.channels, scores.tolist(), step.alive.tolist(), strict=True):
        name = f"{recipe.layer} whole" if recipe.objective == "layer" else f"channel {channel}"
        if not alive:
            lines.append(f"{name}: never fires")
        elif score <= 0:
            lines.append(f"{name}: stays below zero ({score:.2f})")
        else:
            lines.append(f"{name}: {score:.2f}")
    return lines


def surpassed(
    recipe: ActivationMaximization,
    step: Step,
    photos: Float[Tensor, "photos 3 height width"],
    network: nn.Module | None = None,
) -> Float[Tensor, " pictures"]:
    """Share of the photos that each picture excites its channel more than; a picture is to surpass them all.

    Args:
        recipe: what made them.
        step: its last one.
        photos: `(N, 3, H, W)` in [0, 1], best of the pictures' size.
        network: used in place of the one the recipe names.
    """
    network = models.as_network(network if network is not None else recipe.network)
    objective, photos = _objective(recipe.changed(diversity=0)), photos.to(step.pixels)
    made = measure(network, objective, step.pixels)
    by_photos = torch.stack([measure(network, objective, photo.expand(len(made), -1, -1, -1)) for photo in photos])
    return (made > by_photos).float().mean(0).cpu()


def sheet(
    recipe: ActivationMaximization,
    step: Step,
    network: nn.Module | None = None,
    photos: Float[Tensor, "photos 3 height width"] | None = None,
) -> Image.Image:
    """All pictures of the batch side by side; under each its verdict, how many photos it surpasses, its naturalness.

    A channel that never fires is left blank.
    """
    pictures = step.picture
    if len(pictures) > MANY:
        pictures[~step.alive] = 1.0
        labels = [line.removeprefix("channel ") for line in verdicts(recipe, step, network)]
        return images.tile(images.resize(pictures, min(SMALL, *pictures.shape[2:])), labels=labels)
    told = verdicts(recipe, step, network)
    if photos is not None:
        counts = (surpassed(recipe, step, photos, network) * len(photos)).round().int().tolist()
        told = [f"{line}\nabove {count} of {len(photos)} photos" for line, count in zip(told, counts, strict=True)]
    natural, alive = images.naturalness(pictures).lines(), step.alive.tolist()
    labels = [f"{a}\n{b}" if fires else a for a, b, fires in zip(told, natural, alive, strict=True)]
    pictures[~step.alive] = 1.0
    return images.tile(images.resize(pictures, max(SIDE, min(pictures.shape[2:]))), labels=labels)


def save(
    recipe: ActivationMaximization,
    step: Step,
    folder: str | Path,
    network: nn.Module | None = None,
    photos: Float[Tensor, "photos 3 height width"] | None = None,
) -> list[Path]:
    """Write each picture as a PNG with its recipe inside, from which `recipes.remake` makes it again.

    Each holds how natural it is and, where photos are given, the share that it surpasses (`surpassed`).

    Returns:
        The paths, one per picture, named after layer, channel and recipe. A channel that never fires has no picture.
    """
    layer, channels = recipe.layer or "logits", zip(recipe.channels, step.alive.tolist(), strict=True)
    names = [f"{layer}-{channel}-{index}" if alive else None for index, (channel, alive) in enumerate(channels)]
    measured = images.naturalness_of_each(step.picture)
    if photos is not None:
        shares = surpassed(recipe, step, photos, network).tolist()
        measured = [
            known | {"surpassed photos": round(share, 3)} for known, share in zip(measured, shares, strict=True)
        ]
    return recipes.save_pictures(recipe, step.picture, names, folder, measured=measured)


def _objective(recipe: ActivationMaximization) -> objectives.Objective:
    if recipe.objective == "layer":
        main = objectives.deep_dream(recipe.layer)
    elif recipe.objective == "unit":
        main = objectives.unit(recipe.layer, recipe.channels)
    else:
        main = objectives.channel(recipe.layer, recipe.channels)
    return main + recipe.diversity * objectives.diversity(recipe.layer) if recipe.diversity else main


def _first_canvas(recipe: ActivationMaximization, seeds: list[int], network: models.Network) -> Canvas:
    kind, device = canvas_of(recipe.canvas, network.channels), network.mean.device
    if recipe.start == "noise":
        return kind.random(*models.sides(recipe.size), generators(seeds), device)
    photo = images.read(recipe.start, recipe.size).to(device)
    return kind.from_picture(photo.expand(len(seeds), -1, -1, -1))
