"""Records the explorer as it is used, for the README: `python -m tools.explorer_animation`.

The app of `nbhelpers explore` runs in a browser without a window; a ring is drawn where the next click goes, and each
picture is kept when the channels of that place have theirs. Writes `docs/explorer.webp`.
"""

import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Page, sync_playwright

from nbhelpers import edge

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "explorer.webp"
SIZE = (1200, 720)
SHOWN = 860
"""Width of the animation in pixels."""
STOPS = ((0.39, 0.37), (0.58, 0.8), (0.22, 0.12), (0.2, 0.75))
"""Places in the photo, from the left and from above: an eye, the nose, an ear, the fur."""
PATIENCE = 240_000


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="nbhelpers-animation-") as folder:
        photo = ROOT / "sample_images" / "cat.jpg"
        command = [sys.executable, "-m", "nbhelpers", "explore", str(photo), "--no-browser", "--results", folder]
        log = Path(folder) / "log"
        with log.open("w") as lines:
            app = subprocess.Popen(command, stdout=lines, stderr=lines, cwd=folder)
        try:
            frames = record(address(app, log))
        finally:
            app.terminate()
            app.wait()
    durations = [260 if index % 2 else 1700 for index in range(len(frames))]
    with edge.replacing(TARGET) as temporary:
        frames[0].save(
            temporary, save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=72, method=6
        )
    print(f"{TARGET.relative_to(ROOT)}: {len(frames)} pictures, {TARGET.stat().st_size / 1e6:.2f} MB")


def address(app: subprocess.Popen, log: Path) -> str:
    """What the app says of where it is, token and all."""
    for _ in range(600):
        if found := re.search(r"http://127\.0\.0\.1\S+", log.read_text()):
            return found[0]
        if app.poll() is not None:
            break
        time.sleep(0.5)
    raise RuntimeError(f"the app did not start:\n{log.read_text()[-2000:]}")


def record(where: str) -> list[Image.Image]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, device_scale_factor=1.5)
        page.goto(where, timeout=PATIENCE)
        photo = page.locator(".nbhelpers-frame").first
        photo.wait_for(timeout=PATIENCE)
        settle(page)
        box = photo.bounding_box()
        rows = page.locator(".nbhelpers-channels").bounding_box()
        left, bottom = box["x"] - 8, max(rows["y"] + rows["height"], box["y"] + box["height"]) + 48
        seen = {"x": left, "y": 0, "width": SIZE[0] - left, "height": bottom}
        frames = [picture(page, seen)]
        for across, down in STOPS:
            at = {"x": box["width"] * across, "y": box["height"] * down}
            frames.append(pointed(frames[-1], box["x"] + at["x"] - left, box["y"] + at["y"], SHOWN / seen["width"]))
            photo.click(position=at)
            page.wait_for_timeout(1500)
            settle(page)
            frames.append(picture(page, seen))
        browser.close()
    return frames


def settle(page: Page) -> None:
    """Waits until every channel in the list has its picture."""
    page.wait_for_function(
        """() => { const rows = [...document.querySelectorAll('.nbhelpers-channel')];
        return rows.length > 2 && rows.every(row => row.querySelector('img[src^=data]')); }""",
        timeout=PATIENCE,
    )
    page.wait_for_timeout(1500)


def picture(page: Page, seen: dict[str, float]) -> Image.Image:
    shot = Image.open(io.BytesIO(page.screenshot(clip=seen))).convert("RGB")
    return shot.resize((SHOWN, SHOWN * shot.height // shot.width), Image.Resampling.LANCZOS)


def pointed(frame: Image.Image, x: float, y: float, scale: float) -> Image.Image:
    """The picture with a ring where the next click goes."""
    copy, x, y = frame.copy(), x * scale, y * scale
    draw = ImageDraw.Draw(copy)
    for radius, colour in ((15, "black"), (13, "white"), (10, "#e4572e")):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=3)
    return copy


if __name__ == "__main__":
    main()
