"""Dictionaries: a few directions that many vectors are made of, found in five ways behind one interface.

    dictionary = fitted("nmf", vectors, parts=20)
    codes = dictionary.encode(vectors)           # how much of each part is in each vector
    dictionary.decode(codes)                     # the vectors, as far as the parts go
    dictionary.directions                        # the parts

Non-negative matrix factorisation lets parts only add up (Lee and Seung 1999; Fel et al. 2023, CRAFT). A sparse
autoencoder has more parts than there are channels, and each vector uses a few of them (Bricken et al. 2023; Gao et al.
2024 for the k largest). k-means, principal components and the plain channels are what both must be better than.

Up to `MANY` vectors are learned from at once. More of them lie in a file (`tables`) and are read in portions: moments,
and the rounds by which all improve what `MANY` random ones gave, are sums over portions; an autoencoder takes random
batches from wherever they lie. So the memory is that of `MANY` vectors, however many there are.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nbhelpers import edge
from nbhelpers.directions import tables
from nbhelpers.models import covariance

BATCH = 1024
STEPS = 800  # of an autoencoder
LEARNING_RATE = 3e-3  # at first; it falls to 0. At 1e-2 a quarter of 1,024 parts died, at 1e-3 less is learned
PATIENCE = 50  # steps without use after which a part is dead
ACTIVE = 8
"""Parts of an autoencoder that a vector may use at once."""
MANY = 100_000
"""Vectors that are in memory at once, at most; of more, so many are drawn to begin with."""
ROUNDS = 10  # passes over all vectors, where they are more
SWEEPS = 5  # over the parts of a factorisation, at the end of each pass
SAVED = 50  # steps of an autoencoder between two states that are kept
SEEDS = 2**32  # scikit-learn takes no greater seed


@dataclass
class Dictionary:
    """Directions, and how vectors are written with them.

    Attributes:
        method: one of `METHODS`.
        directions: `(parts, C)`.
        offset: `(C,)`, added to what the parts make.
        encoder: from vectors `(N, C)` to codes `(N, parts)`.
    """

    method: str
    directions: Float[Tensor, "parts channels"]
    offset: Float[Tensor, " channels"]
    encoder: Callable[[Float[Tensor, "vectors channels"]], Float[Tensor, "vectors parts"]]

    def encode(self, vectors: Float[Tensor, "vectors channels"]) -> Float[Tensor, "vectors parts"]:
        """How much of each part is in each vector; where that is more than memory should hold, it is in a file."""
        codes = tables.empty_by_columns(len(vectors), len(self.directions))
        with torch.no_grad():
            for place, some in zip(codes.split(8 * BATCH), vectors.split(8 * BATCH), strict=True):
                place.copy_(self.encoder(some))
        return codes

    def decode(self, codes: Float[Tensor, "vectors parts"]) -> Float[Tensor, "vectors channels"]:
        """The vectors that these codes stand for."""
        return codes @ self.directions + self.offset


def fitted(
    method: str, vectors: Float[Tensor, "vectors channels"], parts: int, seed: int = 0, kept: Path | None = None
) -> Dictionary:
    """A dictionary of vectors, however many they are.

    Args:
        method: one of `METHODS`.
        vectors: `(N, C)`; in a file if they are many (`photographs.collect` puts them there).
        parts: directions to find.
        seed: of whatever is drawn at random.
        kept: a folder for the state of what takes long: an autoencoder, and the rounds over more than `MANY` vectors.
            One that was stopped goes on from there, to the same end, and one that is done is there at once.

    Raises:
        ValueError: an unknown method, fewer vectors than parts, vectors that are all the same or not finite, or, for a
            factorisation, negative ones.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown: choose one of {', '.join(METHODS)}")
    if parts > len(vectors):
        raise ValueError(f"{parts} parts of {len(vectors)} places: take fewer parts, or more photos or cuts")
    if not all(some.isfinite().all() for some in tables.portions(vectors)):
        raise ValueError("some activations are not finite: check the network's weights")
    if torch.equal(vectors.amin(0), vectors.amax(0)):
        raise ValueError("the layer gives the same at every place, so it has no parts: take another layer")
    if method == "nmf" and vectors.min() < 0:
        raise ValueError(
            "a factorisation into parts that only add up needs activations that are never negative: take the layer "
            "after the ReLU, or another method"
        )
    seed %= SEEDS
    path = None if kept is None else kept / f"{method}-{_fingerprint(vectors, parts, seed)}.pt"
    return METHODS[method](vectors, parts, seed, path)


def explained(
    dictionary: Dictionary, vectors: Float[Tensor, "vectors channels"], codes: Float[Tensor, "vectors parts"]
) -> float:
    """Share of the vectors' variance that is left in what the dictionary makes of them, by their codes."""
    pairs = zip(vectors.split(8 * BATCH), codes.split(8 * BATCH), strict=True)
    rest = sum((some - dictionary.decode(theirs)).square().sum() for some, theirs in pairs)
    return float(1 - rest / (vectors.var(0, correction=0).sum() * len(vectors)))


def used(codes: Float[Tensor, "vectors parts"]) -> tuple[float, float]:
    """Parts that a vector uses in the mean, and the share of parts that none uses."""
    counts = sum((some.abs() > 1e-4).sum(0) for some in tables.portions(codes))
    return float(counts.sum() / len(codes)), float((counts == 0).float().mean())


def carried(dictionary: Dictionary, codes: Float[Tensor, "vectors parts"]) -> Float[Tensor, " parts"]:
    """What each part adds to vectors: its mean square."""
    squares = sum(some.square().sum(0) for some in tables.portions(codes)) / len(codes)
    return squares * dictionary.directions.square().sum(1)


def stability(first: Float[Tensor, "parts channels"], second: Float[Tensor, "others channels"]) -> float:
    """Mean cosine between the parts of two dictionaries, each matched with one of the other, as well as can be.

    Matched by the Hungarian method, so that no part is counted twice.
    """
    from scipy.optimize import linear_sum_assignment

    cosines = (F.normalize(first, dim=1) @ F.normalize(second, dim=1).T).double().numpy()
    return float(cosines[linear_sum_assignment(-cosines)].mean())


def _nmf(vectors: Tensor, parts: int, seed: int, path: Path | None) -> Dictionary:
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    some = _some(vectors, seed)
    # what is fitted should not depend on how large the activations of a layer are
    scale = some.mean().clamp(min=1e-12)
    model = NMF(parts, init="nndsvda", random_state=seed, max_iter=200, tol=1e-3)

    def encoder(some: Tensor) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(model.transform((some / scale).numpy()))).float()

    def told(some: Tensor, parts: Tensor) -> list[Tensor]:
        model.components_ = parts.float().numpy()
        codes = encoder(some).double()
        return [codes.T @ codes, codes.T @ (some / scale).double()]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # good enough after so many rounds
        model.fit((some / scale).numpy())
        if len(some) < len(vectors):
            start = torch.from_numpy(model.components_).double()
            model.components_ = _improved(vectors, start, told, _better_parts, path).float().numpy()
    directions = torch.from_numpy(np.ascontiguousarray(model.components_)).float()
    return Dictionary("nmf", directions * scale, torch.zeros(vectors.shape[1]), encoder)


def _better_parts(parts: Tensor, sums: list[Tensor]) -> Tensor:
    """The parts that fit best to codes, one after the other, from the codes' products with themselves and with vectors.

    Source: Cichocki and Phan 2009, hierarchical alternating least squares.
    """
    products, along = sums
    parts = parts.clone()
    for _ in range(SWEEPS):
        for part in products.diag().gt(0).nonzero().flatten().tolist():
            step = (along[part] - products[part] @ parts) / products[part, part]
            parts[part] = (parts[part] + step).clamp(min=0)
    return parts


def _kmeans(vectors: Tensor, parts: int, seed: int, path: Path | None) -> Dictionary:
    from sklearn.cluster import MiniBatchKMeans

    some = _some(vectors, seed)
    model = MiniBatchKMeans(parts, random_state=seed, n_init=3, batch_size=BATCH).fit(some.numpy())
    centres = torch.from_numpy(model.cluster_centers_).float()
    if len(some) < len(vectors):
        centres = _improved(vectors, centres.double(), _members, _better_means, path).float()
    zero = torch.zeros(vectors.shape[1])
    return Dictionary(
        "k-means", centres, zero, lambda some: F.one_hot(torch.cdist(some, centres).argmin(1), parts).float()
    )


def _members(some: Tensor, centres: Tensor) -> list[Tensor]:
    """How many vectors are nearest to each centre, and their sum."""
    nearest = torch.cdist(some, centres.float()).argmin(1)
    sums = torch.zeros_like(centres).index_add_(0, nearest, some.double())
    return [torch.bincount(nearest, minlength=len(centres)), sums]


def _better_means(centres: Tensor, sums: list[Tensor]) -> Tensor:
    counts, along = sums
    return torch.where(counts[:, None] > 0, along / counts[:, None].clamp(min=1), centres)


def _components(vectors: Tensor, parts: int, seed: int, path: Path | None) -> Dictionary:
    moments = _moments(vectors)
    _, directions = covariance.leading(moments.covariance, min(parts, vectors.shape[1]))
    directions, mean = directions.float(), moments.mean.float()
    return Dictionary("components", directions, mean, lambda some: (some - mean) @ directions.T)


def _channels(vectors: Tensor, parts: int, seed: int, path: Path | None) -> Dictionary:
    """The channels that vary most; the others stand at their mean."""
    chosen = vectors.var(0).topk(min(parts, vectors.shape[1])).indices
    offset = vectors.mean(0)
    offset[chosen] = 0
    return Dictionary("channels", torch.eye(vectors.shape[1])[chosen], offset, lambda some: some[:, chosen])


def _autoencoder(vectors: Tensor, parts: int, seed: int, path: Path | None) -> Dictionary:
    """The `ACTIVE` largest codes of a linear encoder, decoded by unit directions; trained by Adam.

    A code that nothing has used for a while is dead and would stay so: it is set on what the others explain worst.
    """
    generator = torch.Generator().manual_seed(seed)
    scale = vectors.norm(dim=1).mean().clamp(min=1e-12)
    middle, active = tables.mean(vectors, scale), min(ACTIVE, parts)

    def drawn(count: int) -> Tensor:
        return vectors[torch.randint(len(vectors), (count,), generator=generator)] / scale

    offset = middle.clone().requires_grad_()
    directions = F.normalize(drawn(parts) - middle, dim=1)
    directions = F.normalize(directions + 0.1 * torch.randn(directions.shape, generator=generator), dim=1)
    encoder = directions.clone().T.contiguous().requires_grad_()
    directions.requires_grad_()
    optimiser = torch.optim.Adam([offset, directions, encoder], lr=LEARNING_RATE)

    def encode(some: Tensor) -> Tensor:
        return _largest((some - offset) @ encoder, active)

    fired, done = torch.zeros(parts, dtype=torch.bool), 0
    if path is not None and path.exists():
        state = torch.load(path, weights_only=True)
        with torch.no_grad():
            for tensor, was in zip((offset, directions, encoder, fired), state["tensors"], strict=True):
                tensor.copy_(was)
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        done = state["step"]
    for step in range(done + 1, STEPS + 1):
        some = drawn(min(BATCH, len(vectors)))
        with torch.enable_grad():
            codes = encode(some)
            loss = (codes @ directions + offset - some).square().sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / STEPS)
        optimiser.step()
        with torch.no_grad():
            directions.copy_(F.normalize(directions, dim=1))
            fired |= codes.gt(0).any(0)
            if step % PATIENCE == 0 and step < STEPS * 0.8:
                dead = (~fired).nonzero().flatten()[: len(some)]
                rest = some - encode(some) @ directions - offset
                revived = F.normalize(rest[rest.norm(dim=1).argsort(descending=True)[: len(dead)]], dim=1)
                directions[dead], encoder[:, dead] = revived, revived.T
                fired.zero_()
        if path is not None and (step % SAVED == 0 or step == STEPS):
            _keep(
                path,
                {
                    "step": step,
                    "tensors": [each.detach() for each in (offset, directions, encoder, fired)],
                    "optimiser": optimiser.state_dict(),
                    "generator": generator.get_state(),
                },
            )
    directions, offset, weights = directions.detach() * scale, offset.detach() * scale, encoder.detach() / scale

    return Dictionary("autoencoder", directions, offset, lambda some: _largest((some - offset) @ weights, active))


def _some(vectors: Tensor, seed: int) -> Tensor:
    """All vectors, or `MANY` of them, drawn at random."""
    if len(vectors) <= MANY:
        return vectors
    drawn = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))[:MANY]
    return vectors[drawn.sort().values]


def _moments(vectors: Tensor) -> covariance.Moments:
    moments = covariance.Moments(vectors.shape[1])
    for some in vectors.split(MANY):
        moments.add(some.T[None, :, :, None])
    return moments


def _improved(
    vectors: Tensor,
    start: Tensor,
    told: Callable[[Tensor, Tensor], list[Tensor]],
    better: Callable[[Tensor, list[Tensor]], Tensor],
    path: Path | None,
) -> Tensor:
    """Parts that some vectors gave, improved by all of them in `ROUNDS` passes.

    Args:
        vectors: all of them.
        start: the parts to begin with.
        told: what a portion says of parts, as numbers that are added up over portions.
        better: parts from these sums.
        path: where the state is kept between portions.
    """
    state = {"round": 0, "portion": 0, "parts": start, "sums": None}
    if path is not None and path.exists():
        state = torch.load(path, weights_only=True)
    last = time.monotonic()
    portions = vectors.split(8 * BATCH)
    while state["round"] < ROUNDS:
        for some in portions[state["portion"] :]:
            said = told(some, state["parts"])
            sums = said if state["sums"] is None else [a + b for a, b in zip(state["sums"], said, strict=True)]
            state |= {"sums": sums, "portion": state["portion"] + 1}
            if path is not None and time.monotonic() - last > tables.PAUSE:
                _keep(path, state)
                last = time.monotonic()
        parts = better(state["parts"], state["sums"])
        state = {"round": state["round"] + 1, "portion": 0, "parts": parts, "sums": None}
    if path is not None:
        _keep(path, state)
    return state["parts"]


def _keep(path: Path, state: dict) -> None:
    with edge.replacing(path) as temporary:
        torch.save(state, temporary)


def _fingerprint(vectors: Tensor, parts: int, seed: int) -> str:
    """Of everything that the way of a dictionary depends on."""
    constants = (STEPS, BATCH, LEARNING_RATE, PATIENCE, ACTIVE, MANY, ROUNDS, SWEEPS)
    digest = hashlib.sha256(repr((parts, seed, constants, tuple(vectors.shape))).encode())
    for some in tables.portions(vectors):
        digest.update(some.contiguous().numpy())
    return digest.hexdigest()[:16]


def _largest(codes: Tensor, active: int) -> Tensor:
    """The largest codes of each row that are above 0; the others are 0."""
    best = codes.relu().topk(active, dim=1)
    return torch.zeros_like(codes).scatter(1, best.indices, best.values)


METHODS: dict[str, Callable[..., Dictionary]] = {
    "nmf": _nmf,
    "autoencoder": _autoencoder,
    "k-means": _kmeans,
    "components": _components,
    "channels": _channels,
}
