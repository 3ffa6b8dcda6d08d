"""Feature maps as a solid: the channels of a layer, in an order that means something, as depth.

`volumes.save` and `volumes.load` know the files of 3D Slicer and ParaView. Three modules are for everybody: `ordering`
(which channel beside which), `rendering` (pictures of a volume), `viewer` (the one that turns, in a notebook).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["ordering", "rendering", "viewer"],
    submod_attrs={"channel_order": ["Order"], "files": ["finite", "load", "save", "to_bytes"]},
)
