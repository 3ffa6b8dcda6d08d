"""Orders of maps, against scikit-learn, brute force and planted orders."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, TruncatedSVD

from nbhelpers.volumes import Order, ordering

ORDERS = ["row_clusters", "row_component", "principal_map", "principal_map_uncentred", "tree", "seriation"]


def some_maps(count: int = 24, height: int = 6, width: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(0.5, size=(count, height, width))


def planted(count: int = 40, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    """Maps that correlate by 0.9 to the power of their distance on a line, shuffled; and the channels on the line."""
    line = np.arange(count)
    wanted = 0.9 ** np.abs(line[:, None] - line)
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(8 * 8, count))
    columns = np.linalg.qr(noise - noise.mean(0))[0]  # orthonormal, mean zero
    maps = (np.linalg.cholesky(wanted) @ columns.T).reshape(count, 8, 8)
    shuffle = rng.permutation(count)
    return maps[shuffle], np.argsort(shuffle).tolist()


def either_way(order: list[int]) -> list[list[int]]:
    return [order, order[::-1]]


@pytest.mark.parametrize(("height", "width"), [(3, 5), (12, 11)])
def test_principal_map_against_scikit_learn(height: int, width: int) -> None:
    """Fewer pixels than maps, and more: the compact trick must give the same."""
    maps = some_maps(24, height, width)
    scores = PCA(1, svd_solver="full").fit_transform(maps.reshape(24, -1))[:, 0]
    assert ordering.principal_map(maps).channels in either_way(np.argsort(scores).tolist())


@pytest.mark.parametrize(("height", "width"), [(3, 5), (12, 11)])
def test_uncentred_principal_map_against_scikit_learn(height: int, width: int) -> None:
    maps = some_maps(24, height, width)
    scores = TruncatedSVD(1, algorithm="arpack", random_state=0).fit_transform(maps.reshape(24, -1))[:, 0]
    assert ordering.principal_map_uncentred(maps).channels in either_way(np.argsort(scores).tolist())


def test_projecting_without_the_mean_subtracted_moves_all_scores_alike() -> None:
    flat = some_maps().reshape(24, -1)
    axis = PCA(1).fit(flat).components_[0]
    difference = flat @ axis - (flat - flat.mean(0)) @ axis
    assert np.ptp(difference) < 1e-12
    assert abs(difference[0]) > 0.1


@pytest.mark.parametrize("row", [0, 4])
def test_row_component_against_scikit_learn(row: int) -> None:
    maps = some_maps(height=5)
    scores = PCA(1, svd_solver="full").fit_transform(maps[:, row])[:, 0]
    assert ordering.row_component(maps, row).channels in either_way(np.argsort(scores).tolist())


def test_the_row_component_of_standardised_columns() -> None:
    maps = some_maps(height=5) * np.geomspace(1, 100, some_maps().shape[2])
    scaled = (maps[:, 2] - maps[:, 2].mean(0)) / maps[:, 2].std(0)
    scores = PCA(1, svd_solver="full").fit_transform(scaled)[:, 0]
    found = ordering.row_component_standardised(maps, 2)
    assert found.channels in either_way(np.argsort(scores).tolist())


def test_row_clusters_against_scikit_learn() -> None:
    maps = some_maps(60)
    found = ordering.row_clusters(maps, 2, 5)
    groups, begin = [], 0
    for size in found.groups:
        groups.append(found.channels[begin : begin + size])
        begin += size
    inertia = sum(((maps[group, 2] - maps[group, 2].mean(0)) ** 2).sum() for group in groups)
    assert len(groups) == 5
    assert inertia <= 1.03 * min(KMeans(5, n_init=10, random_state=seed).fit(maps[:, 2]).inertia_ for seed in (1, 2, 3))
    means = [maps[group, 2].mean() for group in groups]
    assert means == sorted(means, reverse=True)
    assert all(group == sorted(group) for group in groups)


def test_row_clusters_find_planted_groups() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 30)
    maps = rng.normal(size=(3, 4, 9))[label] * 5 + rng.normal(size=(30, 4, 9)) * 0.1
    found = ordering.row_clusters(maps, clusters=3)
    assert sorted(found.groups) == sorted(np.bincount(label).tolist())
    assert (np.diff(label[found.channels]) != 0).sum() == 2


@pytest.mark.parametrize("method", ["tree", "seriation"])
def test_a_planted_order_is_found(method: str) -> None:
    maps, truth = planted()
    assert ordering.METHODS[method](maps).channels in either_way(truth)


@pytest.mark.parametrize("seed", range(12))
def test_the_tree_turns_its_branches_best(seed: int) -> None:
    """Brute force: of all orders that the tree allows, none has closer neighbours."""
    maps = some_maps(7, seed=seed)
    distances = 1 - np.corrcoef(maps.reshape(7, -1))
    joints = linkage(squareform(distances, checks=False), "average")

    def orders(node: int) -> list[list[int]]:
        if node < 7:
            return [[node]]
        left, right = (orders(int(child)) for child in joints[node - 7, :2])
        return [a + b for first, second in ((left, right), (right, left)) for a, b in itertools.product(first, second)]

    costs = [distances[order[:-1], order[1:]].sum() for order in orders(12)]
    found = ordering.tree(maps).channels
    assert distances[found[:-1], found[1:]].sum() == pytest.approx(min(costs), abs=1e-7)


def test_seriation_sorts_by_the_fiedler_vector() -> None:
    maps = some_maps()
    similarity = np.corrcoef(maps.reshape(24, -1)) + 5  # another shift than the module's: it must not matter
    values, vectors = np.linalg.eigh(np.diag(similarity.sum(1)) - similarity)
    assert values[0] == pytest.approx(0, abs=1e-9)
    assert ordering.seriation(maps).channels in either_way(np.argsort(vectors[:, 1]).tolist())


def test_neighbour_correlation_against_numpy() -> None:
    maps = some_maps()
    order = np.random.default_rng(1).permutation(24).tolist()
    table = np.corrcoef(maps.reshape(24, -1))
    expected = np.mean([table[a, b] for a, b in itertools.pairwise(order)])
    assert ordering.neighbour_correlation(torch.from_numpy(maps), order) == pytest.approx(expected, abs=1e-12)
    assert np.allclose(ordering.correlations(maps), table)
    maps[order[3]] = 2.0  # the two pairs with the constant map are left out
    pairs = [(a, b) for a, b in itertools.pairwise(order) if order[3] not in (a, b)]
    assert ordering.neighbour_correlation(maps, order) == pytest.approx(np.mean([table[a, b] for a, b in pairs]))


@pytest.mark.parametrize("method", ORDERS)
def test_the_same_order_whatever_the_numbering(method: str) -> None:
    """Shuffling the channels shuffles the order along with them, but for its direction and the order of ties."""
    maps, shuffle = some_maps(20), np.random.default_rng(3).permutation(20)
    first = ordering.METHODS[method](maps)
    second = ordering.METHODS[method](maps[shuffle])
    named = [int(shuffle[channel]) for channel in second.channels]
    if method == "row_clusters":
        assert second.groups == first.groups
        edges = np.cumsum(first.groups)[:-1]
        assert [set(part) for part in np.split(named, edges)] == [set(part) for part in np.split(first.channels, edges)]
    else:
        assert named in either_way(first.channels)


@pytest.mark.parametrize("method", ORDERS)
def test_rounding_does_not_matter(method: str) -> None:
    """As another machine would compute: other last bits, the same order; also with maps that tie."""
    maps = some_maps(20)
    maps[[4, 9]] = maps[15]
    maps[[2, 11]] = 0
    noise = 1 + np.random.default_rng(0).uniform(-1, 1, maps.shape) * 1e-14
    first = ordering.METHODS[method](maps).channels
    assert ordering.METHODS[method](maps * noise).channels == first
    assert first.index(4) < first.index(9) < first.index(15) or method in ("tree", "seriation", "row_clusters")


def test_ties_come_by_number() -> None:
    assert ordering.ranked(np.array([2.0, 1 + 1e-12, 1.0, 0.5])) == [3, 1, 2, 0]


@pytest.mark.parametrize("method", ["tree", "seriation"])
def test_constant_maps_come_last(method: str) -> None:
    maps = some_maps(10)
    maps[[1, 6]] = 0
    maps[3] = 5
    assert ordering.METHODS[method](maps).channels[-3:] == [1, 3, 6]
    maps[[0, 2, 4, 5, 7, 8]] = 1  # a single one that varies
    assert ordering.METHODS[method](maps).channels[0] == 9


def test_bad_maps_are_explained() -> None:
    for method in ORDERS:
        find = ordering.METHODS[method]
        with pytest.raises(ValueError, match="only one map"):
            find(some_maps(1))
        with pytest.raises(ValueError, match="all 5 maps have the same value, 0, everywhere"):
            find(np.zeros((5, 3, 3)))
        with pytest.raises(ValueError, match="not a number, in maps 2"):
            find(np.where(np.arange(5)[:, None, None] == 2, np.nan, some_maps(5)))
    with pytest.raises(ValueError, match="30 clusters of 24 maps: choose from 1 to 24"):
        ordering.row_clusters(some_maps(), clusters=30)
    for row in (6, -1):
        with pytest.raises(ValueError, match=f"slice_index {row} is outside the map, whose rows are 0 to 5"):
            ordering.row_component(some_maps(), row)
    with pytest.raises(ValueError, match="no two neighbouring maps vary"):
        ordering.neighbour_correlation(np.zeros((3, 2, 2)), [0, 1, 2])
    with pytest.raises(ValueError, match="names each from 0 to 2 once"):
        ordering.neighbour_correlation(some_maps(3), [0, 1, 1])


def test_as_many_clusters_as_maps_and_fewer_different_rows_than_clusters() -> None:
    assert ordering.row_clusters(some_maps(6), clusters=6).groups == [1] * 6
    maps = np.zeros((6, 3, 3))
    maps[4:] = 1
    with pytest.warns(UserWarning, match="2 clusters, not 5: only so many of the 6 rows differ"):
        found = ordering.row_clusters(maps, clusters=5)
    assert (found.channels, found.groups) == ([4, 5, 0, 1, 2, 3], [2, 4])


def test_stacking_leaves_gaps_between_groups() -> None:
    maps = some_maps(4) + 1
    order = Order("row_clusters", [2, 0, 3, 1], [1, 3])
    stack = order.stack(maps, gap=2)
    assert order.places(2) == [2, None, None, 0, 3, 1]
    assert np.array_equal(stack[[0, 3, 4, 5]], maps[[2, 0, 3, 1]])
    assert (stack[1:3] == maps.min()).all()
    assert np.array_equal(order.stack(maps), maps[[2, 0, 3, 1]])


def test_an_order_is_saved_and_applied_to_another_photo(tmp_path: Path) -> None:
    order = ordering.tree(some_maps())
    order.about = {"layer": "block3.relu2"}
    order.save(tmp_path / "order.json")
    back = Order.load(tmp_path / "order.json")
    assert back == order
    other = some_maps(seed=9)
    assert np.array_equal(back.stack(other), other[order.channels])
    with pytest.raises(ValueError, match=r"12 maps, but the order \(of block3.relu2\) has 24 channels"):
        back.stack(some_maps(12))
    with pytest.raises(FileNotFoundError):
        Order.load(tmp_path / "none.json")
    for text in ("{", "[]", '{"method": "tree"}', '{"method": "tree", "channels": [0, 0]}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match="is not an order of channels"):
            Order.load(tmp_path / "bad.json")


def test_512_maps_of_28_pixels_order_in_under_a_second() -> None:
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(np.maximum(rng.normal(size=(512, 28, 28)), 0)).float()
    for method in ORDERS:
        begun = time.process_time()  # what this process used, however busy the machine is
        ordering.METHODS[method](maps)
        assert time.process_time() - begun < 1, method
