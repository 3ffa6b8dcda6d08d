"""Testing an interpretation: does the channel fire for what its picture seems to show?

Someone looks at a channel's picture and says "bricks". The bare rule takes a photo of bricks, ranks all channels of
the layer by mean activation, and calls the interpretation supported if the channel is among the `top` ones. It leaves
out three things, which stand beside it here: how often a channel gets there by chance, whether this photo excites
the channel more than other photos do (some channels are always near the top), and what an untrained network says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from nbhelpers import edge, images, models
from nbhelpers.images import figures
from nbhelpers.recipes import Field, NetworkName, PhotoFit, PictureSize, Recipe

BATCH = 16  # photos in memory


class InterpretationTest(Recipe):
    """Ranks a channel among its layer's channels for a photo, and that photo among the others for the channel."""

    unsaid: ClassVar[dict[str, Any]] = {"fit": "crop"}

    network: NetworkName = Field("minivgg_robust", description="a bundled network or any torchvision classifier")
    layer: str = Field("block4.conv1", description="dotted name of the layer")
    channel: int = Field(200, ge=0, description="the feature map whose picture was interpreted")
    photos: str = Field("../sample_images", description="a folder of photos, or one photo")
    photo: str = Field("coffee.jpg", description="the photo that shows the interpretation; empty: the first one")
    top: int = Field(15, ge=1, le=100, description="the channel must be among this many strongest")
    size: PictureSize = Field(128, description="shorter side of the photos in pixels, or (height, width)")
    fit: PhotoFit = "whole"
    seed: int = Field(0, ge=0, description="of the re-initialised network")

    def scored(self) -> str:
        return "mean activation for this photo"

    def iterate(self, network: nn.Module | None = None) -> Iterator[Evidence]:
        """Weigh the evidence; one step."""
        yield weigh(self, network)


@dataclass
class Evidence:
    """What the photos say about a channel.

    Attributes:
        names: of the photos.
        picture: the photo under test, `(1, 3, H, W)`.
        skipped: files that are no readable photos, with the reason.
        activations: mean activation of every channel for every photo, `(N, C)`.
        random_activations: the same in the re-initialised network.
        channel, top, chosen: the channel, the rule's number, and the index of the photo under test.
    """

    names: list[str]
    picture: Float[Tensor, "1 3 height width"]
    skipped: dict[str, str]
    activations: Float[Tensor, "photos channels"]
    random_activations: Float[Tensor, "photos channels"]
    channel: int
    top: int
    chosen: int
    index: int = 1
    total: int = 1

    @property
    def scores(self) -> Float[Tensor, "1"]:
        """Mean activation of the channel for the photo under test, `(1,)`."""
        return self.activations[self.chosen, self.channel][None]

    def report(self) -> list[str]:
        """The evidence in a few sentences."""
        ranks, percentiles = rank(self.activations, self.channel), percentile(self.activations, self.channel)
        channels, photo = self.activations.shape[1], self.names[self.chosen]
        place, chance = ranks[self.chosen], min(1.0, self.top / channels)
        verdict = "supported" if place <= self.top else "not supported"
        lines = [
            f"{photo}: channel {self.channel} is number {place} of {channels} channels: "
            f"{verdict} by the rule (top {self.top}; by chance {chance:.0%} of channels are)"
        ]
        if len(self.names) > 1:
            others = sum(number <= self.top for number in ranks) - (place <= self.top)
            lines.append(f"among the top {self.top} also for {others} of the {len(self.names) - 1} other photos")
            lines.append(f"it fires more for this photo than for {percentiles[self.chosen]:.0f} % of the other photos")
        random_place = rank(self.random_activations, self.channel)[self.chosen]
        lines.append(f"in the re-initialised network it is number {random_place} of {channels}")
        return lines


def weigh(recipe: InterpretationTest, network: nn.Module | None = None) -> Evidence:
    """Measure every photo in the network and in its re-initialised copy, a batch of them in memory at a time.

    Raises:
        FileNotFoundError, ValueError: no photos there, or no such photo among them.
        KeyError, ValueError: no such layer or channel.
    """
    network = models.as_network(network if network is not None else recipe.network)
    models.check_channels(network, recipe.layer, [recipe.channel], recipe.size)
    control, files = models.randomised(network, recipe.seed), images.listed(recipe.photos)
    manner = models.photo_fit(network, recipe.size, recipe.fit)
    names: dict[int, str] = {}
    measured, skipped, under_test = [], {}, None
    for numbers, photos in images.read_batches(files, recipe.size, BATCH, **manner):
        each = [mean_activations(net, recipe.layer, photos.pictures) for net in (network, control)]
        names |= dict(zip(numbers, photos.names, strict=True))
        measured.append(torch.stack(each, 1))
        skipped |= photos.skipped
        wanted = recipe.photo if recipe.photo else names[min(names)]
        if wanted in photos.names:
            under_test = photos.pictures[photos.names.index(wanted)][None]
    order = torch.tensor(list(names)).argsort()
    called = [names[number] for number in sorted(names)]
    if under_test is None:
        raise ValueError(f"no photo is called {recipe.photo!r} in {recipe.photos}: there are {edge.few(called)}")
    activations, random_activations = torch.cat(measured)[order].unbind(1)
    return Evidence(
        names=called,
        picture=under_test,
        skipped=skipped,
        activations=activations,
        random_activations=random_activations,
        channel=recipe.channel,
        top=recipe.top,
        chosen=called.index(recipe.photo) if recipe.photo else 0,
    )


def mean_activations(
    network: nn.Module, layer: str, pictures: Float[Tensor, "photos 3 height width"], batch_size: int = 16
) -> Float[Tensor, "photos channels"]:
    """Mean over each feature map of what passes its ReLU, `(N, C)` float32.

    Args:
        network: a `Network` or any module.
        layer: dotted name of a layer that gives feature maps; the negative part of a convolution's output is cut
            off, since it never leaves the ReLU that follows.
        pictures: `(N, 3, H, W)` in [0, 1].
        batch_size: photos at a time; bounds the memory, not the result.
    """
    batches = models.activation_batches(network, layer, pictures, batch_size)
    return torch.cat([each.float().clamp(min=0).mean((2, 3)).cpu() for each in batches])


def rank(activations: Float[Tensor, "photos channels"], channel: int) -> list[int]:
    """Place of the channel among all channels for each photo, 1 being the strongest; ties share the best place."""
    return ((activations > activations[:, channel, None]).sum(1) + 1).tolist()


def percentile(activations: Float[Tensor, "photos channels"], channel: int) -> list[float]:
    """For each photo, the share in percent of the other photos that excite the channel less; ties count half."""
    values = activations[:, channel].contiguous()
    ordered = values.sort().values
    less = torch.searchsorted(ordered, values)
    equal = torch.searchsorted(ordered, values, right=True) - less - 1
    return ((less + equal / 2) / max(len(values) - 1, 1) * 100).tolist()


def figure(evidence: Evidence) -> Figure:
    """The photo, its channels in order, the channel over all photos, and the ranking of the untrained network."""
    drawn, axes = figures.new(11, 3.2, columns=4, width_ratios=[1, 1.5, 1.5, 1.5])
    name = evidence.names[evidence.chosen]
    axes[0].imshow(evidence.picture[0].permute(1, 2, 0).numpy())
    axes[0].set_axis_off()
    axes[0].set_title(name, fontsize=9)
    _ranking(axes[1], evidence.activations[evidence.chosen], evidence, "trained network")
    _over_photos(axes[2], evidence)
    _ranking(axes[3], evidence.random_activations[evidence.chosen], evidence, "re-initialised network")
    return drawn


def _ranking(axes, activations: Tensor, evidence: Evidence, title: str) -> None:
    ordered = activations.sort(descending=True).values.numpy()
    place = rank(activations[None], evidence.channel)[0]
    axes.stairs(ordered.tolist(), [0.5 + edge for edge in range(len(ordered) + 1)], fill=True, color=figures.QUIET)
    axes.axvspan(0.5, evidence.top + 0.5, color=figures.ACCENT, alpha=0.12, lw=0)
    axes.plot([place], [activations[evidence.channel]], "o", color=figures.ACCENT, markersize=6)
    axes.set_title(f"{title}:\nnumber {place} of {len(ordered)}", fontsize=9)
    axes.set_xlabel(f"channels by mean activation (shaded: top {evidence.top})", fontsize=8)
    axes.set_xlim(0, len(ordered) + 1)
    axes.set_ylim(bottom=0)


def _over_photos(axes, evidence: Evidence) -> None:
    values = evidence.activations[:, evidence.channel].numpy()
    order = values.argsort().tolist()[-14:]
    if evidence.chosen not in order:
        order[0] = evidence.chosen
    colors = [figures.ACCENT if index == evidence.chosen else figures.QUIET for index in order]
    axes.barh(range(len(order)), values[order], color=colors)
    axes.set_yticks(range(len(order)), [evidence.names[index].rsplit(".", 1)[0] for index in order], fontsize=7)
    axes.set_title(f"channel {evidence.channel} over the photos", fontsize=9)
    axes.set_xlabel("mean activation", fontsize=8)
