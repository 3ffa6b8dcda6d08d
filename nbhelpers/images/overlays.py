"""Maps over photos: heat maps in colour, and the photo shining through.

A map says something of every place of a photo: how much the class hangs on it, where a layer looked. Values have no
unit, so each map is stretched on its own, between percentiles rather than extremes: one bright pixel must not leave
all others dark. A diverging colour map (`"RdBu_r"`) keeps zero in its middle, for maps with a sign.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from matplotlib import colormaps
from torch import Tensor
from torch.nn import functional as F

from nbhelpers import edge
from nbhelpers.models import nearest

SEQUENTIAL, DIVERGING = "magma", "RdBu_r"
COLOUR_MAPS = ("magma", "inferno", "viridis", "turbo", "gray", "RdBu_r", "coolwarm", "PiYG")
PERCENTILE = 0.99  # what counts as a map's greatest value; its least one is 1 minus this
# those in which zero has a colour of its own
_DIVERGING = {
    *("PiYG", "PRGn", "BrBG", "PuOr", "RdGy", "RdBu", "RdYlBu", "RdYlGn", "Spectral", "coolwarm", "bwr", "seismic"),
    *("berlin", "managua", "vanimo"),
}


def overlay(
    photos: Float[Tensor, "photos 3 height width"],
    maps: Float[Tensor, "photos map_height map_width"],
    opacity: float = 0.6,
    colour_map: str = SEQUENTIAL,
) -> Float[Tensor, "photos 3 height width"]:
    """Coloured maps laid over their photos.

    Args:
        photos: `(B, 3, H, W)` in [0, 1].
        maps: `(B, h, w)`, of any size, finite.
        opacity: share of the map in each pixel, from 0 (the photo alone) to 1 (the map alone).
        colour_map: any of matplotlib's; a diverging one keeps zero in its middle.

    Returns:
        `(B, 3, H, W)` in [0, 1].

    Raises:
        ValueError: as `colour`; or another number of maps than of photos, or an opacity outside [0, 1].
    """
    if len(photos) != len(maps):
        raise ValueError(f"{len(maps)} maps for {len(photos)} photos: give one each")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}, expected 0 (the photo alone) to 1 (the map alone)")
    painted = colour(resized(maps, tuple(photos.shape[2:])), colour_map).to(photos.device)
    return photos * (1 - opacity) + painted * opacity


def colour(
    maps: Float[Tensor, "photos height width"], colour_map: str = SEQUENTIAL
) -> Float[Tensor, "photos 3 height width"]:
    """Each map in colours, stretched on its own.

    Args:
        maps: `(B, H, W)`, finite.
        colour_map: any of matplotlib's; a diverging one keeps zero in its middle.

    Returns:
        `(B, 3, H, W)` in [0, 1].

    Raises:
        ValueError: another shape, values that are not finite (says of which map), or an unknown colour map.
    """
    check_colour_map(colour_map)
    stretched = stretch(maps, signed=is_diverging(colour_map))
    places = stretched / 2 + 0.5 if is_diverging(colour_map) else stretched
    table = torch.as_tensor(colormaps[colour_map].resampled(256)(range(256))[:, :3], dtype=torch.float32)
    return table[(places * 255).round().long().cpu()].permute(0, 3, 1, 2).contiguous().to(maps.device)


def stretch(maps: Float[Tensor, "photos height width"], signed: bool = False) -> Float[Tensor, "photos height width"]:
    """Each map on its own from its least to its greatest value, percentiles of it.

    Args:
        maps: `(B, H, W)`, finite.
        signed: divide by the greatest magnitude instead, so that zero stays zero.

    Returns:
        `(B, H, W)` float32, in [0, 1], or in [-1, 1] if signed. A map that is the same everywhere becomes zero.

    Raises:
        ValueError: another shape, or values that are not finite (says of which map).
    """
    check(maps)
    values = maps.detach().float()
    flat = values.abs().flatten(1) if signed else values.flatten(1)
    # row by row: torch.quantile takes 16 million values at most
    high = _percentile(flat, PERCENTILE)
    low = torch.zeros_like(high) if signed else _percentile(flat, 1 - PERCENTILE)
    sparse = high <= low  # nearly all places are equal: the few that differ are the map
    high = torch.where(sparse, flat.amax(1), high)
    low = torch.where(sparse & (high <= low), flat.amin(1), low)
    span = (high - low).clamp(min=torch.finfo(torch.float32).tiny)[:, None, None]
    return ((values - low[:, None, None]) / span).clamp(-1 if signed else 0, 1)


def resized(maps: Float[Tensor, "photos _ _"], size: tuple[int, int]) -> Float[Tensor, "photos height width"]:
    """Maps `(B, h, w)` at another size, bilinear, with antialiasing where they shrink."""
    check(maps)
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    shrinks = size[0] < maps.shape[1] or size[1] < maps.shape[2]
    options = {"mode": "bilinear", "align_corners": False, "antialias": shrinks}
    return F.interpolate(maps[:, None].float(), size=tuple(size), **options)[:, 0]


def is_diverging(colour_map: str) -> bool:
    """Whether zero has a colour of its own in this colour map, in the middle."""
    return colour_map.removesuffix("_r") in _DIVERGING


def default_colours(signed: bool) -> str:
    """The colour map that suits maps with or without a sign."""
    return DIVERGING if signed else SEQUENTIAL


def check_colour_map(name: str) -> None:
    """Make sure that there is such a colour map.

    Raises:
        ValueError: matplotlib has none (the nearest are offered).
    """
    if name not in colormaps:
        raise ValueError(f"matplotlib has no colour map {name!r}. {nearest(name, list(colormaps))}")


def check(maps: Float[Tensor, "photos height width"]) -> None:
    """Make sure that these are maps.

    Raises:
        ValueError: a shape other than `(B, H, W)`, or values that are not finite (says of which map).
    """
    if maps.ndim != 3:
        raise ValueError(f"expected maps (B, H, W), got shape {tuple(maps.shape)}; maps[None] makes a batch of one")
    finite = maps.flatten(1).isfinite().all(1)
    if not finite.all():
        bad = edge.few(index for index, fine in enumerate(finite.tolist()) if not fine)
        raise ValueError(f"map {bad} holds values that are not finite: leave it out, or check the network's weights")


def _percentile(rows: Tensor, share: float) -> Tensor:
    return torch.stack([row.quantile(share) for row in rows])
