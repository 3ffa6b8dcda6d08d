"""Every technique, small, and what of its result must be the same on every device.

`exact` follows from one pass or a few, and must be the same to a thousandth. What an optimiser made must look the same:
it makes much of what began as rounding, so of it only the first scores are exact, and the last ones are `reached`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import torch
from jaxtyping import Float
from skimage.metrics import structural_similarity
from torch import Tensor

from nbhelpers import images, models, recipes, techniques
from nbhelpers.ascent import Step
from nbhelpers.ascent.canvas import CANVASES
from nbhelpers.attribution import faithfulness, localisation, pixel_maps, randomisation
from nbhelpers.models import Network
from nbhelpers.recipes import Recipe
from nbhelpers.techniques import (
    class_agnostic_features,
    class_pictures,
    filter_gradients,
    fine_tuning,
    grad_cam,
    network_training,
    semantic_dictionary,
)
from nbhelpers.techniques.activation_maximization import ActivationMaximization, multi_scale
from nbhelpers.techniques.activation_volumes import ActivationVolume
from nbhelpers.techniques.class_agnostic_features import ClassAgnosticFeatures
from nbhelpers.techniques.class_pictures import ClassPictures
from nbhelpers.techniques.direction_pictures import DirectionPictures
from nbhelpers.techniques.filter_gradients import FilterGradients
from nbhelpers.techniques.fine_tuning import FineTuning
from nbhelpers.techniques.grad_cam import GradCAM
from nbhelpers.techniques.interpretation_test import InterpretationTest
from nbhelpers.techniques.inversion import Inversion
from nbhelpers.techniques.network_training import NetworkTraining
from nbhelpers.techniques.principal_features import PrincipalFeatures
from nbhelpers.techniques.saliency import Saliency
from nbhelpers.techniques.semantic_dictionary import SemanticDictionary
from nbhelpers.training import folders

SAMPLES = Path(__file__).parent.parent / "sample_images"
CAT, COFFEE = str(SAMPLES / "cat.jpg"), str(SAMPLES / "coffee.jpg")
EXACT, REACHED, ALIKE = 1e-3, 0.1, 0.98
CLASSES = ["goldfish", "pizza"]


@dataclass
class Made:
    """What a technique made.

    Attributes:
        exact: numbers that may be off by `EXACT` of their length.
        reached: scores at the end of an optimisation, which may be off by `REACHED`.
        pictures: whose structural similarity must be above `ALIKE`.
    """

    exact: dict[str, Tensor] = field(default_factory=dict)
    reached: dict[str, Tensor] = field(default_factory=dict)
    pictures: Float[Tensor, "pictures 3 height width"] | None = None


CASES: dict[str, tuple[type[Recipe], Callable[[Network], Made]]] = {}


def case(name: str, kind: type[Recipe]) -> Callable:
    """Enters a function, from a network to what is `Made` with it, under a name."""

    def enter(make: Callable[[Network], Made]) -> Callable[[Network], Made]:
        CASES[name] = (kind, make)
        return make

    return enter


def kinds() -> set[type[Recipe]]:
    """All kinds of recipe of the package's techniques."""
    for name in techniques.__all__:
        import_module(f"nbhelpers.techniques.{name}")
    return {kind for kind in Recipe.kinds.values() if kind.__module__.startswith("nbhelpers.techniques.")}


def differences(one: Made, other: Made) -> list[str]:
    """Where two devices do not agree, in words; nothing if they do."""
    found = []
    for name, limit in (("exact", EXACT), ("reached", REACHED)):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.keys() == theirs.keys()
        for key in ours:
            a, b = ours[key].detach().cpu().double(), theirs[key].detach().cpu().double()
            off = float((a - b).norm() / a.norm().clamp(min=1e-12)) if a.shape == b.shape else float("inf")
            if not off <= limit:
                found.append(
                    f"{key}: off by {off:.1e} of its length, at most {limit:g} ({tuple(a.shape)}, {tuple(b.shape)})"
                )
    if one.pictures is not None:
        likeness = similarities(one.pictures, other.pictures)
        found += [
            f"picture {i}: SSIM {each:.4f}, not above {ALIKE}" for i, each in enumerate(likeness) if not each > ALIKE
        ]
    return found


def similarities(ours: Tensor, theirs: Tensor) -> list[float]:
    pairs = zip(*(each.detach().cpu().permute(0, 2, 3, 1).numpy() for each in (ours, theirs)), strict=True)
    return [float(structural_similarity(a, b, data_range=1.0, channel_axis=2)) for a, b in pairs]


def climbed(steps: Iterable[Step]) -> Made:
    """An optimisation: its first scores, its last ones and its pictures."""
    first, *_, last = list(steps)
    return Made({"first scores": first.scores}, {"last scores": last.scores}, last.picture)


def photos(size: int = 64) -> Float[Tensor, "2 3 size size"]:
    return torch.stack([images.read(each, size) for each in (CAT, COFFEE)])


for _canvas in CANVASES:
    case(f"activation maximization, {_canvas}", ActivationMaximization)(
        lambda network, canvas=_canvas: climbed(
            ActivationMaximization(canvas=canvas, channels=[18, 57], size=48, rounds=2, steps=2).iterate(network)
        )
    )
case("direction pictures", DirectionPictures)(
    lambda network: climbed(
        DirectionPictures(layer="block2.conv1", directions=[[1.0] * 192], size=48, rounds=2, steps=2).iterate(network)
    )
)
for _objective in ("unit", "layer"):
    case(f"activation maximization, {_objective}", ActivationMaximization)(
        lambda network, objective=_objective: climbed(
            ActivationMaximization(
                objective=objective, channels=[18, 200], size=48, rounds=1, steps=4, start=CAT, diversity=1
            ).iterate(network)
        )
    )


@case("activation maximization, multi-scale", ActivationMaximization)
def _multi_scale(network: Network) -> Made:
    return climbed(multi_scale(channels=[18, 200], rounds=3, steps=3).iterate(network))


@case("class pictures", ClassPictures)
def _class_pictures(network: Network) -> Made:
    return climbed(ClassPictures(classes=CLASSES, size=48, steps=1, variation_weight=1).iterate(network))


@case("class pictures, views and dropout", ClassPictures)
def _class_views(network: Network) -> Made:
    recipe = class_pictures.for_bundled_networks(classes=CLASSES, steps=2, dropout=0.5, fade=0.01, settle=True)
    made = climbed(recipe.iterate(network))
    # from one even colour Adam's first step goes as far along waves whose gradient is rounding as along the others
    return Made(made.exact, made.reached)


@case("inversion", Inversion)
def _inversion(network: Network) -> Made:
    return _inverted(Inversion(photos=CAT, size=64, steps=5), network)


@case("inversion of a blend, strongest channels", Inversion)
def _blend(network: Network) -> Made:
    return _inverted(Inversion(photos=CAT, second=COFFEE, mix=0.5, kept=8, size=64, steps=6, canvas="pixels"), network)


def _inverted(recipe: Inversion, network: Network) -> Made:
    first, *_, last = list(recipe.iterate(network))
    return Made({"first": first.scores, "features": first.target.features}, {"errors": last.errors}, last.picture)


@case("class-agnostic features", ClassAgnosticFeatures)
def _facets(network: Network) -> Made:
    recipe = ClassAgnosticFeatures(folder=str(SAMPLES), size=48, crops=1, clusters=2, steps=12, checkpoint_step=4)
    found = class_agnostic_features.find_facets(recipe, network)
    # t-SNE makes much of rounding, too: all devices climb to the same facets
    same = class_agnostic_features.find_facets(recipe, models.load("minivgg_robust", device="cpu"))
    made = climbed(class_agnostic_features.visualise(recipe, network, same))
    own, others = class_agnostic_features.evidence(same, made.pictures, network, recipe.layer)
    return Made(made.exact | {"activations": found.activations}, {"own": own, "others": others}, made.pictures)


@case("saliency, two methods", Saliency)
def _gradients(network: Network) -> Made:
    recipe = Saliency(photos=CAT, photo_size=48, samples=2)
    return _explained(recipe, network, ["integrated gradients", "guided backpropagation"])


@case("saliency, all methods", Saliency)
def _saliency(network: Network) -> Made:
    return _explained(Saliency(photos=str(SAMPLES), count=3, photo_size=64, fit="crop", samples=4), network)


@case("Grad-CAM, two methods", GradCAM)
def _two_cams(network: Network) -> Made:
    return _explained(GradCAM(photos=CAT, photo_size=48), network, ["layer_cam", "guided_grad_cam"])


@case("Grad-CAM, all methods", GradCAM)
def _grad_cam(network: Network) -> Made:
    recipe = GradCAM(photos=CAT, photo_size=64)
    made, against = _explained(recipe, network), recipe.changed(counterfactual=True, target="pizza").run(network)
    return Made(made.exact | {"against": against.maps}, made.reached, made.pictures)


@case("semantic dictionary", SemanticDictionary)
def _semantic_dictionary(network: Network) -> Made:
    recipe = SemanticDictionary(photo=CAT, photo_size=64, target="pizza", rival="goldfish", draws=3)
    precise, look = recipe.run(double(network)), recipe.run(network)
    lost = semantic_dictionary.ablate(recipe, look, [3, 5], network)
    return Made(
        {"shares": precise.shares, "evidence": precise.evidence, "logits": look.logits},
        {"float32 shares": look.shares, "lost": torch.tensor([lost.lost, *lost.random])},
    )


def _explained(recipe: Recipe, network: Network, methods: list[str] | None = None) -> Made:
    """Maps by these methods, or all, exact in double precision.

    A ReLU or a pool that is undecided up to rounding may go two ways on two devices, and gradients with it; in double
    precision that hardly happens.
    """
    exact, reached = {}, {}
    for method in methods or recipes.choices(type(recipe), "method"):
        step = recipe.changed(method=method).run(network)
        precise = recipe.changed(method=method).run(double(network))
        exact |= {method: precise.maps, f"{method}, logits": precise.logits, f"{method}, float32 logits": step.logits}
        reached[f"{method}, float32"] = step.maps
    return Made(exact, reached, step.picture)


def double(network: Network) -> Network:
    """A copy in double precision."""
    return copy.deepcopy(network).double()


@case("saliency, what a map must pass", Saliency)
def _tested(network: Network) -> Made:
    network, batch = double(network), photos()
    logits, values = pixel_maps.gradient(network, batch)
    maps, classes = pixel_maps.strongest(values), logits.argmax(1).tolist()
    found = {
        f"{mode}, {baseline}": faithfulness.curves(network, batch, maps, classes, 4, mode, baseline).scores
        for mode in faithfulness.MODES
        for baseline in faithfulness.BASELINES
    }
    for name, forgetful in randomisation.cascade(network, 2):
        forgotten = pixel_maps.strongest(pixel_maps.gradient(forgetful, batch, classes)[1])
        found[f"forgotten from {name}"] = randomisation.rank_correlations(maps, forgotten)
    found["objects"] = localisation.localise(batch, maps).masks.float().mean((1, 2))
    return Made(found)


@case("Grad-CAM, contest", GradCAM)
def _contest(network: Network) -> Made:
    methods = ("grad_cam", "layer_cam", "eigen_cam")
    verdict = grad_cam.compare(GradCAM(photos=str(SAMPLES), photo_size=64, steps=2), network, methods)
    return Made(dict(verdict.deletion))


@case("principal features", PrincipalFeatures)
def _principal_features(network: Network) -> Made:
    painting = PrincipalFeatures(photos=str(SAMPLES), batch=4, size=64, fit="crop").run(network)
    other = PrincipalFeatures(
        photos=str(SAMPLES), batch=4, size=64, fit="crop", hierarchical=True, upsampling="nearest"
    ).run(network)
    palette = painting.palette
    return Made(
        {
            "directions": palette.directions[:3],
            "variances": palette.variances,
            "explained": painting.scores,
            "hierarchical": other.picture,
        },
        pictures=painting.picture,
    )


@case("activation volume", ActivationVolume)
def _volume(network: Network) -> Made:
    step = ActivationVolume(photo=CAT, size=64).run(network)
    return Made({"maps": step.maps, "neighbours": step.scores}, pictures=step.picture)


@case("filter gradients", FilterGradients)
def _filter_gradients(network: Network) -> Made:
    recipe = FilterGradients(
        reference=str(SAMPLES / "rocket.jpg"),
        similar=str(SAMPLES / "temple.jpg"),
        dissimilar=COFFEE,
        views=2,
        size=64,
        draws=2,
        removed=[0, 4, 16],
    )
    step, comparison = recipe.run(network), filter_gradients.compare(recipe, network)
    fallen = filter_gradients.ablate(recipe, step.ranking, network).logits
    return Made(
        {"gradient": step.gradient, "lengths": step.lengths, "logit": step.scores, "patterns": comparison.patterns}
        | {f"without the {name}": torch.tensor(each) for name, each in fallen.items() if name != "most active"}
    )


@case("interpretation test", InterpretationTest)
def _interpretation(network: Network) -> Made:
    evidence = InterpretationTest(photos=str(SAMPLES), size=64).run(network)
    return Made({"activations": evidence.activations, "untrained": evidence.random_activations})


@case("fine tuning", FineTuning)
def _fine_tuning(network: Network) -> Made:
    recipe = FineTuning(size=32, views=1, head_epochs=2, upper_epochs=1)
    data = folders.sample_crops(recipe.size, crops=4, folder=str(SAMPLES))
    *_, end = list(fine_tuning.tune(recipe, network, data))
    log = {f"{key} after {number} epochs": torch.tensor(record[key]) for number, record in enumerate(end.log, 1)
           for key in ("loss", "validation_loss")}  # fmt: skip
    return Made(log | {"probabilities": fine_tuning.predictions(end.network, data.validation)})


@case("network training", NetworkTraining)
def _training(network: Network) -> Made:
    recipe = NetworkTraining(photos=str(SAMPLES), size=32, epochs=1, channels=[8, 16], training_radius=0.5)
    (epoch,) = list(recipe.iterate(network))
    changed, logits = network_training.attacked(network, photos(), 0.5, 3)
    return Made({"attacked": changed, "logits": logits}, {"loss": torch.tensor(epoch.log[-1]["loss"])})


# a few steps within one round, of each loop and canvas
CLIMBS: dict[str, Recipe] = {
    **{f"activation maximization, {name}": ActivationMaximization(canvas=name, size=48, rounds=1, steps=6)
       for name in CANVASES},
    "class pictures": ClassPictures(classes=CLASSES, size=48, rounds=1, steps=6, dropout=0.3, variation_weight=1),
    "inversion": Inversion(photos=CAT, size=48, steps=24),
    "direction pictures": DirectionPictures(layer="block2.conv1", directions=[[1.0] * 192], size=48, rounds=1, steps=6),
    "class-agnostic features": ClassAgnosticFeatures(
        folder=str(SAMPLES), size=48, crops=1, clusters=2, steps=6, checkpoint_step=100
    ),
}  # fmt: skip
