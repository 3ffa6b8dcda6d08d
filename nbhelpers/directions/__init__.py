"""Directions that are found in data: what a layer tells apart, beyond its single channels.

`photographs` reads photos and collects what a layer gives at places in them; `activation_atlas` lays thousands of such
places out on a map, each part of it drawn; `concepts` takes them apart into a few directions that add up. Both draw
with `techniques.direction_pictures`, so this room lies above the techniques.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "activation_atlas",
        "atlas_checks",
        "atlas_page",
        "atlas_sheet",
        "concepts",
        "dictionaries",
        "drawing",
        "examples",
        "importance",
        "layouts",
        "photographs",
        "tables",
    ],
)
