"""Weights from a file of one's own: read as tensors and nothing else, with what trainers put around them taken off."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from nbhelpers import edge
from nbhelpers.models.examination import first_line

ENDINGS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
WRAPPINGS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "ema")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")  # DataParallel, compile, Lightning and the like


def is_file_of_weights(text: object) -> bool:
    """Whether somebody means a file: by its ending, whether it exists or not."""
    return isinstance(text, Path) or (isinstance(text, str) and text.lower().endswith(ENDINGS))


def fill(build: Callable[[int | None], nn.Module], name: str, path: str | Path) -> nn.Module:
    """A network with the weights of a file; how many classes it has, the file says.

    Args:
        build: makes the network with so many classes, or with as many as it has by itself.
        name: what to call it in messages.
        path: of the file.

    Raises:
        FileNotFoundError: no such file. ValueError: it holds more than tensors, or weights of another network (names
            those that are missing, that are too many and that have another shape).
    """
    weights = read(path)
    net = build(None)
    head = _other_heads(net.state_dict(), weights)
    if len(head) == 1:
        net = build(head.pop())
    ours = net.state_dict()
    # what only training uses: counters of batch normalisation, and auxiliary heads that were not built
    missing = [key for key in ours if key not in weights and not key.endswith("num_batches_tracked")]
    extra = [key for key in weights if key not in ours and not key.lower().startswith("aux")]
    shapes = [
        f"{key} {tuple(weights[key].shape)}, not {tuple(ours[key].shape)}"
        for key in ours
        if key in weights and weights[key].shape != ours[key].shape
    ]
    problems = [
        f"{what}: {edge.few(keys)}"
        for what, keys in (("missing", missing), ("unexpected", extra), ("other shapes", shapes))
        if keys
    ]
    if problems:
        raise ValueError(f"the weights in {path} are not those of {name}. " + "; ".join(problems))
    for key, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(
                f"{key} in {path} holds NaN or infinity: such a network gives no numbers. Take another file"
            )
    net.load_state_dict({key: weights.get(key, tensor) for key, tensor in ours.items()})
    return net


def read(path: str | Path) -> dict[str, Shaped[Tensor, "..."]]:
    """The tensors of a file by the names that the network itself has for them; nothing in it is executed.

    Raises:
        FileNotFoundError, ValueError: no such file, or not a file of tensors.
    """
    path = edge.existing_file(path)
    try:
        if path.suffix.lower() == ".safetensors":
            found: Any = safetensors.torch.load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a file of somebody else's makes the reader raise
        raise ValueError(
            f"{path} cannot be read as a file of tensors ({first_line(error)}). Save the weights alone, "
            "torch.save(net.state_dict(), path): a whole pickled network could run anything when it is opened"
        ) from error
    for _ in range(3):
        inner = next((found[key] for key in WRAPPINGS if isinstance(found, Mapping) and key in found), None)
        if not isinstance(inner, Mapping):
            break
        found = inner
    tensors = (
        {key: value for key, value in found.items() if isinstance(value, Tensor)} if isinstance(found, Mapping) else {}
    )
    if not tensors:
        raise ValueError(f"{path} holds no weights: expected a dictionary of tensors, as net.state_dict() gives it")
    while prefix := next((each for each in PREFIXES if all(key.startswith(each) for key in tensors)), None):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def class_names(classes: Sequence[str] | str | Path, count: int) -> list[str]:
    """Names of classes from a list or a file: JSON, or one on each line.

    Raises:
        FileNotFoundError, ValueError: no such file, or not one name per class.
    """
    names = list(classes) if not isinstance(classes, str | Path) else _names_in(edge.existing_file(classes))
    if len(names) != count:
        raise ValueError(f"{len(names)} names for {count} classes: give one per class, in the order of the logits")
    return [str(name) for name in names]


def _names_in(path: Path) -> list[str]:
    with edge.understood(path, "a file of class names", "Write a JSON list, or one name on each line, in UTF-8"):
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".json":
            return _listed(json.loads(text))
    return [line.strip() for line in text.splitlines() if line.strip()]


def _listed(found: Any) -> list[str]:
    if isinstance(found, dict):  # {"0": "cat"}, or {"cat": 0}
        numbered = all(str(key).isdecimal() for key in found)
        pairs = found.items() if numbered else ((number, name) for name, number in found.items())
        return [name for _, name in sorted((int(number), name) for number, name in pairs)]
    return list(found)


def _other_heads(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> set[int]:
    """How many classes the file's head has, where weights differ in their first size alone."""
    pairs = [
        (ours[key].shape, theirs[key].shape) for key in ours if key in theirs and ours[key].shape != theirs[key].shape
    ]
    return {there[0] for here, there in pairs if here[1:] == there[1:]}
