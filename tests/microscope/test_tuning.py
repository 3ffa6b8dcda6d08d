"""Tuning curves against filters whose angle, colour and frequency are known."""

import math
from collections import OrderedDict

import pytest
import torch
from torch import nn

from nbhelpers import models
from nbhelpers.microscope import tuning

SIZE, KERNEL, PERIOD = 32, 13, 6.0


def gabor(degrees, colour):
    """A filter for lines at an angle, anticlockwise from the horizontal, that sums to nothing."""
    at = torch.arange(KERNEL) - KERNEL // 2
    down, right = torch.meshgrid(at, at, indexing="ij")
    along = math.radians(degrees)
    across = right * math.sin(along) + down * math.cos(along)
    wave = torch.exp(-(down**2 + right**2) / (2 * 3.0**2)) * torch.sin(2 * math.pi * across / PERIOD)
    return torch.tensor(colour)[:, None, None] * wave


def bank(filters):
    """A network of one convolution."""
    conv = nn.Conv2d(3, len(filters), KERNEL, padding=KERNEL // 2, bias=False)
    conv.weight.data = torch.stack(filters).float()
    layers = OrderedDict(conv=conv, pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), head=nn.Linear(len(filters), 2))
    return models.Network(nn.Sequential(layers), size=SIZE, name="bank")


def test_the_angle_of_a_gabor_is_found_and_said():
    angles = [0, 10, 45, 75, 90, 120, 160]
    found = tuning.curves(bank([gabor(each, [1.0, 1.0, 1.0]) for each in angles]), "conv")
    off = (found.angles - torch.tensor(angles)).abs()
    assert torch.minimum(off, 180 - off).max() < 2
    assert tuning.labels(found)[2] == "edges at 45 degrees, light against dark"


def test_the_frequency_of_a_gabor_is_found():
    found = tuning.curves(bank([gabor(30, [1.0, 1.0, 1.0])]), "conv")
    best = found.by_frequency[0].argmax()
    assert best == torch.tensor([abs(math.log(each * PERIOD)) for each in found.frequencies]).argmin()


def test_colours_against_each_other_are_told():
    found = tuning.curves(bank([gabor(90, [1.0, -1.0, 0.0]), gabor(45, [-0.5, -0.5, 1.0])]), "conv")
    assert tuning.labels(found) == [
        "edges at 90 degrees, red against green",
        "edges at 45 degrees, blue against yellow",
    ]


@pytest.mark.parametrize(
    ("weights", "name"),
    [([1.0, -1.0, 0.0], "red"), ([-1.0, 1.0, 0.0], "green"), ([-0.5, -0.5, 1.0], "blue"), ([0.5, 0.5, -1.0], "yellow")],
)
def test_a_colour_without_form_is_a_colour(weights, name):
    blob = torch.tensor(weights)[:, None, None] * torch.ones(3, KERNEL, KERNEL)
    assert tuning.labels(tuning.curves(bank([blob]), "conv"))[0].split("; ")[-1] == name


def test_a_dead_channel_and_one_of_brightness_alone_have_no_label():
    round_one = gabor(0, [1.0, 1.0, 1.0]).abs() * 0 + 1.0
    at = torch.arange(KERNEL) - KERNEL // 2
    hill = torch.exp(-(at[:, None] ** 2 + at**2) / 8.0).expand(3, -1, -1)
    assert tuning.labels(tuning.curves(bank([round_one * 0, hill]), "conv")) == [None, None]


def test_a_label_must_beat_the_network_that_learned_nothing():
    found = tuning.curves(bank([gabor(45, [1.0, 1.0, 1.0])]), "conv")
    assert tuning.labels(found, control=found) == [None]


def test_answers_that_are_no_numbers_are_refused():
    broken = bank([gabor(0, [math.nan, 1.0, 1.0])])
    with pytest.raises(ValueError, match="not finite"):
        tuning.curves(broken, "conv")
