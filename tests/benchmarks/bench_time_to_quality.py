"""Seconds to a good picture: until a channel fires as much as for the picture that torch-lucent's defaults draw.

torch-lucent draws 512 steps as it does by default (waves in decorrelated colour, its transforms), its weights frozen: a
picture of 128 pixels, which it enlarges to 224 for the network at every step. All pictures are judged alike: clean,
enlarged to 224 pixels, by the channel's mean activation, ours at every fourth step; judging is not on the clock. Ours
is the default recipe in one round of 224 pixels, and beside it as it is: it ends at 138 pixels and is drawn to be seen
at that size; enlarged, it shows its channel everything too large. Channels are drawn at random by a seed. The table
gives the median over channels, and how natural the pictures are.

    python tests/benchmarks/bench_time_to_quality.py 2      # two channels a layer; ten by default: an hour
"""

import statistics
import sys
import time

import torch
from torch import Tensor

from nbhelpers import images, models
from nbhelpers.ascent import measure, objectives, planned
from nbhelpers.models import Network
from nbhelpers.techniques.activation_maximization import ActivationMaximization

LAYERS = {
    "squeezenet1_0": ("features.3.expand3x3", "features.7.expand3x3", "features.12.expand3x3"),
    "mobilenet_v2": ("features.4.conv", "features.10.conv", "features.14.conv"),
}
SIDE = 224
EVERY = 4  # steps between two judgements


def lucent(network: Network, layer: str, number: int) -> Tensor:
    """The picture of its defaults, `(1, 3, H, W)`."""
    from lucent.optvis import render

    name = f"{layer.replace('.', '_')}:{number}"
    (found,) = render.render_vis(network.net, name, show_image=False, progress=False)
    return torch.from_numpy(found).permute(0, 3, 1, 2).float().clamp(0, 1)


def height(network: Network, layer: str, number: int, picture: Tensor) -> float:
    return float(measure(network, objectives.channel(layer, [number]), images.resize(picture, SIDE)))


def reached(network: Network, recipe: ActivationMaximization, goal: float) -> tuple[float | None, Tensor]:
    """Seconds until the goal is reached (None: it is not), and the picture that was highest."""
    steps, took, best = recipe.iterate(network), 0.0, (-torch.inf, torch.zeros(1, 3, SIDE, SIDE))
    while True:
        begun = time.perf_counter()
        step = next(steps, None)
        took += time.perf_counter() - begun
        if step is None:
            return None, best[1]
        if step.index % EVERY and step.index != step.total:
            continue
        picture = step.picture
        best = max(
            best, (height(network, recipe.layer, recipe.channels[0], picture), picture), key=lambda each: each[0]
        )
        if best[0] >= goal:
            return took, picture


def manners(recipe: ActivationMaximization) -> dict[str, ActivationMaximization]:
    """By name: as many steps as the default takes, at the size that pictures are judged at; the default."""
    steps = sum(planned(recipe.rounds, recipe.steps))
    return {f"{SIDE} pixels": recipe.changed(size=SIDE, rounds=1, steps=steps), "default": recipe}


def saturation_and_edge(pictures: list[Tensor]) -> str:
    found = [images.naturalness(each) for each in pictures]
    return ", ".join(
        f"{statistics.mean(float(getattr(each, what)) for each in found):.2f}" for what in ("saturation", "edge")
    )


def main(channels: int = 10) -> None:
    print(f"{torch.get_num_threads()} threads, {channels} channels a layer\n", flush=True)
    print("| layer | manner | lucent, s | reached | s | times as soon | saturation, burnt out | lucent's |")
    print("|---|---|---|---|---|---|---|---|")
    soon: dict[str, list[float]] = {}
    for name, layers in LAYERS.items():
        network = models.load(name, device="cpu")
        network.requires_grad_(False)
        for layer in layers:
            count = models.check_layer(network, layer).channels
            numbers = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:channels].tolist()
            theirs, pictures = [], []
            for number in numbers:
                begun = time.perf_counter()
                pictures.append(lucent(network, layer, number))
                theirs.append(time.perf_counter() - begun)
            goals = [height(network, layer, *each) for each in zip(numbers, pictures, strict=True)]
            recipe = ActivationMaximization(network=name, layer=layer, channels=[0])
            for manner, each in manners(recipe).items():
                ours, made = [], []
                for number, goal, took in zip(numbers, goals, theirs, strict=True):
                    seconds, picture = reached(network, each.changed(channels=[number]), goal)
                    if seconds is not None:
                        ours.append(seconds)
                        soon.setdefault(manner, []).append(took / seconds)
                    made.append(picture)
                middle = statistics.median(ours) if ours else None
                own = "- | -" if middle is None else f"{middle:.2f} | {statistics.median(theirs) / middle:.0f}x"
                print(
                    f"| {name} {layer} | {manner} | {statistics.median(theirs):.1f} "
                    f"| {len(ours)} of {len(numbers)} | {own} "
                    f"| {saturation_and_edge(made)} | {saturation_and_edge(pictures)} |",
                    flush=True,
                )
    for manner, ratios in soon.items():
        print(f"\n{manner}: where reached, by geometric mean {statistics.geometric_mean(ratios):.1f} times as soon.")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
