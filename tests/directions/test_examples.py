"""Concepts from examples: a planted direction found, chance told from truth, and classes that do or do not use it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from small_networks import noise, tiny
from torch.nn import functional as F

from nbhelpers.directions import examples
from nbhelpers.directions.photographs import Behind
from nbhelpers.models import Network


def crowds(apart: float, count: int = 40, channels: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two crowds that differ along the second channel."""
    both = torch.randn(2, count, channels, generator=torch.Generator().manual_seed(seed))
    both[0, :, 1] += apart
    return both[0], both[1]


def test_a_planted_direction_is_found() -> None:
    example = examples.learn(*crowds(6))
    assert example.direction[1] > 0.9
    assert example.accuracy > 0.97
    assert example.p_value == pytest.approx(1 / 21)


def test_the_direction_is_scikit_learns() -> None:
    """Its classifier on examples standardised by hand; along the direction its decision rises most, in raw numbers."""
    first, second = (each * torch.tensor([1.0, 5, 0.2, 1, 3, 1]) for each in crowds(2))
    seen, held = (np.concatenate([first[start::2], second[start::2]]).astype(float) for start in (0, 1))
    labels = np.repeat([1, 0], 20)
    middle, spread = seen.mean(0), seen.std(0)
    model = LogisticRegression(C=0.1, max_iter=1000).fit((seen - middle) / spread, labels)
    raised = [(each - middle) / spread for each in (held[0] + np.eye(6), held[0])]
    slope = model.decision_function(raised[0]) - model.decision_function(raised[1][None])
    example = examples.learn(first, second)
    assert np.allclose(example.direction.numpy(), slope / np.linalg.norm(slope), atol=1e-3)
    assert example.accuracy == pytest.approx(
        balanced_accuracy_score(labels, model.predict((held - middle) / spread)), abs=1e-6
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100))
def test_crowds_that_do_not_differ_are_told_apart_by_chance(seed: int) -> None:
    example = examples.learn(*crowds(0, seed=seed))
    assert 0.2 < example.accuracy < 0.8
    assert 0.3 < sum(example.random_accuracies) / examples.RANDOM < 0.7


def test_a_class_rises_along_its_own_weights_and_falls_against_them() -> None:
    network = Network(tiny().eval(), "tiny", size=16)
    weights = network.net.head.weight.detach()[3]
    behind, maps = Behind(network, "relu2", 16), noise(5, 6, 8, 8)
    random = F.normalize(torch.randn(20, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    along = examples.Example(F.normalize(weights, dim=0), 1.0, [0.5] * 20, random)
    against = examples.Example(-F.normalize(weights, dim=0), 1.0, [0.5] * 20, random)
    assert examples.sensitivity(behind, along, maps, 3).share == 1
    found = examples.sensitivity(behind, against, maps, 3)
    assert found.share == 0
    assert found.random_shares == [float(each @ weights > 0) for each in random]


@pytest.mark.parametrize(("with_it", "without_it"), [(3, 40), (0, 40), (40, 0)])
def test_too_few_examples_are_refused(with_it: int, without_it: int) -> None:
    """Also a folder without the concept, and one where every photo has it."""
    words = f"{with_it} photos with the concept and {without_it} without: at least four of each"
    with pytest.raises(ValueError, match=words):
        examples.learn(noise(with_it, 6), noise(without_it, 6))


def test_examples_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="activations of the examples are not finite: check the network's weights"):
        examples.learn(noise(8, 6), torch.full((8, 6), torch.nan))


def test_examples_that_are_all_the_same_show_nothing() -> None:
    assert examples.learn(torch.ones(8, 6), torch.ones(8, 6)).p_value == 1
