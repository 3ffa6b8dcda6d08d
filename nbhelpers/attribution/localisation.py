"""From a saliency map to the object's outline and box, with nobody having told the network where anything is.

A map marks a few telling pixels of an object, not the whole of it. So its strongest pixels only say what the object
looks like, and its weakest what the background looks like; with the colours of these two seeds a graph cut splits the
photo, along edges where it can. The largest piece is the object, and a box is drawn around it.

Source: Simonyan, Vedaldi, Zisserman 2014, section 3.2; GrabCut: Rother, Kolmogorov, Blake 2004, as OpenCV has it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Real, UInt8
from torch import Tensor

from nbhelpers.images import overlays
from nbhelpers.images.smoothing import gaussian_blur

Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge in pixels, as in `nbhelpers.attribution.boxes`: as wide as right less left."""

FOREGROUND, BACKGROUND = 0.9, 0.3  # quantiles; the paper takes 0.95 and 0.3, for larger photos
SMOOTHING = 1 / 24  # standard deviation of the blur before the threshold, in sides of the photo
GREEN = (0.1, 1.0, 0.3)
_ONE_AT_A_TIME = threading.Lock()  # OpenCV has one source of randomness for all


@dataclass
class Localisation:
    """Where the objects are.

    Attributes:
        seeds: what the map says by itself, `(B, H, W)` uint8: 0 background, 1 unknown, 2 object.
        masks: the objects' pixels, `(B, H, W)` bool.
        boxes: around them; None where no object was found.
    """

    seeds: UInt8[Tensor, "photos height width"]
    masks: Bool[Tensor, "photos height width"]
    boxes: list[Box | None]


def localise(
    photos: Float[Tensor, "photos 3 height width"],
    maps: Float[Tensor, "photos map_height map_width"],
    foreground: float = FOREGROUND,
    background: float = BACKGROUND,
    seed: int = 0,
) -> Localisation:
    """The object that each map points to, and its box.

    Args:
        photos: `(B, 3, H, W)` in [0, 1].
        maps: `(B, h, w)`, greatest where it matters most; the magnitude of a map with a sign. Resized to the photos.
        foreground: quantile of the map above which a pixel is the object's.
        background: quantile of the map below which a pixel is the background's.
        seed: of GrabCut's colour models.

    Returns:
        One mask and one box per photo. A map that is the same everywhere points to nothing.

    Raises:
        ValueError: other numbers of maps than photos, quantiles that are not 0 < background < foreground < 1, or a
            map that is not finite.
    """
    if len(photos) != len(maps):
        raise ValueError(f"{len(maps)} maps for {len(photos)} photos: give one each")
    if not 0 < background < foreground < 1:
        raise ValueError(
            f"the quantiles are {background} (background) and {foreground} (foreground): expected 0 < background < "
            "foreground < 1"
        )
    sized = overlays.resized(maps, tuple(photos.shape[2:])).cpu()
    smooth = gaussian_blur(sized[:, None], SMOOTHING * min(photos.shape[2:]))[:, 0]
    seeds = seeded(smooth, foreground, background)
    masks = torch.stack([_grabbed(*each, seed) for each in zip(photos.cpu(), seeds, strict=True)])
    largest = torch.stack([_largest_piece(mask) for mask in masks])
    return Localisation(seeds, largest, [box_around(mask) for mask in largest])


def seeded(
    maps: Float[Tensor, "photos height width"], foreground: float = FOREGROUND, background: float = BACKGROUND
) -> UInt8[Tensor, "photos height width"]:
    """Pixels above the upper quantile of their map (2), below the lower one (0), and in between (1), as uint8."""
    flat = maps.detach().float().flatten(1)
    low, high = (
        torch.stack([row.quantile(share) for row in flat])[:, None, None] for share in (background, foreground)
    )
    varied = (flat.amax(1) > flat.amin(1))[:, None, None]
    seeds = torch.ones_like(maps, dtype=torch.uint8)
    seeds[(maps <= low) & varied] = 0
    seeds[(maps >= high) & (maps > low) & varied] = 2
    return seeds


def box_around(mask: Bool[Tensor, "height width"]) -> Box | None:
    """The smallest box around the pixels of a mask `(H, W)`; None if there are none."""
    rows, columns = mask.any(1).nonzero().flatten().tolist(), mask.any(0).nonzero().flatten().tolist()
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if rows else None


def overlaps(found: Sequence[Box | None], true: Sequence[Real[Tensor, "_ 4"]]) -> Float[Tensor, " photos"]:
    """Intersection over union of each box found with the best of the photo's true boxes.

    Args:
        found: one box per photo, or None.
        true: `(k, 4)` per photo, as `nbhelpers.attribution.boxes` reads them.

    Returns:
        `(B,)` in [0, 1]; 0 where no box was found.
    """
    if len(found) != len(true):
        raise ValueError(f"{len(found)} boxes found, and true ones for {len(true)} photos: give one each")
    return torch.tensor(
        [0.0 if one is None else _overlap(one, others) for one, others in zip(found, true, strict=True)]
    )


def drawn(
    photos: Float[Tensor, "photos 3 height width"],
    boxes: Sequence[Box | None],
    masks: Bool[Tensor, "photos height width"] | None = None,
    colour: tuple[float, float, float] = GREEN,
    width: int = 2,
) -> Float[Tensor, "photos 3 height width"]:
    """The photos with their boxes; with masks, everything but the object darkened.

    Args:
        photos: `(B, 3, H, W)` in [0, 1].
        boxes: one per photo; None draws nothing.
        masks: `(B, H, W)` bool.
        colour: of the box.
        width: of its line in pixels, inwards.
    """
    pictures = photos.clone() if masks is None else torch.where(masks[:, None], photos, photos * 0.3)
    line = torch.tensor(colour).to(photos)[:, None, None]
    for picture, box in zip(pictures, boxes, strict=True):
        if box is not None:
            left, top, right, bottom = box
            inside = (slice(None), slice(top + width, bottom - width), slice(left + width, right - width))
            kept = picture[inside].clone()
            picture[:, top:bottom, left:right] = line
            picture[inside] = kept
    return pictures


def shown(
    photos: Float[Tensor, "photos 3 height width"], found: Localisation
) -> Float[Tensor, "photos 3 3*height width"]:
    """How each box came about, from top to bottom: the box, what the map alone says, and the piece that was cut out.

    Args:
        photos: `(B, 3, H, W)` in [0, 1].
        found: what `localise` made of them and their maps.
    """
    seeds = (found.seeds / 2)[:, None].expand(-1, 3, -1, -1)  # black: surely not the object, white: surely
    return torch.cat([drawn(photos, found.boxes), seeds, drawn(photos, found.boxes, found.masks)], 2)


def _grabbed(photo: Tensor, seeds: Tensor, seed: int) -> Tensor:
    """The object's pixels by one graph cut, with colour models of the seeds alone; none if a kind of seeds is missing.

    GrabCut as it comes would count all unknown pixels as background when it learns the colours, and there are so many
    of them that the object drowns in its own colours.
    """
    pixels = (photo.permute(1, 2, 0).flip(2) * 255).round().byte().contiguous().numpy()
    labels = np.array([cv2.GC_PR_BGD, cv2.GC_PR_BGD, cv2.GC_FGD], np.uint8)[seeds.numpy()]
    known = (seeds != 1).numpy()
    if not ((seeds == 0).any() and (seeds == 2).any()):
        return torch.zeros_like(seeds, dtype=torch.bool)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    with _ONE_AT_A_TIME:
        cv2.setRNGSeed(seed)
        # a strip of the seeds only: colours are learned from it, where they lie does not matter
        cv2.grabCut(pixels[known][None], labels[known][None], None, *models, 0, cv2.GC_INIT_WITH_MASK)
        cv2.grabCut(pixels, labels, None, *models, 1, cv2.GC_EVAL_FREEZE_MODEL)
    return torch.from_numpy((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))


def _largest_piece(mask: Tensor) -> Tensor:
    count, pieces, statistics, _ = cv2.connectedComponentsWithStats(mask.byte().numpy(), connectivity=8)
    if count < 2:  # the first is what is outside
        return mask
    return torch.from_numpy(pieces == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax())


def _overlap(one: Box, others: Tensor) -> float:
    box, others = torch.tensor(one, dtype=torch.float64), others.double().view(-1, 4)
    corners = torch.cat([torch.maximum(box[:2], others[:, :2]), torch.minimum(box[2:], others[:, 2:])], 1)
    shared, areas, area = _area(corners), _area(others), _area(box[None])
    return float((shared / (areas + area - shared)).max())


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
