"""A plane on which neighbours stay neighbours, a grid over it, and how much of the neighbourhood the plane keeps.

Principal components first, then t-SNE from them (van der Maaten and Hinton 2008). A plane cannot keep what has more
dimensions than two: `quality` says how much it keeps, beside what chance and two components would.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from nbhelpers.models import covariance

FEWEST = 10
"""Points that t-SNE needs; fewer lie by their first two components."""

NEIGHBOURS = 10
"""So many count as a point's neighbourhood."""

SAMPLE = 1500
"""Points that the quality is measured on; it takes their square in memory."""

SEEDS = 2**32  # scikit-learn takes no greater seed


@dataclass
class Quality:
    """How much of the neighbourhoods a plane keeps; 1 is all of them, 0.5 what chance keeps.

    Attributes:
        trustworthiness: whether neighbours on the plane are neighbours in truth (Venna and Kaski 2001).
        continuity: whether neighbours in truth are neighbours on the plane.
    """

    trustworthiness: float
    continuity: float


def components(vectors: Float[Tensor, "points channels"], count: int) -> Float[Tensor, "points components"]:
    """Scores on the leading principal components, as many as there are at most.

    Raises:
        ValueError: all vectors are the same, so there is nothing to lay out.
    """
    moments = covariance.Moments(vectors.shape[1])
    moments.add(vectors.T[None, :, :, None])
    variances, directions = covariance.leading(moments.covariance, min(count, *vectors.shape))
    kept = directions[variances > 1e-9 * variances.sum().clamp(min=1e-12)]
    if not len(kept):
        raise ValueError("all places give the same activations: there is nothing to lay out. Take another layer")
    return (vectors - moments.mean.float()) @ kept.float().T


def plane(scores: Float[Tensor, "points components"], seed: int) -> Float[Tensor, "points 2"]:
    """Places in the unit square, neighbours beside neighbours, gaps between crowds halved.

    Half of every coordinate is where t-SNE put the point, half is its rank: what lies left of another stays there, and
    no empty sea takes the room that the land needs.
    """
    from sklearn.manifold import TSNE

    start = torch.zeros(len(scores), 2)
    start[:, : scores.shape[1]] = scores[:, :2]
    if len(scores) >= FEWEST:
        first = (start / start[:, 0].std().clamp(min=1e-12) * 1e-4).numpy()
        perplexity = min(30.0, (len(scores) - 1) / 3)
        if seed:  # the components fix the plane's general shape; another seed begins elsewhere
            first = (1e-4 * np.random.default_rng(seed).standard_normal(first.shape)).astype(np.float32)
        fitted = TSNE(2, init=first, perplexity=perplexity, random_state=seed % SEEDS, n_jobs=1)
        start = torch.from_numpy(fitted.fit_transform(scores.numpy()))
    low, high = start.amin(0), start.amax(0)
    ranks = start.argsort(dim=0, stable=True).argsort(dim=0) / max(len(start) - 1, 1)
    return (((start - low) / (high - low).clamp(min=1e-12) + ranks) / 2).float()


def squares(places: Float[Tensor, "points 2"], cells: int) -> Int[Tensor, "points 2"]:
    """Column and row, from 0, of the square that each point lies in, of `cells` x `cells`."""
    return (places * cells).long().clamp(0, cells - 1)


def quality(high: Float[Tensor, "points _"], low: Float[Tensor, "points _"]) -> Quality:
    """Trustworthiness and continuity of points laid out, on an even sample of them."""
    from sklearn.manifold import trustworthiness

    index = torch.linspace(0, len(high) - 1, min(len(high), SAMPLE)).long()
    first, second = high[index].double().numpy(), low[index].double().numpy()
    neighbours = max(1, min(NEIGHBOURS, (len(index) - 1) // 2))
    return Quality(
        float(trustworthiness(first, second, n_neighbors=neighbours)),
        float(trustworthiness(second, first, n_neighbors=neighbours)),
    )


def shared_neighbours(first: Float[Tensor, "points 2"], second: Float[Tensor, "points 2"]) -> float:
    """Share of a point's nearest neighbours on one plane that are among its nearest on the other."""
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, len(first) - 1)
    near = [
        NearestNeighbors(n_neighbors=count).fit(each.numpy()).kneighbors(return_distance=False)
        for each in (first, second)
    ]
    both = [len(set(one) & set(other)) for one, other in zip(*(each.tolist() for each in near), strict=True)]
    return sum(both) / (count * len(both))
