"""Feature maps as a solid: the channels of a layer, in an order that means something, as depth.

`volumes.save` and `volumes.load` know the files of 3D Slicer and ParaView. Three modules are for everybody: `ordering`
(which channel beside which), `rendering` (pictures of a volume), `viewer` (the one that turns, in a notebook).
"""

from nbhelpers.volumes.channel_order import Order
from nbhelpers.volumes.files import finite, load, save, to_bytes

__all__ = ["Order", "finite", "load", "ordering", "rendering", "save", "to_bytes", "viewer"]
