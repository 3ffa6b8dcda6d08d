"""Speed and memory of orders and of filter gradients.

Orders: 512 maps of 28 x 28, each method, seconds. Filter gradients: `squeezenet1_0` at 224 pixels, seconds a photo
against the loop that takes photo after photo, calls `backward()` and reads the weight's `.grad`; against a lean loop,
which asks for that one gradient only; and the memory that grows with the number of photos.

    python tests/benchmarks/bench_volumes.py --photos 200
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from peak_memory import peak_megabytes
from torch import Tensor

from nbhelpers import controls, models, volumes
from nbhelpers.techniques.filter_gradients import filter_weights
from nbhelpers.volumes import ordering, rendering

LAYERS = ("features.3.expand3x3", "features.9.expand3x3", "features.12.expand3x3")


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The median of several runs after a first one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def orders() -> list[tuple[str, float]]:
    """Seconds that each method takes for 512 maps of 28 x 28, and a volume of them to be drawn."""
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(np.maximum(rng.normal(size=(512, 28, 28)), 0)).float()
    volume = volumes.to_bytes(maps)
    rows = [(f"order: {name}", seconds(lambda find=find: find(maps))) for name, find in ordering.METHODS.items()]
    rows.append(("projections of 28 x 28 x 512", seconds(lambda: rendering.projections(volume))))
    rows.append(("viewer of 28 x 28 x 512", seconds(lambda: controls.view(lambda _: volume, ["one"]).wait())))
    return rows


def plain_loop(network: models.Network, layer: str, target: int, pictures: Tensor) -> Tensor:
    """Photo by photo, as one writes it down first."""
    weight = network.net.get_submodule(layer).weight
    lengths = []
    for picture in pictures:
        network.zero_grad()
        network(picture[None])[0, target].backward()
        lengths.append(weight.grad.flatten(1).norm(dim=1))
    return torch.stack(lengths).mean(0)


def lean_loop(network: models.Network, layer: str, target: int, pictures: Tensor) -> Tensor:
    """Photo by photo, but only the gradient that is needed."""
    network.requires_grad_(False)
    weight = network.net.get_submodule(layer).weight.requires_grad_(True)
    lengths = []
    for picture in pictures:
        (gradient,) = torch.autograd.grad(network(picture[None])[0, target], weight)
        lengths.append(gradient.flatten(1).norm(dim=1))
    network.requires_grad_(True)
    return torch.stack(lengths).mean(0)


def batched(network: models.Network, layer: str, target: int, pictures: Tensor, batch_size: int) -> Tensor:
    """What the technique does."""
    total = 0.0
    for found, _ in filter_weights.gradients(network, layer, target, pictures, batch_size):
        total = total + found.flatten(2).norm(dim=2).sum(0)
    return total / len(pictures)


def gradients(photos: int, batch_size: int, device: str) -> list[tuple[str, float, float, float]]:
    """For each layer, seconds a photo: plain loop, lean loop, batched, taking turns."""
    network = models.load("squeezenet1_0", weights=None, device=device)
    pictures = torch.rand(photos, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():  # SqueezeNet's head ends in a ReLU: a class that is off has no gradient to compare
        target = int(network(pictures[:4]).amin(0).argmax())
    rows = []
    for layer in LAYERS:
        expected = plain_loop(network, layer, target, pictures[:4])
        # in float32 another memory layout rounds another way, and now and then a unit near 0 falls on the other side
        assert (batched(network, layer, target, pictures[:4], batch_size) - expected).norm() < 1e-3 * expected.norm()
        work = [plain_loop, lean_loop, lambda *given: batched(*given, batch_size)]
        spent = [0.0] * 3
        for chunk in pictures.split(batch_size * 2):
            for number, way in enumerate(work):
                # on a processor, the time this process used: another one may be busy
                clock = time.process_time if device == "cpu" else time.perf_counter
                begun = clock()
                way(network, layer, target, chunk)
                if device != "cpu":
                    torch.cuda.synchronize()
                spent[number] += clock() - begun
        rows.append((layer, *[each / photos for each in spent]))
    return rows


def memory(batch_size: int) -> list[tuple[int, float]]:
    """Peak memory of this process in MB after more and more photos, at the same batch size."""
    network = models.load("squeezenet1_0", weights=None, device="cpu")
    peaks = []
    for number in range(1, 13):
        batched(network, LAYERS[-1], 0, torch.rand(16, 3, 224, 224), batch_size)
        if number in (1, 4, 12):
            peaks.append((16 * number, peak_megabytes()))
    return peaks


def main(arguments: Sequence[str] = ()) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=16, help="photos for the gradients")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    print(f"{'512 maps of 28 x 28':<40}{'seconds':>9}")
    for name, taken in orders():
        print(f"{name:<40}{taken:>9.3f}")
    peaks = ", ".join(f"{photos} photos {peak:.0f} MB" for photos, peak in memory(given.batch_size))
    print(f"\npeak memory of the process at batch size {given.batch_size}: {peaks}")
    print(f"\nfilter gradients, squeezenet1_0 at 224 pixels, {given.photos} photos, seconds a photo")
    print(
        f"{'layer':<26}{'plain loop':>12}{'lean loop':>12}{'batched':>10}{'plain / batched':>18}{'lean / batched':>17}"
    )
    for layer, plain, lean, ours in gradients(given.photos, given.batch_size, given.device):
        print(f"{layer:<26}{plain:>12.3f}{lean:>12.3f}{ours:>10.3f}{plain / ours:>17.1f}x{lean / ours:>16.1f}x")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
