"""The channels that answer at a place, each with its made picture and two bars: a list to hover over and click."""

from collections.abc import Callable, Sequence
from pathlib import Path

import anywidget
import traitlets
from PIL import Image

from nbhelpers.images import figures
from nbhelpers.techniques.semantic_dictionary import Answer


class ChannelList(anywidget.AnyWidget):
    """Rows of channels; `seen` is called with the channel under the pointer or the focus (None: no longer)."""

    _esm = Path(__file__).parent / "channel_list.js"
    _css = Path(__file__).parent / "channel_list.css"

    rows = traitlets.List(help="channel, strength, share of each").tag(sync=True)
    pictures = traitlets.Dict(help="made picture of each channel, as an address of data").tag(sync=True)

    def __init__(self, seen: Callable[[int | None], None], opened: Callable[[int], None]) -> None:
        super().__init__()
        self._seen, self._opened = seen, opened
        self.on_msg(self._hear)

    def show(self, answers: Sequence[Answer], same_layer: bool = True) -> None:
        """Other channels; the pictures of those that stay are kept, if they are of the same layer as before."""
        wanted = {str(answer.channel) for answer in answers} if same_layer else set()
        self.pictures = {channel: picture for channel, picture in self.pictures.items() if channel in wanted}
        self.rows = [vars(answer) for answer in answers]

    def add_picture(self, channel: int, picture: Image.Image) -> None:
        """Show a channel's picture, now that it is there."""
        self.pictures = {**self.pictures, str(channel): figures.address(picture)}

    def _hear(self, widget: "ChannelList", message: dict, buffers: list) -> None:
        if "seen" in message:
            self._seen(message["seen"])
        if "opened" in message:
            self._opened(message["opened"])
