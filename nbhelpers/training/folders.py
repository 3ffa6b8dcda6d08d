"""Labelled photos from wherever a user has them: what fine-tuning learns from.

One sub-folder a class is the layout that everybody has. Folders that are already split (`train/`, `val/`), the two
layouts of `nbhelpers.training.data` and the Oxford-IIIT Pet data set, which torchvision fetches, are read as well; and
with nothing at all, crops of the sample photos stand in.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from nbhelpers import edge, images
from nbhelpers.models import Size, nearest, sides
from nbhelpers.training import data
from nbhelpers.training.data import Pictures

OXFORD_PETS = "oxford_pets"
TRAINING = ("train", "training")
HELD_OUT = ("val", "validation", "valid", "test", "testing")
SAMPLES = {
    "people": ["astronaut.jpg", "photographer.jpg", "portrait.jpg"],
    "patterns": ["bricks.jpg", "galaxies.jpg", "gravel.jpg"],
}
Source = Callable[[Size, str], torch.Tensor]
"""From a size and a fit, as `images.read` takes them, to the photo."""


@dataclass
class Labelled:
    """Pictures to learn from and pictures to be judged by.

    Attributes:
        train, validation: the two sets, of one size, with names.
        classes: names in the order of the labels.
        notes: what is to be said about them, in sentences.
    """

    train: Pictures
    validation: Pictures
    classes: list[str]
    notes: list[str]

    def counts(self) -> dict[str, tuple[int, int]]:
        """Pictures of each class: for training, for validation."""
        return {
            name: tuple(int((each.labels == label).sum()) for each in (self.train, self.validation))
            for label, name in enumerate(self.classes)
        }


def read(
    folder: str | os.PathLike,
    size: Size,
    classes: Sequence[str] = (),
    limit: int = 0,
    validation: float = 0.25,
    seed: int = 0,
    fit: Literal["crop", "pad"] = "crop",
) -> Labelled:
    """Read labelled photos, all brought to one shape.

    Args:
        folder: with one sub-folder a class; with `train/` and `val/` that hold such sub-folders, or that lie within
            each of them (in any case of letters); a Tiny-ImageNet folder or packed shards; or `"oxford_pets"`, fetched
            by torchvision into torch's cache folder.
        size: side in pixels, or `(height, width)`.
        classes: which to use, in this order; `"cats: tabby, Persian cat"` joins several under one name. All unless
            given.
        limit: most photos of a class, of those it joins about equally many; 0 for all.
        validation: share of each class that is held out where the folder is not split already.
        seed: of the choice.
        fit: the centre of each photo, or all of it within the shape, as `images.read` has it.

    Raises:
        FileNotFoundError: no such folder, or a data set that cannot be fetched.
        ValueError: fewer than two classes, a class that is not there (the nearest is offered), or one with too few
            readable photos.
    """
    sources, split, notes = _sources(folder)
    groups = _groups(classes, list(sources), str(folder))
    generator = torch.Generator().manual_seed(seed)
    parts: dict[bool, tuple[list, list, list]] = {False: ([], [], []), True: ([], [], [])}
    skipped: list[str] = []
    for label, members in enumerate(groups.values()):
        for name, photo, held in _chosen(members, sources, split, limit, validation, generator):
            for part, value in zip(parts[held], (photo, label, name), strict=True):
                part.append(value)
    sets = []
    for held in (False, True):
        sets.append(_decoded(*parts[held], size, fit, skipped))
    train, held_out = sets
    _check_filled(str(folder), list(groups), train, held_out, skipped)
    train.skipped = skipped
    if skipped:
        notes.append(f"skipped {len(skipped)} unreadable: {edge.few(skipped, separator='; ')}")
    return Labelled(train, held_out, list(groups), notes)


def sample_crops(
    size: Size, crops: int = 12, seed: int = 0, folder: str | os.PathLike = "../sample_images"
) -> Labelled:
    """Two classes, people and patterns, of three sample photos each, as crops: something to learn without any data.

    Two photos of a class are trained on; the crops of the third are the validation set, so that it asks about a photo
    never seen. Two photos are an anecdote all the same.

    Args:
        size: side of the crops in pixels, or `(height, width)`.
        crops: of each photo, 60 to 100 % of the largest part of these proportions, at random places.
        seed: of the places.
        folder: the sample photos.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = {False: [], True: []}
    for label, files in enumerate(SAMPLES.values()):
        for number, file in enumerate(files):
            photo = images.read(Path(folder) / file)
            for index in range(crops):
                parts[number == len(files) - 1].append((_crop(photo, size, generator), label, f"{file} {index + 1}"))
    sets = [
        Pictures(
            torch.stack([pixels for pixels, _, _ in part]),
            torch.tensor([label for _, label, _ in part]),
            names=[name for _, _, name in part],
        )
        for part in parts.values()
    ]
    held = [files[-1] for files in SAMPLES.values()]
    note = f"crops of six sample photos; those of {' and '.join(held)} are held out"
    return Labelled(*sets, list(SAMPLES), [note])


def crops_of(photos: Sequence[Path], size: int, counts: tuple[int, int], seed: int) -> tuple[Pictures, Pictures]:
    """Crops of photos, each photo a class of its own: pictures to train on, and others to be judged by.

    Args:
        photos: paths.
        size: side of the crops in pixels.
        counts: crops of each photo to train on, and to be judged by.
        seed: of their places.
    """
    generator = torch.Generator().manual_seed(seed)
    sets = [([], [], []), ([], [], [])]
    for label, path in enumerate(photos):
        photo = images.read(path)
        for (pixels, labels, names), count in zip(sets, counts, strict=True):
            for index in range(count):
                pixels.append(_crop(photo, size, generator))
                labels.append(label)
                names.append(f"{path.name} {index + 1}")
    training, judged = (
        Pictures(torch.stack(pixels), torch.tensor(labels), names=names) for pixels, labels, names in sets
    )
    return training, judged


def views(pictures: Pictures, count: int, shift: int, seed: int) -> Pictures:
    """Every picture `count` times: as it is, then mirrored and moved at random, so that its features can be kept.

    Args:
        pictures: the originals.
        count: views of each; 1 leaves them as they are.
        shift: pixels of reflected border for the moves.
        seed: of the randomness.

    Returns:
        `count` times as many pictures, view after view.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = tuple(pictures.pixels.shape[1:3])
    pixels = [pictures.pixels]
    for _ in range(count - 1):
        for batch in pictures.pixels.split(256):
            mirrored = torch.rand(len(batch), generator=generator) < 0.5
            moved = data.augment(batch, shape, min(shift, min(shape) - 1), mirrored, generator)
            pixels.append(moved.permute(0, 2, 3, 1).mul(255).round().byte())
    return Pictures(torch.cat(pixels), pictures.labels.repeat(count), pictures.skipped, pictures.names * count)


def _sources(folder: str | os.PathLike) -> tuple[dict[str, list[tuple[str, Source, bool]]], bool, list[str]]:
    """Photos of each class found, `(name, how to read it, whether it is held out)`, whether they are split, notes."""
    if str(folder) == OXFORD_PETS:
        return _oxford_pets(), True, []
    try:
        found = edge.kind(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"there is no folder {edge.short(folder)}. data_dir names a folder with one sub-folder a class; "
            f"{OXFORD_PETS!r} fetches a data set of cats and dogs; empty means crops of the sample photos"
        ) from error
    if found != "folder":
        raise ValueError(f"{folder} is a {found}, expected a folder with one sub-folder a class")
    path = edge.existing_folder(folder)
    if data.known(path):
        return _known_layout(path), True, []
    training, held = _halves(path)
    if training and held:
        found, judging = _class_folders(training, False), _class_folders(held, True)
        notes = _loose(training) + _loose(held) + _loose(path)
        only = [name for name in judging if name not in found]
        if only:
            notes.append(f"left out, because nothing is there to train on: {edge.few(only)} (in {held.name} alone)")
        return {name: photos + judging.get(name, []) for name, photos in found.items()}, True, notes
    classes = _subfolders(path)
    if classes and all(all(_halves(each)) for each in classes):
        found = {
            each.name: _photos_in(_halves(each)[0], each.name, False) + _photos_in(_halves(each)[1], each.name, True)
            for each in classes
        }
        return found, True, _loose(path)
    return _class_folders(path, False), False, _loose(path)


def _subfolders(folder: Path) -> list[Path]:
    return [
        each
        for each in sorted(folder.iterdir())
        if each.is_dir() and not each.name.startswith(".") and each.name.lower() not in images.SYSTEMS
    ]


def _halves(folder: Path) -> tuple[Path | None, Path | None]:
    """The sub-folders to train on and to be judged by, where there are such."""
    names = {each.name.lower(): each for each in _subfolders(folder)}
    return tuple(next((names[name] for name in wanted if name in names), None) for wanted in (TRAINING, HELD_OUT))


def _loose(folder: Path) -> list[str]:
    """What is to be said of pictures that lie beside the classes."""
    endings = images.endings()
    loose = [each.name for each in sorted(folder.iterdir()) if each.suffix.lower() in endings and each.is_file()]
    return [f"left out, because they lie in {folder.name} and in no class: {edge.few(loose)}"] if loose else []


def _class_folders(folder: Path, held: bool) -> dict[str, list[tuple[str, Source, bool]]]:
    return {each.name: _photos_in(each, each.name, held) for each in _subfolders(folder)}


def _photos_in(folder: Path, name: str, held: bool) -> list[tuple[str, Source, bool]]:
    try:
        files = images.files_in(folder)
    except ValueError:  # nothing in it: said together with those that hold nothing readable
        files = {}
    return [(f"{name}/{file}", partial(images.read, path), held) for file, path in files.items()]


def _known_layout(folder: Path) -> dict[str, list[tuple[str, Source, bool]]]:
    found = {entry["name"]: [] for entry in data.classes(folder)}
    names = list(found)
    for held, split in ((False, "train"), (True, "val")):
        for name, source, label in data.encoded(folder, split):
            found[names[label]].append((name, partial(_opened, source), held))
    return found


def _oxford_pets() -> dict[str, list[tuple[str, Source, bool]]]:
    from torchvision.datasets import OxfordIIITPet

    root = Path(torch.hub.get_dir()).parent / "datasets"
    found: dict[str, list] = {"cat": [], "dog": []}
    for held, split in ((False, "trainval"), (True, "test")):
        try:
            pets = OxfordIIITPet(str(root), split, target_types="binary-category", download=True)
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(
                f"the Oxford-IIIT Pet data set cannot be fetched ({str(error).splitlines()[0]}). Connect to the "
                f"internet, or put a copy of it into {root / 'oxford-iiit-pet'} (images/ and annotations/), or name a "
                "folder of your own with one sub-folder a class as data_dir"
            ) from error
        lines = (root / "oxford-iiit-pet" / "annotations" / f"{split}.txt").read_text().splitlines()
        for line in lines[: len(pets)]:
            name, _, species, _ = line.split()
            path = root / "oxford-iiit-pet" / "images" / f"{name}.jpg"
            kind = "cat" if species == "1" else "dog"
            found[kind].append((path.name, partial(images.read, path), held))
    return found


def _opened(source: io.BytesIO | Path, size: Size, fit: str) -> torch.Tensor:
    pixels = images.decode_bytes(source, "picture") if isinstance(source, io.BytesIO) else images.decode(source)
    return images.fitted(torch.from_numpy(pixels.copy()).permute(2, 0, 1), size, fit)


def _groups(classes: Sequence[str], known: list[str], folder: str) -> dict[str, list[str]]:
    """Names of the classes found that make up each class asked for."""
    groups = {}
    for text in classes or known:
        name, colon, members = (text, "", "") if text in known else text.partition(":")
        parts = [part.strip() for part in members.split(",")] if colon else [text]
        unknown = [part for part in parts if part not in known]
        if unknown:
            raise ValueError(f"{folder} has no class {unknown[0]!r}. {nearest(unknown[0], known)}")
        groups[name.strip()] = parts
    if len(groups) < 2:
        found = f"only the class {next(iter(groups))!r}" if groups else "no sub-folder"
        raise ValueError(
            f"{folder} holds {found}: telling apart takes two classes at least, each a sub-folder with photos"
        )
    return groups


def _chosen(members, sources, split: bool, limit: int, validation: float, generator: torch.Generator):
    """The photos of a class to read, each with whether it is held out."""
    for number, member in enumerate(members):
        photos = sources[member]
        order = torch.randperm(len(photos), generator=generator).tolist()
        share = limit // len(members) + (number < limit % len(members)) if limit else len(photos)
        if split:
            training = [photos[k] for k in order if not photos[k][2]][:share]
            held = [photos[k] for k in order if photos[k][2]]
            yield from training + held[: max(1, round(share * validation)) if limit else None]
        else:
            kept = [photos[k] for k in order][:share]
            count = round(len(kept) * validation)
            count = min(max(1, count), len(kept) - 1) if len(kept) > 1 else 0
            yield from ((name, read, index < count) for index, (name, read, _) in enumerate(kept))


def _decoded(readers, labels, names, size: Size, fit: str, skipped: list[str]) -> Pictures:
    pixels, kept, called = [], [], []
    rows = list(zip(readers, labels, names, strict=True))
    for reader, label, name in edge.Bar(rows, desc="reading", unit="photo", leave=False, delay=1):
        try:
            pixels.append(reader(size, fit).permute(1, 2, 0).mul(255).round().byte())
        except (OSError, ValueError) as error:
            skipped.append(f"{name}: {error}")
            continue
        kept.append(label)
        called.append(name)
    empty = torch.zeros(0, *sides(size), 3, dtype=torch.uint8)
    return Pictures(torch.stack(pixels) if pixels else empty, torch.tensor(kept, dtype=torch.long), [], called)


def _check_filled(folder: str, classes: list[str], train: Pictures, held: Pictures, skipped: list[str]) -> None:
    for label, name in enumerate(classes):
        counts = [int((each.labels == label).sum()) for each in (train, held)]
        if min(counts) == 0:
            unreadable = f"; {len(skipped)} files could not be read, such as {skipped[0]}" if skipped else ""
            raise ValueError(
                f"{folder}: class {name!r} has {counts[0]} readable photos to train on and {counts[1]} to be judged "
                f"by, and needs at least one of each{unreadable}"
            )


def _crop(photo: torch.Tensor, size: Size, generator: torch.Generator) -> torch.Tensor:
    draws = torch.rand(3, generator=generator).tolist()
    _, _, tall, wide = images.placement(*photo.shape[1:], size).source
    cut = [round(side * (0.6 + 0.4 * draws[0])) for side in (tall, wide)]
    top, left = (
        round((length - side) * draw) for length, side, draw in zip(photo.shape[1:], cut, draws[1:], strict=True)
    )
    part = photo[:, top : top + cut[0], left : left + cut[1]]
    return images.fitted(part, size).permute(1, 2, 0).mul(255).round().byte()
