"""The gallery page with 1,000 and 10,000 pictures: how large, how long to write, how long until it is seen.

    python tests/benchmarks/run.py gallery

The pictures are noise of the default recipe's final size; each has a recipe, a job and a command of its own. Writing
is in seconds of processor time: first with all thumbnails to make, then again with none. The page is opened from disk
in a new window of Chromium each time; the best of three.
"""

import json
import shutil
import tempfile
import time
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright

from nbhelpers import gallery, images
from nbhelpers.techniques.activation_maximization import ActivationMaximization

NOTEBOOK = "notebooks/01_activation_maximization.ipynb"
LAYERS = ["block1.conv1", "block2.conv1", "block3.conv2", "block4.conv1"]
TRIES = 3
FLAGS = ["--no-sandbox", "--disable-background-networking"]
IN_VIEW = """[...document.querySelectorAll('#grid img')].slice(0, 12)
    .every((image) => image.complete && image.naturalWidth)"""
REACTIONS = """async () => {
    const drawn = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    const spent = [];
    for (const hash of ['#is.layer="block2.conv1"', '#sort=score', '#view=sheet']) {
        location.hash = 'all';
        await drawn();
        const began = performance.now();
        location.hash = hash;
        await drawn();
        spent.push(performance.now() - began);
    }
    return spent;
}"""


def sweep(folder: Path, count: int) -> None:
    """A sweep of four layers and `count / 4` channels, one picture a job."""
    channels = range(count // len(LAYERS))
    about = {"name": f"{count:,} pictures", "notebook": NOTEBOOK, "version": "0", "fixed": {}, "zipped": []}
    axes = {"layer": LAYERS, "channels": [[channel] for channel in channels]}
    folder.mkdir()
    (folder / "sweep.json").write_text(json.dumps(about | {"axes": axes}))
    for layer in LAYERS:
        for channel in channels:
            recipe = ActivationMaximization(layer=layer, channels=[channel])
            job = folder / "jobs" / recipe.slug
            images.save(torch.rand(3, 138, 138), job / "picture.png", recipe=recipe.document() | {"index": 0})
            command = f"nbhelpers run {NOTEBOOK} -p layer {layer} -p channels '[{channel}]'"
            parameters = {"layer": layer, "channels": [channel]}
            said = {"id": job.name, "parameters": parameters, "command": command, "seconds": channel / 7}
            (job / "job.json").write_text(json.dumps(said | {"results": {"score": torch.rand(()).item()}}))
            (job / "notebook.ipynb").write_text("{}")


def write_seconds(folder: Path) -> float:
    """Seconds of processor time that writing the page takes."""
    began = time.process_time()
    gallery.write(folder)
    return time.process_time() - began


def seen(window, page: Path) -> list[float]:
    """Milliseconds until the first pictures are seen, and until a filter, an order and the contact sheet are drawn."""
    tab = window.new_page(viewport={"width": 1280, "height": 800})
    tab.set_default_timeout(120_000)
    tab.goto(page.as_uri())
    tab.wait_for_function(IN_VIEW)
    times = [tab.evaluate("performance.now()"), *tab.evaluate(REACTIONS)]
    tab.close()
    return times


def main() -> None:
    print("| pictures | page | written, s | again, s | first pictures, s | filter, ms | sort, ms | contact sheet, ms |")
    print("|---|---|---|---|---|---|---|---|")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as scratch:
        window = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for count in (1_000, 10_000):
            folder = Path(scratch) / str(count)
            sweep(folder, count)
            first, again = write_seconds(folder), write_seconds(folder)
            kilobytes = (folder / "index.html").stat().st_size / 1000
            load, *reactions = (
                min(each) for each in zip(*[seen(window, folder / "index.html") for _ in range(TRIES)], strict=True)
            )
            said = " | ".join(f"{each:.0f}" for each in reactions)
            print(
                f"| {count:,} | {kilobytes:,.0f} kB | {first:.1f} | {again:.1f} | {load / 1000:.1f} | {said} |",
                flush=True,
            )
        window.close()


if __name__ == "__main__":
    main()
