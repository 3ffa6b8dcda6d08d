"""The exercises of notebook 14: more parts, another method, another layer; are a part's photos alike?"""

from nbhelpers import models
from nbhelpers.directions import concepts
from nbhelpers.directions.concepts import Concepts, Found
from nbhelpers.exercises.checking import exercise, expect, samples

CUTS, SQUARES, MARGIN = 4, 4, 0.08
"""Squares of each photo, squares that a part is judged by, and by how much a share may differ."""


def _found(**changes: object) -> Found:
    return concepts.find(Concepts(photos=str(samples()), cuts=CUTS, **changes), models.load("minivgg_robust"))


def _compare(answer: dict, true: dict, what: str) -> None:
    expect(set(answer) == set(true), f"One share each for {' and '.join(map(str, true))} is asked for.")
    for key, share in true.items():
        expect(abs(answer[key] - share) <= MARGIN, f"With {what} {key} the share is not {answer[key]:.2f}.")


def _by_parts() -> dict[int, float]:
    return {parts: _found(parts=parts).alike(SQUARES) for parts in (4, 16)}


@exercise(
    "14.1",
    "two shares by number of parts, such as {4: 0.5, 16: 0.5}",
    hints=[
        "`concepts.find(Concepts(parts=4, cuts=4), model).alike(4)`: the share of a part's four strongest squares "
        "of one photo.",
        "Leave everything else at its default, and take eight cuts for both.",
    ],
    reference=_by_parts,
)
def more_parts(answer: dict[int, float]) -> str:
    """How much of one photo the strongest squares of a part are, with few parts and with many."""
    true = _by_parts()
    _compare(answer, true, "parts =")
    rises = true[16] > true[4]
    return (
        f"With more parts the share {'rises' if rises else 'does not rise'}: "
        + ("parts split by photo first." if rises else "parts split within photos as well as between them.")
        + " Whether the same parts come out of two halves of the photos (*halves*) is another question, and gets "
        "worse with their number."
    )


def _by_method() -> dict[str, float]:
    return {method: _found(method=method, parts=16).alike(SQUARES) for method in ("nmf", "k-means")}


@exercise(
    "14.2",
    "two shares by method, such as {'nmf': 0.5, 'k-means': 0.5}",
    hints=[
        '`Concepts(method="k-means", parts=16, cuts=4)`, and the same with `"nmf"`.',
        "`found.alike(4)`, of both.",
    ],
    reference=_by_method,
)
def another_method(answer: dict[str, float]) -> str:
    """Whether the strongest squares are more alike for the centres of k-means."""
    true = _by_method()
    _compare(answer, true, "method")
    word = "more" if true["k-means"] > true["nmf"] else "no more"
    return (
        f"Those of k-means are {word} of one photo. A centre stands for a place as a whole, a part for something in "
        "it, so likeness alone praises narrow parts: ask next whether another seed finds them."
    )


def _by_layer() -> dict[str, float]:
    return {
        layer: _found(layer=layer, drawn=layer.replace("relu", "conv")).alike(SQUARES)
        for layer in ("block1.relu1", "block3.relu2")
    }


@exercise(
    "14.3",
    "two shares by layer, such as {'block1.relu1': 0.5, 'block3.relu2': 0.5}",
    hints=[
        '`Concepts(layer="block1.relu1", drawn="block1.conv1", cuts=4)`, ten parts, and the default layer beside it.',
        "`found.alike(4)`, of both.",
    ],
    reference=_by_layer,
)
def an_early_layer(answer: dict[str, float]) -> str:
    """Parts of an early layer are found in every photo."""
    true = _by_layer()
    _compare(answer, true, "layer")
    early, late = true.values()
    return (
        f"Early the share is {'smaller' if early < late else 'no smaller'}: edges by their angle, and colours, are in "
        "nearly every photo; what a part of the later layer stands for is in few."
    )
