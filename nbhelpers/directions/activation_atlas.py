"""An activation atlas: a map of what a layer tells apart, every part of it drawn.

What a layer gives at one place of a photo is a vector. Thousands of them, from thousands of photos, are laid out on a
plane so that neighbours stay neighbours; a grid is laid over the plane; and each square is drawn as the picture of its
mean vector (Carter, Armstrong, Schubert, Johnson, Olah, "Activation Atlas", Distill 2019). As in the paper, the mean
may be whitened by the covariance of all activations first: what every photo has in common (bright sky above, green
below) has the greatest variance, and would otherwise be drawn into every square. Of few photos the covariance says too
little, and the pictures become less true (`agreement` measures it): whitening is for thousands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image, ImageDraw
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn

from nbhelpers import edge, images, models
from nbhelpers.directions import drawing, layouts, photographs
from nbhelpers.directions.photographs import Places
from nbhelpers.models import Network
from nbhelpers.recipes import Field, NetworkName, Recipe
from nbhelpers.techniques import direction_pictures
from nbhelpers.techniques.direction_pictures import DirectionPictures
from nbhelpers.training.data import Pictures

PAPER, DIM = "#faf9f6", "#7b8088"
SMALLEST = 0.62  # side of a square's picture where it has the fewest places, as a part of the square's
MARGIN = 0.25  # of a square's side, around the map
LEGIBLE = 84  # pixels; squares of this side have room for a caption


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
    width: int = Field(900, ge=200, le=8000, description="side of the whole map in pixels")
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
        collected: what the layer gives at places in them.
        components: of that, the scores on the leading principal components, `(N, components)`.
        plane: where each place lies in the unit square, `(N, 2)`.
        grid: column and row of each drawn square, `(squares, 2)`.
        members: of each square, its places, those nearest to its mean first.
        directions: what is drawn of each square, `(squares, C)`.
        answers: the network's class shares if the layer said the square's mean everywhere, `(squares, classes)`; None
            where it gives no classes.
        classes: their names.
        picture: as many squares as are drawn by now, `(squares so far, 3, H, W)`.
        scores: how far each drives the layer along its direction.
    """

    recipe: ActivationAtlas
    pictures: Pictures
    labels: list[str]
    collected: Places
    components: Float[Tensor, "places _"]
    plane: Float[Tensor, "places 2"]
    grid: Int[Tensor, "squares 2"]
    members: list[Int[Tensor, " _"]]
    directions: Float[Tensor, "squares channels"]
    answers: Float[Tensor, "squares classes"] | None
    classes: list[str]
    picture: Float[Tensor, "drawn 3 height width"]
    scores: Float[Tensor, " drawn"]

    @property
    def index(self) -> int:
        """Squares drawn by now."""
        return len(self.picture)

    @property
    def total(self) -> int:
        """Squares to be drawn."""
        return len(self.grid)

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
        lines.append(f"{self.total} squares of {self.recipe.cells} x {self.recipe.cells} have enough places")
        return lines


def survey(recipe: ActivationAtlas, network: nn.Module | None = None) -> Atlas:
    """Everything about the map but its pictures: places, layout, squares, directions, answers.

    Raises:
        KeyError, ValueError: a layer is unknown, the two layers do not match, there is nothing to lay out, or no square
        has enough places.
    """
    network = models.as_network(network if network is not None else recipe.network)
    pictures, labels, places = photographs.gathered(recipe, network)
    scores = layouts.components(places.vectors, recipe.components)
    return _gridded(recipe, network, pictures, labels, places, scores, layouts.plane(scores, recipe.seed))


def with_cells(atlas: Atlas, cells: int, network: nn.Module | None = None) -> Atlas:
    """The same map under a coarser or finer grid, not drawn yet."""
    network = models.as_network(network if network is not None else atlas.recipe.network)
    recipe = atlas.recipe.changed(cells=cells)
    same = (atlas.pictures, atlas.labels, atlas.collected, atlas.components, atlas.plane)
    return _gridded(recipe, network, *same)


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
    recipe: ActivationAtlas, vectors: Float[Tensor, "places channels"], means: Float[Tensor, "squares channels"]
) -> Float[Tensor, "squares channels"]:
    """What is drawn of each mean: how it differs from the mean of all, whitened if the recipe says so.

    The covariance is shrunk towards a multiple of the identity, the more the fewer places there are (Ledoit and Wolf
    2004): what hardly varies among them would otherwise be enlarged beyond measure.
    """
    apart = means.double() - vectors.double().mean(0)
    if recipe.whitening == "covariance":
        spread, _ = ledoit_wolf(vectors.double().numpy())
        apart = torch.linalg.solve(torch.from_numpy(spread), apart.T).T
    return torch.nn.functional.normalize(apart, dim=1).float()


def agreement(
    atlas: Atlas, pictures: Float[Tensor, "chosen 3 height width"], squares: list[int], network: nn.Module | None = None
) -> Float[Tensor, " chosen"]:
    """Percentile of each picture's own square among all: is it the one whose activations it is most like?

    The picture is shown to the network. What the layer gives for it, in the mean over all places and less the mean of
    all pictures, is compared by its cosine with the direction of every square. 100: no other square is nearer. 50:
    chance.

    Args:
        atlas: the squares.
        pictures: what is judged.
        squares: which square each is of.
        network: used in place of the one that the recipe names.
    """
    network = models.as_network(network if network is not None else atlas.recipe.network)
    seen = models.pooled_activations(network, atlas.recipe.layer, pictures)
    cosines = torch.nn.functional.normalize(seen - seen.mean(0), dim=1) @ atlas.directions.T
    own = cosines.gather(1, torch.tensor(squares)[:, None])
    return 100 * (cosines < own).float().sum(1) / max(atlas.total - 1, 1)


def redrawn(atlas: Atlas, squares: list[int], network: nn.Module) -> Float[Tensor, "squares 3 height width"]:
    """Some squares drawn by another network of the same layers, from what that one gives at the same places."""
    recipe = atlas.recipe
    vectors = photographs.collect(network, recipe.layer, atlas.pictures, recipe.places, recipe.seed).vectors
    means = torch.stack([vectors[atlas.members[square]].mean(0) for square in squares])
    return direction_pictures.draw(drawing.manner(recipe, directions(recipe, vectors, means)), network)


def purity(atlas: Atlas, seed: int = 0) -> tuple[float, float]:
    """Share of a square's places whose photo has the square's commonest label; and the same, places dealt at random."""
    labels = atlas.pictures.labels[atlas.collected.photos]
    dealt = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]

    def commonest(of: Tensor) -> float:
        most = [torch.bincount(of[members]).max() for members in atlas.members]
        return float(sum(most) / sum(map(len, atlas.members)))

    return commonest(labels), commonest(dealt)


def draw(recipe: ActivationAtlas, atlas: Atlas) -> Image.Image:
    """The whole map as one picture: every square's picture, the larger the more places it has, named if there is room.

    The paper it lies on stays empty where no photo led.
    """
    side = recipe.width / (recipe.cells + 2 * MARGIN)
    sheet = Image.new("RGB", (recipe.width, recipe.width), PAPER)
    pen = ImageDraw.Draw(sheet)
    captioned = side >= LEGIBLE
    letters = images.font(max(9, round(side / 11)))
    room = side - (sum(letters.getmetrics()) + 2 if captioned else 0)
    for square, (picture, share) in enumerate(zip(atlas.picture, atlas.sides, strict=False)):
        length = max(1, round(room * share - 1))
        column, row = atlas.grid[square].tolist()
        middle = (column + MARGIN + 0.5) * side
        left, top = middle - length / 2, (row + MARGIN) * side + (room - length) / 2
        image = images.to_pil(picture).resize((length, length), Image.Resampling.LANCZOS)
        sheet.paste(image, (round(left), round(top)))
        if captioned:
            text = _fitted(atlas.name(square), letters, side - 2)
            pen.text((middle, top + length + 1), text, DIM, letters, anchor="ma")
    return sheet


def compare_whitening(
    atlas: Atlas, squares: list[int], network: nn.Module | None = None
) -> dict[str, Float[Tensor, "squares 3 height width"]]:
    """The same squares drawn as they are and whitened."""
    network = models.as_network(network if network is not None else atlas.recipe.network)
    drawn = {}
    for name, whitening in (("mean", "none"), ("whitened", "covariance")):
        recipe = atlas.recipe.changed(whitening=whitening)
        vectors = directions(recipe, atlas.collected.vectors, atlas.means[squares])
        drawn[name] = direction_pictures.draw(drawing.manner(recipe, vectors), network)
    return drawn


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


def _gridded(
    recipe: ActivationAtlas,
    network: Network,
    pictures: Pictures,
    labels: list[str],
    places: Places,
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
        components=scores,
        plane=plane,
        grid=grid,
        members=members,
        directions=directions(recipe, places.vectors, means),
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


def _fitted(text: str, letters, room: float) -> str:
    """The text, shortened to fit."""
    while text and letters.getlength(text) > room:
        text = text[:-2] + "…" if len(text) > 2 else ""
    return text
