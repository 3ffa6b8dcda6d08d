"""Pictures per second on a GPU, against torch-lucent: `make bench-gpu`, or `python tests/gpu/bench.py`.

Activation maximization of plain pixels, mean of one channel, no transforms, Adam, in batches; a picture is `STEPS`
steps. torch-lucent gets frozen weights and one progress-free call. float32 is what torch makes of it by default for all
contenders (on a GPU, TF32 within convolutions). Then saliency and Grad-CAM, photos per second. VGG16 and ResNet-50 have
random weights: the arithmetic is the same. Contenders take turns; the table has medians.

`--quick` rehearses it within seconds on any machine; its numbers mean nothing.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from nbhelpers import models
from nbhelpers.ascent import ascend
from nbhelpers.ascent.canvas import Pixels
from nbhelpers.ascent.objectives import channel
from nbhelpers.attribution import cams, pixel_maps
from nbhelpers.models import Network

STEPS = 128  # of a picture
CHANNEL = 5
# network, layer to maximise, layer of Grad-CAM, side in pixels
NETWORKS = (
    ("minivgg_robust", "block4.conv1", "block4", 96),
    ("vgg16", "features.24", "features.28", 224),
    ("resnet50", "layer3.5.conv3", "layer4", 224),
)


def ours(network: Network, layer: str, batch: Tensor, steps: int, precision: str = "float32") -> None:
    for _ in ascend(network, channel(layer, [CHANNEL] * len(batch)), Pixels(batch), steps=steps, precision=precision):
        pass


def lucent(network: Network, layer: str, batch: Tensor, steps: int) -> None:
    from lucent.optvis import param, render

    render.render_vis(
        network.net,
        f"{layer.replace('.', '_')}:{CHANNEL}",
        param_f=lambda: param.image(batch.shape[-1], batch=len(batch), fft=False, decorrelate=False),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        transforms=[],
        thresholds=(steps,),
        fixed_image_size=batch.shape[-1],  # or else it enlarges what is smaller than 224 pixels
        show_image=False,
        progress=False,
    )


CONTENDERS: dict[str, Callable[..., None]] = {
    "float32": ours,
    "bfloat16": partial(ours, precision="bfloat16"),
    "lucent": lucent,
}


def has_lucent() -> bool:
    """Whether torch-lucent is there; says so if not."""
    try:
        from lucent.optvis import param, render  # noqa: F401
    except ImportError as error:
        print(f"torch-lucent is not here ({error}): what is printed is ours alone.\n")
        return False
    return True


def seconds(works: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Median seconds of each, by turns, after one to warm up."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns + 1):
        for name, work in works.items():
            wait()
            begun = time.perf_counter()
            work()
            wait()
            if turn:
                found[name].append(time.perf_counter() - begun)
    return {name: statistics.median(each) for name, each in found.items()}


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def noise(count: int, size: int, device: torch.device) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a rehearsal: one small network, few steps")
    quick = parser.parse_args().quick
    steps, turns, batches, photos = (2, 1, (1, 2), 2) if quick else (20, 3, (1, 16, 64), 64)
    networks = [("minivgg_robust", "block4.conv1", "block4", 48)] if quick else NETWORKS
    device = models.chosen_device()
    if device.type != "cuda" and not quick:
        raise SystemExit("needs a GPU; --quick rehearses it without one")
    card = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU"
    print(f"{card}, torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    contenders = {name: run for name, run in CONTENDERS.items() if name != "lucent" or has_lucent()}

    print(
        "| network | side | layer | batch | "
        + " | ".join(f"{name}, pictures/s" for name in contenders)
        + " | ms/step |"
    )
    print("|---" * (len(contenders) + 5) + "|")
    for name, layer, _, size in networks:
        network = models.load(name, weights="DEFAULT" if name in models.bundled() else None, device=device)
        network.requires_grad_(False)
        for count in batches:
            start = noise(count, size, device)
            took = seconds({who: partial(run, network, layer, start, steps) for who, run in contenders.items()}, turns)
            rates = {who: count * steps / STEPS / each for who, each in took.items()}
            cells = [f"{rate:.2f}{ratio(rates, who)}" for who, rate in rates.items()]
            milliseconds = ", ".join(f"{1000 * each / steps:.1f}" for each in took.values())
            print(f"| {name} | {size} | {layer} | {count} | {' | '.join(cells)} | {milliseconds} |", flush=True)

    print("\n| network | side | saliency, photos/s | Grad-CAM, photos/s |\n|---|---|---|---|")
    for name, _, layer, size in networks:
        network = models.load(name, weights="DEFAULT" if name in models.bundled() else None, device=device)
        batch = noise(photos, size, device)
        took = seconds(
            {
                "saliency": lambda network=network, batch=batch: pixel_maps.gradient(network, batch),
                "Grad-CAM": lambda network=network, batch=batch, layer=layer: cams.class_maps(network, layer, batch),
            },
            turns,
        )
        print(f"| {name} | {size} | {photos / took['saliency']:.0f} | {photos / took['Grad-CAM']:.0f} |", flush=True)


def ratio(rates: dict[str, float], who: str) -> str:
    """How many times as fast as torch-lucent."""
    return "" if who == "lucent" or "lucent" not in rates else f" ({rates[who] / rates['lucent']:.1f}x)"


if __name__ == "__main__":
    main()
