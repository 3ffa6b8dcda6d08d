"""Fixtures every test can use."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"

if (SHARED / "weights").is_dir():
    os.environ.setdefault("TORCH_HOME", str(SHARED / "weights"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


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
            for each in (folder, folder.parent, folder.parent.parent):
                each.chmod(each.stat().st_mode | 0o055)
            os.seteuid(65534)

    yield become
    if root:
        os.seteuid(0)
