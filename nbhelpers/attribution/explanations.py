"""Photos explained: for each a map of what its class hangs on, and the map laid over it.

    for explanation in explain(network, batches, total, target, attribute, opacity=0.6, colour_map="magma"): ...
    explanation.maps, explanation.labels, explanation.picture

What kind of map it is, the technique says. What is around it is the same for all: photos come batch by batch, each
batch is explained and forgotten, so that time and memory do not grow with the photos that came before; one that fails
costs only itself, and each is about the class that was asked for or the one that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from nbhelpers import images, recipes
from nbhelpers.attribution.gradients import NotFinite
from nbhelpers.images import Photos, overlays
from nbhelpers.models import Network, photo_fit, refusal, shares
from nbhelpers.recipes import Recipe


@dataclass
class Explanation:
    """A batch of photos explained, or, joined, all of them.

    Attributes:
        index: photos so far. total: photos there are.
        photos: those that could be explained, with names; files that could not be read are in `photos.skipped`. Where
            shapes differ, `photos.pictures`, `maps` and `picture` are lists.
        numbers: of the photos among the files, from 0.
        classes: number of the class that each map is about.
        labels: its name, or `class 7` where the network does not know names.
        logits: of that class, `(B,)`.
        probabilities: of that class, `(B,)`.
        maps: `(B, h, w)`, of any size, in the unit that the technique gives them.
        picture: the overlays, `(B, 3, H, W)` in [0, 1].
        failed: photos without a map, by name, with the reason.
    """

    index: int
    total: int
    photos: Photos
    numbers: list[int]
    classes: list[int]
    labels: list[str]
    logits: Float[Tensor, " photos"]
    probabilities: Float[Tensor, " photos"]
    maps: Float[Tensor, "photos map_height map_width"] | list[Float[Tensor, "_ _"]]
    picture: Float[Tensor, "photos 3 height width"] | list[Float[Tensor, "3 _ _"]]
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def scores(self) -> Float[Tensor, " photos"]:
        """The logits, which is what the sliders show."""
        return self.logits

    @property
    def empty(self) -> list[str]:
        """Photos whose map is the same everywhere: there is no evidence in it."""
        return [name for name, each in zip(self.photos.names, self.maps, strict=True) if each.min() == each.max()]


def explain(
    network: Network,
    batches: Iterable[tuple[list[int], Photos]],
    total: int,
    target: int | None,
    attribute: Callable[
        [Float[Tensor, "photos 3 height width"], list[int]],
        tuple[Float[Tensor, "photos classes"], Float[Tensor, "photos map_height map_width"]],
    ],
    *,
    opacity: float,
    colour_map: str,
) -> Iterator[Explanation]:
    """Maps for all photos, a batch at a time.

    Args:
        network: whose classes these are.
        batches: what to explain, with the numbers of the photos, as `images.read_batches` gives it.
        total: how many photos there are.
        target: number of the class; None for the class that each photo is given.
        attribute: from pictures `(B, 3, H, W)`, and their numbers, to logits `(B, classes)` and maps `(B, h, w)`. Where
            it raises `NotFinite`, the pictures are tried one by one.
        opacity, colour_map: of the overlays, as `overlays.overlay` takes them.

    Yields:
        Every batch; `joined` makes one of several. A photo that cannot be explained is named in `failed`, and the
        others of its batch keep their maps.

    Raises:
        NotFinite: no photo can be explained. ValueError: an unknown colour map (the nearest are offered), or a network
            that does not take pictures of this size.
    """
    overlays.check_colour_map(colour_map)
    done, mapped, reasons = 0, 0, []

    def explained(numbers: list[int], photos: Photos, failed: dict[str, str]) -> list[_Found]:
        try:
            logits, maps = attribute(photos.pictures, numbers)
        except NotFinite as error:
            if len(numbers) > 1:
                each = (Photos(photos.pictures[i : i + 1], photos.names[i : i + 1]) for i in range(len(numbers)))
                singles = zip(numbers, each, strict=True)
                return [found for number, photo in singles for found in explained([number], photo, failed)]
            failed[photos.names[0]] = str(error)
            reasons.append(error)
            return []
        except (RuntimeError, AssertionError) as error:
            raise refusal(network, tuple(photos.pictures.shape[-2:]), error) from error
        logits, maps = logits.float().cpu(), maps.cpu()
        classes = logits.argmax(1).tolist() if target is None else [target] * len(numbers)
        painted = overlays.overlay(photos.pictures, maps, opacity, colour_map)
        parts = (numbers, photos.names, photos.pictures, classes, logits, maps, painted)
        return [_Found(*each) for each in zip(*parts, strict=True)]

    for (numbers, photos), last in _and_whether_last(batches):
        failed: dict[str, str] = {}
        found = explained(numbers, photos, failed) if numbers else []
        done, mapped = done + len(numbers) + len(photos.skipped), mapped + len(found)
        if last and not mapped and reasons:
            raise reasons[0]
        index = total if last else min(done, total - 1)
        nobody = Photos(photos.pictures[:0], [], photos.skipped, photos.people)
        yield _together(network, found, nobody, failed, index, total)


def joined(explanations: Iterable[Explanation]) -> Explanation:
    """Several batches as one explanation, the photos in the order of their numbers."""
    every = list(explanations)
    numbers = [each.numbers for each in every]
    order = sorted(range(sum(map(len, numbers))), key=[number for each in numbers for number in each].__getitem__)

    def collected(values: Callable[[Explanation], Sequence[Any]]) -> list[Any]:
        found = [value for each in every for value in values(each)]
        return [found[index] for index in order]

    def stacked(values: Callable[[Explanation], Iterable[Tensor]]) -> Tensor | list[Tensor]:
        return images.in_order(numbers, [values(each) for each in every])

    return Explanation(
        index=every[-1].index,
        total=every[-1].total,
        photos=images.joined([(each.numbers, each.photos) for each in every]),
        numbers=collected(lambda each: each.numbers),
        classes=collected(lambda each: each.classes),
        labels=collected(lambda each: each.labels),
        logits=torch.cat([each.logits for each in every])[order],
        probabilities=torch.cat([each.probabilities for each in every])[order],
        maps=stacked(lambda each: each.maps),
        picture=stacked(lambda each: each.picture),
        failed={name: reason for each in every for name, reason in each.failed.items()},
    )


def photo_batches(
    network: Network,
    recipe: Recipe,
    files: dict[str, Path],
    numbers: Sequence[int] | None = None,
    limit: int | None = None,
) -> Iterator[tuple[list[int], Photos]]:
    """A recipe's photos as its network takes them, a batch at a time.

    Args:
        network: one that takes no other shape than the square gets whole photos inside the square.
        recipe: with `photo_size`, `fit` and `batch_size`.
        files: where they are.
        numbers: of those that are wanted, from 0; all unless given.
        limit: so many photos and no more.

    Raises:
        ValueError: there is no such number; as `images.read_batches`.
    """
    chosen = list(range(len(files)) if numbers is None else numbers)
    if beyond := [number for number in chosen if number >= len(files)]:
        raise ValueError(f"its number is {beyond[0]}, out of bounds: the recipe makes {len(files)} pictures")
    names = list(files)
    some = {names[number]: files[names[number]] for number in chosen}
    manner = photo_fit(network, recipe.photo_size, recipe.fit)
    for places, photos in images.read_batches(some, recipe.photo_size, recipe.batch_size, limit, **manner):
        yield [chosen[place] for place in places], photos


def sheet(
    explanation: Explanation, labels: Sequence[str], side: int, columns: int = 6, limit: int | None = None
) -> Image.Image:
    """Every photo (at most `limit`) with its overlay below it, and below that its label.

    Args:
        explanation: what to show.
        labels: one per photo.
        side: of each picture in pixels, the longer one where it is no square.
        columns: photos in a row.
        limit: so many photos and no more.
    """
    photos = images.framed(explanation.photos.pictures[:limit], side)
    overlaid = images.framed(explanation.picture[:limit], side)
    seam = torch.ones(*photos.shape[:2], 2, photos.shape[3])
    pairs = torch.cat([photos, seam, overlaid], 2)
    return images.tile(pairs, min(columns, len(pairs)), labels=labels[:limit])


def save(recipe: Recipe, explanation: Explanation, folder: str | Path) -> list[Path]:
    """Write each overlay as a PNG with its recipe inside, from which `recipes.remake` makes it again.

    Returns:
        The paths, one per photo that could be explained.
    """
    parts = zip(explanation.numbers, explanation.photos.names, strict=True)
    names = [_file_name(number, name) for number, name in parts]
    return recipes.save_pictures(recipe, explanation.picture, names, folder, explanation.numbers)


def write(
    recipe: Recipe, files: dict[str, Path], folder: str | Path, network: nn.Module | None = None
) -> Iterator[Explanation]:
    """Explain photos and write each overlay as soon as it is there, however many they are: a batch is in memory.

    What lies in the folder already, written from the same recipe, is not made again: a run that was stopped goes on.

    Args:
        recipe: how; its `iterate` takes the `numbers` of the photos that are wanted.
        files: where the photos are, by name.
        folder: for the PNGs, as `save` names them.
        network: used in place of the one the recipe names.

    Yields:
        Every batch, after its pictures were written.
    """
    there = {path.name for path in Path(folder).glob(f"{recipe.slug}-*.png")}
    names = [f"{recipe.slug}-{_file_name(number, name)}.png" for number, name in enumerate(files)]
    missing = [number for number, name in enumerate(names) if name not in there]
    for explanation in recipe.iterate(network, missing) if missing else ():
        save(recipe, explanation, folder)
        yield explanation


def _file_name(number: int, name: str) -> str:
    return f"{number:03}-{Path(name).stem}"


@dataclass
class _Found:
    """What is known of one photo."""

    number: int
    name: str
    photo: Tensor
    target: int
    logits: Tensor
    map: Tensor
    picture: Tensor


def _together(
    network: Network, found: list[_Found], none: Photos, failed: dict[str, str], index: int, total: int
) -> Explanation:
    classes = [each.target for each in found]
    blank = none.pictures
    logits = torch.stack([each.logits for each in found]) if found else torch.zeros(0, 1)
    which = torch.tensor(classes, dtype=torch.long)[:, None]
    return Explanation(
        index=index,
        total=total,
        photos=Photos(
            torch.stack([each.photo for each in found]) if found else blank,
            [each.name for each in found],
            none.skipped,
            none.people,
        ),
        numbers=[each.number for each in found],
        classes=classes,
        labels=[network.class_name(number) for number in classes],
        logits=logits.gather(1, which)[:, 0],
        probabilities=shares(logits).gather(1, which)[:, 0],
        maps=torch.stack([each.map for each in found]) if found else blank[:, 0],
        picture=torch.stack([each.picture for each in found]) if found else blank,
        failed=failed,
    )


def _and_whether_last(items: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    items = iter(items)
    before = next(items, None)
    for item in items:
        yield before, False
        before = item
    if before is not None:
        yield before, True
