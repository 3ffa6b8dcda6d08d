"""Filters' gradients on paper and in motion: importance, patterns, comparisons, volumes."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from nbhelpers import images
from nbhelpers.images import figures
from nbhelpers.volumes import ordering
from nbhelpers.volumes.rendering import COLOURS, coloured, turned

SIGNED = "RdBu_r"
STRATEGY_COLOURS = (figures.ACCENT, "#edae49", figures.INK, figures.QUIET)


def grid(values: Shaped[Tensor, "*batch filters"]) -> Shaped[Tensor, "*batch rows columns"]:
    """One value per filter as a map of the layer, row by row, as square as it goes.

    Args:
        values: `(..., filters)`.

    Returns:
        `(..., rows, columns)`; places without a filter are zero.
    """
    count = values.shape[-1]
    columns = min(range(count, 0, -1), key=lambda columns: -count % columns * 4 + abs(columns - count / columns))
    return F.pad(values, (0, -count % columns)).unflatten(-1, (-1, columns))


def importance_figure(
    importance: Float[Tensor, " filters"], ranking: Sequence[int], top: int, title: str = ""
) -> Figure:
    """The importance of a layer's filters, as a map of the layer and as a sorted bar chart, the top ones marked.

    Args:
        importance: `(filters,)` in [0, 1].
        ranking: filters, the most important first.
        top: how many are marked.
        title: stands above.
    """
    figure, axes = figures.new(11, 3.6, columns=2, width_ratios=[1, 2])
    layer = grid(importance)
    drawn = axes[0].imshow(layer, cmap=COLOURS, vmin=0, vmax=1)
    columns = layer.shape[1]
    for filter_ in ranking[:top]:
        row, column = divmod(filter_, columns)
        axes[0].add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="white", lw=0.8))
    axes[0].set_title(f"map of the layer, {columns} filters a row", fontsize=9)
    axes[0].set_xticks([])
    axes[0].set_yticks([])
    figure.colorbar(drawn, ax=axes[0], shrink=0.9)
    values = importance[list(ranking)]
    axes[1].bar(range(len(values)), values, width=1, color=[figures.ACCENT] * top + [figures.QUIET] * len(values))
    first = ", ".join(map(str, ranking[: min(top, 8)])) + (", ..." if top > 8 else "")
    axes[1].text(0.97, 0.9, f"most important: {first}", fontsize=8, ha="right", transform=axes[1].transAxes)
    axes[1].set_xlim(-1, len(values))
    axes[1].set_ylim(0, 1.05)
    axes[1].set_xlabel("filters, the most important first", fontsize=8)
    axes[1].set_ylabel("importance", fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def kernels(
    gradient: Float[Tensor, "filters inputs height width"],
    filters: Sequence[int],
    labels: Sequence[str],
    side: int = 128,
) -> Image.Image:
    """Gradients of some filters as small multiples: in each tile one little square per input channel.

    Red where raising a weight raises the logit, blue where it lowers it; one scale for all.

    Args:
        gradient: `(filters, inputs, height, width)`.
        filters: which ones.
        labels: one per filter.
        side: least side of a tile in pixels.
    """
    chosen = gradient[list(filters)]
    height = chosen.shape[2]
    sheet = grid(F.pad(chosen, (0, height > 1, 0, height > 1)).permute(0, 2, 3, 1))  # (n, h, w, rows, columns)
    sheet = sheet.permute(0, 3, 1, 4, 2).flatten(3).flatten(1, 2)
    limit = max(chosen.abs().flatten().quantile(0.999).item(), 1e-12) if chosen.numel() < 1e7 else chosen.abs().max()
    times = max(1, -(-side // max(sheet.shape[1:])))
    return images.tile([_signed(each / limit, times) for each in sheet], gap=6, labels=labels)


def correlation_figure(correlations: Float[Tensor, "photos photos"], groups: Sequence[str], title: str = "") -> Figure:
    """Correlation matrix of photos' gradient patterns, groups marked."""
    figure, axes = figures.new(5.2, 4.2)
    drawn = axes.imshow(correlations, cmap=SIGNED, vmin=-1, vmax=1)
    names = list(dict.fromkeys(groups))
    edges = np.cumsum([0] + [groups.count(name) for name in names])
    for edge in edges[1:-1]:
        axes.axhline(edge - 0.5, color="white", lw=2)
        axes.axvline(edge - 0.5, color="white", lw=2)
    middles = (edges[1:] + edges[:-1] - 1) / 2
    axes.set_xticks(middles, names, fontsize=9)
    axes.set_yticks(middles, names, fontsize=9, rotation=90, va="center")
    axes.tick_params(length=0)
    figure.colorbar(drawn, ax=axes, label="correlation of gradient patterns")
    axes.set_title(title, fontsize=10)
    return figure


def ablation_figure(
    removed: Sequence[int],
    logits: dict[str, list[float]],
    accuracy: dict[str, list[float]],
    spread: Sequence[float],
    title: str = "",
) -> Figure:
    """How logit and accuracy of the class fall as filters are taken away, one line per strategy."""
    figure, axes = figures.new(11, 3.4, columns=2)
    places = range(len(removed))
    for axis, values, label in ((axes[0], logits, "mean logit"), (axes[1], accuracy, "top-1")):
        for (name, line), colour in zip(values.items(), STRATEGY_COLOURS, strict=False):
            axis.plot(places, line, "o-", color=colour, label=name, markersize=4)
        axis.set_xticks(places, removed)
        axis.set_xlabel("filters taken away", fontsize=8)
        axis.set_ylabel(label, fontsize=8)
    middle, around = np.array(logits["random"]), np.array(spread)
    axes[0].fill_between(places, middle - around, middle + around, color=figures.INK, alpha=0.15, lw=0)
    axes[1].set_ylim(-0.03, 1.03)
    axes[0].legend(fontsize=8, frameon=False)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def gradient_volumes(
    patterns: Float[Tensor, "photos filters inputs"], references: int
) -> UInt8[np.ndarray, "photos rows columns inputs"]:
    """One volume per photo: across, the filters as on the map of the layer; in depth, the input channels.

    The input channels stand in one order for all photos, found on the reference photos, so that volumes can be
    compared voxel by voxel; and all have one scale, whose top is the 999th thousandth of all values.

    Args:
        patterns: `(N, filters, inputs)`.
        references: how many of the photos, from the first on, decide the order.

    Returns:
        `(N, rows, columns, inputs)`, uint8.
    """
    strength = patterns.abs()
    maps = grid(strength[:references].mean(0).T)  # (inputs, rows, columns)
    varied = len(maps) > 1 and (maps != maps.flatten()[0]).any()
    order = ordering.tree(maps).channels if varied else list(range(len(maps)))
    top = max(float(np.quantile(strength.numpy(), 0.999)), 1e-12)
    volumes = grid(strength[:, :, order].transpose(1, 2)).permute(0, 2, 3, 1)
    return (volumes / top * 255).clamp(0, 255).round().byte().numpy()


def frames(
    pictures: Float[Tensor, "photos 3 height width"] | Sequence[Float[Tensor, "3 _ _"]],
    volumes: UInt8[np.ndarray, "photos rows columns inputs"],
    labels: Sequence[str],
    between: int,
    side: int = 132,
) -> Iterator[Float[Tensor, "3 _ _"]]:
    """Pictures of an animation from photo to photo: the photo, its map of the layer, its volume.

    Args:
        pictures: N of them, `(3, H, W)` each, in [0, 1].
        volumes: `(N, rows, columns, inputs)`, uint8, one per photo.
        labels: one per photo.
        between: frames from one photo to the next; each photo itself stands still for as many.
        side: height of the panels in pixels.

    Yields:
        `(3, height, width)` in [0, 1].
    """
    shown = images.framed(pictures, side)
    lengths = np.linalg.norm(volumes.astype(np.float32), axis=3)
    lengths = lengths / max(lengths.max(), 1e-9) * 255
    photos = [images.to_pil(picture) for picture in shown]
    layers = [images.to_pil(coloured(each.astype(np.uint8))).resize((side, side), 0) for each in lengths]
    solids = [images.to_pil(coloured(turned(volume, side=side))) for volume in volumes]
    for photo in range(len(pictures)):
        after = (photo + 1) % len(pictures)
        for part in [0.0] * between + [number / (between + 1) for number in range(1, between + 1)]:
            panels = [Image.blend(each[photo], each[after], part) for each in (photos, layers, solids)]
            yield images.from_pil(_beside(panels, labels[photo if part < 0.5 else after]))


def _beside(panels: Sequence[Image.Image], label: str) -> Image.Image:
    gap, line = 4, 18
    width = sum(panel.width for panel in panels) + gap * (len(panels) - 1)
    image = Image.new("RGB", (width, panels[0].height + line), "white")
    left = 0
    for panel in panels:
        image.paste(panel, (left, 0))
        left += panel.width + gap
    ImageDraw.Draw(image).text((2, panels[0].height + 2), label, "black", images.font(12))
    return image


def _signed(values: Tensor, times: int) -> Tensor:
    """Values in [-1, 1] as a red and blue picture, enlarged by a whole number; the seams stay white."""
    colours = colormaps[SIGNED](values.double().numpy().clip(-1, 1) / 2 + 0.5)[..., :3].astype(np.float32)
    return torch.from_numpy(colours.repeat(times, 0).repeat(times, 1)).permute(2, 0, 1).contiguous()
