"""One walk over folders: links, what systems put there, names of any bytes; addresses of any characters."""

import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbhelpers import images
from nbhelpers.training import folders

CAT = Path(__file__).parents[2] / "sample_images" / "cat.jpg"


def put(folder: Path, *names: str, count: int = 1) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            shutil.copy(CAT, folder / name / f"{number}.jpg")
    return folder


def test_linked_folders_are_walked_and_circles_end(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "a")
    root = put(tmp_path / "photos", "own")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "own" / "again").symlink_to(root)
    (root / "elsewhere.jpg").symlink_to(CAT)
    (root / "broken.jpg").symlink_to(root / "nothing")
    assert list(images.files_in(root)) == ["elsewhere.jpg", "linked/a/0.jpg", "own/0.jpg"]


def test_what_systems_put_beside_photos_is_left_out_and_named(tmp_path: Path) -> None:
    put(tmp_path, "own", "@eaDir/0.jpg", "__MACOSX")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"3 files are left out that a system put there, such as @eaDir/0.jpg/0.jpg"):
        assert list(images.files_in(tmp_path)) == ["own/0.jpg"]


def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    shutil.copy(os.fsencode(CAT), name)
    found = images.files_in(tmp_path)
    assert list(found) == ["caf\N{REPLACEMENT CHARACTER}.jpg"]
    photos = images.read_folder(tmp_path, 16)
    assert photos.names == list(found)
    "".join(photos.names).encode()  # whatever is made of it can be written


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(403 if "403" in self.path else 200)
        body = b"" if "403" in self.path or self.command == "HEAD" else CAT.read_bytes()
        self.send_header("Content-Length", str(len(CAT.read_bytes())))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *said: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="fsspec reads addresses of the web with aiohttp")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", ["x.jpg?raw=true", "a*b.jpg", "x[1].jpg"])
def test_addresses_of_any_characters(address: str, name: str) -> None:
    assert images.read(f"{address}/{name}").shape == images.read(CAT).shape


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_server_that_refuses(address: str) -> None:
    with pytest.raises(ValueError, match=r"403.jpg cannot be read: .*(403|Forbidden)"):
        images.read(f"{address}/403.jpg")


@pytest.mark.parametrize(
    "names",
    [
        ("Train/cats", "Train/dogs", "Val/cats", "Val/dogs"),
        ("TRAINING/cats", "TRAINING/dogs", "test/cats", "test/dogs"),
        ("cats/train", "cats/test", "dogs/train", "dogs/test"),
        ("cats/Train", "cats/Valid", "dogs/train", "dogs/val"),
    ],
)
def test_splits_in_any_case_and_within_the_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    read = folders.read(put(tmp_path, *names, count=3), 32)
    assert read.counts() == {"cats": (3, 3), "dogs": (3, 3)}
    assert read.notes == []


def test_a_class_to_be_judged_alone_and_loose_pictures_are_said(tmp_path: Path) -> None:
    put(tmp_path, "train", "train/a", "train/b", "val/a", "val/b", "val/c", count=2)
    read = folders.read(tmp_path, 32)
    assert read.counts() == {"a": (2, 2), "b": (2, 2)}
    loose, alone = read.notes
    assert loose == "left out, because they lie in train and in no class: 0.jpg, 1.jpg"
    assert alone == "left out, because nothing is there to train on: c (in val alone)"


def test_names_of_classes_with_a_colon(tmp_path: Path) -> None:
    put(tmp_path, "a: b", "c", "d", count=2)
    assert list(folders.read(tmp_path, 32).counts()) == ["a: b", "c", "d"]
    assert list(folders.read(tmp_path, 32, ["a: b", "both: c, d"]).counts()) == ["a: b", "both"]
