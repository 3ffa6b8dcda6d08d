"""A picture in a page: it fills its room, a click enlarges it, and it says in words what it shows.

The widget of ipywidgets has no alternative text and hears no click. This one also tells where it was pointed at, hands
a file to the browser, and puts a text on the clipboard.
"""

from pathlib import Path

import anywidget
import traitlets
from PIL import Image

from nbhelpers.images import figures


class Picture(anywidget.AnyWidget):
    """A picture; with `picks`, a click or the arrow keys choose a place of it instead of enlarging it."""

    _esm = Path(__file__).parent / "picture.js"
    _css = Path(__file__).parent / "controls.css"

    value = traitlets.Bytes(b"", help="the picture as a PNG file").tag(sync=True)
    text = traitlets.Unicode("", help="what it shows, for those who do not see it").tag(sync=True)
    stale = traitlets.Bool(False, help="it belongs to earlier settings").tag(sync=True)
    picks = traitlets.Bool(False, help="whether a click chooses a place").tag(sync=True)
    place = traitlets.List([0.5, 0.5], help="chosen place: share of the height and of the width").tag(sync=True)

    def show(self, image: Image.Image, text: str) -> None:
        """Show another picture."""
        self.value, self.text, self.stale = figures.png(image), text, False

    def download(self, name: str, content: bytes) -> None:
        """Let the browser save a file."""
        self.send({"download": name}, buffers=[content])

    def copy_text(self, text: str) -> None:
        """Put a text on the clipboard, where the browser allows it."""
        self.send({"copy": text})
