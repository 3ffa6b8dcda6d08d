"""A notebook in JupyterLab in a browser, as a reader has it, for tests to work with.

The server, its settings and its kernels live in a folder of the test's own, and end with the `with` block.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    *["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
    *["--ignore-gpu-blocklist", "--disable-background-networking"],
]
PATIENCE = 100_000  # milliseconds for any one thing to happen; busy machines are slow, not broken
PICTURE = "img.nbhelpers-picture"

# What JupyterLab itself writes to the console without anything being wrong.
HARMLESS = [
    r"^Failed to load resource: the server responded with a status of 404 .*/api/workspaces",  # none saved yet
]

ERROR_OUTPUT = '[data-mime-type="application/vnd.jupyter.stderr"]'  # exceptions, too, are rendered as that
ALL_PROMPTS = """(pattern) => [...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')]
    .every((prompt) => new RegExp(pattern).test(prompt.textContent))"""

PICTURE_BYTES = """async (selector) => {
    const blob = await (await fetch(document.querySelector(selector).src)).blob();
    return await new Promise((done) => {
        const reader = new FileReader();
        reader.onload = () => done(reader.result);
        reader.readAsDataURL(blob);
    });
}"""


def needed() -> tuple[object, str]:
    """Playwright's entry point and a browser's path; the test is skipped where one of them is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is installed")
    return playwright.sync_playwright, browser


@contextmanager
def jupyter_lab(work: Path, scratch: Path) -> Iterator[str]:
    """JupyterLab on the folder `work`, everything of its own under `scratch`; its address."""
    settings = scratch / "config" / "labconfig"
    settings.mkdir(parents=True)
    announcements = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (settings / "page_config.json").write_text(json.dumps(announcements))
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(scratch / "config"),
        "JUPYTER_DATA_DIR": str(scratch / "data"),
        "JUPYTER_RUNTIME_DIR": str(scratch / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(scratch / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(scratch / "workspaces"),
        "IPYTHONDIR": str(scratch / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "NBHELPERS_RESULTS": str(scratch / "results"),
    }
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=18888", "--ServerApp.port_retries=200"]
    open_door = ["--IdentityProvider.token=", "--PasswordIdentityProvider.password_required=False"]
    log = scratch / "server.log"
    with log.open("w") as lines:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", str(work), *options, *open_door],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=subprocess.STDOUT,
        )
        try:
            yield _address(server, scratch / "runtime", log)
        finally:
            server.terminate()  # it ends its kernels first
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()  # kernels end themselves when their parent is gone
                server.wait()


def _address(server: subprocess.Popen, runtime: Path, log: Path) -> str:
    """The address the server says it listens on, once it answers."""
    until = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < until:
        if server.poll() is not None:
            break
        for note in runtime.glob("jpserver-*.json"):
            if "is running at" in log.read_text():
                return json.loads(note.read_text())["url"]
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab does not start:\n{log.read_text()}")


class NotebookPage:
    """A notebook open in a browser: runs it, moves its sliders by keyboard, and hears every complaint."""

    def __init__(self, page, address: str, notebook: str) -> None:
        from playwright.sync_api import TimeoutError as timeout_error

        self.page = page
        self.timeout_error = timeout_error
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        page.on("console", self._hear)
        page.goto(f"{address}lab/tree/{notebook}")
        page.locator(".jp-NotebookPanel .jp-CodeCell").first.wait_for()
        page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()
        self._until(
            lambda: any(
                kernel["connections"] > 0 and kernel["execution_state"] == "idle"
                for kernel in page.request.get(f"{address}api/kernels").json()
            )
        )

    def _hear(self, message) -> None:
        text = f"{message.text} {message.location.get('url', '')}"
        if message.type == "error" and not any(re.search(each, text) for each in HARMLESS):
            self.complaints.append(f"console: {text}")

    def run_all(self) -> None:
        """Run every cell from the menu, and wait for the last one."""
        for _ in range(5):
            self.page.get_by_role("menuitem", name="Run", exact=True).click()
            self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            try:
                self.page.wait_for_function(ALL_PROMPTS, arg=r"\[[\d*]+\]", timeout=10_000)
                break
            except self.timeout_error:
                pass  # JupyterLab drops what is asked while its kernel is coming up: ask again
        failed = f"document.querySelector('{ERROR_OUTPUT}') !== null"
        try:
            self.page.wait_for_function(f"(pattern) => {failed} || ({ALL_PROMPTS})(pattern)", arg=r"\[\d+\]")
        except self.timeout_error:
            prompts = self.page.locator(".jp-CodeCell .jp-InputArea-prompt").all_text_contents()
            raise AssertionError(f"the notebook does not finish: {prompts}, {self.errors()}") from None
        assert not self.errors(), self.errors()

    def slider(self, label: str):
        """What takes the arrow keys of the slider with this label."""
        row = self.page.locator(".widget-inline-hbox", has=self.page.get_by_text(label, exact=True))
        return row.locator(".noUi-handle")

    def press(self, label: str, *keys: str) -> None:
        """Focus a slider and press keys on it."""
        handle = self.slider(label)
        handle.scroll_into_view_if_needed()
        handle.focus()
        for key in keys:
            handle.press(key)

    def status(self) -> str:
        """The line beside the progress bar."""
        return self.page.locator(".nbhelpers-status").text_content().strip()

    def await_status(self, pattern: str) -> str:
        """Wait until the status line matches; the line."""
        self.page.wait_for_function(
            "(pattern) => new RegExp(pattern).test(document.querySelector('.nbhelpers-status').textContent.trim())",
            arg=pattern,
        )
        return self.status()

    def picture(self) -> str:
        """The picture's bytes, as a data address."""
        return self.page.evaluate(PICTURE_BYTES, PICTURE)

    def await_other_picture(self, before: str) -> str:
        """Wait until a run has ended with another picture than `before`; its bytes."""
        self._until(lambda: self.picture() != before)
        self.await_status("^done")
        return self.picture()

    def await_picture(self, expected: str) -> None:
        """Wait until these very bytes are shown."""
        self._until(lambda: self.picture() == expected)

    def _until(self, holds) -> None:
        """Ask again and again; Playwright's own wait takes an asynchronous question's promise for a yes."""
        until = time.monotonic() + PATIENCE / 1000
        while not holds():
            assert time.monotonic() < until, f"still waiting, status: {self.status()!r}"
            self.page.wait_for_timeout(50)

    def errors(self) -> list[str]:
        """Everything on the page or in its console that says something went wrong."""
        shown = self.page.locator(
            f"{ERROR_OUTPUT}, .jp-Dialog, .Toastify__toast--error, .jupyter-widgets-error-widget, "
            ".nbhelpers-status .nbhelpers-error"
        )
        said = [text for text in ("Error displaying widget", "Traceback") if self.page.get_by_text(text).count()]
        return [*self.complaints, *shown.all_text_contents(), *said]
