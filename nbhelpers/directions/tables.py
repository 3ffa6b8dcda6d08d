"""Tables that may be larger than memory should be: a file on the disk, used like any other tensor.

    growing = Growing(rows, columns, folder / "places.npy")
    for some in portions_from(growing.done):     # a run that was stopped goes on after the rows that are there
        growing.add(some)
    growing.table                                # (rows, columns), float32

What is read comes into memory as it is asked for, and the system drops it again when memory is wanted elsewhere. Who
works on a table goes through it in `portions`, so that what is made of it is no larger than one of them.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from nbhelpers import edge

IN_MEMORY = 2**30
"""Bytes up to which a table that is not kept lies in memory; a larger one in a file that is gone with it."""
PORTION = 2**26  # bytes of a table that are worked on at once
PAUSE = 2.0  # seconds between two times that what has been written is waited for


def empty(rows: int, columns: int) -> Float[Tensor, "rows columns"]:
    """Room for a table: in memory, or, above `IN_MEMORY` bytes, in a file without a name in the temporary folder.

    Raises:
        ValueError: there is no room on the disk.
    """
    size = 4 * rows * columns
    if size <= IN_MEMORY:
        return torch.empty(rows, columns)
    folder = Path(tempfile.gettempdir())
    _check_room(folder, size)
    with tempfile.TemporaryFile(dir=folder) as file:
        return torch.from_numpy(np.memmap(file, np.float32, "w+", shape=(rows, columns)))


def empty_by_columns(rows: int, columns: int) -> Float[Tensor, "rows columns"]:
    """The same for a table that is read column by column: in a file, each of them lies in one place."""
    fits = 4 * rows * columns <= IN_MEMORY
    return torch.empty(rows, columns) if fits else empty(columns, rows).T


def chosen(table: Float[Tensor, "rows columns"], index: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen columns"]:
    """Some rows of a table, as a table of their own."""
    found = empty(len(index), table.shape[1])
    for place, some in zip(portions(found), index.split(portion(table)), strict=True):
        place.copy_(table[some])
    return found


def portion(table: Float[Tensor, "rows columns"]) -> int:
    """Rows of a table that are worked on at once."""
    return max(1, PORTION // (4 * table.shape[1]))


def portions(table: Float[Tensor, "rows columns"]) -> Iterator[Float[Tensor, "some columns"]]:
    """A table in portions, which are views of it."""
    yield from table.split(portion(table))


def mean(table: Float[Tensor, "rows columns"], scale: Float[Tensor, ""]) -> Float[Tensor, " columns"]:
    """Mean row of a table that is divided by a number."""
    return sum((some / scale).sum(0) for some in portions(table)) / len(table)


class Growing:
    """A table that is written from its first row to its last; in a file, one that was stopped goes on.

    Beside the file `NAME.npy`, which `numpy.load` reads, `NAME.json` says how many rows are there for certain.

    Args:
        rows, columns: of the whole table.
        path: of the file; None: it is not kept.

    Attributes:
        table: `(rows, columns)` float32, of which the first `done` rows are written.
        done: rows that are there.

    Raises:
        ValueError: there is no room on the disk.
    """

    def __init__(self, rows: int, columns: int, path: Path | None = None) -> None:
        self.done, self._path, self._last = 0, path, time.monotonic()
        if path is None:
            self.table = empty(rows, columns)
            return
        if (begun := _begun(path, (rows, columns))) is not None:
            self._file, self.done = begun
        else:
            _rows(path).unlink(missing_ok=True)
            _check_room(path.parent, 4 * rows * columns)
            with edge.replacing(path) as temporary:
                np.lib.format.open_memmap(temporary, "w+", np.float32, (rows, columns))
            self._file = np.lib.format.open_memmap(path, "r+")
        self.table = torch.from_numpy(self._file)

    def add(self, some: Float[Tensor, "some columns"]) -> None:
        """Write the next rows."""
        self.table[self.done : self.done + len(some)] = some
        self.done += len(some)
        if self._path and (self.done == len(self.table) or time.monotonic() - self._last > PAUSE):
            self._file.flush()  # the rows first, then the word that they are there
            edge.write_text(json.dumps({"rows": self.done}), _rows(self._path))
            self._last = time.monotonic()


def _rows(path: Path) -> Path:
    return path.with_suffix(".json")


def _begun(path: Path, shape: tuple[int, int]) -> tuple[np.memmap, int] | None:
    """A table that was begun, and its rows that are there; None where there is none, or not a whole one."""
    try:
        np.load(path, mmap_mode="r")  # refuses a file that is too short, which would be lengthened by the next line
        file = np.lib.format.open_memmap(path, "r+")
        rows = json.loads(_rows(path).read_text())["rows"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    known = isinstance(rows, int) and file.shape == shape and file.dtype == np.float32
    return (file, min(rows, len(file))) if known else None


def _check_room(folder: Path, size: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ValueError(
            f"a table of {size / 2**30:.1f} GB does not fit into {folder}, where {free / 2**30:.1f} GB are free: take "
            "fewer pictures, places or parts, or a folder on a larger disk (`keep`, or TMPDIR for what is not kept)"
        )
