"""Made pictures of a layer's directions: drawn once, kept in a folder, found again by recipe and weights.

A file is named by the recipe of its direction alone, below a fingerprint of the network's weights: the same name with
other weights in it (an untrained copy, a network that was tuned) has pictures of its own. Each holds the recipe of the
batch that it was drawn in.
"""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from nbhelpers import images
from nbhelpers.models import Network
from nbhelpers.techniques import direction_pictures
from nbhelpers.techniques.direction_pictures import DirectionPictures
from nbhelpers.training import fingerprints

TOGETHER = 2  # pictures in one batch, so that the first is there soon


class PictureCache:
    """Pictures of directions of one layer.

    Args:
        folder: where they are kept, in `pictures/` below it.
        network: whose layer it is.
        manner: how they are drawn; its directions do not matter.
    """

    def __init__(self, folder: str | Path, network: Network, manner: DirectionPictures) -> None:
        self._network, self._manner = network, manner
        name = f"{network.name.replace('/', '-')}-{fingerprints.fingerprint(network)}"
        self._folder = Path(folder) / "pictures" / name

    def path(self, direction: list[float]) -> Path:
        """Where the picture of a direction is kept."""
        return self._folder / f"{self._manner.changed(directions=[direction]).slug}-{self._manner.layer}.png"

    def get(self, direction: list[float]) -> Float[Tensor, "3 height width"] | None:
        """The picture, if it is there; a damaged file counts as none."""
        path = self.path(direction)
        try:
            return images.read(path) if path.is_file() else None
        except ValueError:
            return None

    def draw(
        self, directions: list[list[float]], enough: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[int, Float[Tensor, "3 height width"]]]:
        """Number and picture of each direction: those that are kept first, the others as they are drawn.

        Args:
            directions: as `direction_pictures.rounded` gives them.
            enough: asked before each batch; ends the drawing.
        """
        missing = []
        for index, direction in enumerate(directions):
            picture = self.get(direction)
            if picture is None:
                missing.append(index)
            else:
                yield index, picture
        for start in range(0, len(missing), TOGETHER):
            if enough():
                return
            some = missing[start : start + TOGETHER]
            batch = self._manner.changed(directions=[directions[index] for index in some])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what nothing excites leaves a grey picture, which shows it
                pictures = batch.run(self._network).picture.cpu()
            for number, (index, picture) in enumerate(zip(some, pictures, strict=True)):
                document = batch.document() | {"index": number}
                images.save(picture, self.path(directions[index]), recipe=document)
                yield index, picture


def channel_direction(channel: int, channels: int) -> list[float]:
    """The direction of one channel among all."""
    return direction_pictures.rounded(torch.eye(channels)[channel : channel + 1])[0]
