"""Directions that were found in one layer, drawn in the convolution before it: what an atlas and concepts share."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbhelpers.recipes import Recipe
from nbhelpers.techniques import direction_pictures
from nbhelpers.techniques.direction_pictures import DirectionPictures

AS_THEY_ARE = ("network", "rounds", "steps", "seed", "precision")


def manner(recipe: Recipe, vectors: Float[Tensor, "directions channels"]) -> DirectionPictures:
    """How a recipe with a layer `drawn` and a `picture_size` has its directions drawn."""
    return DirectionPictures(
        layer=recipe.drawn,
        directions=direction_pictures.rounded(vectors),
        size=recipe.picture_size,
        **{name: getattr(recipe, name) for name in AS_THEY_ARE},
    )


def grown(
    pictures: DirectionPictures,
    network: nn.Module,
    make: Callable[[DirectionPictures], Float[Tensor, "batch 3 height width"]] | None = None,
) -> Iterator[tuple[Float[Tensor, "drawn 3 height width"], Float[Tensor, " drawn"]]]:
    """All pictures that are drawn by now, and how far each drives the layer, after every batch.

    Args:
        pictures: how they are drawn.
        network: draws them.
        make: draws a batch, or has it already; by default it is drawn.
    """
    drawn, scores = [], []
    for batch in direction_pictures.batches(pictures):
        drawn.append(make(batch) if make else batch.run(network).picture.cpu())
        scores.append(direction_pictures.strengths(batch, drawn[-1], network))
        yield torch.cat(drawn), torch.cat(scores)
