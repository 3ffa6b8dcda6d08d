"""The exercises of notebook 09: filters that two classes share, a first-order estimate, where importance gathers."""

import torch
from jaxtyping import Float
from torch import Tensor

from nbhelpers import edge, models
from nbhelpers.exercises.checking import exercise, expect, samples
from nbhelpers.techniques import filter_gradients
from nbhelpers.techniques.filter_gradients import FilterGradients, filter_weights

TOP = 16
LAYERS = ("block1.conv1", "block3.conv2", "block4.conv1")


def _recipe(**changes: object) -> FilterGradients:
    photos = {name: str(samples() / f"{photo}.jpg") for name, photo in
              {"reference": "rocket", "similar": "temple", "dissimilar": "cat"}.items()}  # fmt: skip
    return FilterGradients(**(photos | changes))


def _shared() -> list[int]:
    network = models.load("minivgg_robust")
    obelisk = _recipe().run(network).ranking[:TOP]
    espresso = _recipe(target="espresso", reference=str(samples() / "coffee.jpg")).run(network).ranking[:TOP]
    return sorted(set(obelisk) & set(espresso))


@exercise(
    "09.1",
    "a list of filters' numbers; empty if there are none",
    hints=[
        '`recipe.changed(target="espresso", reference="../sample_images/coffee.jpg").run(model).ranking[:16]`',
        "Take the filters that are in both lists of sixteen.",
    ],
    reference=_shared,
)
def shared_filters(answer: list[int]) -> str:
    """The filters among the sixteen most important ones of both classes."""
    true = set(_shared())
    expect(not (wrong := set(answer) - true), f"Not among both classes' first {TOP}: {edge.few(sorted(wrong))}.")
    expect(not (missing := true - set(answer)), f"{len(missing)} more are among both classes' first {TOP}.")
    chance = TOP * TOP / 352
    return (
        f"{len(true)} of {TOP} are shared; two blind choices among 352 filters would share {chance:.1f}. Some filters "
        "matter to whatever the class is, most to a few classes."
    )


def _by_first_order() -> list[int]:
    network, recipe = models.load("minivgg_robust"), _recipe()
    weight = filter_weights.convolution(network, recipe.layer).weight.detach()
    (target,) = models.class_indices(network, [recipe.target])
    comparison = filter_gradients.compare(recipe, network)
    chosen = [group == "reference" for group in comparison.groups]
    found = torch.cat(
        [
            each
            for each, _ in filter_weights.gradients(network, recipe.layer, target, comparison.photos.pictures[chosen])
        ]
    )
    return (found * weight).flatten(2).sum(2).abs().mean(0).argsort(descending=True).tolist()


@exercise(
    "09.2",
    "a ranking: all filters' numbers, the most important first",
    hints=[
        "For every photo and filter sum gradient times weight over the filter's numbers; magnitude, then mean over "
        "photos.",
        "`(found * weight).flatten(2).sum(2).abs().mean(0).argsort(descending=True)`, for the rocket's crops.",
    ],
    reference=_by_first_order,
)
def first_order(answer: list[int]) -> str:
    """Filters by the first-order estimate of what zeroing them costs, and whether the class falls faster."""
    network, recipe = models.load("minivgg_robust"), _recipe(removed=[0, 8], draws=1)
    true = _by_first_order()
    expect(sorted(answer) == sorted(true), f"A ranking holds each of the {len(true)} filters once.")
    hits = len(set(answer[:TOP]) & set(true[:TOP]))
    expect(hits >= TOP - 1, f"Only {hits} of its first {TOP} have the greatest |gradient x weight|.")
    falls = {}
    for name, ranking in {"length": _recipe().run(network).ranking, "first order": answer}.items():
        logits = filter_gradients.ablate(recipe, ranking, network).logits["most important"]
        falls[name] = float(logits[0] - logits[-1])
    word = "faster" if falls["first order"] > falls["length"] else "no faster"
    return (
        f"Without its first 8 filters the logit falls {word}: by {falls['first order']:.1f}, and by "
        f"{falls['length']:.1f} without the first 8 of the ranking by length. Its sum lets effects of opposite sign "
        "cancel, as zeroing a filter does."
    )


def _concentration() -> dict[str, float]:
    """The share of all importance that the first tenth of the filters holds, by layer."""
    found = {}
    for layer in LAYERS:
        importance: Float[Tensor, " filters"] = _recipe(layer=layer).run(models.load("minivgg_robust")).importance
        ordered = importance.sort(descending=True).values
        found[layer] = (ordered[: len(ordered) // 10].sum() / ordered.sum()).item()
    return found


def _most_concentrated() -> str:
    shares = _concentration()
    return max(shares, key=shares.__getitem__)


@exercise(
    "09.3",
    f"one of {', '.join(map(repr, LAYERS))}",
    hints=[
        "Sort a layer's importance downwards and take the share that the first tenth of its filters holds.",
        "`recipe.changed(layer=layer).run(model).importance`, for each of the three layers.",
    ],
    reference=_most_concentrated,
)
def concentrated(answer: str) -> str:
    """The layer in which a tenth of the filters holds most of the importance."""
    shares = _concentration()
    expect(answer in shares, f"Asked for are {edge.few(LAYERS)}.")
    expect(
        answer == _most_concentrated(),
        f"In {answer} the first tenth holds {shares[answer]:.0%}; another layer has more.",
    )
    return (
        "The first tenth of the filters holds "
        + ", ".join(f"{share:.0%} in {layer}" for layer, share in shares.items())
        + ". Early filters serve every class; late ones are for a few, so one class hangs on few of them."
    )
