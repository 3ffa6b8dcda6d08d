"""Notebooks in a real JupyterLab in a real browser, used by keyboard and mouse; the explorer as an app."""

import base64
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import browser
import nbformat
import pytest

from nbhelpers import recipes

NOTEBOOK = "01_activation_maximization.ipynb"
# Small pictures and few steps: the test is about the page, not about the pictures' beauty.
QUICK = {"channels": [1, 4], "size": 48, "rounds": 2, "steps": 4}

pytestmark = pytest.mark.xdist_group("browser")


UNNAMED = """(root) => [...document.querySelectorAll(`${root} :is(button, input, select, textarea, img, [role])`)]
    .filter((each) => each.checkVisibility() && !["presentation", "none", "group", "alert"].includes(each.role))
    .filter((each) => !each.labels?.length && !["aria-label", "alt", "title"].some((name) => each.getAttribute(name))
        && !each.textContent.trim())
    .map((each) => each.outerHTML.slice(0, 200))"""
"""Controls and pictures on the page that a screen reader has no name for."""


def _checkout(folder: Path, name: str = NOTEBOOK, quick: dict = QUICK) -> Path:
    """A copy of the notebook with quick parameters and no outputs, and the photos beside it."""
    (folder / "notebooks").mkdir(parents=True)
    shutil.copytree(browser.ROOT / "sample_images", folder / "sample_images")
    notebook = nbformat.read(browser.ROOT / "notebooks" / name, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += "\n" + "\n".join(f"{key} = {value}" for key, value in quick.items())
    nbformat.write(notebook, folder / "notebooks" / name)
    return folder


def test_notebook_is_played_in_a_browser(tmp_path: Path) -> None:
    sync_playwright, executable = browser.needed()
    work = _checkout(tmp_path / "work")
    with browser.jupyter_lab(work, tmp_path / "server") as address, sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=executable, args=browser.FLAGS)
        try:
            _play(browser.NotebookPage(window.new_page(), address, f"notebooks/{NOTEBOOK}"))
        finally:
            window.close()


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
        ("blur", "ArrowLeft"),
        ("upscale factor", "ArrowRight"),
    ]:
        notebook.press(label, key)
        picture = notebook.await_other_picture(picture)
        assert picture != first, f"moving {label!r} brought the first picture back"

    # The way back ends where it began: what is seen belongs to the sliders' values, not to the order of events.
    for label, key in [("upscale factor", "ArrowLeft"), ("blur", "ArrowRight"), ("channel", "ArrowLeft")]:
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
    assert recipes.from_picture(saved.value.path()).size == 48
    assert notebook.page.evaluate(UNNAMED, ".nbhelpers-player") == []

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


PHOTO = browser.ROOT / "sample_images" / "coffee.jpg"
DROP = """([selector, base64]) => {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], "dropped.jpg", { type: "image/jpeg" }));
    document.querySelector(selector).dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
}"""


@contextmanager
def _app(folder: Path) -> Iterator[str]:
    """`nbhelpers explore`, and its address with the token."""
    pytest.importorskip("voila", reason="needs the package voila")
    command = [sys.executable, "-m", "nbhelpers", "explore", str(browser.ROOT / "sample_images" / "cat.jpg")]
    environment = os.environ | {"IPYTHONDIR": str(folder / "ipython"), "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(
        [*command, "--no-browser", "--port", "18990", "--results", str(folder / "results")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        said = []
        for line in server.stdout:
            said.append(line)
            if address := re.search(r"http://127\.0\.0\.1:\d+/\?token=\w+", line):
                break
        else:
            raise AssertionError(f"the app does not start: {''.join(said)}")
        yield address[0]
    finally:
        server.terminate()
        server.wait(30)
        server.stdout.close()


COUNT_PICTURES = """() => {
    window.pictures = 0;
    new MutationObserver(() => window.pictures++).observe(
        document.querySelector(".nbhelpers-frame img"), { attributes: true, attributeFilter: ["src"] });
}"""


def _barriers(page) -> list[str]:
    """What axe finds on the player that keeps somebody out."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the package axe-playwright-python")
    found = axe.Axe().run(page, context=".nbhelpers-player").response["violations"]
    return [f"{each['id']}: {node['html'][:160]}" for each in found for node in each["nodes"]]


def test_the_explorer_is_used_as_an_app(tmp_path: Path) -> None:
    sync_playwright, executable = browser.needed()
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with _app(tmp_path) as address, sync_playwright() as playwright:
        with urllib.request.urlopen(address.partition("?")[0]) as stranger:
            assert "/login" in stranger.url
        window = playwright.chromium.launch(executable_path=executable, args=[*browser.FLAGS, *camera])
        try:
            _explore(window.new_page(viewport={"width": 1280, "height": 720}), address)
        finally:
            window.close()


PROPORTIONS = """image => {
    const box = image.getBoundingClientRect();
    return [box.width / box.height, image.naturalWidth / image.naturalHeight];
}"""


def _explore(page, address: str) -> None:
    complaints = []
    page.set_default_timeout(browser.PATIENCE)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
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
    page.get_by_role("button", name="Enlarge: how often channel").wait_for()

    # A photo that is no square is shown in its own proportions, and the mark stands where the click was.
    shown = frame.locator("img").evaluate(PROPORTIONS)
    assert shown[0] == pytest.approx(shown[1], rel=0.02)
    assert shown[0] > 1.4
    box = frame.bounding_box()
    frame.click(position={"x": 0.95 * box["width"], "y": 0.25 * box["height"]})
    mark = page.locator(".nbhelpers-mark").first.bounding_box()
    assert mark["x"] + mark["width"] / 2 - box["x"] == pytest.approx(0.95 * box["width"], abs=2)
    assert mark["y"] + mark["height"] / 2 - box["y"] == pytest.approx(0.25 * box["height"], abs=2)

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
    assert complaints == []
    assert "nbhelpers-error" not in status.first.inner_html()
