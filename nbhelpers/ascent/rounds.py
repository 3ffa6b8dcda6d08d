"""From small to large: a climb in several rounds, each on a picture a little larger than the one before.

Large shapes are laid down while the picture is small; a blur at each enlargement keeps fine noise from winning
(multi-scale activation maximization). What is maximised, and by whom, is the technique's.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nbhelpers.ascent.canvas import Canvas
from nbhelpers.ascent.loop import Step, ascend
from nbhelpers.ascent.objectives import Objective
from nbhelpers.models import Network, Size

COPIES = 5
"""Of the picture in memory at each step, at least: the canvas, its gradient, Adam's two moments, the last good one."""


def climb(
    network: Network,
    objective: Objective,
    canvas: Canvas,
    *,
    plan: Sequence[int],
    upscale_factor: float,
    blur: int,
    seeds: Sequence[int],
    **options: Any,
) -> Iterator[Step]:
    """Raise the objective in rounds, yielding every step of all of them.

    Args:
        network: the network; it stays untouched.
        objective: scores to raise, one per picture.
        canvas: the first round's; later rounds have larger ones of the same kind.
        plan: steps of each round.
        upscale_factor: growth of the picture's side from round to round.
        blur: side of the box blur after each enlargement in pixels; 0 for none.
        seeds: one per picture, for the transforms, as `picture_seeds` makes them.
        options: what else `nbhelpers.ascent.ascend` takes.

    Yields:
        Steps, numbered through all rounds. The picture grows from round to round.

    Raises:
        NonFiniteScore: the climb left the numbers; the last good picture is kept.
        ValueError: the last round's pictures would not fit into this machine's memory; said before the first step.
    """
    _check_memory(canvas, len(plan), upscale_factor)
    done = 0
    for number, steps in enumerate(plan):
        if number:
            canvas = enlarge(canvas, upscale_factor, blur)
        for step in ascend(network, objective, canvas, steps=steps, seeds=[seed + number for seed in seeds], **options):
            yield replace(step, index=done + step.index, total=sum(plan))
        done += steps


def _check_memory(canvas: Canvas, rounds: int, upscale_factor: float) -> None:
    """Refuses a climb whose last round cannot be held, counting only what the optimiser keeps: a lower bound."""
    with torch.no_grad():
        count, colours, *sides = canvas.picture().shape
    height, width = last_size((sides[0], sides[1]), rounds, upscale_factor)
    needed = COPIES * count * colours * height * width * torch.finfo(torch.float32).bits // 8
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if canvas.parameters.device.type == "cpu" and needed > there:
        raise ValueError(
            f"a side of {max(height, width):,} pixels needs about {needed / 1e9:,.0f} GB, and this machine has "
            f"{there / 1e9:,.0f} GB: take fewer rounds, a smaller size or a smaller upscale_factor"
        )


def planned(rounds: int, steps: int) -> list[int]:
    """Steps of each round: 1.3 times as many in the later half."""
    return [round(steps * 1.3) if number >= rounds / 2 else steps for number in range(rounds)]


def last_size(size: Size, rounds: int, upscale_factor: float) -> Size:
    """Side of the last round's picture in pixels, or (height, width); rounded in every round, as `enlarge` does."""
    if not isinstance(size, int):
        height, width = (last_size(side, rounds, upscale_factor) for side in size)
        return height, width
    for _ in range(rounds - 1):
        size = round(size * upscale_factor)
    return size


def enlarge(canvas: Canvas, factor: float, blur: int) -> Canvas:
    """The canvas's picture enlarged bicubically, then blurred by a box of `blur` pixels, on a canvas of that size."""
    with torch.no_grad():
        picture = canvas.picture()
        side = [round(length * factor) for length in picture.shape[2:]]
        larger = F.interpolate(picture, size=side, mode="bicubic", align_corners=False).clamp(0, 1)
        return canvas.from_picture(box_blur(larger, blur))


def box_blur(
    pictures: Float[Tensor, "pictures channels height width"], width: int
) -> Float[Tensor, "pictures channels height width"]:
    """Mean over a square of `width` pixels, borders mirrored; `(B, C, H, W)` as it came."""
    if width < 2:
        return pictures
    before, after = (width - 1) // 2, width // 2
    return F.avg_pool2d(F.pad(pictures, (before, after, before, after), mode="reflect"), width, stride=1)


def picture_seeds(seed: int, channels: Sequence[int]) -> list[int]:
    """A seed for each picture that depends on its own channel alone, and differs when a channel comes twice."""
    times: Counter[int] = Counter()
    seeds = []
    for channel in channels:
        seeds.append(((seed * 1_000 + times[channel]) * 100_000 + channel) * 100)
        times[channel] += 1
    return seeds
