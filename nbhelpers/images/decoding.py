"""From any picture file to upright RGB.

Pillow opens most files, but what comes out is as stored: sideways, sixteen-bit, paletted, transparent, for print. A
network given such numbers answers without a word of complaint, so every kind is either read right here or refused
with an error that names the file and the way out. `images.read` is the door for everybody else.
"""

import atexit
import hashlib
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from nbhelpers import edge

LARGEST = 100_000_000
"""Pixels of the largest picture that is read; more is an error, not a machine out of memory."""

# Named, because Pillow's full list has formats that start other programs (EPS) or are no photographs.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")
BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"RIFF": "WebP",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
# How Pillow calls the pixels of a sixteen-bit colour PNG, of which it unpacks only the high bytes.
SIXTEEN_BIT_COLOUR = ("RGB;16B", "RGBA;16B", "LA;16B")
# EXIF tag 274, Orientation (EXIF 2.32, section 4.6.4): what turns the stored rows and columns upright.
UPRIGHT = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}


def here(path: str | os.PathLike) -> Path:
    """A file on this machine: the path itself, or a copy of what lies at an address, kept until Python ends.

    Raises:
        FileNotFoundError: there is nothing at the address.
        ValueError: no installed package can read from this kind of address.
    """
    address = os.fspath(path)
    if "://" not in address:
        return Path(path)
    import fsspec

    # a folder for each address: files keep their names, and many addresses end in the same one
    folder = _copies() / hashlib.sha256(address.encode()).hexdigest()[:16]
    options = {"same_names": True, "cache_storage": str(folder)}
    try:
        return Path(fsspec.open_local(f"simplecache::{address}", simplecache=options))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no file at {address}") from error
    except (ImportError, ValueError, OSError) as error:
        raise ValueError(f"{address} cannot be read: {error}") from error


def decode(path: Path) -> Float[np.ndarray, "height width 3"]:
    """Read a picture file as upright RGB.

    Args:
        path: JPEG, PNG, WebP, GIF, TIFF, BMP, PPM, JPEG 2000 or AVIF file. Of an animation or a file of several
            pages the first is read, with a warning. Transparent parts are shown on white. Sixteen-bit PNG and
            greyscale keep their precision; sixteen-bit colour in other formats is read to eight bits.

    Returns:
        Pixels, shape `(height, width, 3)`, float32 in [0, 1].

    Raises:
        FileNotFoundError: there is no such file; the nearest names in its folder are offered.
        ValueError: it is a folder or something else that is no file, no picture, truncated or damaged, or larger than
            `LARGEST` pixels.
    """
    with opened(path) as image:
        stored = image.tile[0][3] if image.tile else None
        load(image, path)
        _say_if_animated(image, path)
        if image.format == "PNG" and stored in SIXTEEN_BIT_COLOUR:
            pixels = _sixteen_bit_colour(image, path)
        else:
            try:
                pixels = rgb(image)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        return UPRIGHT.get(_orientation(image), lambda upright: upright)(pixels)


def rgb(image: Image.Image) -> Float[np.ndarray, "height width 3"]:
    """Pixels of an opened picture of any mode as RGB over white, as stored (not turned upright).

    Args:
        image: Pillow image; 32-bit integers are taken as sixteen-bit values, floating-point values as [0, 1].

    Returns:
        Pixels, shape `(height, width, 3)`, float32 in [0, 1].

    Raises:
        ValueError: the mode cannot be shown as RGB, or its values are outside the range above.
    """
    if image.mode.startswith("I") or image.mode == "F":
        # convert("RGB") would clip these at 255.
        grey = np.asarray(image).astype(np.float32) / (1 if image.mode == "F" else 65535)
        if not (grey.min() >= 0 and grey.max() <= 1):
            scale = 1 if image.mode == "F" else 65535
            raise ValueError(
                f"its values run from {grey.min() * scale:g} to {grey.max() * scale:g}, expected 0 to {scale}; "
                "scale them and save the picture as an 8-bit or 16-bit PNG"
            )
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.has_transparency_data:
        return _over_white(np.asarray(image.convert("RGBA"), dtype=np.float32) / 255)
    return np.asarray(image.convert("RGB"), dtype=np.float32) / 255


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture file whose header is sound and whose size is sane; the pixels are not read yet.

    Args:
        path: the file.

    Yields:
        The Pillow image, closed afterwards.

    Raises:
        FileNotFoundError, ValueError: as `decode` says.
    """
    if edge.kind(path) == "folder":
        raise ValueError(f"{path} is a folder, expected one picture; images.read_folder reads all in a folder")
    path = edge.existing_file(path)
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of size, on which LARGEST decides, and of damage, found when loading
            image = Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
    except Image.DecompressionBombError as error:
        pixels = int(re.search(r"\d+", str(error))[0])
        raise ValueError(_too_large(path, f"{pixels:,} pixels")) from error
    except PermissionError as error:
        raise ValueError(f"{path} may not be read: give yourself the permission (chmod u+r), or copy it") from error
    except Exception as error:  # decoders raise almost anything on damaged data
        raise ValueError(_too_much_text(path, error) or _not_a_picture(path)) from error
    with image:
        if image.width * image.height > LARGEST:
            pixels = f"{image.width:,} x {image.height:,} = {image.width * image.height:,} pixels"
            raise ValueError(_too_large(path, pixels))
        yield image


def load(image: Image.Image, path: Path) -> None:
    """Read the pixels of an opened picture, or say that its file is truncated or damaged."""
    try:
        image.load()
    except Exception as error:  # decoders raise almost anything on damaged data
        raise ValueError(_too_much_text(path, error) or _damaged(image, path, error)) from error


def thumbnail(path: Path, side: int) -> tuple[Image.Image, int, int]:
    """A picture made small enough for a square of `side` pixels, and the width and height it has in its file.

    Raises:
        FileNotFoundError, ValueError: there is no such file; it is no picture, damaged, or too large.
    """
    with opened(path) as picture:
        load(picture, path)
        width, height = picture.size
        small = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small, width, height


@cache
def _copies() -> Path:
    """Where copies of what lies at addresses are kept; gone when Python ends."""
    folder = tempfile.mkdtemp(prefix="nbhelpers-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _too_large(path: Path, pixels: str) -> str:
    return f"{path} has {pixels}, the limit is {LARGEST:,}; save a smaller copy of it, a few thousand pixels a side"


def _damaged(image: Image.Image, path: Path, why: object) -> str:
    kind = f"a {image.format} of {image.width} x {image.height} pixels"
    return f"{path} is {kind}, but truncated or damaged ({why}); copy or download it again"


def _too_much_text(path: Path, error: Exception) -> str:
    """Pillow stops at a megabyte of packed text, 64 in all, and names its own constants; empty for other errors."""
    too_much = f"{path} carries more text than any picture needs, megabytes of it; save it again without"
    return too_much if "MAX_TEXT" in str(error) else ""


def _not_a_picture(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        return f"{path} is empty (0 bytes); copy or download it again"
    for beginning, name in BEGINNINGS.items():
        if head.startswith(beginning):
            return f"{path} starts like a {name}, but is truncated or damaged; copy or download it again"
    known = "expected JPEG, PNG, WebP, GIF, TIFF, BMP, PPM, JPEG 2000 or AVIF"
    if head[4:8] == b"ftyp":
        return f"{path} is a HEIC picture or a film, {known}; export it as JPEG"
    return f"{path} is not a picture, {known}; choose another file, or convert it"


def _say_if_animated(image: Image.Image, path: Path) -> None:
    # A phone's MPO holds a second view of the same photo: nothing that a reader would miss.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        kind = "pages" if image.format == "TIFF" else "frames"
        warnings.warn(f"{path} has {frames} {kind}; the first one is read", stacklevel=4)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(274, 1)
    except Exception:  # a damaged EXIF block does not make the picture unreadable
        return 1


def _sixteen_bit_colour(image: Image.Image, path: Path) -> np.ndarray:
    """All bits of an opened sixteen-bit colour PNG as RGB over white, as stored (not turned upright)."""
    import cv2

    # not imread, which finds no file with an umlaut in its path on Windows
    stored = cv2.imdecode(np.fromfile(image.filename, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise ValueError(_damaged(image, path, "a checksum, a row or the end of the file is wrong"))
    transparent = stored.shape[-1] == 4
    pixels = cv2.cvtColor(stored, cv2.COLOR_BGRA2RGBA if transparent else cv2.COLOR_BGR2RGB).astype(np.float32) / 65535
    return _over_white(pixels) if transparent else pixels


def _over_white(pixels: np.ndarray) -> np.ndarray:
    alpha = pixels[..., 3:]
    return pixels[..., :3] * alpha + (1 - alpha)
