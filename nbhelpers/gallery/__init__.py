"""Pages for folders of pictures, and a picture made again from the recipe inside it."""

from nbhelpers.gallery.page import write
from nbhelpers.gallery.replaying import Replayed, replay

__all__ = ["Replayed", "replay", "write"]
