"""Inverting representations: which picture has the features that a layer saw in a photo?

A layer keeps some of a photo and throws the rest away. To see what it kept, forget the photo, hold on to the layer's
output alone, and look for a picture with the same output: where the two differ, the layer no longer knew. Early
layers give the photo back; later ones parts of it in roughly the right places (Mahendran, Vedaldi, "Understanding Deep
Image Representations by Inverting Them", CVPR 2015).

The photo's features are computed once. The picture starts from noise or from one even colour, on a canvas of waves in
decorrelated colour: brightness and large shapes move as easily as fine ones, so no grey haze is left over. The
learning rate falls in rounds, with a fresh start of the optimiser at each, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from pydantic import ValidationInfo, field_validator
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn
from torchvision.models import VGG

from nbhelpers import images, models, recipes
from nbhelpers.ascent import Step, ascend, generators, measure
from nbhelpers.ascent.canvas import Canvas, canvas_of
from nbhelpers.ascent.objectives import OUTPUT
from nbhelpers.models import Network
from nbhelpers.models.stages import stages
from nbhelpers.recipes import Field, NetworkName, Numbers, PhotoFit, PictureSize, Recipe
from nbhelpers.techniques.inversion.representations import Representation, feature_distance, inversion, represent


class Round(NamedTuple):
    """A part of the steps: its share of them, and factors of the learning rate and of the total variation's weight."""

    share: float
    rate: float
    smoothness: float


# Smooth at first: fine structure that a deep layer does not see would stay for good once it is there.
ROUNDS = (Round(0.25, 1, 60), Round(0.2, 0.75, 16), Round(0.35, 0.5, 1), Round(0.2, 0.125, 1))


class Inversion(Recipe):
    """Pictures that have a photo's features at a layer (Mahendran and Vedaldi 2015)."""

    network: NetworkName = Field("minivgg_robust", description="a bundled network or any torchvision classifier")
    layer: str = Field("block3.relu2", description="dotted name of the layer to invert; empty: the logits")
    layers: list[str] = Field([], description="layers of the figure; empty: the last of each block, and the logits")
    photos: str = Field("../sample_images/cat.jpg", description="a photo, or a folder of photos, one picture each")
    batch: int = Field(4, ge=1, le=64, description="most photos of a folder")
    channels: Numbers = Field([], description="the only channels that are matched; empty: all")
    kept: int = Field(0, ge=0, le=4096, description="match so many channels, the strongest for the photo; 0: all")
    second: str = Field("../sample_images/coffee.jpg", description="a photo to blend with")
    mix: float = Field(0.0, ge=0, le=1, description="share of the second photo in the representation")
    size: PictureSize = Field(112, description="shorter side of the picture in pixels, or (height, width)")
    fit: PhotoFit = "crop"
    steps: int = Field(80, ge=1, le=5000, description="steps of Adam")
    learning_rate: float = Field(0.01, gt=0, le=0.2, description="of the first round, in the canvas's own unit")
    feature_weight: float = Field(1.0, ge=0, le=100, description="weight of the distance; 0: what the priors draw")
    tv_weight: float = Field(0.001, ge=0, le=10, description="weight of total variation; 1 for an ordinary photo")
    alpha_weight: float = Field(
        0.005, ge=0, le=10, description="weight of the alpha-norm, which keeps colours in range"
    )
    beta: float = Field(2.0, ge=1, le=4, description="exponent of total variation")
    alpha: float = Field(6.0, ge=1, le=12, description="exponent of the alpha-norm")
    canvas: Literal["fourier", "fourier_rgb", "pixels"] = Field("fourier", description="what is optimised")
    start: Literal["noise", "mean"] = Field("noise", description="faint noise, or the mean colour of photographs")
    seed: int = Field(0, ge=0, description="of the noise")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the network's arithmetic")

    @field_validator("kept")
    @classmethod
    @no_type_check  # what pydantic hands over is a protocol that cannot be looked for at run time
    def _one_choice(cls, kept: int, others: ValidationInfo) -> int:
        if kept and others.data.get("channels"):
            raise ValueError("channels chooses already; set one of the two")
        return kept

    @field_validator("mix")
    @classmethod
    @no_type_check
    def _with_a_second(cls, mix: float, others: ValidationInfo) -> float:
        if mix and not others.data.get("second"):
            raise ValueError("a blend needs a second photo; name one in second")
        return mix

    def scored(self) -> str:
        return "minus the relative error of the features and the priors"

    def iterate(self, network: nn.Module | None = None) -> Iterator[Reconstruction]:
        """Invert the photos' representations, yielding every step; see `invert`."""
        return invert(self, network)


@dataclass
class Reconstruction(Step):
    """One step of an inversion.

    Attributes:
        photos: what was inverted, with names and what was skipped.
        target: their representations.
        network: whose they are.
    """

    photos: images.Photos
    target: Representation
    network: Network

    @property
    def errors(self) -> Float[Tensor, " photos"]:
        """Relative squared feature error of the pictures as they are now, `(B,)`."""
        return measure(self.network, feature_distance(self.target), self.picture.to(self.target.features.device)).cpu()


def invert(
    recipe: Inversion, network: nn.Module | None = None, photos: images.Photos | None = None
) -> Iterator[Reconstruction]:
    """Look for the pictures whose features are nearest to those of the recipe's photos, all as one batch.

    Args:
        recipe: what to invert, and how.
        network: used in place of the one the recipe names.
        photos: used in place of those the recipe names.

    Yields:
        Steps, numbered through all rounds.

    Raises:
        KeyError: the layer is unknown. ValueError: the photos are too small for it, or it has no such channel, or the
        channels are silent. FileNotFoundError, ValueError: no photo there. NonFiniteScore: as `ascend` says.
    """
    network = models.as_network(network if network is not None else recipe.network)
    photos = read_photos(recipe, network) if photos is None else photos
    target = representation(recipe, network, photos.pictures)
    canvas = first_canvas(recipe, photos.pictures.to(network.mean.device), network.channels)
    done = 0
    for steps, part in plan(recipe.steps):
        tv_weight = recipe.tv_weight * part.smoothness
        ascent = ascend(
            network,
            inversion(target, recipe.alpha_weight, tv_weight, recipe.alpha, recipe.beta, recipe.feature_weight),
            canvas,
            steps=steps,
            learning_rate=recipe.learning_rate * part.rate,
            precision=recipe.precision,
        )
        for step in ascent:
            step = replace(step, index=done + step.index, total=recipe.steps)
            yield Reconstruction(**vars(step), photos=photos, target=target, network=network)
        done += steps


def plan(steps: int) -> list[tuple[int, Round]]:
    """The rounds with their numbers of steps; those that get none are left out."""
    ends = [round(steps * sum(each.share for each in ROUNDS[: number + 1])) for number in range(len(ROUNDS))]
    counts = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    return [(count, each) for count, each in zip(counts, ROUNDS, strict=True) if count]


def read_photos(recipe: Inversion, network: nn.Module | None = None) -> images.Photos:
    """The recipe's photo, or the first photos of its folder, as the network takes them; all of one shape.

    Raises:
        FileNotFoundError, ValueError: nothing can be read, or whole photos of unlike shapes.
    """
    network = models.as_network(network if network is not None else recipe.network)
    manner = models.photo_fit(network, recipe.size, recipe.fit)
    batches = images.read_batches(images.listed(recipe.photos), recipe.size, recipe.batch, recipe.batch, **manner)
    photos = images.joined(list(batches))
    if isinstance(photos.pictures, list):
        raise ValueError(
            f"{recipe.photos} holds photos of unlike shapes, and those of one batch are inverted together: say "
            "fit='crop' or fit='pad', or name one photo"
        )
    return photos


def representation(
    recipe: Inversion, network: nn.Module, photos: Float[Tensor, "photos 3 height width"]
) -> Representation:
    """What is to be inverted: the photos' features, blended with the second photo's, at the channels that count.

    Args:
        photos: `(B, 3, H, W)` in [0, 1].

    Raises:
        KeyError, ValueError, FileNotFoundError: as `invert`.
    """
    target = represent(network, recipe.layer, photos)
    if recipe.mix:
        second = images.read(recipe.second, tuple(photos.shape[-2:]), recipe.fit)[None]
        target = target.blended(represent(network, recipe.layer, second), recipe.mix)
    if recipe.channels:
        return target.only(recipe.channels)
    return target.strongest(recipe.kept) if recipe.kept else target


def first_canvas(recipe: Inversion, like: Float[Tensor, "photos 3 height width"], channels: int = 3) -> Canvas:
    """Where every picture starts, whatever its photo: the same faint noise, or the mean colour of photographs.

    Args:
        like: a batch whose shape and device the canvas takes, and nothing else.
        channels: of the pictures that the network takes.
    """
    kind, (height, width) = canvas_of(recipe.canvas, channels), like.shape[2:]
    canvas = kind.random(height, width, generators([recipe.seed]))
    start = canvas.picture().detach()
    if recipe.start == "mean":
        start = start.mean((2, 3), keepdim=True).expand_as(start)
    return kind.from_picture(start.expand(len(like), -1, -1, -1).to(like.device))


def quality(
    pictures: Float[Tensor, "photos 3 height width"], photos: Float[Tensor, "photos 3 height width"]
) -> list[tuple[float, float]]:
    """PSNR in decibels and SSIM (at most 1) of each picture to its photo, `(B, 3, H, W)` both, by scikit-image."""
    pairs = zip(*(batch.permute(0, 2, 3, 1).cpu().numpy() for batch in (photos, pictures)), strict=True)
    with np.errstate(divide="ignore"):  # the PSNR of two equal pictures is infinite
        return [
            (
                float(peak_signal_noise_ratio(photo, picture, data_range=1.0)),
                float(structural_similarity(photo, picture, data_range=1.0, channel_axis=2)),
            )
            for photo, picture in pairs
        ]


def numbers(step: Reconstruction) -> list[str]:
    """Per picture: relative squared feature error, and PSNR and SSIM to the photo."""
    found = zip(step.errors.tolist(), quality(step.picture, step.photos.pictures), strict=True)
    return [f"error {error:.2%}\n{psnr:.1f} dB, SSIM {ssim:.2f}" for error, (psnr, ssim) in found]


def draw(recipe: Inversion, step: Reconstruction) -> Image.Image:
    """Photos above, pictures below, with their numbers: for `controls.play`."""
    side = max(224, min(models.sides(recipe.size)))
    photos, pictures = (images.resize(each, side) for each in (step.photos.pictures, step.picture.cpu()))
    labels = [*(f"{name}\n" for name in step.photos.names), *numbers(step)]
    return images.tile(torch.cat([photos, pictures]), columns=max(2, len(photos)), gap=6, labels=labels)


def published_layers(network: nn.Module) -> dict[str, str]:
    """The nine layers `block3_conv1` ... `block5_conv3` of a VGG16, by the names they go by; nothing for others.

    Under these names a layer is a convolution with its ReLU, so the torchvision layer is the ReLU behind it.
    """
    net = models.as_network(network).net
    if not isinstance(net, VGG):
        return {}
    found, block, convolution = {}, 1, 0
    for index, module in enumerate(net.features):
        if isinstance(module, nn.MaxPool2d):
            block, convolution = block + 1, 0
        elif isinstance(module, nn.ReLU):
            convolution += 1
            found[f"block{block}_conv{convolution}"] = f"features.{index}"
    deep = {name: layer for name, layer in found.items() if name[5] in "345"}
    return deep if len(found) == 13 else {}


def figure_layers(recipe: Inversion, network: nn.Module | None = None) -> dict[str, str]:
    """Layers of the figure by what to call them: the recipe's, or the nine of a VGG16, or the last of each block.

    Where the recipe does not choose, the logits come last.
    """
    network = models.as_network(network if network is not None else recipe.network)
    if recipe.layers:
        return {layer or "logits": layer for layer in recipe.layers}
    blocks = published_layers(network) or {each.name: each.name for each in stages(network, recipe.size)}
    return blocks | {"logits": OUTPUT}


def through(recipe: Inversion, network: nn.Module | None = None) -> Iterator[tuple[str, Reconstruction]]:
    """Invert layer after layer of the figure: yields each layer's title and its last step as soon as it is done."""
    network = models.as_network(network if network is not None else recipe.network)
    for title, layer in figure_layers(recipe, network).items():
        yield title, recipe.changed(layer=layer, layers=[]).run(network)


def sheet(made: dict[str, Reconstruction], side: int = 176, columns: int | None = None) -> Image.Image:
    """The photo, and its reconstruction from each layer with the numbers below; a row for each photo of a batch.

    Args:
        made: last steps by title, all of the same photos.
        side: of each picture in pixels.
        columns: pictures in a row, where there is one photo.
    """
    steps = list(made.values())
    photos = steps[0].photos
    texts = [numbers(step) for step in steps]
    pictures, labels = [], []
    for index, name in enumerate(photos.names):
        pictures += [photos.pictures[index], *(step.picture[index].cpu() for step in steps)]
        labels += [f"{name}\n\n", *(f"{title}\n{text[index]}" for title, text in zip(made, texts, strict=True))]
    small = images.resize(torch.stack(pictures), side)
    columns = columns if len(photos) == 1 else len(steps) + 1
    return images.tile(small, columns=columns, gap=6, labels=labels)


def save(recipe: Inversion, step: Reconstruction, folder: str | Path) -> list[Path]:
    """Write each picture as a PNG with its recipe inside, from which `recipes.remake` makes it again.

    Returns:
        The paths, one per photo.
    """
    stems = [name.replace("/", "-").rsplit(".", 1)[0] for name in step.photos.names]
    names = [f"{recipe.layer or 'logits'}-{stem}-{index}" for index, stem in enumerate(stems)]
    return recipes.save_pictures(recipe, step.picture, names, folder, measured=images.naturalness_of_each(step.picture))


def nearest(
    pictures: Float[Tensor, "pictures 3 height width"], photos: Float[Tensor, "photos 3 height width"]
) -> list[list[int]]:
    """For each picture, the photos by how well their pixels correlate with it, the best first.

    Args:
        pictures: `(B, 3, H, W)`.
        photos: `(N, 3, H, W)`, of the same size.
    """
    offsets = [batch.cpu().flatten(1) - batch.cpu().flatten(1).mean(1, keepdim=True) for batch in (pictures, photos)]
    correlations = torch.nn.functional.normalize(offsets[0]) @ torch.nn.functional.normalize(offsets[1]).T
    return correlations.argsort(dim=1, descending=True, stable=True).tolist()
