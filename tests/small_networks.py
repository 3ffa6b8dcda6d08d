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
    values = before.pop("values"), after.pop("values")
    equal = all(torch.equal(values[0][name], values[1][name]) for name in values[0])
    return equal and before == after
