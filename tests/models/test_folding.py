"""A twin whose convolutions normalise gives the network's own numbers, and the network's own layers."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models as torchvision_models

from nbhelpers import models
from nbhelpers.models.folding import FoldedConvolution

SIDE = 16


def lively(net: nn.Module, seed: int = 0) -> nn.Module:
    """The same in evaluation mode, its statistics drawn at random, such that normalising changes something."""
    drawn = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.5), (module.running_var, 0.5), (module.weight, 0.5)):
                if tensor is not None:
                    with torch.no_grad():
                        tensor.copy_(low + torch.rand(tensor.shape, generator=drawn).to(tensor))
    return net.eval()


class Read(nn.Module):
    """A convolution and a normalisation; a function of both and of the picture makes the maps."""

    def __init__(self, maps: Callable[["Read", Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)
        self.maps = maps

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.maps(self, pictures).relu().mean((2, 3)))


def behind(net: Read, pictures: Tensor) -> Tensor:
    return net.norm(net.conv(pictures))


def also_added(net: Read, pictures: Tensor) -> Tensor:
    maps = net.conv(pictures)
    return net.norm(maps) + maps


def after_a_function(net: Read, pictures: Tensor) -> Tensor:
    return net.norm(net.conv(pictures).relu())


def in_place(net: Read, pictures: Tensor) -> Tensor:
    return net.norm(net.conv(pictures)).relu_().neg()


def normalised_twice(net: Read, pictures: Tensor) -> Tensor:
    return net.norm(net.norm(net.conv(pictures)))


def convolved_twice(net: Read, pictures: Tensor) -> Tensor:
    return net.norm(net.conv(pictures)) + net.conv(pictures.flip(3))


def kept_in_a_list(net: Read, pictures: Tensor) -> Tensor:
    kept = [net.conv(pictures)]
    return torch.cat([net.norm(kept[0]), kept[0]])[: len(pictures)]


def folded(network: models.Network, size: int) -> list[str]:
    """Names of the convolutions of a twin that normalise, after a pass."""
    double = models.twin(network)
    double(torch.rand(2, 3, size, size))
    return [name for name, each in double.net.named_modules() if isinstance(each, FoldedConvolution)]


def answers(double: models.Network, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of one of each picture with respect to its pixels."""
    pictures = pictures.clone().requires_grad_()
    logits = double(pictures)
    return logits.detach(), torch.autograd.grad(logits[:, 1].sum(), pictures)[0]


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        (behind, ["conv"]),
        (in_place, ["conv"]),
        (also_added, []),
        (after_a_function, []),
        (normalised_twice, []),
        (convolved_twice, []),
        (kept_in_a_list, []),
    ],
)
def test_only_what_a_normalisation_alone_reads_is_folded(
    maps: Callable[[Read, Tensor], Tensor], expected: list[str]
) -> None:
    net = lively(Read(maps)).double()
    network = models.Network(net, size=SIDE)
    assert folded(network, SIDE) == expected
    pictures = torch.rand(3, 3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for made, wanted in zip(answers(models.twin(network), pictures), answers(network, pictures), strict=True):
        torch.testing.assert_close(made, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121", "efficientnet_b0", "shufflenet_v2_x0_5"])
def test_a_networks_logits_and_gradients_stay(name: str) -> None:
    torch.manual_seed(0)
    net = lively(getattr(torchvision_models, name)(weights=None)).double()
    network = models.Network(net, size=64)
    double = models.twin(network)
    pictures = torch.rand(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for made, wanted in zip(answers(double, pictures), answers(network, pictures), strict=True):
        torch.testing.assert_close(made, wanted, rtol=1e-8, atol=1e-8 * wanted.abs().max().item())
    norms = sum(isinstance(each, nn.BatchNorm2d) for each in net.modules())
    assert len(folded(network, 64)) > norms / 3


@pytest.mark.parametrize("layer", ["conv", "norm"])
def test_each_layer_shows_its_own_numbers(layer: str) -> None:
    """Also one that is looked at after the twin has run, and at a copy of the twin."""
    net = lively(Read(behind)).double()
    network = models.Network(net, size=SIDE)
    pictures = torch.rand(2, 3, SIDE, SIDE, dtype=torch.float64)
    wanted = models.capture(network, layer)(pictures)[layer]
    double = models.twin(network)
    double(pictures)
    copy = models.capture(double, layer)
    for look in (copy, models.Capture(double, layer)):
        torch.testing.assert_close(look(pictures)[layer], wanted, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(look.network(pictures), network(pictures), rtol=1e-12, atol=1e-12)


def test_what_is_put_between_the_two_is_normalised() -> None:
    net = lively(Read(behind)).double()
    network = models.Network(net, size=SIDE)
    pictures = torch.rand(2, 3, SIDE, SIDE, dtype=torch.float64)
    double = models.twin(network)
    double(pictures)
    double.net.norm.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
    wanted = net.head(net.norm(2 * net.conv(network.normalise(pictures))).relu().mean((2, 3)))
    torch.testing.assert_close(double(pictures), wanted, rtol=1e-12, atol=1e-12)


def test_hooks_of_the_readers_own_still_act() -> None:
    net = lively(Read(behind)).double()
    net.norm.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
    network = models.Network(net, size=SIDE)
    pictures = torch.rand(2, 3, SIDE, SIDE, dtype=torch.float64)
    torch.testing.assert_close(models.twin(network)(pictures), network(pictures), rtol=1e-12, atol=1e-12)


def test_a_reader_that_is_the_answer_itself_keeps_it() -> None:
    class Both(Read):
        def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
            maps = self.conv(pictures)
            return self.head(F.relu(self.norm(maps)).mean((2, 3))), maps

    network = models.Network(lively(Both(behind)), size=SIDE, output=lambda given: given[0])
    assert folded(network, SIDE) == []


def test_the_network_itself_is_left_alone() -> None:
    net = lively(Read(behind))
    before = {name: each.clone() for name, each in net.state_dict().items()}
    models.twin(models.Network(net, size=SIDE))(torch.rand(2, 3, SIDE, SIDE))
    assert type(net.conv) is nn.Conv2d
    assert type(net.norm) is nn.BatchNorm2d
    assert all(torch.equal(each, before[name]) for name, each in net.state_dict().items())
