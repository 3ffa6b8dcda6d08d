"""Circuits by weight: against the network's own derivative, and refused where weights do not tell."""

import torch
from small_networks import Small, tiny

from nbhelpers import models
from nbhelpers.microscope import circuits, made
from nbhelpers.models import Network


def test_kernels_are_the_derivative_of_the_next_layer() -> None:
    network = Network(tiny().eval().double(), "tiny", size=16)
    first, second = made.layers(network)
    weights = circuits.kernels(network, first, second)
    middle = torch.zeros(1, 8, 16, 16, dtype=torch.float64, requires_grad=True)
    maps = network.net.conv2(middle)
    for channel in range(6):
        (gradient,) = torch.autograd.grad(maps[0, channel, 3, 3], middle, retain_graph=True)
        torch.testing.assert_close(weights[channel], gradient[0, :, 5:8, 5:8].float())


def test_bundled_network_is_a_chain_and_its_strongest_inputs_are_the_largest_sums() -> None:
    network = models.load("minivgg_robust")
    chosen = made.layers(network)
    told = circuits.facts(network, chosen)
    for index in range(1, len(chosen)):
        sums = models.find_module(network, chosen[index].name).weight.sum((2, 3))
        fact = told[index][7]
        assert fact["excited"][0]["channel"] == int(sums[7].argmax())
        assert fact["inhibited"][0]["channel"] == int(sums[7].argmin())
        assert told[index - 1][7]["feeds"][0]["channel"] == int(sums[:, 7].abs().argmax())


def test_what_reads_something_else_has_no_circuit() -> None:
    module = Small().eval()
    module.norm.running_mean.fill_(0.5)
    network = Network(module, "small", size=16)
    first, second = made.layers(network)
    assert circuits.kernels(network, first, second) is None
    assert circuits.facts(network, [first, second]) == [[{}] * 8, [{}] * 8]
