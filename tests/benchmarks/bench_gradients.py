"""Saliency of a batch of photos, against captum: photos per second, the numbers, peak memory.

32 photos of 224 pixels on VGG16 and ResNet-50 with random weights (the arithmetic is the same), the gradient of one
class logit by the pixels. captum gets frozen weights, evaluation mode and an input that wants its gradient already;
once as it comes and once with everything laid out `channels_last`. The contenders take turns; the table gives the
median of the ratios turn by turn. Processor time stands beside it: it hardly depends on what else the machine does.
Peak memory is that of a process of its own, less what torch and the network take by themselves.

"The same numbers" is measured against a pass in double precision: a ReLU whose input is zero up to rounding may fall
on the other side in any of them, which changes a few photos' gradients a little, in captum as much as here.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from captum.attr import Saliency
from peak_memory import peak_megabytes
from torch import Tensor

from nbhelpers import models
from nbhelpers.attribution import pixel_maps
from nbhelpers.models import Network

NETWORKS = ("vgg16", "resnet50")
PHOTOS, SIZE, TURNS = 32, 224, 3


def photos() -> Tensor:
    return torch.rand(PHOTOS, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def classes() -> list[int]:
    return list(range(0, 1000, 1000 // PHOTOS))[:PHOTOS]


def captum(network: Network, batch: Tensor) -> Tensor:
    return Saliency(network).attribute(batch.clone().requires_grad_(), target=classes()[: len(batch)]).amax(1)


def captum_channels_last(network: Network, batch: Tensor) -> Tensor:
    laid_out = network.to(memory_format=torch.channels_last)
    found = captum(laid_out, batch.contiguous(memory_format=torch.channels_last))
    network.to(memory_format=torch.contiguous_format)
    return found


def ours(network: Network, batch: Tensor) -> Tensor:
    return pixel_maps.strongest(pixel_maps.gradient(network, batch, classes()[: len(batch)])[1])


CONTENDERS: dict[str, Callable[[Network, Tensor], Tensor]] = {
    "captum": captum,
    "captum, channels_last": captum_channels_last,
    "nbhelpers": ours,
}


def load(name: str) -> Network:
    return models.load(name, weights=None, device="cpu").requires_grad_(False)


def main() -> None:
    print(f"{torch.get_num_threads()} threads, {PHOTOS} photos of {SIZE} pixels in one batch\n")
    print("| network | contender | photos a second | captum / it | in processor time | off float64 | peak memory, MB |")
    print("|---|---|---|---|---|---|---|")
    for name in NETWORKS:
        network, batch = load(name), photos()
        seconds, processor = in_turns(network, batch)
        # as in the batch: a photo's map does not depend on the others
        exact = captum(load(name).double(), batch[:2].double())
        for contender, run in CONTENDERS.items():
            off = (run(network, batch[:2]).double() - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
            print(
                f"| {name} | {contender} | {PHOTOS / statistics.median(seconds[contender]):.2f} "
                f"| {ratio(seconds, contender):.2f} | {ratio(processor, contender):.2f} "
                f"| {', '.join(f'{each:.0e}' for each in off.tolist())} | {memory(contender, name):.0f} |",
                flush=True,
            )


def in_turns(network: Network, batch: Tensor) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds and processor seconds of each contender, turn by turn, after one small warming-up pass each."""
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    processor: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for contender in CONTENDERS.values():
        contender(network, batch[:2])
    for _ in range(TURNS):
        for name, contender in CONTENDERS.items():
            begun, worked = time.perf_counter(), time.process_time()
            contender(network, batch)
            seconds[name].append(time.perf_counter() - begun)
            processor[name].append(time.process_time() - worked)
    return seconds, processor


def ratio(times: dict[str, list[float]], contender: str) -> float:
    return statistics.median(a / b for a, b in zip(times["captum"], times[contender], strict=True))


def memory(contender: str, name: str) -> float:
    """Peak memory of a contender in a process of its own, in MB, less what it held before."""
    answer = subprocess.run([sys.executable, __file__, contender, name], capture_output=True, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def _memory_of(contender: str, name: str) -> None:
    network, batch = load(name), photos()
    before = peak_megabytes()
    CONTENDERS[contender](network, batch)
    print(peak_megabytes() - before)


if __name__ == "__main__":
    if sys.argv[1:]:
        _memory_of(*sys.argv[1:3])
    else:
        main()
