"""Photos three times as wide as high, three times as high as wide, and small ones, through every technique and fit."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import tiny
from torch import Tensor, nn

from nbhelpers import recipes
from nbhelpers.models import Network
from nbhelpers.recipes import Recipe
from nbhelpers.techniques.inversion import Inversion

pytestmark = pytest.mark.filterwarnings("ignore:.*were asked for")
LAYER = {"layer": "conv2"}
# the parameters beside `fit`, and what comes of the photo
KINDS: dict[str, tuple[Callable[[str], dict[str, Any]], Callable[[Any], Any]]] = {
    "GradCAM": (lambda photo: dict(photos=photo, photo_size=32, target=0, **LAYER), lambda step: step.logits),
    "Saliency": (lambda photo: dict(photos=photo, photo_size=32, target=0), lambda step: step.logits),
    "InterpretationTest": (
        lambda photo: dict(photos=photo, photo="", size=32, channel=1, **LAYER),
        lambda evidence: evidence.activations,
    ),
    "PrincipalFeatures": (
        lambda photo: dict(photos=photo, size=32, **LAYER),
        lambda painting: painting.picture,
    ),
    "Inversion": (
        lambda photo: dict(photos=photo, size=32, steps=2, **LAYER),
        lambda step: step.picture,
    ),
    "ActivationVolume": (lambda photo: dict(photo=photo, size=32, count=2, **LAYER), lambda step: step.picture),
    "SemanticDictionary": (lambda photo: dict(photo=photo, photo_size=32, target=0, **LAYER), lambda look: look.logits),
    "ClassAgnosticFeatures": (
        lambda photo: dict(
            folder=photo, size=32, crops=2, clusters=1, components=1, steps=1, layer="conv2", penalty_layer="conv2"
        ),
        lambda step: step.facets.activations,
    ),
    "FilterGradients": (
        lambda photo: dict(
            reference=photo, similar=photo, dissimilar=photo, target=0, size=32, views=1, removed=[0], **LAYER
        ),
        lambda step: step.gradient,
    ),
}


def with_fit() -> list[str]:
    """Names of all techniques whose photos are fitted one by one."""
    with pytest.raises(ValueError, match="unknown recipe"):
        recipes.kind_named("none")
    kinds = {name: kind for name, kind in Recipe.kinds.items() if kind.__module__.startswith("nbhelpers.")}
    return sorted(name for name, kind in kinds.items() if "whole" in _fits(kind))


def _fits(kind: type[Recipe]) -> list[str]:
    return recipes.choices(kind, "fit") if "fit" in kind.model_fields else []


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(tiny().eval(), "tiny", size=32)


def photo(path: Path, width: int, height: int, mark: tuple[int, int] | None = None) -> str:
    """Coarse noise, with a bright square at `mark`: across, down."""
    noise = np.random.default_rng(0).integers(60, 120, (max(1, height // 10), max(1, width // 10), 3), np.uint8)
    image = Image.fromarray(noise).resize((width, height))
    if mark is not None:
        image.paste((250, 250, 250), (*mark, mark[0] + 25, mark[1] + 25))
    path.parent.mkdir(exist_ok=True)
    image.save(path)
    return str(path)


def made(name: str, source: str, fit: str, network: Network) -> Any:
    parameters, result = KINDS[name]
    return result(recipes.kind_named(name)(**parameters(source), fit=fit).run(network))


def test_every_technique_with_a_fit_is_here() -> None:
    assert sorted(KINDS) == with_fit()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("sides", "mark"), [((300, 100), (270, 40)), ((100, 300), (40, 0))])
def test_the_ends_of_a_long_photo_are_seen_unless_it_is_cropped(
    name: str, sides: tuple[int, int], mark: tuple[int, int], network: Network, tmp_path: Path
) -> None:
    plain, marked = (photo(tmp_path / kind / "photo.png", *sides, at) for kind, at in (("a", None), ("b", mark)))
    if name == "ClassAgnosticFeatures":
        plain, marked = (str(Path(each).parent) for each in (plain, marked))
    for fit in ("whole", "pad"):
        before, after = (made(name, each, fit, network) for each in (plain, marked))
        assert before.shape == after.shape
        assert not torch.equal(before, after)
    assert torch.equal(made(name, plain, "crop", network), made(name, marked, "crop", network))


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"ClassAgnosticFeatures"}))  # whose crops have the shape it takes
def test_a_network_of_one_shape_gets_whole_photos_padded(name: str, tmp_path: Path) -> None:
    parts = {"conv1": nn.Conv2d(3, 4, 3, 2, 1), "relu": nn.ReLU(), "conv2": nn.Conv2d(4, 6, 3, 1, 1)}
    net = nn.Sequential(OrderedDict(parts, flat=nn.Flatten(), head=nn.Linear(6 * 16 * 16, 5)))
    fixed = Network(net, "fixed", size=32)
    source = photo(tmp_path / "photo.png", 300, 100, (270, 40))
    whole, padded, cut = (made(name, source, fit, fixed) for fit in ("whole", "pad", "crop"))
    assert torch.equal(whole, padded)
    assert not torch.equal(whole, cut)


def test_a_photo_to_blend_with_is_seen_as_the_other_is(network: Network, tmp_path: Path) -> None:
    first = photo(tmp_path / "first.png", 150, 100)
    plain, marked = (photo(tmp_path / kind / "photo.png", 300, 100, at) for kind, at in (("a", None), ("b", (270, 40))))
    for fit, same in (("whole", False), ("pad", False), ("crop", True)):
        recipe = Inversion(photos=first, size=32, mix=0.5, steps=2, fit=fit, **LAYER)
        one, other = (recipe.changed(second=each).run(network).picture for each in (plain, marked))
        assert torch.equal(one, other) == same


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"ActivationVolume", "SemanticDictionary", "Inversion"}))
@pytest.mark.parametrize("fit", ["whole", "crop", "pad"])
def test_photos_of_unlike_shapes_go_together(name: str, fit: str, network: Network, tmp_path: Path) -> None:
    for file, sides in (("wide", (300, 100)), ("tall", (100, 300)), ("small", (40, 30)), ("wider", (300, 100))):
        photo(tmp_path / f"{file}.png", *sides)
    found = made(name, str(tmp_path), fit, network)
    assert all(torch.isfinite(each).all() for each in ([found] if isinstance(found, Tensor) else found))
