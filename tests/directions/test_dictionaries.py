"""Dictionaries: scikit-learn's numbers, planted parts found again, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF, PCA

from nbhelpers.directions import dictionaries


def planted(parts: int = 6, channels: int = 24, count: int = 3000, active: int = 2, seed: int = 0):
    """Vectors that are sums of a few of some parts, none negative; and the parts."""
    generator = np.random.default_rng(seed)
    directions = generator.random((parts, channels)) * (generator.random((parts, channels)) < 0.3)
    directions[np.arange(parts), np.arange(parts)] += 1
    codes = np.zeros((count, parts))
    for row in codes:
        row[generator.choice(parts, active, replace=False)] = 0.5 + generator.random(active)
    return torch.from_numpy(codes @ directions).float(), torch.from_numpy(directions).float()


def explained(found: dictionaries.Dictionary, vectors: torch.Tensor) -> float:
    return dictionaries.explained(found, vectors, found.encode(vectors))


@pytest.mark.parametrize("method", ["nmf", "autoencoder"])
def test_planted_parts_are_found(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dictionaries, "ACTIVE", 2)
    vectors, directions = planted()
    found = dictionaries.fitted(method, vectors, 6 if method == "nmf" else 9)
    assert dictionaries.stability(directions, found.directions) > 0.9
    assert explained(found, vectors) > 0.85


def test_a_factorisation_is_scikit_learns() -> None:
    vectors, _ = planted(count=300)
    found = dictionaries.fitted("nmf", vectors, 4, seed=3)
    model = NMF(4, init="nndsvda", max_iter=200, tol=1e-3, random_state=3)
    codes = model.fit_transform((vectors / vectors.mean()).numpy())
    made = found.decode(found.encode(vectors))
    assert np.allclose(made.numpy(), codes @ model.components_ * vectors.mean().item(), atol=0.02)
    assert (found.directions >= 0).all()
    assert (found.encode(vectors) >= 0).all()


def test_of_many_vectors_some_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = planted(count=4000)
    whole = explained(dictionaries.fitted("nmf", vectors, 6), vectors)
    monkeypatch.setattr(dictionaries, "MANY", 1000)
    assert explained(dictionaries.fitted("nmf", vectors, 6), vectors) > whole - 0.01


def test_components_explain_what_scikit_learns_do() -> None:
    vectors, _ = planted()
    found = explained(dictionaries.fitted("components", vectors, 3), vectors)
    assert found == pytest.approx(PCA(3).fit(vectors.numpy()).explained_variance_ratio_.sum(), abs=1e-4)


def test_means_are_nearly_as_good_as_scikit_learns() -> None:
    vectors, _ = planted()
    found = dictionaries.fitted("k-means", vectors, 5)
    inertia = (vectors - found.decode(found.encode(vectors))).square().sum().item()
    assert inertia < 1.1 * KMeans(5, n_init=3, random_state=0).fit(vectors.numpy()).inertia_
    assert dictionaries.used(found.encode(vectors)) == (1, 0)


def test_channels_are_those_that_vary_most() -> None:
    vectors, _ = planted()
    found = dictionaries.fitted("channels", vectors, 3)
    chosen = np.argsort(-vectors.numpy().var(0))[:3]
    expected = np.tile(vectors.numpy().mean(0), (len(vectors), 1))
    expected[:, chosen] = vectors.numpy()[:, chosen]
    assert np.allclose(found.decode(found.encode(vectors)).numpy(), expected, atol=1e-5)


def test_an_autoencoder_uses_a_few_parts_and_leaves_few_dead() -> None:
    vectors, _ = planted(parts=12, count=2000)
    found = dictionaries.fitted("autoencoder", vectors, 48)
    used, dead = dictionaries.used(found.encode(vectors))
    assert used <= dictionaries.ACTIVE
    assert dead < 0.05
    again = dictionaries.fitted("autoencoder", vectors, 48)
    assert torch.equal(found.directions, again.directions)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_parts_does_not_matter_to_stability(seed: int) -> None:
    directions = torch.randn(5, 8, generator=torch.Generator().manual_seed(seed))
    shuffled = directions[torch.randperm(5, generator=torch.Generator().manual_seed(seed))] * 3
    assert dictionaries.stability(directions, shuffled) == pytest.approx(1, abs=1e-5)
    others = torch.randn(5, 8, generator=torch.Generator().manual_seed(seed + 1))
    cosines = torch.nn.functional.cosine_similarity(directions[:, None], others[None], dim=2).numpy()
    rows, columns = linear_sum_assignment(cosines, maximize=True)
    assert dictionaries.stability(directions, others) == pytest.approx(cosines[rows, columns].mean(), abs=1e-5)


@pytest.mark.parametrize(
    ("vectors", "method", "message"),
    [
        (torch.rand(3, 5), "nmf", "9 parts of 3 places: take fewer parts"),
        (torch.randn(30, 5), "nmf", "never negative: take the layer after the ReLU"),
        (torch.ones(30, 5), "k-means", "the same at every place"),
        (torch.full((30, 5), torch.nan), "components", "not finite"),
        (torch.rand(30, 5), "svd", "'svd' is unknown: choose one of nmf, autoencoder"),
    ],
)
def test_what_does_not_fit_is_said(vectors: torch.Tensor, method: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dictionaries.fitted(method, vectors, 9)


@pytest.mark.parametrize("method", list(dictionaries.METHODS))
def test_every_method_learns_from_no_more_than_many(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as of the vectors that the seed draws, and of other ones for another seed."""
    monkeypatch.setattr(dictionaries, "STEPS", 20)
    vectors, _ = planted(count=900)
    monkeypatch.setattr(dictionaries, "MANY", 300)
    found, again, other = (dictionaries.fitted(method, vectors, 6, seed) for seed in (3, 3, 4))
    drawn = vectors[torch.randperm(900, generator=torch.Generator().manual_seed(3))[:300].sort().values]
    by_hand = dictionaries.fitted(method, drawn, 6, 3)
    assert found.learned_from == by_hand.learned_from == 300
    assert torch.equal(found.directions, again.directions)
    assert torch.equal(found.directions, by_hand.directions)
    assert not torch.equal(found.decode(found.encode(vectors)), other.decode(other.encode(vectors)))
    assert len(found.encode(vectors)) == 900


def test_an_autoencoder_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same end, bit by bit, from the last state that was kept; and what is done is not done again."""
    vectors, _ = planted(count=500)
    monkeypatch.setattr(dictionaries, "STEPS", 220)
    through = dictionaries.fitted("autoencoder", vectors, 9, 1)
    largest, calls = dictionaries._largest, []

    def stopped(codes: torch.Tensor, active: int) -> torch.Tensor:
        calls.append(active)
        if len(calls) == 130:
            raise KeyboardInterrupt
        return largest(codes, active)

    monkeypatch.setattr(dictionaries, "_largest", stopped)
    with pytest.raises(KeyboardInterrupt):
        dictionaries.fitted("autoencoder", vectors, 9, 1, tmp_path)
    (state,) = tmp_path.iterdir()
    kept = torch.load(state, weights_only=True)["step"]
    assert kept == 100

    monkeypatch.setattr(dictionaries, "_largest", largest)
    other = dictionaries.fitted("autoencoder", vectors, 9, 2, tmp_path)  # another seed is another run
    assert not torch.equal(other.directions, through.directions)
    assert state.exists()

    steps = []
    monkeypatch.setattr(dictionaries, "_largest", lambda *given: steps.append(0) or largest(*given))
    again = dictionaries.fitted("autoencoder", vectors, 9, 1, tmp_path)
    assert 120 <= len(steps) < 130  # 120 steps were left; codes are dealt out again a few times
    assert torch.equal(again.directions, through.directions)
    assert torch.equal(again.encode(vectors), through.encode(vectors))

    steps.clear()
    done = dictionaries.fitted("autoencoder", vectors, 9, 1, tmp_path)
    assert not steps
    assert torch.equal(done.encode(vectors), through.encode(vectors))


@pytest.mark.parametrize("method", list(dictionaries.METHODS))
def test_dead_channels_do_no_harm(method: str) -> None:
    """Channels that are 0 everywhere, and one that never changes: what varies is found, and no number is lost."""
    vectors, _ = planted(count=600)
    dead = torch.cat([vectors, torch.zeros(600, 5), torch.full((600, 1), 2.0)], dim=1)
    found = dictionaries.fitted(method, dead, 6)
    made = found.decode(found.encode(dead))
    assert made.isfinite().all()
    assert made[:, 24:29].abs().max() < 0.05
    assert explained(found, dead) > 0.2
    if method != "nmf":  # whose parts have no offset
        assert (made[:, 29] - 2).abs().max() < 0.3
