"""Dictionaries: scikit-learn's numbers, planted parts found again, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF, PCA

from nbhelpers.directions import dictionaries, tables


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


def split(count: int = 4000) -> torch.Tensor:
    """Vectors whose kinds are rare: what few of them say is not all there is to say."""
    vectors, _ = planted(parts=12, count=count, active=1)
    return vectors + 0.05 * torch.rand(vectors.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("method", "parts"), [("nmf", 6), ("k-means", 12)])
def test_of_many_vectors_all_are_learned_from(method: str, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In portions as well as at once by scikit-learn, and better than from those that are drawn to begin with."""
    vectors = split()
    monkeypatch.setattr(dictionaries, "MANY", 60)
    few = dictionaries.fitted(method, dictionaries._some(vectors, 0), parts)
    many = explained(dictionaries.fitted(method, vectors, parts), vectors)
    assert many > explained(few, vectors) + 0.002
    if method == "nmf":
        model = NMF(parts, init="nndsvda", max_iter=2000, tol=1e-5, random_state=0)
        best = model.fit_transform(vectors.numpy()) @ model.components_
    else:
        model = KMeans(parts, n_init=10, random_state=0).fit(vectors.numpy())
        best = model.cluster_centers_[model.labels_]
    rest = np.square(vectors.numpy() - best).sum()
    assert many > 1 - rest / np.square(vectors.numpy() - vectors.numpy().mean(0)).sum() - 0.01


@pytest.mark.parametrize("method", ["components", "channels", "autoencoder"])
def test_in_portions_is_as_at_once(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table in a file, worked on a few rows at a time, gives what one in memory gives."""
    vectors, _ = planted(count=900)
    monkeypatch.setattr(dictionaries, "STEPS", 60)
    at_once = dictionaries.fitted(method, vectors, 6)
    codes = at_once.encode(vectors)
    expected = dictionaries.used(codes), explained(at_once, vectors), dictionaries.carried(at_once, codes)
    monkeypatch.setattr(dictionaries, "MANY", 100)
    monkeypatch.setattr(tables, "IN_MEMORY", 0)
    monkeypatch.setattr(tables, "PORTION", 4 * 24 * 50)
    stored = tables.empty(900, 24)
    stored.copy_(vectors)
    found = dictionaries.fitted(method, stored, 6)
    assert torch.allclose(found.directions, at_once.directions, atol=2e-3)
    codes = found.encode(stored)
    assert dictionaries.used(codes) == pytest.approx(expected[0], abs=0.01)
    assert explained(found, stored) == pytest.approx(expected[1], abs=1e-3)
    assert torch.allclose(dictionaries.carried(found, codes), expected[2], rtol=1e-2)


@pytest.mark.parametrize("method", ["nmf", "k-means"])
@pytest.mark.parametrize("after", [1, 3, 17])
def test_rounds_that_were_stopped_go_on(method: str, after: int, tmp_path: Path, monkeypatch) -> None:
    """From the portion where they stopped, to the same end, bit by bit; and what is done is not done again."""
    monkeypatch.setattr(dictionaries, "MANY", 60)
    monkeypatch.setattr(dictionaries, "BATCH", 25)
    monkeypatch.setattr(dictionaries, "ROUNDS", 4)
    monkeypatch.setattr(tables, "PAUSE", -1.0)
    vectors = split(1000)
    through = dictionaries.fitted(method, vectors, 6, 1)
    told, said = dictionaries._improved, []

    def stopping(vectors, start, tell, better, path):
        def counted(some, parts):
            if len(said) == after:
                raise KeyboardInterrupt
            said.append(0)
            return tell(some, parts)

        return told(vectors, start, counted, better, path)

    monkeypatch.setattr(dictionaries, "_improved", stopping)
    with pytest.raises(KeyboardInterrupt):
        dictionaries.fitted(method, vectors, 6, 1, tmp_path)
    after = 10**9
    again = dictionaries.fitted(method, vectors, 6, 1, tmp_path)
    assert len(said) == 4 * 5  # every portion of every round once, both runs together
    assert torch.equal(again.directions, through.directions)
    done = dictionaries.fitted(method, vectors, 6, 1, tmp_path)
    assert len(said) == 4 * 5
    assert torch.equal(done.directions, through.directions)


MEMORY = """
import sys, threading, time
from pathlib import Path
import torch
from nbhelpers.directions import dictionaries, photographs, tables
from nbhelpers.models import Network
from nbhelpers.training.data import Pictures

def anonymous():
    line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024

torch.set_num_threads(1)
method, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
tables.IN_MEMORY, tables.PORTION = 2**20, 2**20
dictionaries.MANY, dictionaries.ROUNDS, dictionaries.STEPS = 4000, 1, 20
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 512, 4, 4), torch.nn.ReLU()).eval()
pictures = Pictures(torch.randint(256, (count, 16, 16, 3), dtype=torch.uint8), torch.zeros(count, dtype=torch.long))
dictionaries.fitted(method, torch.rand(200, 8), 4)  # what is imported only now is no part of the growth
before, most, over = anonymous(), [0.0], threading.Event()

def watch():
    while not over.is_set():
        most[0] = max(most[0], anonymous())
        time.sleep(0.002)

thread = threading.Thread(target=watch)
thread.start()
places = photographs.collect(Network(net, "wide", size=16), "1", pictures, 0, kept=folder)
found = dictionaries.fitted(method, places.vectors, 8, 0, folder)
codes = found.encode(places.vectors)
dictionaries.carried(found, codes), dictionaries.used(codes), dictionaries.explained(found, places.vectors, codes)
over.set()
thread.join()
print(len(places.vectors), most[0] - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("method", ["nmf", "autoencoder", "components"])  # rounds, random batches, moments
def test_memory_does_not_grow_with_the_places(method: str, tmp_path: Path) -> None:
    """Four times as many places, 48 MB more of activations: from photos to codes, no more memory than for one."""
    used = {}
    for count in (500, 2000):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, method, str(count), str(tmp_path / str(count))],
            # what was given back is given back to the system at once, so that it does not count any more
            env=os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "262144"},
            capture_output=True,
            text=True,
            check=True,
        )
        places, used[count] = done.stdout.split()
        assert int(places) == 16 * count
    more = float(used[2000]) - float(used[500])
    assert more < 10, f"{used} MB"


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
