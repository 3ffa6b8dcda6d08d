"""What a GPU makes is what the processor makes, and nothing in a climb waits for it but the one look at each step."""

import warnings
from collections.abc import Iterator

import pytest
import torch
from same_on_every_device import CASES, CAT, CLASSES, CLIMBS, differences, similarities

from nbhelpers import models
from nbhelpers.ascent import Step
from nbhelpers.models import Network
from nbhelpers.recipes import Recipe
from nbhelpers.techniques.activation_maximization import ActivationMaximization
from nbhelpers.techniques.class_pictures import ClassPictures
from nbhelpers.techniques.inversion import Inversion


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:.* components were asked for")
def test_a_technique_gives_the_processors_numbers(name: str, here: Network, there: Network) -> None:
    make = CASES[name][1]
    assert differences(make(here), make(there)) == []


@pytest.mark.parametrize("name", CLIMBS)
@pytest.mark.filterwarnings("ignore:.* components were asked for")
def test_a_step_waits_once(name: str, gpu: torch.device, there: Network) -> None:
    steps = CLIMBS[name].iterate(there)
    next(steps)  # what is prepared once may wait
    for _ in range(4):
        waits = waited(steps)
        assert len(waits) == 1, f"{len(waits)} waits in one step, expected the look at its scores alone: {waits}"


def waited(steps: Iterator[Step]) -> list[str]:
    """Where the next step waited for the GPU."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            next(steps)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return [f"{each.filename}:{each.lineno}" for each in found if "called a synchronizing" in str(each.message)]


@pytest.mark.parametrize(
    "recipe",
    [
        ActivationMaximization(channels=[18, 200], size=48, rounds=1, steps=6),
        ClassPictures(classes=CLASSES, size=48, rounds=1, steps=6),
        Inversion(photos=CAT, size=48, steps=6),
    ],
    ids=lambda recipe: type(recipe).__name__,
)
def test_bfloat16_is_the_same_parameter(recipe: Recipe, here: Network, there: Network) -> None:
    recipe = recipe.changed(precision="bfloat16")
    first, *_, last = list(recipe.iterate(there))
    for full in (recipe.changed(precision="float32").iterate(there), recipe.iterate(here)):
        torch.testing.assert_close(first.scores, next(full).scores, rtol=0.05, atol=0.05)
    assert last.picture.dtype == last.scores.dtype == torch.float32
    assert (last.scores > first.scores).all()


@pytest.mark.parametrize("batch", [1, 8])
def test_bfloat16_is_what_the_network_computes_in(batch: int, there: Network) -> None:
    seen = set()

    def look(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        seen.add((output.dtype, output.device.type))

    handle = there.net.block2.conv1.register_forward_hook(look)
    try:
        ActivationMaximization(channels=[1] * batch, size=48, rounds=1, steps=1, precision="bfloat16").run(there)
    finally:
        handle.remove()
    assert (torch.bfloat16, there.mean.device.type) in seen


def test_a_picture_is_the_same_twice(there: Network) -> None:
    recipe = ActivationMaximization(channels=[1], size=48, rounds=2, steps=4)
    assert min(similarities(recipe.run(there).picture, recipe.run(there).picture)) > 0.98


def test_a_network_is_loaded_onto_the_gpu(gpu: torch.device) -> None:
    assert models.load("minivgg").mean.device.type == gpu.type
