"""Pages for folders of pictures, and a picture made again from the recipe inside it."""

from nbhelpers.gallery.page import write
from nbhelpers.gallery.replaying import Replayed, replay
from nbhelpers.gallery.sheets import Sheet

__all__ = ["Replayed", "Sheet", "replay", "write"]
