"""Sliders, players, the explorer and the volume that turns: the only room that knows widgets."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "atlas_view": ["walk"],
        "explorer": ["explore"],
        "guessing": ["guess"],
        "picture_cache": ["PictureCache", "channel_direction"],
        "player": ["draw_tiles", "play", "watch"],
        "volume_viewer": ["view"],
    },
)
