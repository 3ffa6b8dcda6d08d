"""Texts that stand for many numbers: `0..63`, `0..511 step 16`."""

import math
import re
from decimal import Decimal

MOST = 1_000_000
_NUMBER = r"-?\d+(?:\.\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})(?:\s+step\s+({_NUMBER}))?\s*")


def in_range(text: object) -> list[int | float] | None:
    """The numbers from the first to the last, both included, that a text stands for; None if it is no range.

    Raises:
        ValueError: the step leads away from the last number, or there are more than a million.
    """
    match = _RANGE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    # in decimal numbers, so that 0..1 step 0.1 holds 0.3 and ends with 1
    low, high, by = Decimal(match[1]), Decimal(match[2]), Decimal(match[3] or "1")
    count = math.floor((high - low) / by) + 1 if by else 0
    if count < 1:
        raise ValueError(f"the range {text!r} leads nowhere: its step goes from the first number to the last")
    if count > MOST:
        raise ValueError(f"the range {text!r} has {count:,} values; a million is the most")
    whole = all(number == number.to_integral_value() for number in (low, by))
    return [int(low + by * index) if whole else float(low + by * index) for index in range(count)]
