"""How good is a network: everything its model card states is measured here, in float32, on the pictures' device."""

import math
import time
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

from nbhelpers import edge
from nbhelpers.models.minivgg import MiniVGG
from nbhelpers.training.attack import attack
from nbhelpers.training.data import Pictures
from nbhelpers.training.folding import read
from nbhelpers.training.train import drawing_on, normalise

RADII = (0.25, 0.5, 1.0)
STEPS = 20


def accuracy(network: MiniVGG, pictures: Pictures) -> tuple[float, float, list[float | None]]:
    """Share of pictures whose class comes first, comes among the first five, and the first share per class.

    A class without a picture has None.
    """
    ranks = []
    with torch.no_grad():
        for batch, labels in pictures.batches(250):
            best = network(normalise(batch)).topk(min(5, network.head.out_features)).indices
            ranks.append(best == labels.view(-1, 1))
    hits = torch.cat(ranks)
    by_class = _by_class(hits[:, 0], pictures.labels, network.head.out_features)
    return hits[:, 0].float().mean().item(), hits.any(1).float().mean().item(), by_class


def accuracy_under_attack(network: MiniVGG, pictures: Pictures, radius: float) -> tuple[float, list[float | None]]:
    """Share still right after a 20-step L2 attack, and the same per class (None: no picture of it).

    Args:
        network: float32, on the pictures' device; its weights are frozen here.
        pictures: what to attack; a picture that is wrong without the attack counts as wrong.
        radius: in units of [0, 1] pixels over the whole picture.
    """
    network.requires_grad_(False)
    generator = drawing_on(pictures.pixels.device).manual_seed(0)
    right = []
    count = at_once(pictures.pixels.device)
    for batch, labels in edge.Bar(list(pictures.batches(count)), desc=f"attack {radius}", leave=False):
        batch = batch.contiguous(memory_format=torch.channels_last)
        still = network(normalise(batch)).argmax(1) == labels
        hits = torch.zeros_like(labels, dtype=torch.bool)
        if still.any():
            moved = attack(lambda x: network(normalise(x)), batch[still], labels[still], radius, STEPS, generator)
            hits[still] = network(normalise(moved)).argmax(1) == labels[still]
        right.append(hits)
    hits = torch.cat(right)
    return hits.float().mean().item(), _by_class(hits, pictures.labels, network.head.out_features)


def at_once(device: torch.device) -> int:
    """Pictures that are attacked in one batch: what fits a processor's cache, or fills a GPU."""
    return 125 if device.type == "cpu" else 1000


def accuracy_under_autoattack(network: MiniVGG, pictures: Pictures, radius: float) -> float:
    """Share still right after AutoAttack (Croce and Hein 2020), the standard set of four attacks, L2.

    Args:
        network: float32, on the pictures' device; its weights are frozen here.
        pictures: what to attack, all at once.
        radius: in units of [0, 1] pixels over the whole picture.

    Raises:
        ValueError: torchattacks, which runs the attacks, is not installed.
    """
    try:
        import torchattacks
    except ImportError as error:
        raise ValueError(
            "AutoAttack needs torchattacks: pip install --no-deps torchattacks (it asks for an old requests, which "
            "it does not need)."
        ) from error
    network.requires_grad_(False)
    judged = nn.Sequential(OrderedDict(normalise=_Normalise(), network=network))
    batch, labels = pictures.batch(slice(None))
    classes = network.head.out_features
    attacks = torchattacks.AutoAttack(judged, norm="L2", eps=radius, version="standard", n_classes=classes, seed=0)
    moved = attacks(batch.contiguous(), labels)
    with torch.no_grad():
        return (judged(moved).argmax(1) == labels).float().mean().item()


class _Normalise(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        return normalise(pictures)


def dead_channels(network: MiniVGG, pictures: Pictures) -> dict[str, float]:
    """Share of channels per convolution that no picture makes positive, so that nothing comes out of the ReLU."""
    highest: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
            peaks = output.amax((0, 2, 3))
            highest[name] = torch.maximum(highest[name], peaks) if name in highest else peaks

        return hook

    hooks = [
        module.register_forward_hook(keep(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            for batch, _ in pictures.batches(250):
                network(normalise(batch))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (peaks <= 0).float().mean().item() for name, peaks in highest.items()}


def load_milliseconds(path: Path) -> float:
    """Best of five times to read the weights into a network."""
    return _best(lambda: read(path), 5)


def forward_milliseconds(network: MiniVGG) -> float:
    """Best of ten times for eight pictures of 64 pixels."""
    pictures = torch.rand(8, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        return _best(lambda: network(pictures), 10)


def _best(function, times: int) -> float:
    durations = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        durations.append(time.perf_counter() - start)
    return 1000 * min(durations)


def _by_class(hits: Tensor, labels: Tensor, classes: int) -> list[float | None]:
    shares = (hits[labels == label].float().mean().item() for label in range(classes))
    return [None if math.isnan(share) else share for share in shares]
