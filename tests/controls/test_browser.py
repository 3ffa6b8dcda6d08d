"""Notebook 01 in a real JupyterLab in a real browser, used by keyboard and mouse."""

import shutil
from pathlib import Path

import browser
import nbformat
import pytest

NOTEBOOK = "01_activation_maximization.ipynb"
# Small pictures and few steps: the test is about the page, not about the pictures' beauty.
QUICK = {"channels": [1, 4], "size": 48, "rounds": 2, "steps": 4}

pytestmark = pytest.mark.xdist_group("browser")


def _checkout(folder: Path) -> Path:
    """A copy of the notebook with quick parameters and no outputs, and the photos beside it."""
    (folder / "notebooks").mkdir(parents=True)
    shutil.copytree(browser.ROOT / "sample_images", folder / "sample_images")
    notebook = nbformat.read(browser.ROOT / "notebooks" / NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += "\n" + "\n".join(f"{name} = {value}" for name, value in QUICK.items())
    nbformat.write(notebook, folder / "notebooks" / NOTEBOOK)
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

    for label, key in [
        ("layer", "ArrowLeft"),
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
    notebook.press("layer", "ArrowRight")
    notebook.await_picture(first)

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
