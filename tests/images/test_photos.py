"""Every kind of file is read right or refused kindly; what is written comes back, whole or not at all."""

import importlib.util
import io
import json
import os
import re
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin, features

from nbhelpers import images
from nbhelpers.images import decoding, recipe_text

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_images"
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def write_png(
    path: Path, values: np.ndarray, color_type: int, depth: int = 16, transparent: np.ndarray | None = None
) -> Path:
    """A PNG straight from its specification, for the kinds that Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in values)
    colour = b"" if transparent is None else chunk(b"tRNS", transparent.astype(">u2").tobytes())
    chunks = chunk(b"IHDR", header) + colour + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


def pixels_of(picture: torch.Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).numpy()


def same(picture: torch.Tensor, expected: np.ndarray) -> None:
    """Equal to float64 numbers of shape (H, W, 3) up to float32 rounding."""
    assert picture.dtype == torch.float32
    assert picture.is_contiguous()
    np.testing.assert_allclose(pixels_of(picture), expected, atol=1e-6, rtol=0)


# Reading right


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.ppm", "a.tiff", "a.webp", "a.jp2"])
def test_lossless_files_give_their_bytes_over_255(tmp_path, name):
    Image.fromarray(PIXELS).save(tmp_path / name, lossless=True)
    same(images.read(tmp_path / name), PIXELS / 255)


def test_a_jpeg_is_close(tmp_path):
    smooth = np.stack(np.broadcast_arrays(*np.ogrid[0:200:20j, 0:200:30j], 90.0), -1)
    Image.fromarray(smooth.round().astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(pixels_of(images.read(str(tmp_path / "a.jpg"))) - smooth / 255).mean() < 0.01


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_exif_orientations_stand_upright(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(PIXELS).save(path, exif=exif, lossless=True)
    with Image.open(path) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    same(images.read(path), expected / 255)


def test_a_jpeg_from_a_phone_held_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # the stored rows run down the right edge: turn clockwise
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:, :16] = (250, 20, 20)  # stored on the left, seen at the top
    Image.fromarray(stored).save(tmp_path / "phone.jpg", exif=exif, quality=95)
    picture = images.read(tmp_path / "phone.jpg")
    assert picture.shape == (3, 32, 16)
    assert picture[0, :14].min() > 0.9
    assert picture[0, 18:].max() < 0.1


def test_damaged_exif_does_not_stop_the_reading(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=b"Exif\0\0nonsense that is no TIFF header")
    same(images.read(tmp_path / "a.png"), PIXELS / 255)


def test_sixteen_bit_greyscale_png(tmp_path):
    values = np.random.default_rng(1).integers(0, 65536, (5, 7))
    path = write_png(tmp_path / "a.png", values, color_type=0)
    same(images.read(path), np.repeat(values[..., None] / 65535, 3, -1))


@pytest.mark.parametrize(("color_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bit_colour_png_keeps_its_precision(tmp_path, color_type, channels):
    values = np.random.default_rng(1).integers(0, 65536, (5, 7, channels))
    path = write_png(tmp_path / "a.png", values, color_type)
    scaled = values / 65535
    colour = scaled[..., :3] if channels > 2 else scaled[..., [0, 0, 0]]
    alpha = scaled[..., -1:] if channels in (2, 4) else 1
    same(images.read(path), colour * alpha + 1 - alpha)


def test_the_transparent_colour_of_a_sixteen_bit_png_is_white(tmp_path):
    values = np.random.default_rng(1).integers(0, 65536, (5, 7, 3))
    path = write_png(tmp_path / "a.png", values, 2, transparent=values[3, 4])
    expected = values / 65535
    expected[3, 4] = 1
    same(images.read(path), expected)


def test_sixteen_bit_tiff_and_pgm(tmp_path):
    values = np.random.default_rng(1).integers(0, 65536, (5, 7), dtype=np.uint16)
    for name in ("a.tiff", "a.pgm"):
        Image.fromarray(values).save(tmp_path / name)
        same(images.read(tmp_path / name), np.repeat(values[..., None] / 65535, 3, -1))


def test_floating_point_tiff(tmp_path):
    values = np.random.default_rng(1).random((5, 7), dtype=np.float32)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    same(images.read(tmp_path / "a.tiff"), np.repeat(values[..., None], 3, -1))
    Image.fromarray(values * 300).save(tmp_path / "b.tiff")
    with pytest.raises(ValueError, match=r"b\.tiff: its values run from .* expected 0 to 1; scale them"):
        images.read(tmp_path / "b.tiff")


def test_greyscale_and_one_bit(tmp_path):
    grey = PIXELS[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    same(images.read(tmp_path / "grey.png"), np.repeat(grey[..., None] / 255, 3, -1))
    Image.fromarray(grey > 127).save(tmp_path / "bits.png")
    same(images.read(tmp_path / "bits.png"), np.repeat((grey > 127)[..., None], 3, -1).astype(float))


def test_palette_with_and_without_transparency(tmp_path):
    index = np.random.default_rng(1).integers(0, 3, (6, 8), dtype=np.uint8)
    palette = np.array([[10, 20, 30], [200, 100, 0], [0, 255, 0]])
    image = Image.frombytes("P", (8, 6), index.tobytes())
    image.putpalette(palette.astype(np.uint8).tobytes())
    image.save(tmp_path / "a.png")
    same(images.read(tmp_path / "a.png"), palette[index] / 255)
    image.save(tmp_path / "a.gif")
    same(images.read(tmp_path / "a.gif"), palette[index] / 255)

    image.save(tmp_path / "b.png", transparency=bytes([255, 0, 51]))
    alpha = np.array([1, 0, 0.2])[index][..., None]
    same(images.read(tmp_path / "b.png"), palette[index] / 255 * alpha + 1 - alpha)


def test_a_transparent_colour_is_white(tmp_path):
    pixels = PIXELS.copy()
    pixels[3, 4] = (1, 2, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png", transparency=(1, 2, 3))
    expected = pixels / 255
    expected[(pixels == (1, 2, 3)).all(-1)] = 1
    same(images.read(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_over_white(tmp_path, mode):
    values = np.random.default_rng(1).integers(0, 256, (6, 8, len(mode)), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    colour, alpha = values[..., :-1] / 255, values[..., -1:] / 255
    same(images.read(tmp_path / "a.png"), np.broadcast_to(colour * alpha + 1 - alpha, (6, 8, 3)))


def test_cmyk_and_ycck(tmp_path):
    # Ink 0 is paper: (0, 255, 255, 0) prints red. A flat colour survives JPEG.
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.tiff")
    same(images.read(tmp_path / "a.tiff"), np.broadcast_to([1.0, 0.0, 0.0], (16, 16, 3)))
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    expected = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 16, 16)
    assert (images.read(tmp_path / "a.jpg") - expected).abs().max() < 0.02

    # YCCK is CMYK with its first three inks as YCbCr, told by the Adobe marker's transform 2.
    plain = (tmp_path / "a.jpg").read_bytes()
    inks = Image.merge("YCbCr", [Image.new("L", (16, 16), value) for value in (76, 85, 255)])  # red in YCbCr
    as_ycck = Image.merge("CMYK", [*inks.split(), Image.new("L", (16, 16), 0)])
    stream = io.BytesIO()
    as_ycck.save(stream, "JPEG", quality=100)
    data = stream.getvalue()
    marker = data.index(b"Adobe")
    assert b"Adobe" in plain
    (tmp_path / "ycck.jpg").write_bytes(data[: marker + 11] + b"\2" + data[marker + 12 :])
    with Image.open(tmp_path / "ycck.jpg") as image:
        assert image.mode == "CMYK"
        assert image.info["adobe_transform"] == 2
        reference = np.asarray(image.convert("RGB")) / 255
    same(images.read(tmp_path / "ycck.jpg"), reference)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_animations_give_their_first_frame_and_say_so(tmp_path, name):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
    with pytest.warns(UserWarning, match=rf"{name} has 3 frames; the first one is read"):
        picture = images.read(tmp_path / name)
    same(picture, np.broadcast_to([1.0, 0.0, 0.0], (8, 8, 3)))


def test_pages_are_said_and_a_second_view_is_not(tmp_path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="has 2 pages"):
        images.read(tmp_path / "a.tiff")
    frames[0].save(tmp_path / "a.mpo", save_all=True, append_images=frames[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert images.read(tmp_path / "a.mpo")[0].min() > 0.95


def test_size_takes_the_central_square(tmp_path):
    pixels = np.zeros((40, 100, 3), np.uint8)
    pixels[:, 30:70] = (255, 0, 51)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels.swapaxes(0, 1)).save(tmp_path / "high.png")
    for name in ("wide.png", "high.png"):
        for size in (10, 40, 80):
            same(images.read(tmp_path / name, size), np.broadcast_to([1.0, 0.0, 0.2], (size, size, 3)))


def test_resize_agrees_with_pillow_and_is_antialiased():
    picture = images.from_pil(Image.fromarray(PIXELS).resize((60, 40), Image.Resampling.BILINEAR))
    for size in (16, 40, 100):
        resized = images.resize(picture[None], size)[0]
        shape = (round(60 * size / 40), size)
        reference = images.to_pil(picture).resize(shape, Image.Resampling.BICUBIC)
        assert resized.shape == (3, size, shape[0])
        assert np.abs(pixels_of(resized) - np.asarray(reference) / 255).max() < 0.012
    # The finest checkerboard averages to grey; without antialiasing it would stay black and white.
    checkers = torch.ones(1, 3, 64, 64)
    checkers[..., ::2, ::2] = checkers[..., 1::2, 1::2] = 0
    assert (images.resize(checkers, 16)[..., 2:-2, 2:-2] - 0.5).abs().max() < 0.02


# Refusing kindly


def test_a_photo_at_an_address(tmp_path):
    import fsspec

    images.save(torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)), tmp_path / "a.png")
    with fsspec.open("memory://photos/a.png", "wb") as there:
        there.write((tmp_path / "a.png").read_bytes())
    assert torch.equal(images.read("memory://photos/a.png"), images.read(tmp_path / "a.png"))
    assert torch.equal(images.read((tmp_path / "a.png").as_uri()), images.read(tmp_path / "a.png"))
    assert images.read_many("memory://photos/a.png", 8).names == ["a.png"]
    with pytest.raises(FileNotFoundError, match=r"no file at memory://photos/b\.png"):
        images.read("memory://photos/b.png")
    with pytest.raises(ValueError, match=r"nowhere://b\.png cannot be read"):
        images.read("nowhere://b.png")


def test_photos_of_the_same_name_at_two_addresses_are_two_photos():
    import fsspec

    colours = {"memory://red/photo.png": (255, 0, 0), "memory://blue/photo.png": (0, 0, 255)}
    for address, colour in colours.items():
        with fsspec.open(address, "wb") as there:
            Image.new("RGB", (8, 8), colour).save(there, "PNG")
    both = images.read_many(list(colours), 8).pictures
    for address, colour, picture in zip(colours, colours.values(), both, strict=True):
        assert torch.equal(picture, (torch.tensor(colour) / 255)[:, None, None].expand(3, 8, 8))
        assert torch.equal(picture, images.read(address))
        assert images.read_many(address, 8).names == ["photo.png"]


def test_nothing_temporary_stays_behind_a_photo_at_an_address(tmp_path):
    images.save(torch.rand(3, 8, 8), tmp_path / "a.png")
    (tmp_path / "temporary").mkdir()
    script = f"from nbhelpers.images import decoding; print(decoding.here({(tmp_path / 'a.png').as_uri()!r}))"
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
    found = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(tmp_path / "temporary")
    assert not list((tmp_path / "temporary").iterdir())


def test_a_missing_file_offers_the_nearest_names(tmp_path):
    for name in ("zebra.jpg", "Elephant.png", "apple.png"):
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=r"no such file: .*zebrq\.jpg; did you mean zebra\.jpg\?"):
        images.read(tmp_path / "zebrq.jpg")
    with pytest.raises(FileNotFoundError, match=r"did you mean Elephant\.png"):
        images.read(tmp_path / "elephant.jpg")
    with pytest.raises(FileNotFoundError, match=r"holds Elephant\.png, apple\.png, zebra\.jpg"):
        images.read(tmp_path / "QQQ")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere either"):
        images.read(tmp_path / "nowhere" / "zebra.jpg")


def test_folders_empty_files_and_other_kinds(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder, expected one picture; images\.read_folder"):
        images.read(tmp_path)
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ValueError, match=r"empty\.jpg is empty \(0 bytes\)"):
        images.read(tmp_path / "empty.jpg")
    (tmp_path / "notes.txt").write_text("buy milk")
    with pytest.raises(ValueError, match=r"notes\.txt is not a picture, expected JPEG, .*convert it"):
        images.read(tmp_path / "notes.txt")
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(ValueError, match=r"photo\.heic is a HEIC picture .*export it as JPEG"):
        images.read(tmp_path / "photo.heic")
    # Pillow would hand this to Ghostscript.
    (tmp_path / "page.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match="not a picture"):
        images.read(tmp_path / "page.eps")


def test_what_is_no_file_is_refused_at_every_door(odd_paths, tmp_path):
    doors = [images.read, lambda path: images.read_many(path, 8), images.read_recipe, images.files_in, images.decode]
    for path in odd_paths.values():
        for door in doors:
            with pytest.raises((ValueError, FileNotFoundError), match=r"no such file|is a [pdl]") as caught:
                door(path)
            assert len(str(caught.value)) < 700
            str(caught.value).encode()  # can be printed
    with pytest.raises(ValueError, match="no readable picture; 10 files were tried"):
        images.read_many(list(odd_paths.values()), 8)
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")
    assert images.read_many(tmp_path, 8).names == ["good.png"]
    read = images.read_many([odd_paths["pipe"], odd_paths["NUL"], tmp_path / "good.png"], 8)
    assert len(read) == 1
    assert "is a pipe, expected a file" in read.skipped[str(odd_paths["pipe"])]
    with pytest.raises((ValueError, FileNotFoundError)):
        images.read(odd_paths["pipe"].as_uri())


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tiff", "bmp"])
@pytest.mark.parametrize("kept", [0.005, 0.6])
def test_truncated_files_say_so(tmp_path, suffix, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: max(8, int(len(data) * kept))])
    with pytest.raises(ValueError, match=rf"a\.{suffix} .*truncated or damaged.*copy or download it again"):
        images.read(path)


def test_truncated_sixteen_bit_colour(tmp_path):
    values = np.random.default_rng(1).integers(0, 65536, (32, 32, 3))
    path = write_png(tmp_path / "a.png", values, color_type=2)
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    with pytest.raises(ValueError, match="truncated or damaged"):
        images.read(path)
    # its rows are there, but neither their checksum nor the end of the file
    path.write_bytes(whole[:-16])
    with pytest.raises(ValueError, match=r"a PNG of 32 x 32 pixels, but truncated or damaged .*; copy or download it"):
        images.read(path)


def test_sixteen_bit_colour_with_fewer_rows_than_it_says(tmp_path):
    path = write_png(tmp_path / "a.png", np.full((8, 8, 3), 30_000), color_type=2)
    data = bytearray(path.read_bytes())
    data[20:24] = struct.pack(">I", 16)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    with pytest.raises(ValueError, match="truncated or damaged"):
        images.read(path)


@pytest.mark.parametrize("side", [10_001, 15_000, 60_000])
def test_decompression_bombs_say_pixels_and_limit(tmp_path, side):
    path = tmp_path / "bomb.png"
    write_png(path, np.zeros((1, 1, 3)), 2, depth=8)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"bomb\.png has .*{side * side:,} pixels, the limit is 100,000,000; save a"):
        images.read(path)


def test_unreadable_permissions(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    path.chmod(0)
    try:
        path.read_bytes()
        pytest.skip("this user may read everything")
    except PermissionError:
        pass
    with pytest.raises(ValueError, match=r"a\.png may not be read"):
        images.read(path)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("size", [0, -3, 2.5, True, "64"])
def test_sizes_are_whole_pixels(tmp_path, size):
    with pytest.raises(ValueError, match="size is a side in whole pixels"):
        images.read(tmp_path / "whatever.png", size)


# Folders


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".cache").mkdir()
    for number, name in enumerate(("b.png", "a.png", "sub/c.png", ".cache/d.png", ".hidden.png")):
        Image.new("RGB", (12 + number, 12), (number * 51, 0, 0)).save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (tmp_path / "film.mov").write_text("moving")
    (tmp_path / "README.md").write_text("photos")
    return tmp_path


def test_a_folder_is_read_in_order_and_names_what_it_skipped(folder):
    photos = images.read_folder(folder, 8)
    assert photos.names == ["a.png", "b.png", "sub/c.png"]
    assert photos.pictures.shape == (3, 3, 8, 8)
    assert photos.pictures[:, 0, 0, 0].tolist() == pytest.approx([0.2, 0.0, 0.4], abs=1e-6)
    assert list(photos.skipped) == ["broken.jpg", "film.mov"]
    assert "not a picture" in photos.skipped["film.mov"]
    assert "truncated" in photos.skipped["broken.jpg"]
    assert len(photos) == 3
    assert "3 photos of 8 x 8" in repr(photos)
    assert "skipped broken.jpg" in repr(photos)
    assert images.read_folder(folder, 8, limit=2).names == ["a.png", "b.png"]


def test_one_file_or_a_list_is_read_too(folder):
    assert images.read_many(folder / "b.png", 8).names == ["b.png"]
    assert images.read_many(folder, 8).names == ["a.png", "b.png", "sub/c.png"]
    photos = images.read_many([folder / "b.png", folder / "broken.jpg", str(folder / "a.png")], 8)
    assert [Path(name).name for name in photos.names] == ["b.png", "a.png"]
    assert "truncated" in photos.skipped[str(folder / "broken.jpg")]
    with pytest.raises(ValueError, match="truncated"):
        images.read_many(folder / "broken.jpg", 8)
    with pytest.raises(ValueError, match="list of photos is empty"):
        images.read_many([], 8)


def test_folders_without_pictures(folder, tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="nothing holds no pictures; put some photos there"):
        images.read_folder(tmp_path / "nothing", 8)
    (tmp_path / "nothing" / "film.mov").write_text("moving")
    with pytest.raises(ValueError, match=r"film\.mov is not a picture"):
        images.read_folder(tmp_path / "nothing", 8)
    with pytest.raises(ValueError, match=r"is a file, expected a folder"):
        images.read_folder(folder / "a.png", 8)
    with pytest.raises(FileNotFoundError, match=r"did you mean nothing\?"):
        images.read_folder(tmp_path / "nothin", 8)
    with pytest.raises(ValueError, match="limit is the most pictures"):
        images.read_folder(folder, 8, limit=0)


# Writing


def test_values_are_rounded_not_truncated():
    values = torch.linspace(0, 1, 3 * 64 * 64).reshape(3, 64, 64)
    expected = np.floor(values.double().numpy() * 255 + 0.5)
    off = np.abs(np.asarray(images.to_pil(values)).transpose(2, 0, 1) - expected)
    assert off.max() == 0 or (off > 0).mean() < 1e-3  # exact halves may go either way
    every = torch.arange(256).div(255).reshape(1, 16, 16).expand(3, -1, -1)
    assert torch.equal(images.from_pil(images.to_pil(every)), every)
    coarse = images.from_pil(images.to_pil(every.bfloat16().requires_grad_()))
    assert (coarse - every).abs().max() < 2**-8


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (torch.zeros(1, 3, 4, 4), r"float tensor \(3, H, W\), got torch.float32 \(1, 3, 4, 4\); pictures\[0\]"),
        (torch.zeros(4, 4, 3), r"got torch.float32 \(4, 4, 3\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "got torch.uint8"),
        (np.zeros((3, 4, 4)), "got ndarray"),
        (torch.full((3, 4, 4), 1.5), r"values run from 1.5 to 1.5, expected \[0, 1\]"),
        (torch.full((3, 4, 4), -0.5), r"expected \[0, 1\]; rescale them"),
        (torch.full((3, 4, 4), torch.nan), "48 of the picture's 48 values are not finite"),
    ],
)
def test_what_is_no_picture_is_refused(picture, message):
    with pytest.raises(ValueError, match=message):
        images.to_pil(picture)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recipe=st.dictionaries(st.text(), JSON, max_size=5))
def test_recipes_come_back(tmp_path, recipe):
    picture = torch.zeros(3, 4, 4)
    images.save(picture, tmp_path / "a.png", recipe)
    back = images.read_recipe(tmp_path / "a.png")
    assert back == recipe
    assert json.dumps(back) == json.dumps(recipe)  # 1 and 1.0 and True are equal, but not the same


def test_the_picture_comes_back_with_its_recipe(tmp_path):
    class Model:
        def model_dump(self, *, mode: str) -> dict:
            return {"mode": mode, "layer": "block3.conv2"}

    picture = torch.from_numpy(PIXELS).permute(2, 0, 1) / 255
    images.save(picture, tmp_path / "new" / "folder" / "a.png", Model())
    assert torch.equal(images.read(tmp_path / "new" / "folder" / "a.png"), picture)
    assert images.read_recipe(tmp_path / "new" / "folder" / "a.png") == {"mode": "json", "layer": "block3.conv2"}
    ramp = torch.stack([torch.linspace(0, 1, 32).expand(24, -1)] * 3)
    for name in ("a.jpg", "a.webp", "A.PNG"):
        images.save(images.to_pil(ramp), tmp_path / name)
        assert (images.read(tmp_path / name) - ramp).abs().max() < 0.03


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "recipe",
    [{"a": (1, 2)}, {1: "a"}, {"a": float("nan")}, {"a": {1, 2}}, {"a": torch.zeros(1)}, {"a": Path()}],
    ids=["tuple", "key", "nan", "set", "tensor", "path"],
)
def test_recipes_that_json_cannot_hold(tmp_path, recipe):
    with pytest.raises(ValueError, match="recipe"):
        images.save(torch.zeros(3, 4, 4), tmp_path / "a.png", recipe)
    assert not list(tmp_path.iterdir())


def test_files_without_a_recipe(tmp_path):
    picture = torch.zeros(3, 4, 4)
    with pytest.raises(ValueError, match=r"a\.jpg: only a PNG holds the recipe; name it a\.png"):
        images.save(picture, tmp_path / "a.jpg", {})
    with pytest.raises(ValueError, match=r"a\.pnk: expected a name that ends in \.png, \.jpg"):
        images.save(picture, tmp_path / "a.pnk")
    images.save(picture, tmp_path / "plain.png")
    with pytest.raises(ValueError, match=r"plain\.png carries no recipe: it was not made here"):
        images.read_recipe(tmp_path / "plain.png")
    images.save(picture, tmp_path / "plain.jpg")
    with pytest.raises(ValueError, match="is a JPEG, and only PNG files carry a recipe"):
        images.read_recipe(tmp_path / "plain.jpg")
    with pytest.raises(FileNotFoundError, match=r"did you mean plain\.png"):
        images.read_recipe(tmp_path / "plane.png")
    for number, text in enumerate(("{", "[1]", "[" * 100_000)):
        info = PngImagePlugin.PngInfo()
        info.add_itxt(recipe_text.CHUNK, text)
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number}.png", pnginfo=info)
        with pytest.raises(ValueError, match=r"the recipe in .* is damaged"):
            images.read_recipe(tmp_path / f"{number}.png")


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failing_save_leaves_the_old_file_alone(tmp_path, monkeypatch, error):
    path = tmp_path / "a.png"
    images.save(torch.zeros(3, 4, 4), path, {"kept": True})
    before = path.read_bytes()

    def fail(self, target, **options):
        Path(target).write_bytes(b"half a pict")
        raise error

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(type(error)):
        images.save(torch.ones(3, 4, 4), path, {"kept": False})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_saved_files_have_ordinary_permissions(tmp_path):
    (tmp_path / "ordinary").touch()
    images.save(torch.zeros(3, 4, 4), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_animations_hold_all_frames_and_their_time(tmp_path, name):
    frames = [torch.full((3, 16, 16), value) for value in (0.0, 0.5, 1.0)]
    images.animate(frames, tmp_path / name, seconds_per_frame=0.25)
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 3
        for number, frame in enumerate(frames):
            image.seek(number)
            image.load()
            assert image.info["duration"] == 250
            assert abs(np.asarray(image.convert("RGB")).mean() / 255 - frame.mean()) < 0.01
    with pytest.raises(ValueError, match=r"a\.png: expected a name that ends in \.gif, \.webp"):
        images.animate(frames, tmp_path / "a.png")
    with pytest.raises(ValueError, match="no frames"):
        images.animate([], tmp_path / name)
    with pytest.raises(ValueError, match=r"at least 0\.02 s"):
        images.animate(frames, tmp_path / name, 0)


# Tiling


def test_tiles_lie_where_they_should():
    pictures = torch.rand(5, 3, 10, 14)
    sheet = images.from_pil(images.tile(pictures, columns=3, gap=4, background="#ff0000"))
    assert sheet.shape == (3, 2 * 10 + 4, 3 * 14 + 2 * 4)
    rest = torch.ones(sheet.shape[1:], dtype=bool)
    for index, picture in enumerate(pictures):
        top, left = index // 3 * 14, index % 3 * 18
        assert (sheet[:, top : top + 10, left : left + 14] - picture).abs().max() <= 0.5 / 255 + 1e-6
        rest[top : top + 10, left : left + 14] = False
    assert (sheet[:, rest] == torch.tensor([1.0, 0.0, 0.0])[:, None]).all()


@pytest.mark.parametrize(
    ("count", "columns", "rows"),
    [(1, 1, 1), (4, 4, 1), (5, 5, 1), (6, 3, 2), (8, 4, 2), (9, 3, 3), (12, 4, 3), (16, 4, 4)],
)
def test_the_squarest_grid_with_few_holes(count, columns, rows):
    assert images.tile(torch.zeros(count, 3, 8, 8), gap=0).size == (columns * 8, rows * 8)


@pytest.mark.parametrize("width", [40, 64, 128, 224, 400])
@pytest.mark.parametrize("background", ["white", "black"])
def test_labels_are_legible_and_never_cut_off(width, background):
    labels = ["Ågjpqy", "a name that is far too long for the picture above it, at any width", "0.93 → ±2\nsecond line"]
    sheet = np.asarray(
        images.tile(torch.full((3, 3, 50, width), 0.5), columns=3, gap=6, labels=labels, background=background).convert(
            "L"
        )
    ).astype(int)
    ground = 255 if background == "white" else 0
    assert sheet.shape[1] == 3 * width + 12
    below = np.abs(sheet[50:] - ground)
    assert (below[0] == 0).all()
    assert (below[-1] == 0).all()
    for index in range(3):
        left = index * (width + 6)
        box = below[:, left : left + width]
        assert (box > 200).sum() > 20  # strokes of full contrast
        assert (box[:, [0, -1]] == 0).all()
        if index < 2:
            assert (below[:, left + width : left + width + 6] == 0).all()
    lines = [np.flatnonzero((below[:, :width] > 0).any(1)), np.flatnonzero((below[:, 2 * (width + 6) :] > 0).any(1))]
    assert lines[1].max() > lines[0].max() + 8  # the second line stands below the first


def test_a_label_that_is_too_wide_is_broken_between_words():
    def sheet(label):
        return np.asarray(images.tile(torch.zeros(1, 3, 8, 128), labels=[label]))

    assert np.array_equal(sheet("European fire salamander"), sheet("European fire\nsalamander"))
    assert np.array_equal(sheet("a European fire salamander"), sheet("a European fire\nsalamander"))
    # never more than two lines: the rest is told to be missing
    assert sheet("European fire salamander " * 5).shape == sheet("two\nlines").shape
    assert np.array_equal(sheet("pneumono" * 5)[:, :8], sheet("pneumono" * 6)[:, :8])
    assert sheet("pneumono" * 5).shape == sheet("one").shape


def test_what_cannot_be_tiled():
    with pytest.raises(ValueError, match="no pictures"):
        images.tile([])
    with pytest.raises(ValueError, match=r"one size, got 8 x 8, 8 x 9; images\.resize"):
        images.tile([torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)])
    with pytest.raises(ValueError, match="1 labels for 2 pictures"):
        images.tile(torch.zeros(2, 3, 8, 8), labels=["a"])
    with pytest.raises(ValueError, match="at least one column"):
        images.tile(torch.zeros(2, 3, 8, 8), columns=0)


# What ships


def test_sample_images_and_their_sources():
    beside = ("SOURCES.md", "boxes.json", "people.txt")
    files = sorted(path.name for path in SAMPLES.iterdir() if path.name not in beside)
    rows = re.findall(r"^\| `(.+?)` \|(.*)\|$", (SAMPLES / "SOURCES.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(name for name, _ in rows) == files
    assert len(files) >= 8
    for _, cells in rows:
        assert all(cell.strip() for cell in cells.split("|"))
        assert re.search(r"public domain|CC0|CC BY 2\.0", cells)
    photos = images.read_folder(SAMPLES, 64)
    assert photos.names == files
    assert not photos.skipped
    assert sum((SAMPLES / name).stat().st_size for name in files) < 1_200_000


def test_natural_statistics_are_what_they_say():
    with np.load(ROOT / "nbhelpers" / "ascent" / "natural_images.npz") as file:
        mean, covariance, color = file["mean"], file["covariance"], file["color"]
        spectrum = file["spectrum"].astype(np.float64)
    assert ((mean > 0.3) & (mean < 0.6)).all()
    np.testing.assert_allclose(color @ color.T, covariance, atol=1e-6)
    np.testing.assert_allclose(color.T @ color, np.diag(np.diag(color.T @ color)), atol=1e-6)  # orthogonal axes
    # The same matrix as measured on ImageNet, from lucid (color_correlation_svd_sqrt), to a few percent.
    lucid = [[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]]
    np.testing.assert_allclose(color, lucid, atol=0.015)
    assert spectrum.shape == (3, 128, 65)
    assert (spectrum > 0).all()
    # Mirrored photos are photos: rows r and -r agree. Amplitude falls as about 1/f (Field 1987).
    mirrored = np.roll(spectrum[:, ::-1], 1, axis=1)
    np.testing.assert_allclose(spectrum, mirrored, rtol=2e-3)
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128)[None])
    middle = (frequency > 2 / 128) & (frequency < 32 / 128)
    slope = np.polyfit(np.log(frequency[middle]), np.log(spectrum[0][middle]), 1)[0]
    assert -1.4 < slope < -0.9


def test_large_pictures_only_just_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "LARGEST", 600)
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert images.read(tmp_path / "a.png").shape == (3, 20, 30)
    monkeypatch.setattr(decoding, "LARGEST", 599)
    with pytest.raises(ValueError, match="30 x 20 = 600 pixels, the limit is 599"):
        images.read(tmp_path / "a.png")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif(tmp_path):
    Image.new("RGB", (16, 16), (255, 0, 0)).save(tmp_path / "a.avif", quality=100)
    assert (images.read(tmp_path / "a.avif")[:, 8, 8] - torch.tensor([1.0, 0, 0])).abs().max() < 0.05


def test_all_shared_photos_are_readable(shared):
    photos = images.read_folder(shared / "images", 64)
    assert len(photos) >= 80
    assert not photos.skipped


def test_the_spectrum_is_free_of_the_jump_at_the_border():
    specification = importlib.util.spec_from_file_location("statistics", ROOT / "tools" / "natural_statistics.py")
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    # Where opposite edges agree nothing is taken away: plain amplitudes, here of a random picture on a torus.
    wrapped = np.random.default_rng(0).normal(size=(32, 32))
    wrapped[-1], wrapped[:, -1] = wrapped[0], wrapped[:, 0]
    wrapped[-1] = wrapped[0]
    np.testing.assert_allclose(
        tool.periodic_amplitude(wrapped), np.abs(np.fft.fft2(wrapped, norm="ortho")), rtol=1e-9, atol=1e-9
    )
    # A slope is all jump: its cross goes, its mean stays.
    slope = np.add.outer(np.linspace(0, 2, 64), np.linspace(0, 3, 64))
    plain, periodic = np.abs(np.fft.fft2(slope, norm="ortho")), tool.periodic_amplitude(slope)
    assert periodic[0, 0] == pytest.approx(64 * slope.mean())
    assert np.square(periodic[0, 1:]).sum() < 1e-3 * np.square(plain[0, 1:]).sum()
    # Halving samples the logarithm, smoothed by (1/4, 1/2, 1/4): a cosine comes out lower by a known factor.
    wave = np.cos(2 * np.pi * np.fft.fftfreq(64)) + np.zeros((64, 1))
    np.testing.assert_allclose(
        np.log(tool.halve(np.exp(wave))), wave[::2, ::2] * (1 + np.cos(2 * np.pi / 64)) / 2, atol=1e-12
    )


@given(
    sides=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    size=st.integers(1, 64),
    stride=st.sampled_from([1, 2, 8, 16]),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whole_photos_keep_their_proportions(tmp_path, sides, size, stride):
    Image.new("RGB", sides, (255, 128, 0)).save(tmp_path / "photo.png")
    whole = images.read(tmp_path / "photo.png", size, fit="whole", stride=stride)
    (width, height), (_, tall, wide) = sides, whole.shape
    assert min(tall, wide) == size
    longer, exact = max(tall, wide), size * max(sides) / min(sides)
    assert longer == size or longer % stride == 0
    assert abs(longer - exact) <= max(stride / 2 + 0.5, size - exact + stride)
    assert (tall - wide) * (height - width) >= 0
    assert torch.allclose(whole.mean((1, 2)), torch.tensor([255, 128, 0]) / 255, atol=1e-3)
    padded = images.read(tmp_path / "photo.png", size, fit="pad")
    assert padded.shape == (3, size, size)


def test_nothing_of_a_whole_photo_is_lost_and_grey_lies_beside_it(tmp_path):
    columns = np.zeros((20, 60, 3), dtype=np.uint8)
    columns[:, :10], columns[:, -10:] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(columns).save(tmp_path / "wide.png")
    path = tmp_path / "wide.png"
    crop, whole, padded = (images.read(path, 24, fit=fit) for fit in ("crop", "whole", "pad"))
    assert crop.shape == (3, 24, 24)
    assert crop.max() < 0.05
    assert whole.shape == (3, 24, 72)
    assert whole[0, :, :10].min() > 0.95
    assert whole[2, :, -10:].min() > 0.95
    assert torch.equal(padded[:, :8], torch.full((3, 8, 24), 0.5))
    assert torch.equal(padded[:, 16:], torch.full((3, 8, 24), 0.5))
    assert padded[0, 8:16, :2].min() > 0.9
    with pytest.raises(ValueError, match="fit 'squeeze' is unknown: choose whole, crop, pad"):
        images.read(path, 24, fit="squeeze")


def test_photos_come_in_batches_of_one_shape_with_their_numbers(tmp_path):
    for number, sides in enumerate([(30, 20), (20, 20), (30, 20), (20, 30), (20, 20)]):
        Image.new("RGB", sides, (50 * number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "2b.png").write_bytes(b"no picture")
    files = images.listed(tmp_path)
    found = list(images.read_batches(files, 10, 3, fit="whole"))
    assert [(numbers, list(photos.skipped)) for numbers, photos in found] == [
        ([0, 2], []),
        ([1], []),
        ([4], ["2b.png"]),
        ([5], []),
    ]
    for numbers, photos in found:
        assert photos.names == [list(files)[number] for number in numbers]
        for name, picture in zip(photos.names, photos.pictures, strict=True):
            assert torch.equal(picture, images.read(files[name], 10, fit="whole"))
    assert [numbers for numbers, _ in images.read_batches(files, 10, 3, limit=4)] == [[0, 1, 2], [4]]
    whole = images.framed([picture for _, photos in found for picture in photos.pictures], 30)
    assert whole.shape == (5, 3, 30, 30)
    assert whole[0, :, :5].eq(1).all()  # white above a photo that is wide
