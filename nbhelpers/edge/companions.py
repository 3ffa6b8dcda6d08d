"""What comes along with the package and is no code: the notebooks, the sample photos, the sweeps.

In a copy of the repository they lie beside the package; in an installed wheel, inside it (`setup.py` puts them there).
"""

import shutil
from pathlib import Path

from nbhelpers.edge import paths

PACKAGE = Path(__file__).parent.parent
COMPANIONS = ("notebooks", "sample_images", "sweeps")
"""Folders that keep their places beside each other: notebooks read `../sample_images`."""


def companion(name: str) -> Path:
    """Where a folder lies that comes along.

    Args:
        name: one of `COMPANIONS`.

    Raises:
        FileNotFoundError: it does not come with this installation, as when only the package's folder was copied.
    """
    for place in (PACKAGE.parent / name, PACKAGE / "companions" / name):
        if place.is_dir() and (place.parent / "pyproject.toml").is_file() | (place.parent.name == "companions"):
            return place
    raise FileNotFoundError(
        f"the folder {name} does not come with this installation of nbhelpers: install the wheel, or work in a copy of "
        "the repository"
    )


def copy_companions(folder: str | Path) -> list[Path]:
    """Copies everything that comes along into a folder, to work on.

    Returns:
        The copied folders.

    Raises:
        ValueError: the folder cannot be written to, or one of them is there already, perhaps with somebody's work.
    """
    target = paths.folder_to_write(folder)
    there = [target / name for name in COMPANIONS if (target / name).exists()]
    if there:
        raise ValueError(f"{there[0]} is there already, perhaps with your work in it: name another folder")
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "results")
    return [shutil.copytree(companion(name), target / name, ignore=ignored) for name in COMPANIONS]
