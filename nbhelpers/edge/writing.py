"""Files that appear whole or not at all: whoever reads one while it is written sees what was there before."""

import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file under a temporary name beside it, moved into place when all went well.

    Args:
        path: the file to write; its folder is made if need be.

    Yields:
        The temporary path. After an exception or an interrupt it is gone, and what `path` held before is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays, for writers that go by it; a character may take four of the 255 bytes of a name.
    temporary = path.with_name(f".{path.stem[:40]}.{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        yield temporary
        synced(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def synced(path: Path) -> None:
    """Waits until a file is on the disk and not only in memory: then it is whole after a power cut, too."""
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def to_json(value: Any, **options: Any) -> str:
    """Strict JSON: what is infinite or not a number, for which it has no word, becomes null."""
    return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def write_text(text: str, path: str | os.PathLike) -> None:
    """Write a text file, UTF-8, whole or not at all; its folder is made if need be."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
