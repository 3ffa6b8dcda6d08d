"""A photo chosen by eye: thumbnails of a folder, a file of one's own, dropped, pasted, or taken with the camera.

What is uploaded goes to the kernel alone, into a folder that is gone when Python ends, and is read by the same decoder
as every other photo: the same limits, the same words for what is wrong.
"""

import atexit
import contextlib
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from nbhelpers import images
from nbhelpers.images import figures

SIDE = 56  # pixels of a thumbnail
MOST = 60  # photos of a folder that are offered


class PhotoPicker(anywidget.AnyWidget):
    """A path to a photo in `value`, as a text to type and pictures to choose from."""

    _esm = Path(__file__).parent / "photo_picker.js"
    _css = Path(__file__).parent / "photo_picker.css"

    value = traitlets.Unicode("", help="path of the chosen photo or folder").tag(sync=True)
    description = traitlets.Unicode("photo").tag(sync=True)
    tooltip = traitlets.Unicode("").tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)
    complaint = traitlets.Unicode("", help="why an upload was refused").tag(sync=True)
    live = traitlets.Bool(False, help="whether the camera can be watched live").tag(sync=True)
    offered = traitlets.List(help="path, name and thumbnail of each photo to choose from").tag(sync=True)

    def __init__(self, value: str = "", folder: str | Path | None = None, **traits: Any) -> None:
        super().__init__(value=value, **traits)
        self._uploads = self._frames = 0
        self._watch: Callable[[str], None] | None = None
        self.offered = _offers(_beside(Path(folder) if folder else Path(value)))
        self.on_msg(self._hear)

    def take(self, name: str, content: bytes) -> None:
        """A photo from the reader: chosen if it can be read, refused in words if not."""
        self._uploads += 1
        path = _uploaded() / f"{self._uploads}-{Path(name).name or 'photo.png'}"
        path.write_bytes(content)
        try:
            images.read(path)
            self.offered = [*self.offered, *_offers([path])]
        except ValueError as error:
            self.complaint = str(error).replace(str(path), name)
            path.unlink()
            return
        self.complaint, self.value = "", str(path)

    def watch(self, see: Callable[[str], None]) -> None:
        """Offer the camera live: `see` is called with the path of each frame, and asks for the next (`ask_frame`)."""
        self._watch, self.live = see, True

    def ask_frame(self) -> None:
        """The last frame was seen; the next one, please."""
        self.send({"next": True})

    def _take_frame(self, content: bytes) -> None:
        """Two files take turns, so that one can be read while the next is written."""
        self._frames += 1
        path = _uploaded() / f"live-{id(self)}-{self._frames % 2}.jpg"
        path.write_bytes(content)
        self._watch(str(path))

    def _hear(self, widget: Any, message: dict[str, Any], buffers: list[Any]) -> None:
        if "upload" in message:
            self.take(message["upload"], bytes(buffers[0]))
        if "frame" in message and self._watch is not None:
            self._take_frame(bytes(buffers[0]))


def _beside(path: Path) -> list[Path]:
    """The photos of a folder, or those beside a photo; none where there is no such place."""
    if not path.name or not path.exists():
        return []
    try:
        return list(images.files_in(path if path.is_dir() else path.parent).values())[:MOST]
    except ValueError:  # it holds none
        return []


def _offers(paths: list[Path]) -> list[dict[str, str]]:
    """Path, name and thumbnail of every photo that can be read."""
    found = []
    for path in paths:
        with contextlib.suppress(ValueError):
            picture, _, _ = images.thumbnail(path, SIDE)
            found.append({"path": str(path), "name": path.name, "thumbnail": figures.address(picture)})
    return found


@cache
def _uploaded() -> Path:
    """Where photos of the reader's lie; gone when Python ends."""
    folder = tempfile.mkdtemp(prefix="nbhelpers-photos-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
