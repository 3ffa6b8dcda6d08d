"""Labelled pictures for training, decoded once into memory.

Two layouts are read: the folder layout of Tiny-ImageNet (Stanford CS231n; `train/<wnid>/images/*.JPEG`,
`val/images/*.JPEG` with `val/val_annotations.txt`, `words.txt`), as anybody can get it, and packed shards
(`train-*.npz`, `val.npz`, `classes.json`) in which the encoded files lie end to end.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

from nbhelpers import edge, images
from nbhelpers.models import Size, sides

SIDE = 64


@dataclass
class Pictures:
    """Decoded pictures with their labels.

    Attributes:
        pixels: `(N, H, W, 3)` uint8; a batch of it, permuted, is `channels_last` without a copy.
        labels: `(N,)` int64.
        skipped: names of the pictures that could not be read, with the reason.
        names: one per picture, where they are known.
    """

    pixels: UInt8[Tensor, "pictures height width 3"]
    labels: Int[Tensor, " pictures"]
    skipped: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(
        self, index: Int[Tensor, " batch"] | slice
    ) -> tuple[Float[Tensor, "batch 3 height width"], Int[Tensor, " batch"]]:
        """Pictures `(B, 3, H, W)` float32 in [0, 1] and labels `(B,)`."""
        return self.pixels[index].permute(0, 3, 1, 2).float() / 255, self.labels[index]

    def to(self, device: str | torch.device) -> "Pictures":
        """The same pictures on a device, as bytes: 12 kB each of 64 pixels."""
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))

    def batches(self, size: int) -> Iterator[tuple[Float[Tensor, "batch 3 height width"], Int[Tensor, " batch"]]]:
        """All of them in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))

    def subset(self, count: int) -> "Pictures":
        """`count` of them spread evenly, so that a sorted set still shows every class."""
        index = torch.linspace(0, len(self) - 1, min(count, len(self))).long()
        return Pictures(self.pixels[index], self.labels[index])

    def first_of_each(self, count: int) -> "Pictures":
        """The first `count` of every class, or all of a class that has fewer, in the order of the classes."""
        chosen = [(self.labels == label).nonzero().flatten()[:count] for label in self.labels.unique()]
        return Pictures(self.pixels[torch.cat(chosen)], self.labels[torch.cat(chosen)])


def load(folder: str | Path, split: str, side: int = SIDE) -> Pictures:
    """Read one split of a data folder in either layout.

    Args:
        folder: a Tiny-ImageNet folder or a folder of packed shards.
        split: "train" or "val".
        side: pictures of another size are scaled to `side` pixels.

    Returns:
        Pictures: every readable picture; unreadable ones are skipped and named in `skipped`.

    Raises:
        FileNotFoundError: the folder or its split is missing.
        ValueError: a class has no (readable) picture, or a shard is inconsistent.
    """
    folder = _existing(folder)
    labels: list[int] = []
    pixels: list[np.ndarray] = []
    skipped: list[str] = []
    sources = encoded(folder, split)
    for name, source, label in edge.Bar(sources, desc=f"reading {split}", unit="picture", leave=False):
        try:
            pixels.append(decoded(source, side, name))
            labels.append(label)
        except (OSError, ValueError) as error:
            skipped.append(f"{name}: {error}")
    empty = set(range(len(classes(folder)))) - set(labels)
    if empty:
        names = [classes(folder)[index]["wnid"] for index in sorted(empty)]
        raise ValueError(
            f"{folder}: {len(empty)} classes have no readable {split} picture ({edge.few(names)}; "
            f"{len(skipped)} pictures could not be read). "
            "Remove these classes or restore their pictures."
        )
    return Pictures(torch.from_numpy(np.stack(pixels)), torch.tensor(labels), skipped)


def classes(folder: str | Path) -> list[dict[str, Any]]:
    """The classes of a data folder in the order of their labels, each `{"wnid": ..., "name": ...}`.

    Raises:
        FileNotFoundError: neither layout is found.
    """
    folder = _existing(folder)
    if packed(folder):
        with edge.understood(folder / "classes.json", "a list of classes", "Pack the pictures again"):
            entries = json.loads((folder / "classes.json").read_text())
            return [{**entry, "name": entry["name"]} for entry in sorted(entries, key=lambda entry: entry["index"])]
    names = {}
    if (folder / "words.txt").exists():
        lines = (folder / "words.txt").read_text().splitlines()
        names = {wnid: words.split(",")[0] for wnid, _, words in (line.partition("\t") for line in lines)}
    wnids = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    if not wnids:
        raise FileNotFoundError(f"{folder / 'train'} holds no class folders; expected train/<wnid>/images/*.JPEG.")
    return [{"wnid": wnid, "name": names.get(wnid, wnid)} for wnid in wnids]


def packed(folder: Path) -> bool:
    """Whether a folder holds packed shards."""
    return (folder / "classes.json").exists()


def known(folder: Path) -> bool:
    """Whether a folder has one of the two layouts."""
    return packed(folder) or (folder / "val" / "val_annotations.txt").exists()


def encoded(folder: str | Path, split: str) -> list[tuple[str, io.BytesIO | Path, int]]:
    """Every picture of a split in either layout, not decoded yet: its name, its bytes or its file, its label.

    Raises:
        FileNotFoundError, ValueError: as `load`.
    """
    folder = _existing(folder)
    return list(_shards(folder, split) if packed(folder) else _files(folder, split))


def decoded(source: io.BytesIO | Path, side: int, name: str = "picture") -> UInt8[np.ndarray, "side side 3"]:
    """One picture, read as every other (`images.decode`), its central square at `side` pixels: `(side, side, 3)` uint8.

    Raises:
        FileNotFoundError, ValueError: it can't be read; the message says why.
    """
    read = images.decode_bytes(source, name) if isinstance(source, io.BytesIO) else images.decode(source)
    pixels = (read * 255).round().astype(np.uint8)
    top, left, height, width = images.placement(*pixels.shape[:2], side).source
    pixels = pixels[top : top + height, left : left + width]
    if (height, width) != (side, side):
        pixels = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))
    return pixels


def augment(
    pixels: UInt8[Tensor, "pictures height width 3"],
    side: Size,
    shift: int,
    mirrored: Bool[Tensor, " pictures"],
    generator: torch.Generator,
    zoom: float = 1.0,
) -> Float[Tensor, "pictures 3 cut_height cut_width"]:
    """Cut a part from a random place of each picture and mirror some, on the pixels' device.

    Args:
        pixels: `(B, H, W, 3)` bytes.
        side: of a square cut in pixels, or `(height, width)`; less than H makes an epoch cheaper.
        shift: how far, in pixels, a cut may reach beyond the border, where the picture is reflected.
        mirrored: `(B,)`, which ones are turned left to right.
        generator: source of the places; on the pixels' device, or everything waits for it.
        zoom: least size of a cut as a share of `side`; cuts of random size are enlarged to `side` (bilinear).
            At 1 all cuts lie on whole pixels.

    Returns:
        `(B, 3, height, width)` in [0, 1], `channels_last`.
    """
    count, height, width = pixels.shape[:3]
    draws = torch.rand(3, count, 1, generator=generator, device=generator.device, dtype=torch.float32).to(pixels.device)
    lines = []
    for length, cut, place in zip((height, width), sides(side), draws[1:], strict=True):
        size = cut * (zoom + (1 - zoom) * draws[0])
        inside = (torch.arange(cut, device=pixels.device, dtype=torch.float32) + 0.5) / cut
        room = length + 2 * shift - size
        start = room * place if zoom < 1 else (place * (room + 1)).floor()
        lines.append(2 * (start - shift + size * inside) / length - 1)
    rows, columns = lines
    columns = torch.where(mirrored.view(-1, 1), -columns, columns)
    grid = torch.stack(torch.broadcast_tensors(columns.unsqueeze(1), rows.unsqueeze(2)), dim=3)
    pictures = pixels.permute(0, 3, 1, 2).float() / 255
    cuts = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    return cuts.contiguous(memory_format=torch.channels_last)


def cut_and_mix(
    pictures: Float[Tensor, "pictures 3 height width"],
    targets: Float[Tensor, "pictures classes"],
    share: float,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "pictures 3 height width"], Float[Tensor, "pictures classes"]]:
    """Put a patch of another picture of the batch into some, and mix their targets by area.

    Yun et al. 2019, "CutMix: regularization strategy to train strong classifiers with localizable features". A
    patch's share of the area is uniform in [0, 1] before it is cut off at the border, its centre anywhere.

    Args:
        pictures: `(B, 3, H, W)`.
        targets: `(B, classes)`, probabilities.
        share: of the pictures that get a patch, in [0, 1].
        generator: source of the randomness; on the pictures' device, or everything waits for it.

    Returns:
        Pictures and targets of the same shapes.
    """
    count, _, height, width = pictures.shape
    device = pictures.device
    area, y, x, chance = torch.rand(4, count, 1, generator=generator, device=generator.device, dtype=torch.float32).to(
        device
    )
    others = torch.randperm(count, generator=generator, device=generator.device).to(device)
    half = area.sqrt() / 2 * (chance < share)
    rows, columns = (
        ((torch.arange(length, device=device, dtype=torch.float32) + 0.5) / length - centre).abs() < half
        for length, centre in ((height, y), (width, x))
    )
    patch = (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)
    mixed = torch.where(patch, pictures[others], pictures).contiguous(memory_format=torch.channels_last)
    return mixed, targets.lerp(targets[others], patch.float().mean((1, 2, 3)).view(-1, 1))


def _existing(folder: str | Path) -> Path:
    if not edge.is_folder(folder):
        named = edge.short(folder)
        raise FileNotFoundError(f"No data folder {named}. Give the Tiny-ImageNet folder or a folder of packed shards.")
    folder = edge.existing_folder(folder)
    if not packed(folder) and not (folder / "train").is_dir():
        raise FileNotFoundError(
            f"{folder} has neither train/<wnid>/images/ (Tiny-ImageNet) nor classes.json with train-*.npz "
            "(packed shards). Point at the folder that contains one of them."
        )
    return folder


def _shards(folder: Path, split: str) -> Iterator[tuple[str, io.BytesIO, int]]:
    shards = sorted([*folder.glob(f"{split}-[0-9]*.npz"), *folder.glob(f"{split}.npz")])
    if not shards:
        raise FileNotFoundError(f"{folder} has classes.json but no {split}.npz or {split}-0.npz shard.")
    count = len(classes(folder))
    for shard in shards:
        with np.load(shard) as arrays:
            missing = {"bytes", "offsets", "labels"} - set(arrays.files)
            if missing:
                raise ValueError(f"{shard} lacks {', '.join(sorted(missing))}; expected bytes, offsets and labels.")
            encoded, offsets, labels = arrays["bytes"], arrays["offsets"], arrays["labels"]
        if len(offsets) != len(labels) + 1 or offsets[-1] != len(encoded) or (len(labels) and labels.max() >= count):
            raise ValueError(f"{shard}: offsets, bytes and labels do not fit together, or a label is beyond {count}.")
        for index, label in enumerate(labels.tolist()):
            yield (
                f"{shard.name}[{index}]",
                io.BytesIO(encoded[offsets[index] : offsets[index + 1]].tobytes()),
                label,
            )


def _files(folder: Path, split: str) -> Iterator[tuple[str, Path, int]]:
    labels = {entry["wnid"]: label for label, entry in enumerate(classes(folder))}
    if split == "train":
        for wnid, label in labels.items():
            for path in sorted((folder / "train" / wnid / "images").glob("*.[jJpP]*")):
                yield f"{wnid}/{path.name}", path, label
        return
    annotations = folder / split / "val_annotations.txt"
    if not annotations.exists():
        raise FileNotFoundError(f"{annotations} is missing; it names the class of every validation picture.")
    for line in annotations.read_text().splitlines():
        name, wnid = line.split("\t")[:2]
        if wnid in labels:
            yield name, folder / split / "images" / name, labels[wnid]
