"""Covariances, components and signs: against NumPy, scikit-learn and known spectra."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, IncrementalPCA

from nbhelpers.models.covariance import Moments, leading, signed


def maps(count: int = 12, channels: int = 40, offset: float = 0.0) -> torch.Tensor:
    mixing = torch.randn(channels, channels, dtype=torch.float64) * torch.linspace(3, 0.1, channels)
    vectors = torch.randn(count, 5, 6, channels, dtype=torch.float64) @ mixing.T + offset
    return vectors.permute(0, 3, 1, 2)


def rows(activations: torch.Tensor) -> np.ndarray:
    return activations.permute(0, 2, 3, 1).reshape(-1, activations.shape[1]).numpy()


@pytest.mark.parametrize("channels", [3, 40, 300])
def test_batches_add_up_to_the_covariance(channels: int) -> None:
    activations = maps(channels=channels)
    moments = Moments(channels)
    for batch in activations.split([1, 6, 5]):
        moments.add(batch)
    assert moments.count == 12 * 30
    np.testing.assert_allclose(moments.mean, rows(activations).mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(rows(activations).T), rtol=1e-9, atol=1e-9)


def test_a_large_mean_does_not_swallow_the_variance() -> None:
    activations = maps(offset=1000.0).float()
    moments = Moments(40)
    for batch in activations.split(4):
        moments.add(batch)
    expected = np.cov(rows(activations.double()).T)
    assert np.abs(moments.covariance.numpy() - expected).max() < 1e-5 * np.abs(expected).max()
    naive = rows(activations).T @ rows(activations) / 359  # what float32 makes of it without centring
    naive -= np.outer(rows(activations).mean(0), rows(activations).mean(0)) * 360 / 359
    assert np.abs(naive - expected).max() > 1e-3 * np.abs(expected).max()


def test_the_components_are_scikit_learns() -> None:
    activations = maps(channels=200)
    moments, incremental = Moments(200), IncrementalPCA(180)
    for batch in activations.split(6):
        moments.add(batch.float())
        incremental.partial_fit(rows(batch).astype(np.float64))
    variances, directions = leading(moments.covariance, 5)
    whole = PCA(5, svd_solver="full").fit(rows(activations))
    # scikit-learn fixes signs by the same rule
    np.testing.assert_allclose(directions, whole.components_, atol=1e-5)
    np.testing.assert_allclose(variances, whole.explained_variance_, rtol=1e-5)
    share = variances / moments.covariance.trace()
    np.testing.assert_allclose(share, whole.explained_variance_ratio_, rtol=1e-5)
    # the incremental one keeps no covariance, but the strongest directions so far
    assert (np.abs((incremental.components_[:5] * directions.numpy()).sum(1)) > 0.99).all()


@pytest.mark.parametrize("size", [5, 120, 400])
def test_leading_eigenvectors_of_a_known_spectrum(size: int) -> None:
    known = torch.logspace(0, -3, size, dtype=torch.float64)
    known[1] = known[0]  # a pair with one eigenvalue
    rotation = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64)).Q
    matrix = rotation @ torch.diag(known) @ rotation.T
    values, vectors = leading(matrix, 4)
    torch.testing.assert_close(values, known[:4], rtol=1e-10, atol=0)
    torch.testing.assert_close(vectors @ matrix, values[:, None] * vectors, rtol=0, atol=2e-7)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-10)
    for vector, column in zip(vectors[2:], rotation.T[2:4], strict=True):
        torch.testing.assert_close(vector, signed(column[None])[0], rtol=0, atol=1e-5)


def test_the_sign_does_not_depend_on_the_solver() -> None:
    vectors = torch.tensor([[0.1, -0.9, 0.2], [0.5, 0.4, -0.3]])
    assert torch.equal(signed(vectors), torch.tensor([[-0.1, 0.9, -0.2], [0.5, 0.4, -0.3]]))
    assert torch.equal(signed(-vectors), signed(vectors))
    assert torch.equal(signed(vectors[0]), signed(vectors)[0])


def test_the_sign_does_not_depend_on_the_last_bits() -> None:
    """Of two entries of one size the first counts, whichever comes out a little larger."""
    for change in (1 - 1e-9, 1, 1 + 1e-9):
        vector = torch.tensor([0.1, -0.7, 0.7 * change, 0.2], dtype=torch.float64)
        assert torch.equal(signed(vector), -vector)
        assert torch.equal(signed(-vector), -vector)


def test_what_has_no_eigenvectors() -> None:
    with pytest.raises(ValueError, match="has 3 eigenvectors; 4 were asked for"):
        leading(torch.eye(3, dtype=torch.float64), 4)
    with pytest.raises(ValueError, match="not finite"):
        leading(torch.full((3, 3), torch.nan), 1)
    with pytest.raises(ValueError, match=r"expected maps \(B, 4, H, W\), got shape \(2, 3, 1, 1\)"):
        Moments(4).add(torch.ones(2, 3, 1, 1))
