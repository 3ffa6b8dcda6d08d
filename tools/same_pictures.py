"""Are the pictures in two folders the same, pixel by pixel? For changes that must not change a picture.

    nbhelpers run notebooks --results BEFORE        # at the one commit
    nbhelpers run notebooks --results AFTER         # at the other, on the same machine
    python tools/same_pictures.py BEFORE AFTER      # a row per notebook

A PNG's partner is the one of the same name; the recipes inside must be equal, too. The exit code is 1 where anything
differs or has no partner.
"""

import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass
class Row:
    """What was found among the pictures of one folder (a notebook's)."""

    pictures: int = 0
    with_recipe: int = 0
    same: int = 0
    largest: int = 0
    different: list[str] = field(default_factory=list)


def compare(before: Path, after: Path) -> dict[str, Row]:
    """Every PNG below the two folders, by the first folder of its path.

    Raises:
        FileNotFoundError: one of the folders is not there, or both hold no PNG.
    """
    for folder in (before, after):
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
    names = {path.relative_to(folder) for folder in (before, after) for path in folder.rglob("*.png")}
    if not names:
        raise FileNotFoundError(f"there is no PNG in {before} or {after}")
    rows: dict[str, Row] = defaultdict(Row)
    for name in sorted(names):
        row = rows[name.parts[0] if len(name.parts) > 1 else "."]
        row.pictures += 1
        if not ((before / name).is_file() and (after / name).is_file()):
            row.different.append(f"{name} is only in {before if (before / name).is_file() else after}")
            continue
        (pixels, recipe), (others, other) = _read(before / name), _read(after / name)
        row.with_recipe += bool(recipe)
        apart = -1 if pixels.shape != others.shape else int(np.abs(pixels - others).max(initial=0))
        row.largest = max(row.largest, apart)
        if apart == 0 and recipe == other:
            row.same += 1
        else:
            row.different.append(f"{name}: {_said(apart, recipe == other)}")
    return dict(rows)


def table(rows: dict[str, Row]) -> str:
    """The rows as Markdown, and below them what differs."""
    lines = ["| notebook | pictures | with a recipe | same | largest difference (of 255) |", "|---|---|---|---|---|"]
    for name, row in rows.items():
        lines.append(f"| {name} | {row.pictures} | {row.with_recipe} | {row.same} | {row.largest} |")
    return "\n".join([*lines, *(f"  {line}" for row in rows.values() for line in row.different)])


def _read(path: Path) -> tuple[np.ndarray, str]:
    with Image.open(path) as image:
        return np.asarray(image).astype(int), image.info.get("nbhelpers", "")


def _said(apart: int, same_recipe: bool) -> str:
    pixels = {-1: "another size", 0: "the same pixels"}.get(apart, f"pixels up to {apart} of 255 apart")
    return pixels if same_recipe else f"{pixels}, another recipe"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    found = compare(Path(sys.argv[1]), Path(sys.argv[2]))
    print(table(found))
    sys.exit(any(row.different for row in found.values()))
