"""Is an atlas real? Pictures against their squares, squares against their photos, two maps against each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbhelpers import models
from nbhelpers.directions import activation_atlas, drawing, layouts, photographs
from nbhelpers.directions.activation_atlas import Atlas
from nbhelpers.techniques import direction_pictures


def likeness(
    atlas: Atlas, pictures: Float[Tensor, "chosen 3 height width"], network: nn.Module | None = None
) -> Float[Tensor, "chosen squares"]:
    """Cosine between what the layer gives for pictures and the direction of every square, from -1 to 1.

    Each picture is shown to the network; what the layer gives is taken in the mean over all places, less the mean of
    all pictures, which has no part in what tells them apart.

    Args:
        atlas: the squares.
        pictures: several, of one size.
        network: used in place of the one that the recipe names.
    """
    network = models.as_network(network if network is not None else atlas.recipe.network)
    seen = models.pooled_activations(network, atlas.recipe.layer, pictures).float().cpu()
    return torch.nn.functional.normalize(seen - seen.mean(0), dim=1) @ atlas.directions.T


@dataclass
class Agreement:
    """How far pictures point to their own squares.

    Attributes:
        own: cosine of each picture with its own square's direction.
        others: in the mean, with those of the other squares.
        percentile: of its own square among all: 100, no other square is nearer; 50 is chance.
    """

    own: Float[Tensor, " chosen"]
    others: Float[Tensor, " chosen"]
    percentile: Float[Tensor, " chosen"]


def agreement(
    atlas: Atlas, pictures: Float[Tensor, "chosen 3 height width"], squares: list[int], network: nn.Module | None = None
) -> Agreement:
    """Whether pictures are of their squares: of all squares, is its own the one that each is most like?

    Args:
        atlas: the squares.
        pictures: what is judged.
        squares: which square each is of.
        network: used in place of the one that the recipe names.
    """
    cosines = likeness(atlas, pictures, network)
    own = cosines.gather(1, torch.tensor(squares)[:, None])
    more = max(cosines.shape[1] - 1, 1)
    return Agreement(own[:, 0], (cosines.sum(1) - own[:, 0]) / more, 100 * (cosines < own).float().sum(1) / more)


def redrawn(atlas: Atlas, squares: list[int], network: nn.Module) -> Float[Tensor, "squares 3 height width"]:
    """Some squares drawn by another network of the same layers, from what that one gives at the same places."""
    recipe = atlas.recipe
    vectors = photographs.collect(network, recipe.layer, atlas.pictures, recipe.places, recipe.seed).vectors
    means = torch.stack([vectors[atlas.members[square]].mean(0) for square in squares])
    return direction_pictures.draw(drawing.manner(recipe, activation_atlas.directions(recipe, vectors, means)), network)


def purity(atlas: Atlas, seed: int = 0) -> tuple[float, float]:
    """Share of a square's places whose photo has the square's commonest label; and the same, places dealt at random."""
    labels = atlas.pictures.labels[atlas.collected.photos]
    dealt = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]

    def commonest(of: Tensor) -> float:
        most = [torch.bincount(of[members]).max() for members in atlas.members]
        return float(sum(most) / sum(map(len, atlas.members)))

    return commonest(labels), commonest(dealt)


def compare_whitening(
    atlas: Atlas, squares: list[int], network: nn.Module | None = None
) -> dict[str, Float[Tensor, "squares 3 height width"]]:
    """The same squares drawn as they are and whitened."""
    network = models.as_network(network if network is not None else atlas.recipe.network)
    drawn = {}
    for name, whitening in (("mean", "none"), ("whitened", "covariance")):
        recipe = atlas.recipe.changed(whitening=whitening)
        vectors = activation_atlas.directions(recipe, atlas.among, atlas.means[squares])
        drawn[name] = direction_pictures.draw(drawing.manner(recipe, vectors), network)
    return drawn


@dataclass
class Speaking:
    """What the network would answer to places that speak for a class: the class's share, in the mean over places.

    Attributes:
        chosen: if the layer said everywhere what it says at one of the atlas's places.
        every: at any place of the photos.
        untrained: at as many places as are on the map, those that speak most for it in the re-initialised network.
    """

    chosen: float
    every: float
    untrained: float


def speaking(atlas: Atlas, network: nn.Module | None = None, seed: int = 0) -> Speaking:
    """Whether a class's atlas is about the class, beside all places and those that a network picks that knows nothing.

    Args:
        atlas: of a class.
        network: used in place of the one that the recipe names.
        seed: of the re-initialised network.

    Raises:
        ValueError: the atlas is of no class.
    """
    recipe = atlas.recipe
    network = models.as_network(network if network is not None else recipe.network)
    if not recipe.label:
        raise ValueError("an atlas of all places speaks for no class: give its recipe a label")
    (label,) = models.class_indices(network, [recipe.label], recipe.size)
    untrained = models.randomised(network, seed)
    theirs = photographs.collect(untrained, recipe.layer, atlas.pictures, recipe.places, recipe.seed)
    adds = photographs.effects(untrained, recipe.layer, atlas.pictures, theirs, label)
    most = adds.topk(len(atlas.collected.vectors)).indices

    def share(vectors: Tensor) -> float:
        return float(photographs.answers(network, recipe.layer, vectors, recipe.size)[:, label].mean())

    return Speaking(share(atlas.collected.vectors), share(atlas.among), share(atlas.among[most]))


@dataclass
class Mixing:
    """How mixed the places of two networks or layers are in the space that both were brought into.

    Attributes:
        others: share of a place's nearest neighbours that are the other's; 0, the two lie apart.
        shuffled: the same if every place is dealt to one of the two at random.
        twins: share of places whose nearest ones in the other include the same place of the same photo.
        by_chance: the same if the other's places are dealt out at random.
    """

    others: float
    shuffled: float
    twins: float
    by_chance: float


def mixing(
    first: Float[Tensor, "places components"], second: Float[Tensor, "places components"], seed: int = 0
) -> Mixing:
    """How mixed the same places are as two networks or layers have them, in one space (`layouts.aligned`).

    Args:
        first, second: place by place, such as the components of an atlas and of the one beside it.
        seed: of what is dealt.
    """
    generator = torch.Generator().manual_seed(seed % 2**63)
    count = min(layouts.NEIGHBOURS, len(first) - 1)
    both = torch.cat([first, second])
    near = torch.cdist(both, both).fill_diagonal_(torch.inf).topk(count, largest=False).indices
    sides = torch.arange(len(both)) // len(first)
    dealt = sides[torch.randperm(len(sides), generator=generator)]
    nearest = torch.cdist(first, second).topk(count, largest=False).indices
    twins = torch.arange(len(first))
    wrong = torch.randperm(len(first), generator=generator)

    def others(of: Tensor) -> float:
        return float((of[near] != of[:, None]).float().mean())

    def met(whom: Tensor) -> float:
        return float((nearest == whom[:, None]).any(1).float().mean())

    return Mixing(others(sides), others(dealt), met(twins), met(wrong))
