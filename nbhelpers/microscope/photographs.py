"""What photographs tell of every channel: where it fires, for which classes, beside which other channel.

One pass collects every channel's mean and strongest answer in each photo, and where that was, for all layers at once:
three numbers a channel and photo, whatever the size of the maps, on disk where there is a folder for them, and read a
layer at a time. A pass that was interrupted goes on. Patches come from a second look at the strongest photos of each.
Labels are classes, or kinds of them, that the strongest answer tells from all others (INVERT: Bykov, Kopf, Nakajima,
Kloft, Höhne, "Labeling Neural Representations with Inverse Recognition", NeurIPS 2023): the area under the curve is the
rank sum of Mann and Whitney, and its p-value counts every label that was tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy.stats import norm, rankdata
from torch import Tensor

from nbhelpers import edge, models
from nbhelpers.microscope import hypernyms
from nbhelpers.models import Layer, Network
from nbhelpers.training import fingerprints
from nbhelpers.training.data import Pictures
from nbhelpers.volumes import ordering

TOGETHER = 2**19  # pixels of the photos that are looked at together, so that memory does not grow with their size
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
def look(network: Network, layers: Sequence[Layer], photos: Pictures, kept: Path | None = None) -> Mapping[str, Seen]:
    """One pass over the photographs, under a bar, for all layers at once.

    Args:
        network: left as it is.
        layers: with maps.
        photos: the photographs.
        kept: a folder for what is done, portion by portion, so that a pass that was interrupted goes on; what another
            network, other layers or other photos left there is not taken. It is read as it is asked for, a layer at a
            time, so the memory is that of one layer; without a folder, that of all.

    Raises:
        ValueError: a layer gives numbers that are not finite.
    """
    capture = models.capture(network, *(layer.name for layer in layers), stop=True)
    names = [layer.name for layer in layers]
    own = kept / fingerprints.fingerprint(network, " ".join(names), photos.pixels) if kept else None
    portions: list[Path | list[Told]] = []
    with edge.Bar(total=len(photos), desc="looking", unit="photo", leave=False, disable=None) as bar:
        for start in range(0, len(photos), PORTION):
            numbers = range(start, min(start + PORTION, len(photos)))
            path = own / f"{start}.safetensors" if own else None
            if path is None:
                portions.append(_portion(capture, layers, photos, numbers, network))
            else:
                if not _whole(path, len(layers)):
                    _keep(path, _portion(capture, layers, photos, numbers, network))
                portions.append(path)
            bar.update(len(numbers))
    return _Portions(names, portions)


Told = tuple[Tensor, Tensor, Tensor]


class _Portions(Mapping[str, Seen]):
    """What was seen, by layer: put together when it is asked for."""

    def __init__(self, names: list[str], portions: list[Path | list[Told]]) -> None:
        self._names, self._portions = names, portions

    def __getitem__(self, name: str) -> Seen:
        if name not in self._names:
            raise KeyError(name)
        number = self._names.index(name)
        parts = [_read(each, number) if isinstance(each, Path) else each[number] for each in self._portions]
        means, peaks, places = (torch.cat(part) for part in zip(*parts, strict=True))
        return Seen(means, peaks, places.long())

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _portion(
    capture: models.Capture, layers: Sequence[Layer], photos: Pictures, numbers: range, network: Network
) -> list[Told]:
    """Of each layer: means, peaks, places."""
    found: list[list[Told]] = [[] for _ in layers]
    together = _together(photos)
    for start in range(numbers.start, numbers.stop, together):
        batch, _ = photos.batch(slice(start, min(start + together, numbers.stop)))
        given = capture(batch.to(network.mean.device))
        for layer, parts in zip(layers, found, strict=True):
            maps = given[layer.name].float().flatten(2)
            peaks, places = maps.max(2)
            parts.append((maps.mean(2).cpu(), peaks.cpu(), places.int().cpu()))
            if not parts[-1][0].isfinite().all():
                raise ValueError(f"layer {layer.name!r} gives numbers that are not finite: check the network's weights")
    return [tuple(torch.cat(part) for part in zip(*parts, strict=True)) for parts in found]


def _together(photos: Pictures) -> int:
    return max(1, TOGETHER // photos.pixels.shape[1] ** 2)


def _whole(path: Path, layers: int) -> bool:
    """Whether a portion was written; False where it was never begun, or is not to be read."""
    try:
        with safe_open(path, "pt") as file:
            return len(file.keys()) == 3 * layers
    except (OSError, SafetensorError):
        return False


def _read(path: Path, number: int) -> Told:
    with safe_open(path, "pt") as file:
        return tuple(file.get_tensor(f"{number}.{part}") for part in range(3))


def _keep(path: Path, portion: list[Told]) -> None:
    named = {f"{n}.{part}": tensor for n, told in enumerate(portion) for part, tensor in enumerate(told)}
    with edge.replacing(path) as temporary:
        save_file(named, temporary)


def areas(
    peaks: Float[Tensor, "photos channels"],
    labels: Int[Tensor, " photos"],
    classes: int,
    kinds: Sequence[Sequence[int]] = (),
) -> tuple[Float[np.ndarray, "tried channels"], Float[np.ndarray, "tried channels"]]:
    """How well each channel tells each class from all others, and how likely chance would do as well.

    Args:
        peaks: strongest answers.
        labels: the class of each photo.
        classes: how many there are.
        kinds: several classes that are tried together, each by their numbers.

    Returns:
        Areas under the curve, of the classes and then of the kinds, 0.5 for one of no photos or of all; p-values of the
        one-sided test of Mann and Whitney in its normal approximation, with ties, times the number of all that are
        tried (Bonferroni).
    """
    values = peaks.double().numpy()
    count = len(values)
    ranks = rankdata(values, axis=0)
    each = torch.nn.functional.one_hot(labels, classes).double().numpy()
    member = np.column_stack([each, *(each[:, list(kind)].sum(1) for kind in kinds)])
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
    return area, np.where(variance > 1e-9, np.minimum(chance * member.shape[1], 1), 1.0)


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
    kinds = hypernyms.groups(names)
    tried = [*names, *(f"any {kind} ({len(some)} classes)" for kind, some in kinds.items())]
    area, chance = areas(seen.peaks, photos.labels, len(names), list(kinds.values())) if labelled else (None, None)
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
            "best": short(seen.means[:, channel].max()),
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
            rows = [
                {"name": tried[each], "auc": short(area[each, channel]), "p": short(chance[each, channel])}
                for each in best
            ]
            fact["labels"] = {"tried": len(tried), "rows": rows}
            if chance[best[0], channel] < CERTAIN and area[best[0], channel] > TELLING:
                fact["label"] = {"name": tried[best[0]]}
        found.append(fact)
    return found


def patches(
    network: Network, layer: Layer, seen: Seen, photos: Pictures
) -> Iterator[tuple[Image.Image, list[dict[str, Any]]]]:
    """Of each channel in order: its patches as one image, nine in a row, and what the page says of each.

    The first row has the strongest photos, one patch from each, cropped to what the strongest unit sees; the second the
    same under the channel's map, dark where it is silent; the third, photos from across its range.
    """
    size = photos.pixels.shape[1]
    field = min(size, int(layer.receptive_field)) if layer.receptive_field < size else size
    side = min(PATCH, max(field, 24))
    names = photos.names or [""] * len(photos)
    strongest = seen.peaks.topk(min(PATCHES, len(photos)), dim=0).indices
    maps = _maps(network, layer, strongest, photos)
    height, width = maps.shape[2:]
    for channel, best in enumerate(strongest.T):
        peaks, places = seen.peaks[:, channel], seen.places[:, channel]
        spread = across(peaks)
        shown = torch.nn.functional.interpolate(maps[:, channel].clamp(min=0)[:, None], size=size, mode="bilinear")
        lit = 0.25 + 0.75 * shown[:, 0] / shown.amax((1, 2, 3)).clamp(min=1e-6)[:, None, None]
        rows = {
            "the strongest, one of each photo": best,
            "the same, dark where the channel is silent": best,
            "from across its range": spread,
        }
        sheet = Image.new("RGB", (PATCHES * side, len(rows) * side))
        for row, some in enumerate(rows.values()):
            for column, photo in enumerate(some.tolist()):
                y, x = divmod(int(places[photo]), width)
                top, left = (
                    round(min(max((at + 0.5) / count * size - field / 2, 0), size - field))
                    for at, count in ((y, height), (x, width))
                )
                crop = (slice(top, top + field), slice(left, left + field))
                pixels = photos.pixels[photo][crop]
                if row == 1:
                    pixels = (pixels * lit[column][crop][..., None]).byte()
                tile = Image.fromarray(pixels.numpy()).resize((side, side), Image.Resampling.BICUBIC)
                sheet.paste(tile, (column * side, row * side))
        said = [
            {"name": title, "photos": [{"name": names[photo], "value": short(peaks[photo])} for photo in some.tolist()]}
            for title, some in rows.items()
        ]
        yield sheet, said


@torch.no_grad()
def _maps(
    network: Network, layer: Layer, chosen: Int[Tensor, "ranks channels"], photos: Pictures
) -> Float[Tensor, "ranks channels height width"]:
    """The map of each channel in some photos of its own; a photo that several channels chose is looked at once."""
    look, maps = models.capture(network, layer.name, stop=True), None
    for some in chosen.unique().split(_together(photos)):
        given = look(photos.batch(some)[0].to(network.mean.device))[layer.name].float().cpu()
        maps = torch.zeros(*chosen.shape, *given.shape[2:]) if maps is None else maps
        ranks, channels = torch.isin(chosen, some).nonzero(as_tuple=True)
        maps[ranks, channels] = given[torch.searchsorted(some, chosen[ranks, channels]), channels]
    return maps


def _likeness(means: Float[Tensor, "photos channels"]) -> list[int]:
    """Each channel's rank in an order in which neighbours answer alike."""
    if means.shape[0] < 2 or means.shape[1] < 3:
        return list(range(means.shape[1]))
    order = ordering.seriation(means.T[:, :, None].contiguous()).channels
    return np.argsort(order).tolist()


def short(value: Any) -> float:
    """A number with four digits that count, as the pages carry it."""
    return float(f"{float(value):.4g}")
