"""The layers of a network."""

import difflib
from collections.abc import Sequence


def nearest(name: str, known: Sequence[str]) -> str:
    """A sentence that offers the names closest to one that is not known."""
    by_lower = {other.lower(): other for other in known}
    close = [by_lower[other] for other in difflib.get_close_matches(name.lower(), by_lower, n=4, cutoff=0.5)]
    offered = close or list(known)[:4]
    return f"{'Nearest' if close else 'There are'}: {', '.join(offered)}" + ("" if close else ", ...")
