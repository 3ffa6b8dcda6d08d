"""Photos explained: for each a map of what its class hangs on, and the map laid over it.

    for explanation in explain(network, photos, target, attribute, opacity=0.6, colour_map="magma", batch_size=32): ...
    explanation.maps, explanation.labels, explanation.picture

What kind of map it is, the technique says. What is around it is the same for all: photos come batch by batch, one that
fails costs only itself, and each is about the class that was asked for or the one that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from nbhelpers import images, recipes
from nbhelpers.attribution.gradients import NotFinite
from nbhelpers.images import Photos, overlays
from nbhelpers.models import Network, refusal, shares
from nbhelpers.recipes import Recipe


@dataclass
class Explanation:
    """The photos explained so far.

    Attributes:
        index: photos so far. total: photos there are.
        photos: those that could be explained, with names; files that could not be read are in `photos.skipped`.
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
    classes: list[int]
    labels: list[str]
    logits: Float[Tensor, " photos"]
    probabilities: Float[Tensor, " photos"]
    maps: Float[Tensor, "photos map_height map_width"]
    picture: Float[Tensor, "photos 3 height width"]
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def scores(self) -> Float[Tensor, " photos"]:
        """The logits, which is what the sliders show."""
        return self.logits

    @property
    def empty(self) -> list[str]:
        """Photos whose map is the same everywhere: there is no evidence in it."""
        flat = self.maps.flatten(1)
        same = (flat.amax(1) == flat.amin(1)).tolist()
        return [name for name, nothing in zip(self.photos.names, same, strict=True) if nothing]


def explain(
    network: Network,
    photos: Photos,
    target: int | None,
    attribute: Callable[
        [Float[Tensor, "photos 3 height width"], int],
        tuple[Float[Tensor, "photos classes"], Float[Tensor, "photos map_height map_width"]],
    ],
    *,
    opacity: float,
    colour_map: str,
    batch_size: int,
) -> Iterator[Explanation]:
    """Maps for all photos, a batch at a time.

    Args:
        network: whose classes these are.
        photos: what to explain.
        target: number of the class; None for the class that each photo is given.
        attribute: from pictures `(B, 3, H, W)`, and the number of the first of them among all photos, to logits
            `(B, classes)` and maps `(B, h, w)`. Where it raises `NotFinite`, the pictures are tried one by one.
        opacity, colour_map: of the overlays, as `overlays.overlay` takes them.
        batch_size: photos at a time; bounds the memory.

    Yields:
        After every batch, all photos explained so far. A photo that cannot be explained is named in `failed`, and
        the others of its batch keep their maps.

    Raises:
        NotFinite: no photo can be explained. ValueError: an unknown colour map (the nearest are offered), or a network
            that does not take pictures of this size.
    """
    overlays.check_colour_map(colour_map)
    found: list[_Found] = []
    failed: dict[str, str] = {}

    def explained(batch: range) -> list[_Found]:
        pictures = photos.pictures[batch.start : batch.stop]
        try:
            logits, maps = attribute(pictures, batch.start)
        except NotFinite as error:
            if len(batch) > 1:
                return [each for place in batch for each in explained(range(place, place + 1))]
            failed[photos.names[batch.start]] = str(error)
            if len(failed) == len(photos):
                raise
            return []
        except (RuntimeError, AssertionError) as error:
            raise refusal(network, tuple(pictures.shape[-2:]), error) from error
        logits, maps = logits.float().cpu(), maps.cpu()
        classes = logits.argmax(1).tolist() if target is None else [target] * len(batch)
        painted = overlays.overlay(pictures, maps, opacity, colour_map)
        return [_Found(*each) for each in zip(batch, classes, logits, maps, painted, strict=True)]

    for start in range(0, len(photos), batch_size):
        batch = range(start, min(start + batch_size, len(photos)))
        found += explained(batch)
        if found:
            yield _together(network, photos, found, failed, batch.stop)


def sheet(
    explanation: Explanation, labels: Sequence[str], side: int, columns: int = 6, limit: int | None = None
) -> Image.Image:
    """Every photo (at most `limit`) with its overlay below it, and below that its label.

    Args:
        explanation: what to show.
        labels: one per photo.
        side: of each picture in pixels.
        columns: photos in a row.
        limit: so many photos and no more.
    """
    photos = images.resize(explanation.photos.pictures[:limit], side)
    overlaid = images.resize(explanation.picture[:limit], side)
    seam = torch.ones(*photos.shape[:2], 2, photos.shape[3])
    pairs = torch.cat([photos, seam, overlaid], 2)
    return images.tile(pairs, min(columns, len(pairs)), labels=labels[:limit])


def save(recipe: Recipe, explanation: Explanation, folder: str | Path) -> list[Path]:
    """Write each overlay as a PNG with its recipe inside, from which `recipes.remake` makes it again.

    Returns:
        The paths, one per photo that could be explained.
    """
    names = [f"{index:03}-{Path(name).stem}" for index, name in enumerate(explanation.photos.names)]
    return recipes.save_pictures(recipe, explanation.picture, names, folder)


@dataclass
class _Found:
    """What is known of one photo."""

    place: int
    target: int
    logits: Tensor
    map: Tensor
    picture: Tensor


def _together(network: Network, photos: Photos, found: list[_Found], failed: dict[str, str], index: int) -> Explanation:
    places, classes = [each.place for each in found], [each.target for each in found]
    logits, which = torch.stack([each.logits for each in found]), torch.tensor(classes)[:, None]
    return Explanation(
        index=index,
        total=len(photos),
        photos=replace(photos, pictures=photos.pictures[places], names=[photos.names[place] for place in places]),
        classes=classes,
        labels=[network.class_name(number) for number in classes],
        logits=logits.gather(1, which)[:, 0],
        probabilities=shares(logits).gather(1, which)[:, 0],
        maps=torch.stack([each.map for each in found]),
        picture=torch.stack([each.picture for each in found]),
        failed=dict(failed),
    )
