"""Circuits by weight: against the network's own derivative, and refused where weights do not tell."""

import torch
from small_networks import Small, noise, tiny

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


def test_photographs_tell_what_is_added_where_weights_do_not() -> None:
    module = Small().eval().double()
    module.norm.running_mean.fill_(0.1)
    network, photos = Network(module, "small", size=16), noise(5, 3, 16, 16).double()
    first, second = made.layers(network)
    adds = circuits.added(network, first, second, photos)
    scale = torch.ones(8, dtype=torch.float64)
    look = models.capture(network, "second")
    models.find_module(look.network, "first").register_forward_hook(lambda *given: given[2] * scale[:, None, None])

    def means() -> torch.Tensor:
        return look(photos)["second"].detach().mean((0, 2, 3))

    for channel in range(8):  # a channel a little louder, and a little quieter
        scale[channel] = 1 + 1e-5
        louder = means()
        scale[channel] = 1 - 1e-5
        slope = (louder - means()) / 2e-5
        scale[channel] = 1
        torch.testing.assert_close(adds[:, channel], slope.float(), atol=1e-4, rtol=1e-3)
    told = circuits.facts(network, [first, second], photos)
    assert told[1][2]["excited"][0]["channel"] == int(adds[2].argmax())
    assert "kernel" not in told[1][2]["excited"][0]
    assert "gradient times activation" in told[1][2]["circuit_note"]
    assert told[0][3]["feeds"][0]["channel"] == int(adds[:, 3].abs().argmax())


class Branches(torch.nn.Module):
    """Two convolutions side by side that read the same one, as in SqueezeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.small, self.large = (torch.nn.Conv2d(*each) for each in ((3, 4, 1), (4, 6, 1), (4, 6, 1)))

    def forward(self, pictures):
        read = self.squeeze(pictures).relu()
        return torch.cat([self.small(read), self.large(read)], 1).mean((2, 3))


def test_a_layer_beside_is_no_layer_before() -> None:
    network = Network(Branches().eval(), "branches", size=16)
    told = circuits.facts(network, made.layers(network), noise(2, 3, 16, 16))
    assert told[2][0]["excited"][0]["layer"] == "squeeze"
    assert "exact" in told[2][0]["circuit_note"]
    assert "feeds" not in told[1][0]
    assert told[0][0]["feeds"][0]["layer"] == "small"
