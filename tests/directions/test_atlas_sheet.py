"""The map as one picture: regions by hand, captions where they can be read, names of regions where they cannot."""

import numpy as np
import pytest
import torch
from PIL import Image

from nbhelpers.directions import atlas_sheet
from nbhelpers.directions.atlas_sheet import Square


def squares(*rows: str) -> list[Square]:
    """One letter a square, a dot for an empty one."""
    return [
        Square(column, row, torch.full((3, 8, 8), 0.5), 1.0, name)
        for row, names in enumerate(rows)
        for column, name in enumerate(names)
        if name != "."
    ]


def inked(sheet: Image.Image) -> np.ndarray:
    """Where letters of a region's name are."""
    return (np.asarray(sheet).astype(int) < 60).all(2)


def test_regions_are_neighbours_of_one_name() -> None:
    found = atlas_sheet.regions(squares("aab", "a.b", "b.a", "bba"))
    assert [(name, len(region)) for name, region in found] == [("a", 3), ("b", 3), ("b", 2), ("a", 2)]
    first = {(square.column, square.row) for square in found[0][1]}
    assert first == {(0, 0), (1, 0), (0, 1)}


@pytest.mark.parametrize(("cells", "width", "names"), [(4, 800, False), (8, 400, True), (32, 4000, True)])
def test_what_is_too_small_for_captions_has_names_of_regions(cells: int, width: int, names: bool) -> None:
    sheet = atlas_sheet.laid_out(squares("MM..", "MM.."), cells, width)
    assert sheet.size == (width, width)
    assert inked(sheet).any() == names


def test_a_name_can_be_read_from_afar_and_stays_on_the_paper() -> None:
    name = "suspension bridge"
    some = [Square(0, row, torch.full((3, 8, 8), 0.5), 1.0, name) for row in range(3)]
    letters = inked(atlas_sheet.laid_out(some, 32, 4000))
    rows, columns = np.nonzero(letters)
    assert rows.max() - rows.min() > 4000 / 150  # a letter's height on the poster
    assert columns.min() > 0
    alone = inked(atlas_sheet.laid_out(some[:2], 32, 4000))
    assert not alone.any()  # two squares are no region


def test_names_do_not_cover_each_other() -> None:
    """A row each, too high for its name to fit between those of its neighbours: every second one is left out."""
    rows = [
        [Square(column, row, torch.full((3, 8, 8), 0.5), 1.0, f"region {row}") for column in range(20)]
        for row in range(20)
    ]

    def letters(some: list[list[Square]]) -> np.ndarray:
        return inked(atlas_sheet.laid_out([square for row in some for square in row], 20, 160))

    alone = [letters([row]) for row in rows]
    assert all(each.any() for each in alone)
    assert (sum(each.any(1).astype(int) for each in alone) > 1).any()  # one upon the other, all would overlap
    together = letters(rows)
    shown = [number for number, each in enumerate(alone) if (together & each).sum() == each.sum()]
    assert 5 <= len(shown) < 20
    assert together.sum() == sum(alone[number].sum() for number in shown)


def test_two_maps_have_their_titles() -> None:
    maps = [Image.new("RGB", (300, 300), colour) for colour in ("red", "blue")]
    sheet = np.asarray(atlas_sheet.side_by_side(maps, ["left", "right"]))
    top = sheet.shape[0] - 300
    assert sheet.shape[1] == 600
    assert (sheet[top:, :300] == (255, 0, 0)).all()
    assert (sheet[top:, 300:] == (0, 0, 255)).all()
    assert (sheet[:top, :300] < 80).all(2).any()
    assert (sheet[:top, 300:] < 80).all(2).any()
