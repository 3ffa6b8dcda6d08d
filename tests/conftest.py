"""Fixtures every test can use."""

import os
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
