"""What files of rare kinds show, against littleCMS, tifffile's own numbers and what the training reads."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from nbhelpers import images
from nbhelpers.training import data

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
# red and green change places, and it still calls itself sRGB
SWAPPED = SRGB.tobytes().replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


def shown(path: Path) -> np.ndarray:
    return images.read(path).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_a_colour_profile_is_honoured(tmp_path: Path, mode: str, suffix: str) -> None:
    path, photo = tmp_path / f"x.{suffix}", Image.new("RGB", (4, 4), (250, 30, 60))
    options = {"lossless": True} if suffix == "webp" else {}
    photo.convert(mode).save(path, icc_profile=SWAPPED, **options)
    source = photo.convert(mode).convert("RGB")
    expected = ImageCms.profileToProfile(source, ImageCms.ImageCmsProfile(io.BytesIO(SWAPPED)), SRGB)
    assert np.allclose(shown(path), np.asarray(expected) / 255, atol=1e-6)
    assert shown(path)[0, 0, 1] > 0.9  # green, where the numbers say red


def test_profiles_for_grey_and_for_print(tmp_path: Path) -> None:
    grey = Image.new("L", (4, 4), 100)
    grey.save(tmp_path / "grey.png", icc_profile=SRGB.tobytes())  # for colours: not meant for this picture
    assert np.allclose(shown(tmp_path / "grey.png"), 100 / 255)


@pytest.mark.parametrize("profile", [b"", b"no profile at all", SRGB.tobytes()[:200]])
def test_a_profile_that_nobody_can_use_does_not_stop_the_reading(tmp_path: Path, profile: bytes) -> None:
    Image.new("RGB", (4, 4), (250, 30, 60)).save(tmp_path / "x.png", icc_profile=profile)
    assert np.allclose(shown(tmp_path / "x.png")[0, 0], np.array([250, 30, 60]) / 255)


def test_a_picture_in_srgb_keeps_every_bit(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png", icc_profile=SRGB.tobytes())
    assert np.array_equal(shown(tmp_path / "x.png"), pixels.astype(np.float32) / 255)


@pytest.mark.parametrize("dtype", [np.uint16, np.float16, np.float32, np.float64, np.uint32])
@pytest.mark.parametrize("layout", ["contig", "separate"])
@pytest.mark.parametrize("colours", [3, 4])
def test_tiff_in_colour_of_any_depth(tmp_path: Path, dtype: type, layout: str, colours: int) -> None:
    values = np.random.default_rng(0).random((10, 12, colours))
    scale = 1 if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max
    stored = (values * scale).astype(dtype)
    written = np.moveaxis(stored, -1, 0) if layout == "separate" else stored
    extra = {"extrasamples": ["unassalpha"]} if colours == 4 else {}
    tifffile.imwrite(tmp_path / "x.tif", written, photometric="rgb", planarconfig=layout, **extra)
    values = stored.astype(np.float64) / scale
    over_white = values[..., :3] * values[..., 3:] + 1 - values[..., 3:] if colours == 4 else values
    assert np.allclose(shown(tmp_path / "x.tif"), over_white, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_greys_that_count_from_white(tmp_path: Path, dtype: type, photometric: str) -> None:
    values = np.random.default_rng(0).random((10, 12))
    scale = 1 if dtype == np.float32 else np.iinfo(dtype).max
    stored = (values * scale).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric=photometric)
    values = stored.astype(np.float64) / scale
    expected = 1 - values if photometric == "miniswhite" else values
    assert np.allclose(shown(tmp_path / "x.tif"), expected[..., None].repeat(3, -1), atol=1e-6)


def test_twelve_bits(tmp_path: Path) -> None:
    values = np.array([[0, 4095, 2048, 1000], [4095, 1, 2, 3]], np.uint16)
    packed = b"".join(
        bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
        for first, second in values.reshape(-1, 2).tolist()
    )
    entries = [(256, 3, 4), (257, 3, 2), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 122), (277, 3, 1)]
    entries += [(278, 3, 2), (279, 4, len(packed))]
    head = b"II*\0" + (8).to_bytes(4, "little") + len(entries).to_bytes(2, "little")
    for tag, kind, value in entries:
        head += b"".join(n.to_bytes(size, "little") for n, size in ((tag, 2), (kind, 2), (1, 4), (value, 4)))
    head += bytes(4)
    (tmp_path / "x.tif").write_bytes(head.ljust(122, b"\0") + packed)
    assert np.allclose(shown(tmp_path / "x.tif")[..., 0], values / 4095, atol=1e-6)


@pytest.mark.parametrize(
    ("stored", "options", "words"),
    [
        (np.zeros((8, 8, 3), np.complex64), {"photometric": "rgb"}, "of a kind that is not read here"),
        (np.full((8, 8, 3), 300, np.float32), {"photometric": "rgb"}, "run from 300 to 300, expected 0 to 1"),
        (np.zeros((3, 8, 8), np.int16), {"photometric": "rgb"}, "of a kind that is not read here"),
    ],
)
def test_a_sound_tiff_that_is_not_read_is_not_called_damaged(
    tmp_path: Path, stored: np.ndarray, options: dict, words: str
) -> None:
    tifffile.imwrite(tmp_path / "x.tif", stored, **options)
    with pytest.raises(ValueError, match=words) as said:
        images.read(tmp_path / "x.tif")
    assert "damaged" not in str(said.value)


@pytest.mark.parametrize("kept", [12, 100, 300])
def test_a_cut_off_tiff_in_floating_point_is(tmp_path: Path, kept: int) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.random.default_rng(0).random((32, 32, 3), np.float32), photometric="rgb")
    (tmp_path / "x.tif").write_bytes((tmp_path / "x.tif").read_bytes()[:kept])
    with pytest.raises(ValueError, match="damaged"):
        images.read(tmp_path / "x.tif")


def test_a_sound_file_is_no_webp(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(b"RIFF\x24\0\0\0WAVEfmt " + bytes(28))
    with pytest.raises(ValueError, match="is not a picture"):
        images.read(tmp_path / "x.wav")


def test_a_png_that_ends_before_its_last_row(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes([200] * 24) for _ in range(4))  # of eight
    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(ValueError, match="truncated or damaged"):
        images.read(tmp_path / "x.png")


def test_training_reads_what_everybody_reads(tmp_path: Path) -> None:
    grey = tmp_path / "grey.png"
    Image.fromarray(np.full((8, 8), 30000, np.uint16)).save(grey)
    clear = tmp_path / "clear.png"
    Image.new("RGBA", (8, 8), (200, 200, 200, 0)).save(clear)
    turned, exif = Image.new("RGB", (8, 8)), Image.Exif()
    turned.paste((255, 0, 0), (0, 0, 8, 4))
    exif[274] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    for path in (grey, clear, tmp_path / "turned.png"):
        expected = (shown(path) * 255).round().astype(np.uint8)
        assert np.array_equal(data.decoded(path, 8), expected)
        assert np.array_equal(data.decoded(io.BytesIO(path.read_bytes()), 8), expected)
    assert data.decoded(grey, 8).mean() == 117
    disc = np.hypot(*(np.indices((40, 80)) - np.array([20, 40])[:, None, None])) < 15
    Image.fromarray((disc * 255).astype(np.uint8)).save(tmp_path / "disc.png")
    wide = data.decoded(tmp_path / "disc.png", 20)[..., 0] > 127  # a disc stays one: the centre, not all of it squeezed
    assert abs(wide.any(0).sum() - wide.any(1).sum()) <= 1
    assert wide.sum() == pytest.approx(np.pi * 7.5**2, rel=0.05)
    with pytest.raises(ValueError, match=r"shard\[3\] is no picture, or truncated or damaged"):
        data.decoded(io.BytesIO(b"nothing"), 8, "shard[3]")
