"""Sliders and players: the only room that knows widgets, besides the viewer of volumes."""

from nbhelpers.controls.explorer import explore
from nbhelpers.controls.guessing import guess
from nbhelpers.controls.picture_cache import PictureCache, channel_direction
from nbhelpers.controls.player import draw_tiles, play, watch

__all__ = [
    "PictureCache",
    "channel_direction",
    "draw_tiles",
    "explore",
    "guess",
    "play",
    "watch",
]
