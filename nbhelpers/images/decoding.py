"""From any picture file to upright RGB.

Pillow opens most files, but what comes out is as stored: sideways, sixteen-bit, paletted, transparent, for print. A
network given such numbers answers without a word of complaint, so every kind is either read right here or refused
with an error that names the file and the way out. `images.read` is the door for everybody else.
"""

import atexit
import hashlib
import io
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
from PIL import Image, ImageCms

from nbhelpers import edge

LARGEST = 100_000_000
"""Pixels of the largest picture that is read; more is an error, not a machine out of memory."""

# Named, because Pillow's full list has formats that start other programs (EPS) or are no photographs.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")
BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
# How Pillow calls the pixels of a sixteen-bit colour PNG, of which it unpacks only the high bytes.
SIXTEEN_BIT_COLOUR = ("RGB;16B", "RGBA;16B", "LA;16B")
# TIFF 6.0: what a tag is called, and its value for greyscale that counts from white down to black
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0
# What a profile's colour space (ICC.1, section 7.2.6) must be for pixels of a mode to be meant by it.
SPACES = {"L": "GRAY", "LA": "GRAY", "RGB": "RGB", "RGBA": "RGB", "P": "RGB", "PA": "RGB", "CMYK": "CMYK"}
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
        files, inside = fsspec.core.url_to_fs(f"simplecache::{address}", simplecache=options)
        with files.open(inside) as copy:  # not open_local, which takes ? and * for patterns
            return Path(copy.name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no file at {address}") from error
    except Exception as error:  # each kind of address has errors of its own
        raise ValueError(f"{address} cannot be read: {error or type(error).__name__}") from error


def decode(path: Path) -> Float[np.ndarray, "height width 3"]:
    """Read a picture file as upright RGB.

    Args:
        path: JPEG, PNG, WebP, GIF, TIFF, BMP, PPM, JPEG 2000 or AVIF file. Of an animation or a file of several
            pages the first is read, with a warning. Transparent parts are shown on white. Sixteen-bit PNG, greyscale
            and TIFF keep their precision; sixteen-bit colour in other formats is read to eight bits. A colour profile
            is honoured: what comes out is sRGB, at eight bits then.

    Returns:
        Pixels, shape `(height, width, 3)`, float32 in [0, 1].

    Raises:
        FileNotFoundError: there is no such file; the nearest names in its folder are offered.
        ValueError: it is a folder or something else that is no file, no picture, truncated or damaged, or larger than
            `LARGEST` pixels.
    """
    try:
        with opened(path) as image:
            tags = getattr(image, "tag_v2", {})
            if image.format == "TIFF" and len(tags.get(BITS_PER_SAMPLE, ())) > 1 and max(tags[BITS_PER_SAMPLE]) > 8:
                raise _OtherTIFF  # Pillow opens these colours, and mixes up those that lie in planes
            return pixels_of(image, path)
    except _OtherTIFF:
        return _other_tiff(path)


def decode_bytes(encoded: io.BytesIO, name: str) -> Float[np.ndarray, "height width 3"]:
    """Read an encoded picture that lies in memory, as `decode` does; `name` is what messages call it."""
    try:
        image = Image.open(encoded, formats=_formats())
    except Exception as error:  # decoders raise almost anything on damaged data
        raise ValueError(f"{name} is no picture, or truncated or damaged ({error})") from error
    image.source = encoded
    with image:
        return pixels_of(image, name)


def pixels_of(image: Image.Image, name: Path | str) -> Float[np.ndarray, "height width 3"]:
    """Pixels of an opened picture file, upright, `(height, width, 3)` float32 in [0, 1].

    Raises:
        ValueError: it is truncated, damaged or of a kind that is not read; `name` is what the message calls it.
    """
    stored = image.tile[0][3] if image.tile else None
    load(image, name)
    _say_if_animated(image, name)
    managed = _in_srgb(image)
    if image.format == "PNG" and stored in SIXTEEN_BIT_COLOUR and managed is image:
        pixels = _sixteen_bit_colour(image, name)
    else:
        try:
            pixels = rgb(managed)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if image.format == "PNG" and not pixels[-1].any():
            _check_rows(image, name)
    return UPRIGHT.get(_orientation(image), lambda upright: upright)(pixels)


def rgb(image: Image.Image) -> Float[np.ndarray, "height width 3"]:
    """Pixels of an opened picture of any mode as RGB over white, as stored (not turned upright).

    Args:
        image: Pillow image; 32-bit integers are taken as sixteen-bit values, floating-point values as [0, 1]. A TIFF
            says itself how many bits its greys have, and whether they count from white.

    Returns:
        Pixels, shape `(height, width, 3)`, float32 in [0, 1].

    Raises:
        ValueError: the mode cannot be shown as RGB, or its values are outside the range above.
    """
    if image.mode.startswith("I") or image.mode == "F":
        # convert("RGB") would clip these at 255.
        tags = getattr(image, "tag_v2", {})
        scale = 1 if image.mode == "F" else 2 ** min(16, tags.get(BITS_PER_SAMPLE, (16,))[0]) - 1
        grey = _within(np.asarray(image).astype(np.float32), scale)
        grey = 1 - grey if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else grey
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of size, on which LARGEST decides, and of damage, found when loading
            image = Image.open(path, formats=_formats())
    except Image.DecompressionBombError as error:
        pixels = int(re.search(r"\d+", str(error))[0])
        raise ValueError(_too_large(path, f"{pixels:,} pixels")) from error
    except PermissionError as error:
        raise ValueError(f"{path} may not be read: give yourself the permission (chmod u+r), or copy it") from error
    except Exception as error:  # decoders raise almost anything on damaged data
        if _head(path).startswith((b"II*\0", b"MM\0*")):
            raise _OtherTIFF(f"{path} is a TIFF of a kind that is not read here") from error
        raise ValueError(_too_much_text(path, error) or _not_a_picture(path)) from error
    with image:
        if image.width * image.height > LARGEST:
            pixels = f"{image.width:,} x {image.height:,} = {image.width * image.height:,} pixels"
            raise ValueError(_too_large(path, pixels))
        yield image


class _OtherTIFF(ValueError):
    """Pillow cannot open it; there are more kinds of TIFF than it knows."""


def load(image: Image.Image, path: Path | str) -> None:
    """Read the pixels of an opened picture, or say that its file is truncated, damaged or of an unread kind."""
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
        small = _in_srgb(picture).convert("RGBA" if picture.has_transparency_data else "RGB")
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


def _damaged(image: Image.Image, path: Path | str, why: object) -> str:
    kind = f"a {image.format} of {image.width} x {image.height} pixels"
    if re.search(r"(?i)support|not available|unknown", str(why)):
        return f"{path} is {kind} of a kind that is not read here ({why}); save it as an 8-bit or 16-bit PNG"
    return f"{path} is {kind}, but truncated or damaged ({why}); copy or download it again"


def _too_much_text(path: Path, error: Exception) -> str:
    """Pillow stops at a megabyte of packed text, 64 in all, and names its own constants; empty for other errors."""
    too_much = f"{path} carries more text than any picture needs, megabytes of it; save it again without"
    return too_much if "MAX_TEXT" in str(error) else ""


def _not_a_picture(path: Path) -> str:
    head = _head(path)
    if not head:
        return f"{path} is empty (0 bytes); copy or download it again"
    for beginning, name in BEGINNINGS.items():
        if head.startswith(beginning):
            return f"{path} starts like a {name}, but is truncated or damaged; copy or download it again"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return f"{path} starts like a WebP, but is truncated or damaged; copy or download it again"
    known = "expected JPEG, PNG, WebP, GIF, TIFF, BMP, PPM, JPEG 2000 or AVIF"
    if head[4:8] == b"ftyp":
        return f"{path} is a HEIC picture or a film, {known}; export it as JPEG"
    return f"{path} is not a picture, {known}; choose another file, or convert it"


@cache
def endings() -> frozenset[str]:
    """What the names of pictures end in, in small letters: those of all formats that are read here."""
    Image.init()
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in FORMATS)


@cache
def _formats() -> list[str]:
    """What this machine's Pillow can open of what is read here."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _within(values: np.ndarray, scale: float) -> np.ndarray:
    """Values from 0 to `scale` as [0, 1]."""
    if not (values.min() >= 0 and values.max() <= scale):
        raise ValueError(
            f"its values run from {values.min():g} to {values.max():g}, expected 0 to {scale}; "
            "scale them and save the picture as an 8-bit or 16-bit PNG"
        )
    return values / np.float32(scale)


def _in_srgb(image: Image.Image) -> Image.Image:
    """The picture as its colour profile means it; itself where it has none, or one that nobody can use."""
    profile = image.info.get("icc_profile")
    sixteen = image.mode.startswith("I;16")
    space = "GRAY" if sixteen else SPACES.get(image.mode)
    if not profile or space is None:
        return image
    try:
        meant = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if meant.profile.xcolor_space.strip() != space or _is_srgb(meant):
            return image
        if sixteen:
            image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
        elif image.mode in ("P", "PA", "LA"):
            image = image.convert("RGBA" if image.has_transparency_data else "RGB" if image.mode == "P" else "L")
        alpha = image.getchannel("A") if image.mode == "RGBA" else None
        if space == "GRAY" and image.mode == "RGBA":
            image = image.convert("L")
        plain = image.convert("RGB") if alpha is not None and space == "RGB" else image
        shown = ImageCms.profileToProfile(plain, meant, ImageCms.createProfile("sRGB"), outputMode="RGB")
        if alpha is not None:
            shown.putalpha(alpha)
        return shown
    except (ImageCms.PyCMSError, OSError):  # a damaged profile does not make the picture unreadable
        return image


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether a profile for RGB changes nothing, whatever it calls itself: a few colours go through it."""
    if profile.profile.xcolor_space.strip() != "RGB":
        return False
    steps = np.linspace(0, 255, 5).round().astype(np.uint8)
    probe = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    shown = ImageCms.profileToProfile(Image.fromarray(probe), profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return bool(np.abs(np.asarray(shown).astype(int) - probe).max() <= 1)


def _check_rows(image: Image.Image, name: Path | str) -> None:
    """Refuses a PNG whose data end before its last row: Pillow leaves the rest black and says nothing."""
    import cv2

    if cv2.imdecode(np.frombuffer(_encoded(image), np.uint8), cv2.IMREAD_UNCHANGED) is None:
        raise ValueError(_damaged(image, name, "a checksum, a row or the end of the file is wrong"))


def _other_tiff(path: Path) -> np.ndarray:
    """A TIFF of a kind that Pillow does not open, such as colours in floating point."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            described = f"{page.photometric.name} of {page.dtype}, {page.axes} {page.shape}"
            if page.imagewidth * page.imagelength > LARGEST:
                raise ValueError(_too_large(path, f"{page.imagewidth:,} x {page.imagelength:,} pixels"))
            orientation = page.tags.get(274)
            turned = UPRIGHT.get(orientation.value if orientation else 1, lambda upright: upright)
            white = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
            bits, axes, kind = page.bitspersample, page.axes, page.photometric
            try:
                stored = page.asarray()
            except Exception as error:  # a decoder that is not installed, or data that are cut off
                cut = re.search("(?i)corrupt|buffer|failed to read", str(error))
                why = "truncated or damaged" if cut else "of a kind that is not read here"
                raise ValueError(f"{path} is a TIFF, {described}, {why} ({error})") from error
    except (tifffile.TiffFileError, IndexError, KeyError, OSError) as error:
        raise ValueError(
            f"{path} starts like a TIFF, but is truncated or damaged; copy or download it again"
        ) from error
    known = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
    if axes == "SYX":
        stored, axes = np.moveaxis(stored, 0, -1), "YXS"
    if axes not in ("YX", "YXS") or kind not in known or stored.dtype.kind not in "uf":
        raise ValueError(f"{path} is a TIFF of a kind that is not read here ({described}); save it as a 16-bit PNG")
    try:
        pixels = _within(stored.astype(np.float32), 1 if stored.dtype.kind == "f" else 2**bits - 1)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    pixels = 1 - pixels if white else pixels
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    pixels = _over_white(pixels) if pixels.shape[-1] in (2, 4) else pixels
    return turned(np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels[..., :3])


def _say_if_animated(image: Image.Image, path: Path | str) -> None:
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


def _sixteen_bit_colour(image: Image.Image, path: Path | str) -> np.ndarray:
    """All bits of an opened sixteen-bit colour PNG as RGB over white, as stored (not turned upright)."""
    import cv2

    # not imread, which finds no file with an umlaut in its path on Windows, and none that lies in memory
    stored = cv2.imdecode(np.frombuffer(_encoded(image), np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise ValueError(_damaged(image, path, "a checksum, a row or the end of the file is wrong"))
    transparent = stored.shape[-1] == 4
    pixels = cv2.cvtColor(stored, cv2.COLOR_BGRA2RGBA if transparent else cv2.COLOR_BGR2RGB).astype(np.float32) / 65535
    return _over_white(pixels) if transparent else pixels


def _encoded(image: Image.Image) -> bytes:
    """The whole file of an opened picture, from the disk or from memory."""
    return Path(image.filename).read_bytes() if image.filename else image.source.getvalue()


def _over_white(pixels: np.ndarray) -> np.ndarray:
    alpha = pixels[..., -1:]
    return pixels[..., :-1] * alpha + (1 - alpha)
