"""Two techniques on one network at once, on two threads: each makes what it makes alone, the network is untouched."""

import copy
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import combinations_with_replacement

import pytest
import torch
from same_on_every_device import CASES, Made, kinds
from small_networks import outside, same_outside

from nbhelpers import models
from nbhelpers.models import Network

# the first case of each kind of recipe
FIRST = {kind: name for name, (kind, _) in reversed(CASES.items())}
NAMES = sorted(FIRST.values())


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


@pytest.mark.parametrize("pair", [*combinations_with_replacement(NAMES, 2)], ids=" and ".join)
@pytest.mark.filterwarnings("ignore:.* components were asked for")
def test_two_at_once_make_what_each_makes_alone(pair: tuple[str, str]) -> None:
    expected = [alone(name) for name in pair]
    before = outside(network())
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda name: CASES[name][1](network()), pair))
    assert [same(one, other) for one, other in zip(found, expected, strict=True)] == [True, True]
    assert same_outside(before, outside(network()))
