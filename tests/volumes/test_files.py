"""Volumes of bytes and their files, against bytes counted by hand, pynrrd and NumPy."""

from pathlib import Path

import nrrd
import numpy as np
import pytest
import torch

from nbhelpers.volumes import files as volumes

HEIGHT, WIDTH, CHANNELS = 3, 5, 4


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, CHANNELS), np.uint8)


def test_bytes_run_from_the_least_to_the_greatest_value() -> None:
    maps = torch.tensor([[[-1.0, 0.0], [1.0, 3.0]], [[0.0, 0.5], [0.5, 1.0]]])
    common = volumes.to_bytes(maps)
    assert common.shape == (2, 2, 2)
    assert common.dtype == np.uint8
    # (value + 1) / 4 * 255, rounded
    assert common[..., 0].tolist() == [[0, 64], [128, 255]]
    assert common[..., 1].tolist() == [[64, 96], [96, 128]]
    assert volumes.to_bytes(maps, "each")[..., 1].tolist() == [[0, 128], [128, 255]]


def test_constant_maps_are_empty() -> None:
    maps = torch.stack([torch.full((2, 2), 7.0), torch.arange(4.0).view(2, 2)])
    assert volumes.to_bytes(maps, "each")[..., 0].tolist() == [[0, 0], [0, 0]]
    assert not volumes.to_bytes(torch.full((3, 2, 2), -2.0)).any()


def test_vox_bytes_run_column_row_channel(volume: np.ndarray, tmp_path: Path) -> None:
    volumes.save(volume, tmp_path / "v.vox")
    raw = (tmp_path / "v.vox").read_bytes()
    for (row, column, channel), value in np.ndenumerate(volume):
        assert raw[column + WIDTH * row + WIDTH * HEIGHT * channel] == value
    assert (tmp_path / "v.hd").read_text() == "Size 5x3x4 unsigned byte\nSpacing 1.0x1.0x1.0\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v.hd", "v.vox"]


@pytest.mark.parametrize("suffix", volumes.SUFFIXES)
def test_every_format_comes_back(volume: np.ndarray, tmp_path: Path, suffix: str) -> None:
    volumes.save(volume, tmp_path / f"new folder/v{suffix}")
    back = volumes.load(tmp_path / f"new folder/v{suffix}")
    assert back.dtype == np.uint8
    assert np.array_equal(back, volume)


def test_signed_bytes_of_the_published_writer_come_out_right(volume: np.ndarray, tmp_path: Path) -> None:
    volume[0, 0, 0] = 200
    signed = volume.astype(np.int16)
    signed[signed > 127] -= 256
    assert signed[0, 0, 0] == -56
    signed.astype(np.int8).transpose(2, 0, 1).tofile(tmp_path / "v.vox")
    (tmp_path / "v.hd").write_text("Size 5x3x4 unsigned byte\r\nSpacing 1.0x1.0x1.0")
    assert np.array_equal(volumes.load(tmp_path / "v.vox"), volume)


def test_nrrd_as_another_program_reads_it(volume: np.ndarray, tmp_path: Path) -> None:
    volumes.save(volume, tmp_path / "v.nrrd", spacing=(1, 2, 0.5))
    data, header = nrrd.read(str(tmp_path / "v.nrrd"))  # NRRD's own axis order: the fastest first
    assert data.shape == (WIDTH, HEIGHT, CHANNELS)
    assert data[4, 2, 3] == volume[2, 4, 3]
    assert header["type"] in ("unsigned char", "uint8", "uchar")
    assert header["space dimension"] == 3
    assert np.allclose(header["space directions"], np.diag([1, 2, 0.5]))


def test_spacing_is_kept(volume: np.ndarray, tmp_path: Path) -> None:
    volumes.save(volume, tmp_path / "v.vox", spacing=(1, 1, 0.25))
    assert volumes.read_spacing(tmp_path / "v.hd") == (1.0, 1.0, 0.25)
    with pytest.raises(ValueError, match="three positive numbers"):
        volumes.save(volume, tmp_path / "v.vox", spacing=(1, 0, 1))


def test_a_header_of_another_size_says_both(volume: np.ndarray, tmp_path: Path) -> None:
    volumes.save(volume, tmp_path / "v.vox")
    (tmp_path / "v.hd").write_text("Size 5x3x6 unsigned byte\nSpacing 1.0x1.0x1.0\n")
    with pytest.raises(ValueError, match=r"60 bytes, but v.hd says 5 x 3 x 6 = 90.*truncated"):
        volumes.load(tmp_path / "v.vox")
    (tmp_path / "v.hd").write_text("Size 5x3x2 unsigned byte\n")
    with pytest.raises(ValueError, match=r"60 bytes.* = 30: the file is longer"):
        volumes.load(tmp_path / "v.vox")


@pytest.mark.parametrize(
    "text", ["", "Size 5x3 unsigned byte", "Size 5x3x4 float", "Size 0x3x4 unsigned byte", "\x00\xff"]
)
def test_a_header_that_cannot_be_read(volume: np.ndarray, tmp_path: Path, text: str) -> None:
    volumes.save(volume, tmp_path / "v.vox")
    (tmp_path / "v.hd").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="expected a line like"):
        volumes.load(tmp_path / "v.vox")


def test_missing_files(volume: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        volumes.load(tmp_path / "v.nrrd")
    volumes.save(volume, tmp_path / "v.vox")
    (tmp_path / "v.hd").unlink()
    with pytest.raises(FileNotFoundError, match=r"needs its .hd beside it"):
        volumes.load(tmp_path / "v.vox")


@pytest.mark.parametrize("suffix", volumes.SUFFIXES)
@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.98])
def test_truncated_files(volume: np.ndarray, tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"v{suffix}"
    volumes.save(np.tile(volume, (8, 8, 8)), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(len(whole) * kept)])
    with pytest.raises(ValueError, match=r"truncated|expected"):
        volumes.load(path)


@pytest.mark.usefixtures("unchecked")
def test_other_types_and_shapes_are_refused(volume: np.ndarray, tmp_path: Path) -> None:
    for wrong in (volume.astype(np.float32), volume[0], volume[:0], torch.from_numpy(volume)):
        with pytest.raises(ValueError, match="uint8"):
            volumes.save(wrong, tmp_path / "v.vox")
    with pytest.raises(ValueError, match=r"ends in .vox, .nrrd, .npy"):
        volumes.save(volume, tmp_path / "v.tif")
    np.save(tmp_path / "f.npy", volume.astype(np.float32))
    with pytest.raises(ValueError, match="holds float32 values with 3 axes"):
        volumes.load(tmp_path / "f.npy")
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"damaged or not a .npy"):
        volumes.load(tmp_path / "o.npy")


@pytest.mark.parametrize("suffix", volumes.SUFFIXES)
def test_nothing_half_written(volume: np.ndarray, tmp_path: Path, monkeypatch, suffix: str) -> None:
    path = tmp_path / f"v{suffix}"
    volumes.save(volume, path)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}

    def fails(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fails)
    monkeypatch.setattr(nrrd, "write", fails)
    monkeypatch.setattr(np, "save", fails)
    with pytest.raises(OSError, match="disk full"):
        volumes.save(volume[::-1].copy(), path)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_values_that_are_no_numbers_are_named() -> None:
    maps = torch.zeros(5, 2, 2)
    maps[3, 0, 1], maps[4] = float("nan"), float("inf")
    with pytest.raises(ValueError, match=r"5 of 20 activations .* in maps 3, 4"):
        volumes.to_bytes(maps)
    with pytest.raises(ValueError, match="feature maps"):
        volumes.to_bytes(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="scaling"):
        volumes.to_bytes(torch.zeros(1, 2, 2), "log")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("suffix", [".nrrd", ".NRRD", ".nhdr"])
def test_axes_of_other_programs_in_any_order(
    volume: np.ndarray, tmp_path: Path, order: tuple[int, ...], suffix: str
) -> None:
    in_file = volume.transpose(1, 0, 2)  # column, row, channel: the fastest first
    labels = ["column", "row", "channel"]
    path = tmp_path / f"v{suffix.lower()}"
    nrrd.write(str(path), in_file.transpose(order), {"labels": [labels[axis] for axis in order]}, index_order="F")
    path = path.rename(tmp_path / f"v{suffix}") if suffix != ".nhdr" else path
    assert np.array_equal(volumes.load(path), volume)


def test_an_axis_of_one_value_is_dropped(volume: np.ndarray, tmp_path: Path) -> None:
    nrrd.write(str(tmp_path / "v.nrrd"), volume.transpose(1, 0, 2)[None], {}, index_order="F")
    assert np.array_equal(volumes.load(tmp_path / "v.nrrd"), volume)


@pytest.mark.parametrize("suffix", [".VOX", ".Npy", ".NRRD"])
def test_endings_in_capitals(volume: np.ndarray, tmp_path: Path, suffix: str) -> None:
    volumes.save(volume, tmp_path / f"v{suffix}")
    assert np.array_equal(volumes.load(tmp_path / f"v{suffix}"), volume)
