"""Networks small enough to be checked by hand, and what a network looks like from outside before and after."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn


def tiny(seed: int = 0) -> nn.Sequential:
    """Two convolutions with in-place ReLUs and a head: `conv1`, `relu1`, `conv2`, `relu2`, `pool`, `flat`, `head`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = OrderedDict(
            conv1=nn.Conv2d(3, 8, 3, padding=1),
            relu1=nn.ReLU(inplace=True),
            conv2=nn.Conv2d(8, 6, 3, stride=2, padding=1),
            relu2=nn.ReLU(inplace=True),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            head=nn.Linear(6, 5),
        )
    return nn.Sequential(layers)


class Small(nn.Module):
    """Two convolutions with a residual connection, and a head."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, classes)

    def forward(self, pictures):
        features = self.norm(self.first(pictures)).relu()
        features = features + self.second(features).relu()
        return self.head(self.drop(features.mean((2, 3))))


class Bare(nn.Module):
    """A projection that is used without being called, as within an attention, and one that is not used at all."""

    def __init__(self) -> None:
        super().__init__()
        self.projection, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, features):
        return nn.functional.linear(features, self.projection.weight, self.projection.bias)


class Holder(nn.Module):
    """A convolution, a `Bare` block, a normalisation and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.block, self.norm, self.head = nn.Conv2d(3, 4, 1), Bare(), nn.LayerNorm(4), nn.Linear(4, 5)

    def forward(self, pictures):
        return self.head(self.norm(self.block(self.first(pictures).mean((2, 3)))))


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Seeded uniform noise in [0, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def outside(network: nn.Module) -> dict[str, Any]:
    """Everything a user could find changed: values, gradients, flags, hooks and attributes of every module."""
    return {
        "values": {name: tensor.clone() for name, tensor in network.state_dict().items()},
        "identities": [id(parameter) for parameter in network.parameters()],
        "layouts": [parameter.stride() for parameter in network.parameters()],
        "gradients": [parameter.grad for parameter in network.parameters()],
        "requires_grad": [parameter.requires_grad for parameter in network.parameters()],
        "training": [module.training for module in network.modules()],
        "hooks": [
            len(hooks)
            for module in network.modules()
            for hooks in (
                module._forward_hooks,
                module._forward_pre_hooks,
                module._backward_hooks,
                module._backward_pre_hooks,
            )
        ],
        "attributes": [sorted(vars(module)) for module in network.modules()],
    }


def same_outside(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether nothing has changed, bit for bit."""
    values = before["values"], after["values"]
    equal = all(torch.equal(values[0][name], values[1][name]) for name in values[0])
    return equal and before | {"values": None} == after | {"values": None}
