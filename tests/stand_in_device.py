"""A device that is none: tensors that lie in memory and claim to be on `meta`, for machines without a GPU.

    with StandIn() as device_log:
        network.to("meta")                 # has its values, on another "device"
        ...
    device_log.waits                       # the operations at which a GPU would have been waited for

As on a GPU, operations refuse tensors of two devices, numpy refuses tensors that are not on the processor, and a number
that is asked for, or a copy that does not say `non_blocking`, makes everybody wait. It computes on the processor, so it
says nothing of a GPU's own arithmetic.
"""

from __future__ import annotations

import traceback
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
DEVICE = torch.device("meta")
# the result's size depends on values, or the values themselves are asked for
WAITING = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
COPYING = {aten._to_copy, aten.copy_}


class There(Tensor):
    """A tensor on the stand-in device."""

    @staticmethod
    def __new__(cls, values: Tensor) -> There:
        return Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device=DEVICE,
        )

    def __init__(self, values: Tensor) -> None:
        self.values_here = values

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, **options: Any) -> str:
        return f"There({self.values_here!r})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise AssertionError("a tensor of the stand-in device outlived it")


class StandIn(TorchDispatchMode):
    """While it is entered, `meta` is a device that computes.

    Attributes:
        waits: the operations at which a GPU would have been waited for, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self._lists = _Lists()

    def __enter__(self) -> StandIn:
        self._lists.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._lists.__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        there = any(isinstance(each, There) for each in tensors)
        packet = function.overloadpacket
        if packet in COPYING:
            return self._copied(function, packet, args, kwargs)
        wanted = kwargs.get("device")
        if wanted is not None:
            kwargs["device"] = torch.device("cpu")
            there = there or torch.device(wanted).type == DEVICE.type
        if any(each.device == DEVICE and not isinstance(each, There) for each in tensors):
            raise RuntimeError(f"{function}: a tensor of {DEVICE} that has no values")
        if there:
            self._check(function, packet, tensors, args)
        found = function(*tree_map(_here, args), **tree_map(_here, kwargs))
        if packet is aten._local_scalar_dense:
            return found
        return self._placed(function, args, found) if there else found

    def _wait(self, function) -> None:
        frames = [f for f in traceback.extract_stack() if "/nbhelpers/" in f.filename]
        where = f" at {frames[-1].filename.rsplit('/nbhelpers/', 1)[1]}:{frames[-1].lineno}" if frames else ""
        self.waits.append(f"{function}{where}")

    def _placed(self, function, args: tuple, found: Any) -> Any:
        """The results on the stand-in device; what an operation changes in place stays the object it is."""
        changed = {id(_here(each)): each for each in tree_leaves(args) if isinstance(each, There)}

        def placed(value: Any) -> Any:
            # the wrapper can't say that its values are still to be conjugated or negated
            return changed[id(value)] if id(value) in changed else There(value.resolve_conj().resolve_neg())

        return tree_map(lambda each: placed(each) if isinstance(each, Tensor) else each, found)

    def _copied(self, function, packet, args: tuple, kwargs: dict) -> Any:
        source = args[1] if packet is aten.copy_ else args[0]
        target = args[0].device if packet is aten.copy_ else kwargs.get("device") or source.device
        hides = kwargs.get("non_blocking") or (packet is aten.copy_ and len(args) > 2 and args[2])
        to_there = torch.device(target).type == DEVICE.type
        if to_there != isinstance(source, There) and not (hides and to_there):
            self._wait(function)
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        found = function(*tree_map(_here, args), **kwargs)
        if packet is aten.copy_:
            return args[0]
        # on one device `_to_copy` is a copy; between two it always is
        return There(found) if to_there else found

    def _check(self, function, packet, tensors: list[Tensor], args: tuple) -> None:
        elsewhere = [each for each in tensors if not isinstance(each, There) and each.ndim]
        indexing = packet in INDEXING and isinstance(args[0], There)
        if indexing:  # a GPU's tensor takes places from the processor, and waits for them
            places = [each for each in args[1] if each is not None]
            if elsewhere or any(each.dtype == torch.bool for each in places):
                self._wait(function)
            elsewhere = [each for each in elsewhere if not any(each is place for place in places)]
        if elsewhere:
            raise RuntimeError(f"{function}: expected all tensors to be on one device, got {DEVICE} and cpu")
        if packet in WAITING:
            self._wait(function)


class _Lists(TorchFunctionMode):
    """What torch does before it dispatches: tensors of lists, for `meta` without their values, and other `data`."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            return function(*args, **{**kwargs, "device": None}).to(kwargs["device"])
        if function == Tensor.data.__set__ and isinstance(args[0], There):
            args[0].values_here = args[1].values_here
        if function in (Tensor.__getitem__, Tensor.__setitem__):
            places = args[1] if isinstance(args[1], tuple) else (args[1],)
            places = tuple(torch.tensor(each) if isinstance(each, list) else each for each in places)
            args = (args[0], places, *args[2:])
        return function(*args, **kwargs)


def _here(value: Any) -> Any:
    return value.values_here if isinstance(value, There) else value
