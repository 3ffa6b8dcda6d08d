"""Read and write pictures; every PNG carries its recipe.

Pictures are tensors `(3, H, W)`, batches `(B, 3, H, W)`, float32 in [0, 1]. Whatever a file holds is read as upright
RGB, or refused with the reason. A PNG written here keeps, in a text chunk, the recipe it was made from, so that the
picture can be made again from the file alone. Files appear whole or not at all.
"""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Shaped
from PIL import Image, PngImagePlugin
from torch import Tensor
from torch.nn.functional import interpolate

from nbhelpers import edge
from nbhelpers.images import decoding, recipe_text
from nbhelpers.images.sheets import to_pil
from nbhelpers.models import Size, sides

WRITERS = {
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 92, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 92, "subsampling": 0},
    ".webp": {"format": "WEBP", "quality": 92},
}
DOCUMENTS = {".md", ".txt", ".rst", ".csv", ".json", ".html", ".xml", ".yaml"}  # lie beside photos, to tell about them
SYSTEMS = {"@eadir", "__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found"}
"""What Synology, macOS, Windows and Linux put beside photos; in small letters."""
GREY = 0.5  # beside a photo that does not fill its square
PEOPLE = "people.txt"
"""A file beside photos that names those of people, one a line."""
ANIMATIONS = {".gif": {"format": "GIF"}, ".webp": {"format": "WEBP", "quality": 90}}


@dataclass
class Photos:
    """A batch of photos with their names, and what could not be read.

    Attributes:
        pictures: shape `(N, 3, H, W)`, float32 in [0, 1]; a list where photos of several batches differ in shape.
        names: one per picture, the path within the folder.
        skipped: name of each unreadable file, with the reason.
        people: names of the photos that a file `people.txt` beside them lists; no class stands under a person.
    """

    pictures: Float[Tensor, "photos 3 height width"] | list[Float[Tensor, "3 _ _"]]
    names: list[str]
    skipped: dict[str, str] = field(default_factory=dict)
    people: frozenset[str] = frozenset()

    def captions(self, classes: Sequence[str]) -> list[str]:
        """What may stand under the photos: the class that each is given, and "a person" under people."""
        pairs = zip(self.names, classes, strict=True)
        return ["a person" if name in self.people else text for name, text in pairs]

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        shapes = {tuple(picture.shape[1:]) for picture in self.pictures}
        size = " x ".join(map(str, *shapes)) + " pixels" if len(shapes) == 1 else f"{len(shapes)} shapes"
        text = f"{len(self)} photos of {size}"
        told = [f"\nskipped {name}: {reason}" for name, reason in self.skipped.items()]
        return text + "".join(told[:5]) + (f"\nand {len(told) - 5:,} more" if len(told) > 5 else "")


Fit = Literal["whole", "crop", "pad"]
"""How a photo that is no square comes to a size: its shorter side has it; its central square; all of it in a square."""


def read(
    path: str | os.PathLike, size: Size | None = None, fit: str = "crop", stride: int = 1
) -> Float[Tensor, "3 height width"]:
    """Read one picture file, upright, as RGB.

    Args:
        path: JPEG, PNG, WebP, GIF, TIFF, BMP, PPM, JPEG 2000 or AVIF file, or an address of one that fsspec knows, such
            as `s3://bucket/photo.jpg`. Transparent parts are shown on white; of an animation the first frame is read,
            with a warning.
        size: side in pixels, or `(height, width)`, to which the picture is resampled with antialiasing. `None` leaves
            it as it is.
        fit: "crop", the central square; "whole", all of it, the shorter side `size` and the longer one in proportion;
            "pad", all of it within the square, grey beside it. A `(height, width)` is filled by the largest central
            part of these proportions, or holds all of the photo.
        stride: the longer side is a multiple of it (as near as can be to the picture's own proportions).

    Returns:
        The picture, shape `(3, H, W)`, or of that size, float32 in [0, 1].

    Raises:
        FileNotFoundError: there is no such file; the nearest names in its folder are offered.
        ValueError: not a picture, truncated, or too large to be one (`decoding.LARGEST`).
    """
    if size is not None:
        _check_size(size)
    picture = torch.from_numpy(decoding.decode(decoding.here(path)).copy()).permute(2, 0, 1)
    return picture.contiguous() if size is None else fitted(picture, size, fit, stride)


def fitted(
    picture: Float[Tensor, "3 _ _"], size: Size, fit: str = "crop", stride: int = 1
) -> Float[Tensor, "3 height width"]:
    """A picture brought to a size, `size`, `fit` and `stride` as `read` takes them.

    Raises:
        ValueError: no such size or fit.
    """
    _check_size(size)
    place = placement(*picture.shape[1:], size, fit, stride)
    top, left, height, width = place.source
    part = _resampled(picture[:, top : top + height, left : left + width], *place.target[2:])
    if tuple(part.shape[1:]) == place.frame:
        return part
    frame = torch.full((3, *place.frame), GREY)
    top, left, height, width = place.target
    frame[:, top : top + height, left : left + width] = part
    return frame


@dataclass(frozen=True)
class Placement:
    """Which part of a photo lies where in the picture that `read` makes of it.

    Attributes:
        source: the part, in pixels of the photo: top, left, height, width.
        target: where it lies, in pixels of the picture: top, left, height, width.
        frame: height and width of the picture.
    """

    source: tuple[int, int, int, int]
    target: tuple[int, int, int, int]
    frame: tuple[int, int]


def placement(height: int, width: int, size: Size, fit: str = "crop", stride: int = 1) -> Placement:
    """Where a photo of `height` x `width` pixels comes to lie; `size`, `fit` and `stride` as `read` takes them.

    Raises:
        ValueError: an unknown fit.
    """
    if fit not in get_args(Fit):
        raise ValueError(f"fit {fit!r} is unknown: choose {', '.join(get_args(Fit))}")
    tall, wide = sides(size)
    if fit == "crop":
        factor = min(height / tall, width / wide)
        inner_height, inner_width = max(1, round(tall * factor)), max(1, round(wide * factor))
        source = ((height - inner_height) // 2, (width - inner_width) // 2, inner_height, inner_width)
        return Placement(source, (0, 0, tall, wide), (tall, wide))
    if fit == "whole" and isinstance(size, int):
        factor = size / min(height, width)
        frame = tuple(_rounded(side * factor, size, stride) for side in (height, width))
        return Placement((0, 0, height, width), (0, 0, *frame), frame)
    factor = min(tall / height, wide / width)
    inner = tuple(max(1, round(side * factor)) for side in (height, width))
    target = ((tall - inner[0]) // 2, (wide - inner[1]) // 2, *inner)
    return Placement((0, 0, height, width), target, (tall, wide))


def read_folder(folder: str | os.PathLike, size: Size, limit: int | None = None) -> Photos:
    """Read all pictures in a folder and the folders in it, in the order of their names.

    Args:
        folder: where to look; hidden files and text documents are left out.
        size: side in pixels, or `(height, width)`, that all are cropped and resampled to, as `read` does.
        limit: stop after this many pictures.

    Returns:
        The photos; files that are no readable pictures are named in `skipped`, with the reason.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is no folder, or holds no readable picture.
    """
    return _read_batch(files_in(folder), size, limit)


def files_in(folder: str | os.PathLike) -> dict[str, Path]:
    """The files of a folder and the folders in it that may be pictures, in the order of their names, none of them read.

    Args:
        folder: where to look, folders that are only linked to included; hidden files, text documents and what systems
            put beside photos (`SYSTEMS`) are left out, the last with a warning.

    Returns:
        Path of each file by its name within the folder; what is no UTF-8 in a name is shown as a question mark.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is no folder, or holds no such file.
    """
    if edge.kind(folder) == "file":
        raise ValueError(f"{folder} is a file, expected a folder; images.read reads one picture")
    folder = edge.existing_folder(folder)
    inside = {path.relative_to(folder): path for path in _walk(folder)}
    systems = [name for name in inside if SYSTEMS & {part.lower() for part in name.parts}]
    if systems:
        warnings.warn(
            f"{folder}: {len(systems)} files are left out that a system put there, such as {_shown(min(systems))}",
            stacklevel=3,
        )
    files = {_shown(name): inside[name] for name in sorted(set(inside) - set(systems)) if not _left_out(name)}
    if not files:
        raise ValueError(f"{folder} holds no pictures; put some photos there, or name another folder")
    return files


def listed(source: str | os.PathLike | Sequence[str | os.PathLike]) -> dict[str, Path]:
    """The files that photos are in, by the names they are shown under, none of them read.

    Args:
        source: path of a file or of a folder, or several paths of files.

    Raises:
        FileNotFoundError, ValueError: no such folder, or nothing in it; an empty list.
    """
    if isinstance(source, str | os.PathLike):
        path = decoding.here(source)
        return files_in(path) if edge.kind(path) == "folder" else {path.name: path}
    files = {str(path): decoding.here(path) for path in source}
    if not files:
        raise ValueError("the list of photos is empty; name at least one file")
    return files


def read_batches(
    files: Mapping[str, Path], size: Size, batch_size: int, limit: int | None = None, fit: str = "crop", stride: int = 1
) -> Iterator[tuple[list[int], Photos]]:
    """Photos a batch at a time, so that no more than a batch of them is in memory.

    Args:
        files: where they are, by name, as `listed` gives them.
        size, fit, stride: as `read`.
        batch_size: photos at a time. Those among them whose shapes differ come in batches of their own.
        limit: stop after so many photos.

    Yields:
        The number of each photo among the files, and the photos; files that are no readable pictures are named in
        `skipped`, each once.

    Raises:
        FileNotFoundError, ValueError: nothing can be read.
    """
    _check_size(size)
    if len(files) == 1:
        ((name, path),) = files.items()
        yield [0], Photos(read(path, size, fit, stride)[None], [name], people=_people(files, [name]))
        return
    waiting, manner, skipped, done = iter(enumerate(files.items())), (size, fit, stride), {}, 0
    while some := _next_readable(waiting, min(batch_size, (limit or len(files)) - done), manner, skipped):
        done += len(some)
        for places, pictures in alike([picture for _, _, picture in some]):
            names = [some[place][1] for place in places]
            yield [some[place][0] for place in places], Photos(pictures, names, dict(skipped), _people(files, names))
            skipped.clear()
    if skipped and not done:
        raise ValueError(_nothing(skipped))
    if skipped:
        yield [], Photos(torch.zeros(0, 3, *sides(size)), [], dict(skipped))


def alike(
    pictures: Sequence[Float[Tensor, "channels _ _"]] | Float[Tensor, "pictures channels height width"],
    most: int | None = None,
) -> Iterator[tuple[list[int], Float[Tensor, "batch channels height width"]]]:
    """Pictures in batches of one shape, with their numbers; `in_order` puts together what is made of them.

    Args:
        pictures: of any shapes.
        most: pictures of a batch; any number unless given.
    """
    shapes: dict[tuple[int, ...], list[int]] = {}
    for number, picture in enumerate(pictures):
        shapes.setdefault(tuple(picture.shape), []).append(number)
    for numbers in shapes.values():
        for start in range(0, len(numbers), most or len(numbers)):
            some = numbers[start : start + (most or len(numbers))]
            yield some, torch.stack([pictures[number] for number in some])


def in_order(
    numbers: Sequence[Sequence[int]], values: Sequence[Iterable[Shaped[Tensor, "..."]]]
) -> Shaped[Tensor, "..."] | list[Shaped[Tensor, "..."]]:
    """What belongs to photos that came in batches, in the order of the photos' numbers.

    Args:
        numbers: of the photos, batch by batch.
        values: one for each of them, batch by batch.

    Returns:
        One tensor, or a list where shapes differ.
    """
    found = sorted(
        ((number, value) for batch in zip(numbers, values, strict=True) for number, value in zip(*batch, strict=True)),
        key=lambda pair: pair[0],
    )
    ordered = [value for _, value in found]
    return torch.stack(ordered) if len({each.shape for each in ordered}) == 1 else ordered


def joined(batches: Sequence[tuple[list[int], Photos]]) -> Photos:
    """Batches of photos with their numbers as `read_batches` gives them, as one, in the order of the numbers."""
    pictures = in_order([numbers for numbers, _ in batches], [photos.pictures for _, photos in batches])
    named = sorted(pair for numbers, photos in batches for pair in zip(numbers, photos.names, strict=True))
    skipped = {name: reason for _, photos in batches for name, reason in photos.skipped.items()}
    people = frozenset().union(*(photos.people for _, photos in batches))
    return Photos(pictures, [name for _, name in named], skipped, people)


def read_many(
    source: str | os.PathLike | Sequence[str | os.PathLike],
    size: Size,
    limit: int | None = None,
    fit: str = "crop",
    stride: int = 1,
) -> Photos:
    """Read photos from wherever they are: one file, a folder, or a list of files.

    Args:
        source: path of a file or of a folder, or several paths of files.
        size, fit, stride: as `read` takes them.
        limit: stop after this many pictures.

    Returns:
        The photos, in the order given. From a list, unreadable files are named in `skipped`.

    Raises:
        FileNotFoundError, ValueError: nothing could be read; as `read` and `read_folder` say.
    """
    return _read_batch(listed(source), size, limit, fit, stride)


def resize(pictures: Float[Tensor, "pictures 3 _ _"], size: int) -> Float[Tensor, "pictures 3 _ _"]:
    """Resample pictures so that their shorter side is `size`, bicubic with antialiasing, clamped to [0, 1].

    Args:
        pictures: shape `(B, 3, H, W)`, in [0, 1].
        size: shorter side in pixels.

    Returns:
        Pictures of the same shape of frame, float in [0, 1]; gradients flow through.
    """
    _check_size(size)
    if pictures.ndim != 4:
        raise ValueError(f"resize takes a batch (B, 3, H, W), got shape {tuple(pictures.shape)}; use picture[None]")
    height, width = pictures.shape[-2:]
    shorter = min(height, width)
    shape = (round(height * size / shorter), round(width * size / shorter))
    if shape == (height, width):
        return pictures
    return interpolate(pictures, shape, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def from_pil(image: Image.Image) -> Float[Tensor, "3 height width"]:
    """Turn a Pillow image of any mode into a picture, `(3, H, W)` float32 in [0, 1]; transparent parts on white."""
    return torch.from_numpy(decoding.rgb(image).copy()).permute(2, 0, 1).contiguous()


def save(
    picture: Float[Tensor, "3 height width"] | Image.Image,
    path: str | os.PathLike,
    recipe: dict[str, Any] | recipe_text.Dumps | None = None,
) -> None:
    """Write a picture file, whole or not at all; its folder is made if need be.

    Args:
        picture: shape `(3, H, W)`, float in [0, 1]; or a Pillow image, such as `tile` makes.
        path: ending in .png, or without a recipe also .jpg, .jpeg or .webp.
        recipe: what the picture was made from: plain JSON data, or a recipe that gives it.

    Raises:
        ValueError: an unknown ending, a recipe for a file that cannot hold one, a recipe that is not plain JSON
            data, or values outside [0, 1].
    """
    path = Path(path).expanduser()
    options = dict(_writer(path, WRITERS))
    if recipe is not None:
        if options["format"] != "PNG":
            raise ValueError(f"{path.name}: only a PNG holds the recipe; name it {path.stem}.png, or save without one")
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt(recipe_text.CHUNK, recipe_text.write(recipe))
    image = to_pil(picture) if isinstance(picture, Tensor) else picture
    with edge.replacing(path) as temporary:
        image.save(temporary, **options)


def read_recipe(path: str | os.PathLike) -> dict[str, Any]:
    """The recipe inside a PNG that `save` wrote.

    Args:
        path: the PNG.

    Returns:
        The recipe as plain data.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no PNG, no recipe in it, or a damaged one.
    """
    path = Path(path)
    with decoding.opened(path) as image:
        if image.format != "PNG":
            raise ValueError(f"{path} is a {image.format}, and only PNG files carry a recipe; look for the original")
        decoding.load(image, path)  # other programs may move the chunk behind the pixels
        text = image.text.get(recipe_text.CHUNK)
    if text is None:
        raise ValueError(
            f"{path} carries no recipe: it was not made here, or was edited or sent through a program that drops text"
        )
    try:
        return recipe_text.read(text)
    except ValueError as error:
        raise ValueError(f"the recipe in {path} is damaged ({error}); look for the original file") from error


def animate(
    frames: Sequence[Float[Tensor, "3 height width"]], path: str | os.PathLike, seconds_per_frame: float = 0.1
) -> None:
    """Write pictures as an endless animation, whole or not at all.

    Args:
        frames: pictures `(3, H, W)` of one size, float in [0, 1], in the order they are shown.
        path: ending in .webp (full colour) or .gif (256 colours a frame).
        seconds_per_frame: how long each is shown, at least 0.02 s, which is what browsers keep to.

    Raises:
        ValueError: an unknown ending, no frames, or a time that is too short.
    """
    path = Path(path).expanduser()
    options = _writer(path, ANIMATIONS)
    images = [to_pil(frame) for frame in frames]
    if not images:
        raise ValueError("there are no frames to animate")
    if not seconds_per_frame >= 0.02:
        raise ValueError(f"a frame must be shown for at least 0.02 s, got {seconds_per_frame}")
    milliseconds = round(seconds_per_frame * 1000)
    with edge.replacing(path) as temporary:
        images[0].save(temporary, save_all=True, append_images=images[1:], duration=milliseconds, loop=0, **options)


def _read_batch(files: dict[str, Path], size: Size, limit: int | None, fit: str = "crop", stride: int = 1) -> Photos:
    if limit is not None and limit < 1:
        raise ValueError(f"limit is the most pictures to read, at least 1, got {limit}")
    return joined(list(read_batches(files, size, len(files), limit, fit, stride)))


def _next_readable(
    waiting: Iterator[tuple[int, tuple[str, Path]]], most: int, manner: tuple[Size, str, int], skipped: dict[str, str]
) -> list[tuple[int, str, Tensor]]:
    """Number, name and picture of the next files that can be read; of the others, names and reasons into `skipped`."""
    found = []
    while len(found) < most and (following := next(waiting, None)):
        number, (name, path) = following
        try:
            found.append((number, name, read(path, *manner)))
        except (ValueError, OSError) as error:
            skipped[name] = str(error)
    return found


def _nothing(skipped: dict[str, str]) -> str:
    reasons = "".join(f"\n- {reason}" for reason in list(skipped.values())[:5])
    return f"there is no readable picture; {len(skipped)} files were tried:{reasons}"


def _people(files: Mapping[str, Path], names: Sequence[str]) -> frozenset[str]:
    """Those of the names that a file `people.txt` beside their photos lists."""
    lists = {folder: folder / PEOPLE for folder in {files[name].parent for name in names}}
    known = {
        folder: set(path.read_text(encoding="utf-8").split("\n")) for folder, path in lists.items() if path.is_file()
    }
    return frozenset(name for name in names if files[name].name in known.get(files[name].parent, ()))


def _resampled(picture: Tensor, height: int, width: int) -> Tensor:
    picture = picture.contiguous()[None]
    if picture.shape[2:] == (height, width):
        return picture[0]
    return interpolate(picture, (height, width), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)[0]


def _rounded(side: float, shorter: int, stride: int) -> int:
    """A side as a multiple of the stride; the shorter one stays as it is."""
    return shorter if round(side) == shorter else max(shorter, round(side / stride) * stride)


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder, through links as well; no folder twice, so that links in a circle end."""
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        here = os.path.realpath(place)
        if here in seen:
            folders.clear()
            continue
        seen.add(here)
        folders.sort()
        yield from (path for name in files if (path := Path(place) / name).is_file())


def _shown(name: Path) -> str:
    return name.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _left_out(name: Path) -> bool:
    return name.suffix.lower() in DOCUMENTS or any(part.startswith(".") for part in name.parts)


def _check_size(size: Size) -> None:
    given = size if isinstance(size, tuple) and len(size) == 2 else (size,)
    if any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in given):
        raise ValueError(f"size is a side in whole pixels, at least 1, or (height, width), got {size!r}")


def _writer(path: Path, writers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if path.suffix.lower() not in writers:
        raise ValueError(f"{path.name}: expected a name that ends in {', '.join(writers)}")
    return writers[path.suffix.lower()]
