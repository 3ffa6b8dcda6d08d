"""Every notebook runs with a module of the reader's own, of two convolutions, in the place of a network's name."""

from pathlib import Path

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from nbhelpers import notebooks
from nbhelpers.notebooks.execution import ThisPython

FOLDER = Path(__file__).parents[2] / "notebooks"
OWN = """import torch
from torch import nn

torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(),
    nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
).eval()
"""
CHANGES = {
    "00": {"layer": "2", "channels": [1, 2]},
    "01": {"layer": "2", "channels": [1, 2], "rounds": 1, "steps": 2},
    "02": {"layer": "2", "channel": 3, "size": 48},
    "03": {"classes": [1, 2], "rounds": 1, "steps": 2, "count": 3, "photo_size": 48, "stages": 2, "portions": 3},
    "04": {"layer": "2", "size": 48, "steps": 3},
    "05": {"layer": "2", "photo_size": 48},
    "06": {"size": 48},
    "07": {"layer": "3", "penalty_layer": "2", "size": 48, "steps": 10, "crops": 1, "clusters": 3},
    "08": {"layer": "2", "size": 64},
    "09": {"layer": "2", "target": 3, "size": 48, "views": 2, "draws": 2, "removed": [0, 1, 2], "top": 4},
    "10": {"size": 32, "views": 1, "head_epochs": 1, "upper_epochs": 1},
    "11": {"size": 32, "epochs": 1, "attack_steps": 2},
    "12": {"layer": "2", "photo_size": 48, "target": 1},
    "13": {"layer": "2", "channel": 3},
    "14": {"layer": "3", "drawn": "2", "size": 32, "cuts": 4, "parts": 4, "shown": 4, "steps": 2},
    "15": {"layer": "3", "drawn": "2", "size": 32, "cuts": 4, "cells": 4, "steps": 2},
}
"""By the notebook's number: layers, channels and classes of this network, and small sizes."""


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Of each notebook, the cells that failed; all run in one kernel, one after the other."""
    cells = [new_code_cell(f"import os\nos.environ['NBHELPERS_RESULTS'] = {str(tmp_path_factory.mktemp('own'))!r}")]
    for path in sorted(FOLDER.glob("*.ipynb")):
        number = path.name[:2]
        cells.append(new_code_cell("%reset -f"))
        for cell in notebooks.read(path).cells:
            tags = cell.metadata.get("tags", [])
            if cell.cell_type != "code" or {"exercise", "solution"} & set(tags):
                continue
            cells.append(new_code_cell(cell.source, metadata={"notebook": number}))
            if "parameters" in tags:
                lines = [f"{name} = {value!r}" for name, value in CHANGES[number].items()]
                cells.append(new_code_cell(OWN + "\n".join(lines)))
    together = new_notebook(cells=cells)
    options = {"timeout": 120, "allow_errors": True, "kernel_manager_class": ThisPython}
    NotebookClient(together, resources={"metadata": {"path": str(FOLDER)}}, **options).execute()
    found: dict[str, list[str]] = {}
    for cell in together.cells:
        errors = [f"{each.ename}: {each.evalue}" for each in cell.outputs if each.output_type == "error"]
        if errors:
            found.setdefault(cell.metadata.get("notebook", ""), []).append(f"{errors} in\n{cell.source}")
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_module_of_your_own_works_wherever_a_name_does(path: Path, failures: dict[str, list[str]]) -> None:
    assert "\n\n".join(failures.get(path.name[:2], [])) == ""
