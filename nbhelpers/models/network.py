"""A network together with its preprocessing, and its copy that has learned nothing.

Every picture in this package is `(B, 3, H, W)` float32 in [0, 1]. What a network was trained on besides that (its
normalisation, grey pictures, another type) and what it answers with besides logits belongs to the network and is dealt
with inside it, so a technique never asks which network it looks at.
"""

import contextlib
import copy
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nbhelpers import edge

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow turns colour into grey
Size = int | tuple[int, int]
_drawing = threading.RLock()


class Network(nn.Module):
    """A network together with what it needs to look at a picture in [0, 1].

    Layer names are those of the bare module `net` (`"block3.conv2"`, `"features.24"`); `""` is its output.

    Args:
        net: the bare module, pictures `(B, channels, H, W)` in, logits `(B, classes)` out. Of a tuple or a list the
            first `(B, classes)` counts, of a dictionary `"logits"` or `"out"`.
        name: what to call it in titles and messages; the module's class unless given.
        classes: class names in the order of the logits, or None where they are not known.
        size: side of the pictures it is at home with, in pixels, or `(height, width)`.
        mean: per channel, subtracted from the picture first; 0 unless given.
        std: per channel, what the difference is divided by; 1 unless given.
        channels: colours of its pictures; what its first convolution takes unless given. One: photos become grey.
        output: from what the module gives to logits `(B, classes)`, where the rule above finds the wrong ones or none.
    """

    def __init__(
        self,
        net: nn.Module,
        name: str | None = None,
        classes: Sequence[str] | None = None,
        size: Size | list[int] = 224,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        channels: int | None = None,
        output: Callable[[Any], Shaped[Tensor, "..."]] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.name = type(net).__name__ if name is None else name
        self.classes = None if classes is None else list(classes)
        self.size = size if isinstance(size, int) else (int(size[0]), int(size[1]))
        self.training = net.training
        given = next((len(values) for values in (mean, std) if values is not None), None)
        self.channels = channels or given or _channels_taken(net, self.size)
        self.output = output
        self.computes_in: torch.dtype | None = None  # set where the bare module casts what it is given
        self.examined: Callable[[Size], Any] | None = None  # set on a twin: what is known of the network it is one of
        like = next((each for each in net.parameters() if each.is_floating_point()), torch.empty(0))
        precise = torch.float64 if like.dtype == torch.float64 else torch.float32
        for called, values, default in (("mean", mean, 0.0), ("std", std, 1.0)):
            values = [default] * self.channels if values is None else list(values)
            if len(values) != self.channels:
                raise ValueError(
                    f"{self.name} takes pictures of {self.channels} channels, and its {called} has {len(values)} "
                    "values: give one per channel"
                )
            tensor = torch.tensor(values, dtype=precise, device=like.device).view(self.channels, 1, 1)
            self.register_buffer(called, tensor, persistent=False)
        self._plain = not any(mean or ()) and all(value == 1 for value in std or ())

    def normalise(
        self, pictures: Float[Tensor, "*pictures colours height width"]
    ) -> Float[Tensor, "*pictures channels height width"]:
        """The pictures as the bare module wants them: on its device, of its type and channels, normalised."""
        # a picture that is laid out in another way is the same picture, and a module that uses `view` wants this one
        given, pictures = pictures, pictures.to(self.mean).contiguous()
        if pictures.shape[-3] != self.channels:
            pictures = self._recoloured(pictures)
        if not self._plain:
            pictures = (pictures - self.mean) / self.std
        like = next((each for each in self.net.parameters() if each.is_floating_point()), pictures)
        pictures = pictures.to(self.computes_in or like.dtype)
        return pictures.clone() if pictures is given else pictures  # a module may begin with something in place

    def forward(self, pictures: Float[Tensor, "*pictures colours height width"]) -> Any:
        """Logits `(B, classes)` of pictures `(B, 3, H, W)` in [0, 1], or of as many channels as the network takes."""
        return self.logits(self.net(self.normalise(pictures)), len(pictures))

    def logits(self, given: Any, count: int) -> Any:
        """Of what the bare module gives for `count` pictures, the class logits; as it is where there are none."""
        if self.output is not None:
            return self.output(given)
        found = answers(given, count)
        return next(iter(found.values())) if found else given

    def class_name(self, number: int) -> str:
        """What a class is called: its name, or `class 7` where the names are not known."""
        return f"class {number}" if self.classes is None else self.classes[number]

    def extra_repr(self) -> str:
        known = "classes not named" if self.classes is None else f"{len(self.classes)} classes"
        height, width = sides(self.size)
        return f"{self.name!r}, {height if height == width else f'{height} x {width}'} pixels, {known}"

    def _recoloured(self, pictures: Tensor) -> Tensor:
        colours = pictures.shape[-3]
        if self.channels == 1 and colours == 3:
            weights = torch.tensor(GREY, dtype=pictures.dtype, device=pictures.device).view(3, 1, 1)
            return (pictures * weights).sum(-3, keepdim=True)
        if self.channels == 3 and colours == 1:
            return pictures.expand(*pictures.shape[:-3], 3, *pictures.shape[-2:])
        raise Unfit(
            f"{self.name} takes pictures of {self.channels} channels, got {colours}: photos have three colours, so it "
            f"needs tensors (B, {self.channels}, H, W) of your own. If it is {self.channels} by mistake, say "
            "Network(module, channels=...)"
        )


def sides(size: Size | Sequence[int]) -> tuple[int, int]:
    """Height and width in pixels."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def answers(given: Any, count: int) -> dict[str, Shaped[Tensor, "..."]]:
    """What may be the class logits in a module's output for `count` pictures, by name, the most likely first.

    Of several, those called `logits` or `out` come first, then those of shape `(count, classes)`, in order.
    """
    if isinstance(given, Tensor):
        return {"": given}
    entries = (
        given.items() if isinstance(given, Mapping) else enumerate(given) if isinstance(given, list | tuple) else ()
    )
    tensors = {str(name): value for name, value in entries if isinstance(value, Tensor)}
    fitting = {name: value for name, value in tensors.items() if value.ndim == 2 and len(value) == count}
    named = {name: tensors[name] for name in ("logits", "out") if name in tensors}
    return named | fitting


def _channels_taken(net: nn.Module, size: Size) -> int:
    """Channels of the pictures that a module takes: what its first convolution says, if a pass bears it out."""
    stated = [module.in_channels for module in net.modules() if isinstance(module, nn.Conv2d) and module.in_channels]
    if not stated or stated[0] == 3:
        return 3
    for channels in dict.fromkeys([3, *stated]):  # the first one that is written down need not be the first to run
        for count in (0, 1):
            with contextlib.suppress(Exception), torch.no_grad():
                double = sharing_copy(net)
                like = next((each for each in double.parameters() if each.is_floating_point()), torch.empty(0))
                double(like.new_zeros(count, channels, *sides(size)))
                return channels
    return stated[0]


def randomised_copy(network: Network, seed: int) -> Network:
    """What `nbhelpers.models.randomised` returns, from a network."""
    double = copied(network).cpu()
    with drawn_from(seed) as generator:
        for module in double.net.modules():
            reinitialise(module, generator)
    double.name = f"{network.name} (random)"
    return double.to(network.mean.device)


def copied(module: nn.Module, shared: Mapping[int, Any] | None = None) -> Any:
    """A deep copy that works after the module was used, whatever its last pass left on it.

    Tensors that a module keeps from its last pass are copied without their graph, which torch refuses to copy. Hooks
    (the user's, or left behind by another library) go on working; what they hold is not copied.

    Args:
        module: left as it is.
        shared: what stands in the copy for objects of the original, by the original's `id`.
    """
    memo: dict[int, Any] = {}
    for each in module.modules():
        memo |= {id(tensor): tensor.detach() for tensor in _kept(vars(each)) if not tensor.is_leaf}
        memo |= {id(value): value.copy() for name, value in vars(each).items() if name.endswith("_hooks")}
    memo |= dict(shared or {})
    try:
        double = copy.deepcopy(module, memo)
    except Exception as error:  # whatever an object of the user's own raises
        raise Unfit(_in_the_way(module, memo, error)) from error
    for each in double.modules():
        forward = vars(each).get("forward")
        if isinstance(forward, types.FunctionType):
            each.forward = _rebound(forward, memo)
    return double


class Unfit(ValueError):
    """A module cannot be looked into, whatever the pictures; the message says why."""


def _in_the_way(module: nn.Module, memo: dict[int, Any], error: Exception) -> str:
    module = module.net if isinstance(module, Network) else module
    for name, each in module.named_modules():
        for attribute, value in vars(each).items():
            if attribute.startswith("_") and attribute in nn.Module().__dict__:
                continue
            try:
                copy.deepcopy(value, dict(memo))
            except Exception as own:
                where = f"{name}.{attribute}" if name else attribute
                return (
                    f"{type(module).__name__} cannot be copied, and it is a copy that is looked into: its attribute "
                    f"{where!r} is a {type(value).__name__} ({own}). Delete it before you hand the network over "
                    f"(del net.{where}), or give its class a __deepcopy__"
                )
    return f"{type(module).__name__} cannot be copied, and it is a copy that is looked into ({error})"


def _rebound(function: types.FunctionType, memo: dict[int, Any]) -> types.FunctionType:
    """A function that means the copies wherever it named the modules: net.forward = lambda x: net.head(x).mean(1)."""

    def copy_of(value: Any) -> Any:
        if isinstance(value, types.MethodType) and id(value.__self__) in memo:
            return types.MethodType(value.__func__, memo[id(value.__self__)])
        return memo.get(id(value), value) if isinstance(value, nn.Module) else value

    closure = tuple(types.CellType(copy_of(cell.cell_contents)) for cell in function.__closure__ or ())
    names = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    meant = {name: copy_of(value) for name, value in names.items()}
    if all(meant[name] is names[name] for name in names) and not closure:
        return function
    rebound = types.FunctionType(
        function.__code__, {**function.__globals__, **meant}, function.__name__, function.__defaults__, closure or None
    )
    rebound.__kwdefaults__ = function.__kwdefaults__
    return rebound


def sharing_copy(network: nn.Module) -> Any:
    """A copy in evaluation mode with the same, frozen weights: what is hooked into it leaves the original alone.

    So a slider's thread and a cell can look into one network at the same time.

    Raises:
        Unfit: it cannot be copied, or its copy could not be looked into; says why.
    """
    name = network.name if isinstance(network, Network) else type(network).__name__
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise Unfit(f"{name} is TorchScript, whose layers cannot be looked into: give the nn.Module it was made from")
    if lazy := [name for name, each in network.named_parameters() if is_lazy(each)]:
        named = edge.few(repr(each.removeprefix("net.")) for each in lazy)
        raise Unfit(
            f"{name} has not seen a picture yet, so {named} have no size: run it once before, "
            "net(torch.zeros(1, 3, height, width))"
        )
    shared = {}
    with torch.inference_mode(False):
        for tensor in network.parameters():
            # nothing can be differentiated through a tensor that was made in inference mode
            frozen = tensor.clone() if tensor.is_inference() else tensor.detach()
            shared[id(tensor)] = nn.Parameter(frozen, requires_grad=False)
        # some forward passes count or average: that is the copy's own affair
        shared |= {id(tensor): tensor.detach().clone() for tensor in network.buffers()}
        return copied(network, shared).eval()


def quiet_copy(network: nn.Module) -> Any:
    """A `sharing_copy` to try things on: without the user's own hooks, which would hear of passes that are none."""
    double = sharing_copy(network)
    for module in double.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                # functions would act on what they hold of the original; weight norm's hooks are objects
                if isinstance(hook, types.FunctionType | types.MethodType):
                    del hooks[key]
    return double


def _kept(value: object) -> Iterator[Tensor]:
    """The tensors in a module's attributes, also in lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _kept(inner)


@contextmanager
def drawn_from(seed: int) -> Iterator[torch.Generator]:
    """Torch's processor randomness from this seed, and the global state put back afterwards.

    The global state is one for all threads, so only one of them is within at a time.

    Yields:
        A generator of the same seed, for what need not be drawn from the global state.
    """
    with _drawing, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


@torch.no_grad()
def reinitialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw a module's own parameters anew, in place, as `nbhelpers.models.randomised` says; not those within it.

    To be called within `drawn_from`, with its generator.
    """
    linear = isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
    if linear and "weight" in module._parameters:
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        if module.bias is not None:
            module.bias.zero_()
        return
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    if reset is not None and not linear:
        reset()
        return
    # nobody knows how to draw these, or (weight norm) the weight is computed from them
    for parameter in module.parameters(recurse=False):
        shuffled = parameter.flatten()[torch.randperm(parameter.numel(), generator=generator)]
        parameter.copy_(shuffled.view_as(parameter))
