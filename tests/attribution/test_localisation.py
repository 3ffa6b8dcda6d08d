"""From a map to a box: on photos whose object is known, with boxes worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import noise

from nbhelpers.attribution import localisation


@pytest.fixture
def scene():
    """A red disc on green, both a little noisy; a map that is greatest somewhere within the disc."""
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    disc = (rows - 24).square() + (columns - 36).square() < 14**2
    colours = torch.where(
        disc, torch.tensor([0.8, 0.1, 0.1])[:, None, None], torch.tensor([0.1, 0.7, 0.2])[:, None, None]
    )
    photo = (colours + 0.05 * (noise(3, 64, 64) - 0.5)).clamp(0, 1)
    spot = torch.exp(-((rows - 22).square() + (columns - 38).square()) / 60.0)
    return photo[None], spot[None], disc


def test_the_whole_object_is_found_from_a_spot_on_it(scene):
    photo, spot, disc = scene
    found = localisation.localise(photo, spot)
    agreement = (found.masks[0] & disc).sum() / (found.masks[0] | disc).sum()
    assert agreement > 0.95
    left, top, right, bottom = found.boxes[0]
    assert max(abs(left - 23), abs(top - 11), abs(right - 50), abs(bottom - 38)) <= 1


def test_the_same_photo_gives_the_same_box_whatever_came_before(scene):
    photo, spot, _ = scene
    several = localisation.localise(torch.cat([noise(1, 3, 64, 64), photo]), torch.cat([noise(1, 64, 64), spot]))
    alone = localisation.localise(photo, spot)
    assert torch.equal(several.masks[1], alone.masks[0])
    assert several.boxes[1] == alone.boxes[0]


def test_only_the_largest_piece_counts(scene):
    photo, spot, disc = scene
    photo = photo.clone()
    photo[0, :, 55:60, 5:10] = photo[0, :, 20:25, 30:35]  # a second, smaller red thing
    found = localisation.localise(photo, spot)
    assert not found.masks[0, 55:60, 5:10].any()
    assert (found.masks[0] & disc).sum() > 0.9 * disc.sum()


def test_a_map_that_says_nothing_points_nowhere(scene):
    photo, _, _ = scene
    found = localisation.localise(photo, torch.ones(1, 64, 64))
    assert found.boxes == [None]
    assert not found.masks.any()
    assert torch.equal(localisation.drawn(photo, found.boxes), photo)


def test_seeds_are_the_quantiles():
    maps = torch.rand(2, 20, 30, generator=torch.Generator().manual_seed(0))
    seeds = localisation.seeded(maps, 0.9, 0.3)
    low, high = np.quantile(maps[1], [0.3, 0.9])
    assert torch.equal(seeds[1] == 2, maps[1] >= high)
    assert torch.equal(seeds[1] == 0, maps[1] <= low)
    assert (seeds[0] == 2).sum() == 60


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 8), st.integers(1, 8))
def test_the_box_is_around_the_mask(left, top, width, height):
    mask = torch.zeros(20, 20, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    assert localisation.box_around(mask) == (left, top, left + width, top + height)
    assert localisation.overlaps(
        [localisation.box_around(mask)], [torch.tensor([[left, top, left + width, top + height]])]
    )[0].item() == pytest.approx(1)


def test_overlap_is_intersection_over_union_with_the_best_box():
    true = [
        torch.tensor([[0, 0, 10, 10], [20, 20, 24, 24]]),
        torch.tensor([[0, 0, 4, 4]]),
        torch.tensor([[0, 0, 4, 4]]),
    ]
    found = localisation.overlaps([(5, 0, 15, 10), (4, 0, 8, 4), None], true)
    assert found.tolist() == pytest.approx([50 / 150, 0, 0])
    with pytest.raises(ValueError, match="1 boxes found, and true ones for 3 photos"):
        localisation.overlaps([None], true)


def test_a_box_is_drawn_inside_its_edges():
    photos = torch.zeros(1, 3, 12, 12)
    picture = localisation.drawn(photos, [(2, 3, 10, 9)], colour=(1, 1, 1), width=1)[0, 0]
    assert picture.sum() == 2 * 8 + 2 * 4
    assert picture[3, 2:10].all()
    assert picture[8, 2:10].all()
    assert picture[3:9, 2].all()
    assert picture[3:9, 9].all()
    dark = localisation.drawn(torch.ones(1, 3, 12, 12), [None], torch.zeros(1, 12, 12, dtype=torch.bool))
    assert torch.allclose(dark, torch.tensor(0.3))


def test_how_a_box_came_about_is_shown_from_top_to_bottom():
    photos = torch.full((1, 3, 8, 8), 0.5)
    seeds, masks = torch.zeros(1, 8, 8, dtype=torch.uint8), torch.zeros(1, 8, 8, dtype=torch.bool)
    seeds[0, 4:], masks[0, :4] = 2, True
    box, seen, piece = localisation.shown(photos, localisation.Localisation(seeds, masks, [None])).split(8, 2)
    assert torch.equal(box, photos)
    assert seen.mean((1, 3))[0].tolist() == [0.0] * 4 + [1.0] * 4
    assert piece.mean((1, 3))[0].tolist() == pytest.approx([0.5] * 4 + [0.15] * 4)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(foreground=0.2), "0.3 .background. and 0.2 .foreground.: expected 0 < background"),
        (dict(maps=noise(2, 64, 64)), "2 maps for 1 photos"),
        (dict(maps=torch.full((1, 64, 64), torch.nan)), "map 0 holds values that are not finite"),
    ],
)
def test_bad_input_says_what_is_wrong(changes, message):
    with pytest.raises(ValueError, match=message):
        localisation.localise(**dict(photos=noise(1, 3, 64, 64), maps=noise(1, 64, 64)) | changes)


def test_the_bundled_network_finds_objects_better_than_a_random_one(shared):
    from nbhelpers import models
    from nbhelpers.attribution import boxes, pixel_maps

    if not (shared / "data" / "tiny100" / "val-boxes.npy").exists():
        pytest.skip("needs ../shared/data/tiny100 with boxes")
    network = models.load("minivgg_robust", device="cpu")
    boxed, classes = boxes.from_data(shared / "data" / "tiny100", network, 150)
    ratios = []
    for each in (network, models.randomised(network)):
        maps = pixel_maps.strongest(pixel_maps.gradient(each, boxed.photos.pictures, classes)[1])
        ratios.append(
            localisation.overlaps(localisation.localise(boxed.photos.pictures, maps).boxes, boxed.boxes).mean()
        )
    assert ratios[0] > 0.5
    assert ratios[0] > ratios[1] + 0.02
