"""Files that somebody else wrote, or that were damaged: what goes wrong in making sense of them, in words."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

NONSENSE = (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, ArithmeticError, RecursionError)
"""What code raises that was promised one thing and is given another."""


@contextmanager
def understood(path: str | os.PathLike, what: str, advice: str) -> Iterator[None]:
    """Whatever is wrong with the contents of a file, said as one kind of error that names the file.

    Args:
        path: the file.
        what: it should be, with its article.
        advice: a sentence: what to do.

    Raises:
        ValueError: the block failed in making sense of the contents.
    """
    try:
        yield
    except NONSENSE as error:
        why = f"{type(error).__name__}: {error}" if isinstance(error, KeyError | AttributeError) else str(error)
        first = why.partition("\n")[0][:200]
        raise ValueError(f"{path} is not {what}, or it is damaged ({first}). {advice}") from error
