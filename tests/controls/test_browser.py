"""Notebooks in a real JupyterLab in a real browser, used by keyboard and mouse; the explorer as an app."""

import base64
import re
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import nbformat
import pytest

from nbhelpers import images

# Small pictures and few steps: the tests are about the pages, not about the pictures' beauty.
QUICK = {
    "01_activation_maximization": {"channels": [1, 4], "size": 48, "rounds": 2, "steps": 4},
    "05_grad_cam": {"photo_size": 64},
    "08_activation_volumes": {"layer": "block3.relu1", "size": 64},
    "12_explorer": {"photo_size": 64},
    "13_microscope": {"cuts": 4, "steps": 2},
    "15_activation_atlas": {"cuts": 2, "cells": 4, "fewest": 1, "picture_size": 32, "steps": 2},
}
LONG = """
from nbhelpers import controls
from nbhelpers.techniques.activation_maximization import ActivationMaximization
controls.play(ActivationMaximization(network="minivgg_robust", layer="block4.conv1", steps=1000), ["channels"])"""
WHOLE = {"13_microscope": "game.score"}
"""Of these notebooks all cells are kept, up to the first one with this text: the game needs all that comes before."""

NEEDED = ("controls.play(", "controls.view(", "controls.explore(", "controls.walk(", "atlas = activation_atlas.")
"""What is in the cells that show widgets, and in those that make what the widgets show."""

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """JupyterLab on copies of the notebooks: their first cells and those that show widgets, no outputs, the photos."""
    work = tmp_path_factory.mktemp("work")
    (work / "notebooks").mkdir()
    shutil.copytree(browser.ROOT / "sample_images", work / "sample_images")
    for name, quick in QUICK.items():
        notebook = nbformat.read(browser.ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        needed = WHOLE.get(name, "recipes.from_notebook(")
        first = 1 + next(index for index, cell in enumerate(code) if needed in cell.source)
        notebook.cells = code[:first] + [cell for cell in code[first:] if any(each in cell.source for each in NEEDED)]
        for cell in notebook.cells:
            cell.outputs, cell.execution_count = [], None
            if "parameters" in cell.metadata.get("tags", []):
                cell.source += "\n" + "\n".join(f"{key} = {value!r}" for key, value in quick.items())
        nbformat.write(notebook, work / "notebooks" / f"{name}.ipynb")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LONG)]), work / "notebooks" / "long.ipynb")
    with browser.jupyter_lab(work, tmp_path_factory.mktemp("server")) as address:
        yield address


UNNAMED = """(root) => [...document.querySelectorAll(`${root} :is(button, input, select, textarea, img, [role])`)]
    .filter((each) => each.checkVisibility() && !["presentation", "none", "group", "alert"].includes(each.role))
    .filter((each) => !each.labels?.length && !["aria-label", "alt", "title"].some((name) => each.getAttribute(name))
        && !each.textContent.trim())
    .map((each) => each.outerHTML.slice(0, 200))"""
"""Controls and pictures on the page that a screen reader has no name for."""


def test_01_is_played_by_keyboard(chromium: Any, lab: str) -> None:
    with browser.notebook(chromium, lab, "notebooks/01_activation_maximization.ipynb") as notebook:
        _play(notebook)


def _play(notebook: browser.NotebookPage) -> None:
    notebook.run_all()
    notebook.await_status("^done")
    first = picture = notebook.picture()

    layer = notebook.page.get_by_label("layer", exact=True)
    first_layer = layer.locator("option:checked").text_content()
    layer.select_option(label=layer.locator("option", has_text="block3.conv2 ·").text_content())
    picture = notebook.await_other_picture(picture)
    for label, key in [
        ("channel", "ArrowRight"),
        ("blur (px)", "ArrowLeft"),
        ("upscale factor", "ArrowRight"),
    ]:
        notebook.press(label, key)
        picture = notebook.await_other_picture(picture)
        assert picture != first, f"moving {label!r} brought the first picture back"

    # The way back ends where it began: what is seen belongs to the sliders' values, not to the order of events.
    for label, key in [("upscale factor", "ArrowLeft"), ("blur (px)", "ArrowRight"), ("channel", "ArrowLeft")]:
        notebook.press(label, key)
    layer.select_option(label=first_layer)
    notebook.await_picture(first)

    # Reset does the same at once; the settings are copied; the picture is enlarged by keyboard, and saved.
    notebook.press("channel", "ArrowRight")
    notebook.await_other_picture(first)
    notebook.page.get_by_role("button", name="Reset").click()
    notebook.await_picture(first)
    notebook.page.get_by_label("settings").select_option("parameters")
    notebook.page.get_by_label("copied").wait_for()
    assert "-p size 48" in notebook.page.get_by_label("copied").input_value()
    notebook.page.locator(".nbhelpers-frame").press("Enter")
    notebook.page.locator("dialog img").wait_for()
    notebook.page.keyboard.press("Escape")
    with notebook.page.expect_download() as saved:
        notebook.page.locator(".nbhelpers-player").get_by_role("button", name="Save").click()
    assert images.read_recipe(saved.value.path())["parameters"]["size"] == 48
    assert notebook.page.evaluate(UNNAMED, ".nbhelpers-player") == []
    assert _barriers(notebook.page) == []

    notebook.press("steps", "End")
    notebook.await_status(r"^step ([3-9]|\d\d+) of \d{4}")
    notebook.page.get_by_role("button", name="Stop").click()
    stopped = notebook.await_status(r"^stopped at step \d+ of \d{4}")
    made, total = (int(word) for word in stopped.split() if word.isdigit())
    assert made < total
    kept = notebook.picture()
    assert kept not in (first, picture)
    assert notebook.page.locator(browser.PICTURE).evaluate("image => image.naturalWidth") >= 300

    # A stopped run is over, and the next slider starts a fresh one.
    notebook.press("steps", "Home")
    assert notebook.await_other_picture(kept) != kept

    assert notebook.errors() == []


def test_the_first_run_is_stopped_while_its_cell_runs(chromium: Any, lab: str) -> None:
    with browser.notebook(chromium, lab, "notebooks/long.ipynb") as notebook:
        notebook.start()
        notebook.await_status(r"^step ([3-9]|\d\d+) of \d{4}")
        notebook.player.get_by_role("button", name="Stop").click()
        notebook.await_status(r"^stopped at step \d+ of \d{4}")
        notebook.finish()
        assert notebook.page.locator(browser.PICTURE).first.evaluate("image => image.naturalWidth") >= 300


def test_a_browsers_memory_stays_while_the_channel_changes(chromium: Any, lab: str) -> None:
    with browser.notebook(chromium, lab, "notebooks/01_activation_maximization.ipynb") as notebook:
        notebook.run_all()
        notebook.await_status("^done")

        def changed(times: int) -> browser.Held:
            for turn in range(times):
                before = notebook.picture()
                notebook.press("channel", "ArrowRight" if turn % 2 == 0 else "ArrowLeft")
                notebook.await_other_picture(before)
            return browser.held(notebook.page)

        changed(10)  # what is loaded once
        before, after = changed(2), changed(30)
        assert after.nodes <= before.nodes + 30
        assert after.listeners <= before.listeners + 30
        assert after.megabytes <= before.megabytes + 3


def test_05_explains_with_another_method(chromium: Any, lab: str) -> None:
    with browser.notebook(chromium, lab, "notebooks/05_grad_cam.ipynb") as notebook:
        notebook.run_all()
        notebook.await_status("^done")
        before = notebook.picture()
        notebook.press("method", "ArrowRight")
        notebook.await_other_picture(before)
        assert notebook.errors() == []


def test_08_turns_a_volume(chromium: Any, lab: str) -> None:
    with browser.notebook(chromium, lab, "notebooks/08_activation_volumes.ipynb", width=800) as notebook:
        notebook.run_all()
        notebook.await_status("^volume 8 x 8 x 352")
        scene = notebook.page.locator(".nbhelpers-view canvas").first
        scene.scroll_into_view_if_needed()
        before = scene.screenshot()
        scene.drag_to(scene, source_position={"x": 100, "y": 200}, target_position={"x": 190, "y": 200})
        assert scene.screenshot() != before
        assert _barriers(notebook.page) == []
        front = notebook.picture()
        notebook.press("slice", "ArrowRight")
        notebook.await_change(front)
        assert notebook.errors() == []


def test_12_explores_an_uploaded_photo(chromium: Any, lab: str) -> None:
    with browser.notebook(chromium, lab, "notebooks/12_explorer.ipynb") as notebook:
        notebook.run_all()
        page, rows = notebook.page, notebook.page.locator(".nbhelpers-channel b")
        page.locator(".nbhelpers-photos input[type=file]").set_input_files(PHOTO)
        page.get_by_text("evidence for espresso").wait_for()
        before = rows.all_text_contents()
        page.locator(".nbhelpers-frame").first.click(position={"x": 20, "y": 20})
        page.wait_for_function(f"document.querySelector('.nbhelpers-channel b').textContent !== '{before[0]}'")
        chosen = rows.first.text_content()
        rows.first.click()
        page.get_by_role("heading", name=f"Channel {chosen.split()[1]} of").wait_for()
        assert _barriers(page) == []
        assert notebook.errors() == []


def test_13_is_played_ten_times_with_the_score_beside_the_machines(chromium: Any, lab: str) -> None:
    with browser.notebook(chromium, lab, "notebooks/13_microscope.ipynb", width=900) as notebook:
        notebook.run_all()
        page, game = notebook.page, notebook.page.locator(".nbhelpers-game")
        notebook.player = game
        left, right = (game.get_by_role("button", name=f"{side} one") for side in ("left", "right"))
        notebook.await_status("^Question 1 of 10")
        assert page.evaluate(UNNAMED, ".nbhelpers-game") == []
        assert _barriers(page, ".nbhelpers-game") == []
        told = []
        for number in range(1, 11):
            button = left if number % 3 else right
            button.focus()
            button.press("Enter")
            said = notebook.await_status(rf"of {number}\. " + ("That was all" if number == 10 else "Question"))
            told.append(said.startswith("Right"))
            assert f"you {sum(told)}, the machine " in said
            if number < 10:
                game.get_by_role("img", name=f"the left photo of question {number + 1}").wait_for()
        assert 0 < sum(told) < 10  # places are drawn: no side is always right
        assert not left.is_visible()
        solved = game.get_by_role("img", name="all 10 pairs, solved")
        solved.scroll_into_view_if_needed()
        assert solved.evaluate("image => image.naturalWidth") > 800
        machine = re.search(r"the machine ([\d.]+) of 10", said)[1]
        page.locator(".jp-CodeCell").last.locator(".jp-Editor").click()
        page.keyboard.press("Control+Enter")
        page.get_by_text(f"you {sum(told)} of 10; the machine {machine} of 10").wait_for()
        game.get_by_role("button", name="Again").click()
        notebook.await_status("^Question 1 of 10")
        assert left.is_visible()


SCALE = "Number(getComputedStyle(document.querySelector('.atlas-map')).getPropertyValue('--scale'))"


def test_15_walks_through_an_atlas(chromium: Any, lab: str) -> None:
    with browser.notebook(chromium, lab, "notebooks/15_activation_atlas.ipynb") as notebook:
        notebook.run_all()
        page, squares = notebook.page, notebook.page.locator(".atlas-square")
        cells = page.locator(".jp-Cell").count()
        stage = page.locator(".atlas-stage")
        stage.scroll_into_view_if_needed()
        assert page.locator("iframe").count() == 0  # it is the widget that is seen, not what stands in for it

        squares.nth(1).hover()
        assert page.locator(".atlas-shown").is_visible()
        assert page.locator(".atlas-photo").count() > 0
        squares.first.click()
        assert squares.first.get_attribute("aria-pressed") == "true"
        assert page.locator(".atlas-said .atlas-bar").count() == 5
        assert _barriers(page, ".nbhelpers-atlas") == []
        assert page.evaluate(UNNAMED, ".nbhelpers-atlas") == []

        # keys are the map's: the notebook neither moves on nor does what they mean to it
        at_first, scrolled = page.evaluate(SCALE), stage.bounding_box()["y"]
        page.keyboard.press("ArrowDown")
        pressed = page.locator(".atlas-square[aria-pressed='true']")
        assert pressed.count() == 1
        assert pressed.bounding_box()["y"] > squares.first.bounding_box()["y"]
        page.keyboard.press("+")
        assert page.evaluate(SCALE) > at_first
        page.keyboard.press("0")
        page.keyboard.press("0")
        assert page.evaluate(SCALE) == pytest.approx(at_first)
        assert stage.bounding_box()["y"] == pytest.approx(scrolled, abs=1)
        assert page.locator(".jp-Dialog").count() == 0
        assert page.locator(".jp-Cell").count() == cells

        # the wheel zooms in and out again, and then it is the notebook that scrolls
        box = stage.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.wheel(0, -400)
        page.wait_for_function(f"{SCALE} > {1.2 * at_first}")
        for _ in range(3):
            page.mouse.wheel(0, 600)
        page.wait_for_function(f"Math.abs({SCALE} - {at_first}) < 1e-3")
        page.mouse.wheel(0, 300)
        page.wait_for_function(f"document.querySelector('.atlas-stage').getBoundingClientRect().y < {scrolled - 50}")

        page.locator(".atlas-find").fill(page.locator(".atlas-name").inner_text())
        assert page.locator(".atlas-first").count() > 0
        assert notebook.errors() == []


PHOTO = browser.ROOT / "sample_images" / "coffee.jpg"
DROP = """([selector, base64]) => {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], "dropped.jpg", { type: "image/jpeg" }));
    document.querySelector(selector).dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
}"""


COUNT_PICTURES = """() => {
    window.pictures = 0;
    new MutationObserver(() => window.pictures++).observe(
        document.querySelector(".nbhelpers-frame img"), { attributes: true, attributeFilter: ["src"] });
}"""


IN_SIGHT = """() => {
    const box = document.querySelector(".nbhelpers-below h4").getBoundingClientRect();
    return box.top >= 0 && box.bottom <= innerHeight;
}"""


def _barriers(page, within: str = ".nbhelpers-player") -> list[str]:
    """What axe finds on the players that keeps somebody out; JupyterLab is dark here, the app light."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the package axe-playwright-python")
    found = axe.Axe().run(page, context=within).response["violations"]
    return [f"{each['id']}: {node['html'][:160]}" for each in found for node in each["nodes"]]


def test_the_explorer_is_used_as_an_app(chromium: Any, tmp_path: Path) -> None:
    with browser.explorer_app(tmp_path, str(browser.ROOT / "sample_images" / "cat.jpg")) as address:
        with urllib.request.urlopen(address.partition("?")[0]) as stranger:
            assert "/login" in stranger.url
        with browser.page(chromium, address) as page:
            _explore(page)


PROPORTIONS = """image => {
    const box = image.getBoundingClientRect();
    return [box.width / box.height, image.naturalWidth / image.naturalHeight];
}"""


MARKED = """frame => {
    const [mark, box] = [frame.querySelector(".nbhelpers-mark"), frame].map((each) => each.getBoundingClientRect());
    return [mark.x + mark.width / 2 - box.x, mark.y + mark.height / 2 - box.y];
}"""


def _explore(page: Any) -> None:
    rows, status = page.locator(".nbhelpers-channel"), page.locator(".nbhelpers-status")
    rows.first.wait_for()
    page.locator(".nbhelpers-channel img[src^=data]").first.wait_for()

    def channels() -> list[str]:
        return page.locator(".nbhelpers-channel b").all_text_contents()

    def until(asked: str) -> None:
        page.wait_for_function(asked)

    # All of it is on the screen.
    for shown in (page.locator(".nbhelpers-frame").first, rows.first, page.locator(".nbhelpers-predictions")):
        box = shown.bounding_box()
        assert box["x"] + box["width"] <= 1280
        assert box["y"] + box["height"] <= 720

    # A click, then an arrow key: other places, other channels.
    frame = page.locator(".nbhelpers-frame").first
    before = channels()
    frame.click(position={"x": 20, "y": 20})
    until(f"!document.querySelector('.nbhelpers-channels').textContent.startsWith('{before[0]}s')")
    frame.press("ArrowRight")
    rows.first.hover()
    until("document.querySelector('.nbhelpers-frame img').alt.includes('answers in the photo')")
    rows.first.click()
    page.get_by_role("heading", name="Channel").wait_for()
    until(IN_SIGHT)
    page.get_by_role("button", name="Enlarge: how often channel").wait_for()

    # A photo that is no square is shown in its own proportions, and the mark stands where the click was.
    shown = frame.locator("img").evaluate(PROPORTIONS)
    assert shown[0] == pytest.approx(shown[1], rel=0.02)
    assert shown[0] > 1.4
    box = frame.bounding_box()
    frame.click(position={"x": 0.95 * box["width"], "y": 0.25 * box["height"]})
    x, y = frame.evaluate(MARKED)  # at one moment: the page may still be on its way back from the channel's
    assert x == pytest.approx(0.95 * box["width"], abs=2)
    assert y == pytest.approx(0.25 * box["height"], abs=2)

    # A class by a part of its name, a rival, another network.
    page.get_by_label("target").fill("retriever")
    page.get_by_label("target").press("Enter")
    page.get_by_text("evidence for golden retriever").wait_for()
    page.get_by_label("target").fill("no such class")
    page.get_by_label("target").press("Enter")
    page.locator(".nbhelpers-status .nbhelpers-error").wait_for()
    page.get_by_label("target").fill("")
    page.get_by_label("target").press("Enter")
    page.get_by_label("network").fill("minivgg")
    page.get_by_label("network").press("Enter")
    until("!document.querySelector('.nbhelpers-status .nbhelpers-error')")

    # Photos: uploaded, dropped, taken; what is none is refused.
    page.locator(".nbhelpers-photos input[type=file]").set_input_files(PHOTO)
    page.get_by_text("evidence for espresso").wait_for()
    page.locator(".nbhelpers-photos input[type=file]").set_input_files(Path(__file__))
    page.get_by_role("alert").filter(has_text=Path(__file__).name).wait_for()
    encoded = base64.b64encode((browser.ROOT / "sample_images" / "cat.jpg").read_bytes()).decode()
    page.evaluate(DROP, [".nbhelpers-photos", encoded])
    until("document.querySelector('.nbhelpers-photos input').value.endsWith('dropped.jpg')")
    page.get_by_role("button", name="Live").click()
    page.get_by_role("button", name="Stop", exact=True).wait_for()
    page.locator("video.nbhelpers-live").wait_for()
    page.evaluate(COUNT_PICTURES)
    until("window.pictures >= 4")
    page.get_by_role("button", name="Stop", exact=True).click()
    until("document.querySelector('.nbhelpers-photos input').value.endsWith('camera.jpg')")
    page.get_by_role("button", name="Camera", exact=True).click()
    until("document.querySelector('.nbhelpers-camera video')?.videoWidth > 0")
    page.get_by_role("button", name="Take the photo").click()
    until("document.querySelector('.nbhelpers-photos input').value.endsWith('camera.png')")

    assert page.evaluate(UNNAMED, ".nbhelpers-player") == []
    assert _barriers(page) == []
    page.set_viewport_size({"width": 400, "height": 800})
    until("document.querySelector('.nbhelpers-player').scrollWidth <= 400")
    assert "nbhelpers-error" not in status.first.inner_html()
