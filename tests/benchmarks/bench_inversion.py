"""Seconds and memory of one step of an inversion, against the plain loop.

VGG16 (random weights: the arithmetic is the same), one picture of 224 pixels, the distance of `features.14` with
both priors, plain pixels, Adam; the target's features computed once by all. The contenders take turns, so that a
change in the machine's speed meets all of them; the table gives the median time and the median of the ratios turn by
turn. Peak memory is that of a process of its own for each contender, less what torch and the network take.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from peak_memory import peak_megabytes
from torch import Tensor

from nbhelpers import models
from nbhelpers.ascent import ascend
from nbhelpers.ascent.canvas import Canvas, Fourier, Pixels, natural_images
from nbhelpers.models import Network
from nbhelpers.techniques.inversion.representations import STEP, inversion, represent

LAYER, SIZE, STEPS, TURNS = "features.14", 224, 10, 3
WEIGHTS = {"alpha_weight": 0.005, "tv_weight": 0.02, "alpha": 6.0, "beta": 2.0}


def noise(seed: int) -> Tensor:
    return torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def plain(network: Network, frozen: bool = False) -> list[float]:
    """What one writes first: the whole forward pass, `backward()` into pixels and, unless `frozen`, weights."""
    network.requires_grad_(not frozen)
    kept = {}
    handle = network.net.get_submodule(LAYER).register_forward_hook(
        lambda module, inputs, output: kept.update(it=output.clone())  # an in-place ReLU follows
    )
    with torch.no_grad():
        network(noise(1))
    target, mean = kept["it"], natural_images()["mean"].view(3, 1, 1)
    picture = noise(0).requires_grad_()
    optimiser = torch.optim.Adam([picture], lr=0.005)
    losses = []
    for _ in range(STEPS):
        optimiser.zero_grad()
        network.zero_grad()
        network(picture)
        down, right = torch.zeros_like(picture), torch.zeros_like(picture)
        down[:, :, :-1] = picture[:, :, 1:] - picture[:, :, :-1]
        right[..., :-1] = picture[..., 1:] - picture[..., :-1]
        loss = (
            (kept["it"] - target).square().sum() / target.square().sum()
            + WEIGHTS["alpha_weight"] * ((picture - mean) / 0.5).abs().pow(6).mean()
            + WEIGHTS["tv_weight"] * (down.square() + right.square()).mean() / STEP**2
        )
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            picture.clamp_(0, 1)
        losses.append(loss.item())
    handle.remove()
    network.requires_grad_(True)
    return losses


def ours(network: Network, canvas: type[Canvas] = Pixels) -> list[float]:
    target = represent(network, LAYER, noise(1))
    start = canvas.from_picture(noise(0))
    ascent = ascend(network, inversion(target, **WEIGHTS), start, steps=STEPS, learning_rate=0.005)
    return [-step.scores.item() for step in ascent]


CONTENDERS: dict[str, Callable[[Network], list[float]]] = {
    "plain loop": plain,
    "plain loop, weights frozen": lambda network: plain(network, frozen=True),
    "nbhelpers, pixels": ours,
    "nbhelpers, Fourier": lambda network: ours(network, Fourier),
}


def main() -> None:
    network = models.load("vgg16", weights=None, device="cpu")
    theirs, own = plain(network), ours(network)
    apart = max(abs(a - b) / abs(a) for a, b in zip(theirs, own, strict=True))
    print(f"{torch.get_num_threads()} threads; the objective, step by step, differs by {apart:.1e} at most\n")
    seconds = in_turns(network)
    print("| contender | ms a step | plain / it | frozen / it | peak memory, MB |")
    print("|---|---|---|---|---|")
    for name, times in seconds.items():
        against = [
            statistics.median(a / b for a, b in zip(seconds[rival], times, strict=True))
            for rival in ("plain loop", "plain loop, weights frozen")
        ]
        print(
            f"| {name} | {statistics.median(times) * 1000:.0f} | {against[0]:.2f} | {against[1]:.2f} "
            f"| {memory(name):.0f} |",
            flush=True,
        )


def in_turns(network: Network) -> dict[str, list[float]]:
    """Seconds a step of each contender, turn by turn; the first turn warms up."""
    seconds = {name: [] for name in CONTENDERS}
    for turn in range(TURNS + 1):
        for name, contender in CONTENDERS.items():
            begun = time.perf_counter()
            contender(network)
            if turn:
                seconds[name].append((time.perf_counter() - begun) / STEPS)
    return seconds


def memory(name: str) -> float:
    """Peak memory of a contender in a process of its own, in MB, less what it held before the first step."""
    answer = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def _memory_of(name: str) -> None:
    network = models.load("vgg16", weights=None, device="cpu")
    before = peak_megabytes()
    CONTENDERS[name](network)
    print(peak_megabytes() - before)


if __name__ == "__main__":
    if sys.argv[1:]:
        _memory_of(sys.argv[1])
    else:
        main()
