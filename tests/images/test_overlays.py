"""Maps in colours: zero stays in the middle, a bright pixel leaves the rest visible, and the photo shines through."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colormaps
from small_networks import noise

from nbhelpers.images import overlays

MAPS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    elements=st.floats(-1e6, 1e6, width=32),
)


@settings(max_examples=60, deadline=None)
@given(MAPS, st.booleans())
def test_stretched_maps_stay_in_range_and_in_order(values, signed):
    maps = torch.from_numpy(values)
    stretched = overlays.stretch(maps, signed)
    assert stretched.shape == maps.shape
    assert stretched.isfinite().all()
    assert stretched.min() >= (-1 if signed else 0)
    assert stretched.max() <= 1
    order = maps.flatten(1).argsort(1)
    assert (stretched.flatten(1).gather(1, order).diff(dim=1) >= 0).all()


@settings(max_examples=40, deadline=None)
@given(MAPS)
def test_signed_maps_keep_their_zero_and_their_sign(values):
    maps = torch.from_numpy(values)
    stretched = overlays.stretch(maps, signed=True)
    assert (stretched * maps >= 0).all()
    assert torch.allclose(overlays.stretch(-maps, signed=True), -stretched)


def test_one_bright_pixel_does_not_darken_the_rest():
    maps = noise(1, 30, 30)
    bright = maps.clone()
    bright[0, 3, 3] = 1e6
    assert (overlays.stretch(maps) - overlays.stretch(bright)).abs()[0, 10:].max() < 0.05


def test_percentiles_are_numpys():
    maps = noise(2, 20, 30)
    low, high = np.quantile(maps[1], [0.01, 0.99])
    assert np.allclose(overlays.stretch(maps)[1], ((maps[1].numpy() - low) / (high - low)).clip(0, 1), atol=1e-6)


def test_a_map_with_a_single_bright_pixel_shows_it_and_a_flat_one_shows_nothing():
    maps = torch.zeros(2, 40, 40)
    maps[0, 5, 7] = 3
    stretched = overlays.stretch(maps)
    assert stretched[0].nonzero().tolist() == [[5, 7]]
    assert stretched[1].count_nonzero() == 0


def test_colours_are_matplotlibs_and_a_diverging_map_has_its_middle_at_zero():
    ramp = torch.linspace(0, 1, 1001)[None, None]
    painted = overlays.colour(ramp, "viridis")
    assert painted.shape == (1, 3, 1, 1001)
    expected = colormaps["viridis"](overlays.stretch(ramp)[0, 0].numpy())[:, :3]
    assert np.abs(painted[0, :, 0].T.numpy() - expected).max() < 0.02
    lopsided = torch.tensor([[[-1.0, 0.0, 5.0, 5.0]]])
    middle = torch.tensor(colormaps["RdBu_r"](0.5)[:3])
    assert (overlays.colour(lopsided, "RdBu_r")[0, :, 0, 1] - middle).abs().max() < 0.02
    assert overlays.is_diverging("coolwarm_r")
    assert not overlays.is_diverging("magma")


def test_opacity_goes_from_the_photo_to_the_map():
    photos, maps = noise(2, 3, 16, 12), noise(2, 4, 3, seed=1)
    assert torch.equal(overlays.overlay(photos, maps, 0), photos)
    alone = overlays.overlay(photos, maps, 1)
    assert torch.allclose(alone, overlays.colour(overlays.resized(maps, (16, 12))))
    half = overlays.overlay(photos, maps, 0.5)
    assert torch.allclose(half, (photos + alone) / 2, atol=1e-6)


def test_resized_maps_keep_their_place():
    maps = torch.zeros(1, 4, 4)
    maps[0, 0, 3] = 1
    large = overlays.resized(maps, (32, 32))
    assert large[0].argmax() in [row * 32 + column for row in range(8) for column in range(24, 32)]
    assert overlays.resized(noise(1, 64, 64), (8, 8)).std() < noise(1, 64, 64).std() / 4  # averaged, not picked


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((noise(2, 3, 8, 8), noise(3, 8, 8)), "3 maps for 2 photos: give one each"),
        ((noise(2, 3, 8, 8), noise(2, 8, 8), 1.5), "opacity is 1.5, expected 0"),
        ((noise(2, 3, 8, 8), noise(2, 8, 8), 0.5, "magna"), "no colour map 'magna'. Nearest: magma"),
        ((noise(2, 3, 8, 8), torch.stack([noise(8, 8), torch.full((8, 8), torch.nan)])), "map 1 holds values that are"),
        ((noise(2, 3, 8, 8), noise(2, 1, 8, 8)), r"expected maps \(B, H, W\), got shape \(2, 1, 8, 8\)"),
    ],
)
def test_bad_input_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        overlays.overlay(*arguments)
