"""Grad-CAM of 32 photos at 224 pixels in one batch: speed and memory beside captum and the grad-cam package.

    python tests/benchmarks/bench_grad_cam.py

All contenders work in turn on the same networks (random weights, in evaluation mode) and photos, and must give the same
maps. captum asks for the gradient of the picture whatever the weights say, so its weights are frozen; the grad-cam
package takes its gradient at the layer only if something before it requires one, so its weights are not. Peak memory is
that of a process of its own that makes the maps once.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable

import numpy as np
import peak_memory
import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor

from nbhelpers import models
from nbhelpers.attribution import cams
from nbhelpers.models import Network

LAYERS = {"vgg16": "features.29", "resnet50": "layer4"}
WANTED = {"captum": 1.3, "grad-cam": 1.5}
Method = Callable[[Network, str, Tensor, list[int]], Tensor | np.ndarray]


def ours(network: Network, layer: str, photos: Tensor, classes: list[int]) -> Tensor:
    """`(B, h, w)`."""
    return cams.class_maps(network, layer, photos, classes)[0]


def captums(network: Network, layer: str, photos: Tensor, classes: list[int]) -> Tensor:
    """`(B, h, w)`, with the ReLU of the paper."""
    network.requires_grad_(False)
    method = LayerGradCam(network, models.find_module(network, layer))
    return method.attribute(photos, target=torch.tensor(classes), relu_attributions=True).detach()[:, 0]


def packages(network: Network, layer: str, photos: Tensor, classes: list[int]) -> np.ndarray:
    """`(B, H, W)`, stretched and enlarged, as the package gives them."""
    network.requires_grad_(True)
    with GradCAM(model=network, target_layers=[models.find_module(network, layer)]) as method:
        return method(photos, [ClassifierOutputTarget(each) for each in classes])


METHODS: dict[str, Method] = {"here": ours, "captum": captums, "grad-cam": packages}


def work(name: str, count: int, size: int) -> tuple[Network, str, Tensor, list[int]]:
    """Network, layer, photos (smooth noise) and classes."""
    network = models.load(name, weights=None, device="cpu").eval()
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    photos = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    return network, LAYERS[name], photos, [(37 * number) % 1000 for number in range(count)]


def difference(first: Tensor, other: Tensor | np.ndarray, size: int) -> float:
    """Greatest difference of two sets of maps, in shares of each map's greatest value."""
    mine = first.numpy()
    if isinstance(other, np.ndarray):  # what the package does to its maps in the end, done to ours
        return float(np.abs(scale_cam_image(scale_cam_image(mine, (size, size))) - other).max())
    return ((first - other).abs().amax() / first.amax()).item()


def measured(name: str, count: int, size: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Best seconds of each contender, and how far its maps are from ours."""
    network, layer, photos, classes = work(name, count, size)
    times: dict[str, list[float]] = {method: [] for method in METHODS}
    maps = {}
    for _ in range(rounds):
        for method, make in METHODS.items():
            began = time.perf_counter()
            maps[method] = make(network, layer, photos, classes)
            times[method].append(time.perf_counter() - began)
            for each in network.parameters():
                each.grad = None
    return {method: (min(times[method]), difference(maps["here"], maps[method], size)) for method in METHODS}


def _alone(name: str, method: str, count: int, size: int) -> float:
    torch.set_num_threads(1)
    METHODS[method](*work(name, count, size))
    return peak_memory.peak_megabytes()


def megabytes(name: str, method: str, count: int, size: int) -> float:
    """Peak memory of a fresh process that makes the maps once."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_alone, (name, method, count, size))


def main(count: int = 32, size: int = 224, rounds: int = 3) -> None:
    """Print the table."""
    print(f"Grad-CAM of {count} photos at {size} pixels, {torch.get_num_threads()} threads")
    print(f"{'':24}{'photos/s':>10}{'here faster':>13}{'wanted':>8}{'maps differ by':>16}{'peak memory':>14}")
    for name in LAYERS:
        found = measured(name, count, size, rounds)
        for method, (seconds, apart) in found.items():
            ratio = seconds / found["here"][0]
            wanted = f"{WANTED[method]:.1f} x" if method in WANTED else ""
            peak = f"{megabytes(name, method, count, size):,.0f} MB"
            print(
                f"{name + ', ' + method:24}{count / seconds:>10.2f}{ratio:>11.2f} x{wanted:>8}{apart:>16.1e}{peak:>14}",
                flush=True,
            )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--count", type=int, default=32)
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--rounds", type=int, default=3)
    main(**vars(arguments.parse_args()))
