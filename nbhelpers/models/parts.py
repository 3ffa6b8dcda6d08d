"""A network in two parts: a base that stays as it is, and upper layers, with a new head, that are trained.

What a frozen base makes of a picture never changes, so it need be computed once. For that the network is cut where a
single tensor flows from one part to the other: in front of a residual block, never inside it. `torch.fx` writes the
network's own Python code down as a graph in which such places can be found; a network that it cannot write down is
left whole, which costs time and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from nbhelpers.models.examination import ancestors, refusal
from nbhelpers.models.loading import find_module, first_name
from nbhelpers.models.network import Network, Size, copied, sharing_copy, sides

_tracing = threading.Lock()  # what fx puts in the way, two at once would not put back
RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
SHARES = (nn.Softmax, nn.LogSoftmax, nn.Sigmoid, nn.LogSigmoid)


@dataclass
class Parts:
    """A bare module as a base and what comes after it.

    Attributes:
        base: normalised pictures to features.
        upper: features to logits; shares its modules with the whole.
        after: name of the graph's node that the features come from; "" where nothing could be cut off.
    """

    base: nn.Module
    upper: Callable[[Shaped[Tensor, "..."]], Shaped[Tensor, "..."]]
    after: str


def weighted_layers(network: Network, size: Size) -> list[str]:
    """Layers with weights of their own, in the order in which they first run.

    One that never runs by itself (the output projection within an attention) comes with the layer around it; those
    that do not run at all come last. Where the network itself holds weights (a class token), "" is among them.

    Args:
        network: left as it is.
        size: side of the pictures in pixels.

    Raises:
        ValueError: the network does not take pictures of this size.
    """
    runs = {name: place for place, name in enumerate(_runs(network, size))}
    holders = [name for name, module in network.net.named_modules() if any(True for _ in module.parameters(False))]

    def place(name: str) -> tuple[int, int]:
        around = name
        while around not in runs and "." in around:
            around = around.rpartition(".")[0]
        return runs.get(around, len(runs)), holders.index(name)

    return sorted(holders, key=place)


def head_layer(network: Network, size: Size) -> str:
    """Dotted name of the layer that gives the logits: the last linear layer or convolution with one output per class.

    Raises:
        ValueError: there is none; the network gives no `(B, classes)`, or makes them by other means.
    """
    layers, logits = weighted_back(network, size)
    if isinstance(logits, Tensor) and logits.ndim == 2:
        for name, given in layers.items():
            if given.shape[1] == logits.shape[1]:
                return name
    got = f"{tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
    raise ValueError(
        f"{network.name} has no classifier head to replace: it gives {got}, and no linear layer or convolution in it "
        "has one output per class. Fine-tune a network that ends in class logits (B, classes)"
    )


def weighted_back(network: Network, size: Size) -> tuple[dict[str, Shaped[Tensor, "..."]], object]:
    """What the linear layers and convolutions that the answer depends on give, the last to run first; and the answer.

    Another branch may run later and not count: the auxiliary head of a segmentation network.

    Raises:
        ValueError: the network does not take pictures of this size.
    """
    runs = _runs(network, size, differentiable=True)
    answer = runs[""]
    behind = ancestors(answer) if isinstance(answer, Tensor) else set()
    layers = {
        name: given
        for name, given in reversed(list(runs.items())[1:])
        if isinstance(network.net.get_submodule(name), nn.Linear | nn.Conv2d)
        and isinstance(given, Tensor)
        and (not behind or given.grad_fn in behind)
    }
    return layers, answer


def with_new_head(network: Network, classes: Sequence[str], size: Size) -> tuple[Network, str]:
    """A copy of the network for other classes, in evaluation mode: its head replaced by one of zeros.

    From zeros, every class is as likely as any other, and nothing is left to chance. A rectifier behind the head
    (SqueezeNet's) goes: it would take the gradient from every logit below zero; a softmax goes as well.

    Args:
        network: left as it is.
        classes: names in the order of the new logits.
        size: side of the pictures in pixels.

    Returns:
        The copy, and the dotted name of its head.

    Raises:
        ValueError: the network has no classifier head.
    """
    head = head_layer(network, size)
    double = copied(network).eval().requires_grad_(False)
    old = double.net.get_submodule(head)
    if isinstance(old, nn.Linear):
        new = nn.utils.skip_init(nn.Linear, old.in_features, len(classes))
    else:
        shape = (old.kernel_size, old.stride, old.padding, old.dilation)
        new = nn.utils.skip_init(nn.Conv2d, old.in_channels, len(classes), *shape)
    for parameter in new.parameters():
        nn.init.zeros_(parameter)
    names = list(_runs(network, size))
    for name in names[names.index(head) + 1 :]:
        if isinstance(double.net.get_submodule(name), (*RECTIFIERS, *SHARES)):
            _replace(double.net, name, nn.Identity())
    _replace(double.net, head, new.to(old.weight))
    double.classes, double.name = list(classes), f"{network.name} (tuned)"
    return _without_last_shares(double.eval().requires_grad_(False), size), head


def before_softmax(network: Network, size: Size) -> Network:
    """A copy that gives logits where the network ends in a softmax or a sigmoid; else the network itself.

    Where the picture is sure already, what comes out of a softmax has no gradient left.
    """
    runs = _runs(network, size)
    logits, last = runs[""], list(runs)[-1]
    ends = isinstance(logits, Tensor) and logits.ndim == 2 and runs[last] is not None and last
    if not ends or not isinstance(network.net.get_submodule(last), SHARES) or not torch.equal(runs[last], logits):
        return _without_last_shares(network, size)
    double = sharing_copy(network)
    _replace(double.net, last, nn.Identity())
    return double


class _Shares(TorchFunctionMode):
    """Counts the functions that make shares of logits; the one with the number `left_out` gives what it gets."""

    FUNCTIONS = frozenset(
        getattr(place, name)
        for place in (torch, Tensor, nn.functional, torch.special)
        for name in ("softmax", "log_softmax", "sigmoid", "sigmoid_", "logsigmoid", "expit")
        if hasattr(place, name)
    )

    def __init__(self, left_out: int | None = None, keep: bool = False) -> None:
        super().__init__()
        self.left_out, self.keep, self.given = left_out, keep, []

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function not in self.FUNCTIONS:
            return function(*args, **kwargs)
        if len(self.given) == self.left_out:
            output = args[0] if args else kwargs["input"]
        else:
            output = function(*args, **kwargs)
        self.given.append(output if self.keep else None)
        return output


def _without_last_shares(network: Network, size: Size) -> Network:
    """A copy that leaves out the function whose shares are the network's answer; the network itself if there is none.

    The copy's bare module is of a class of its own, so its layers keep their names, and its own copies go on like it.
    """
    double = sharing_copy(network)
    with torch.no_grad(), _Shares(keep=True) as shares:
        try:
            answer = double(torch.full((1, network.channels, *sides(size)), 0.5))
        except Exception as error:
            raise refusal(network, size, error) from error
    found = next((number for number, given in enumerate(shares.given) if given is answer), None)
    if found is None:
        return network
    kind = type(double.net)

    def forward(self: nn.Module, *inputs: Any, **options: Any) -> Any:
        with _Shares(found):
            return kind.forward(self, *inputs, **options)

    double.net.__class__ = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
    return double


def freed_from(network: Network, layer: str, size: Size) -> list[str]:
    """Layers with weights from this one to the head, in the order in which they run.

    Args:
        network: with its new head.
        layer: dotted name; a block counts from its first layer. Empty: the last convolution before the head, or in a
            transformer, whose only convolutions cut the picture up, the last linear layer.
        size: side of the pictures in pixels.

    Raises:
        KeyError: no such layer; the nearest are offered.
        ValueError: the layer holds no weights that run.
    """
    # what the network holds itself, such as a class token, is no layer
    order = [name for name in weighted_layers(network, size) if name]
    order = order[: order.index(head_layer(network, size)) + 1]
    if not layer:
        for kind, first in ((nn.Conv2d, len(order) // 10), (nn.Linear, 0)):
            for index in range(len(order) - 2, first - 1, -1):
                if isinstance(network.net.get_submodule(order[index]), kind):
                    return order[index:]
        return order[-1:]
    find_module(network, layer)
    layer = first_name(network, layer)
    inside = [index for index, name in enumerate(order) if name == layer or name.startswith(f"{layer}.")]
    if not inside:
        raise ValueError(
            f"layer {layer!r} of {network.name} holds no weights to train. Nearest below the head: "
            f"{', '.join(order[-4:])}"
        )
    return order[inside[0] :]


def cut(
    net: nn.Module,
    freed: Sequence[str],
    pictures: Float[Tensor, "batch ..."],
    logits: Callable[[Any, int], Any] = lambda given, count: given,
) -> Parts:
    """Cut a bare module as late as possible before the first of the layers that are trained.

    Args:
        net: in evaluation mode.
        freed: dotted names of the layers to be trained.
        pictures: two normalised pictures to try the parts on.
        logits: what counts of the module's answer for so many pictures, as `Network.logits` gives it.

    Returns:
        The parts; together they compute what the module does.
    """
    with torch.no_grad():
        expected = logits(net(pictures), len(pictures))
        try:
            traced = _traced(net)
        except Exception:  # whatever the network's own code does that has no graph
            return Parts(nn.Identity(), net, "")
        nodes = list(traced.graph.nodes)
        targets = [index for index, node in enumerate(nodes) if _fetches(node, freed)]
        for place in range(min(targets, default=0), 0, -1):
            crossing = _crossing(nodes, place)
            if len(crossing) != 1:
                continue
            base, upper = _lower(traced, nodes[:place], crossing[0]), _upper(traced, nodes, place, crossing[0])
            try:
                features = base(pictures)
                fits = isinstance(features, Tensor) and len(features) == len(pictures)
                if fits and torch.allclose(logits(upper(features), len(pictures)), expected, rtol=1e-3, atol=1e-4):
                    return Parts(base, upper, crossing[0].name)
            except (RuntimeError, TypeError, AttributeError):
                continue
    return Parts(nn.Identity(), net, "")


class _Tracer(fx.Tracer):
    """While it traces, fx puts itself in the way of every module's call, in all threads: others go on as ever."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(self, module: nn.Module, forward: Callable[..., object], args: tuple, kwargs: dict) -> object:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(module, forward, args, kwargs)

    def getattr(self, name: str, value: object, proxies: dict) -> object:
        return value if threading.get_ident() != self._thread else super().getattr(name, value, proxies)


def _traced(net: nn.Module) -> fx.GraphModule:
    tracer = _Tracer()
    with _tracing:
        graph = tracer.trace(net)
    return fx.GraphModule(tracer.root, graph)


def _fetches(node: fx.Node, freed: Sequence[str]) -> bool:
    """Whether a node uses weights of these layers: as a layer, within the one that it calls, or bare."""
    if node.op == "call_module":
        return any(name == node.target or name.startswith(f"{node.target}.") for name in freed)
    return node.op == "get_attr" and node.target.rpartition(".")[0] in freed


def _crossing(nodes: list[fx.Node], place: int) -> list[fx.Node]:
    """What the nodes from `place` on need of those before; weights, which are fetched anew, do not count."""
    before = set(nodes[:place])
    return [node for node in nodes[:place] if node.op != "get_attr" and any(user not in before for user in node.users)]


def _lower(traced: fx.GraphModule, nodes: list[fx.Node], last: fx.Node) -> fx.GraphModule:
    graph, copies = fx.Graph(), {}
    for node in nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[last])
    return fx.GraphModule(traced, graph)


def _upper(traced: fx.GraphModule, nodes: list[fx.Node], place: int, first: fx.Node) -> fx.GraphModule:
    graph = fx.Graph()
    copies = {first: graph.placeholder("features")}
    behind = set(nodes[place:])
    fetched = [node for node in nodes[:place] if node.op == "get_attr" and behind & set(node.users)]
    for node in fetched + nodes[place:]:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    return fx.GraphModule(traced, graph)


def _runs(network: Network, size: Size, differentiable: bool = False) -> dict[str, object]:
    """What every module that runs gives first, by name, in the order in which they begin; the network itself is ""."""
    double = sharing_copy(network)
    seen: dict[str, object] = {}

    def begin(name: str):
        def hook(module: nn.Module, inputs: tuple) -> None:
            seen.setdefault(name)

        return hook

    def end(name: str):
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            if seen[name] is None:
                seen[name] = output

        return hook

    for name, module in double.net.named_modules():
        if name:
            module.register_forward_pre_hook(begin(name))
            module.register_forward_hook(end(name))
    pictures = torch.full((1, network.channels, *sides(size)), 0.5, requires_grad=differentiable)
    try:
        with torch.inference_mode(False), torch.set_grad_enabled(differentiable):
            output = double(pictures)
    except Exception as error:  # a module of the user's own may raise anything
        raise refusal(network, size, error) from error
    return {"": output} | seen


def _replace(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, module)
