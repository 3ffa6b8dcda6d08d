"""Feature maps as a solid: the channels of a layer, in an order that means something, as depth.

`volumes.save` and `volumes.load` know the files of 3D Slicer and ParaView. Two modules are for everybody: `ordering`
(which channel beside which) and `rendering` (pictures of a volume). The one that turns is `controls.view`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["ordering", "rendering"],
    submod_attrs={"channel_order": ["Order"], "files": ["finite", "load", "save", "to_bytes"]},
)
