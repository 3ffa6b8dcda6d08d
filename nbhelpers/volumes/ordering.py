"""Orders for the maps of a layer, so that neighbours in a volume resemble each other.

The number of a channel means nothing. Five ways to give it a meaning, from the CNN-VIS study's three to two that
it did not have:

- `row_clusters`: k-means over one row of every map, the maps of a cluster side by side (MacQueen 1967);
- `row_component`: the same rows, maps sorted by the score of the first principal component (Pearson 1901);
  `row_component_standardised`: after scaling every place of the row to unit variance, as the study did it;
- `principal_map`: whole maps, sorted by their projection on the first principal map, found through the small matrix
  of inner products between maps where there are more pixels than maps (Turk and Pentland 1991);
- `tree`: hierarchical clustering, its leaves turned so that neighbours are as close as they can be (Bar-Joseph,
  Gifford, Jaakkola 2001);
- `seriation`: maps sorted along the Fiedler vector of their similarities (Atkins, Boman, Hendrickson 1998).

Signs and ties follow a rule, so the same maps give the same order everywhere: see `covariance.signed` and `ranked`.
Maps that are constant resemble nothing; the last two put them at the end.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Real
from scipy.cluster.hierarchy import linkage
from scipy.linalg import eigh
from scipy.spatial.distance import squareform
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from nbhelpers.models import covariance
from nbhelpers.volumes.channel_order import Order
from nbhelpers.volumes.files import finite
from nbhelpers.volumes.leaf_order import optimal_leaf_order

RESTARTS = 30  # of k-means, the best of which counts
TOLERANCE = 1e-9  # differences below this share of the greatest value are rounding, and count as ties


def natural(maps: Real[Tensor | np.ndarray, "..."]) -> Order:
    """The channels by number."""
    return Order("natural", list(range(len(maps))))


def shuffled(maps: Real[Tensor | np.ndarray, "..."], seed: int = 0) -> Order:
    """A random order, as a baseline; the same seed gives the same one."""
    return Order("shuffled", np.random.default_rng(seed).permutation(len(maps)).tolist())


def row_clusters(maps: Real[Tensor | np.ndarray, "..."], slice_index: int | None = None, clusters: int = 8) -> Order:
    """Maps grouped by k-means over one row of each.

    The best of several starts, always the same ones. Groups come by their mean activation in that row, the strongest
    first; within a group the channels come by number. Where fewer rows differ than clusters are asked for, there are
    as many groups as different rows, with a warning.

    Args:
        maps: `(C, H, W)`.
        slice_index: the row, from 0; the middle one if not given.
        clusters: number of groups, at most C.

    Raises:
        ValueError: too few or constant maps, the row outside the map, more clusters than maps.
    """
    array = _orderable(maps)
    rows = _rows(array, slice_index)
    if not 1 <= clusters <= len(rows):
        raise ValueError(f"{clusters} clusters of {len(rows)} maps: choose from 1 to {len(rows)}")
    distinct = len(np.unique(rows, axis=0))
    if distinct < clusters:
        warnings.warn(f"{distinct} clusters, not {clusters}: only so many of the {len(rows)} rows differ", stacklevel=2)
    labels = KMeans(min(clusters, distinct), n_init=RESTARTS, random_state=0).fit_predict(rows)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    means = np.array([rows[each].mean() for each in members])
    members = [members[index] for index in ranked(-means)]
    return Order("row_clusters", np.concatenate(members).tolist(), [len(each) for each in members])


def row_component(maps: Real[Tensor | np.ndarray, "..."], slice_index: int | None = None) -> Order:
    """Maps sorted by the first principal component of one row of each.

    Args:
        maps: `(C, H, W)`.
        slice_index: the row, from 0; the middle one if not given.

    Raises:
        ValueError: too few or constant maps, or the row outside the map.
    """
    rows = _rows(_orderable(maps), slice_index)
    return Order("row_component", ranked(_scores(rows - rows.mean(0))))


def row_component_standardised(maps: Real[Tensor | np.ndarray, "..."], slice_index: int | None = None) -> Order:
    """`row_component` with every place of the row scaled to unit variance first, as the study did it.

    Args:
        maps: `(C, H, W)`.
        slice_index: the row, from 0; the middle one if not given.

    Raises:
        ValueError: too few or constant maps, or the row outside the map.
    """
    rows = _rows(_orderable(maps), slice_index)
    return Order("row_component_standardised", ranked(_scores(StandardScaler().fit_transform(rows))))


def principal_map(maps: Real[Tensor | np.ndarray, "..."]) -> Order:
    """Maps sorted by their projection on the first principal map, the mean map subtracted (principal components).

    Args:
        maps: `(C, H, W)`.

    Raises:
        ValueError: too few or constant maps.
    """
    flat = _orderable(maps).reshape(len(maps), -1)
    return Order("principal_map", ranked(_scores(flat - flat.mean(0))))


def principal_map_uncentred(maps: Real[Tensor | np.ndarray, "..."]) -> Order:
    """Maps sorted by their projection on the principal map of maps from which nothing was subtracted.

    The principal map is then close to the mean map, and the order close to one by mean activation. The study's code
    subtracts the mean map when it looks for the principal map: that order is `principal_map`. (Projecting maps with
    or without their mean moves all scores by one constant and leaves the order as it is.)

    Args:
        maps: `(C, H, W)`.

    Raises:
        ValueError: too few or constant maps.
    """
    return Order("principal_map_uncentred", ranked(_scores(_orderable(maps).reshape(len(maps), -1))))


def tree(maps: Real[Tensor | np.ndarray, "..."]) -> Order:
    """Leaves of a hierarchical clustering (average linkage of 1 - correlation) in their optimal order.

    Args:
        maps: `(C, H, W)`.

    Raises:
        ValueError: too few or constant maps.
    """
    array = _orderable(maps)
    lively, constant = _lively(array)
    if len(lively) < 3:
        return Order("tree", lively + constant)
    # rounded, so that ties are ties on every machine
    distances = np.round(1 - correlations(array[lively]), 9)
    leaves = optimal_leaf_order(linkage(squareform(distances, checks=False).clip(0), "average"), distances)
    return Order("tree", _turned([lively[leaf] for leaf in leaves]) + constant)


def seriation(maps: Real[Tensor | np.ndarray, "..."]) -> Order:
    """Maps sorted along the Fiedler vector: the smoothest unequal labelling of a graph weighted by correlation.

    The eigenvector of the Laplacian `L = diag(S 1) - S` with the least eigenvalue among those orthogonal to the
    constant one. Adding a number to all similarities, to make them positive, does not change it.

    Args:
        maps: `(C, H, W)`.

    Raises:
        ValueError: too few or constant maps.
    """
    array = _orderable(maps)
    lively, constant = _lively(array)
    if len(lively) < 3:
        return Order("seriation", lively + constant)
    similarity = 1 + correlations(array[lively])
    laplacian = np.diag(similarity.sum(1)) - similarity
    vector = eigh(laplacian, subset_by_index=[1, 1])[1][:, 0]
    order = ranked(_signed(vector))
    return Order("seriation", _turned([lively[index] for index in order]) + constant)


METHODS: dict[str, Callable[..., Order]] = {
    "natural": natural,
    "shuffled": shuffled,
    "row_clusters": row_clusters,
    "row_component": row_component,
    "row_component_standardised": row_component_standardised,
    "principal_map": principal_map,
    "principal_map_uncentred": principal_map_uncentred,
    "tree": tree,
    "seriation": seriation,
}


def correlations(maps: Real[Tensor | np.ndarray, "..."]) -> Float[np.ndarray, "channels channels"]:
    """Pearson correlation between maps, `(C, C)` float64 in [-1, 1]; 0 where one of the two is constant."""
    flat, _ = _standardised(finite(maps))
    return (flat @ flat.T).clip(-1, 1)


def neighbour_correlation(maps: Real[Tensor | np.ndarray, "..."], order: Sequence[int]) -> float:
    """How alike neighbours in the volume are: mean correlation over all pairs of neighbours that both vary.

    Args:
        maps: `(C, H, W)`, in their natural order.
        order: channels in the order of the volume; gaps do not count.

    Raises:
        ValueError: no two neighbours vary, or the order is not one of these maps.
    """
    array = finite(maps)
    if sorted(order) != list(range(len(array))):
        raise ValueError(f"an order of {len(array)} maps names each from 0 to {len(array) - 1} once")
    flat, varies = _standardised(array)
    flat, varies = flat[order], varies[order]
    both = varies[:-1] & varies[1:]
    if not both.any():
        raise ValueError("no two neighbouring maps vary: there is no correlation to take the mean of")
    return float((flat[:-1] * flat[1:]).sum(1)[both].mean())


def ranked(scores: Float[np.ndarray, " scores"]) -> list[int]:
    """Indices from the least score to the greatest; those that differ by rounding only come by number."""
    order = np.argsort(scores, kind="stable")
    unit = TOLERANCE * max(np.abs(scores).max(), 1e-300)
    # neighbours closer than the unit are one tie; comparing neighbours has no edge that rounding could straddle
    tie = np.concatenate([[0], np.cumsum(np.diff(scores[order]) > unit)])
    return order[np.lexsort((order, tie))].tolist()


def _scores(rows: np.ndarray) -> np.ndarray:
    """Projection of each row on the first principal axis, through whichever Gram matrix is smaller."""
    # the compact trick: an eigenvector of R R^T, times R, is one of R^T R
    compact = len(rows) < rows.shape[1]
    matrix = rows @ rows.T if compact else rows.T @ rows
    # far below what counts as a tie
    vector = covariance.leading(torch.from_numpy(matrix), 1, tolerance=TOLERANCE / 1000)[1][0].numpy()
    axis = rows.T @ vector if compact else vector
    norm = np.linalg.norm(axis)
    return rows @ _signed(axis / norm) if norm > 0 else np.zeros(len(rows))


def _signed(vector: np.ndarray) -> np.ndarray:
    return covariance.signed(torch.from_numpy(vector)).numpy()


def _orderable(maps: Tensor | np.ndarray) -> np.ndarray:
    array = finite(maps)
    if len(array) < 2:
        raise ValueError("there is only one map: an order needs at least two channels")
    if not (array != array[:1, :1, :1]).any():
        raise ValueError(
            f"all {len(array)} maps have the same value, {array.flat[0]:g}, everywhere: there is nothing to order. "
            "Choose another layer or photo"
        )
    return array


def _rows(array: np.ndarray, slice_index: int | None) -> np.ndarray:
    height = array.shape[1]
    slice_index = height // 2 if slice_index is None else slice_index
    if not 0 <= slice_index < height:
        raise ValueError(f"slice_index {slice_index} is outside the map, whose rows are 0 to {height - 1}")
    return array[:, slice_index]


def _standardised(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every map centred and of length one (zero if constant), `(C, H * W)`; and which of them vary, `(C,)`."""
    flat = array.reshape(len(array), -1)
    varies = np.ptp(flat, axis=1) > TOLERANCE * np.abs(flat).max()
    flat = flat - flat.mean(1, keepdims=True)
    norms = np.where(varies, np.linalg.norm(flat, axis=1), 1)
    return np.where(varies[:, None], flat / norms[:, None], 0), varies


def _lively(array: np.ndarray) -> tuple[list[int], list[int]]:
    """Channels that vary, and those that are constant."""
    varies = _standardised(array)[1]
    return np.flatnonzero(varies).tolist(), np.flatnonzero(~varies).tolist()


def _turned(channels: list[int]) -> list[int]:
    """An order and its reverse are equally good: the end with the smaller channel comes first."""
    return channels if channels[0] < channels[-1] else channels[::-1]
