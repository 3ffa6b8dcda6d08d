"""What a picture of every channel of a large network costs: the table of `docs/scaling.md`, from measured numbers.

    OMP_NUM_THREADS=1 python tools/scaling_costs.py

Measured, in seconds of one core's time, so that what else the machine does counts for nothing: steps of the default
recipe for a handful of layers at each of its sizes, and whole jobs of notebook 01. Counted: channels, and the floating
point operations of a step. What lies between the measured layers comes from a fit whose error is printed. Weights are
random, for a step takes as long with any. GPU time is not measured but derived from the operations.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls
from torch.utils.flop_counter import FlopCounterMode

from nbhelpers import ascent, models
from nbhelpers.techniques.activation_maximization import ActivationMaximization

NETWORKS = {"vgg16": 4_224, "resnet50": 26_560}
SAMPLE = 5  # layers measured, evenly spread over a network's convolutions
BATCH = 4
STEPS = 5  # the first is not timed
CHUNK = 64  # channels a job

# Published peak of an NVIDIA A100 for dense TF32 matrix products, and the share of it that small convolutions in
# batches of 64 are assumed to reach. Both are assumptions of the estimate, not measurements.
GPU_PEAK, GPU_SHARE = 156e12, 0.2

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "01_activation_maximization.ipynb"


@dataclass(frozen=True)
class Convolution:
    """A layer at one size of picture: operations and activation values of a pass up to it, for one picture."""

    name: str
    channels: int
    operations: float
    values: float


def convolutions(network: models.Network, size: int) -> list[Convolution]:
    """A network's convolutions in the order of execution, with what a pass up to each costs."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.net(torch.zeros(1, 3, size, size))
    counts, root = counter.get_flop_counts(), type(network.net).__name__
    found, operations, values = [], 0.0, 0.0
    for layer in models.layers(network, size):
        values += layer.channels * layer.height * layer.width
        if layer.kind == "Conv2d":
            operations += sum(counts[f"{root}.{layer.name}"].values())
            found.append(Convolution(layer.name, layer.channels, operations, values))
    return found


def plan(recipe: ActivationMaximization) -> list[tuple[int, int]]:
    """Side of the picture and number of steps in each round of a recipe."""
    sides = [recipe.size]
    for _ in range(recipe.rounds - 1):
        sides.append(round(sides[-1] * recipe.upscale_factor))
    return list(zip(sides, ascent.planned(recipe.rounds, recipe.steps), strict=True))


def seconds_per_step(network: models.Network, layer: str, size: int) -> float:
    """Core seconds that one step of one picture takes, with `BATCH` pictures at a time."""
    recipe = ActivationMaximization(layer=layer, channels=list(range(BATCH)), size=size, rounds=1, steps=STEPS)
    times, before = [], time.process_time()
    for _ in recipe.iterate(network):
        now = time.process_time()
        times.append(now - before)
        before = now
    return statistics.median(times[1:]) / BATCH


def fit(points: list[tuple[Convolution, float]]) -> tuple[np.ndarray, float]:
    """Seconds as a sum of a constant, operations and activation values; and its mean error relative to the points."""
    terms = np.array([[1e-3, point.operations / 1e9, point.values / 1e6] for point, _ in points])
    seconds = np.array([measured for _, measured in points])
    weights = nnls(terms / seconds[:, None], np.ones(len(points)))[0]  # relative errors count alike
    return weights, float(np.abs(terms @ weights / seconds - 1).mean())


def job(channels: int, network: str = "minivgg_robust") -> tuple[float, float, int]:
    """Core seconds of a run of notebook 01 with so many channels; bytes of a PNG, and of a notebook with its page."""
    with tempfile.TemporaryDirectory() as folder:
        given = ["-p", "network", network, "-p", "channels", str(list(range(1, channels + 1)))]
        command = [sys.executable, "-m", "nbhelpers", "run", str(NOTEBOOK), *given, "--results", folder]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        pictures = [path.stat().st_size for path in Path(folder).rglob("*.png")]
        (executed,) = Path(folder).glob("*.ipynb")
        both = (executed, executed.with_suffix(".html"))
        return seconds, statistics.mean(pictures), sum(path.stat().st_size for path in both)


def pictures_seconds(channels: int) -> float:
    """Core seconds of the same pictures by the default recipe alone, without a notebook around them."""
    recipe = ActivationMaximization(channels=list(range(1, channels + 1)))
    network = models.load(recipe.network)
    before = time.process_time()
    recipe.run(network)
    return time.process_time() - before


def measure_network(name: str) -> dict[str, float]:
    """Everything the table says of one network."""
    network = models.load(name, weights=None, device="cpu")
    sizes = plan(ActivationMaximization())
    layers = {size: convolutions(network, size) for size, _ in sizes}
    total = len(layers[sizes[0][0]])
    measured = []
    for place in np.linspace(0, total - 1, SAMPLE).round().astype(int):
        for size, _ in sizes:
            point = layers[size][place]
            seconds = seconds_per_step(network, point.name, size)
            measured.append((point, seconds))
            rate = 2 * point.operations / seconds / 1e9
            print(f"| {name} | {point.name} | {size} | {1000 * seconds:.1f} | {rate:.0f} |", flush=True)
    weights, error = fit(measured)
    core_seconds = operations = 0.0
    for size, steps in sizes:
        for layer in layers[size]:
            per_step = weights @ [1e-3, layer.operations / 1e9, layer.values / 1e6]
            core_seconds += layer.channels * steps * per_step
            operations += layer.channels * steps * 2 * layer.operations  # forward, and back to the picture
    channels = sum(layer.channels for layer in layers[sizes[0][0]])
    assert channels == NETWORKS[name], f"{name} has {channels} convolution channels"
    return {"channels": channels, "core_seconds": core_seconds, "operations": operations, "error": error}


def main() -> None:
    torch.set_num_threads(1)
    recipe = ActivationMaximization()
    stages = ", ".join(f"{steps} steps at {side} px" for side, steps in plan(recipe))
    print(f"Default recipe: {stages}. Seconds are those of one core.\n")
    print("| network | layer | side, px | ms per picture and step | GFLOP/s |\n|---|---|---|---|---|")
    found = {name: measure_network(name) for name in NETWORKS}

    few, many = 1, 9
    alone = (pictures_seconds(many) - pictures_seconds(few)) / (many - few)
    seconds, png, executed = job(many)
    least = job(few)[0]
    per_picture = (seconds - least) / (many - few)
    beside = (least - per_picture) / per_picture
    print(
        f"\nOne job of notebook 01 on the bundled network: {least:.1f} s for {few} channel, {seconds:.1f} s for {many}:"
    )
    print(f"{per_picture:.2f} s a picture ({alone:.2f} s without the notebook), and {least - per_picture:.1f} s for "
          f"start, imports and the notebook's own demonstrations, as much as {beside:.0f} pictures.")  # fmt: skip
    print(
        f"A PNG of {plan(recipe)[-1][0]} px: {png / 1000:.0f} kB, a notebook and its page: {executed / 1000:.0f} kB.\n"
    )

    print("| | " + " | ".join(found) + " |\n|---|" + "---|" * len(found))
    rows: dict[str, list[str]] = {}
    for each in found.values():
        jobs = -(-each["channels"] // CHUNK)
        extra = beside / CHUNK  # the demonstrations use the job's own network
        hours = each["core_seconds"] / 3600
        gpu = each["operations"] / (GPU_PEAK * GPU_SHARE) / 3600
        storage = each["channels"] * png + jobs * executed
        for label, text in {
            "channels": f"{each['channels']:,}",
            "operations, 10^15": f"{each['operations'] / 1e15:.1f}",
            "core-hours, pictures alone": f"{hours:.0f}",
            f"core-hours, notebook 01 in {jobs:,} jobs of {CHUNK}".replace(
                f"{jobs:,} ", ""
            ): f"{hours * (1 + extra):.0f}",
            f"jobs of {CHUNK} channels": f"{jobs:,}",
            "GPU-hours, estimated": f"{gpu:.2f}",
            "pictures, MB": f"{each['channels'] * png / 1e6:.0f}",
            "pictures and notebooks, MB": f"{storage / 1e6:.0f}",
            "error of the fit": f"{100 * each['error']:.0f} %",
        }.items():
            rows.setdefault(label, []).append(text)
    print("\n".join(f"| {label} | {' | '.join(texts)} |" for label, texts in rows.items()))


if __name__ == "__main__":
    main()
