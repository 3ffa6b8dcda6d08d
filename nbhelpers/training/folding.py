"""Batch normalisation in and out of a network's convolutions.

A trained network normalises with constants, so the normalisation is one more linear map: folded into the convolution
before it, the shipped network is plain convolutions and ReLUs. The way back lets training go on from shipped weights.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nbhelpers import edge, models
from nbhelpers.models.minivgg import MiniVGG


def fold(network: MiniVGG) -> MiniVGG:
    """The same function of a picture, without batch normalisation.

    Args:
        network: built with `norm=True`; its running statistics are used, as in eval mode.

    Returns:
        A new MiniVGG (`norm=False`, eval mode), on the network's device, float32, with the same layer names.
    """
    with torch.device("meta"):  # nothing is drawn at random, nothing is filled twice
        folded = MiniVGG(**{**config(network), "norm": False}).eval()
    folded.load_state_dict(folded_weights(network), assign=True)
    return folded.to(memory_format=torch.channels_last)


def folded_weights(network: MiniVGG) -> dict[str, Shaped[Tensor, "..."]]:
    """The weights of `fold`, by name."""
    state = {key: value.detach().float() for key, value in network.state_dict().items()}
    result = {}
    for key, weight in state.items():
        layer, _ = key.rsplit(".", 1)
        if layer == "head":
            result[key] = weight.clone()
        elif isinstance(network.get_submodule(layer), nn.Conv2d):
            norm = norm_name(layer)
            scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + network.get_submodule(norm).eps).sqrt()
            result[key] = weight * scale.view(-1, 1, 1, 1)
            result[f"{layer}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    return result


@torch.no_grad()
def unfold(network: MiniVGG, pictures: Float[Tensor, "pictures 3 height width"], generator: torch.Generator) -> MiniVGG:
    """The same function of a picture, with batch normalisation that is ready to be trained further.

    Statistics are measured on the pictures. Channels that none of them wakes get a fresh filter and a neutral
    normalisation, a second chance.

    Args:
        network: built with `norm=False`.
        pictures: `(B, 3, H, W)`, normalised as the network expects them.
        generator: draws the fresh filters.

    Returns:
        A new MiniVGG with `norm=True`.
    """
    with models.drawn_from(0):
        trainable = MiniVGG(**{**config(network), "norm": True})
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    outputs: dict[str, Tensor] = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
        for name in names
    ]
    network(pictures)
    for hook in hooks:
        hook.remove()
    for name in names:
        shipped, fresh = network.get_submodule(name), trainable.get_submodule(name)
        norm = trainable.get_submodule(norm_name(name))
        lengths = shipped.weight.flatten(1).norm(dim=1)
        # normalisation makes a filter's length free, but it sets the effective step size: short filters turn faster
        factor = 1 / lengths.mean()
        mean = outputs[name].mean((0, 2, 3))
        variance = outputs[name].var((0, 2, 3), unbiased=False)
        fresh.weight.copy_(shipped.weight * factor)
        norm.running_mean.copy_((mean - shipped.bias) * factor)
        norm.running_var.copy_(variance * factor**2)
        norm.weight.copy_((norm.running_var + norm.eps).sqrt() / factor)
        norm.bias.copy_(mean)
        dead = (outputs[name].amax((0, 2, 3)) <= 0).nonzero().flatten()
        for channel in dead.tolist():
            filters = torch.randn(shipped.weight[channel].shape, generator=generator)
            fresh.weight[channel] = filters / filters.norm()
            norm.running_mean[channel], norm.bias[channel] = 0, 0
            norm.running_var[channel] = norm.running_var.median()
            norm.weight[channel] = norm.weight.median()
    trainable.head.load_state_dict(network.head.state_dict())
    return trainable


def deepen(network: MiniVGG, widths: Sequence[Sequence[int]]) -> MiniVGG:
    """The same function of a picture, with more convolutions at the ends of blocks (Chen et al. 2016, "Net2Net").

    After a ReLU nothing is negative, so a convolution that copies its input, and its ReLU, change nothing: training
    can start from what the shallow network knows.

    Args:
        network: built with `norm=False`.
        widths: of the deeper network; each block begins with the widths that the network has.

    Raises:
        ValueError: a block is not the network's block with copies of its last width appended.
    """
    with models.drawn_from(0):
        deeper = MiniVGG(**{**config(network), "widths": widths}).eval()
    for name, old, new in zip(network.blocks, config(network)["widths"], widths, strict=True):
        if list(new) != old + [old[-1]] * (len(new) - len(old)):
            raise ValueError(f"{name} has widths {old}; it can grow to {old + old[-1:]} and so on, not to {list(new)}.")
    given = network.state_dict()
    with torch.no_grad():
        for name, parameter in deeper.named_parameters():
            if name in given:
                parameter.copy_(given[name])
            elif parameter.dim() == 4:
                nn.init.dirac_(parameter)
            else:
                parameter.zero_()
    return deeper


def mix(one: MiniVGG, other: MiniVGG, share: float) -> MiniVGG:
    """A network whose weights are means of two networks' weights.

    Two that went on from the same weights mostly lie in one basin of the loss, and their mean is often better than
    either (Wortsman et al. 2022, "Model soups").

    Args:
        one, other: of the same architecture, without normalisation.
        share: of `other`, in [0, 1].
    """
    with torch.device("meta"):
        mixed = MiniVGG(**config(one)).eval()
    theirs = other.state_dict()
    mean = {key: value.lerp(theirs[key], share) for key, value in one.state_dict().items()}
    mixed.load_state_dict(mean, assign=True)
    return mixed.to(memory_format=torch.channels_last)


def norm_name(convolution: str) -> str:
    """`block3.conv2` to `block3.norm2`."""
    block, layer = convolution.rsplit(".", 1)
    return f"{block}.{layer.replace('conv', 'norm')}"


def config(network: MiniVGG) -> dict:
    """The arguments that build the same architecture."""
    blocks = [network.get_submodule(name) for name in network.blocks]
    return {
        "widths": [[m.out_channels for m in block if isinstance(m, nn.Conv2d)] for block in blocks],
        "stem": network.stem.conv.out_channels,
        "classes": network.head.out_features,
        "pooling": network.pooling,
    }


def write(network: MiniVGG, path: Path) -> Path:
    """Write a folded network's weights as safetensors in half precision, whole or not at all.

    Returns:
        The path.

    Raises:
        ValueError: a weight is not finite in half precision.
    """
    state = {key: value.detach().cpu().half().contiguous() for key, value in network.state_dict().items()}
    broken = [key for key, value in state.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(f"{edge.few(broken)}: not finite in half precision; train with a lower peak learning rate.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with edge.replacing(path) as scratch:
        save_file(state, scratch, metadata={"pooling": network.pooling})
    return path


def read(path: str | Path) -> MiniVGG:
    """A network without normalisation from a file of weights, which tells its architecture by shapes and a note.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or holds another architecture.
    """
    try:
        with safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
            note = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}). Restore it or train again.") from error
    try:
        widths: dict[str, list[int]] = {}
        for key in sorted(state):
            block, _, kind = key.partition(".")
            if block.startswith("block") and kind.endswith(".weight"):
                widths.setdefault(block, []).append(len(state[key]))
        with torch.device("meta"):
            network = MiniVGG(
                list(widths.values()),
                len(state["stem.conv.weight"]),
                len(state["head.weight"]),
                pooling=note.get("pooling", "max"),
            )
        network.load_state_dict(state, assign=True)
    except (KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path} does not hold a MiniVGG (stem.conv, block1.conv1, ..., head): {error}") from error
    return network.eval().to(memory_format=torch.channels_last)
