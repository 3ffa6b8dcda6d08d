"""Layouts: components by hand, neighbours kept, and measures that know chance from truth."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA

from nbhelpers.directions import layouts


def crowds(count: int = 6, each: int = 30, seed: int = 0) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(count, 20)) * 8
    return torch.from_numpy((centres[:, None] + generator.normal(size=(count, each, 20))).reshape(-1, 20)).float()


def test_components_are_scikit_learns() -> None:
    vectors = crowds()
    found, expected = layouts.components(vectors, 5), PCA(5).fit_transform(vectors.double().numpy())
    assert np.allclose(np.abs(found.numpy()), np.abs(expected), atol=1e-3)


def test_vectors_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to lay out"):
        layouts.components(torch.ones(20, 4), 3)


@pytest.mark.parametrize("seed", [0, 1])
def test_crowds_stay_together(seed: int) -> None:
    vectors = crowds()
    plane = layouts.plane(layouts.components(vectors, 10), seed)
    assert plane.amin() >= 0
    assert plane.amax() <= 1
    nearest = torch.cdist(plane, plane).fill_diagonal_(9).argmin(1)
    assert (nearest // 30 == torch.arange(180) // 30).float().mean() > 0.98


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4))
def test_few_points_lie_in_the_unit_square(points: int, dimensions: int) -> None:
    scores = torch.arange(points * dimensions).reshape(points, dimensions).float()
    plane = layouts.plane(scores, 0)
    assert plane.shape == (points, 2)
    assert ((plane >= 0) & (plane <= 1)).all()


def test_two_spaces_are_turned_onto_each_other() -> None:
    """Points that were turned, mirrored and enlarged are found where they were; against SciPy's rotation."""
    first = crowds(each=10)
    first -= first.mean(0)
    turn = torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(1))).Q
    one, other = layouts.aligned(first, 7 * first @ turn)
    assert torch.allclose(one, other, atol=1e-4)
    assert one.square().sum(1).mean() == pytest.approx(1, abs=1e-5)
    apart = first[:, :12] + torch.randn(60, 12, generator=torch.Generator().manual_seed(2))
    one, other = layouts.aligned(first, apart)
    scaled = [each.numpy() / np.sqrt((each.numpy() ** 2).sum(1).mean()) for each in (first, apart)]
    filled = np.pad(scaled[1], ((0, 0), (0, 8)))
    rotation, _ = orthogonal_procrustes(filled, scaled[0])
    assert np.allclose(other.numpy(), filled @ rotation, atol=1e-4)
    assert torch.allclose(torch.cdist(other, other), torch.cdist(*[torch.from_numpy(filled)] * 2), atol=1e-3)


def test_umap_lays_out_if_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed here, a stand-in says what it was asked for."""
    asked = {}

    class UMAP:
        def __init__(self, **options: object) -> None:
            asked.update(options)

        def fit_transform(self, scores: np.ndarray) -> np.ndarray:
            return scores[:, [1, 0]]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=UMAP))
    scores = layouts.components(crowds(), 5)
    plane = layouts.plane(scores, 3, "umap")
    assert torch.equal(plane.argsort(0), scores[:, [1, 0]].argsort(0))
    assert (asked["random_state"], asked["n_components"], asked["n_neighbors"]) == (3, 2, 15)
    assert asked["init"].shape == (180, 2)
    assert (asked["init"].min(), asked["init"].max()) == pytest.approx((0, 10))


@pytest.mark.filterwarnings("ignore")  # numba's and UMAP's own
def test_umap_itself_keeps_crowds_together() -> None:
    pytest.importorskip("umap", reason="needs the package umap-learn")
    vectors = crowds()
    plane = layouts.plane(layouts.components(vectors, 10), 1, "umap")
    nearest = torch.cdist(plane, plane).fill_diagonal_(9).argmin(1)
    assert (nearest // 30 == torch.arange(180) // 30).float().mean() > 0.98
    assert torch.equal(plane, layouts.plane(layouts.components(vectors, 10), 1, "umap"))


def test_umap_that_is_not_installed_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ValueError, match="pip install umap-learn, or take 't-sne'"):
        layouts.plane(crowds(), 0, "umap")


def test_quality_knows_truth_from_chance() -> None:
    flat = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    kept = layouts.quality(torch.cat([flat, 0 * flat], 1), flat * 3)
    assert (kept.trustworthiness, kept.continuity) == pytest.approx((1, 1))
    dealt = layouts.quality(flat, flat[torch.randperm(200)])
    assert dealt.trustworthiness == pytest.approx(0.5, abs=0.06)
    assert layouts.shared_neighbours(flat, 2 - flat) == 1
    assert layouts.shared_neighbours(flat, flat[torch.randperm(200)]) < 0.15


def test_squares_are_columns_and_rows() -> None:
    places = torch.tensor([[0.0, 0.0], [0.99, 0.3], [1.0, 1.0]])
    assert layouts.squares(places, 4).tolist() == [[0, 0], [3, 1], [3, 3]]
