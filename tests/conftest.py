"""Fixtures every test can use."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import browser
import jaxtyping
import pytest
import torch
from hypothesis import settings

# a machine that does other things as well takes its time
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"

if (SHARED / "weights").is_dir():
    os.environ.setdefault("TORCH_HOME", str(SHARED / "weights"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Calls as users make them, annotations unchecked: what a function itself says of a wrong argument is seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def shared() -> Path:
    """The folder of real weights, photographs and data beside the checkout, where there is one."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder ../shared with real weights and photographs")
    return SHARED


@pytest.fixture
def ordinary_user() -> Iterator[Callable[[Path], None]]:
    """Call it with a folder to go on as a user who may read and write in it what its permissions say, as root may not.

    Root may write anywhere; for the rest of the test somebody else does what the test says.
    """
    root = os.geteuid() == 0

    def become(folder: Path) -> None:
        if root:
            for each in (folder, *folder.parents):
                if each.stat().st_mode & 0o055 == 0o055:
                    break
                each.chmod(each.stat().st_mode | 0o055)
            os.seteuid(65534)

    yield become
    if root:
        os.seteuid(0)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for the tests of a module; each opens its own pages in it, `browser.page`."""
    with browser.chromium() as window:
        yield window


@pytest.fixture
def odd_paths(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Something of every kind that looks like a picture and is no file; whoever waits at the pipe fails."""

    def waited(number: int, frame: object) -> None:
        raise AssertionError("waited for a pipe")

    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "photo.png").write_bytes(b"a file")
    (tmp_path / "here.png").symlink_to(tmp_path / "there.png")
    (tmp_path / "there.png").symlink_to(tmp_path / "here.png")
    (tmp_path / "dangling.png").symlink_to("gone.png")
    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(60)
    yield {
        "pipe": tmp_path / "pipe.png",
        "device": Path("/dev/zero"),
        "circle": tmp_path / "here.png",
        "dangling": tmp_path / "dangling.png",
        "through": tmp_path / "photo.png" / "cat.png",
        "long name": tmp_path / ("x" * 300 + ".png"),
        "long path": tmp_path / "/".join(["folder"] * 900),
        "NUL": tmp_path / "a\0b.png",
        "half a character": tmp_path / "\ud800.png",
        "nobody's": Path("~nobody-of-this-name/a.png"),
    }
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
