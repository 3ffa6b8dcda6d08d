"""Seconds and memory of one picture and step of activation maximization, against the plain loop and torch-lucent.

VGG16 (random weights: the arithmetic is the same), one picture of 224 pixels, mean of one channel, plain pixels, no
transforms, Adam. The contenders take turns, so that a change in the machine's speed meets all of them; the table
gives the median time and the median of the ratios turn by turn. Peak memory is that of a process of its own for
each contender, less what torch and the network take by themselves.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from peak_memory import peak_megabytes
from torch import nn
from torch.nn import functional as F

from nbhelpers import models
from nbhelpers.ascent import ascend
from nbhelpers.ascent.canvas import Pixels
from nbhelpers.ascent.objectives import channel
from nbhelpers.models import Network
from nbhelpers.techniques.activation_maximization import ActivationMaximization

LAYERS = ("features.7", "features.24")
STEPS, TURNS, SIZE, CHANNEL = 10, 5, 224, 5
WARM = 0.5  # seconds of convolutions until a processor is as fast as it gets


def start() -> torch.Tensor:
    return torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def plain(network: Network, layer: str) -> None:
    """What one writes first: the whole forward pass, `backward()` into pixels and weights."""
    network.requires_grad_(True)
    picture = start().requires_grad_()
    optimiser = torch.optim.Adam([picture], lr=0.01)
    kept = {}
    handle = network.net.get_submodule(layer).register_forward_hook(lambda module, inputs, out: kept.update(it=out))
    for _ in range(STEPS):
        optimiser.zero_grad()
        network.zero_grad()
        network(picture)
        (-kept["it"][:, CHANNEL].mean()).backward()
        optimiser.step()
        with torch.no_grad():
            picture.clamp_(0, 1)
    handle.remove()


def lucent(network: Network, layer: str, frozen: bool = False) -> None:
    """torch-lucent with pixels for parameters and no transforms; `frozen` spares it the weights' gradients."""
    from lucent.optvis import param, render

    network.requires_grad_(not frozen)
    render.render_vis(
        network.net,
        f"{layer.replace('.', '_')}:{CHANNEL}",
        param_f=lambda: param.image(SIZE, fft=False, decorrelate=False),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        transforms=[],
        thresholds=(STEPS,),
        show_image=False,
        progress=False,
    )


def ours(network: Network, layer: str, precision: str = "float32") -> None:
    for _ in ascend(network, channel(layer, [CHANNEL]), Pixels(start()), steps=STEPS, precision=precision):
        pass


CONTENDERS: dict[str, Callable[[Network, str], None]] = {
    "plain loop": plain,
    "lucent": lucent,
    "lucent, weights frozen": lambda network, layer: lucent(network, layer, frozen=True),
    "nbhelpers float32": ours,
    "nbhelpers bfloat16": lambda network, layer: ours(network, layer, "bfloat16"),
}


def main() -> None:
    network = models.load("vgg16", weights=None, device="cpu")
    peak = {dtype: convolution_peak(dtype) for dtype in (torch.float32, torch.bfloat16)}
    print(
        f"{torch.get_num_threads()} threads; best convolution: {peak[torch.float32]:.0f} GFLOP/s in float32, "
        f"{peak[torch.bfloat16]:.0f} in bfloat16\n"
    )
    print("| layer | contender | ms a step | plain / it | lucent / it | share of peak | peak memory, MB |")
    print("|---|---|---|---|---|---|---|")
    for layer in LAYERS:
        seconds = in_turns(network, layer)
        work = 2 * forward_gflop(network, layer)  # forward, and the gradient of the input
        for name, times in seconds.items():
            against = [
                statistics.median(a / b for a, b in zip(seconds[rival], times, strict=True))
                for rival in ("plain loop", "lucent")
            ]
            dtype = torch.bfloat16 if "bfloat16" in name else torch.float32
            share = f"{work / statistics.median(times) / peak[dtype]:.0%}" if name.startswith("nbhelpers") else ""
            print(
                f"| {layer} | {name} | {statistics.median(times) * 1000:.0f} | {against[0]:.2f} | {against[1]:.2f} "
                f"| {share} | {memory(name, layer):.0f} |",
                flush=True,
            )
    first_picture()


def in_turns(network: Network, layer: str) -> dict[str, list[float]]:
    """Seconds a step of each contender, turn by turn; the first turn warms up."""
    seconds = {name: [] for name in CONTENDERS}
    for turn in range(TURNS + 1):
        for name, contender in CONTENDERS.items():
            begun = time.perf_counter()
            contender(network, layer)
            if turn:
                seconds[name].append((time.perf_counter() - begun) / STEPS)
    return seconds


def forward_gflop(network: Network, layer: str) -> float:
    """Billions of multiplications and additions of the convolutions up to a layer, for one picture."""
    total = 0.0
    for each in models.layers(network, SIZE):
        module = network.net.get_submodule(each.name)
        if isinstance(module, nn.Conv2d):
            total += 2e-9 * module.weight.numel() * each.height * each.width
        if each.name == layer:
            return total
    raise ValueError(f"{layer} is not a layer of {network.name}")


def convolution_peak(dtype: torch.dtype) -> float:
    """GFLOP/s of the fastest of a few convolutions that suit the processor well."""
    best = 0.0
    for channels, side in ((128, 112), (256, 56), (512, 28)):
        pictures = torch.rand(4, channels, side, side).to(dtype, memory_format=torch.channels_last)
        weights = torch.rand(channels, channels, 3, 3).to(dtype, memory_format=torch.channels_last)
        work = 2e-9 * weights.numel() * pictures.shape[0] * side * side
        with torch.no_grad():
            until = time.perf_counter() + WARM
            while (begun := time.perf_counter()) < until:
                F.conv2d(pictures, weights, padding=1)
                best = max(best, work / (time.perf_counter() - begun))
    return best


def memory(name: str, layer: str) -> float:
    """Peak memory of a contender in a process of its own, in MB, less what it held before the first step."""
    answer = subprocess.run([sys.executable, __file__, name, layer], capture_output=True, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def _memory_of(name: str, layer: str) -> None:
    network = models.load("vgg16", weights=None, device="cpu")
    before = peak_megabytes()
    CONTENDERS[name](network, layer)
    print(peak_megabytes() - before)


def first_picture() -> None:
    """How long a slider's first picture takes on the bundled network."""
    network = models.load("minivgg_robust")
    recipe = ActivationMaximization(channels=[1])
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        next(recipe.iterate(network)).picture  # noqa: B018
        seconds.append(time.perf_counter() - begun)
    print(f"\nFirst picture on the bundled network: {statistics.median(seconds) * 1000:.0f} ms after the slider moved.")


if __name__ == "__main__":
    _memory_of(*sys.argv[1:3])
