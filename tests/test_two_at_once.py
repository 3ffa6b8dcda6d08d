"""Two techniques on one network at once, on two threads: each makes what it makes alone, the network is untouched."""

import copy
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest
import torch
from same_on_every_device import CASES, Made, kinds
from small_networks import outside, same_outside

from nbhelpers import controls, models
from nbhelpers.models import Network
from nbhelpers.techniques.activation_maximization import ActivationMaximization

# the first case of each kind of recipe
FIRST = {kind: name for name, (kind, _) in reversed(CASES.items())}
NAMES = sorted(FIRST.values())
# each beside another of its kind, and beside four others: not all of them, there are nearly a hundred pairs
PAIRS = [(name, NAMES[(number + apart) % len(NAMES)]) for number, name in enumerate(NAMES) for apart in (0, 1, 4)]


@cache
def network() -> Network:
    return models.load("minivgg_robust", device="cpu")


@cache
def alone(name: str) -> Made:
    return CASES[name][1](copy.deepcopy(network()))


def same(one: Made, other: Made) -> bool:
    pairs = [(one.exact[key], other.exact[key]) for key in one.exact]
    pairs += [(one.reached[key], other.reached[key]) for key in one.reached]
    pairs += [(one.pictures, other.pictures)] if one.pictures is not None else []
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True) for a, b in pairs)


def test_every_kind_of_recipe_is_among_them() -> None:
    assert set(FIRST) == kinds()


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
@pytest.mark.filterwarnings("ignore:.* components were asked for")
def test_two_at_once_make_what_each_makes_alone(pair: tuple[str, str]) -> None:
    expected = [alone(name) for name in pair]
    before = outside(network())
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda name: CASES[name][1](network()), pair))
    assert [same(one, other) for one, other in zip(found, expected, strict=True)] == [True, True]
    assert same_outside(before, outside(network()))


@pytest.mark.filterwarnings("ignore:.* components were asked for")
def test_sliders_are_dragged_while_cells_work_on_the_same_network() -> None:
    recipe = ActivationMaximization(layer="block2.conv2", channels=[3], size=32, rounds=1, steps=4)
    expected = {name: alone(name) for name in NAMES}
    before = outside(network())
    player = controls.play(recipe, ["layer", "channels"], network=network())
    for number, name in enumerate(NAMES):
        player.sliders["layer"].value = ["block3.conv1", "block2.conv2"][number % 2]
        player.sliders["channels"].value = 5 + number
        assert same(CASES[name][1](network()), expected[name]), name
    player.wait(60)
    assert same_outside(before, outside(network()))
    last = recipe.changed(layer=player.sliders["layer"].value, channels=[5 + number])
    assert torch.allclose(player.step.picture, last.run(network()).picture, atol=1e-4)
    assert "error" not in player.status.value
    player.close()
