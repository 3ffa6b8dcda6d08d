"""Class pictures: what a network takes a class to be.

Climb from a plain picture so that one class's logit grows, less a penalty on the picture's squared norm (Simonyan,
Vedaldi, Zisserman, "Deep Inside Convolutional Networks", 2014, section 2). The logit, not the softmax: a probability
also rises by making every other class less likely, and such a picture shows what the others are not. What shakes and
waves add to the paper's recipe, `ladder` shows rung by rung; whether a picture shows anything, another network says
(`nbhelpers.ascent.recognition`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor, nn

from nbhelpers import ascent, images, models, recipes
from nbhelpers.ascent import (
    Recognition,
    Step,
    Transforms,
    generators,
    last_size,
    measure,
    objectives,
    picture_seeds,
    planned,
    recognised,
)
from nbhelpers.ascent.canvas import Canvas, canvas_of, natural_images
from nbhelpers.models import capture, parts
from nbhelpers.recipes import Field, NetworkName, PictureSize, Recipe

__all__ = [
    "ClassPictures",
    "Recognition",
    "for_bundled_networks",
    "for_large_networks",
    "ladder",
    "recognised",
    "save",
    "sheet",
    "verdicts",
]


LEAK = 0.1  # weight of what a head says before its ReLU, beside the logit
LEGIBLE = 160  # pixels; pictures on a sheet are scaled to this side


class ClassPictures(Recipe):
    """Pictures that maximise the logits of classes (Simonyan, Vedaldi, Zisserman 2014)."""

    network: NetworkName = Field("minivgg_robust", description="a bundled network or any torchvision classifier")
    classes: list[str | int] = Field(
        ["goldfish", "lesser panda", "school bus", "pizza"],
        min_length=1,
        description="names or numbers, one picture each",
    )
    objective: Literal["logit", "softmax"] = Field("logit", description="what is maximised")
    l2_weight: float = Field(30, ge=0, le=1e4, description="of the mean squared distance from grey, subtracted")
    variation_weight: float = Field(
        0, ge=0, le=1e4, description="of the mean difference between neighbours, subtracted"
    )
    start: Literal["zero", "mean", "noise"] = Field(
        "noise", description="grey, where the penalty is zero; the mean colour of the data; or noise"
    )
    canvas: Literal["natural", "fourier", "fourier_rgb", "maco", "pixels"] = Field(
        "fourier", description="what is optimised"
    )
    size: PictureSize = Field(64, description="side of the first round's picture in pixels, or (height, width)")
    rounds: int = Field(2, ge=1, le=16, description="sizes, from small to large")
    steps: int = Field(60, ge=1, le=2000, description="steps of Adam a round; 1.3 times as many in the later half")
    contrast: float = Field(1, ge=0, le=100, description="weight of the log-probability, added to the logit")
    learning_rate: float = Field(0.005, gt=0, le=0.2, description="of Adam, in the canvas's own unit")
    upscale_factor: float = Field(1.5, ge=1, le=2, description="growth of the side per round")
    blur: int = Field(0, ge=0, le=15, description="side of the box blur after each enlargement in pixels; 0 for none")
    jitter: float = Field(8, ge=0, le=64, description="largest shift before each step in pixels")
    scale: float = Field(0.3, ge=0, le=1, description="largest relative change of size before each step")
    rotate: float = Field(15, ge=0, le=45, description="largest rotation before each step in degrees")
    fade: float = Field(0, ge=0, le=0.1, description="share of the canvas's contrast that is lost after each step")
    settle: bool = Field(False, description="whether the learning rate falls to zero along half a cosine")
    view: int = Field(0, ge=0, le=512, description="side of the crop seen at each step in pixels; 0: the whole picture")
    dropout: float = Field(0, ge=0, le=0.9, description="share of the evidence before the head hidden at each step")
    seed: int = Field(0, ge=0, description="the same seed gives the same picture")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the network's arithmetic")

    def idle(self) -> dict[str, str]:
        """The growth between rounds, where there is one round."""
        return dict.fromkeys(("upscale_factor", "blur"), "a single round enlarges nothing") if self.rounds == 1 else {}

    def scored(self) -> str:
        if self.objective == "softmax":
            return "probability of the class, less penalties"
        return "logit of the class, less penalties"

    def iterate(self, network: nn.Module | None = None) -> Iterator[Step]:
        """Climb, yielding every step; see `climb`."""
        return climb(self, network)


def climb(recipe: ClassPictures, network: nn.Module | None = None) -> Iterator[Step]:
    """Maximise each class of the recipe, one picture each, in one batch, yielding every step.

    Args:
        recipe: what to maximise, and how.
        network: used in place of the one the recipe names.

    Yields:
        Steps, numbered through all rounds.

    Raises:
        ValueError: a class is unknown, ambiguous or out of range, the network gives no class logits, or it takes no
        pictures of this size. NonFiniteScore: the climb left the numbers; the last good picture is kept.
    """
    network = models.as_network(network if network is not None else recipe.network)
    indices = class_indices(recipe, network)
    network = parts.before_softmax(network, _seen(recipe))
    head, rectified = _head(network, recipe.view or recipe.size)
    goal = _objective(recipe, indices, head if rectified else None)
    seeds = picture_seeds(recipe.seed, indices)
    yield from ascent.climb(
        network,
        goal,
        _first_canvas(recipe, seeds, network),
        plan=planned(recipe.rounds, recipe.steps),
        upscale_factor=recipe.upscale_factor,
        blur=recipe.blur,
        seeds=seeds,
        learning_rate=recipe.learning_rate,
        transforms=Transforms(recipe.jitter, recipe.scale, recipe.rotate, recipe.view),
        precision=recipe.precision,
        fade=recipe.fade,
        settle=recipe.settle,
        dropout=(head, recipe.dropout) if head and recipe.dropout else None,
    )


def for_large_networks(**changes) -> ClassPictures:
    """What carries over from a network of 224-pixel photographs to another; `changes` name network and classes.

    Crops of the picture at many sizes, half of the evidence hidden, weak contrast and little fine noise: what is left
    to draw is what many views and many features agree upon. Light and colour stay as strong as in photographs, so that
    large steps can be made. Chosen on 30 classes by what another network recognises; docs/naturalness.md has the
    numbers of 100 others.
    """
    settings = {
        **{"network": "squeezenet1_0", "start": "mean", "size": 224, "rounds": 1, "steps": 240, "view": 128},
        **{"canvas": "natural", "l2_weight": 10, "variation_weight": 300, "contrast": 2, "dropout": 0.5},
        **{"learning_rate": 0.016, "jitter": 8, "scale": 0.6, "rotate": 15, "fade": 0.005, "settle": True},
    }
    return ClassPictures(**{**settings, **changes})


def for_bundled_networks(**changes) -> ClassPictures:
    """What suits the bundled networks, which learned from 64-pixel pictures; `changes` name network and classes.

    First the whole at 64 pixels, then twice as large, where each step sees a part as large as a training picture, from
    near or from afar: what the network knows about fur is drawn into what it knows of animals. Slow steps and strong
    changes of scale: faster ones saturate the colours, and only the network itself knows the picture.
    """
    settings = {
        **{"size": 64, "rounds": 2, "upscale_factor": 2, "view": 64, "steps": 100, "learning_rate": 0.005},
        **{"start": "mean", "jitter": 4, "scale": 0.6, "rotate": 8, "l2_weight": 0, "contrast": 0},
    }
    return ClassPictures(**{**settings, **changes})


def ladder(recipe: ClassPictures) -> dict[str, ClassPictures]:
    """The same classes and seed, each rung with one idea more; all end at one size after as many steps.

    The first rung is the paper's: plain pixels from the mean colour of the data, and the penalty alone. The last is the
    recipe.
    """
    usual = ClassPictures()
    paper = recipe.changed(
        canvas="pixels",
        start="mean",
        l2_weight=recipe.l2_weight or usual.l2_weight,
        learning_rate=0.01,
        **dict.fromkeys(("jitter", "scale", "rotate", "contrast", "variation_weight", "view", "dropout", "fade"), 0),
        settle=False,
    )
    # not `changed`: the last side and all steps may be more than a recipe allows for one round
    at_once = {
        "size": last_size(recipe.size, recipe.rounds, recipe.upscale_factor),
        "rounds": 1,
        "steps": sum(planned(recipe.rounds, recipe.steps)),
    }
    shaken = paper.changed(jitter=recipe.jitter, scale=recipe.scale, rotate=recipe.rotate)
    waves = shaken.changed(canvas="fourier_rgb", start=recipe.start, learning_rate=recipe.learning_rate)
    coloured = waves.changed(canvas=recipe.canvas)
    rungs = {
        "2014: pixels, L2": paper.model_copy(update=at_once),
        "+ jitter": shaken.model_copy(update=at_once),
        "+ scales": shaken,
        "+ Fourier": waves,
        "+ colour": coloured,
        "+ contrast": coloured.changed(contrast=recipe.contrast),
        "+ views, dropout": recipe,
    }
    return {name: rung for name, rung in rungs.items() if rung not in list(rungs.values())[: list(rungs).index(name)]}


def class_indices(recipe: ClassPictures, network: models.Network) -> list[int]:
    """The logits of the recipe's classes.

    Raises:
        ValueError: a class is unknown (the nearest are offered), ambiguous (all candidates are) or out of range, the
        network gives no class logits, or it takes no pictures of this size, or views of theirs.
    """
    examination = models.examine(network, _seen(recipe))
    if examination.classes is None:
        raise ValueError(
            f"{network.name} gives {examination.output}, expected class logits (B, classes): a class picture needs a "
            "class. Say where they are: Network(module, output=lambda out: ...)"
        )
    return models.class_indices(network, recipe.classes, _seen(recipe))


def class_names(recipe: ClassPictures, network: nn.Module | None = None) -> list[str]:
    """The recipe's classes by name, or as "class 7" where the network has no names."""
    network = models.as_network(network if network is not None else recipe.network)
    indices = models.class_indices(network, recipe.classes, _seen(recipe))
    return [network.class_name(index) for index in indices]


def verdicts(recipe: ClassPictures, step: Step, network: nn.Module | None = None) -> list[str]:
    """Two lines per picture: its class, and the finished picture's logit and probability."""
    network = models.as_network(network if network is not None else recipe.network)
    indices = models.class_indices(network, recipe.classes, _seen(recipe))
    network = parts.before_softmax(network, tuple(step.pixels.shape[2:]))
    logits = measure(network, objectives.logit(indices), step.pixels).tolist()
    shares = measure(network, objectives.probability(indices), step.pixels).tolist()
    return [
        f"{name}\n" + (f"logit {logit:.1f}, {100 * share:.0f} %" if alive else "no gradient reaches it")
        for name, logit, share, alive in zip(
            class_names(recipe, network), logits, shares, step.alive.tolist(), strict=True
        )
    ]


def sheet(recipe: ClassPictures, step: Step, network: nn.Module | None = None) -> Image.Image:
    """All pictures of the batch side by side, labelled."""
    return images.tile(images.resize(step.picture, LEGIBLE), labels=verdicts(recipe, step, network))


def save(recipe: ClassPictures, step: Step, folder: str | Path, network: nn.Module | None = None) -> list[Path]:
    """Write each picture as a PNG with its recipe inside, from which `recipes.remake` makes it again.

    Returns:
        The paths, one per picture, named after recipe and class.
    """
    plain = [re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in class_names(recipe, network)]
    names = [f"{name}-{index}" for index, name in enumerate(plain)]
    return recipes.save_pictures(recipe, step.picture, names, folder, measured=images.naturalness_of_each(step.picture))


def _seen(recipe: ClassPictures) -> models.Size:
    """The size of what the network sees in the first round: a view, or the whole picture where that is smaller."""
    return recipe.view if 0 < recipe.view < min(models.sides(recipe.size)) else recipe.size


def _objective(recipe: ClassPictures, indices: list[int], before_relu: str | None) -> objectives.Objective:
    if recipe.objective == "softmax":
        main = objectives.probability(indices)
    else:
        main = objectives.logit(indices)
        if before_relu is not None:
            main = main + LEAK * objectives.channel(before_relu, indices)
        if recipe.contrast:
            main = main + recipe.contrast * objectives.log_probability(indices)
    if recipe.l2_weight:
        main = main - recipe.l2_weight * objectives.squared_norm()
    return main - recipe.variation_weight * objectives.total_variation() if recipe.variation_weight else main


def _head(network: models.Network, size: models.Size) -> tuple[str, bool]:
    """The layer whose channels are the classes, and whether a ReLU behind it makes logits of them (SqueezeNet).

    The logit of a class that such a network does not see has no gradient; the mean of the layer's channel has one
    always. Alone it would serve worse: it also rises where the class is merely less absent.
    """
    try:
        head = parts.head_layer(network, size)
    except ValueError:
        return objectives.OUTPUT, False
    with torch.no_grad():
        seen = capture(network, head, objectives.OUTPUT)(torch.full((1, network.channels, *models.sides(size)), 0.5))
    logits, evidence = seen[objectives.OUTPUT], seen[head][..., None].flatten(2)
    if evidence.shape[:2] != logits.shape or torch.allclose(evidence.mean(2), logits, atol=1e-5):
        return head, False
    return head, torch.allclose(evidence.relu().mean(2), logits, atol=1e-5)


def _first_canvas(recipe: ClassPictures, seeds: list[int], network: models.Network) -> Canvas:
    kind = canvas_of(recipe.canvas, network.channels)
    if recipe.start == "noise":
        picture = kind.random(*models.sides(recipe.size), generators(seeds)).picture().detach()
        return kind.from_picture(picture.to(network.mean.device))
    colour = torch.full((3, 1, 1), 0.5) if recipe.start == "zero" else _mean_colour(network)
    return kind.from_picture(colour.to(network.mean.device).expand(len(seeds), -1, *models.sides(recipe.size)))


def _mean_colour(network: models.Network) -> Tensor:
    """What the network's normalisation subtracts, or the mean colour of photographs where it subtracts nothing."""
    return network.mean if network.mean.any() else natural_images()["mean"].view(3, 1, 1)
