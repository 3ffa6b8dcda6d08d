"""What kind of network somebody brought: learned by trial passes on a copy, or refused with the cause.

    examination = examine(network, 224)
    examination.classes, examination.channels_last, examination.no_gradient

Each network is examined once per picture size. What is wrong with a network is said here and nowhere else: `refusal`
turns an error of its own code into the cause (its kind, its inputs, its channels, its size) and what to do about it.
"""

from __future__ import annotations

import inspect
import itertools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from nbhelpers import edge
from nbhelpers.models.folding import run_watched
from nbhelpers.models.network import Network, Size, Unfit, answers, quiet_copy, sides

SIDES = (
    8,
    16,
    24,
    28,
    32,
    48,
    64,
    96,
    128,
    160,
    192,
    224,
    240,
    256,
    299,
    320,
    384,
    448,
    512,
)  # what networks are made for
ALIKE = 1e-3  # two results that differ by less, as a share of the logits' spread, differ by rounding


@dataclass(frozen=True)
class Examination:
    """What trial passes told of a network at one picture size.

    Attributes:
        output: what the network gives, in words.
        classes: how many logits, or None where it gives no `(B, classes)`.
        channels_last: whether it bears pictures that are laid out so, which is faster.
        no_gradient: why the logits have no gradient with respect to the picture; "" where they have one.
        remarks: what a user should know of its results, one sentence each.
        foldable: names of convolutions and of the batch normalisations that alone read what they give.
        largest: numbers in the largest tensor that is computed on the way, for one picture.
    """

    output: str
    classes: int | None
    channels_last: bool
    no_gradient: str
    remarks: tuple[str, ...]
    foldable: tuple[tuple[str, str], ...]
    largest: int


_known: weakref.WeakKeyDictionary[nn.Module, dict[Any, Examination]] = weakref.WeakKeyDictionary()


def examine(network: Network, size: Size) -> Examination:
    """What is known of a network at this picture size.

    Args:
        network: left as it is.
        size: side of the pictures in pixels, or (height, width).

    Raises:
        ValueError: it does not take such pictures, or cannot be looked into; the message names the cause.
    """
    key = (sides(size), network.channels, network.output, _mark(network.net))
    found = _known.setdefault(network.net, {})
    if key not in found:
        found[key] = _examined(network, size)
    return found[key]


@contextmanager
def differentiable() -> Iterator[None]:
    """Gradients are on within it, also where the caller switched them off or is in inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def outside_inference(generator: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """The same steps, each made outside of the caller's inference mode, in which nothing can be differentiated."""

    @wraps(generator)
    def steps(*arguments: Any, **options: Any) -> Iterator[Any]:
        going = generator(*arguments, **options)
        try:
            while True:
                with torch.inference_mode(False):
                    step = next(going, None)
                if step is None:
                    return
                yield step
        finally:
            going.close()

    return steps


def takes(network: Network, size: Size) -> bool:
    """Whether the network runs on pictures of this size, in pixels: (height, width), or the side of a square."""
    return _passes(network, size, network.channels)


def refusal(network: Network, size: Size, error: Exception) -> ValueError:
    """What to raise where a network fails on pictures of this size: the cause, and what to do."""
    if isinstance(error, Unfit):
        return error
    height, width = sides(size)
    if _passes(network, size, network.channels):
        return ValueError(f"{network.name}, pictures of {height} x {width} pixels: {first_line(error)}")
    cause = _by_kind(network.net) or _by_inputs(network.net) or _by_channels(network, size) or _by_size(network, size)
    return ValueError(
        f"{network.name} {cause}"
        if cause
        else f"{network.name} fails on pictures of {height} x {width} pixels, and at other sizes, by an error of its "
        f"own: {first_line(error)}. Make it run first: net.eval()(torch.rand(1, {network.channels}, {height}, {width}))"
    )


def _by_kind(net: nn.Module) -> str:
    first = next((each for each in net.modules() if isinstance(each, nn.modules.conv._ConvNd)), None)
    for kind, shape in (
        (nn.Conv3d, "volumes (B, channels, depth, height, width)"),
        (nn.Conv1d, "(B, channels, length)"),
    ):
        if isinstance(first, kind):
            return f"takes {shape}, not pictures: its first convolution is a {kind.__name__}"
    return ""


def quantized(net: nn.Module) -> str:
    """Dotted name of the first quantized layer; "" where there is none."""
    names = (name for name, module in net.named_modules() if ".quantized" in type(module).__module__)
    return next(names, "")


def trial_pictures(network: Network, size: Size, count: int) -> Float[Tensor, "count channels height width"]:
    """Seeded noise as pictures, on the network's device."""
    noise = torch.rand(
        count, network.channels, *sides(size), generator=torch.Generator().manual_seed(0), dtype=torch.float32
    )
    return noise.to(network.mean)


def first_line(error: Exception) -> str:
    """An error in one line, for quoting it in another."""
    return edge.short((str(error).strip() or type(error).__name__).splitlines()[0])


def _examined(network: Network, size: Size) -> Examination:
    pictures = trial_pictures(network, size, 3)
    try:
        double = quiet_copy(network)
        with differentiable():
            shown = pictures[:2].clone().requires_grad_()
            watched = run_watched(double.net, double.normalise(shown))
            given = double.logits(watched.given, 2)
    except Exception as error:  # a module of the user's own may raise anything
        raise refusal(network, size, error) from error
    proper = isinstance(given, Tensor) and given.ndim == 2 and len(given) == 2
    why = _no_gradient(network, given, shown, size)
    remarks = _several(network, watched.given)
    beside, channels_last = _second_pass(double, pictures[[2, 0]])
    if isinstance(given, Tensor) and given.is_floating_point() and len(given) == 2:
        more, channels_last = _unsteady(double, pictures, given.detach(), beside, channels_last)
        remarks += more
    classes = given.shape[1] if proper else None
    return Examination(
        described(given, 2), classes, channels_last, why, tuple(remarks), watched.foldable, watched.largest
    )


@torch.no_grad()
def _second_pass(double: Network, pictures: Tensor) -> tuple[Any, bool]:
    """A pass laid out `channels_last` if the network bears it, and whether it does."""
    normalised = double.normalise(pictures)
    try:
        return double.logits(double.net(normalised.contiguous(memory_format=torch.channels_last)), 2), True
    except RuntimeError:  # `view` needs one layout, and has it
        return double.logits(double.net(normalised), 2), False


@torch.no_grad()
def _unsteady(
    double: Network, pictures: Tensor, given: Tensor, beside: Any, channels_last: bool
) -> tuple[list[str], bool]:
    """What makes the results depend on more than the picture, and whether `channels_last` is still borne."""
    spread = given.float().std().item() or 1.0

    def apart(one: Tensor, other: Tensor) -> float:
        return (one - other).abs().max().item()

    if apart(beside[1], given[0]) <= ALIKE * spread or not given.isfinite().all():
        return [], channels_last
    again = double(pictures[:2])
    if (difference := apart(again, given)) > ALIKE * spread:
        remark = (
            f"{double.name} gives another result at each call, by up to {difference:.2g} in a logit (dropout that "
            "stays on in evaluation mode?): nothing made with it comes out the same twice"
        )
        return [remark], channels_last
    if (difference := apart(double(pictures[[2, 0]])[1], given[0])) > ALIKE * spread:
        remark = (
            f"{double.name}'s result for a picture depends on the others of its batch, by up to {difference:.2g} in a "
            "logit (batch normalisation without statistics?): give photos one by one where that matters"
        )
        return [remark], channels_last
    return [], False


def _several(network: Network, raw: Any) -> list[str]:
    found = {} if network.output is not None or isinstance(raw, Tensor) else answers(raw, 2)
    if len(found) < 2:
        return []
    shapes = ", ".join(f"{name!r} {tuple(value.shape)}" for name, value in found.items())
    return [
        f"{network.name} gives several tensors that could be logits: {shapes}. The first one counts; "
        "Network(module, output=lambda out: out[...]) takes another"
    ]


def described(given: Any, batch: int | None = None) -> str:
    """What a network gave, in words; of a tensor for so many pictures the first size is called B."""
    if isinstance(given, Tensor):
        named = ["B" if place == 0 and each == batch else str(each) for place, each in enumerate(given.shape)]
        return f"a tensor ({', '.join(named)})"
    if isinstance(given, dict):
        return f"a {type(given).__name__} of {edge.few(map(repr, given))}"
    if isinstance(given, list | tuple):
        return f"a {type(given).__name__} of {len(given)} ({edge.few(type(each).__name__ for each in given)})"
    return f"a {type(given).__name__}"


def _no_gradient(network: Network, given: Any, pictures: Tensor, size: Size) -> str:
    """Why there is no way back from the logits to the pictures; "" where there is one."""
    if not isinstance(given, Tensor):
        return ""
    name = quantized(network.net)
    if name:
        return f"layer {name!r} is quantized, and a quantized layer has no gradient: give the network it was made from"
    kinds, reached = _graph(given, pictures)
    if any("NotImplemented" in kind for kind in kinds):
        return "it uses an operation that torch cannot differentiate"
    if any(kind.startswith("CheckpointFunction") for kind in kinds):
        return (
            "it uses reentrant checkpointing, which gives gradients to .backward() alone: say "
            "checkpoint(..., use_reentrant=False)"
        )
    return "" if reached else _switched_off(network, size)


def _graph(given: Tensor, pictures: Tensor) -> tuple[set[str], bool]:
    """Kinds of the operations between the pictures and what was computed of them, and whether they hang together."""
    nodes = ancestors(given)
    return {node.name() for node in nodes}, any(getattr(node, "variable", None) is pictures for node in nodes)


def ancestors(given: Shaped[Tensor, "..."]) -> set[Any]:
    """The operations that a tensor was computed by, as far as gradients go back."""
    waiting, seen = [given.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [each for each, _ in node.next_functions]
    return seen


def _switched_off(network: Network, size: Size) -> str:
    """Which layer breaks the way back, and how."""
    double, found = quiet_copy(network), []

    def enter(name: str):
        def hook(module: nn.Module, inputs: tuple) -> None:
            if not torch.is_grad_enabled():
                found.append((name.rpartition(".")[0], "switches gradients off (torch.no_grad or inference_mode)"))

        return hook

    def leave(name: str):
        def hook(module: nn.Module, inputs: tuple, output: Any) -> None:
            came = any(isinstance(each, Tensor) and each.requires_grad for each in inputs)
            if came and isinstance(output, Tensor) and not output.requires_grad:
                found.append(
                    (name, "gives something detached, or made without gradients (detach, no_grad, .data, numpy)")
                )

        return hook

    for name, module in double.net.named_modules():
        module.register_forward_pre_hook(enter(name))
        module.register_forward_hook(leave(name))
    with differentiable():
        double(trial_pictures(network, size, 1).requires_grad_())
    name, how = found[0] if found else ("", "gives something that does not depend on the picture by any gradient")
    return f"{f'layer {name!r}' if name else 'its forward'} {how}"


def _by_inputs(net: nn.Module) -> str:
    try:
        parameters = list(inspect.signature(net.forward).parameters.values())
    except (TypeError, ValueError):
        return ""
    needed = [
        each
        for each in parameters
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    positional = [
        each
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD, each.VAR_POSITIONAL)
    ]
    advice = "wrap it in a module whose forward takes the pictures alone"
    if len(needed) > 1:
        return f"takes more than one input ({', '.join(each.name for each in needed)}): {advice}"
    if not positional:
        named = ", ".join(each.name for each in parameters if each.kind is each.KEYWORD_ONLY) or "nothing"
        return f"takes its input by keyword alone ({named}): {advice}"
    return ""


def _by_channels(network: Network, size: Size) -> str:
    stated = [module.in_channels for module in network.net.modules() if isinstance(module, nn.Conv2d)]
    for channels in dict.fromkeys([3, 1, *stated]):
        if channels != network.channels and _passes(network, size, channels):
            return (
                f"takes pictures of {channels} channels, not of {network.channels}: say "
                f"Network(module, channels={channels})"
            )
    return ""


def _by_size(network: Network, size: Size) -> str:
    height, width = sides(size)
    if height == width and (found := _least_at_fault(network, height)):
        return found
    own = sides(network.size)
    candidates = dict.fromkeys([own, *((side, side) for side in SIDES)])
    passed = (each for each in candidates if each != (height, width) and _passes(network, each, network.channels))
    if works := [str(tall) if tall == wide else f"{tall} x {wide}" for tall, wide in itertools.islice(passed, 4)]:
        return (
            f"does not take pictures of {height} x {width} pixels: give the size that it was made for, "
            f"{', '.join(works[:3])}{' or larger' if len(works) > 3 else ''}"
        )
    return ""


def _least_at_fault(network: Network, side: int) -> str:
    larger = next((each for each in SIDES if each > side and _passes(network, (each, each), network.channels)), None)
    if larger is None or not _passes(network, (2 * larger, 2 * larger), network.channels):
        return ""
    while larger - side > 1:
        middle = (larger + side) // 2
        larger, side = (middle, side) if _passes(network, (middle, middle), network.channels) else (larger, middle)
    return f"needs pictures of at least {larger} pixels"


@torch.no_grad()
def _passes(network: Network, size: Size, channels: int) -> bool:
    """Whether the bare module runs on such pictures."""
    like = next((each for each in network.net.parameters() if each.is_floating_point()), network.mean)
    for count in (0, 1):  # without pictures nothing is computed, but not every module bears that
        try:
            quiet_copy(network).net(like.new_zeros(count, channels, *sides(size)))
        except Exception:
            continue
        return True
    return False


def _mark(net: nn.Module) -> int:
    """Changes when a layer of the network is replaced, or its type."""
    parts: list[Any] = [(name, id(module)) for name, module in net.named_modules()]
    parts += [(id(each), each.dtype) for each in net.parameters()]
    return hash(tuple(parts))
