"""Tuning curves: what a channel answers to gratings, colours, corners and arcs that are computed, not photographed.

As physiologists ask a cell: its central unit is shown one stimulus after the other (Hubel and Wiesel 1962), and a curve
with a peak is a label with a measure. Selectivity is one minus the circular variance (Ringach, Shapley and Hawken,
"Orientation Selectivity in Macaque V1", J. Neurosci. 2002). Filters of a network that learned nothing have peaks as
well, so a label must beat what nearly all of those reach.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nbhelpers import models
from nbhelpers.models import Network

ANGLES = tuple(range(0, 180, 15))  # degrees of the lines, anticlockwise from the horizontal
PHASES = 8
HUES = ("red", "magenta", "blue", "cyan", "green", "yellow-green", "yellow", "orange")  # every 45 degrees
AXES = ("light against dark", "red against green", "blue against yellow")
TURNS = tuple(range(0, 360, 45))
AHEAD = 1.25  # of the best bend before a straight line, to be called a curve
BENDS = (0.0, 0.5, 1.0, 2.0)  # of a line across the field: the field's half side over the radius
CONTRAST = 0.4
SELECTIVE = 0.3
"""The least selectivity of a label, whatever the control says."""

NOTICED = 0.1
"""Of a channel's best answer to stripes or colours: less than this is no preference, rounding least of all."""

QUANTILE = 0.95
"""Of the untrained network's channels that a label must beat."""

_DIRECTIONS = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [-0.5, -0.5, 1.0]])


@dataclass(frozen=True)
class Curves:
    """What a layer's central units answer beyond their answer to grey; before a ReLU it may be negative.

    Attributes:
        frequencies: of the gratings in cycles per pixel.
        gratings: by axis of `AXES`, frequency and angle of `ANGLES`, the best of all phases.
        colours: uniform fields, by hue in steps of 30 degrees, from red over blue and green.
        corners: right angles, light on dark, by the direction they open to.
        arcs: lines and edges by bend of `BENDS`, the best of all directions.
    """

    frequencies: tuple[float, ...]
    gratings: Float[Tensor, "channels axes frequencies angles"]
    colours: Float[Tensor, "channels hues"]
    corners: Float[Tensor, "channels turns"]
    arcs: Float[Tensor, "channels bends"]

    @property
    def preferred(self) -> Float[Tensor, "channels angles"]:
        """Each channel's answers by angle, at the axis and frequency where it answers most."""
        best = self.gratings.amax(3).flatten(1).argmax(1)
        return self.gratings.flatten(1, 2)[torch.arange(len(best)), best]

    @property
    def by_frequency(self) -> Float[Tensor, "channels frequencies"]:
        """Each channel's answers by frequency, at the axis where it answers most, the best of all angles."""
        best = self.gratings.amax((2, 3)).argmax(1)
        return self.gratings.amax(3)[torch.arange(len(best)), best]

    @property
    def angles(self) -> Float[Tensor, " channels"]:
        """The angle of the lines that each channel answers to most, in degrees: of the mean, so between steps too."""
        return (_circular(self.preferred).angle() / 2).rad2deg() % 180

    @property
    def by_angle(self) -> Float[Tensor, " channels"]:
        """Selectivity for the angle, from 0 to 1."""
        return _circular(self.preferred).abs() * self._noticed(self.preferred)

    @property
    def by_colour(self) -> Float[Tensor, " channels"]:
        """Selectivity for the hue of a uniform field, from 0 to 1."""
        return _circular(self.colours).abs() * self._noticed(self.colours)

    def _noticed(self, answers: Float[Tensor, "channels steps"]) -> Bool[Tensor, " channels"]:
        best = torch.maximum(self.gratings.flatten(1).amax(1), self.colours.amax(1))
        return answers.amax(1) >= NOTICED * best


def curves(network: Network, layer: str) -> Curves:
    """Show a layer all stimuli, as large as what a unit of it sees and never larger than the network's own pictures.

    Raises:
        KeyError: no such layer. ValueError: it has no maps, the network does not see colours, or its answers are not
            finite.
    """
    row = models.layers(network)[layer]
    if network.channels != 3:
        raise ValueError(f"{network.name} takes {network.channels} channels; the stimuli are coloured pictures")
    height, width = models.sides(network.size)
    field = min(float(row.receptive_field), height, width)
    longest = max(4.0, field / 2)
    periods = torch.logspace(math.log10(3), math.log10(max(longest, 3.01)), 5).tolist()
    # the central unit's own place: an even map has none in the middle of the picture
    rows, columns = ((int(side // 2) + 0.5) * each / side for side, each in ((row.height, height), (row.width, width)))
    down, right = torch.meshgrid(torch.arange(height) + 0.5 - rows, torch.arange(width) + 0.5 - columns, indexing="ij")

    gratings = torch.stack([
        torch.sin(2 * math.pi * (_across(down, right, angle) / period) + 2 * math.pi * phase / PHASES)
        for period in periods for angle in ANGLES for phase in range(PHASES)
    ])  # fmt: skip
    striped = torch.stack([
        _answers(network, layer, gratings[:, None] * CONTRAST * axis[:, None, None] / axis.abs().max())
        .reshape(len(periods), len(ANGLES), PHASES, -1).amax(2)
        for axis in _DIRECTIONS
    ])  # fmt: skip
    hues = torch.arange(0, 2 * math.pi - 1e-6, math.pi / 6)
    tints = CONTRAST * (hues.cos()[:, None] * _DIRECTIONS[1] + hues.sin()[:, None] * _DIRECTIONS[2])
    colours = _answers(network, layer, tints[:, :, None, None].expand(-1, -1, height, width))
    corners = torch.stack([
        torch.where((_across(down, right, turn + 45) < 0) & (_across(down, right, turn - 45) > 0), 1.0, -1.0)
        for turn in TURNS
    ])  # fmt: skip
    thick, half = max(1.0, field / 10), field / 2
    arcs = torch.stack([
        each for bend in BENDS for turn in TURNS for each in _arc(down, right, turn, bend / half, thick)
    ])  # fmt: skip
    grey = [CONTRAST * some[:, None].expand(-1, 3, -1, -1) for some in (corners, arcs)]
    cornered, bent = (_answers(network, layer, each) for each in grey)
    return Curves(
        tuple(1 / period for period in periods),
        striped.permute(3, 0, 1, 2).contiguous(),
        colours.T.contiguous(),
        cornered.T.contiguous(),
        bent.reshape(len(BENDS), 2 * len(TURNS), -1).amax(1).T.contiguous(),
    )


def labels(found: Curves, control: Curves | None = None) -> list[str | None]:
    """In words, what each channel is tuned to; None where it is not selective, or not more than chance would be.

    Args:
        found: a layer's curves.
        control: those of the same layer in the untrained network, whose 95 % quantile a label must beat.
    """
    least_angle, least_colour = (
        max(SELECTIVE, float(np.quantile(chance.numpy(), QUANTILE)) if chance is not None else 0)
        for chance in ((control.by_angle, control.by_colour) if control else (None, None))
    )
    axes = found.gratings.amax((2, 3)).argmax(1).tolist()
    hues = (_circular(found.colours).angle().rad2deg() % 360).tolist()
    said: list[str | None] = []
    for channel, angle in enumerate(found.angles.tolist()):
        words = []
        if float(found.by_angle[channel]) > least_angle:
            what = "curves" if axes[channel] == 0 and _bent(found, channel) else "edges"
            words.append(f"{what} at {round(angle) % 180} degrees, {AXES[axes[channel]]}")
        if float(found.by_colour[channel]) > least_colour:
            words.append(HUES[round(hues[channel] / 45) % 8])
        said.append("; ".join(words) or None)
    return said


def _bent(found: Curves, channel: int) -> bool:
    """Whether a bent line or edge moves a channel clearly more than a straight one; all of them are grey."""
    straight, bent = float(found.arcs[channel, 0]), float(found.arcs[channel, 1:].max())
    return bent > AHEAD * max(straight, NOTICED * float(found.gratings[channel].max()))


def _circular(answers: Float[Tensor, "channels steps"]) -> Tensor:
    """The mean direction of answers above zero, complex; its length is one minus the circular variance.

    The steps are one turn: of a hue by itself, of a line by twice its angle.
    """
    steps = answers.shape[1]
    unit = torch.polar(torch.ones(steps), 2 * math.pi * torch.arange(steps) / steps)
    above = answers.clamp(min=0)
    return (above * unit).sum(1) / above.sum(1).clamp(min=1e-12)


def _across(down: Tensor, right: Tensor, degrees: float) -> Tensor:
    """The distance from a line through the middle, which stands at an angle anticlockwise from the horizontal."""
    angle = math.radians(degrees)
    return right * math.sin(angle) + down * math.cos(angle)


def _arc(down: Tensor, right: Tensor, degrees: float, curvature: float, thick: float) -> tuple[Tensor, Tensor]:
    """A light line on dark through the middle, straight or bent, and an edge of the same form."""
    across, along = _across(down, right, degrees), _across(down, right, degrees - 90)
    if curvature:
        radius = 1 / curvature
        across = ((across - radius) ** 2 + along**2).sqrt() - radius
    return torch.where(across.abs() < thick / 2, 1.0, -1.0), torch.where(across < 0, 1.0, -1.0)


@torch.no_grad()
def _answers(
    network: Network, layer: str, contrasts: Float[Tensor, "stimuli 3 height width"]
) -> Float[Tensor, "stimuli channels"]:
    """What the central unit of each channel answers to grey plus a contrast, less its answer to grey alone."""
    look = models.capture(network, layer, stop=True)
    device = network.mean.device
    centre = lambda maps: maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2].float().cpu()  # noqa: E731
    grey = centre(look(torch.full((1, *contrasts.shape[1:]), 0.5, device=device))[layer])
    given = torch.cat([centre(look((0.5 + batch).to(device))[layer]) for batch in contrasts.split(64)])
    if not given.isfinite().all():
        raise ValueError(f"layer {layer!r} gives numbers that are not finite: check the network's weights")
    return given - grey
