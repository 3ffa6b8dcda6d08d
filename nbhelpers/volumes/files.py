"""Feature maps as a volume of bytes, and its files: raw `.vox` with `.hd`, NRRD, NumPy.

A volume is a NumPy array `(height, width, channels)`, uint8. In a file the column runs fastest, then the row, then
the channel, so that the x, y and z of a volume viewer are column, row and channel:

- `.vox`: the bytes and nothing else; beside it `.hd`, two lines of text: `Size WxHxC unsigned byte` and
  `Spacing 1.0x1.0x1.0` (the pair that the viewer of the CNN-VIS study read);
- `.nrrd`: one file with a header, for 3D Slicer and ParaView (Teem's "nearly raw raster data");
- `.npy`: NumPy's own.

Files appear whole or not at all.
"""

import re
import zlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import nrrd
import numpy as np
from jaxtyping import Float, Real, Shaped, UInt8
from torch import Tensor

from nbhelpers import edge
from nbhelpers.edge import replacing

SCALINGS = ("common", "each")
SUFFIXES = (".vox", ".nrrd", ".npy")
NRRD = (".nrrd", ".nhdr")  # the second is a header alone, its data in a file beside it: read, not written
LABELS = ("column", "row", "channel")
_NUMBER = r"\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_SIZE = re.compile(r"^Size\s+(\d+)x(\d+)x(\d+)\s+unsigned byte\s*$", re.MULTILINE)
_SPACING = re.compile(rf"^Spacing\s+({_NUMBER})x({_NUMBER})x({_NUMBER})\s*$", re.MULTILINE)


def finite(maps: Real[Tensor | np.ndarray, "..."]) -> Float[np.ndarray, "channels height width"]:
    """The maps as a float64 array, after making sure that they are maps and all numbers.

    Args:
        maps: `(C, H, W)`, any type and device.

    Raises:
        ValueError: another shape, no map, or a value that is infinite or not a number (says in which maps).
    """
    array = maps.detach().double().cpu().numpy() if isinstance(maps, Tensor) else np.asarray(maps, np.float64)
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"expected feature maps (channels, height, width), got shape {tuple(array.shape)}")
    bad = ~np.isfinite(array).all((1, 2))
    if bad.any():
        count = int((~np.isfinite(array)).sum())
        which = edge.few(np.flatnonzero(bad))
        raise ValueError(
            f"{count} of {array.size} activations are infinite or not a number, in maps {which}: "
            "check the network's weights and the photo"
        )
    return array


def to_bytes(
    maps: Real[Tensor | np.ndarray, "..."], scaling: str = "common"
) -> UInt8[np.ndarray, "height width channels"]:
    """Feature maps as a volume of bytes, the least value 0 and the greatest 255.

    Args:
        maps: `(C, H, W)`.
        scaling: "common", one scale for all maps, so that they can be compared; or "each", every map from its own
            least to its own greatest value, so that faint ones show too.

    Returns:
        The volume `(H, W, C)`, uint8. What is constant is 0.

    Raises:
        ValueError: values that are not finite, another shape, or an unknown scaling.
    """
    array = finite(maps)
    if scaling not in SCALINGS:
        raise ValueError(f"scaling {scaling!r} is unknown: choose one of {', '.join(SCALINGS)}")
    axes = None if scaling == "common" else (1, 2)
    low, high = array.min(axis=axes, keepdims=True), array.max(axis=axes, keepdims=True)
    span = np.where(high > low, high - low, 1)
    return np.rint((array - low) / span * 255).astype(np.uint8).transpose(1, 2, 0).copy()


def save(volume: Shaped[np.ndarray, "..."], path: str | PathLike, spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
    """Write a volume; the ending of the name decides the format.

    Args:
        volume: `(H, W, C)`, uint8.
        path: ending in .vox (a .hd is written beside it), .nrrd or .npy.
        spacing: distance between neighbouring columns, rows and channels; .npy does not keep it.

    Raises:
        ValueError: another ending, another type or shape, or a spacing that is not three positive numbers.
    """
    path = _checked_path(path)
    if not isinstance(volume, np.ndarray) or volume.dtype != np.uint8 or volume.ndim != 3 or 0 in volume.shape:
        got = f"{volume.dtype} {volume.shape}" if isinstance(volume, np.ndarray) else type(volume).__name__
        raise ValueError(f"expected a volume (height, width, channels) of uint8, got {got}; to_bytes makes one")
    if len(spacing) != 3 or not all(0 < float(step) < float("inf") for step in spacing):
        raise ValueError(f"spacing is three positive numbers (column, row, channel), got {spacing!r}")
    in_file = np.ascontiguousarray(volume.transpose(2, 0, 1))
    if path.suffix.lower() == ".vox":
        height, width, channels = volume.shape
        steps = "x".join(repr(float(step)) for step in spacing)
        # header and bytes are both whole before either takes its place
        with replacing(path.with_suffix(".hd")) as header, replacing(path) as raw:
            header.write_text(f"Size {width}x{height}x{channels} unsigned byte\nSpacing {steps}\n", encoding="ascii")
            raw.write_bytes(in_file.tobytes())
    elif path.suffix.lower() == ".nrrd":
        about = {
            "space dimension": 3,
            "space directions": np.diag([float(step) for step in spacing]),
            "space origin": np.zeros(3),
            "kinds": ["domain"] * 3,
            "labels": list(LABELS),
            "encoding": "gzip",
        }
        with replacing(path) as temporary:
            nrrd.write(str(temporary), in_file, about, index_order="C")
    else:
        with replacing(path) as temporary, temporary.open("wb") as file:  # np.save adds its ending to another name
            np.save(file, volume, allow_pickle=False)


def load(path: str | PathLike) -> UInt8[np.ndarray, "height width depth"]:
    """Read a volume that `save`, or another program, wrote.

    The writer published with the study stored signed bytes: what should be 200 stands there as -56. In the file
    those are the same eight bits, and they are read as unsigned here, so such files come out right.

    Args:
        path: ending in .vox (its .hd beside it), .nrrd, .nhdr or .npy, in any case of letters. Axes of an NRRD that are
            labelled column, row and channel may come in any order.

    Returns:
        The volume `(H, W, C)`, uint8.

    Raises:
        FileNotFoundError: no such file, or a .vox without its .hd.
        ValueError: another ending; a header that cannot be read or does not match the bytes (says both sizes); a
            truncated or damaged file; another type than unsigned bytes, or not three axes.
    """
    path = _checked_path(path, (*SUFFIXES, *NRRD))
    for needed in [path] + ([_beside(path)] if path.suffix.lower() == ".vox" else []):
        try:
            edge.existing_file(needed)
        except FileNotFoundError as error:
            beside = "; a .vox needs its .hd beside it, which says the size" if needed != path else ""
            raise FileNotFoundError(f"{error}{beside}") from error
    if path.suffix.lower() == ".vox":
        return _read_vox(path)
    try:
        if path.suffix.lower() in NRRD:
            volume = _in_order(*nrrd.read(str(path), index_order="F"))
        else:
            volume = np.load(path, allow_pickle=False)
    except (nrrd.NRRDError, ValueError, EOFError, KeyError, IndexError, OSError, StopIteration, zlib.error) as error:
        raise ValueError(f"{path} is truncated, damaged or not a {path.suffix} volume ({error})") from error
    if volume.dtype != np.uint8 or volume.ndim != 3:
        raise ValueError(
            f"{path} holds {volume.dtype} values with {volume.ndim} axes, expected unsigned bytes with three; "
            "convert it with to_bytes"
        )
    return np.ascontiguousarray(volume)


def read_spacing(path: str | PathLike) -> tuple[float, float, float]:
    """Distance between neighbouring columns, rows and channels, from a `.hd`."""
    return _header(_beside(Path(path).expanduser()))[1]


def _in_order(stored: np.ndarray, header: dict) -> np.ndarray:
    """What an NRRD holds as (row, column, channel), whatever order its labels tell; axes of one value are dropped."""
    labels = [str(label) for label in header.get("labels", [])]
    if len(labels) == stored.ndim and set(LABELS) <= set(labels):
        others = [axis for axis, label in enumerate(labels) if label not in LABELS]
        stored = stored.transpose([labels.index(label) for label in LABELS] + others)
        stored = stored.reshape(stored.shape[:3]) if stored.size == np.prod(stored.shape[:3]) else stored
    elif stored.ndim > 3:
        stored = stored.squeeze()
    return stored.transpose(1, 0, 2) if stored.ndim == 3 else stored


def _read_vox(path: Path) -> np.ndarray:
    (width, height, channels), _ = _header(_beside(path))
    expected, found = width * height * channels, path.stat().st_size
    if found != expected:
        what = "truncated, or the header belongs to another file" if found < expected else "longer than its header says"
        raise ValueError(
            f"{path.name} has {found} bytes, but {path.stem}.hd says {width} x {height} x {channels} = {expected}: "
            f"the file is {what}"
        )
    return np.fromfile(path, np.uint8).reshape(channels, height, width).transpose(1, 2, 0).copy()


def _header(path: Path) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    text = path.read_text(encoding="ascii", errors="replace")
    size, spacing = _SIZE.search(text), _SPACING.search(text)
    if size is None or 0 in map(int, size.groups()):
        first = text.strip().splitlines()[0][:80] if text.strip() else ""
        raise ValueError(f"{path.name} starts with {first!r}, expected a line like 'Size 28x28x256 unsigned byte'")
    steps = (1.0, 1.0, 1.0) if spacing is None else tuple(map(float, spacing.groups()))
    return tuple(map(int, size.groups())), steps


def _beside(path: Path) -> Path:
    """The header of a `.vox`, in capitals where there is only that."""
    return next((each for end in (".hd", ".HD") if (each := path.with_suffix(end)).exists()), path.with_suffix(".hd"))


def _checked_path(path: str | PathLike, suffixes: Sequence[str] = SUFFIXES) -> Path:
    path = Path(path).expanduser()
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{path.name}: a volume's name ends in {', '.join(SUFFIXES)}")
    return path
