"""The site in a browser, from a disk: grid, order, search, channel, arrows, back, 2,048 channels, hostile names."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
from PIL import Image

from nbhelpers import edge, pages

pytestmark = pytest.mark.xdist_group("browser")

HOSTILE = "</script><img src=x onerror=window.caught=1>\"'&"
MANY = 2048


def _layer(name: str, channels: int, dead: int = 0) -> dict[str, Any]:
    facts = dict(kind="Conv2d", height=8, width=8, stride=8, field=None, two={})
    return dict(name=name, channels=channels, dead=dead, strip=[0, 1, 2], **facts)


def _channels(count: int) -> list[dict[str, Any]]:
    """No order is that of another; channel 3 is dead, channel 5 has hostile words."""
    found = [{"n": n, "strength": (n * 7) % count, "selectivity": n, "likeness": (n * 3) % count} for n in range(count)]
    found[3] = {"n": 3, "dead": True}
    found[4]["label"] = {"name": "zebra"}
    found[5] |= {
        "label": {"name": HOSTILE},
        "histogram": {"counts": [1, 2, 3], "low": 0.0, "high": 1.0},
        "labels": {"rows": [{"name": HOSTILE, "auc": 0.9, "p": 0.0001}]},
        "near": [{"channel": 7, "value": 0.5}],
        "excited": [{"layer": HOSTILE, "channel": 1, "value": 0.3, "kernel": [[1, 0], [0, -1]]}],
        "patches": [{"name": "the strongest", "photos": [{"name": HOSTILE, "value": 1.5}]}],
        "recipes": [{"name": "made picture", "lines": HOSTILE}],
    }
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages as `site.write` lays them out, of facts that were made up."""
    folder = tmp_path_factory.mktemp("site with a # and 50 %")
    layers = [_layer(HOSTILE, 12, dead=1), _layer("many", MANY, dead=1)]
    data = dict(name="net", summary=["2 layers"], about=[HOSTILE], changed=[HOSTILE], layers=layers, photos=True)
    data |= dict(classes=["ant", HOSTILE], class_facts={}, class_pictures=False)
    (folder / "index.html").write_text(pages.render("microscope.html", data=data))
    for index, layer in enumerate(layers):
        text = edge.to_json(_channels(layer["channels"])).replace("<", "\\u003c")
        edge.write_text(f"microscope.layer({index}, {text});\n", folder / "data" / f"{index}.js")
    for name in (*range(12), "5-photos"):
        (folder / "pictures" / "0").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), "teal").save(folder / "pictures" / "0" / f"{name}.webp")
    return folder


@pytest.fixture
def page(site: Path, chromium: Any) -> Iterator[Any]:
    address, missing = (site / "index.html").as_uri(), "ERR_FILE_NOT_FOUND"  # of 2,060 channels 12 have pictures
    with browser.page(chromium, address, width=400, height=800, harmless=missing) as page:
        yield page
        assert page.evaluate("window.caught") is None
        assert page.evaluate("document.documentElement.scrollWidth") <= 400


def _go(page: Any, address: str) -> None:
    page.evaluate("(address) => { location.hash = address; }", address)
    page.wait_for_function("(address) => document.querySelector('main').dataset.shown === address", arg=address)


def _numbers(page: Any) -> list[int]:
    return page.evaluate("[...document.querySelectorAll('#grid .tile')].map((tile) => +tile.dataset.channel)")


def test_layer_is_sorted_searched_filtered_with_2048_channels(page: Any) -> None:
    _go(page, "#/layer/many")
    assert _numbers(page) == list(range(MANY))
    assert page.locator(".blank").count() == 1
    page.select_option("select[name=sort]", "strength")
    expected = sorted((n for n in range(MANY) if n != 3), key=lambda n: -((n * 7) % MANY))
    assert _numbers(page) == [*expected, 3]
    assert page.evaluate("location.hash") == "#/layer/many?sort=strength"
    page.select_option("select[name=sort]", "likeness")
    assert _numbers(page)[-1] == max((n for n in range(MANY) if n != 3), key=lambda n: (n * 3) % MANY)
    page.fill("input[name=find]", "ZEB")
    assert _numbers(page) == [4]
    page.fill("input[name=find]", "77")
    assert _numbers(page) == [77]
    page.fill("input[name=find]", "")
    page.select_option("select[name=show]", "dead")
    assert _numbers(page) == [3]
    assert page.inner_text("output") == "1 of 2,048 channels"


def test_pictures_far_below_are_not_asked_for(page: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    _go(page, "#/layer/many")
    page.wait_for_timeout(500)
    assert not any(f"/{MANY - 1}.webp" in url for url in asked)
    assert all(url.startswith("file:") for url in asked)


def test_arrows_follow_the_order_and_back_returns_to_it(page: Any) -> None:
    _go(page, "#/layer/many?sort=strength")
    first, second = _numbers(page)[:2]
    page.click("#grid .tile >> nth=0")
    page.wait_for_function(f"document.querySelector('main').dataset.shown === '#/channel/many/{first}'")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"document.querySelector('main').dataset.shown === '#/channel/many/{second}'")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"document.querySelector('main').dataset.shown === '#/channel/many/{first}'")
    for _ in range(3):
        page.go_back()
    page.wait_for_function("document.querySelector('main').dataset.shown === '#/layer/many?sort=strength'")
    assert _numbers(page)[0] == first
    page.go_forward()
    page.wait_for_function(f"document.querySelector('main').dataset.shown === '#/channel/many/{first}'")


def test_a_link_to_a_channel_opens_it_with_hostile_words_as_words(page: Any) -> None:
    address = page.evaluate("(name) => `#/channel/${encodeURIComponent(name)}/5`", HOSTILE)
    _go(page, address)
    page.reload()
    page.wait_for_function("(address) => document.querySelector('main').dataset.shown === address", arg=address)
    assert page.inner_text(".label") == HOSTILE
    assert HOSTILE in page.inner_text("h1")
    assert page.locator("section h2").all_inner_texts() == [
        *["In photographs", "How often", "Label", "Circuit", "Nearest channels", "Make them again"]
    ]
    assert page.locator("canvas.kernel").count() == 1
    _go(page, "#/class/1")
    assert page.inner_text("h1") == HOSTILE


@pytest.mark.parametrize("address", ["#/layer/none", "#/channel/many/99999", "#/class/9", "#/%E0%A4%A", "#/x/y/z"])
def test_an_address_of_nothing_says_so(page: Any, address: str) -> None:
    _go(page, address)
    assert "Nothing here" in page.inner_text("main")


def test_a_missing_file_of_facts_is_named(site: Path, tmp_path: Path, page: Any) -> None:
    (tmp_path / "index.html").write_text((site / "index.html").read_text())
    page.goto((tmp_path / "index.html").as_uri() + "#/layer/many")
    page.wait_for_selector(".wrong")
    assert "data/1.js" in page.inner_text(".wrong")
    assert json.loads(page.inner_text("#data") or page.text_content("#data"))["name"] == "net"
