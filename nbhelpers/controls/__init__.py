"""Sliders and players: the only room that knows widgets, besides the viewer of volumes."""

from nbhelpers.controls.player import draw_tiles, play, watch

__all__ = [
    "draw_tiles",
    "play",
    "watch",
]
