"""Every tool starts: what it takes from the package is there."""

import importlib
from pathlib import Path

import pytest

import tools

TOOLS = sorted(path.stem for path in Path(tools.__path__[0]).glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_can_be_imported(name: str) -> None:
    importlib.import_module(f"tools.{name}")
