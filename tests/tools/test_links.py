"""Every link between documents leads somewhere, and a link that does not is found."""

from pathlib import Path

import pytest

from tools import links


def test_every_link_of_the_documents_leads_somewhere() -> None:
    paths = links.documents()
    assert len(paths) > 20
    assert sum(len(links.targets(links.markdown(path))) for path in paths) > 100
    assert links.problems(paths) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](b.md)", ""),
        ("[a](b.md#the-second-one)", ""),
        ("[a](#here)\n\n# Here", ""),
        ("![a](picture%20one.png) [b](https://example.com/none)", ""),
        ("`[a](none.md)` and\n\n    [a](none.md)\n\n```\n[a](none.md)\n```\n", ""),
        ("[a](none.md)", "none.md leads nowhere"),
        ("[![a](none.png)](b.md)", "none.png leads nowhere"),
        ("[a](b.md#third)", "there is no such heading in b.md"),
        ("<a href='none.html'>x</a>", "none.html leads nowhere"),
        ("[a](../outside.md)", "leads nowhere"),
    ],
)
def test_a_link_is_judged(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path.parent / "outside.md").write_text("# x")
    (tmp_path / "b.md").write_text("# First\n\n## The *second* one\n")
    (tmp_path / "picture one.png").write_bytes(b"")
    (tmp_path / "a.md").write_text(text)
    found = links.problems([tmp_path / "a.md"], tmp_path)
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_targets_are_changed_and_nothing_else() -> None:
    text = "[a](b.md) ![c](d.png) [![e](f.png)](g.md) <img src='h.png'>"
    assert links.replaced(text, lambda target: f"x/{target}") == (
        "[a](x/b.md) ![c](x/d.png) [![e](x/f.png)](x/g.md) <img src='x/h.png'>"
    )


GOOD = """<html lang="en"><head><title>{title}</title><meta name="description" content="x">
<meta property="og:image" content="a.png"></head><body><div class="sidebar-brand"></div>{body}</body></html>"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<a href='other.html#place'>x</a><img src='a.png' alt=''>", ""),
        ("<a href='none.html'>x</a>", "none.html leads nowhere"),
        ("<a href='other.html#none'>x</a>", "no such place"),
        ("<img src='a.png'>", "a picture without words"),
        ("<script src='https://example.com/x.js'></script>", "asks another server"),
        ("<a href='https://example.com'>x</a>", ""),
    ],
)
def test_a_page_of_the_site_is_judged(body: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "other.html").write_text(GOOD.format(title="other", body="<p id='place'>"))
    (tmp_path / "page.html").write_text(GOOD.format(title="page", body=body))
    found = links.of_site(tmp_path)
    assert len(found) == bool(said), found
    assert said in "".join(found)


def test_what_every_page_must_have(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<html><body><div class='sidebar-brand'></div></body></html>")
    said = "\n".join(links.of_site(tmp_path))
    assert all(part in said for part in ("no title", "no description", "no og:image", "its language"))
    for name in "ab":
        (tmp_path / f"{name}.html").write_text("<html lang='en'><title>same</title></html>")
    assert "a.html, b.html have one title, 'same'" in "\n".join(links.of_site(tmp_path))
