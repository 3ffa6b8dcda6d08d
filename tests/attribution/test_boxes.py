"""Boxes that go with their photos, the pointing game against plain loops, and files that do not match."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from nbhelpers import images, models
from nbhelpers.attribution import boxes
from nbhelpers.attribution.boxes import Boxed
from nbhelpers.images import Photos

SAMPLES = Path(__file__).parents[2] / "sample_images"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos, wide and high, with a white rectangle each, and its box."""
    entries = {}
    for name, size, box in [("high.png", (40, 60), (4, 20, 13, 39)), ("wide.png", (60, 40), (30, 0, 49, 9))]:
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        pixels[box[1] : box[3] + 1, box[0] : box[2] + 1] = 255
        Image.fromarray(pixels).save(tmp_path / name)
        entries[name] = {"size": size, "objects": [{"label": "white", "box": box}]}
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    return tmp_path


def change(folder: Path, **entries) -> None:
    known = json.loads((folder / "boxes.json").read_text()) | entries
    (folder / "boxes.json").write_text(json.dumps({name: entry for name, entry in known.items() if entry}))


def boxed_in(size: int, *corners: list[list[float]]) -> Boxed:
    photos = Photos(torch.zeros(len(corners), 3, size, size), [str(number) for number in range(len(corners))])
    shapes = [torch.tensor(each, dtype=torch.float64) for each in corners]
    return Boxed(photos, shapes, [["thing"]] * len(corners), {})


@pytest.mark.parametrize(("fit", "sizes"), [("crop", (40, 20, 80)), ("whole", (40, 20, 80)), ("pad", (60, 30, 120))])
def test_boxes_go_with_the_photo_and_the_size(folder: Path, fit: str, sizes: tuple[int, ...]) -> None:
    for size in sizes:
        found = boxes.read(folder, size, fit=fit)
        assert found.photos.names == ["high.png", "wide.png"]
        for picture, (box,) in zip(found.photos.pictures, found.boxes, strict=True):
            left, top, right, bottom = box.round().int().tolist()
            assert box.tolist() == pytest.approx([left, top, right, bottom])
            white = picture.mean(0) > 0.5
            rows, columns = white.nonzero().T
            assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == [left, top, right, bottom]


def test_every_sample_photo_has_its_boxes() -> None:
    found = boxes.read(SAMPLES, 64)
    assert len(found) == 9
    assert found.left_out == dict.fromkeys(["bricks.jpg", "galaxies.jpg", "gravel.jpg"], "no object is marked")
    assert found.labels[found.photos.names.index("flower.jpg")] == ["dahlia", "dahlia"]
    assert not found.photos.skipped
    assert torch.equal(found.photos.pictures[0], images.read(SAMPLES / "astronaut.jpg", 64))


def test_an_object_outside_the_square_is_left_out(folder: Path) -> None:
    change(folder, **{"wide.png": {"size": [60, 40], "objects": [{"label": "far", "box": [0, 0, 9, 39]}]}})
    found = boxes.read(folder, 20)
    assert found.photos.names == ["high.png"]
    assert found.left_out == {"wide.png": "the object is outside the central square"}
    whole = boxes.read(folder, 20, fit="whole")
    assert [each.tolist() for each in whole.boxes] == [[[2, 10, 7, 20]], [[0, 0, 5, 20]]]
    assert boxes.chance(whole, 0).tolist() == pytest.approx([50 / 600, 100 / 600])
    ends = [torch.zeros(6, 4), torch.zeros(4, 6)]
    ends[0][3, 0] = ends[1][2, 0] = 1
    assert boxes.hits(ends, whole, 0).tolist() == [True, True]
    assert boxes.hits([each.flip(1) for each in ends], whole, 0).tolist() == [False, False]


def test_one_photo_or_another_file_of_boxes(folder: Path) -> None:
    assert boxes.read(folder / "wide.png", 20).photos.names == ["wide.png"]
    (folder / "boxes.json").rename(folder / "marks.json")
    assert len(boxes.read(folder, 20, folder / "marks.json")) == 2


def test_an_unreadable_photo_is_skipped_and_named(folder: Path) -> None:
    (folder / "wide.png").write_bytes(b"no picture")
    found = boxes.read(folder, 20)
    assert found.photos.names == ["high.png"]
    assert list(found.photos.skipped) == ["wide.png"]


def loop(values: Tensor, corners: list[list[float]], size: int, tolerance: float) -> bool:
    """The pointing game by looking at every cell and every box."""
    best, place = -np.inf, None
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            if values[row, column] > best:
                best, place = values[row, column], (column, row)
    x, y = ((each + 0.5) * size / count for each, count in zip(place, values.shape[::-1], strict=True))
    for left, top, right, bottom in corners:
        across, down = max(left - x, 0, x - right), max(top - y, 0, y - bottom)
        if (across**2 + down**2) ** 0.5 <= tolerance * size:
            return True
    return False


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([0, 0.05, 15 / 224, 0.3]))
def test_hits_against_a_plain_loop(seed: int, count: int, tolerance: float) -> None:
    source = torch.Generator().manual_seed(seed)
    maps = torch.randn(4, 3, 5, generator=source)
    corners = [(torch.rand(count, 4, generator=source) * 16).sort(1).values[:, [0, 1, 2, 3]].tolist() for _ in maps]
    corners = [[[a, b, c, d] for a, b, c, d in each] for each in corners]
    found = boxes.hits(maps, boxed_in(16, *corners), tolerance)
    assert found.tolist() == [loop(one, each, 16, tolerance) for one, each in zip(maps, corners, strict=True)]


def test_chance_is_the_share_of_pixels_that_hit() -> None:
    boxed = boxed_in(8, [[0, 0, 4, 4]], [[0, 0, 8, 8]], [[1, 2, 3, 8], [6, 0, 8, 1]])
    assert boxes.chance(boxed, 0).tolist() == pytest.approx([16 / 64, 1, 14 / 64])
    for place in range(64):  # every pixel once as the only bright one
        maps = torch.zeros(64).index_fill(0, torch.tensor(place), 1).view(1, 8, 8).expand(3, -1, -1)
        boxed.total = getattr(boxed, "total", 0) + boxes.hits(maps, boxed, 0.2).double()
    assert torch.allclose(boxes.chance(boxed, 0.2).double(), boxed.total / 64)


def test_a_map_that_is_the_same_everywhere_misses() -> None:
    boxed = boxed_in(8, [[0, 0, 8, 8]], [[0, 0, 8, 8]])
    maps = torch.zeros(2, 4, 4)
    maps[1, 2, 2] = 1
    assert boxes.hits(maps, boxed).tolist() == [False, True]
    with pytest.raises(ValueError, match="3 maps for 2 photos"):
        boxes.hits(torch.zeros(3, 4, 4), boxed)


def test_a_file_that_does_not_match_names_the_files(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"marks\.json"):
        boxes.read(folder, 20, folder / "marks.json")
    shutil.copy(folder / "wide.png", folder / "wider.png")
    with pytest.raises(ValueError, match=r"photos without an entry: wider.png\. Nearest: wide.png"):
        boxes.read(folder, 20)
    (folder / "wider.png").unlink()
    change(folder, **{"gone.png": {"size": [4, 4], "objects": []}})
    with pytest.raises(ValueError, match=r"does not match the photos. entries without a photo: gone.png"):
        boxes.read(folder, 20)
    change(folder, **{"gone.png": None, "wide.png": {"size": [30, 20], "objects": []}})
    with pytest.raises(ValueError, match=r"another size than .* marked on: wide.png \(60 x 40, marked on 30 x 20\)"):
        boxes.read(folder, 20)
    change(
        folder,
        **{name: {"size": size, "objects": []} for name, size in [("high.png", [40, 60]), ("wide.png", [60, 40])]},
    )
    with pytest.raises(ValueError, match="marks no object in the central square of any photo"):
        boxes.read(folder, 20)


@pytest.mark.parametrize(
    "entry",
    [
        {"size": [60, 40], "objects": [{"label": "a", "box": [0, 0, 60, 9]}]},  # beyond the photo
        {"size": [60, 40], "objects": [{"label": "a", "box": [9, 0, 5, 9]}]},  # right before left
        {"size": [60, 40], "objects": [{"label": "a", "box": [0, 0, 5]}]},
        {"size": [60, 40], "objects": [{"box": [0, 0, 5, 5]}]},
        {"size": 60, "objects": []},
        {"objects": []},
        [0, 0, 5, 5],
    ],
)
def test_a_file_that_is_no_file_of_boxes(folder: Path, entry) -> None:
    change(folder, **{"wide.png": entry})
    with pytest.raises(ValueError, match=r"is no file of boxes: wide.png. For each photo it needs"):
        boxes.read(folder, 20)
    (folder / "boxes.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="is no file of boxes: all of it"):
        boxes.read(folder, 20)
    (folder / "boxes.json").write_text("{")
    with pytest.raises(ValueError, match="is not a JSON file"):
        boxes.read(folder, 20)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Packed shards of six pictures of three classes, with a box each."""
    names = ["goldfish", "pizza", "bee"]
    classes = [{"index": index, "wnid": f"n{index}", "name": name} for index, name in enumerate(names)]
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    files = []
    for shade in range(6):
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), (shade * 40,) * 3).save(buffer, "PNG")
        files.append(np.frombuffer(buffer.getvalue(), np.uint8))
    offsets = np.cumsum([0, *map(len, files)])
    np.savez(tmp_path / "val.npz", bytes=np.concatenate(files), offsets=offsets, labels=np.array([0, 0, 1, 1, 2, 2]))
    np.save(tmp_path / "val-boxes.npy", np.array([[n, 2 * n, 30 + n, 63] for n in range(6)], np.uint8))
    return tmp_path


def test_a_data_folder_with_boxes(data: Path) -> None:
    network = models.load("minivgg_robust", device="cpu")
    boxed, classes = boxes.from_data(data, network)
    assert [network.classes[number] for number in classes] == ["goldfish"] * 2 + ["pizza"] * 2 + ["bee"] * 2
    assert boxed.boxes[3].tolist() == [[3, 6, 34, 64]]
    assert boxed.photos.pictures[3].unique().tolist() == pytest.approx([120 / 255])
    few, classes = boxes.from_data(data, network, 2)
    assert few.photos.names == ["val 0", "val 5"]
    assert classes == [network.classes.index("goldfish"), network.classes.index("bee")]


def test_a_data_folder_whose_boxes_do_not_match(data: Path) -> None:
    network = models.load("minivgg_robust", device="cpu")
    np.save(data / "val-boxes.npy", np.zeros((5, 4), np.uint8))
    with pytest.raises(ValueError, match=r"has boxes \(5, 4\) for 6 pictures \(0 unreadable\)"):
        boxes.from_data(data, network)
    (data / "val-boxes.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"val-boxes\.npy is missing"):
        boxes.from_data(data, network)
