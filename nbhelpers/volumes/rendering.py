"""Volumes on paper: projections and slices, for pages that cannot turn them."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from PIL import Image
from scipy.ndimage import affine_transform
from torch import Tensor

from nbhelpers.images import figures

COLOURS = "magma"
FADING = 0.55  # how much darker the far end of a turned volume is


def shown(
    volume: UInt8[np.ndarray, "height width depth"], threshold: int, binary: bool
) -> UInt8[np.ndarray, "height width depth"]:
    """The volume as the threshold leaves it: what is below becomes 0; and, if binary, all else 255."""
    return np.where(volume >= max(threshold, 1), 255 if binary else volume, 0).astype(np.uint8)


def projections(
    volume: UInt8[np.ndarray, "height width depth"],
    threshold: int = 0,
    binary: bool = False,
    depth: int | None = None,
    title: str = "",
    slice_title: str = "",
) -> Image.Image:
    """A volume in four panels: turned in space, from the front, from the side, and one slice.

    Along each ray the strongest voxel counts (maximum-intensity projection); from the front and the side of a binary
    volume, the share of voxels above the threshold.

    Args:
        volume: `(H, W, C)`, uint8.
        threshold: voxels below it are left out.
        binary: all that remains is equally strong.
        depth: the slice, from 0; the one with the greatest sum if not given.
        title: stands above.
        slice_title: stands above the slice.

    Raises:
        ValueError: the slice is outside the volume.
    """
    channels = volume.shape[2]
    depth = strongest(volume) if depth is None else depth
    if not 0 <= depth < channels:
        raise ValueError(f"slice {depth} is outside the volume, whose slices are 0 to {channels - 1}")
    left = shown(volume, threshold, binary)
    along, what = (_share, "share above") if binary else (np.max, "strongest")
    figure, axes = figures.new(11, 3.1, columns=4, width_ratios=[1.5, 1, 1.5, 1])
    panels = [
        (turned(left), "turned", "equal"),
        (along(left, axis=2), f"front: {what}", "equal"),
        (along(left, axis=1), f"side: {what}", "auto"),
        (left[:, :, depth], slice_title or f"slice {depth} of {channels}", "equal"),
    ]
    for each, (panel, name, aspect) in zip(axes, panels, strict=True):
        each.imshow(panel, cmap=COLOURS, vmin=0, vmax=255, aspect=aspect, interpolation="nearest")
        each.set_title(name, fontsize=9)
        each.set_xticks([])
        each.set_yticks([])
        each.spines[:].set_visible(False)
    axes[2].axvline(depth, color="white", lw=0.8, ls=":")
    axes[2].set_xlabel("depth: channels in order →", fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    return figures.to_pil(figure, dpi=72)


def strongest(volume: UInt8[np.ndarray, "height width depth"]) -> int:
    """The slice with the greatest sum."""
    return int(volume.sum((0, 1), dtype=np.int64).argmax())


def turned(
    volume: UInt8[np.ndarray, "height width depth"], yaw: float = 35, pitch: float = 20, side: int = 180
) -> UInt8[np.ndarray, "rows columns"]:
    """Maximum-intensity projection of the volume turned in space, far voxels darker, channels stretched to twice W.

    Args:
        volume: `(H, W, C)`, uint8.
        yaw: turn around the vertical axis, degrees.
        pitch: tilt towards the viewer, degrees.
        side: height of the image, in pixels.

    Returns:
        `(side, 1.5 side)`, uint8.
    """
    a, b = np.radians([yaw, pitch])
    around = np.array([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])
    tilt = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    voxel = np.array([1, 1, 2]) / np.array(volume.shape)  # the box is 1 high, 1 wide, 2 deep
    frame = np.array([side, side * 3 // 2, side])
    view = np.array([1.7, 2.55, 2.6]) / frame
    matrix = np.diag(1 / voxel) @ (tilt @ around).T @ np.diag(view)
    offset = np.array(volume.shape) / 2 - 0.5 - matrix @ (frame / 2 - 0.5)
    seen = affine_transform(volume, matrix, offset, tuple(frame), order=0)
    return (seen * np.linspace(1, 1 - FADING, side)).max(2).astype(np.uint8)


def coloured(values: UInt8[np.ndarray, "height width"]) -> Float[Tensor, "3 height width"]:
    """Bytes `(H, W)` as a picture `(3, H, W)` in [0, 1]."""
    return torch.from_numpy(colormaps[COLOURS](values)[..., :3].astype(np.float32)).permute(2, 0, 1).contiguous()


def _share(volume: np.ndarray, axis: int) -> np.ndarray:
    share = volume.mean(axis)
    return share / max(share.max(), 1e-9) * 255
