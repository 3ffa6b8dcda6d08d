"""Importance: Sobol indices against a closed form, and what is worth what in a network that can be computed by hand."""

import math

import pytest
import torch
from small_networks import noise, outside, same_outside, tiny

from nbhelpers.directions import importance
from nbhelpers.directions.dictionaries import Dictionary
from nbhelpers.directions.photographs import Behind
from nbhelpers.models import Network


@pytest.fixture
def network() -> Network:
    return Network(tiny().eval(), "tiny", size=16)


@pytest.fixture
def plain() -> Dictionary:
    """Every channel a part."""
    return Dictionary("channels", torch.eye(6), torch.zeros(6), lambda vectors: vectors)


def test_total_indices_of_the_ishigami_function() -> None:
    """Closed form: Saltelli et al., "Global Sensitivity Analysis", 2008, section 4.6, with a = 7, b = 0.1."""

    def ishigami(points: torch.Tensor) -> torch.Tensor:
        x, y, z = (2 * math.pi * points.double() - math.pi).unbind(1)
        return (x.sin() + 7 * y.sin() ** 2 + 0.1 * z**4 * x.sin()).float()

    found = importance.total_indices(ishigami, 3, 4096)
    assert found.tolist() == pytest.approx([0.5576, 0.4424, 0.2437], abs=0.01)


def test_an_argument_that_does_nothing_has_no_index() -> None:
    found = importance.total_indices(lambda points: points[:, 0] + 2 * points[:, 2], 3, 256)
    assert found.tolist() == pytest.approx([0.2, 0, 0.8], abs=0.01)


def test_what_lies_behind_a_layer_is_the_rest_of_the_network(network: Network) -> None:
    pictures = noise(3, 3, 16, 16)
    maps = network.net.conv2(network.net.conv1(pictures).relu()).relu().detach()
    before = outside(network)
    behind = Behind(network, "relu2", 16)
    assert behind.shape == (8, 8)
    assert torch.allclose(behind(maps), network(pictures).detach(), atol=1e-5)
    assert same_outside(before, outside(network))


def test_what_lies_behind_a_layer_of_a_network_with_ways_around_it() -> None:
    """A residual sum, a ReLU that runs twice and in place: what was said before is said again."""

    class Around(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 4, 3, padding=1)
            self.relu, self.head = torch.nn.ReLU(inplace=True), torch.nn.Linear(4, 5)

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            before = self.relu(self.first(pictures))
            return self.head(self.relu(before + self.second(before)).mean((2, 3)))

    torch.manual_seed(0)
    net = Around().eval()
    maps = noise(3, 4, 16, 16)
    grey = net.first(torch.full((1, 3, 16, 16), 0.5)).relu()
    expected = net.head((grey + maps).relu().mean((2, 3))).detach()
    assert torch.allclose(Behind(Network(net, "around", size=16), "second", 16)(maps), expected, atol=1e-5)


def test_worth_is_weight_times_activation_where_the_rest_is_linear(network: Network, plain: Dictionary) -> None:
    """Behind its last ReLU, `tiny` is a mean and a linear layer."""
    maps, weights = noise(4, 6, 8, 8), network.net.head.weight.detach()[2]
    behind = Behind(network, "relu2", 16)
    gradient = importance.by_gradient(behind, plain, maps, 2)
    adds = weights * maps.mean((0, 2, 3))
    assert torch.allclose(gradient, adds, atol=1e-5)
    sobol = importance.sobol(behind, plain, maps, 2, samples=1024)
    expected = (weights * maps.mean((2, 3))).square()
    assert torch.allclose(sobol, (expected / expected.sum(1, keepdim=True)).mean(0), atol=0.03)


def test_leaving_out_takes_what_a_part_adds(network: Network, plain: Dictionary) -> None:
    maps, weights = noise(4, 6, 8, 8), network.net.head.weight.detach()[1]
    behind, codes = Behind(network, "relu2", 16), importance.codes_of(plain, maps)
    whole, less = (importance.without(behind, plain, codes, 1, parts) for parts in ([], [0, 5]))
    assert whole == pytest.approx(behind(maps)[:, 1].mean().item(), abs=1e-5)
    gone = (weights * maps.mean((0, 2, 3)))[[0, 5]].sum().item()
    assert whole - less == pytest.approx(gone, abs=1e-5)


def test_without_all_random_directions_nothing_is_left(network: Network, plain: Dictionary) -> None:
    behind, maps = Behind(network, "relu2", 16), noise(4, 6, 8, 8)
    alone, codes = network.net.head.bias[1].item(), importance.codes_of(plain, maps)
    assert importance.without_random(behind, plain, codes, 1, 6) == pytest.approx(alone, abs=1e-4)
    made = maps.permute(0, 2, 3, 1)
    some = torch.linalg.qr(torch.randn(6, 2, generator=torch.Generator().manual_seed(5))).Q.double()
    rest = (made.double() - made.double() @ some @ some.T).mean((0, 1, 2)).float()
    expected = network.net.head(rest)[1].item()
    assert importance.without_random(behind, plain, codes, 1, 2, seed=5) == pytest.approx(expected, abs=1e-4)


def test_all_answers_are_kept_if_all_is_kept(network: Network, plain: Dictionary) -> None:
    behind, maps = Behind(network, "relu2", 16), noise(8, 6, 8, 8) * 5
    assert importance.kept(behind, plain, maps) == 1
    nothing = Dictionary("none", torch.zeros(6, 6), torch.zeros(6), lambda vectors: vectors)
    answers = behind(maps).argmax(1)
    alone = network.net.head.bias.argmax()
    assert importance.kept(behind, nothing, maps) == (answers == alone).float().mean()


def test_the_logit_that_is_kept_lies_between_the_mean_and_the_whole(network: Network, plain: Dictionary) -> None:
    """Behind its last ReLU, `tiny` is a mean and a linear layer: halved codes keep half of the way from nothing."""
    behind, maps = Behind(network, "relu2", 16), noise(8, 6, 8, 8)
    mean = maps.mean((0, 2, 3)) * torch.tensor([1.0, 0.5, 2, 1, 0, 1])
    assert importance.recovered(behind, plain, maps, 2, mean) == pytest.approx(1, abs=1e-4)
    only_mean = Dictionary("mean", torch.zeros(1, 6), mean, lambda vectors: torch.zeros(len(vectors), 1))
    assert importance.recovered(behind, only_mean, maps, 2, mean) == pytest.approx(0, abs=1e-4)
    halfway = Dictionary("half", torch.eye(6) / 2, mean / 2, lambda vectors: vectors)
    assert importance.recovered(behind, halfway, maps, 2, mean) == pytest.approx(0.5, abs=1e-4)
