"""Files appear whole or not at all, whatever happens on the way."""

import os
import stat
from pathlib import Path

import pytest

from nbhelpers import edge


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.png"
    with edge.replacing(path) as temporary:
        temporary.write_bytes(b"first half")
        assert not path.exists()
        assert temporary.suffix == ".png"  # writers go by it
        assert temporary.parent == path.parent
    assert path.read_bytes() == b"first half"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    edge.write_text("before", path)

    def fail() -> None:
        with edge.replacing(path) as temporary:
            temporary.write_text("half a te")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        edge.write_text("half a character: \ud800", tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


def test_text_is_utf_8_and_a_name_may_be_long(tmp_path: Path) -> None:
    path = tmp_path / ("🌊" * 60 + ".html")  # 245 of the 255 bytes that a name may have
    edge.write_text("größer\n", path)
    assert path.read_bytes() == "größer\n".encode()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_files_have_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    edge.write_text("", tmp_path / "ours")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")]
    assert modes[0] == modes[1]
