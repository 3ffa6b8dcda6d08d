"""A plane on which neighbours stay neighbours, a grid over it, and how much of the neighbourhood the plane keeps.

Principal components first, then t-SNE from them (van der Maaten and Hinton 2008), or UMAP where it is installed
(McInnes, Healy and Melville 2018). A plane cannot keep what has more dimensions than two: `quality` says how much it
keeps, beside what chance and two components would.
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
        ValueError: there is one vector, or all are the same, so there is nothing to lay out.
    """
    if len(vectors) < 2:
        raise ValueError("one place is no map: take more photos, or more cuts or places of each")
    moments = covariance.Moments(vectors.shape[1])
    moments.add(vectors.T[None, :, :, None])
    variances, directions = covariance.leading(moments.covariance, min(count, *vectors.shape))
    kept = directions[variances > 1e-9 * variances.sum().clamp(min=1e-12)]
    if not len(kept):
        raise ValueError("all places give the same activations: there is nothing to lay out. Take another layer")
    return (vectors - moments.mean.float()) @ kept.float().T


def aligned(
    first: Float[Tensor, "points _"], second: Float[Tensor, "points _"]
) -> tuple[Float[Tensor, "points components"], Float[Tensor, "points components"]]:
    """The same points as two networks have them, in one space: made equally large, and the second turned on the first.

    Components of two layers are axes of two spaces that have nothing to do with each other: the first of the one may
    be the third of the other, upside down. The rotation (with reflection) that brings every point nearest to itself
    takes that away and keeps all distances within each, so what is still apart is apart for another reason.

    Args:
        first, second: scores on the principal components, point by point. The narrower is filled up with zeros.

    Source: Schoenemann 1966, "A generalized solution of the orthogonal Procrustes problem".
    """
    width = max(first.shape[1], second.shape[1])
    filled = [torch.nn.functional.pad(each, (0, width - each.shape[1])).double() for each in (first, second)]
    one, other = (each / each.square().sum(1).mean().sqrt().clamp(min=1e-12) for each in filled)
    left, _, right = torch.linalg.svd(other.T @ one)
    return one.float(), (other @ left @ right).float()


def plane(scores: Float[Tensor, "points components"], seed: int, layout: str = "t-sne") -> Float[Tensor, "points 2"]:
    """Places in the unit square, neighbours beside neighbours, gaps between crowds halved.

    Half of every coordinate is where the layout put the point, half is its rank: what lies left of another stays there,
    and no empty sea takes the room that the land needs.

    Args:
        scores: of the points, `(N, components)`.
        seed: another one gives another plane.
        layout: "t-sne", or "umap".

    Raises:
        ValueError: umap-learn is not installed.
    """
    start = torch.zeros(len(scores), 2)
    start[:, : scores.shape[1]] = scores[:, :2]
    if len(scores) >= FEWEST:
        first = (start / start[:, 0].std().clamp(min=1e-12) * 1e-4).numpy()
        if seed:  # the components fix the plane's general shape; another seed begins elsewhere
            first = (1e-4 * np.random.default_rng(seed).standard_normal(first.shape)).astype(np.float32)
        start = {"t-sne": _tsne, "umap": _umap}[layout](scores, first, seed % SEEDS)
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


def _tsne(scores: Tensor, start: np.ndarray, seed: int) -> Tensor:
    from sklearn.manifold import TSNE

    fitted = TSNE(2, init=start, perplexity=min(30.0, (len(scores) - 1) / 3), random_state=seed, n_jobs=1)
    return torch.from_numpy(fitted.fit_transform(scores.numpy()))


def _umap(scores: Tensor, start: np.ndarray, seed: int) -> Tensor:
    try:
        from umap import UMAP
    except ImportError as error:
        raise ValueError(
            "the layout 'umap' needs a package that is not installed: pip install umap-learn, or take 't-sne'"
        ) from error

    # it begins in a square of side 10, as its own spectral start does
    wide = 10 * (start - start.min(0)) / np.maximum(np.ptp(start, axis=0), 1e-12)
    fitted = UMAP(
        n_components=2, n_neighbors=min(15, len(scores) - 1), init=wide.astype(np.float32), random_state=seed, n_jobs=1
    )
    return torch.from_numpy(np.asarray(fitted.fit_transform(scores.numpy()), dtype=np.float32))
