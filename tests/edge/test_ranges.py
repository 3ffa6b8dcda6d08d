"""Ranges as text, against Python's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbhelpers import edge


@given(first=st.integers(-500, 500), count=st.integers(1, 60), step=st.integers(-20, 20).filter(bool))
def test_a_range_holds_what_pythons_does(first: int, count: int, step: int) -> None:
    last = first + step * (count - 1)
    assert edge.in_range(f" {first} ..{last} step {step}") == list(range(first, last + (1 if step > 0 else -1), step))
    if step == 1:
        assert edge.in_range(f"{first}..{last}") == list(range(first, last + 1))


@pytest.mark.parametrize("text", ["7", "0...3", "a..b", "0..", "block4.conv1", 5, None, ["0..3"]])
def test_what_is_no_range_is_none(text: object, unchecked: None) -> None:
    assert edge.in_range(text) is None


@pytest.mark.parametrize(
    ("text", "said"), [("3..1", "leads nowhere"), ("0..4 step 0", "leads nowhere"), ("0..1000000", "1,000,001")]
)
def test_a_range_without_end_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        edge.in_range(text)
