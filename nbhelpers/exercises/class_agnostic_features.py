"""The exercises of notebook 07: photos that a layer finds alike, what squares owe to their photo, the farthest "
"ten."""

import torch
from jaxtyping import Float
from torch import Tensor

from nbhelpers import edge, models
from nbhelpers.exercises.checking import exercise, expect, samples
from nbhelpers.techniques import class_agnostic_features
from nbhelpers.techniques.class_agnostic_features import ClassAgnosticFeatures, facets

LAYERS = ("block2.relu2", "block4.relu1")


def _squares(layer: str) -> tuple[list[str], Float[Tensor, "photos squares channels"]]:
    """Nine squares of each photo, at 64 pixels, as the layer's mean activations."""
    squares = facets.read_crops(str(samples()), 64, 3)
    pooled = models.pooled_activations(models.load("minivgg_robust"), layer, squares.pictures)
    return list(dict.fromkeys(name.split()[0] for name in squares.names)), pooled.unflatten(0, (-1, 9))


def _likeness() -> tuple[list[str], Float[Tensor, "photos photos"]]:
    names, squares = _squares("block4.relu1")
    means = squares.mean(1)
    directions = torch.nn.functional.normalize(means - means.mean(0), dim=1)
    return names, (directions @ directions.T).fill_diagonal_(-1)


def _most_alike() -> tuple[str, str]:
    names, alike = _likeness()
    one, other = divmod(int(alike.argmax()), len(names))
    return names[one], names[other]


@exercise(
    "07.1",
    "two photos' names, such as ('cat.jpg', 'temple.jpg')",
    hints=[
        "Average the pooled activations of each photo's nine squares, subtract the mean over all photos, compare by "
        "cosine.",
        "`facets.read_crops('../sample_images', 64, 3)` gives nine squares a photo, in order; layer `block4.relu1`.",
    ],
    reference=_most_alike,
)
def hard_to_keep_apart(answer: tuple[str, str]) -> str:
    """The two photos that the layer finds most alike."""
    names, alike = _likeness()
    unknown = [name for name in answer if name not in names]
    expect(not unknown, f"No sample photo is called {edge.few(unknown)}: there are {edge.few(names, 12)}.")
    own = alike[names.index(answer[0]), names.index(answer[1])]
    expect(own >= alike.max(), f"Their cosine is {own:.2f}; two others come to {alike.max():.2f}.")
    return f"Their cosine is {own:.2f}. With fewer facets than photos, these two are the likeliest to share one."


def _between() -> dict[str, float]:
    """The share of the squares' variance that lies between photos, by layer."""
    shares = {}
    for layer in LAYERS:
        _, squares = _squares(layer)
        centred = squares - squares.mean((0, 1))
        shares[layer] = (centred.mean(1).square().sum() * squares.shape[1] / centred.square().sum()).item()
    return shares


@exercise(
    "07.2",
    f"two shares by layer, such as {{'{LAYERS[0]}': 0.5, '{LAYERS[1]}': 0.5}}",
    hints=[
        "Variance between photos: of the nine squares' means. All of it: of the squares themselves.",
        "With `centred` of shape (photos, 9, channels): `centred.mean(1).square().sum() * 9 / centred.square().sum()`.",
    ],
    reference=_between,
)
def owed_to_the_photo(answer: dict[str, float]) -> str:
    """How much of what varies among squares is a matter of their photo, early and late."""
    expect(set(answer) == set(LAYERS), f"One share each for {' and '.join(LAYERS)} is asked for.")
    true = _between()
    for layer in LAYERS:
        expect(abs(answer[layer] - true[layer]) < 0.02, f"The share of {layer} is not {answer[layer]:.0%}.")
    early, late = (true[layer] for layer in LAYERS)
    more = "more" if early > late else "less"
    return (
        f"{early:.0%} early, {late:.0%} late: {more} of an early layer's variance is the photo's. Early it is light, "
        "colour and grain, which a photo has everywhere; late it is what the single square shows."
    )


def _found() -> facets.Facets:
    return class_agnostic_features.find_facets(
        ClassAgnosticFeatures(folder=str(samples())), models.load("minivgg_robust")
    )


def _farthest() -> list[int]:
    found = _found()
    return found.nearest(0, len(found.names))[-10:].tolist()


@exercise(
    "07.3",
    "a list of ten squares' numbers, as they stand in `found.names`",
    hints=[
        "`found.nearest(0, n)` sorts the members of facet 0 by their distance to its centre.",
        "Ask it for all of them, and take the last ten.",
    ],
    reference=_farthest,
)
def the_farthest_ten(answer: list[int]) -> str:
    """The ten members of facet 0 that are farthest from its centre on the plane."""
    found = _found()
    expect(len(set(answer)) == 10, f"{len(set(answer))} different squares are not ten.")
    expect(
        all(0 <= each < len(found.names) for each in answer),
        f"There are the squares 0 to {len(found.names) - 1}.",
    )
    strangers = [found.names[each] for each in answer if found.labels[each] != 0]
    expect(not strangers, f"Not in facet 0: {edge.few(strangers)}.")
    missed = set(found.nearest(0, len(found.names))[-10:].tolist()) - set(answer)
    expect(not missed, f"{len(missed)} squares of facet 0 are farther away than some of these.")
    return (
        "A start from these would be the mean of whatever lies at the facet's border, next to its neighbours: a grey "
        "of many things, and a picture of none."
    )
