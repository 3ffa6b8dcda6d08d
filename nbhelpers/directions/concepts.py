"""Concepts: the few directions that a layer's activations are made of, drawn, weighed and doubted.

A channel is one direction of many, and often not the telling one. Here the directions are found in what photos do to
the layer (`dictionaries`); each is shown as its made picture and the photos where it is strongest; what it is worth to
a class is measured by taking it away (`importance`); and whether it is more than an accident by finding it again with
other seeds and in other photos (Fel et al., "CRAFT", CVPR 2023; Bricken et al., "Towards Monosemanticity", 2023).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from nbhelpers import edge, images, models
from nbhelpers.attribution import gradients
from nbhelpers.directions import dictionaries, drawing, importance, photographs, tables
from nbhelpers.directions.dictionaries import Dictionary
from nbhelpers.directions.photographs import Behind, Places
from nbhelpers.images import figures, overlays
from nbhelpers.models import Network
from nbhelpers.recipes import Field, NetworkName, Recipe
from nbhelpers.techniques import direction_pictures
from nbhelpers.techniques.direction_pictures import DirectionPictures
from nbhelpers.training.data import Pictures

PATCHES = 4  # real photos beside each made picture
LEGIBLE = 88  # pixels, the least side of a picture on the sheet
ALIKE = 2  # of them of one label, so that one photo's squares do not fill the row
CLASS_PHOTOS = 12  # photos of a class that importance is measured on


class Concepts(Recipe):
    """The directions that a layer's activations are made of, each drawn (Fel et al. 2023)."""

    network: NetworkName = Field("minivgg_robust", description="a bundled network or any torchvision classifier")
    layer: str = Field("block3.relu2", description="dotted name of the layer, best after its ReLU")
    drawn: str = Field(
        "block3.conv2", description="the layer to draw in, of as many channels: best the convolution before the ReLU"
    )
    photos: str = Field("../sample_images", description="a folder of photos, or a data folder such as Tiny-ImageNet")
    limit: int = Field(5000, ge=1, le=1_000_000, description="most pictures to look at")
    cuts: int = Field(24, ge=1, le=1000, description="random squares from each photo of a folder")
    places: int = Field(4, ge=0, le=64, description="places of each picture, drawn at random; 0 for all")
    size: int = Field(64, ge=16, le=512, description="side of the photos in pixels")
    method: Literal["nmf", "autoencoder", "k-means", "components", "channels"] = Field(
        "nmf", description="how the directions are found"
    )
    parts: int = Field(10, ge=1, le=16384, description="directions to find")
    shown: int = Field(10, ge=1, le=1000, description="of them, those that carry most are drawn")
    label: str = Field("", description="class to weigh the concepts for; empty: the one most photos are taken for")
    keep: str = Field(
        "", description="folder for activations and what is learned from them, to go on from; empty: nothing is kept"
    )
    picture_size: int = Field(64, ge=16, le=512, description="side of the first round's picture in pixels")
    rounds: int = Field(1, ge=1, le=16, description="sizes of a picture, from small to large")
    steps: int = Field(24, ge=1, le=1000, description="steps of Adam a round; 1.3 times as many in the later half")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the arithmetic of drawing; bfloat16 is faster where the processor has it"
    )
    seed: int = Field(0, ge=0, description="of cuts, places, directions and pictures")

    written: ClassVar[tuple[str, ...]] = ("keep",)

    def scored(self) -> str:
        return "mean activation along the direction"

    def iterate(self, network: nn.Module | None = None) -> Iterator[Found]:
        """Find the directions, then draw them; yields after every batch of pictures."""
        network = models.as_network(network if network is not None else self.network)
        yield from climb(find(self, network), network)


@dataclass
class Found:
    """The directions in what photos do to a layer.

    Attributes:
        recipe: what found them.
        pictures, labels: the photos, and the names of their labels.
        collected: what the layer gives at places in them.
        dictionary: the directions.
        codes: how much of each is at each place, `(places, parts)`.
        order: parts by what they carry, the most first.
        picture: as many of them as are drawn by now, in that order, `(drawn, 3, H, W)`.
        scores: how far each drives the layer along its direction.
    """

    recipe: Concepts
    pictures: Pictures
    labels: list[str]
    collected: Places
    dictionary: Dictionary
    codes: Float[Tensor, "places parts"]
    order: list[int]
    picture: Float[Tensor, "drawn 3 height width"]
    scores: Float[Tensor, " drawn"]

    @property
    def index(self) -> int:
        """Directions drawn by now."""
        return len(self.picture)

    @property
    def total(self) -> int:
        """Directions to be drawn."""
        return len(self.order)

    def report(self) -> list[str]:
        """What there is, in a few lines."""
        vectors = self.collected.vectors
        lines = [f"{len(self.pictures)} pictures, {len(vectors)} places, {vectors.shape[1]} channels"]
        if self.pictures.skipped:
            lines.append(f"{len(self.pictures.skipped)} files that cannot be read were left out")
        return [*lines, f"{len(self.dictionary.directions)} directions, learned from all places"]

    def strongest(self, part: int, count: int, alike: int = 0) -> list[int]:
        """Places where a direction is strongest, one of each picture, and at most `alike` of one label; 0 for any."""
        chosen, pictures, labels = [], set(), Counter()
        for place in self._strongest_first(part):
            picture = int(self.collected.photos[place])
            label = int(self.pictures.labels[picture])
            if picture not in pictures and not 0 < alike <= labels[label]:
                pictures.add(picture)
                labels[label] += 1
                chosen.append(place)
            if len(chosen) == count:
                break
        return chosen

    def _strongest_first(self, part: int) -> Iterator[int]:
        for some in self.codes[:, part].argsort(descending=True).split(1024):
            yield from some.tolist()

    def title(self, part: int) -> str:
        """A direction's place by what it carries, and what the photos are of in which it is strongest."""
        place = f"{self.order.index(part) + 1}. " if part in self.order else ""
        return place + self.name(part)

    def alike(self, count: int = 20) -> float:
        """Share of a direction's strongest pictures that have their commonest label, in the mean over directions."""
        shares = []
        for part in range(len(self.dictionary.directions)):
            labels = self.pictures.labels[self.collected.photos[self.strongest(part, count)]]
            shares.append(float(torch.bincount(labels).max() / len(labels)))
        return sum(shares) / len(shares)

    def name(self, part: int) -> str:
        """What most photos are of in which a direction is strongest: one label, or two."""
        photos = self.collected.photos[self.strongest(part, 20)]
        counts = torch.bincount(self.pictures.labels[photos], minlength=len(self.labels))
        shares, labels = (counts / counts.sum()).topk(min(2, len(self.labels)))
        often = [(self.labels[label], share) for label, share in zip(labels, shares, strict=True) if share >= 0.2]
        most = sum(share for _, share in often) >= 0.5
        return ", ".join(label.split(",")[0] for label, _ in often) if most else "many things"


@dataclass
class Worth:
    """What the directions are worth to a class.

    Attributes:
        label: the class's name.
        photos: how many photos it was measured on.
        sobol, gradient: total indices, and gradient times code, by part.
        whole: the class's logit when the network runs on all parts.
        without: the same with the most important ones left out, one after the other.
        at_random: the same in the mean over random orders.
        random_directions: the same with as many random directions taken out of the activations instead.
    """

    label: str
    photos: int
    sobol: Float[Tensor, " parts"]
    gradient: Float[Tensor, " parts"]
    whole: float
    without: list[float]
    at_random: list[float]
    random_directions: list[float]

    @property
    def correlation(self) -> float:
        """Rank correlation of the two measures."""
        from scipy.stats import spearmanr

        return float(spearmanr(self.sobol.numpy(), self.gradient.abs().numpy()).statistic)


def find(recipe: Concepts, network: nn.Module | None = None) -> Found:
    """The directions, not drawn yet.

    Args:
        recipe: how they are found. In its folder to keep, what was stopped goes on, and what is done is there: what the
            layer gives, an autoencoder, and the rounds over more than `dictionaries.MANY` places.
        network: used in place of the one that the recipe names.

    Raises:
        KeyError, ValueError: a layer is unknown, the two layers do not match, or the photos do not suffice.
    """
    network = models.as_network(network if network is not None else recipe.network)
    kept = edge.folder_to_write(recipe.keep) if recipe.keep else None
    pictures, labels, places = photographs.gathered(recipe, network, kept)
    if recipe.method == "nmf" and places.vectors.min() < 0:
        raise ValueError(
            f"layer {recipe.layer!r} gives negative numbers, and parts that only add up need activations that are "
            f"never negative: take {_after_relu(network, recipe)}, or another method"
        )
    dictionary = dictionaries.fitted(recipe.method, places.vectors, recipe.parts, recipe.seed, kept)
    codes = dictionary.encode(places.vectors)
    carried = dictionaries.carried(dictionary, codes)
    return Found(
        recipe=recipe,
        pictures=pictures,
        labels=labels,
        collected=places,
        dictionary=dictionary,
        codes=codes,
        order=carried.argsort(descending=True)[: recipe.shown].tolist(),
        picture=torch.zeros(0, 3, recipe.picture_size, recipe.picture_size),
        scores=torch.zeros(0),
    )


def _after_relu(network: Network, recipe: Concepts) -> str:
    """The next layer that is a ReLU and has as many channels, in words."""
    table = list(models.layers(network, recipe.size))
    place = [each.name for each in table].index(recipe.layer)
    own, *following = table[place : place + 3]  # there may be a normalisation between
    for each in following:
        if each.kind.startswith("ReLU") and each.channels == own.channels:
            return f"layer {each.name!r}"
    return "a layer after a ReLU"


def climb(found: Found, network: nn.Module | None = None) -> Iterator[Found]:
    """Draw the directions that carry most, yielding after every batch of pictures."""
    network = models.as_network(network if network is not None else found.recipe.network)
    for pictures, scores in drawing.grown(pictures_recipe(found), network):
        found = replace(found, picture=pictures, scores=scores)
        yield found


def pictures_recipe(found: Found) -> DirectionPictures:
    """What draws the directions, each less its share in the mean activation, which would be drawn into all of them."""
    directions = F.normalize(found.dictionary.directions[found.order], dim=1)
    mean = F.normalize(found.collected.vectors.mean(0), dim=0)
    return drawing.manner(found.recipe, directions - (directions @ mean)[:, None] * mean)


def save(found: Found, folder: str | Path) -> list[Path]:
    """Write every picture as a PNG from which it can be drawn again without the photos."""
    return direction_pictures.save(pictures_recipe(found), found.picture, folder)


def draw(recipe: Concepts, found: Found, network: nn.Module | None = None) -> Image.Image:
    """One row for each direction: its picture, then the real photos where it is strongest, each under its heat."""
    network = models.as_network(network if network is not None else recipe.network)
    side = max(LEGIBLE, found.picture.shape[-1])
    rows, labels = [], []
    for part, picture in zip(found.order, found.picture, strict=False):
        photos = found.collected.photos[found.strongest(part, PATCHES, ALIKE)]
        batch = found.pictures.batch(photos)[0]
        heats = heat(found, part, batch, network)
        blank = [torch.ones(3, side, side)] * (PATCHES - len(photos))
        shown = [images.resize(each, side) for each in (picture[None], batch, overlays.overlay(batch, heats))]
        rows += [*shown[0], *shown[1], *blank, *shown[2], *blank]
        labels += [found.title(part), *[""] * (2 * PATCHES)]
    return images.tile(rows, columns=2 * PATCHES + 1, labels=labels)


@torch.no_grad()
def heat(
    found: Found, part: int, pictures: Float[Tensor, "photos 3 height width"], network: nn.Module
) -> Float[Tensor, "photos height width"]:
    """Where in pictures a direction is, in [0, 1]: its code at every place, enlarged to the picture."""
    maps = torch.cat(list(models.activation_batches(network, found.recipe.layer, pictures))).float().cpu()
    vectors = maps.permute(0, 2, 3, 1)
    codes = found.dictionary.encode(vectors.flatten(0, 2))[:, part].view(vectors.shape[:3])
    codes = codes.clamp(min=0) / found.codes[:, part].max().clamp(min=1e-12)
    size = pictures.shape[2:]
    return F.interpolate(codes[:, None], size=size, mode="bilinear", align_corners=False)[:, 0].clamp(0, 1)


def weigh(found: Found, network: nn.Module | None = None, samples: int = 16) -> Worth:
    """What every direction is worth to the recipe's class, on photos that the network takes for it.

    Raises:
        ValueError: no photo is taken for the class (says for which they are), or the network gives no classes.
    """
    recipe = found.recipe
    network = models.as_network(network if network is not None else recipe.network)
    maps, label = class_maps(found, network)
    behind = Behind(network, recipe.layer, recipe.size)
    sobol = importance.sobol(behind, found.dictionary, maps, label, samples, recipe.seed)
    gradient = importance.by_gradient(behind, found.dictionary, maps, label)
    count = min(5, recipe.parts)
    generator = torch.Generator().manual_seed(recipe.seed % 2**63)
    orders = [torch.randperm(len(sobol), generator=generator).tolist() for _ in range(5)]

    codes = importance.codes_of(found.dictionary, maps)

    def left(order: list[int]) -> list[float]:
        return [importance.without(behind, found.dictionary, codes, label, order[: k + 1]) for k in range(count)]

    dealt = torch.tensor([left(order) for order in orders]).mean(0).tolist()
    most = sobol.argsort(descending=True).tolist()
    whole = importance.without(behind, found.dictionary, codes, label, [])
    lost = [
        importance.without_random(behind, found.dictionary, codes, label, k + 1, recipe.seed + k) for k in range(count)
    ]
    return Worth(network.class_name(label), len(maps), sobol, gradient, whole, left(most), dealt, lost)


def worth_figure(found: Found, worth: Worth) -> Figure:
    """What every direction is worth by both measures; and the class's logit while directions are left out."""
    figure, (left, right) = figures.new(9, 3.4, columns=2)
    order = worth.sobol.argsort(descending=True).tolist()[:10]
    places = range(len(order))
    left.barh(places, worth.sobol[order].numpy(), color=figures.ACCENT, label="Sobol total index")
    gradient = worth.gradient[order] / worth.gradient.abs().max().clamp(min=1e-12) * worth.sobol.max()
    left.plot(gradient.numpy(), places, "D", color=figures.INK, markersize=5, label="gradient x code, scaled")
    left.set_yticks(places, [found.title(part) for part in order])
    left.invert_yaxis()
    left.legend(fontsize=8, frameon=False)
    left.set_title(f"worth to {worth.label}", fontsize=10)
    steps = range(len(worth.without) + 1)
    right.plot(steps, [worth.whole, *worth.without], "o-", color=figures.ACCENT, label="the most important first")
    right.plot(steps, [worth.whole, *worth.at_random], "o-", color=figures.QUIET, label="in random order")
    right.plot(steps, [worth.whole, *worth.random_directions], "o:", color=figures.INK, label="random directions")
    right.set_xlabel("directions left out", fontsize=9)
    right.set_title(f"logit of {worth.label}", fontsize=10)
    right.legend(fontsize=8, frameon=False, loc="best")
    return figure


@torch.no_grad()
def class_maps(found: Found, network: Network) -> tuple[Float[Tensor, "photos channels height width"], int]:
    """What the layer gives for photos that the network takes for the recipe's class, and the class.

    Raises:
        ValueError: no photo is taken for it, or the network gives no classes.
    """
    recipe = found.recipe
    look, device = models.capture(network, recipe.layer, ""), network.mean.device
    answers = []
    for batch, _ in found.pictures.batches(64):
        logits = gradients.class_logits(network, look(batch.to(device))[""], len(batch))
        answers.append(logits.argmax(1).cpu())
    answers = torch.cat(answers)
    common = torch.bincount(answers).argsort(descending=True).tolist()
    label = models.class_indices(network, [recipe.label], recipe.size)[0] if recipe.label else common[0]
    chosen = (answers == label).nonzero().flatten()[:CLASS_PHOTOS]
    if not len(chosen):
        named = ", ".join(network.class_name(each) for each in common[:3])
        raise ValueError(
            f"none of the {len(answers)} pictures is taken for {network.class_name(label)!r}: most are taken for "
            f"{named}. Choose one of these, or give photos of that class"
        )
    return look(found.pictures.batch(chosen)[0].to(device))[recipe.layer].float().cpu(), label


def contest(found: Found, network: nn.Module | None = None) -> dict[str, dict[str, float]]:
    """Every way of finding directions, judged alike: are found ones better than plain channels, here?

    By method: share of the variance that is explained, parts used at a place, share of parts never used, share of
    photos whose first answer stays when the network runs on the parts alone, share of the class's logit that is kept
    (`importance.recovered`), mean cosine of matched parts between two seeds and between two halves of the photos.
    What random directions reach says `by_chance`.

    Raises:
        ValueError: no photo is taken for the recipe's class, or half of the photos have fewer places than parts.
    """
    recipe = found.recipe
    network = models.as_network(network if network is not None else recipe.network)
    vectors, photos = found.collected.vectors, found.collected.photos
    batch = found.pictures.subset(min(64, len(found.pictures))).batch(slice(None))[0]
    maps = torch.cat(list(models.activation_batches(network, recipe.layer, batch))).float().cpu()
    behind = Behind(network, recipe.layer, recipe.size)
    of_class, label = class_maps(found, network)
    fewest = min(int((photos % 2 == rest).sum()) for rest in (0, 1))
    if fewest < recipe.parts:
        raise ValueError(
            f"{recipe.parts} parts are to be found in each half of the photos as well, and one half has {fewest} "
            "places: take fewer parts, or more photos, cuts or places"
        )
    halves = [tables.chosen(vectors, (photos % 2 == rest).nonzero().flatten()) for rest in (0, 1)]
    table = {}
    for method in dictionaries.METHODS:
        if method == "nmf" and vectors.min() < 0:
            continue
        own = method == recipe.method
        fit = found.dictionary if own else dictionaries.fitted(method, vectors, recipe.parts, recipe.seed)
        codes = found.codes if own else fit.encode(vectors)
        again = dictionaries.fitted(method, vectors, recipe.parts, recipe.seed + 1)
        parted = [dictionaries.fitted(method, half, recipe.parts, recipe.seed).directions for half in halves]
        used, dead = dictionaries.used(codes)
        table[method] = {
            "variance": dictionaries.explained(fit, vectors, codes),
            "used": used,
            "dead": dead,
            "answers kept": importance.kept(behind, fit, maps),
            "logit kept": importance.recovered(behind, fit, of_class, label, vectors.mean(0)),
            "seeds": dictionaries.stability(fit.directions, again.directions),
            "halves": dictionaries.stability(*parted),
        }
    return table


def by_chance(found: Found, draws: int = 20) -> list[float]:
    """What directions that mean nothing reach: mean cosine of matched places, as many as parts, picked at random twice.

    Args:
        found: the directions, whose activations are picked from.
        draws: pairs of picks.
    """
    vectors, parts = found.collected.vectors, len(found.dictionary.directions)
    generator = torch.Generator().manual_seed(found.recipe.seed % 2**63)

    def picked() -> Tensor:
        return vectors[torch.randperm(len(vectors), generator=generator)[:parts]]

    return [dictionaries.stability(picked(), picked()) for _ in range(draws)]
