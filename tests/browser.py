"""Pages in a real browser, for tests to work with: from a disk, from JupyterLab, from the explorer's app.

A browser is opened in one place (`chromium`), and so is a page (`page`), which must end without a complaint. Servers,
their settings and their kernels live in a folder of the test's own, and end with the `with` block.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    *["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
    *["--ignore-gpu-blocklist", "--disable-background-networking"],
    *["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],  # a camera that shows a test picture
]
PATIENCE = 100_000  # milliseconds for any one thing to happen; busy machines are slow, not broken
PICTURE = "img.nbhelpers-picture"
HERE = ("file:", "data:", "blob:", "http://127.0.0.1:")

# What JupyterLab itself writes to the console without anything being wrong.
HARMLESS = r"the server responded with a status of 404 .*/api/workspaces"  # none saved yet

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


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where there is none, or no Playwright.

    While it is open, an event loop runs in this thread: a session must not keep one, or others find theirs taken.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as driver:
        window = driver.chromium.launch(executable_path=executable, args=FLAGS)
        yield window
        window.close()


@contextmanager
def page(
    window: Any, address: str, width: int = 1280, height: int = 720, harmless: str | None = None, **options: Any
) -> Iterator[Any]:
    """A page at an address, as somebody new to it sees it; `options` are those of Playwright's `new_context`.

    At the end there may be no error in its console but those that match `harmless`, and nothing may have been asked
    for from another machine.
    """
    context = window.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
    page.on("console", lambda said: complaints.append(_line(said)) if said.type == "error" else None)
    page.on("request", lambda asked: None if asked.url.startswith(HERE) else complaints.append(f"asked: {asked.url}"))
    try:
        page.goto(address)
        yield page
        complaints = [each for each in complaints if harmless is None or not re.search(harmless, each)]
        assert complaints == [], complaints
    finally:
        context.close()


class Held(NamedTuple):
    """What a page holds on to: its objects in memory, in MB, elements and listeners."""

    megabytes: float
    nodes: int
    listeners: int


def held(page: Any) -> Held:
    """What a page still holds after its garbage was collected."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    for _ in range(3):  # what one collection frees may free more
        session.send("HeapProfiler.collectGarbage")
        page.wait_for_timeout(300)
    found = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    session.detach()
    return Held(found["JSHeapUsedSize"] / 1e6, int(found["Nodes"]), int(found["JSEventListeners"]))


def _line(said: Any) -> str:
    """A line of the console, and the address that it is about."""
    return f"console: {said.text} {said.location.get('url', '')}"


@contextmanager
def served(command: list[str], says: str, log: Path, environment: dict[str, str]) -> Iterator[str]:
    """A server, and its address: the first text in what it says that matches the pattern `says`."""
    with log.open("w") as lines:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=os.environ | environment | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=subprocess.STDOUT,
        )
    try:
        until = time.monotonic() + PATIENCE / 1000
        while (address := re.search(says, log.read_text())) is None or not _listens(address[0]):
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} does not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield address[0]
    finally:
        server.terminate()  # it ends its kernels first
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()  # kernels end themselves when their parent is gone
            server.wait()


def _listens(address: str) -> bool:
    """Whether a server is there: some say that they run a moment before they do."""
    where = urllib.parse.urlsplit(address)
    try:
        socket.create_connection((where.hostname, where.port)).close()
    except OSError:
        return False
    return True


def explorer_app(scratch: Path, *options: str) -> Any:
    """`nbhelpers explore`, everything of its own under `scratch`: a context that gives its address, token and all."""
    pytest.importorskip("voila", reason="needs the package voila")
    command = ["nbhelpers", "explore", *options, "--no-browser", "--port", "18990"]
    return served(
        [*command, "--results", str(scratch / "results")],
        r"http://127\.0\.0\.1:\d+/\?token=\w+",
        scratch / "app.log",
        {"IPYTHONDIR": str(scratch / "ipython")},
    )


def jupyter_lab(work: Path, scratch: Path) -> Any:
    """JupyterLab on the folder `work`, everything of its own under `scratch`: a context that gives its address.

    It is dark, as the explorer's app is light: what is tested in both is seen in both themes.
    """
    settings = scratch / "config" / "labconfig"
    settings.mkdir(parents=True)
    announcements = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (settings / "page_config.json").write_text(json.dumps(announcements))
    themes = scratch / "settings" / "@jupyterlab" / "apputils-extension" / "themes.jupyterlab-settings"
    themes.parent.mkdir(parents=True)
    themes.write_text(json.dumps({"theme": "JupyterLab Dark"}))
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=18888", "--ServerApp.port_retries=200"]
    open_door = ["--IdentityProvider.token=", "--PasswordIdentityProvider.password_required=False"]
    open_door += ["--ServerApp.disable_check_xsrf=True"]
    environment = {
        "JUPYTER_CONFIG_DIR": str(scratch / "config"),
        "JUPYTER_DATA_DIR": str(scratch / "data"),
        "JUPYTER_RUNTIME_DIR": str(scratch / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(scratch / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(scratch / "workspaces"),
        "IPYTHONDIR": str(scratch / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "NBHELPERS_RESULTS": str(scratch / "results"),
    }
    says = r"http://127\.0\.0\.1:\d+/(?=lab)"
    return served(["jupyterlab", str(work), *options, *open_door], says, scratch / "server.log", environment)


@contextmanager
def notebook(window: Any, lab: str, name: str, **options: Any) -> Iterator["NotebookPage"]:
    """A notebook of the server's open in JupyterLab, ready to run, on the one kernel that all notebooks of it share.

    Each has a workspace of its own: in a workspace that was in use, JupyterLab opens what was open there as well, and
    asks which kernel it is to have.
    """
    kernels = json.load(urllib.request.urlopen(f"{lab}api/kernels"))
    kernel = {"id": kernels[0]["id"]} if kernels else {"name": "python3"}
    session = {"path": name, "name": name, "type": "notebook", "kernel": kernel}
    asked = urllib.request.Request(f"{lab}api/sessions", json.dumps(session).encode(), method="POST")
    urllib.request.urlopen(asked).close()  # the kernel comes up while the page does
    with page(window, f"{lab}lab/workspaces/{Path(name).stem}/tree/{name}", harmless=HARMLESS, **options) as opened:
        yield NotebookPage(opened, lab)


class NotebookPage:
    """A notebook open in a browser: runs it, and moves the sliders of its first player by keyboard."""

    def __init__(self, page: Any, lab: str) -> None:
        from playwright.sync_api import TimeoutError as timeout_error

        self.page = page
        self.player = page.locator(".nbhelpers-player").first
        self.timeout_error = timeout_error
        page.locator(".jp-NotebookPanel .jp-CodeCell").first.wait_for()
        page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for(state="attached")
        self._until(
            lambda: any(
                kernel["connections"] > 0 and kernel["execution_state"] == "idle"
                for kernel in page.request.get(f"{lab}api/kernels").json()
            )
        )

    def run_all(self) -> None:
        """Run every cell from the menu, and wait for the last one."""
        self.start()
        self.finish()

    def start(self) -> None:
        """Run every cell from the menu, until the first one does."""
        for _ in range(5):
            self.page.get_by_role("menuitem", name="Run", exact=True).click()
            self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            try:
                self.page.wait_for_function(ALL_PROMPTS, arg=r"\[[\d*]+\]", timeout=10_000)
                break
            except self.timeout_error:
                pass  # JupyterLab drops what is asked while its kernel is coming up: ask again

    def finish(self) -> None:
        """Wait until the last cell has run."""
        failed = f"document.querySelector('{ERROR_OUTPUT}') !== null"
        try:
            self.page.wait_for_function(f"(pattern) => {failed} || ({ALL_PROMPTS})(pattern)", arg=r"\[\d+\]")
        except self.timeout_error:
            prompts = self.page.locator(".jp-CodeCell .jp-InputArea-prompt").all_text_contents()
            raise AssertionError(f"the notebook does not finish: {prompts}, {self.errors()}") from None
        assert not self.errors(), self.errors()

    def slider(self, label: str):
        """What takes the arrow keys of the slider with this label."""
        row = self.player.locator(".widget-inline-hbox", has=self.page.get_by_text(label, exact=True))
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
        return self.player.locator(".nbhelpers-status").text_content().strip()

    def await_status(self, pattern: str) -> str:
        """Wait until the status line matches; the line."""
        self.page.wait_for_function(
            "(pattern) => new RegExp(pattern).test(document.querySelector('.nbhelpers-status')?.textContent.trim())",
            arg=pattern,
        )
        return self.status()

    def picture(self) -> str:
        """The picture's bytes, as a data address."""
        return self.page.evaluate(PICTURE_BYTES, PICTURE)

    def await_change(self, before: str) -> None:
        """Wait until another picture than `before` is shown."""
        self._until(lambda: self.picture() != before)

    def await_other_picture(self, before: str) -> str:
        """Wait until a run has ended with another picture than `before`; its bytes."""
        self.await_change(before)
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
        """Everything on the page that says something went wrong."""
        shown = self.page.locator(
            f"{ERROR_OUTPUT}, .jp-Dialog, .Toastify__toast--error, .jupyter-widgets-error-widget, "
            ".nbhelpers-status .nbhelpers-error"
        )
        said = [text for text in ("Error displaying widget", "Traceback") if self.page.get_by_text(text).count()]
        return [*shown.all_text_contents(), *said]
