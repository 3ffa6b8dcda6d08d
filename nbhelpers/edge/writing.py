"""Files that appear whole or not at all: whoever reads one while it is written sees what was there before."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, path: str | os.PathLike) -> None:
    """Write a text file, UTF-8, whole or not at all; its folder is made if need be."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
