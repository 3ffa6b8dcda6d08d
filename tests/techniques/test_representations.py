"""Distances and priors against float64 numpy and the paper's formulas, their gradients against finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import noise, outside, same_outside, tiny

from nbhelpers import models
from nbhelpers.ascent.canvas import natural_images
from nbhelpers.ascent.objectives import PICTURE
from nbhelpers.models import Network
from nbhelpers.techniques.inversion.representations import (
    Representation,
    alpha_norm,
    feature_distance,
    inversion,
    represent,
    variation,
)

MEAN = natural_images()["mean"].double().numpy()[:, None, None]
PICTURES = noise(2, 3, 7, 8, seed=2)


@pytest.fixture
def network() -> Network:
    return Network(tiny().eval(), "tiny", size=32)


def _representation(features) -> Representation:
    return Representation("conv", features, torch.ones(features.shape[:2], dtype=torch.bool))


def _steps(pictures):
    """Length of the way to the neighbours below and to the right, by loops over pixels."""
    _, _, height, width = pictures.shape
    squares = np.zeros_like(pictures)
    for y in range(height):
        for x in range(width):
            if y + 1 < height:
                squares[..., y, x] += (pictures[..., y + 1, x] - pictures[..., y, x]) ** 2
            if x + 1 < width:
                squares[..., y, x] += (pictures[..., y, x + 1] - pictures[..., y, x]) ** 2
    return np.sqrt(squares)


# The paper's terms.


@pytest.mark.parametrize("alpha", [2.0, 6.0])
def test_the_alpha_norm_is_the_papers_with_its_lambda(alpha):
    sigma, half_range = 137.0, 0.5  # whatever the scale of x is, it cancels
    pictures = PICTURES.double().numpy()
    x = (pictures - MEAN) / sigma
    weight = sigma**alpha / (7 * 8 * half_range**alpha)
    papers = weight * (np.abs(x) ** alpha).sum((1, 2, 3))
    assert np.allclose(alpha_norm(alpha)({PICTURE: PICTURES}).numpy(), papers / 3, rtol=1e-5)


@pytest.mark.parametrize("beta", [1.0, 2.0, 3.5])
def test_variation_is_the_papers_with_its_lambda(beta):
    sigma, step = 137.0, 0.08
    weight = sigma**beta / (7 * 8 * step**beta)
    papers = weight * (_steps(PICTURES.double().numpy() / sigma) ** beta).sum((1, 2, 3))
    assert np.allclose(variation(beta)({PICTURE: PICTURES}).numpy(), papers / 3, rtol=1e-4)


def test_the_distance_is_the_papers():
    target, found = noise(2, 4, 5, 6, seed=1) - 0.3, noise(2, 4, 5, 6, seed=3) - 0.3
    a, b = target.double().numpy(), found.double().numpy()
    papers = ((a - b) ** 2).sum((1, 2, 3)) / (a**2).sum((1, 2, 3))
    assert np.allclose(feature_distance(_representation(target))({"conv": found}).numpy(), papers, rtol=1e-5)
    few = ((a - b)[:, [0, 3]] ** 2).sum((1, 2, 3)) / (a[:, [0, 3]] ** 2).sum((1, 2, 3))
    chosen = feature_distance(_representation(target).only([3, 0]))
    assert np.allclose(chosen({"conv": found}).numpy(), few, rtol=1e-5)


def test_an_ordinary_photo_has_a_variation_of_about_one():
    """What STEP stands for: the sample photos lie around 1, none of them further than a factor of five."""
    from nbhelpers import images

    found = variation()({PICTURE: images.read_folder("sample_images", 128).pictures})
    assert 0.7 < found.median() < 2.5
    assert found.min() > 0.2
    assert found.max() < 5


def test_the_sum_has_each_term_once_with_its_sign():
    target = _representation(noise(2, 4, 5, 6, seed=1))
    seen = {"conv": noise(2, 4, 5, 6, seed=3), PICTURE: PICTURES}
    expected = -0.5 * feature_distance(target)(seen) - 0.3 * alpha_norm(4)(seen) - 0.2 * variation(1.5)(seen)
    total = inversion(target, alpha_weight=0.3, tv_weight=0.2, alpha=4, beta=1.5, feature_weight=0.5)
    assert torch.allclose(total(seen), expected, rtol=1e-6)
    assert total.layers == ("conv",)


# Gradients.


@pytest.mark.parametrize("objective", [alpha_norm(6), alpha_norm(3), variation(2), variation(1.5), variation(1)])
def test_the_priors_gradients_are_finite_differences(objective):
    pictures = noise(2, 3, 5, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: objective({PICTURE: x}), pictures, eps=1e-6, atol=1e-5)


def test_the_distances_gradient_is_finite_differences():
    target = noise(2, 4, 3, 2, seed=1) - 0.3
    found = (noise(2, 4, 3, 2, seed=3) - 0.3).requires_grad_()
    objective = feature_distance(_representation(target).only([1, 2]))
    (gradient,) = torch.autograd.grad(objective({"conv": found}).sum(), found)
    a, point, step = target.double().numpy(), found.detach().double().numpy(), 1e-6

    def closed(features):
        difference = ((features - a)[:, 1:3] ** 2).sum((1, 2, 3))
        return (difference / (a[:, 1:3] ** 2).sum((1, 2, 3))).sum()

    expected = np.zeros_like(point)
    for place in np.ndindex(point.shape):
        for sign in (1, -1):
            moved = point.copy()
            moved[place] += sign * step
            expected[place] += sign * closed(moved) / (2 * step)
    assert np.allclose(gradient.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert gradient[:, [0, 3]].eq(0).all()


@pytest.mark.parametrize("beta", [1.0, 1.5, 2.0])
def test_an_even_picture_has_no_variation_and_a_finite_gradient(beta):
    even = torch.full((1, 3, 6, 6), 0.4, requires_grad=True)
    score = variation(beta)({PICTURE: even})
    (gradient,) = torch.autograd.grad(score.sum(), even)
    assert score.item() < 1e-4
    assert gradient.eq(0).all()


# What must hold for any numbers.

SEEDS = st.integers(0, 10_000)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, scale=st.floats(1e-2, 1e2))
def test_the_distance_does_not_depend_on_the_layers_scale(seed, scale):
    target, found = noise(2, 3, 4, 4, seed=seed) + 0.01, noise(2, 3, 4, 4, seed=seed + 1)
    once = feature_distance(_representation(target))({"conv": found})
    scaled = feature_distance(_representation(scale * target))({"conv": scale * found})
    assert torch.allclose(once, scaled, rtol=1e-4)
    assert feature_distance(_representation(target))({"conv": target}).eq(0).all()
    assert torch.allclose(feature_distance(_representation(target))({"conv": 0 * target}), torch.ones(2))


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, chosen=st.sets(st.integers(0, 5), min_size=1, max_size=5))
def test_distances_of_two_halves_of_the_channels_add_up(seed, chosen):
    target, found = noise(2, 6, 3, 3, seed=seed) + 0.01, {"conv": noise(2, 6, 3, 3, seed=seed + 1)}
    whole = _representation(target)
    parts = [whole.only(sorted(chosen)), whole.only(sorted(set(range(6)) - chosen))]
    total = sum(part.energy * feature_distance(part)(found) for part in parts)
    assert torch.allclose(total, whole.energy * feature_distance(whole)(found), rtol=1e-4)
    assert torch.allclose(parts[0].energy + parts[1].energy, whole.energy, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, factor=st.floats(0.1, 3), power=st.sampled_from([1.0, 2.0, 4.0, 6.0]))
def test_the_priors_grow_by_their_power(seed, factor, power):
    pictures, mean = noise(2, 3, 5, 5, seed=seed), natural_images()["mean"].view(3, 1, 1)
    stretched = (pictures - mean) * factor + mean
    for prior in (alpha_norm(power), variation(power)):
        ratio = prior({PICTURE: stretched}) / prior({PICTURE: pictures})
        assert torch.allclose(ratio, torch.full((2,), factor**power), rtol=1e-3)
    shifted = variation(power)({PICTURE: pictures + factor})
    assert torch.allclose(shifted, variation(power)({PICTURE: pictures}), rtol=1e-2)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, mix=st.floats(0, 1))
def test_a_blend_lies_on_the_line_between(seed, mix):
    one, other = (_representation(noise(2, 3, 4, 4, seed=seed + each)) for each in (0, 1))
    blend = one.blended(other, mix)
    expected = (1 - mix) * one.features.double() + mix * other.features.double()
    assert torch.allclose(blend.features.double(), expected, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, number=st.integers(1, 8))
def test_the_strongest_channels_hold_the_most_energy_of_any_so_many(seed, number):
    whole = _representation(noise(2, 6, 3, 3, seed=seed))
    kept = whole.strongest(number)
    energies = whole.features.double().square().sum((2, 3)).numpy()
    assert kept.counts.sum(1).tolist() == [min(number, 6)] * 2
    assert np.allclose(kept.energy.numpy(), np.sort(energies, axis=1)[:, ::-1][:, :number].sum(1), rtol=1e-5)


# From a network.


def test_a_representation_is_what_the_layer_gives(network):
    before = outside(network)
    photos = noise(2, 3, 16, 16)
    maps, logits = represent(network, "conv2", photos), represent(network, "", photos)
    with torch.no_grad():
        assert torch.allclose(maps.features, network.net.conv2(network.net.conv1(photos).relu()), atol=1e-6)
        assert torch.allclose(logits.features, network.net(photos), atol=1e-6)
    assert maps.counts.all()
    assert logits.counts.shape == (2, 5)
    assert represent(network, "head", photos).features.shape == (2, 5)
    assert same_outside(before, outside(network))


def test_what_cannot_be_represented_is_said(network):
    photos = noise(1, 3, 16, 16)
    with pytest.raises(KeyError, match=r"no layer 'conv3'.*conv2"):
        represent(network, "conv3", photos)
    with pytest.raises(ValueError, match=r"'conv2' has 6 channels, 0 to 5: there is no channel 6, -1"):
        represent(network, "conv2", photos).only([2, 6, -1])
    silent = Representation("conv", torch.zeros(2, 3, 4, 4), torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"silent for photo 0, 1: there is nothing to invert"):
        feature_distance(silent)
    smaller = feature_distance(represent(network, "conv2", noise(1, 3, 12, 12)))
    with pytest.raises(ValueError, match=r"gives \(1, 6, 8, 8\), but the target is \(1, 6, 6, 6\)"):
        smaller({"conv2": represent(network, "conv2", photos).features})


def test_photos_too_small_for_the_layer_say_the_least_size():
    squeezenet = models.load("squeezenet1_1", weights=None, device="cpu")
    with pytest.raises(ValueError, match=r"16 pixels are too small for layer 'features.12'.*at least \d+ pixels"):
        represent(squeezenet, "features.12", noise(1, 3, 16, 16))


def test_a_layer_that_gives_no_numbers_per_channel_is_refused():
    class Tokens(torch.nn.Module):
        def forward(self, x):
            return x.flatten(2)

    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), Tokens())
    with pytest.raises(ValueError, match=r"layer '1' .* gives \(1, 4, 196\): expected feature maps"):
        represent(net, "1", noise(1, 3, 16, 16))
