"""Canvases against closed forms: what a wave is, what colour is, and what stays as it is in photographs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import noise
from torch import nn

from nbhelpers import ascent, models
from nbhelpers.ascent import generators, objectives
from nbhelpers.ascent.canvas import (
    CANVASES,
    Fourier,
    FourierRGB,
    MaCo,
    Natural,
    Pixels,
    canvas_of,
    natural_images,
    natural_spectrum,
)

SIZES = st.integers(2, 33)
STATISTICS = {name: array.double().numpy() for name, array in natural_images().items()}


def logit(x):
    return np.log(x) - np.log1p(-x)


def offset(picture):
    """The picture's distance from the mean photograph before the sigmoid, by the docstring's formula, in float64."""
    return (logit(picture.double().numpy()) - logit(STATISTICS["mean"]).reshape(3, 1, 1)) / 4


def decorrelated(picture, colour=None):
    colour = STATISTICS["color"] if colour is None else colour
    return np.einsum("ij,bjhw->bihw", np.linalg.inv(colour), offset(picture))


@settings(max_examples=25, deadline=None)
@given(SIZES, SIZES)
def test_a_canvas_shows_the_picture_it_was_made_from(height, width):
    picture = 0.02 + 0.96 * noise(2, 3, height, width, seed=height * 40 + width)
    for kind in (Pixels, Fourier, FourierRGB):
        canvas = kind.from_picture(picture)
        assert canvas.parameters.is_leaf
        assert canvas.parameters.requires_grad
        assert torch.allclose(canvas.picture(), picture, atol=2e-5)


def test_black_and_white_come_back_a_hair_within():
    picture = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 5)
    assert torch.equal(Pixels.from_picture(picture).picture(), picture)
    assert torch.allclose(Fourier.from_picture(picture).picture(), picture.clamp(0.01, 0.99), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(SIZES, SIZES, st.data())
def test_one_coefficient_is_one_wave_of_one_decorrelated_colour(height, width, data):
    row = data.draw(st.integers(0, height - 1))
    column = data.draw(st.integers(1, max(1, (width - 1) // 2)))
    if column > (width - 1) // 2:
        return  # the columns at both ends hold each wave twice
    channel, phase = data.draw(st.integers(0, 2)), data.draw(st.floats(0, 6))
    coefficients = torch.zeros(1, 3, height, width // 2 + 1, 2)
    coefficients[0, channel, row, column] = torch.tensor([np.cos(phase), np.sin(phase)])
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    wave = np.cos(2 * np.pi * (row * y / height + column * x / width) + phase)
    for kind, colour in [
        (Fourier, STATISTICS["color"]),
        (FourierRGB, np.diag(STATISTICS["covariance"].diagonal() ** 0.5)),
    ]:
        amplitude = natural_spectrum(height, width)[channel, row, column].item()
        # orthonormal: a coefficient and its conjugate twin, each a wave of 1 / sqrt(H W)
        expected = 2 / np.sqrt(height * width) * amplitude * wave * colour[:, channel].reshape(3, 1, 1)
        assert np.allclose(offset(kind(coefficients, width).picture().detach())[0], expected, atol=3e-5)


def test_decorrelated_colour_has_the_photographs_covariance():
    colour, covariance = STATISTICS["color"], STATISTICS["covariance"]
    assert np.allclose(colour @ colour.T, covariance, rtol=1e-3, atol=1e-5)
    # white noise in decorrelated colour is noise with the photographs' covariance; in plain colour, variances alone
    coefficients = noise(1, 3, 64, 33, 2, seed=4) - 0.5
    for kind, expected in [(Fourier, covariance), (FourierRGB, np.diag(covariance.diagonal()))]:
        canvas = kind(coefficients, 64)
        canvas.amplitude = torch.ones_like(canvas.amplitude)
        found = np.cov(offset(canvas.picture().detach())[0].reshape(3, -1))
        assert np.allclose(found / np.trace(found), expected / np.trace(expected), atol=0.05)


def test_the_spectrum_at_its_own_size_is_the_shipped_array():
    shipped = natural_images()["spectrum"]
    assert shipped.shape == (3, 128, 65)
    assert torch.allclose(natural_spectrum(128, 128), shipped, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 70), st.integers(4, 70))
def test_the_spectrum_of_any_size_lies_between_its_neighbours_in_the_shipped_one(height, width):
    shipped, found = STATISTICS["spectrum"], natural_spectrum(height, width).numpy()
    for row in range(height):
        for column in range(width // 2 + 1):
            # the same number of cycles per pixel, as a place in the array of 128
            y, x = np.fft.fftfreq(height)[row] * 128, column / width * 128
            rows = [int(np.floor(y)) % 128, int(np.ceil(y)) % 128]
            columns = [int(np.floor(x)), int(np.ceil(x))]
            near = shipped[:, rows][:, :, columns].reshape(3, -1)
            assert (found[:, row, column] >= near.min(1) * 0.999).all()
            assert (found[:, row, column] <= near.max(1) * 1.001).all()


@settings(max_examples=25, deadline=None)
@given(SIZES, SIZES)
def test_maco_keeps_every_amplitude(height, width):
    canvas = MaCo.random(height, width, generators([height, width]))
    for _ in range(2):
        waves = decorrelated(canvas.picture().detach())
        found = np.abs(np.fft.rfft2(waves, norm="ortho"))
        kept = canvas.amplitude.double().numpy()
        fixed = np.zeros(kept.shape[1:], bool)  # waves that are their own mirror image have a sign, no phase
        fixed[np.ix_([0, height // 2] if height % 2 == 0 else [0], [0, width // 2] if width % 2 == 0 else [0])] = True
        scale = kept.max()
        assert np.allclose(found[..., ~fixed], np.broadcast_to(kept, found.shape)[..., ~fixed], atol=2e-3 * scale)
        assert (found[..., fixed] <= kept[..., fixed] + 2e-3 * scale).all()
        with torch.no_grad():  # whatever the ascent does to the phases
            canvas.parameters.add_(3 * noise(*canvas.parameters.shape))


def test_maco_has_the_shape_of_photographs_amplitudes_and_their_variance():
    canvas = MaCo.random(48, 64, generators(range(8)))
    ratio = canvas.amplitude[:, 1:, 1:] / natural_spectrum(48, 64)[:, 1:, 1:]
    assert torch.allclose(ratio, ratio[:, :1, :1].expand_as(ratio), rtol=1e-5)
    assert canvas.amplitude[:, 0, 0].tolist() == [0, 0, 0]
    waves = decorrelated(canvas.picture().detach())
    assert np.allclose(waves.mean((2, 3)), 0, atol=1e-4)
    assert np.allclose(waves.var((2, 3)), 1, atol=0.02)


@settings(max_examples=15, deadline=None)
@given(SIZES, SIZES)
def test_maco_takes_the_phase_of_a_picture(height, width):
    start = 0.02 + 0.96 * noise(1, 3, height, width, seed=7)
    canvas = MaCo.from_picture(start)
    before = np.fft.rfft2(decorrelated(start), norm="ortho")
    after = np.fft.rfft2(decorrelated(canvas.picture().detach()), norm="ortho")
    # a wave that the picture hardly has, has no phase to keep
    clear = (np.abs(before) > 0.02 * np.abs(before).max()) & (canvas.amplitude.numpy() > 0)
    assert np.allclose(np.exp(1j * np.angle(after))[clear], np.exp(1j * np.angle(before))[clear], atol=0.02)


def test_maco_shown_again_stays_the_same():
    canvas = MaCo.random(20, 25, generators([3]))
    again = MaCo.from_picture(canvas.picture().detach())
    assert torch.allclose(again.picture(), canvas.picture(), atol=0.02)


@pytest.mark.parametrize("name", CANVASES)
@pytest.mark.parametrize("shape", [(16, 16), (15, 22), (9, 7)])
def test_noise_is_seeded_picture_by_picture(name, shape):
    kind = CANVASES[name]
    together, alone = kind.random(*shape, generators([1, 2, 1])), kind.random(*shape, generators([2]))
    assert torch.equal(together.parameters[0], together.parameters[2])
    assert torch.equal(together.parameters[1], alone.parameters[0])
    pictures = together.picture()
    assert pictures.shape == (3, 3, *shape)
    # the last bit of a sigmoid depends on where in memory a number lies
    assert torch.allclose(pictures[0], pictures[2], rtol=0, atol=1e-6)
    assert torch.allclose(pictures[1], alone.picture()[0], rtol=0, atol=1e-6)
    assert (pictures[0] - pictures[1]).abs().mean() > 0.005
    assert pictures.min() >= 0
    assert pictures.max() <= 1


@settings(max_examples=25, deadline=None)
@given(SIZES, SIZES, st.floats(0, 1e4))
def test_natural_pictures_neither_shout_nor_burn_out(height, width, loudness):
    canvas = Natural.random(height, width, generators([height, width]))
    with torch.no_grad():
        canvas.parameters.mul_(loudness)
    picture = canvas.picture().detach()
    assert picture.min() >= Natural.MARGIN - 1e-6
    assert picture.max() <= 1 - Natural.MARGIN + 1e-6
    stretched = (picture - Natural.MARGIN) / (1 - 2 * Natural.MARGIN)
    waves = decorrelated(stretched)  # which cuts off what is nearer to black and white than a hundredth
    assert (np.sqrt(np.square(waves).mean((2, 3))) <= np.array(Natural.LIMITS) * 1.01).all()


def test_what_is_weaker_than_photographs_looks_the_same_without_limits():
    free, limited = (kind.random(24, 31, generators([1, 2])) for kind in (Fourier, Natural))
    with torch.no_grad():
        for canvas in (free, limited):
            canvas.parameters.mul_(0.5)
    expected = Natural.MARGIN + (1 - 2 * Natural.MARGIN) * free.picture()
    assert torch.allclose(limited.picture(), expected, atol=1e-3)


def test_natural_shows_the_picture_that_it_was_made_from():
    picture = 0.35 + 0.3 * noise(2, 3, 20, 25)
    assert torch.allclose(Natural.from_picture(picture).picture(), picture, atol=1e-4)


def test_pixels_are_put_back_into_range():
    canvas = Pixels(torch.tensor([-0.5, 0.25, 1.5]).view(1, 3, 1, 1))
    canvas.project()
    assert canvas.picture().flatten().tolist() == [0, 0.25, 1]


@pytest.mark.parametrize("kind", [Pixels, Fourier, FourierRGB, MaCo, Natural])
def test_a_canvas_does_not_change_the_picture_it_was_made_from(kind):
    picture = noise(1, 3, 6, 6).expand(3, -1, -1, -1)
    canvas = kind.from_picture(picture)
    with torch.no_grad():
        canvas.parameters[0] += 1
    assert torch.equal(picture, noise(1, 3, 6, 6).expand(3, -1, -1, -1))
    assert torch.allclose(canvas.picture()[1], canvas.picture()[2], atol=1e-6)


@pytest.mark.parametrize("kind", [Fourier, FourierRGB, MaCo])
@pytest.mark.parametrize("width", [5, 6])
def test_gradients_are_finite_differences(kind, width):
    canvas = kind.random(5, width, generators([0]))
    weights = noise(1, 3, 5, width, seed=9) - 0.5
    (gradient,) = torch.autograd.grad((canvas.picture() * weights).sum(), canvas.parameters)
    moves = noise(*canvas.parameters.shape, seed=11) - 0.5

    def score(distance):
        with torch.no_grad():
            moved = kind(canvas.parameters + distance * moves, width)
            return (moved.picture().double() * weights).sum().item()

    difference = (score(1e-2) - score(-1e-2)) / 2e-2
    assert difference == pytest.approx((gradient * moves).sum().item(), rel=5e-3, abs=1e-5)


@pytest.mark.parametrize("name", CANVASES)
def test_a_network_without_colours_gets_grey_pictures(name):
    picture = noise(2, 1, 24, 20).expand(-1, 3, -1, -1)
    made = canvas_of(name, 1).from_picture(picture)
    assert made.parameters.shape[0] == 2
    assert made.picture().shape == (2, 1, 24, 20)
    assert torch.equal(made.shown(), made.picture().expand(-1, 3, -1, -1))
    if name != "maco":  # which keeps the phases alone
        again = canvas_of(name, 1).from_picture(made.picture().detach())
        assert torch.allclose(again.picture(), made.picture(), atol=0.02)
    alone = canvas_of(name, 1).from_picture(picture[1:])
    assert torch.allclose(alone.picture()[0], made.picture()[1], atol=1e-5)


def test_of_many_channels_the_first_three_are_shown():
    with pytest.warns(UserWarning, match="5 channels are shown by their first three"):
        kind = canvas_of("fourier", 5)
    made = kind.random(16, 16, generators([0, 1]))
    assert made.picture().shape == (2, 5, 16, 16)
    assert torch.equal(made.shown(), made.picture()[:, :3])
    assert not torch.allclose(made.picture()[:, 3], made.picture()[:, 4])
    alone = kind.random(16, 16, generators([1]))
    assert torch.allclose(alone.picture()[0], made.picture()[1], atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2])
def test_every_kind_of_canvas_climbs_for_a_network_without_colours(channels):
    net = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU())
    for name in CANVASES:
        start = canvas_of(name, channels).random(16, 16, generators([0, 0]))
        before = ascent.measure(net, objectives.channel("0", [0, 3]), start.picture().detach())
        *_, step = ascent.ascend(models.as_network(net), objectives.channel("0", [0, 3]), start, steps=12)
        after = ascent.measure(net, objectives.channel("0", [0, 3]), start.picture().detach())
        assert (after > before).all(), name
        assert step.picture.shape == (2, 3, 16, 16)
        assert ((step.picture >= 0) & (step.picture <= 1)).all()
