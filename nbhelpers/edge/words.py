"""Words for what may be of any length, and names for what may be misspelled.

A message that nobody can read to its end helps nobody; one that offers the name that was meant is half the cure.
"""

import difflib
from collections.abc import Iterable

LONGEST = 200
"""Characters of a name or value that a message shows whole: most paths."""


def few(names: Iterable[object], most: int = 5, separator: str = ", ") -> str:
    """The first names, and how many more there are: `a, b, c, d, e and 995 more`.

    Args:
        names: what to list, in order; what is no text is written as `str` does.
        most: how many are named.
        separator: stands between them; a semicolon between what has commas in it.
    """
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return separator.join(short(name) for name in names[:most]) + more


def close(name: object, known: Iterable[str], most: int = 1) -> list[str]:
    """The known names that look like one that is not known, whatever their case, the likeliest first.

    Args:
        name: what was given.
        known: what there is.
        most: so many names and no more; fewer, or none, where they look like another.
    """
    by_lower = {other.lower(): other for other in known}
    return [by_lower[other] for other in difflib.get_close_matches(str(name).lower(), by_lower, n=most, cutoff=0.5)]


def short(name: object, most: int = LONGEST) -> str:
    """A name or value as text that fits a message: what is longer keeps its beginning and its end."""
    text = str(name)
    if len(text) <= most:
        return text
    end = most // 3
    return f"{text[: most - 1 - end]}…{text[-end:]}"
