"""An activation atlas: a map of what a layer tells apart, every part of it drawn.

What a layer gives at one place of a photo is a vector. Thousands of them, from thousands of photos, are laid out on a
plane so that neighbours stay neighbours; a grid is laid over the plane; and each square is drawn as the picture of its
mean vector (Carter, Armstrong, Schubert, Johnson, Olah, "Activation Atlas", Distill 2019). As in the paper, the mean
may be whitened by the covariance of all activations first: what every photo has in common (bright sky above, green
below) has the greatest variance, and would otherwise be drawn into every square. Of few photos the covariance says too
little, and the pictures become less true (`agreement` measures it): whitening is for thousands.

The places on a map may be only those that speak for a class. And a second map may lie beside the first, on the same
plane: of another class, of another layer or of another network that saw the same photos.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn

from nbhelpers import edge, images, models
from nbhelpers.directions import atlas_sheet, drawing, layouts, photographs
from nbhelpers.directions.photographs import Places
from nbhelpers.models import Network
from nbhelpers.recipes import Field, NetworkName, Recipe
from nbhelpers.techniques.direction_pictures import DirectionPictures
from nbhelpers.training.data import Pictures

SMALLEST = 0.62  # side of a square's picture where it has the fewest places, as a part of the square's


class ActivationAtlas(Recipe):
    """A map of a layer's activations, each part of it drawn (Carter et al. 2019)."""

    network: NetworkName = Field("minivgg_robust", description="a bundled network or any torchvision classifier")
    layer: str = Field("block3.relu2", description="dotted name of the layer whose activations are laid out")
    drawn: str = Field(
        "block3.conv2", description="the layer to draw in, of as many channels: best the convolution before the ReLU"
    )
    photos: str = Field("../sample_images", description="a folder of photos, or a data folder such as Tiny-ImageNet")
    limit: int = Field(5000, ge=1, le=1_000_000, description="most pictures to look at")
    cuts: int = Field(20, ge=1, le=1000, description="random squares from each photo of a folder")
    places: int = Field(4, ge=0, le=64, description="places of each picture, drawn at random; 0 for all")
    size: int = Field(64, ge=16, le=512, description="side of the photos in pixels")
    components: int = Field(50, ge=2, le=500, description="principal components that are laid out")
    cells: int = Field(6, ge=2, le=64, description="squares along each side of the map")
    fewest: int = Field(3, ge=1, le=1000, description="places that a square needs to be drawn")
    whitening: Literal["covariance", "none"] = Field(
        "none", description="whether what all activations share is taken out of a square's mean"
    )
    picture_size: int = Field(64, ge=16, le=512, description="side of the first round's picture in pixels")
    rounds: int = Field(1, ge=1, le=16, description="sizes of a picture, from small to large")
    steps: int = Field(24, ge=1, le=1000, description="steps of Adam a round; 1.3 times as many in the later half")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the arithmetic of drawing; bfloat16 is faster where the processor has it"
    )
    names: Literal["labels", "answers"] = Field(
        "labels", description="what a square is named by: its photos' labels, or what the network would answer to it"
    )
    label: str = Field("", description="class to map: only places that speak for it; empty: all places")
    beside: str = Field("", description="a second class, mapped beside the first on the same plane")
    other: str = Field(
        "", description="what is mapped beside it from the same places: NETWORK, NETWORK:LAYER or :LAYER"
    )
    layout: Literal["t-sne", "umap"] = Field("t-sne", description="how the plane is made; umap needs umap-learn")
    width: int = Field(800, ge=200, le=8000, description="side of the whole map in pixels")
    seed: int = Field(0, ge=0, description="of cuts, places, layout and pictures")

    def scored(self) -> str:
        return "mean activation along the direction"

    def iterate(self, network: nn.Module | None = None) -> Iterator[Atlas]:
        """Collect, lay out, draw; yields the atlas after every batch of pictures."""
        network = models.as_network(network if network is not None else self.network)
        yield from climb(survey(self, network), network)


@dataclass
class Atlas:
    """A map of a layer's activations.

    Attributes:
        recipe: what made it.
        pictures, labels: the photos, and the names of their labels.
        collected: what the layer gives at the places in them that are on the map.
        among: the same for all places, on the map or not; a square's mean is drawn as it differs from theirs.
        components: of the places on the map, the scores on the leading principal components, `(N, components)`.
        plane: where each place lies in the unit square, `(N, 2)`.
        grid: column and row of each drawn square, `(squares, 2)`.
        members: of each square, its places, those nearest to its mean first.
        directions: what is drawn of each square, `(squares, C)`.
        answers: the network's class shares if the layer said the square's mean everywhere, `(squares, classes)`; None
            where it gives no classes.
        classes: their names.
        picture: as many squares as are drawn by now, `(squares so far, 3, H, W)`.
        scores: how far each drives the layer along its direction.
        beside: a second map on the same plane, if the recipe asks for one.
    """

    recipe: ActivationAtlas
    pictures: Pictures
    labels: list[str]
    collected: Places
    among: Float[Tensor, "all channels"]
    components: Float[Tensor, "places _"]
    plane: Float[Tensor, "places 2"]
    grid: Int[Tensor, "squares 2"]
    members: list[Int[Tensor, " _"]]
    directions: Float[Tensor, "squares channels"]
    answers: Float[Tensor, "squares classes"] | None
    classes: list[str]
    picture: Float[Tensor, "drawn 3 height width"]
    scores: Float[Tensor, " drawn"]
    beside: Atlas | None = None

    @property
    def index(self) -> int:
        """Squares drawn by now, of both maps if there are two."""
        return len(self.picture) + (self.beside.index if self.beside else 0)

    @property
    def total(self) -> int:
        """Squares to be drawn, of both maps if there are two."""
        return len(self.grid) + (self.beside.total if self.beside else 0)

    @property
    def title(self) -> str:
        """What is mapped."""
        return ", ".join(filter(None, [self.recipe.label, self.recipe.network, self.recipe.layer]))

    @property
    def counts(self) -> Int[Tensor, " squares"]:
        """Places in each square."""
        return torch.tensor([len(members) for members in self.members])

    @property
    def sides(self) -> list[float]:
        """Side of every square's picture as a part of the square's: the more places, the larger."""
        full = float(np.quantile(self.counts.numpy(), 0.9))
        return [SMALLEST + (1 - SMALLEST) * min(1.0, count / full) ** 0.5 for count in self.counts.tolist()]

    @property
    def means(self) -> Float[Tensor, "squares channels"]:
        """Mean activation of each square."""
        return torch.stack([self.collected.vectors[members].mean(0) for members in self.members])

    def said(self, square: int, most: int = 3) -> list[tuple[str, float]]:
        """What the network would answer to a square's mean: classes and their shares, the largest first."""
        if self.answers is None:
            return []
        shares, classes = self.answers[square].topk(min(most, self.answers.shape[1]))
        return [(self.classes[index], share) for index, share in zip(classes.tolist(), shares.tolist(), strict=True)]

    def labelled(self, square: int, most: int = 3) -> list[tuple[str, float]]:
        """What the square's photos are of, by their labels: names and shares, the largest first."""
        labels = self.pictures.labels[self.collected.photos[self.members[square]]]
        counts = torch.bincount(labels, minlength=len(self.labels))
        shares, order = (counts / counts.sum()).sort(descending=True, stable=True)
        found = zip(order[:most].tolist(), shares[:most].tolist(), strict=True)
        return [(self.labels[index], share) for index, share in found if share]

    def name(self, square: int) -> str:
        """What a square is called: its photos' commonest label, or the network's answer if the recipe says so."""
        said = self.said(square, 1) if self.recipe.names == "answers" else []
        return (said or self.labelled(square, 1))[0][0].split(",")[0]

    def report(self) -> list[str]:
        """What there is, in a few lines."""
        lines = [f"{len(self.pictures)} pictures, {len(self.plane)} places, {self.collected.vectors.shape[1]} channels"]
        if self.pictures.skipped:
            lines.append(f"{len(self.pictures.skipped)} files that cannot be read were left out")
        if self.recipe.label:
            lines.append(f"{len(self.plane)} of {len(self.among)} places speak for {self.recipe.label}")
        lines.append(f"{len(self.grid)} squares of {self.recipe.cells} x {self.recipe.cells} have enough places")
        return lines + ([f"beside it, {self.beside.title}", *self.beside.report()[-2:]] if self.beside else [])


def survey(recipe: ActivationAtlas, network: nn.Module | None = None, kept: Path | None = None) -> Atlas:
    """Everything about the map but its pictures: places, layout, squares, directions, answers.

    Args:
        recipe: of the map.
        network: used in place of the one that the recipe names.
        kept: a folder for what layers give; of a run that was stopped, what is there already is not looked at again.

    Raises:
        KeyError, ValueError: a layer, a class or another network is unknown, the two layers do not match, there is
            nothing to lay out, no square has enough places, or no place speaks for the class.
    """
    network = models.as_network(network if network is not None else recipe.network)
    _check_second(recipe)
    pictures, labels, places = photographs.gathered(recipe, network, kept)
    alone = recipe.changed(beside="", other="")
    wanted = [(alone, network, places)]
    if recipe.beside:
        wanted.append((alone.changed(label=recipe.beside), network, places))
    if recipe.other:
        wanted.append(_elsewhere(recipe, network, pictures, places, kept))
    chosen = [_speaking(*each, pictures) for each in wanted]
    if recipe.other:
        every = layouts.aligned(*(layouts.components(each.vectors, recipe.components) for *_, each in wanted))
        scores = [each[index] for each, index in zip(every, chosen, strict=True)]
    else:
        both = layouts.components(torch.cat([places.vectors[index] for index in chosen]), recipe.components)
        scores = both.split([len(index) for index in chosen])
    planes = layouts.plane(torch.cat(scores), recipe.seed, recipe.layout).split([len(each) for each in scores])
    maps = [
        _gridded(own, its, pictures, labels, every.subset(index), every.vectors, of_it, plane)
        for (own, its, every), index, of_it, plane in zip(wanted, chosen, scores, planes, strict=True)
    ]
    return replace(maps[0], recipe=recipe, beside=maps[1] if len(maps) > 1 else None)


def with_cells(atlas: Atlas, cells: int, network: nn.Module | None = None) -> Atlas:
    """The same map under a coarser or finer grid, not drawn yet."""
    network = models.as_network(network if network is not None else atlas.recipe.network)
    recipe = atlas.recipe.changed(cells=cells)
    same = (atlas.pictures, atlas.labels, atlas.collected, atlas.among, atlas.components, atlas.plane)
    beside = with_cells(atlas.beside, cells, _network_beside(atlas, network)) if atlas.beside else None
    return replace(_gridded(recipe, network, *same), beside=beside)


def climb(atlas: Atlas, network: nn.Module | None = None, kept: Path | None = None) -> Iterator[Atlas]:
    """Draw the squares of an atlas, row by row, yielding it after every batch of pictures.

    Args:
        atlas: not drawn yet.
        network: used in place of the one that the recipe names.
        kept: a folder for what is drawn; of a run that was stopped, what is there already is not drawn again.
    """
    network = models.as_network(network if network is not None else atlas.recipe.network)
    make = None if kept is None else lambda batch: _kept(batch, network, kept)
    for pictures, scores in drawing.grown(drawing.manner(atlas.recipe, atlas.directions), network, make):
        atlas = replace(atlas, picture=pictures, scores=scores)
        yield atlas
    if atlas.beside:
        for beside in climb(atlas.beside, _network_beside(atlas, network), kept):
            yield replace(atlas, beside=beside)


def finished(atlas: Atlas, network: nn.Module | None = None) -> Atlas:
    """The atlas with every square drawn."""
    *_, last = climb(atlas, network)
    return last


def before_relu(network: Network, layer: str) -> str:
    """The layer that runs just before a ReLU of this name and has as many channels; the layer itself if it is none."""
    table = list(models.layers(network))
    names = [each.name for each in table]
    place = names.index(layer) if layer in names else 0
    if place and table[place].kind.startswith("ReLU") and table[place - 1].channels == table[place].channels:
        return names[place - 1]
    return layer


def directions(
    recipe: ActivationAtlas, vectors: Float[Tensor, "all channels"], means: Float[Tensor, "squares channels"]
) -> Float[Tensor, "squares channels"]:
    """What is drawn of each mean: how it differs from the mean of all, whitened if the recipe says so.

    The covariance is shrunk towards a multiple of the identity, the more the fewer places there are (Ledoit and Wolf
    2004): what hardly varies among them would otherwise be enlarged beyond measure.

    Raises:
        ValueError: there are too few places for a covariance.
    """
    apart = means.double() - vectors.double().mean(0)
    if recipe.whitening == "covariance":
        spread, _ = ledoit_wolf(vectors.double().numpy())
        try:
            apart = torch.linalg.solve(torch.from_numpy(spread), apart.T).T
        except torch.linalg.LinAlgError as error:
            raise ValueError(
                f"of {len(vectors)} places the covariance is not known, so nothing can be whitened by it: take more "
                "photos, cuts or places, or whitening 'none'"
            ) from error
    return torch.nn.functional.normalize(apart, dim=1).float()


def draw(recipe: ActivationAtlas, atlas: Atlas) -> Image.Image:
    """The whole map as one picture: every square's picture, the larger the more places it has; two side by side.

    Squares are named if there is room, else regions of them. The paper stays empty where no photo led.
    """
    maps = [each for each in (atlas, atlas.beside) if each]
    sheets = []
    for each in maps:
        columns, rows = each.grid.T.tolist()
        names = [each.name(square) for square in range(len(each.grid))]
        # fewer pictures than squares, while they are drawn
        squares = [
            atlas_sheet.Square(*square) for square in zip(columns, rows, each.picture, each.sides, names, strict=False)
        ]
        sheets.append(atlas_sheet.laid_out(squares, recipe.cells, recipe.width))
    return atlas_sheet.side_by_side(sheets, [each.title for each in maps]) if len(maps) > 1 else sheets[0]


def save(atlas: Atlas, folder: str | Path) -> Path:
    """Write the map as a PNG with its recipe inside; `nbhelpers replay` draws it again."""
    path = Path(folder) / f"{atlas.recipe.slug}.png"
    images.save(draw(atlas.recipe, atlas), path, recipe=atlas.recipe.document() | {"drawn_by": "draw"})
    return path


def _kept(batch: DirectionPictures, network: Network, kept: Path) -> Tensor:
    """The pictures of a batch, from the folder if they are there."""
    path = kept / f"{batch.slug}.pt"
    if not path.exists():
        with edge.replacing(path) as temporary:
            torch.save(batch.run(network).picture.cpu(), temporary)
    return torch.load(path, weights_only=True)


def _check_second(recipe: ActivationAtlas) -> None:
    if recipe.beside and not recipe.label:
        raise ValueError(f"beside which class is {recipe.beside!r} to be mapped? Give the first one as label")
    if recipe.beside and recipe.other:
        raise ValueError(
            f"beside the map there is room for one other: the class {recipe.beside!r}, or the places as "
            f"{recipe.other!r} gives them"
        )


def _network_beside(atlas: Atlas, network: Network) -> Network | None:
    """The network of the map beside: the same, or None, where it is to be had by its name."""
    return network if atlas.beside.recipe.network == atlas.recipe.network else None


def _elsewhere(
    recipe: ActivationAtlas, network: Network, pictures: Pictures, places: Places, kept: Path | None
) -> tuple[ActivationAtlas, Network, Places]:
    """What is mapped of the other network or layer: a recipe, the network, and what it gives at the same places."""
    name, _, layer = recipe.other.partition(":")
    other = network if name in ("", recipe.network) else models.as_network(name)
    layer = layer or recipe.layer
    drawn = before_relu(other, layer)
    recipe = recipe.changed(network=name or recipe.network, layer=layer, drawn=drawn, other="")
    found = photographs.collect(other, layer, pictures, recipe.places, recipe.seed, like=places, kept=kept)
    return recipe, other, found


def _speaking(recipe: ActivationAtlas, network: Network, places: Places, pictures: Pictures) -> Tensor:
    """Which places speak for the recipe's class; all of them if it names none."""
    if not recipe.label:
        return torch.arange(len(places.vectors))
    (label,) = models.class_indices(network, [recipe.label], recipe.size)
    chosen = (photographs.effects(network, recipe.layer, pictures, places, label) > 0).nonzero().flatten()
    if not len(chosen):
        raise ValueError(
            f"none of the {len(places.vectors)} places of layer {recipe.layer!r} speaks for "
            f"{network.class_name(label)!r}: take a class that is in the photos, more photos, or an earlier layer"
        )
    return chosen


def _gridded(
    recipe: ActivationAtlas,
    network: Network,
    pictures: Pictures,
    labels: list[str],
    places: Places,
    among: Tensor,
    scores: Tensor,
    plane: Tensor,
) -> Atlas:
    """The places under a grid: squares, their means, what is drawn of them, what the network would answer to them."""
    grid, members = _squares(recipe, plane)
    means = torch.stack([places.vectors[each].mean(0) for each in members])
    members = [
        each[torch.cosine_similarity(places.vectors[each], mean[None]).argsort(descending=True, stable=True)]
        for each, mean in zip(members, means, strict=True)
    ]
    classes = models.examine(network, recipe.size).classes
    return Atlas(
        recipe=recipe,
        pictures=pictures,
        labels=labels,
        collected=places,
        among=among,
        components=scores,
        plane=plane,
        grid=grid,
        members=members,
        directions=directions(recipe, among, means),
        answers=photographs.answers(network, recipe.layer, means, recipe.size) if classes else None,
        classes=[network.class_name(index) for index in range(classes or 0)],
        picture=torch.zeros(0, 3, recipe.picture_size, recipe.picture_size),
        scores=torch.zeros(0),
    )


def _squares(recipe: ActivationAtlas, plane: Float[Tensor, "places 2"]) -> tuple[Tensor, list[Tensor]]:
    """The squares that have enough places, row by row, and the places in each."""
    where = layouts.squares(plane, recipe.cells)
    numbers = where[:, 1] * recipe.cells + where[:, 0]
    counts = torch.bincount(numbers, minlength=recipe.cells**2)
    filled = (counts >= recipe.fewest).nonzero().flatten()
    if not len(filled):
        raise ValueError(
            f"no square of {recipe.cells} x {recipe.cells} has {recipe.fewest} of the {len(plane)} places, the fullest "
            f"has {int(counts.max())}: take fewer cells, more photos or cuts, or a smaller number for fewest"
        )
    members = [(numbers == number).nonzero().flatten() for number in filled]
    return torch.stack([filled % recipe.cells, filled // recipe.cells], dim=1), members
