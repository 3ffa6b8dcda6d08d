"""A page is looked at in a browser: what keeps a reader out of it is found, and nothing else."""

from pathlib import Path
from typing import Any

import pytest

from tools import audit

ALL = [f"({scheme}, {width} pixels)" for scheme in audit.SCHEMES for width in audit.WIDTHS]
PAGE = """<!doctype html><html lang="en"><head><title>A page</title>
<meta name="viewport" content="width=device-width">
<style>
@media (prefers-color-scheme: dark) {{ body {{ color: #eee; background: #111; }} .dim {{ color: #444; }} }}
</style></head>
<body><main><h1>A page</h1>{body}</main></body></html>"""


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("<p>Some words.</p>", set()),
        ("<p style='color: #ccc; background: #fff'>pale</p>", {f"color-contrast {each}" for each in ALL}),
        ("<p class='dim'>legible on white alone</p>", {f"color-contrast {each}" for each in ALL[2:]}),
        ("<img src='data:,'>", {f"image-alt {each}" for each in ALL}),
        ("<button></button>", {f"button-name {each}" for each in ALL}),
        ("<div style='width: 700px'>wide</div>", {f"wider than the screen {each}" for each in ALL[1::2]}),
        ("<script>console.error('no')</script>", {"the console complains"}),
        (
            "<p style='height: 3000px'>long</p><button>on</button>"
            "<script>document.querySelector('button').focus()</script>",
            {"does not begin at its top"},
        ),
    ],
)
def test_what_keeps_a_reader_out_is_found(body: str, found: set[str], chromium: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGE.format(body=body))
    assert {rule.partition(":")[0] for rule, _ in audit.barriers(chromium, page)} == found


def test_a_page_weighs_what_it_loads_and_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "a b.png").write_bytes(b"x" * 3_000_000)
    one = tmp_path / "page.html"
    one.write_text(
        "<img src='a%20b.png'><img src='a%20b.png'><img src='https://example.com/c.png'><a href='d.png'>d</a>"
    )
    for name in "xyz":
        (tmp_path / "code" / f"{name}.html").write_text("<p>" + "x" * 500_000)
    assert audit.weight(one) == 3_000_000 + one.stat().st_size
    assert audit.sizes(tmp_path, audit.pages_of(tmp_path))[2:] == [
        "| at the top | 1 | 3.00 | 3.00 | page.html |",
        "| code/ | 3 | 0.50 | 0.50 | code/z.html |",
    ]
    assert [page.name for page in audit.pages_of(tmp_path, each_kind=2)] == ["page.html", "x.html", "y.html"]
