"""Messages stay short, however much they could list."""

from hypothesis import given
from hypothesis import strategies as st

from nbhelpers import edge


def test_a_few_names_and_how_many_more() -> None:
    assert edge.few([]) == ""
    assert edge.few("abcde") == "a, b, c, d, e"
    assert edge.few(range(6)) == "0, 1, 2, 3, 4 and 1 more"
    assert edge.few((f"{number}.jpg" for number in range(1000)), most=2) == "0.jpg, 1.jpg and 998 more"
    assert edge.few(range(12_345)).endswith("and 12,340 more")


def test_the_names_that_were_probably_meant() -> None:
    known = ["channels", "channel_order", "Layer", "size"]
    assert edge.close("chanels", known) == ["channels"]
    assert edge.close("chanels", known, most=4) == ["channels", "channel_order"]
    assert edge.close("LAYR", known) == ["Layer"]
    assert edge.close("q", known) == edge.close("size", []) == []
    assert edge.close(3, known) == []


@given(st.text(max_size=500), st.integers(10, 300))
def test_a_short_text_is_the_text_or_its_two_ends(text: str, most: int) -> None:
    shown = edge.short(text, most)
    if len(text) <= most:
        assert shown == text
        return
    beginning, _, end = shown.rpartition("…") if "…" not in text else (text[: most - 1 - most // 3], "", text[-3:])
    assert len(shown) == most
    assert text.startswith(beginning)
    assert text.endswith(end)
    assert end
