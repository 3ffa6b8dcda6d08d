"""The exercises of notebook 15: what neighbours share, whitening as a classifier, the photo that has no land of "
"its own."""

import torch
from jaxtyping import Float, Int
from sklearn.covariance import LedoitWolf
from torch import Tensor

from nbhelpers import edge, models
from nbhelpers.directions import photographs
from nbhelpers.exercises.checking import exercise, expect, samples

LAYERS = ("block1.relu1", "block3.relu2")
CUTS = 8
Vectors = Float[Tensor, "places channels"]
Labels = Int[Tensor, " places"]


def _places(layer: str) -> tuple[Vectors, Labels, Labels, list[str]]:
    """What the layer gives at places of eight squares a photo; each place's square, and its photo."""
    squares, labels = photographs.read(str(samples()), 64, 5000, CUTS, 0)
    places = photographs.collect(models.load("minivgg_robust"), layer, squares, 4, 0)
    return places.vectors, places.photos, squares.labels[places.photos], labels


def _own_neighbours(layer: str) -> tuple[Float[Tensor, " photos"], list[str]]:
    """For each photo the share of its places whose nearest place of another square belongs to the same photo."""
    vectors, squares, photos, names = _places(layer)
    distances = torch.cdist(vectors, vectors)
    distances[squares[:, None] == squares] = torch.inf
    own = (photos[distances.argmin(1)] == photos).float()
    return torch.stack([own[photos == label].mean() for label in range(len(names))]), names


def _by_layer() -> dict[str, float]:
    return {layer: _own_neighbours(layer)[0].mean().item() for layer in LAYERS}


@exercise(
    "15.1",
    f"two shares by layer, such as {{'{LAYERS[0]}': 0.5, '{LAYERS[1]}': 0.5}}",
    hints=[
        "`photographs.read('../sample_images', 64, 5000, 8, 0)`, then `photographs.collect(model, layer, squares, 4, "
        "0)`.",
        "Set the distances within one square to infinity (`torch.cdist`), and see whose place is nearest.",
    ],
    reference=_by_layer,
)
def neighbours(answer: dict[str, float]) -> str:
    """How many places have their nearest neighbour in the same photo, in an early layer and in a later one."""
    expect(set(answer) == set(LAYERS), f"One share each for {' and '.join(LAYERS)} is asked for.")
    true = _by_layer()
    for layer, share in true.items():
        expect(abs(answer[layer] - share) <= 0.03, f"In {layer} the share is not {answer[layer]:.0%}.")
    early, late = (true[layer] for layer in LAYERS)
    return (
        f"{early:.0%} early, {late:.0%} late, where chance gives {1 / 12:.0%}. Early, neighbours are edges of one "
        "angle and patches of one colour, whatever they are of; a map of that layer sorts materials worse."
    )


def _sorted_right() -> dict[str, float]:
    """Share of the odd squares' places that lie most along their own photo's direction, learnt from the even "
    "squares."""
    vectors, squares, photos, names = _places(LAYERS[1])
    learnt = squares % 2 == 0
    mean = vectors[learnt].mean(0)
    means = torch.stack([vectors[learnt & (photos == label)].mean(0) for label in range(len(names))]) - mean
    precision = torch.from_numpy(LedoitWolf().fit(vectors[learnt].numpy()).precision_).float()
    found = {}
    for name, directions in {"none": means, "covariance": means @ precision}.items():
        along = (vectors[~learnt] - mean) @ torch.nn.functional.normalize(directions, dim=1).T
        found[name] = (along.argmax(1) == photos[~learnt]).float().mean().item()
    return found


@exercise(
    "15.2",
    "two shares, such as {'none': 0.5, 'covariance': 0.5}",
    hints=[
        "A photo's direction: the mean of its places in the even squares, less the mean of all; whitened: times the "
        "precision.",
        "`LedoitWolf().fit(vectors).precision_`; normalise the directions, project the odd squares' places, take the "
        "greatest.",
    ],
    reference=_sorted_right,
)
def whitened(answer: dict[str, float]) -> str:
    """Whether whitened directions sort places of other squares better than plain means do."""
    true = _sorted_right()
    expect(set(answer) == set(true), "One share each for 'none' and 'covariance' is asked for.")
    for name, share in true.items():
        expect(abs(answer[name] - share) <= 0.04, f"With whitening {name!r} the share is not {answer[name]:.0%}.")
    better = max(true, key=true.__getitem__)
    return (
        f"{true['none']:.0%} plain, {true['covariance']:.0%} whitened; better: {better}. Whitening draws what tells a "
        "group apart (it is Fisher's discriminant), which pays where there are many places to learn the covariance "
        "from."
    )


def _least_own() -> str:
    shares, names = _own_neighbours(LAYERS[1])
    return names[int(shares.argmin())]


@exercise(
    "15.3",
    "a photo's label, such as 'cat'",
    hints=[
        "As in 15.1, for `block3.relu2`, but one share for each photo: whose is smallest?",
        "Labels are those that `photographs.read` returns: names of the photos without their ending.",
    ],
    reference=_least_own,
)
def no_land_of_its_own(answer: str) -> str:
    """The photo whose places are nearest to other photos' places."""
    shares, names = _own_neighbours(LAYERS[1])
    expect(answer in names, f"There is no label {edge.short(answer)!r}: there are {edge.few(names, 12)}.")
    own = shares[names.index(answer)].item()
    expect(
        own <= shares.min().item(),
        f"{own:.0%} of its places have a neighbour of their own; another photo has fewer.",
    )
    return (
        f"Only {own:.0%} of its places have their neighbour in the same photo. Look at what they see: what a photo "
        "shares with others (cloth, sky, a background out of focus) has no land of its own, and a square that holds "
        "it has no label."
    )
