"""Dictionaries: a few directions that many vectors are made of, found in five ways behind one interface.

    dictionary = fitted("nmf", vectors, parts=20)
    codes = dictionary.encode(vectors)           # how much of each part is in each vector
    dictionary.decode(codes)                     # the vectors, as far as the parts go
    dictionary.directions                        # the parts

Non-negative matrix factorisation lets parts only add up (Lee and Seung 1999; Fel et al. 2023, CRAFT). A sparse
autoencoder has more parts than there are channels, and each vector uses a few of them (Bricken et al. 2023; Gao et al.
2024 for the k largest). k-means, principal components and the plain channels are what both must be better than.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nbhelpers import edge
from nbhelpers.models import covariance

BATCH = 1024
STEPS = 800  # of an autoencoder
LEARNING_RATE = 3e-3  # at first; it falls to 0. At 1e-2 a quarter of 1,024 parts died, at 1e-3 less is learned
PATIENCE = 50  # steps without use after which a part is dead
ACTIVE = 8
"""Parts of an autoencoder that a vector may use at once."""
MANY = 100_000
"""Vectors that a dictionary is learned from, at most, so that memory is bounded; it writes any number of them."""
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
        learned_from: vectors that it was learned from, drawn at random where there are more than `MANY`.
    """

    method: str
    directions: Float[Tensor, "parts channels"]
    offset: Float[Tensor, " channels"]
    encoder: Callable[[Float[Tensor, "vectors channels"]], Float[Tensor, "vectors parts"]]
    learned_from: int = 0

    def encode(self, vectors: Float[Tensor, "vectors channels"]) -> Float[Tensor, "vectors parts"]:
        """How much of each part is in each vector."""
        with torch.no_grad():
            return torch.cat([self.encoder(some) for some in vectors.split(8 * BATCH)])

    def decode(self, codes: Float[Tensor, "vectors parts"]) -> Float[Tensor, "vectors channels"]:
        """The vectors that these codes stand for."""
        return codes @ self.directions + self.offset


def fitted(
    method: str, vectors: Float[Tensor, "vectors channels"], parts: int, seed: int = 0, kept: Path | None = None
) -> Dictionary:
    """A dictionary of vectors; of more than `MANY`, so many are drawn and learned from.

    Args:
        method: one of `METHODS`.
        vectors: `(N, C)`.
        parts: directions to find.
        seed: of whatever is drawn at random.
        kept: a folder for the state of an autoencoder; one that was stopped goes on from there, to the same end, and
            one that is done is there at once.

    Raises:
        ValueError: an unknown method, fewer vectors than parts, vectors that are all the same or not finite, or, for a
            factorisation, negative ones.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown: choose one of {', '.join(METHODS)}")
    if parts > len(vectors):
        raise ValueError(f"{parts} parts of {len(vectors)} places: take fewer parts, or more photos or cuts")
    if not vectors.isfinite().all():
        raise ValueError("some activations are not finite: check the network's weights")
    if torch.equal(vectors.amin(0), vectors.amax(0)):
        raise ValueError("the layer gives the same at every place, so it has no parts: take another layer")
    if method == "nmf" and vectors.min() < 0:
        raise ValueError(
            "a factorisation into parts that only add up needs activations that are never negative: take the layer "
            "after the ReLU, or another method"
        )
    seed %= SEEDS
    if len(vectors) > MANY:
        drawn = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))[:MANY]
        vectors = vectors[drawn.sort().values]
    state = {"kept": kept} if method == "autoencoder" else {}
    return replace(METHODS[method](vectors, parts, seed, **state), learned_from=len(vectors))


def explained(
    dictionary: Dictionary, vectors: Float[Tensor, "vectors channels"], codes: Float[Tensor, "vectors parts"]
) -> float:
    """Share of the vectors' variance that is left in what the dictionary makes of them, by their codes."""
    portions = zip(vectors.split(8 * BATCH), codes.split(8 * BATCH), strict=True)
    rest = sum((some - dictionary.decode(theirs)).square().sum() for some, theirs in portions)
    return float(1 - rest / (vectors.var(0, correction=0).sum() * len(vectors)))


def used(codes: Float[Tensor, "vectors parts"]) -> tuple[float, float]:
    """Parts that a vector uses in the mean, and the share of parts that none uses."""
    on = codes.abs() > 1e-4
    return float(on.sum(1).float().mean()), float((~on.any(0)).float().mean())


def stability(first: Float[Tensor, "parts channels"], second: Float[Tensor, "others channels"]) -> float:
    """Mean cosine between the parts of two dictionaries, each matched with one of the other, as well as can be.

    Matched by the Hungarian method, so that no part is counted twice.
    """
    from scipy.optimize import linear_sum_assignment

    cosines = (F.normalize(first, dim=1) @ F.normalize(second, dim=1).T).double().numpy()
    return float(cosines[linear_sum_assignment(-cosines)].mean())


def _nmf(vectors: Tensor, parts: int, seed: int) -> Dictionary:
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    # what is fitted should not depend on how large the activations of a layer are
    scale = vectors.mean().clamp(min=1e-12)
    model = NMF(parts, init="nndsvda", random_state=seed, max_iter=200, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # good enough after so many rounds
        model.fit((vectors / scale).numpy())
    directions = torch.from_numpy(np.ascontiguousarray(model.components_)).float()

    def encoder(some: Tensor) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(model.transform((some / scale).numpy()))).float()

    return Dictionary("nmf", directions * scale, torch.zeros(vectors.shape[1]), encoder)


def _kmeans(vectors: Tensor, parts: int, seed: int) -> Dictionary:
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(parts, random_state=seed, n_init=3, batch_size=BATCH).fit(vectors.numpy())
    centres = torch.from_numpy(model.cluster_centers_).float()
    zero = torch.zeros(vectors.shape[1])
    return Dictionary(
        "k-means", centres, zero, lambda some: F.one_hot(torch.cdist(some, centres).argmin(1), parts).float()
    )


def _components(vectors: Tensor, parts: int, seed: int) -> Dictionary:
    moments = covariance.Moments(vectors.shape[1])
    moments.add(vectors.T[None, :, :, None])
    _, directions = covariance.leading(moments.covariance, min(parts, vectors.shape[1]))
    directions, mean = directions.float(), moments.mean.float()
    return Dictionary("components", directions, mean, lambda some: (some - mean) @ directions.T)


def _channels(vectors: Tensor, parts: int, seed: int) -> Dictionary:
    """The channels that vary most; the others stand at their mean."""
    chosen = vectors.var(0).topk(min(parts, vectors.shape[1])).indices
    offset = vectors.mean(0)
    offset[chosen] = 0
    return Dictionary("channels", torch.eye(vectors.shape[1])[chosen], offset, lambda some: some[:, chosen])


def _autoencoder(vectors: Tensor, parts: int, seed: int, kept: Path | None = None) -> Dictionary:
    """The `ACTIVE` largest codes of a linear encoder, decoded by unit directions; trained by Adam.

    A code that nothing has used for a while is dead and would stay so: it is set on what the others explain worst.
    """
    generator = torch.Generator().manual_seed(seed)
    scale = vectors.norm(dim=1).mean().clamp(min=1e-12)
    data, active = vectors / scale, min(ACTIVE, parts)
    offset = data.mean(0).requires_grad_()
    directions = F.normalize(data[torch.randint(len(data), (parts,), generator=generator)] - data.mean(0), dim=1)
    directions = F.normalize(directions + 0.1 * torch.randn(directions.shape, generator=generator), dim=1)
    encoder = directions.clone().T.contiguous().requires_grad_()
    directions.requires_grad_()
    optimiser = torch.optim.Adam([offset, directions, encoder], lr=LEARNING_RATE)

    def encode(some: Tensor) -> Tensor:
        return _largest((some - offset) @ encoder, active)

    fired, done = torch.zeros(parts, dtype=torch.bool), 0
    path = None if kept is None else kept / f"autoencoder-{_fingerprint(data, parts, seed)}.pt"
    if path is not None and path.exists():
        state = torch.load(path, weights_only=True)
        with torch.no_grad():
            for tensor, was in zip((offset, directions, encoder, fired), state["tensors"], strict=True):
                tensor.copy_(was)
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        done = state["step"]
    for step in range(done + 1, STEPS + 1):
        some = data[torch.randint(len(data), (min(BATCH, len(data)),), generator=generator)]
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
            with edge.replacing(path) as temporary:
                torch.save(
                    {
                        "step": step,
                        "tensors": [each.detach() for each in (offset, directions, encoder, fired)],
                        "optimiser": optimiser.state_dict(),
                        "generator": generator.get_state(),
                    },
                    temporary,
                )
    directions, offset, weights = directions.detach() * scale, offset.detach() * scale, encoder.detach() / scale

    return Dictionary("autoencoder", directions, offset, lambda some: _largest((some - offset) @ weights, active))


def _fingerprint(data: Tensor, parts: int, seed: int) -> str:
    """Of everything that an autoencoder's way depends on."""
    told = repr((parts, seed, STEPS, BATCH, LEARNING_RATE, PATIENCE, ACTIVE, tuple(data.shape)))
    digest = hashlib.sha256(told.encode())
    digest.update(data.contiguous().numpy())
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
