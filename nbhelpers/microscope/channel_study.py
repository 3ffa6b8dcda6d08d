"""One channel under the microscope, as a recipe: its pictures, and the photos that they are held against."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from nbhelpers.ascent import Step
from nbhelpers.directions import photographs
from nbhelpers.recipes import Field, NetworkName, Recipe
from nbhelpers.techniques.activation_maximization import ActivationMaximization


class ChannelStudy(Recipe):
    """One channel: four made pictures, photos, the two-choice test, labels, a circuit (Borowski et al. 2021)."""

    network: NetworkName = Field("minivgg_robust", description="a bundled network or any torchvision classifier")
    layer: str = Field("block4.conv1", description="dotted name of a convolution, best before its ReLU")
    channel: int = Field(18, ge=0, description="the feature map to look at")
    photos: str = Field("../sample_images", description="a folder of photos, or a data folder such as Tiny-ImageNet")
    limit: int = Field(5000, ge=40, le=100_000, description="most pictures to look at")
    cuts: int = Field(24, ge=1, le=500, description="random squares from each photo of a folder")
    size: int = Field(64, ge=16, le=512, description="side of photos and made pictures in pixels")
    asked: int = Field(10, ge=1, le=100, description="questions of the game")
    steps: int = Field(24, ge=1, le=1000, description="steps of Adam of a made picture")
    diversity: float = Field(1, ge=0, le=100, description="weight of being unlike the other made pictures")
    seed: int = Field(0, ge=0, description="of squares, questions, pictures and the re-initialised network")

    def scored(self) -> str:
        return self.pictures().scored()

    def iterate(self, network: nn.Module | None = None) -> Iterator[Step]:
        """Climb to four pictures of the channel, yielding every step.

        Raises:
            FileNotFoundError, ValueError: no photo can be read: known now rather than when they are needed. And as
            `ActivationMaximization`.
        """
        photographs.read(self.photos, self.size, self.limit, 1, self.seed)
        yield from self.pictures().iterate(network)

    def pictures(self) -> ActivationMaximization:
        """The recipe of the made pictures alone."""
        same = {name: getattr(self, name) for name in ("network", "layer", "size", "steps", "diversity", "seed")}
        return ActivationMaximization(**same, channels=[self.channel] * 4, rounds=1)
