"""The exercises of notebook 06: the two ends of a component, a batch of two, where faces meet."""

import torch
from jaxtyping import Float
from torch import Tensor

from nbhelpers import edge, images, models
from nbhelpers.exercises.checking import exercise, expect, samples
from nbhelpers.models import stages
from nbhelpers.techniques import principal_features
from nbhelpers.techniques.principal_features import PrincipalFeatures, palettes


def _along_the_first() -> tuple[list[str], Float[Tensor, " photos"]]:
    """Each photo's mean place along the first component."""
    network = models.load("minivgg_robust")
    painting = principal_features.paint(PrincipalFeatures(photos=str(samples()), fit="crop"), network)
    seen = palettes.observe(network, painting.palette.layer, [], painting.photos.pictures)
    return painting.photos.names, painting.palette.scores(seen.features)[:, 0].mean((1, 2))


def _ends() -> tuple[str, str]:
    names, places = _along_the_first()
    return names[int(places.argmin())], names[int(places.argmax())]


@exercise(
    "06.1",
    "two photos' names, such as ('cat.jpg', 'temple.jpg')",
    hints=[
        "Set `components` to `[1, 1, 1]`: which photo is darkest as a whole, which lightest?",
        "`painting.palette.scores(features)[:, 0].mean((1, 2))` has one number for each photo.",
    ],
    reference=_ends,
)
def two_ends(answer: tuple[str, str]) -> str:
    """The photos at the two ends of the first component."""
    names, _ = _along_the_first()
    unknown = [name for name in answer if name not in names]
    expect(not unknown, f"No sample photo is called {edge.few(unknown)}: there are {edge.few(names, 12)}.")
    inner = [name for name in set(answer) if name not in _ends()]
    expect(
        not inner and len(set(answer)) == 2,
        f"Not at an end: {edge.few(sorted(inner)) or 'the same photo twice'}.",
    )
    return (
        "From one thing, round and in front of a background, to a texture that fills the frame: the first component "
        "tells things from stuff."
    )


def _explained(first: int, batch: int) -> float:
    recipe = PrincipalFeatures(photos=str(samples()), fit="crop", first=first, batch=batch)
    palette = principal_features.paint(recipe, models.load("minivgg_robust")).palette
    return palette.explained[:3].sum().item()


@exercise(
    "06.2",
    "a share between 0 and 1, such as 0.25",
    hints=[
        "`recipe.changed(first=8, batch=2)` paints the photographer and the officer.",
        "`painting.palette.explained[:3].sum()` is the share of the variance that three components hold.",
    ],
    reference=lambda: _explained(8, 2),
)
def a_batch_of_two(answer: float) -> str:
    """How much three components hold of two portraits."""
    true, all_photos = _explained(8, 2), _explained(1, 12)
    expect(abs(answer - true) < 0.01, f"It is not {answer:.1%}.")
    return (
        f"Three components hold {true:.0%} of what there is in two portraits, {all_photos:.0%} of what there is in "
        "twelve photos. Where all photos show people, people are no contrast: face, cloth and background part "
        "company instead."
    )


def _nearest(layer: str) -> dict[str, str]:
    """For each photo the one whose mean activations, less the mean over all photos, point most the same way."""
    photos = images.read_many(samples(), 128)
    seen = models.capture(models.load("minivgg_robust"), layer, stop=True)(photos.pictures)[layer].mean((2, 3))
    directions = torch.nn.functional.normalize(seen - seen.mean(0), dim=1)
    alike = (directions @ directions.T).fill_diagonal_(-1)
    return {name: photos.names[int(row.argmax())] for name, row in zip(photos.names, alike, strict=True)}


def _met(layer: str) -> bool:
    nearest = _nearest(layer)
    return (nearest["astronaut.jpg"], nearest["portrait.jpg"]) == ("portrait.jpg", "astronaut.jpg")


def _stages() -> list[str]:
    return [stage.name for stage in stages.stages(models.load("minivgg_robust"), 128)]


@exercise(
    "06.3",
    "a layer's name, such as 'block1.relu1'",
    hints=[
        "Take each photo's mean activations, subtract the mean over all photos, and compare directions (cosine).",
        "Go through `stages.stages(model, 128)` from the first; is the officer the astronaut's nearest, and the "
        "other way round?",
    ],
    reference=lambda: next(name for name in _stages() if _met(name)),
)
def where_faces_meet(answer: str) -> str:
    """The first stage at which two portraits are each other's nearest."""
    known = _stages()
    expect(answer in known, f"The stages are {edge.few(known)}.")
    nearest = _nearest(answer)
    expect(_met(answer), f"In {answer} the astronaut's nearest is {nearest['astronaut.jpg']}.")
    expect(not any(map(_met, known[: known.index(answer)])), "There already, but first in an earlier stage.")
    before = _nearest(known[known.index(answer) - 1])["astronaut.jpg"] if known.index(answer) else "none"
    return (
        f"One stage before, the astronaut's nearest was {before}; from here on it is the officer, whatever they wear."
    )
