"""ReLUs whose gradient is another one, in a network that is left alone.

It is the function that is replaced while a block runs, not a module, so a ReLU without a module of its own, one that
runs twice, and one that works in place, even as a statement, are all reached.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

RELUS = frozenset({torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, nn.functional.relu})
CLAMPS = frozenset({torch.clamp, Tensor.clamp, torch.clamp_min, Tensor.clamp_min, Tensor.clamp_, Tensor.clamp_min_})
IN_PLACE = frozenset({torch.relu_, Tensor.relu_, Tensor.clamp_, Tensor.clamp_min_})
# activations that are no ReLU: what is said of ReLUs does not hold for them
OTHERS = {
    function: function.__name__
    for function in (
        nn.functional.silu, nn.functional.hardswish, nn.functional.gelu, nn.functional.mish, nn.functional.leaky_relu,
        nn.functional.elu, nn.functional.selu, nn.functional.celu, nn.functional.softplus, nn.functional.prelu,
    )
}  # fmt: skip


class Rectifiers(TorchFunctionMode):
    """Within this context every ReLU is another function, of the same values.

    Attributes:
        replaced: how many ReLUs ran so far.
        others: how often each other kind of activation ran, by its name in `torch.nn.functional`.
    """

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        """The function gets the input of the ReLU and its ceiling, infinite but for ReLU6."""
        super().__init__()
        self._function = function
        self.replaced = 0
        self.others: dict[str, int] = {}

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        ceiling = _ceiling(function, args, kwargs)
        if ceiling is None:
            if function in OTHERS:
                self.others[OTHERS[function]] = self.others.get(OTHERS[function], 0) + 1
            return function(*args, **kwargs)
        self.replaced += 1
        inputs = args[0] if args else kwargs["input"]
        output = self._function.apply(inputs, ceiling)
        place = {nn.functional.relu: 1, nn.functional.relu6: 1, nn.functional.hardtanh: 3}.get(function, len(args))
        in_place = function in IN_PLACE or kwargs.get("inplace", args[place] if place < len(args) else False)
        return inputs.copy_(output) if in_place else output


def _ceiling(function: Any, args: tuple, kwargs: dict) -> float | None:
    """Of a ReLU, what it cuts off above; None for any other function."""
    if function in RELUS:
        return float("inf")
    if function is nn.functional.relu6:
        return 6.0
    if function is nn.functional.hardtanh:  # what nn.ReLU6 calls
        low, high = (*args[1:3], *(None, None))[:2]
        low, high = kwargs.get("min_val", low), kwargs.get("max_val", high)
        return float(1 if high is None else high) if low == 0 else None
    if function in CLAMPS:
        low, high = (*args[1:3], *(None, None))[:2]
        low, high = kwargs.get("min", low), kwargs.get("max", high)
        return float("inf") if high is None and not isinstance(low, Tensor) and low == 0 else None
    return None
