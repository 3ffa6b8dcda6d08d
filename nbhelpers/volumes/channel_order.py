"""Channels in the order in which they are stacked to a volume: applied to maps, saved, read again.

An order found on one photo can be applied to another photo's maps, so that two volumes can be compared channel by
channel. How orders are found is in `nbhelpers.volumes.ordering`.
"""

import json
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
from jaxtyping import Float, Real
from torch import Tensor

from nbhelpers import edge
from nbhelpers.volumes.files import finite


@dataclass
class Order:
    """Channels in the order in which they are stacked.

    Attributes:
        method: how it was found.
        channels: every channel once.
        groups: size of each group of neighbours that belong together, in order; one group unless clustered.
        about: where it comes from, such as the layer and the photo.
    """

    method: str
    channels: list[int]
    groups: list[int] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sorted(self.channels) != list(range(len(self.channels))):
            raise ValueError(f"an order names every channel from 0 to {len(self.channels) - 1} once")
        self.groups = self.groups or [len(self.channels)]
        if sum(self.groups) != len(self.channels) or min(self.groups) < 1:
            raise ValueError(f"groups of {self.groups} do not add up to {len(self.channels)} channels")

    def stack(self, maps: Real[Tensor | np.ndarray, "..."], gap: int = 0) -> Float[np.ndarray, "depth height width"]:
        """The maps in this order, `gap` empty ones between groups.

        Args:
            maps: `(C, H, W)`, of the same layer, of this photo or another.
            gap: empty maps between two groups, filled with the least value.

        Returns:
            `(C + gaps, H, W)`, float64.

        Raises:
            ValueError: another number of maps than the order has channels.
        """
        array = finite(maps)
        if len(array) != len(self.channels):
            where = f" (of {self.about['layer']})" if "layer" in self.about else ""
            raise ValueError(f"{len(array)} maps, but the order{where} has {len(self.channels)} channels")
        empty = np.full_like(array[:1], array.min())
        places = self.places(gap)
        return np.stack([array[place] if place is not None else empty[0] for place in places])

    def places(self, gap: int = 0) -> list[int | None]:
        """The channel at each depth of the volume; None in the gaps."""
        found: list[int | None] = []
        begin = 0
        for size in self.groups:
            found += ([None] * gap if begin else []) + self.channels[begin : begin + size]
            begin += size
        return found

    def save(self, path: str | PathLike) -> None:
        """Write the order as JSON, whole or not at all."""
        with edge.replacing(Path(path).expanduser()) as temporary:
            temporary.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | PathLike) -> "Order":
        """Read an order that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file. ValueError: it holds no order.
        """
        path = edge.existing_file(path)
        with edge.understood(path, "an order of channels", "Write one with Order.save"):
            return cls(**json.loads(path.read_text(encoding="utf-8")))
