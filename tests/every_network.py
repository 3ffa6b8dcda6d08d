"""Kinds of networks that people bring, and what every technique makes of each: right numbers, or a refusal.

`outcome` runs one technique on one network, small, and holds what it gives against a plain pass in float64 that shares
no code with the package. `python tests/every_network.py` writes all of them down in docs/networks.md.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from nbhelpers import ascent, images, models
from nbhelpers.ascent import objectives
from nbhelpers.models import Network
from nbhelpers.techniques import activation_maximization, class_pictures, direction_pictures, fine_tuning
from nbhelpers.techniques.activation_volumes import ActivationVolume
from nbhelpers.techniques.class_agnostic_features import ClassAgnosticFeatures
from nbhelpers.techniques.filter_gradients import FilterGradients
from nbhelpers.techniques.grad_cam import GradCAM
from nbhelpers.techniques.interpretation_test import InterpretationTest
from nbhelpers.techniques.inversion import Inversion
from nbhelpers.techniques.principal_features import PrincipalFeatures
from nbhelpers.techniques.saliency import Saliency
from nbhelpers.techniques.semantic_dictionary import SemanticDictionary
from nbhelpers.training import folders

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "networks.md"
CAT, COFFEE, ROCKET = (str(ROOT / "sample_images" / f"{name}.jpg") for name in ("cat", "coffee", "rocket"))
GREY = torch.tensor([0.299, 0.587, 0.114]).double().view(3, 1, 1)
STEPS = {"rounds": 1, "steps": 2}
EXACT = 2e-3
"""Largest difference from float64, as a share of the largest value; a network in bfloat16 has 8 bits and ten times."""
FAINT = 1e-5
"""What is smaller is rounding, as the means that a batch norm takes away."""


@dataclass
class Case:
    """A network, with what the plain computation has to know of it.

    Attributes:
        net: what a user gives to a technique: a module or a `Network`.
        size: of the pictures it takes.
        layer: one of its layers that gives feature maps.
        seen: from colour pictures to what the module takes.
        logits: from what the module gives to its class logits.
        maps: from what the layer gives to `(B, C, H, W)`.
        exact: see `EXACT`; infinite where the numbers depend on the batch or on chance, of which a warning tells.
        shares: whether it ends in shares of classes.
    """

    net: nn.Module
    size: int | tuple[int, int] = 32
    layer: str = "features.2"
    seen: Callable[[Tensor], Tensor] = lambda pictures: pictures
    logits: Callable[[Any], Tensor] = lambda given: given
    maps: Callable[[Tensor], Tensor] = lambda maps: maps
    exact: float = EXACT
    shares: bool = False

    def plain(self, pictures: Tensor, before_shares: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Of a pass in float64: the pictures, the layer's maps and the logits, all within one graph.

        With `before_shares`, of a network that ends in shares of classes, its logits before it makes shares of them.
        """
        module = self.net.net if isinstance(self.net, Network) else self.net
        module, kept = copy.deepcopy(module).double().eval(), []

        def keep(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
            kept.append(self.maps(output))
            return output.clone()  # what comes next may work in place

        hook = module.get_submodule(self.layer).register_forward_hook(keep)
        if before_shares and self.shares:
            module.wrap = lambda logits: logits
        pictures = pictures.detach().double().requires_grad_()
        logits = self.logits(module(self.seen(pictures)))
        hook.remove()
        return pictures, kept[0], logits


def convolutions(colours: int = 3, act: Callable[[], nn.Module] = nn.ReLU, norm: type[nn.Module] | None = None):
    """Two convolutions with something behind each."""
    norms = [norm(8) if norm else nn.Identity() for _ in range(2)]
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(colours, 8, 3, padding=1), norms[0]), act(),
        nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), norms[1]), act(),
    )  # fmt: skip


class Usual(nn.Module):
    """Features, their mean and a head; parts of it differ from case to case."""

    def __init__(
        self, features: nn.Module | None = None, wrap: Callable[[Tensor], Any] = lambda x: x, classes: int = 5
    ):
        super().__init__()
        self.features, self.head, self.wrap = features or convolutions(), nn.Linear(8, classes), wrap

    def forward(self, pictures):
        return self.wrap(self.head(self.features(pictures).mean((2, 3))))


class Flat(nn.Module):
    """Flattens with `view`: one size."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.features, self.head = convolutions(), nn.Linear(8 * (height // 2) * (width // 2), 5)

    def forward(self, pictures):
        features = self.features(pictures)
        return self.head(features.view(features.size(0), -1))


class Residual(nn.Module):
    """A block with a shortcut, batch norm, and ReLUs that are functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Linear(8, 5),
        )
        self.norm = nn.BatchNorm2d(8)
        self.norm.running_mean.normal_()

    def forward(self, pictures):
        features = F.relu(self.norm(self.first(pictures)))
        features = features + F.relu(self.second(features))
        return self.head(F.adaptive_avg_pool2d(features, 1).flatten(1))


class Turned(nn.Module):
    """Maps `(B, H, W, C)` between its two convolutions, as in networks of transformers' time."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.mix, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, pictures):
        features = self.mix(self.first(pictures).permute(0, 2, 3, 1)).relu()
        return self.head(features.mean((1, 2)))


class Patches(nn.Module):
    """A transformer over patches of eight pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 8, 8, stride=8), nn.Linear(8, 5)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)

    def forward(self, pictures):
        return self.head(self.block(self.patches(pictures).flatten(2).transpose(1, 2)).mean(1))


class Twice(nn.Module):
    """One convolution that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.head = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Linear(8, 5),
        )

    def forward(self, pictures):
        features = self.shared(self.first(pictures).relu()).relu()
        return self.head(self.shared(features).relu().mean((2, 3)))


class Restless(nn.Module):
    """Dropout that never rests."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = convolutions(), nn.Linear(8, 5)

    def forward(self, pictures):
        return self.head(F.dropout(self.features(pictures), 0.2, training=True).mean((2, 3)))


class Cut(nn.Module):
    """Gradients end before the features."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.inner, self.how = Usual(), how

    def forward(self, pictures):
        if self.how == "detach":
            return self.inner(pictures.detach())
        with torch.no_grad():
            return self.inner(pictures)


class TwoInputs(Usual):
    def forward(self, pictures, mask):
        return super().forward(pictures * mask)


def normed(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    features = convolutions()
    features[0][0], features[2][0] = norm(features[0][0]), norm(features[2][0])
    return Usual(features)


NETWORKS: dict[str, Callable[[], Case]] = {
    "convolutions, mean, head": lambda: Case(Usual()),
    "shortcut, batch norm, ReLUs as functions": lambda: Case(Residual(), layer="second"),
    "ReLUs in place": lambda: Case(Usual(convolutions(act=lambda: nn.ReLU(inplace=True)))),
    "SiLU and group norm": lambda: Case(Usual(convolutions(act=nn.SiLU, norm=lambda n: nn.GroupNorm(2, n)))),
    "weight norm": lambda: Case(normed(weight_norm)),
    "spectral norm": lambda: Case(normed(spectral_norm)),
    "a convolution that runs twice": lambda: Case(Twice(), layer="first"),
    "transformer over patches": lambda: Case(Patches(), layer="patches"),
    "maps (B, H, W, C)": lambda: Case(Turned(), layer="mix", maps=lambda maps: maps.permute(0, 3, 1, 2)),
    "class maps, then their mean": lambda: Case(
        nn.Sequential(convolutions(), nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), layer="0.2"
    ),
    "flattened by view, 32 x 32 alone": lambda: Case(Flat(32, 32), layer="features.0.0"),
    "24 x 40 pixels alone": lambda: Case(Network(Flat(24, 40), size=(24, 40)), size=(24, 40)),
    "logits in a tuple": lambda: Case(Usual(wrap=lambda x: (x, x.mean())), logits=lambda given: given[0]),
    "logits in a dictionary": lambda: Case(Usual(wrap=lambda x: {"logits": x}), logits=lambda given: given["logits"]),
    "softmax at its end": lambda: Case(Usual(wrap=lambda x: x.softmax(1)), shares=True),
    "one logit through a sigmoid": lambda: Case(Usual(wrap=lambda x: x.sigmoid(), classes=1), shares=True),
    "grey pictures": lambda: Case(Usual(convolutions(1)), seen=lambda x: (x * GREY).sum(1, keepdim=True)),
    "five channels": lambda: Case(Usual(convolutions(5))),
    "bfloat16": lambda: Case(Usual().bfloat16(), exact=10 * EXACT),
    "float64": lambda: Case(Usual().double()),
    "laid out channels last": lambda: Case(Usual().to(memory_format=torch.channels_last)),
    "batch norm without statistics": lambda: Case(
        Usual(convolutions(norm=lambda n: nn.BatchNorm2d(n, track_running_stats=False))), exact=float("inf")
    ),
    "dropout that never rests": lambda: Case(Restless(), exact=float("inf")),
    "features, no head": lambda: Case(convolutions(), layer="2"),
    "detached inside": lambda: Case(Cut("detach"), layer="inner.features.2"),
    "no_grad inside": lambda: Case(Cut("no_grad"), layer="inner.features.2"),
    "TorchScript": lambda: Case(torch.jit.trace(Usual().eval(), torch.zeros(1, 3, 32, 32))),
    "two inputs": lambda: Case(TwoInputs()),
}

Pairs = list[tuple[Tensor, Tensor]]
"""What a technique gave, and the plain computation."""
TECHNIQUES: dict[str, Callable[[Case], Pairs]] = {}


def technique(name: str) -> Callable:
    def enter(run: Callable[[Case], Pairs]) -> Callable[[Case], Pairs]:
        TECHNIQUES[name] = run
        return run

    return enter


@technique("maximization")
def _maximization(case: Case) -> Pairs:
    recipe = activation_maximization.ActivationMaximization(layer=case.layer, channels=[1], size=case.size, **STEPS)
    step = recipe.run(case.net)
    verdict = activation_maximization.verdicts(recipe, step, case.net)[0]
    said = 0.0 if "never fires" in verdict else float(verdict.split()[-1].strip("()"))
    _, maps, _ = case.plain(step.pixels)
    return [(torch.tensor(said), maps[0, 1].mean().round(decimals=2))]


@technique("directions")
def _directions(case: Case) -> Pairs:
    vector = [1.0, -2.0, 0.5, 0, 0, 0, 0, 1]
    recipe = direction_pictures.DirectionPictures(layer=case.layer, directions=[vector], size=case.size, **STEPS)
    step, aim = recipe.run(case.net), objectives.direction(case.layer, torch.tensor([vector]))
    _, maps, _ = case.plain(step.pixels)
    unit = F.normalize(torch.tensor([vector]).double())
    return [(ascent.measure(case.net, aim, step.pixels), (maps.mean((2, 3)) * unit).sum(1))]


@technique("class pictures")
def _class_pictures(case: Case) -> Pairs:
    recipe = class_pictures.ClassPictures(classes=[0], size=case.size, **STEPS)
    step = recipe.run(case.net)
    pictures, _, logits = case.plain(step.pixels, before_shares=True)
    if not step.alive.all():
        (gradient,) = torch.autograd.grad(logits[0, 0], pictures)
        return [(torch.zeros_like(gradient), gradient)]
    said = re.search(r"logit (-?[0-9.]+),", class_pictures.verdicts(recipe, step, case.net)[0])[1]
    return [(torch.tensor(float(said)), logits[0, 0].round(decimals=1))]


@technique("saliency")
def _saliency(case: Case) -> Pairs:
    step = Saliency(photos=CAT, photo_size=case.size, fit="crop", method="gradient", target=0).run(case.net)
    pictures, _, logits = case.plain(step.photos.pictures)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), pictures)
    return [(step.logits, logits[:, 0]), (step.maps, gradient.abs().amax(1))]


@technique("Grad-CAM")
def _grad_cam(case: Case) -> Pairs:
    recipe = GradCAM(photos=CAT, layer=case.layer, photo_size=case.size, fit="crop", target=0)
    step = recipe.run(case.net)
    _, maps, logits = case.plain(step.photos.pictures)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), maps)
    return [(step.maps, (maps * gradient.mean((2, 3), keepdim=True)).sum(1).relu())]


@technique("inversion")
def _inversion(case: Case) -> Pairs:
    step = Inversion(photos=CAT, layer=case.layer, size=case.size, steps=3).run(case.net)
    _, wanted, _ = case.plain(step.photos.pictures)
    _, reached, _ = case.plain(step.picture)
    return [(step.errors, (reached - wanted).square().sum((1, 2, 3)) / wanted.square().sum((1, 2, 3)))]


@technique("principal features")
def _principal_features(case: Case) -> Pairs:
    recipe = PrincipalFeatures(
        photos=str(ROOT / "sample_images"), batch=3, layer=case.layer, size=case.size, fit="crop"
    )
    step = recipe.run(case.net)
    assert step.picture.min() >= 0
    assert step.picture.max() <= 1
    _, maps, _ = case.plain(step.photos.pictures)
    flat = maps.movedim(1, 0).flatten(1)
    shares = torch.linalg.eigvalsh(torch.cov(flat)).flip(0) / torch.cov(flat).trace()
    return [(step.scores, shares[: len(step.scores)])]


@technique("interpretation test")
def _interpretation_test(case: Case) -> Pairs:
    recipe = InterpretationTest(
        photos=str(ROOT / "sample_images"), photo="cat.jpg", layer=case.layer, channel=1, size=case.size, fit="crop"
    )
    evidence = recipe.run(case.net)
    _, maps, _ = case.plain(evidence.picture)
    return [(evidence.activations[evidence.chosen], maps.relu().mean((2, 3))[0])]


@technique("volume")
def _volume(case: Case) -> Pairs:
    step = ActivationVolume(photo=CAT, layer=case.layer, size=case.size).run(case.net)
    _, maps, _ = case.plain(images.read(CAT, case.size)[None])
    return [(step.maps.flatten().sort().values, maps.flatten().sort().values)]


@technique("filter gradients")
def _filter_gradients(case: Case) -> Pairs:
    layer = {"features.2": "features.2.0", "0.2": "0.2.0", "2": "2.0", "inner.features.2": "inner.features.2.0"}
    layer = layer.get(case.layer, case.layer)
    recipe = FilterGradients(
        reference=CAT, similar=COFFEE, dissimilar=ROCKET, layer=layer, target=0, views=1, size=case.size
    )
    step = recipe.run(case.net)
    _, _, logits = case.plain(images.read(CAT, case.size)[None])
    return [(step.scores, logits[:, 0])]


@technique("semantic dictionary")
def _semantic_dictionary(case: Case) -> Pairs:
    step = SemanticDictionary(photo=CAT, photo_size=case.size, layer=case.layer, target=0, draws=2).run(case.net)
    _, maps, logits = case.plain(step.photo)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), maps)
    return [(step.logits, logits[0]), (step.activations, maps[0]), (step.gradients, gradient[0])]


@technique("facets")
def _facets(case: Case) -> Pairs:
    recipe = ClassAgnosticFeatures(
        folder=str(ROOT / "sample_images"), layer=case.layer, penalty_layer=case.layer, size=32, crops=1, clusters=2,
        steps=2, checkpoint_step=2,
    )  # fmt: skip
    step = recipe.run(case.net)
    return [(step.picture.isfinite().double().mean(), torch.tensor(1.0))]


@technique("fine-tuning")
def _fine_tuning(case: Case) -> Pairs:
    recipe = fine_tuning.FineTuning(size=32, views=1, head_epochs=1, upper_epochs=1)
    data = folders.sample_crops(32, crops=2, folder=str(ROOT / "sample_images"))
    *_, end = list(fine_tuning.tune(recipe, models.as_network(case.net), data))
    found = fine_tuning.predictions(end.network, data.validation)
    return [(found.sum(1), torch.ones(len(found)))]


@cache
def outcome(network: str, technique: str) -> str:
    """What a technique makes of a network: "" for numbers as in float64, or the reason why there are none.

    Raises:
        AssertionError: other numbers.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(0)
        warnings.simplefilter("ignore")  # of TorchScript that it is old
        return run(NETWORKS[network](), technique)


def run(case: Case, technique: str) -> str:
    """`outcome` of any case."""
    case.net.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pairs = TECHNIQUES[technique](case)
        except (ValueError, KeyError) as error:
            return str(error.args[0])
    for ours, plain in pairs:
        ours, plain = ours.detach().double(), plain.detach().double()
        assert ours.isfinite().all(), ours
        assert ours.shape == plain.shape, (tuple(ours.shape), tuple(plain.shape))
        off = (ours - plain).abs().max() / plain.abs().max().clamp(min=FAINT)
        assert off <= case.exact, f"off by {off:.1e} of the largest value"
    return ""


def page() -> str:
    """docs/networks.md: a table of all outcomes, the reasons numbered below it."""
    reasons: dict[str, int] = {}
    rows = ["| | " + " | ".join(TECHNIQUES) + " |", "|" + "---|" * (len(TECHNIQUES) + 1)]
    for network in NETWORKS:
        cells = []
        for technique in TECHNIQUES:
            reason = outcome(network, technique).split(". ")[0]
            cells.append(str(reasons.setdefault(reason, len(reasons) + 1)) if reason else "yes")
        rows.append(f"| {network} | {' | '.join(cells)} |")
    told = [f"{number}. {reason.replace('|', chr(92) + '|')}" for reason, number in reasons.items()]
    return HEAD + "\n".join(rows) + "\n\nThe reasons, as the errors give them:\n\n" + "\n".join(told) + "\n"


HEAD = """# What works with which network

Every technique, run on small networks of the kinds that people bring. *yes*: its numbers are those of a plain pass in
float64 (pictures are measured when they are finished; where numbers depend on chance or on the batch, that they are
finite). A number: it is refused, for the reason below the table. `python tests/every_network.py` makes this page, and a
test holds it.

"""

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
