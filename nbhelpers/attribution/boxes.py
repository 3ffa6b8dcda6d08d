"""Photos with boxes around their objects, and whether a map points into them.

    boxed = read("sample_images", size=128)            # the folder's boxes.json
    hits(maps, boxed)                                  # (N,): does the map's greatest value lie on the object?
    chance(boxed)                                      # (N,): how often a blind guess would

The pointing game (Zhang et al. 2016): the place where a map is greatest counts as a hit if it lies on the object, or
not farther from it than a tolerance. Objects are often large and in the middle, so the share of hits means something
only beside what guessing gives. Measured on boxes here, not on outlines: a corner of a box counts as its object.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from nbhelpers import edge, images, models
from nbhelpers.images import Photos
from nbhelpers.models import Network, nearest
from nbhelpers.training import data

TOLERANCE = 0.067
"""Distance from the box that still counts, in sides of the photo: the 15 pixels of Zhang et al., at 224 pixels."""


@dataclass
class Boxed:
    """Photos and the boxes around their objects.

    Attributes:
        photos: the pictures `(N, 3, H, W)`, or a list where their shapes differ, their names, and which files could
            not be read.
        boxes: one tensor `(k, 4)` per photo: left, top, right, bottom edges in pixels of the picture.
        labels: what is in the boxes, one list per photo; or the class each photo shows.
        left_out: photos without a box in what is seen of them, by name, with the reason.
    """

    photos: Photos
    boxes: list[Real[Tensor, "_ 4"]]
    labels: list[list[str]]
    left_out: dict[str, str]

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of each picture in pixels."""
        return [tuple(picture.shape[1:]) for picture in self.photos.pictures]

    def alike(self, batch_size: int) -> Iterator[tuple[list[int], Boxed]]:
        """So many photos of one shape at a time, with their numbers."""
        for numbers, pictures in images.alike(self.photos.pictures, batch_size):
            photos = Photos(pictures, [self.photos.names[number] for number in numbers])
            parts = ([each[number] for number in numbers] for each in (self.boxes, self.labels))
            yield numbers, Boxed(photos, *parts, {})


def read(
    source: str | Path, size: models.Size, boxes: str | Path | None = None, fit: str = "crop", stride: int = 1
) -> Boxed:
    """Photos of a folder, or one photo, with the boxes of a JSON file.

    Args:
        source: path of the folder or of the photo.
        size, fit, stride: what is seen of a photo, as `images.read` takes them; the boxes go with it.
        boxes: the file; `boxes.json` beside the photos unless given. `sample_images/SOURCES.md` describes the format.

    Returns:
        The photos that have an object in what is seen of them.

    Raises:
        FileNotFoundError, ValueError: no photos, no file of boxes, one that is no such file, or one that does not match
            the folder (names the files: without an entry, without a photo, of another size); or no object is left.
    """
    single = edge.kind(source) == "file"
    source = edge.existing_file(source) if single else edge.existing_folder(source)
    file = Path(boxes).expanduser() if boxes else (source.parent if single else source) / "boxes.json"
    entries = _entries(file)
    photos = images.read_many(source, size, None, fit, stride)
    if single:
        entries = {name: entry for name, entry in entries.items() if name == source.name}
    _check_match(file, entries, photos, {source.name: source} if single else images.files_in(source))
    kept, found, labels, left_out = [], [], [], {}
    for index, name in enumerate(photos.names):
        shapes = torch.tensor([each["box"] for each in entries[name]["objects"]], dtype=torch.float64).view(-1, 4)
        width, height = entries[name]["size"]
        within = placed(shapes, images.placement(height, width, size, fit, stride))
        inside = (within[:, 2:] > within[:, :2]).all(1)
        if not inside.any():
            left_out[name] = "no object is marked" if not len(shapes) else "the object is outside the central square"
            continue
        kept.append(index)
        found.append(within[inside])
        labels.append([each["label"] for each, yes in zip(entries[name]["objects"], inside, strict=True) if yes])
    if not kept:
        seen = "the central square of any photo" if fit == "crop" else "any photo"
        raise ValueError(f"{file} marks no object in {seen} of {source}: nothing to point at")
    names = [photos.names[index] for index in kept]
    pictures = images.in_order([kept], [[photos.pictures[index] for index in kept]])
    return Boxed(Photos(pictures, names, photos.skipped), found, labels, left_out)


def from_data(folder: str | Path, network: Network, limit: int | None = None) -> tuple[Boxed, list[int]]:
    """The validation pictures of a data folder (`nbhelpers.training.data`) with `val-boxes.npy`.

    Args:
        folder: packed shards, and `val-boxes.npy`: `(N, 4)`, left, top, right, bottom in pixels, inclusive.
        network: its class names say which logit each picture belongs to.
        limit: so many of them, spread evenly.

    Returns:
        The pictures with their boxes, and the class of each as the network numbers it.

    Raises:
        FileNotFoundError: no such folder or file. ValueError: another number of boxes than of pictures, pictures that
            could not be read, or a class that the network does not know.
    """
    pictures = data.load(folder, "val")
    file = Path(folder) / "val-boxes.npy"
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing: it holds a box for every validation picture")
    corners = torch.from_numpy(np.load(file).astype(np.float64))
    if pictures.skipped or corners.shape != (len(pictures), 4):
        raise ValueError(
            f"{file} has boxes {tuple(corners.shape)} for {len(pictures)} pictures "
            f"({len(pictures.skipped)} unreadable): expected left, top, right, bottom of each"
        )
    named = models.class_indices(network, [each["name"] for each in data.classes(folder)])
    chosen = torch.linspace(0, len(pictures) - 1, min(limit or len(pictures), len(pictures))).long()
    corners[:, 2:] += 1  # from the last pixel to the edge behind it
    batch, labels = pictures.batch(chosen)
    classes = [named[label] for label in labels.tolist()]
    texts = [[network.classes[index]] for index in classes]
    photos = Photos(batch.contiguous(), [f"val {index}" for index in chosen.tolist()])
    return Boxed(photos, list(corners[chosen].split(1)), texts, {}), classes


def placed(boxes: Real[Tensor, "boxes 4"], place: images.Placement) -> Real[Tensor, "boxes 4"]:
    """Boxes of a photo as they lie in the picture that was made of it.

    Args:
        boxes: `(k, 4)`: left, top, right, bottom pixel in the file, inclusive.
        place: of the photo in the picture.

    Returns:
        `(k, 4)`: edges in pixels of the picture, cut off where the photo was; without an area where nothing is left.
    """
    top, left, height, width = place.source
    down, across, tall, wide = place.target
    inner, outer = torch.tensor([width, height] * 2), torch.tensor([wide, tall] * 2)
    edges = (boxes + torch.tensor([0, 0, 1, 1]) - torch.tensor([left, top] * 2)).clamp(min=0)
    return torch.minimum(edges, inner) * outer / inner + torch.tensor([across, down] * 2)


def points(maps: Float[Tensor, "photos height width"], size: models.Size) -> Float[Tensor, "photos 2"]:
    """Where each map is greatest: the middle of that cell, in pixels of the photo.

    Args:
        maps: `(N, h, w)`.
        size: side of the photos in pixels, or `(height, width)`.

    Returns:
        `(N, 2)`: across, down. Not a number for a map that is the same everywhere: it points nowhere.
    """
    height, width = maps.shape[1:]
    flat = maps.detach().flatten(1).double().cpu()
    best = flat.argmax(1)
    places = torch.stack([(best % width + 0.5) / width, (best // width + 0.5) / height], 1)
    places = places * torch.tensor(models.sides(size)[::-1])
    places[flat.amax(1) == flat.amin(1)] = torch.nan
    return places


def hits(
    maps: Float[Tensor, "photos height width"] | Sequence[Float[Tensor, "_ _"]],
    boxed: Boxed,
    tolerance: float = TOLERANCE,
) -> Bool[Tensor, " photos"]:
    """Whether each map points at the object.

    Args:
        maps: `(N, h, w)`, one per photo, of any size.
        boxed: the photos.
        tolerance: distance from the box that still counts, in shorter sides of the photo.

    Returns:
        `(N,)` bool. A map that is the same everywhere is a miss.

    Source: Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop", section 4.1.
    """
    if len(maps) != len(boxed):
        raise ValueError(f"{len(maps)} maps for {len(boxed)} photos with boxes: give one each")
    near = [
        _distance(points(each[None], size), boxes)[0] <= tolerance * min(size)
        for each, size, boxes in zip(maps, boxed.sizes, boxed.boxes, strict=True)
    ]
    return torch.stack(near)


def chance(boxed: Boxed, tolerance: float = TOLERANCE) -> Float[Tensor, " photos"]:
    """How often a point that is drawn blindly would hit, for each photo: `(N,)` in [0, 1]."""
    shares = [
        (_distance(_pixels(*size), boxes) <= tolerance * min(size)).double().mean()
        for size, boxes in zip(boxed.sizes, boxed.boxes, strict=True)
    ]
    return torch.stack(shares).float()


def _pixels(height: int, width: int) -> Tensor:
    """The middle of every pixel: across, down."""
    down, across = (torch.arange(side, dtype=torch.float64) + 0.5 for side in (height, width))
    return torch.cartesian_prod(across, down)


def _distance(places: Tensor, boxes: Tensor) -> Tensor:
    """From each place `(P, 2)` to the nearest box `(k, 4)`, 0 inside: `(P,)`."""
    before = boxes[:, :2] - places[:, None]
    behind = places[:, None] - boxes[:, 2:]
    return torch.maximum(before, behind).clamp(min=0).norm(dim=2).amin(1)


def _entries(file: Path) -> dict[str, Any]:
    file = edge.existing_file(file)
    with edge.understood(file, "a JSON file", "Save it again as JSON"):
        entries = json.loads(file.read_text(encoding="utf-8"))
    wrong = (
        [name for name, entry in entries.items() if not _fits(entry)] if isinstance(entries, dict) else ["all of it"]
    )
    if wrong:
        raise ValueError(
            f"{file} is no file of boxes: {edge.few(wrong)}. For each photo it needs "
            '{"size": [width, height], "objects": [{"label": "cat", "box": [left, top, right, bottom]}]}, '
            "boxes inside the photo"
        )
    return entries


def _fits(entry: Any) -> bool:
    try:
        width, height = entry["size"]
        for each in entry["objects"]:
            left, top, right, bottom = each["box"]
            if not (isinstance(each["label"], str) and 0 <= left <= right < width and 0 <= top <= bottom < height):
                return False
        return True
    except (TypeError, ValueError, KeyError):
        return False


def _check_match(file: Path, entries: dict[str, Any], photos: Photos, paths: dict[str, Path]) -> None:
    without_box = [name for name in photos.names if name not in entries]
    without_photo = [name for name in entries if name not in photos.names and name not in photos.skipped]
    resized = [
        f"{name} ({width} x {height}, marked on {' x '.join(map(str, entries[name]['size']))})"
        for name in photos.names
        if name in entries
        for width, height in [_upright_size(paths[name])]
        if [width, height] != list(entries[name]["size"])
    ]
    complaints = [
        (without_box, "photos without an entry"),
        (without_photo, "entries without a photo"),
        (resized, "photos of another size than the boxes were marked on"),
    ]
    texts = [f"{what}: {edge.few(names)}" for names, what in complaints if names]
    if texts:
        hint = f" {nearest(without_box[0], list(entries))}." if without_box and entries else ""
        raise ValueError(f"{file} does not match the photos. {'; '.join(texts)}.{hint}")


def _upright_size(path: Path) -> tuple[int, int]:
    height, width = images.decode(path).shape[:2]
    return width, height
