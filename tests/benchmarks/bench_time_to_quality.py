"""Seconds to a good picture: until a channel fires as much as for the picture that torch-lucent's defaults draw.

torch-lucent draws 512 steps as it does by default (waves in decorrelated colour, its transforms), its weights frozen.
Ours is the default recipe, and where that does not reach as high the same with eight times the steps. Both pictures
are judged alike: clean, enlarged to 224 pixels, by the channel's mean activation; judging is not on the clock.
Channels are drawn at random by a seed. The table gives the median over channels, and how natural the pictures are.

    python tests/benchmarks/bench_time_to_quality.py 2      # two channels a layer; ten by default: an hour
"""

import statistics
import sys
import time

import torch
from torch import Tensor

from nbhelpers import images, models
from nbhelpers.ascent import measure, objectives
from nbhelpers.models import Network
from nbhelpers.techniques.activation_maximization import ActivationMaximization

LAYERS = {
    "squeezenet1_0": ("features.3.expand3x3", "features.7.expand3x3", "features.12.expand3x3"),
    "mobilenet_v2": ("features.4.conv", "features.10.conv", "features.14.conv"),
}
SIDE = 224
LONGER = 8


def lucent(network: Network, layer: str, number: int) -> Tensor:
    """The picture of its defaults, `(1, 3, H, W)`."""
    from lucent.optvis import render

    name = f"{layer.replace('.', '_')}:{number}"
    (found,) = render.render_vis(network.net, name, show_image=False, progress=False)
    return torch.from_numpy(found).permute(0, 3, 1, 2).float().clamp(0, 1)


def height(network: Network, layer: str, number: int, picture: Tensor) -> float:
    return float(measure(network, objectives.channel(layer, [number]), images.resize(picture, SIDE)))


def reached(network: Network, recipe: ActivationMaximization, goal: float) -> tuple[float | None, float, Tensor]:
    """Seconds until the goal is reached (None: it is not), the greatest height, and the picture that had it."""
    steps, took, best = recipe.iterate(network), 0.0, (-torch.inf, torch.zeros(1, 3, SIDE, SIDE))
    while True:
        begun = time.perf_counter()
        step = next(steps, None)
        took += time.perf_counter() - begun
        if step is None:
            return None, *best
        now = height(network, recipe.layer, recipe.channels[0], step.picture)
        if now > best[0]:
            best = now, step.picture
        if best[0] >= goal:
            return took, *best


def main(channels: int = 10) -> None:
    print(f"{torch.get_num_threads()} threads, {channels} channels a layer\n")
    print("| layer | lucent, s | reached by | nbhelpers, s | times as soon | saturation, burnt out: lucent | ours |")
    print("|---|---|---|---|---|---|---|")
    ratios = []
    for name, layers in LAYERS.items():
        network = models.load(name, device="cpu")
        network.requires_grad_(False)
        for layer in layers:
            count = models.check_layer(network, layer).channels
            numbers = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:channels].tolist()
            theirs, ours, natural, by = [], [], ([], []), {"default": 0, "longer": 0, "neither": 0}
            for number in numbers:
                begun = time.perf_counter()
                picture = lucent(network, layer, number)
                theirs.append(time.perf_counter() - begun)
                goal = height(network, layer, number, picture)
                recipe = ActivationMaximization(network=name, layer=layer, channels=[number])
                for kind, steps in (("default", recipe.steps), ("longer", LONGER * recipe.steps)):
                    took, _, made = reached(network, recipe.changed(steps=steps), goal)
                    if took is not None:
                        by[kind] += 1
                        ours.append(took)
                        ratios.append(theirs[-1] / took)
                        break
                else:
                    by["neither"] += 1
                for kept, each in zip(natural, (picture, made), strict=True):
                    kept.append(images.naturalness(each))
            told = " | ".join(
                ", ".join(
                    f"{statistics.mean(float(getattr(each, what)) for each in kept):.2f}"
                    for what in ("saturation", "edge")
                )
                for kept in natural
            )
            own = "- | -"
            if ours:
                own = f"{statistics.median(ours):.2f} | {statistics.median(theirs) / statistics.median(ours):.0f}x"
            print(f"| {name} {layer} | {statistics.median(theirs):.1f} | {by} | {own} | {told} |", flush=True)
    if ratios:
        print(f"\nWhere reached, by geometric mean {statistics.geometric_mean(ratios):.1f} times as soon.")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
