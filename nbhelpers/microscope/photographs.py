"""What photographs tell of every channel: where it fires, for which classes, beside which other channel.

One pass collects every channel's mean and strongest answer in each photo, for all layers at once; two numbers a channel
and photo are kept, whatever the size of the maps, and a pass that was interrupted goes on. Each channel's patches come
from a second look at its own eighteen photos. Labels are classes that the strongest answer tells from all others
(INVERT: Bykov, Kopf, Nakajima, Kloft, Höhne, "Labeling Neural Representations with Inverse Recognition", NeurIPS 2023):
the area under the curve is the rank sum of Mann and Whitney, and its p-value counts every class that was tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.stats import norm, rankdata
from torch import Tensor

from nbhelpers import edge, images, models
from nbhelpers.models import Layer, Network
from nbhelpers.training import fingerprints
from nbhelpers.training.data import Pictures
from nbhelpers.volumes import ordering

BATCH = 64
PORTION = 512  # photos that an interruption costs at most
PATCHES = 9  # strongest, and as many across the range
PATCH = 48  # pixels, the side of a patch at most
BINS = 24
NEAREST = 6
CLASSES = 5  # of a channel that are shown
CERTAIN, TELLING = 0.01, 0.75
"""A label needs a corrected p-value below the first and an area above the second; else there is honestly none."""


@dataclass
class Seen:
    """What photographs drew from one layer.

    Attributes:
        means: mean answer of each channel to each photo.
        peaks: its strongest answer.
        places: where that was, as a number of the flattened map.
    """

    means: Float[Tensor, "photos channels"]
    peaks: Float[Tensor, "photos channels"]
    places: Int[Tensor, "photos channels"]


@torch.no_grad()
def look(network: Network, layers: Sequence[Layer], photos: Pictures, kept: Path | None = None) -> dict[str, Seen]:
    """One pass over the photographs, under a bar, for all layers at once.

    Args:
        network: left as it is.
        layers: with maps.
        photos: the photographs.
        kept: a folder for what is done, portion by portion, so that a pass that was interrupted goes on; what another
            network, other layers or other photos left there is not taken.

    Raises:
        ValueError: a layer gives numbers that are not finite.
    """
    capture = models.capture(network, *(layer.name for layer in layers), stop=True)
    portions = []
    names = " ".join(layer.name for layer in layers)
    own = kept / fingerprints.fingerprint(network, names, photos.pixels) if kept else None
    with edge.Bar(total=len(photos), desc="looking", unit="photo", leave=False, disable=None) as bar:
        for start in range(0, len(photos), PORTION):
            numbers = range(start, min(start + PORTION, len(photos)))
            told = _known(own, start)
            if told is None:
                told = _portion(capture, layers, photos, numbers, network)
                _keep(own, start, told)
            portions.append(told)
            bar.update(len(numbers))
    seen = {layer.name: Seen(*(torch.cat(part) for part in zip(*each, strict=True)))
            for layer, *each in zip(layers, *portions, strict=True)}  # fmt: skip
    for name, each in seen.items():
        if not each.means.isfinite().all():
            raise ValueError(f"layer {name!r} gives numbers that are not finite: check the network's weights")
    return seen


Told = tuple[Tensor, Tensor, Tensor]


def _portion(
    capture: models.Capture, layers: Sequence[Layer], photos: Pictures, numbers: range, network: Network
) -> list[Told]:
    """Of each layer: means, peaks, places."""
    found: list[list[Told]] = [[] for _ in layers]
    for start in range(numbers.start, numbers.stop, BATCH):
        batch, _ = photos.batch(slice(start, min(start + BATCH, numbers.stop)))
        given = capture(batch.to(network.mean.device))
        for layer, parts in zip(layers, found, strict=True):
            maps = given[layer.name].float().flatten(2).cpu()
            parts.append((maps.mean(2), *maps.max(2)))
    return [tuple(torch.cat(part) for part in zip(*parts, strict=True)) for parts in found]


def _known(kept: Path | None, start: int) -> list[Told] | None:
    try:
        parts = load_file(kept / f"{start}.safetensors") if kept else {}
    except (OSError, SafetensorError):  # never begun, or not to be read
        return None
    return [tuple(parts[f"{n}.{part}"] for part in range(3)) for n in range(len(parts) // 3)] or None


def _keep(kept: Path | None, start: int, portion: list[Told]) -> None:
    if kept:
        named = {f"{n}.{part}": tensor for n, told in enumerate(portion) for part, tensor in enumerate(told)}
        with edge.replacing(kept / f"{start}.safetensors") as temporary:
            save_file(named, temporary)


def areas(
    peaks: Float[Tensor, "photos channels"], labels: Int[Tensor, " photos"], classes: int
) -> tuple[Float[np.ndarray, "classes channels"], Float[np.ndarray, "classes channels"]]:
    """How well each channel tells each class from all others, and how likely chance would do as well.

    Returns:
        Areas under the curve, 0.5 for a class of no photos or of all; p-values of the one-sided test of Mann and
        Whitney in its normal approximation, with ties, times the number of classes (Bonferroni).
    """
    values = peaks.double().numpy()
    count = len(values)
    ranks = rankdata(values, axis=0)
    member = torch.nn.functional.one_hot(labels, classes).double().numpy()
    inside = member.sum(0)[:, None]
    pairs = inside * (count - inside)
    wins = member.T @ ranks - inside * (inside + 1) / 2
    ties = np.array(
        [(sizes**3 - sizes).sum() for sizes in (np.unique(column, return_counts=True)[1] for column in values.T)]
    )
    variance = pairs / 12 * (count + 1 - ties / max(1, count * (count - 1)))
    safe, spread = np.maximum(pairs, 1), np.sqrt(np.maximum(variance, 1e-12))
    area = np.where(pairs > 0, wins / safe, 0.5)
    chance = norm.sf((wins - pairs / 2 - 0.5) / spread)
    return area, np.where(variance > 1e-9, np.minimum(chance * classes, 1), 1.0)


def across(peaks: Float[Tensor, " photos"], count: int = PATCHES) -> Int[Tensor, " chosen"]:
    """Photos evenly spread over the ranks of an answer, from the strongest to the weakest."""
    order = peaks.argsort(descending=True, stable=True)
    return order[torch.linspace(0, len(order) - 1, min(count, len(order))).round().long()]


def facts(seen: Seen, own: Float[Tensor, " channels"], photos: Pictures, names: Sequence[str]) -> list[dict[str, Any]]:
    """What the page of each channel of a layer says of it.

    Args:
        seen: what the photographs drew from the layer.
        own: each channel's mean answer to its own made picture.
        photos: the photographs.
        names: of their labels.
    """
    count, channels = seen.peaks.shape
    sizes = torch.bincount(photos.labels, minlength=len(names))
    labelled = len(names) > 1 and int(sizes.max()) > 1
    area, chance = areas(seen.peaks, photos.labels, len(names)) if labelled else (None, None)
    likeness = _likeness(seen.means)
    near = (
        torch.nan_to_num(torch.corrcoef(seen.means.T))
        if channels > 1 and count > 1
        else torch.zeros(channels, channels)
    )
    found = []
    for channel in range(channels):
        peaks = seen.peaks[:, channel]
        low, high = float(peaks.min()), float(peaks.max())
        counts = torch.histc(peaks, BINS, low, max(high, low + 1e-6))
        fact: dict[str, Any] = {
            "most": short(high),
            "fires": short((peaks > 0).float().mean()),
            "percentile": short((seen.means[:, channel] < own[channel]).float().mean()),
            "likeness": likeness[channel],
            "histogram": {"counts": counts.int().tolist(), "low": short(low), "high": short(high)},
        }
        if high <= 0:
            fact["facts"] = [["in photographs", "never above zero"]]
        others = [each for each in near[channel].argsort(descending=True).tolist() if each != channel][:NEAREST]
        fact["near"] = [{"channel": each, "value": short(near[channel, each])} for each in others]
        if labelled:
            best = [int(each) for each in (-area[:, channel]).argsort(kind="stable")[:CLASSES]]
            fact["labels"] = {
                "rows": [
                    {"name": names[each], "auc": short(area[each, channel]), "p": short(chance[each, channel])}
                    for each in best
                ]
            }
            if chance[best[0], channel] < CERTAIN and area[best[0], channel] > TELLING:
                fact["label"] = {"name": names[best[0]]}
        found.append(fact)
    return found


@torch.no_grad()
def patches(
    network: Network, layer: Layer, seen: Seen, channel: int, photos: Pictures, capture: models.Capture | None = None
) -> tuple[Image.Image, list[dict[str, Any]]]:
    """A channel's patches as one image, nine in a row, and what the page says of each.

    The first row has the strongest photos, one patch from each, cropped to what the strongest unit sees; the second the
    same under the channel's map, dark where it is silent; the third, photos from across its range.
    """
    capture = capture or models.capture(network, layer.name, stop=True)
    peaks = seen.peaks[:, channel]
    strongest = peaks.topk(min(PATCHES, len(peaks))).indices
    spread = across(peaks)
    chosen = torch.cat([strongest, spread])
    pixels, _ = photos.batch(chosen)
    maps = capture(pixels.to(network.mean.device))[layer.name][:, channel].float().cpu()
    size = pixels.shape[-1]
    field = min(size, int(layer.receptive_field)) if layer.receptive_field < size else size
    shown = torch.nn.functional.interpolate(maps.clamp(min=0)[:, None], size=size, mode="bilinear")
    lit = pixels * (0.25 + 0.75 * shown / maps.amax((1, 2)).clamp(min=1e-6)[:, None, None, None])
    crops = []
    for number, photo in enumerate(chosen.tolist()):
        y, x = divmod(int(seen.places[photo, channel]), maps.shape[2])
        top, left = (
            round(min(max((at + 0.5) / side * size - field / 2, 0), size - field))
            for at, side in ((y, maps.shape[1]), (x, maps.shape[2]))
        )
        crops.append([each[number, :, top : top + field, left : left + field] for each in (pixels, lit)])
    first = len(strongest)
    rows = [
        [plain for plain, _ in crops[:first]],
        [dark for _, dark in crops[:first]],
        [plain for plain, _ in crops[first:]],
    ]
    side = min(PATCH, max(field, 24))
    sheet = Image.new("RGB", (PATCHES * side, len(rows) * side))
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            small = images.to_pil(tile.clamp(0, 1)).resize((side, side), Image.Resampling.BICUBIC)
            sheet.paste(small, (column * side, row * side))
    names = photos.names or [""] * len(photos)
    said = lambda some: [{"name": names[photo], "value": short(peaks[photo])} for photo in some.tolist()]  # noqa: E731
    titles = ("the strongest, one of each photo", "the same, dark where the channel is silent", "from across its range")
    return sheet, [
        {"name": title, "photos": said(some)}
        for title, some in zip(titles, (strongest, strongest, spread), strict=True)
    ]


def _likeness(means: Float[Tensor, "photos channels"]) -> list[int]:
    """Each channel's rank in an order in which neighbours answer alike."""
    if means.shape[0] < 2 or means.shape[1] < 3:
        return list(range(means.shape[1]))
    order = ordering.seriation(means.T[:, :, None].contiguous()).channels
    return np.argsort(order).tolist()


def short(value: Any) -> float:
    """A number with four digits that count, as the pages carry it."""
    return float(f"{float(value):.4g}")
