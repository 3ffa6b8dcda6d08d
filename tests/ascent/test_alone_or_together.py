"""A picture does not depend on the pictures that are made beside it, nor on how many threads make it.

Direction pictures do: they are small and many, and each carries the directions of its whole batch.
"""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from nbhelpers import images, models
from nbhelpers.models import Network
from nbhelpers.techniques.activation_maximization import ActivationMaximization
from nbhelpers.techniques.class_pictures import ClassPictures, for_bundled_networks, for_large_networks
from nbhelpers.techniques.inversion import Inversion, invert

SMALL = {"size": 32, "rounds": 2, "steps": 12}
AT_ONCE = {"size": 48, "rounds": 1, "steps": 12, "view": 32}


def channels(**changes) -> Callable[[Network, Sequence[int]], Tensor]:
    return lambda network, which: ActivationMaximization(channels=list(which), **SMALL | changes).run(network).picture


def classes(recipe: ClassPictures) -> Callable[[Network, Sequence[int]], Tensor]:
    return lambda network, which: recipe.changed(classes=list(which)).run(network).picture


def inversions(**changes) -> Callable[[Network, Sequence[int]], Tensor]:
    def make(network: Network, which: Sequence[int]) -> Tensor:
        noise = torch.rand(5, 3, 33, 35, generator=torch.Generator().manual_seed(1))[list(which)]
        photos = images.Photos(noise, [str(each) for each in which], {})
        *_, last = invert(Inversion(layer="block3", steps=12, **changes), network, photos)
        return last.picture

    return make


KINDS = {
    **{f"channels, {canvas}": channels(canvas=canvas) for canvas in ("natural", "fourier", "maco", "pixels")},
    "units": channels(objective="unit"),
    "a layer": channels(objective="layer"),
    "classes": classes(ClassPictures(**SMALL)),
    "classes, bundled": classes(for_bundled_networks(size=32, view=32, steps=12)),
    "classes, half hidden": classes(for_large_networks(**AT_ONCE)),
    "inversions": inversions(),
    "inversions, other powers": inversions(alpha=5.3, beta=1.5, canvas="pixels"),
}


@pytest.fixture
def threads():
    """Sets how many threads compute; as it was afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_the_same_alone_or_together_on_one_thread_or_on_many(
    kind: str, threads: Callable[[int], None]
) -> None:
    network = models.load("minivgg_robust", device="cpu")
    threads(1)
    (alone,), together = KINDS[kind](network, [3]), KINDS[kind](network, [4, 0, 1, 3, 2])
    threads(2)
    (on_two,) = KINDS[kind](network, [3])
    torch.testing.assert_close(together[3], alone, rtol=0, atol=0)
    torch.testing.assert_close(on_two, alone, rtol=0, atol=0)


@pytest.mark.parametrize(("name", "layer"), [("squeezenet1_0", "features.7.expand3x3"), ("resnet18", "layer2.0.conv2")])
def test_kernels_of_one_unit_and_strides_are_the_same_on_any_number_of_threads(
    name: str, layer: str, threads: Callable[[int], None]
) -> None:
    network, made = models.load(name, weights=None, device="cpu"), []
    recipe = ActivationMaximization(network=name, layer=layer, channels=[1], size=66, rounds=1, steps=12)
    for count in (1, 2):
        threads(count)
        made.append(recipe.run(network).picture)
    torch.testing.assert_close(made[1], made[0], rtol=0, atol=0)
