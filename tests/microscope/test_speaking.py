"""What a channel adds to the classes, against closed forms and networks without the channel."""

import copy

import pytest
import torch
from small_networks import tiny

from nbhelpers import models
from nbhelpers.microscope import made, speaking


@pytest.fixture
def network() -> models.Network:
    return models.Network(tiny().eval(), "tiny", classes=["ant", "bee", "cat", "dog", "elk"], size=32)


PHOTOS = torch.rand(20, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_before_a_linear_head_a_channel_adds_its_pooled_activation_times_the_weight(network: models.Network) -> None:
    found = speaking.contributions(network, made.layers(network), PHOTOS)
    weight = models.find_module(network, "head").weight.detach()
    pooled = models.pooled_activations(network, "relu2", PHOTOS).mean(0)
    assert torch.allclose(found["conv2"], pooled[:, None] * weight.T, atol=1e-5)
    assert torch.allclose(speaking.lost(network, "conv2", range(6), PHOTOS), found["conv2"], atol=1e-5)


def test_earlier_layers_by_brute_force(network: models.Network) -> None:
    found = speaking.contributions(network, made.layers(network), PHOTOS)["conv1"]
    plain = models.find_module(network, "")
    before = network(PHOTOS).detach().mean(0)
    falls = speaking.lost(network, "conv1", [5, 2], PHOTOS)
    step = 1e-2
    for row, channel in zip(falls, [5, 2], strict=True):
        scaled = {}
        for factor in (0.0, 1 - step, 1 + step):
            double = copy.deepcopy(plain)
            convolution = models.find_module(double, "conv1")
            convolution.weight.data[channel] *= factor
            convolution.bias.data[channel] *= factor
            scaled[factor] = double(PHOTOS).detach().mean(0)
        assert torch.allclose(row, before - scaled[0.0], atol=1e-6)
        slope = (scaled[1 + step] - scaled[1 - step]) / (2 * step)
        assert torch.allclose(found[channel], slope, atol=2e-4)


def test_the_network_is_left_as_it_was(network: models.Network) -> None:
    before = network(PHOTOS)
    speaking.lost(network, "conv1", [0], PHOTOS)
    assert torch.equal(network(PHOTOS), before)
    assert not any(module._forward_hooks for module in network.modules())
