"""The numbers that `docs/scaling.md` counts with."""

from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from nbhelpers import models
from nbhelpers.techniques.activation_maximization import ActivationMaximization
from tools import scaling_costs
from tools.scaling_costs import Convolution


@lru_cache
def random_network(name: str) -> models.Network:
    return models.load(name, weights=None, device="cpu")


@pytest.mark.parametrize(("name", "channels"), [("vgg16", 4_224), ("resnet50", 26_560)])
def test_the_channels_of_all_convolutions(name: str, channels: int) -> None:
    network = random_network(name)
    assert sum(layer.channels for layer in models.layers(network) if layer.kind == "Conv2d") == channels


def convolution(pictures: list[int], weight: list[int], *rest: object, out_shape: list[int]) -> int:
    return conv_flop_count(pictures, weight, out_shape)


def test_a_step_costs_twice_the_operations_of_a_pass() -> None:
    network = random_network("resnet18")
    layer = scaling_costs.convolutions(network, 64)[6]
    steps = ActivationMaximization(layer=layer.name, channels=[0], size=64, rounds=1, steps=2).iterate(network)
    next(steps)
    onednn = {torch.ops.aten.mkldnn_convolution: convolution}  # which torch does not count
    with FlopCounterMode(display=False, custom_mapping=onednn) as counter:
        next(steps)
    assert counter.get_total_flops() == pytest.approx(2 * layer.operations, rel=0.02)


def test_operations_are_those_of_the_arithmetic() -> None:
    network = random_network("vgg16")
    first, second = scaling_costs.convolutions(network, 32)[:2]
    assert first.operations == 2 * 32 * 32 * 64 * 3 * 3 * 3  # a product and a sum for every weight and place
    assert second.operations - first.operations == 2 * 32 * 32 * 64 * 64 * 3 * 3


def test_the_plan_is_the_recipes() -> None:
    recipe = ActivationMaximization(layer="block1.conv1", channels=[0], size=20, steps=3, rounds=4)
    sizes = [step.picture.shape[-1] for step in recipe.iterate()]
    assert scaling_costs.plan(recipe) == [(side, sizes.count(side)) for side in dict.fromkeys(sizes)]


@given(
    weights=st.tuples(*[st.floats(0.01, 10)] * 3),
    sizes=st.lists(st.tuples(st.floats(0.1, 50), st.floats(0.1, 50)), min_size=6, max_size=12, unique=True),
)
def test_the_fit_finds_what_made_the_numbers(weights: tuple, sizes: list) -> None:
    points = [Convolution("", 1, operations * 1e9, values * 1e6) for operations, values in sizes]
    seconds = [np.dot(weights, [1e-3, each.operations / 1e9, each.values / 1e6]) for each in points]
    found, error = scaling_costs.fit(list(zip(points, seconds, strict=True)))
    assert error < 1e-4
    new = SimpleNamespace(operations=7e9, values=3e6)
    expected = np.dot(weights, [1e-3, 7, 3])
    if np.linalg.cond([[1e-3, a, b] for a, b in sizes]) < 1e6:
        assert np.dot(found, [1e-3, new.operations / 1e9, new.values / 1e6]) == pytest.approx(expected, rel=1e-2)
