"""The copy of a network that everything is computed on: frozen, of the type asked for, laid out for speed.

One place decides the type and the layout. Half precision underflows in gradients and class activation maps, so unless
bfloat16 is asked for, a network of half precision is computed in float32; float64 stays float64.
"""

import warnings
import weakref

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from nbhelpers.models.examination import Examination, examine
from nbhelpers.models.folding import FoldedConvolution, fold
from nbhelpers.models.network import Network, sharing_copy

HALF = (torch.float16, torch.bfloat16)
_SAID: weakref.WeakKeyDictionary[nn.Module, set[str]] = weakref.WeakKeyDictionary()


def precise(network: nn.Module) -> torch.dtype:
    """The type to compute in: float64 for a network of that type, float32 for any other."""
    types = {each.dtype for each in network.parameters() if each.is_floating_point()}
    return torch.float64 if torch.float64 in types else torch.float32


def twin(network: Network, dtype: torch.dtype | None = None, gradients: bool = True) -> Network:
    """A network of the same modules and weights, frozen and laid out for speed; the original is not touched.

    Weights are shared with the original, and converted (`channels_last` where the network bears it, `dtype`) only in
    modules that run, when they first run, with those below them: a pass that stops early converts little behind the
    stop. A convolution does the work of the batch normalisation behind it where nobody looks in between. At its first
    pass the network is examined at the size of these pictures; what there is to say of its results is said as a
    warning, once.

    Args:
        network: never touched.
        dtype: to compute in; what is `precise` unless given.
        gradients: whether the way back to the picture is needed.

    Raises:
        ValueError: at the first pass, as `examine`; or `gradients` are needed, and there are none (says why).
    """
    double = sharing_copy(network)
    dtype = double.computes_in = dtype or precise(network)
    double.examined = lambda size: examine(network, size)  # a function is not copied with what it holds
    layout = torch.channels_last
    handles: weakref.WeakKeyDictionary[nn.Module, RemovableHandle] = (
        weakref.WeakKeyDictionary()
    )  # no circle of references

    def convert_all(module: nn.Module, inputs: tuple) -> None:
        # with those below it: attention uses its parts' weights without calling the parts
        with torch.inference_mode(False):
            for part in module.modules():
                if isinstance(part, FoldedConvolution) and part in handles:
                    part.take_over()
                    convert(part.behind[0])
                convert(part)

    def convert(module: nn.Module) -> None:
        if module not in handles:
            return
        handles.pop(module).remove()
        # takes bfloat16 activations with float32 statistics
        normalisation = isinstance(module, nn.modules.batchnorm._BatchNorm)
        own = torch.float32 if normalisation and dtype in HALF else dtype
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_floating_point():
                last = layout if parameter.ndim == 4 else torch.preserve_format
                module._parameters[name] = nn.Parameter(parameter.to(own, memory_format=last), requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                module._buffers[name] = buffer.to(own)

    def enter(module: nn.Module, inputs: tuple) -> tuple:
        nonlocal layout, examined
        if not examined:
            examination, examined = _examined(network, tuple(inputs[0].shape[-2:]), gradients), True
            layout = torch.channels_last if examination.channels_last else torch.contiguous_format
            fold(double.net, examination.foldable)
        return tuple(x.to(dtype, memory_format=layout) for x in inputs)

    examined = False
    for module in double.net.modules():
        if module._parameters or module._buffers:
            handles[module] = module.register_forward_pre_hook(convert_all)
    double.net.register_forward_pre_hook(enter, prepend=True)
    return double


def _examined(network: Network, size: tuple[int, int], gradients: bool) -> Examination:
    examination = examine(network, size)
    if gradients and examination.no_gradient:
        raise ValueError(
            f"{network.name} gives no gradient: {examination.no_gradient}. Every picture and map here is made from the "
            "gradient of its output with respect to the picture"
        )
    for remark in examination.remarks:
        if remark not in _SAID.setdefault(network.net, set()):
            _SAID[network.net].add(remark)
            warnings.warn(remark, stacklevel=2)
    return examination
