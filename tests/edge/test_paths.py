"""A path may lead anywhere: what is no file is refused in words, and nothing is waited for."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from nbhelpers import edge


@pytest.mark.parametrize(
    ("case", "error", "said"),
    [
        ("pipe", ValueError, r"pipe\.png is a pipe, expected a file; save what comes out of it first"),
        ("device", ValueError, "/dev/zero is a device, expected a file"),
        ("circle", ValueError, r"here\.png is a link that leads in a circle"),
        ("dangling", FileNotFoundError, r"dangling\.png is a link to gone\.png, which is not there"),
        ("through", FileNotFoundError, r"cat\.png; .*photo\.png is a file, not a folder"),
        ("long name", FileNotFoundError, r"no such file: .*x…x*\.png is too long for a name \([\d,]+ characters\)"),
        ("long path", FileNotFoundError, r"is too long for a name \(6,"),
        ("NUL", FileNotFoundError, r"no file can have the name '.*a\\x00b\.png'"),
        ("half a character", FileNotFoundError, r"no file can have the name '.*\\ud800\.png'"),
        ("nobody's", FileNotFoundError, "there is no such user here"),
    ],
)
def test_what_is_no_file_is_refused(odd_paths: dict[str, Path], case: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        edge.existing_file(odd_paths[case])
    assert len(str(caught.value)) < 500
    str(caught.value).encode()  # can be printed
    with pytest.raises((ValueError, FileNotFoundError)):
        edge.existing_folder(odd_paths[case])


def test_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("a.png")
        with pytest.raises(ValueError, match=r"a\.png is a socket, expected a file"):
            edge.existing_file("a.png")


def test_what_is_there_is_found(odd_paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert edge.existing_file("~/photo.png") == tmp_path / "photo.png"
    assert edge.existing_folder("~") == tmp_path
    (tmp_path / "good.png").symlink_to("photo.png")
    assert edge.kind(tmp_path / "good.png") == "file"
    assert edge.is_folder("~")
    assert not any(map(edge.is_folder, [tmp_path / "good.png", "memory://somewhere/a", *odd_paths.values()]))
    with pytest.raises(ValueError, match="is a folder, expected a file; name a file in it"):
        edge.existing_file(tmp_path)
    with pytest.raises(ValueError, match=r"photo\.png is a file, expected a folder"):
        edge.existing_folder(tmp_path / "photo.png")


def test_a_thousand_names_are_not_listed(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"{number:04}.jpg").touch()
    with pytest.raises(FileNotFoundError, match=r"0000\.jpg, .*0004\.jpg and 995 more$") as caught:
        edge.existing_file(tmp_path / "quite another name")
    assert len(str(caught.value)) < 500


def test_a_folder_to_write(odd_paths: dict[str, Path], tmp_path: Path, ordinary_user: Callable[[Path], None]) -> None:
    assert edge.folder_to_write(tmp_path / "new" / "results") == tmp_path / "new" / "results"
    assert list((tmp_path / "new" / "results").iterdir()) == []
    for case, said in [
        ("through", r"photo\.png is no folder"),
        ("pipe", "is no folder"),
        ("long name", "cannot be written to"),
        ("NUL", "cannot be written to"),
    ]:
        with pytest.raises(ValueError, match=said):
            edge.folder_to_write(odd_paths[case])
    (tmp_path / "read only").mkdir(mode=0o555)
    ordinary_user(tmp_path)
    for folder in (tmp_path / "read only", tmp_path / "read only" / "inner"):
        with pytest.raises(ValueError, match=r"cannot be written to \(Permission denied\)"):
            edge.folder_to_write(folder)


def test_a_folder_that_one_may_not_look_into(tmp_path: Path, ordinary_user: Callable[[Path], None]) -> None:
    for name, mode in (("closed", 0), ("passage", 0o111)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
        (tmp_path / name).chmod(mode)
    ordinary_user(tmp_path)
    with pytest.raises(ValueError, match=r"a\.png cannot be looked at \(Permission denied\)"):
        edge.existing_file(tmp_path / "closed" / "a.png")
    assert edge.existing_file(tmp_path / "passage" / "a.png")
    with pytest.raises(FileNotFoundError, match=r"no such file: .*b\.png$"):
        edge.existing_file(tmp_path / "passage" / "b.png")
