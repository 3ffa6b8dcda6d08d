"""The atlas as a page: what is in it, without photos, and how it moves in a browser; and the command that writes it."""

import base64
import io
import json
import re
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import browser
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from small_networks import noise, tiny

from nbhelpers import images
from nbhelpers.directions import activation_atlas, atlas_page, photographs
from nbhelpers.directions.activation_atlas import ActivationAtlas, Atlas
from nbhelpers.directions.cli import atlas as command
from nbhelpers.models import Network

HOSTILE = "</script><b>&\"'"
SMALL = dict(
    **dict(layer="relu2", drawn="conv2", size=16, cuts=30, places=1, fewest=1, names="answers"),
    **dict(picture_size=16, rounds=1, steps=1),
)


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(tiny().eval(), "tiny", classes=["ant", "bee", HOSTILE, "dog", "elk"], size=16)


@pytest.fixture(scope="module")
def levels(network: Network, tmp_path_factory: pytest.TempPathFactory) -> list[Atlas]:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        pixels = 0.4 * noise(30, 30, 3, seed=number)
        pixels[..., number] += 0.6
        Image.fromarray((pixels * 255).byte().numpy()).save(folder / f"{number}.png")
    fine = activation_atlas.survey(ActivationAtlas(**SMALL, photos=str(folder), cells=6), network)
    coarse = activation_atlas.with_cells(fine, 3, network)
    return [activation_atlas.finished(each, network) for each in (coarse, fine)]


@pytest.fixture(scope="module")
def page(levels: list[Atlas], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return atlas_page.write(levels, tmp_path_factory.mktemp("atlas"))


def data_in(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_the_page_holds_every_square_with_its_picture(levels: list[Atlas], page: Path) -> None:
    assert page.name == "index.html"
    assert page.parent.name == "minivgg_robust-relu2"
    for level, atlas in zip(data_in(page.read_text())["levels"], levels, strict=True):
        assert [square["at"] for square in level["squares"]] == atlas.grid.tolist()
        assert [square["count"] for square in level["squares"]] == atlas.counts.tolist()
        sheet = Image.open(io.BytesIO(base64.b64decode(level["pictures"]["webp"])))
        pixels = images.from_pil(sheet)[:, :16, :16]
        assert (pixels - atlas.picture[0]).abs().mean() < 0.06
        shown = [square["photos"][1] for square in level["squares"]]
        assert shown == [min(count, atlas_page.PATCHES) for count in atlas.counts.tolist()]


def test_names_are_escaped_and_nothing_is_fetched(page: Path) -> None:
    text = page.read_text()
    assert HOSTILE not in text
    assert "http" not in re.sub(r"http://www\.w3\.org", "", text)
    assert any(square["said"][0][0] == HOSTILE for level in data_in(text)["levels"] for square in level["squares"]) or (
        HOSTILE in data_in(text)["classes"]
    )


def test_a_page_without_photos_holds_none(levels: list[Atlas]) -> None:
    for level in data_in(atlas_page.text(levels, photos=False))["levels"]:
        assert level["photos"] is None
        assert all(square["photos"] == [0, 0] for square in level["squares"])


def test_two_maps_are_two_pages_with_links(levels: list[Atlas], network: Network, tmp_path: Path) -> None:
    recipe = levels[0].recipe.changed(label="bee", beside=HOSTILE, cells=2)
    both = activation_atlas.finished(activation_atlas.survey(recipe, network), network)
    first = atlas_page.write([both], tmp_path, photos=False)
    folders = sorted(folder.name for folder in tmp_path.iterdir())
    assert first == tmp_path / "minivgg_robust-relu2-bee" / "index.html"
    assert len(folders) == 2
    for name, other in zip(folders, folders[::-1], strict=True):
        text = (tmp_path / name / "index.html").read_text()
        (address,) = re.findall(r'<a href="(.*?)">beside it', text)
        assert (tmp_path / name / unquote(unescape(address))).resolve() == tmp_path / other / "index.html"
        assert HOSTILE not in text
    shown = data_in((tmp_path / folders[0] / "index.html").read_text())["levels"][0]["squares"]
    assert len(shown) in (len(both.grid), len(both.beside.grid))


def test_the_map_moves(page: Path, chromium: Any) -> None:
    with browser.page(chromium, page.as_uri()) as window:
        squares = window.locator(".atlas-square")
        scale = "Number(getComputedStyle(document.querySelector('.atlas-map')).getPropertyValue('--scale'))"

        # the name of a region is at the lower edge of a square of that name
        assert window.locator(".atlas-region").count()
        assert window.evaluate("""[...document.querySelectorAll('.atlas-region')].every((label) => {
            const x = parseFloat(label.style.left), y = parseFloat(label.style.top);
            return [...document.querySelectorAll('.atlas-square')].some((square) =>
                square.getAttribute('aria-label').startsWith(label.textContent + ', ') &&
                square.offsetLeft < x && x < square.offsetLeft + square.offsetWidth &&
                square.offsetTop < y && y < square.offsetTop + 1.5 * square.offsetHeight);
        })""")

        # names are text
        assert window.evaluate(f"[...document.querySelectorAll('option')].some((o) => o.value === `{HOSTILE}`)")

        # a page that fits: nothing to scroll at this size
        assert window.evaluate("document.documentElement.scrollHeight <= innerHeight")
        assert window.locator(".atlas-map").get_attribute("data-cells") == "6"  # of 720 pixels, a sixth is comfortable

        # a click tells of a square
        squares.first.click()
        assert squares.first.get_attribute("aria-pressed") == "true"
        assert window.locator(".atlas-shown").is_visible()
        assert "place" in window.locator(".atlas-count").inner_text()
        assert window.locator(".atlas-said .atlas-bar").count() == 5
        name = window.locator(".atlas-name").inner_text()

        # arrows go on, to the right first
        before = squares.first.bounding_box()
        window.keyboard.press("ArrowRight")
        pressed = window.locator(".atlas-square[aria-pressed='true']")
        assert pressed.count() == 1
        assert pressed.bounding_box()["x"] > before["x"]

        # zooming by keys, wheel and button; the whole map again
        at_first = window.evaluate(scale)
        window.keyboard.press("+")
        assert window.evaluate(scale) > at_first
        window.keyboard.press("0")
        assert window.evaluate(scale) == pytest.approx(at_first)
        box = window.locator(".atlas-stage").bounding_box()
        window.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        window.mouse.wheel(0, -400)
        window.wait_for_function(f"{scale} > {at_first * 1.2}")
        window.locator(".atlas-whole").click()

        # dragging moves, and is no click
        window.keyboard.press("Escape")
        assert window.locator(".atlas-shown").is_hidden()
        left = squares.first.bounding_box()["x"]
        window.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        window.mouse.down()
        window.mouse.move(box["x"] + box["width"] / 2 + 80, box["y"] + box["height"] / 2, steps=4)
        window.mouse.up()
        assert squares.first.bounding_box()["x"] != left
        window.locator(".atlas-whole").click()

        # hovering is enough to see
        squares.nth(1).hover()
        assert window.locator(".atlas-shown").is_visible()

        # where a class lives
        window.locator(".atlas-find").fill(name)
        assert window.locator(".atlas-first").count() > 0
        assert "squares" in window.locator(".atlas-told").inner_text()
        window.locator(".atlas-find").fill("")
        assert window.locator(".atlas-first").count() == 0

        # narrow, from far away: the coarse grid
        window.set_viewport_size({"width": 400, "height": 800})
        window.wait_for_function("document.querySelector('.atlas-map').offsetParent !== null")
        assert window.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_map_within_a_page_does_not_scroll_to_itself(page: Path, tmp_path: Path, chromium: Any) -> None:
    around = tmp_path / "around.html"
    frame = f'<iframe title="map" src="{page.as_uri()}" height="700"></iframe>'
    around.write_text(f'<!doctype html><title>t</title><p style="height: 3000px">far up</p>{frame}', encoding="utf-8")
    with browser.page(chromium, around.as_uri()) as window:
        window.frame_locator("iframe").locator(".atlas-square").first.wait_for()
        assert window.evaluate("scrollY") == 0
    with browser.page(chromium, page.as_uri()) as window:  # alone it takes the keys at once
        assert window.evaluate("document.activeElement.className") == "nbhelpers-atlas"


def test_a_coarser_grid_is_shown_from_afar(levels: list[Atlas], tmp_path: Path, chromium: Any) -> None:
    page = atlas_page.write(levels, tmp_path)
    with browser.page(chromium, page.as_uri(), width=400, height=480) as window:
        assert window.locator(".atlas-map").get_attribute("data-cells") == "3"
        for _ in range(3):
            window.locator(".atlas-in").click()
        assert window.locator(".atlas-map").get_attribute("data-cells") == "6"


def test_the_command_writes_page_and_poster(tmp_path: Path) -> None:
    photos = Path(__file__).parents[2] / "sample_images"
    options = ["--photos", str(photos), "--cells", "3", "--coarser", "0", "--size", "32", "--picture-size", "16"]
    more = ["--steps", "1", "--limit", "36", "--fewest", "2", "--poster", "240", "--results", str(tmp_path)]
    ran = CliRunner().invoke(command, ["minivgg_robust", "block2.relu2", *options, *more])
    assert ran.exit_code == 0, ran.output
    page = tmp_path / "atlas" / "minivgg_robust-block2.relu2" / "index.html"
    assert str(page) in ran.output
    (poster,) = page.parent.glob("*.png")
    assert np.asarray(Image.open(poster)).shape == (240, 240, 3)
    assert images.read_recipe(poster)["parameters"]["drawn"] == "block2.conv2"


def test_a_command_that_was_stopped_does_not_look_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for a grid that was too fine, nor after an interrupt; and nothing is left behind."""
    looked, capture = [], photographs.models.capture

    def counting(network, *layers, **options):
        look = capture(network, *layers, **options)
        return lambda batch: looked.append(len(batch)) or look(batch) if options.get("stop") else look(batch)

    monkeypatch.setattr(photographs.models, "capture", counting)
    photos = Path(__file__).parents[2] / "sample_images"
    given = ["minivgg_robust", "block2.relu2", "--photos", str(photos), "--size", "32", "--picture-size", "16"]
    given += ["--steps", "1", "--rounds", "1", "--limit", "70", "--cuts", "7", "--poster", "240"]
    given += ["--coarser", "0", "--fewest", "2", "--results", str(tmp_path)]
    refused = CliRunner().invoke(command, [*given, "--cells", "64", "--fewest", "50"])
    assert refused.exit_code == 2
    assert "no square of 64 x 64 has 50 of the 70 places" in refused.output
    assert sum(looked) == 70
    draw = activation_atlas.climb
    monkeypatch.setattr(activation_atlas, "climb", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    assert CliRunner().invoke(command, [*given, "--cells", "3"]).exit_code == 1
    monkeypatch.setattr(activation_atlas, "climb", draw)
    ran = CliRunner().invoke(command, [*given, "--cells", "3"])
    assert ran.exit_code == 0, ran.output
    assert sum(looked) == 70
    assert [folder.name for folder in (tmp_path / "atlas").iterdir()] == ["minivgg_robust-block2.relu2"]


def test_the_command_maps_two_networks_beside_each_other(tmp_path: Path) -> None:
    photos = Path(__file__).parents[2] / "sample_images"
    options = ["--photos", str(photos), "--cells", "3", "--coarser", "2", "--size", "32", "--picture-size", "16"]
    more = ["--steps", "1", "--rounds", "1", "--limit", "36", "--fewest", "2", "--poster", "240", "--no-photos"]
    ran = CliRunner().invoke(
        command, ["minivgg", "block2.relu2", "--and", "minivgg_robust", *options, *more, "--results", str(tmp_path)]
    )
    assert ran.exit_code == 0, ran.output
    folders = [tmp_path / "atlas" / f"{name}-block2.relu2" for name in ("minivgg", "minivgg_robust")]
    assert sorted((tmp_path / "atlas").iterdir()) == folders
    assert all((folder / "index.html").exists() for folder in folders)
    (poster,) = folders[0].glob("*.png")
    assert images.decode(poster).shape[1] == 480
    assert images.read_recipe(poster)["parameters"]["other"] == "minivgg_robust"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--beside", "teapot"], "beside which class is 'teapot' to be mapped"),
        (["--label", "teapott"], "teapott"),
        (["--and", ":block9"], "block9"),
        (["minivgg_robust", "block9"], "block9"),
        (["no_such_network"], "no network is called 'no_such_network'"),
        (["--photos", "no_such_folder"], "no_such_folder"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: list[str], said: str, tmp_path: Path) -> None:
    few = ["--photos", str(Path(__file__).parents[2] / "sample_images"), "--limit", "24"]
    ran = CliRunner().invoke(command, [*few, *arguments, "--results", str(tmp_path)])
    assert ran.exit_code == 2
    assert said in ran.output
    assert "Traceback" not in ran.output


def test_an_atlas_before_it_is_drawn_has_no_pictures(levels: list[Atlas], network: Network) -> None:
    assert torch.equal(activation_atlas.with_cells(levels[1], 3, network).grid, levels[0].grid)
