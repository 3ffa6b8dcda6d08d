"""Is an atlas real: measures that know what is so from what is dealt at random."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_networks import noise, tiny

from nbhelpers.directions import activation_atlas, atlas_checks
from nbhelpers.directions.activation_atlas import ActivationAtlas, Atlas
from nbhelpers.models import Network

SMALL = dict(
    **dict(layer="relu2", drawn="conv2", size=16, cuts=20, places=1, cells=3, fewest=2),
    **dict(picture_size=16, rounds=1, steps=30),
)


@pytest.fixture(scope="module")
def atlas(network: Network, folder: Path) -> Atlas:
    return ActivationAtlas(**SMALL, photos=str(folder)).run(network)


def test_colours_are_told_apart(atlas: Atlas) -> None:
    found, chance = atlas_checks.purity(atlas)
    assert found > 0.7
    assert chance < 0.55


def test_agreement_is_by_cosine_and_by_percentile(atlas: Atlas, network: Network) -> None:
    squares = list(range(atlas.total))
    seen = network.net[:4](atlas.picture).mean((2, 3)).detach()
    apart = seen - seen.mean(0)
    expected = torch.nn.functional.cosine_similarity(apart[:, None], atlas.directions[None], dim=2)
    found = atlas_checks.agreement(atlas, atlas.picture, squares, network)
    assert torch.allclose(found.own, expected.diagonal(), atol=1e-4)
    rest = [[expected[k, j].item() for j in squares if j != k] for k in squares]
    assert found.others.tolist() == pytest.approx([sum(row) / len(row) for row in rest], abs=1e-4)
    below = [sum(each < expected[k, k].item() for each in rest[k]) / len(rest[k]) for k in squares]
    assert found.percentile.tolist() == pytest.approx([100 * share for share in below])


def test_pictures_point_to_their_own_squares_and_not_to_those_dealt_at_random(atlas: Atlas, network: Network) -> None:
    every = list(range(atlas.total))
    own = atlas_checks.agreement(atlas, atlas.picture, every, network)
    turned = [atlas_checks.agreement(atlas, atlas.picture.roll(by, 0), every, network) for by in every[1:]]
    assert own.percentile.mean() > 60
    assert own.percentile.mean() > torch.stack([each.percentile for each in turned]).mean() + 20
    assert own.own.mean() > own.others.mean() + 0.2
    assert torch.stack([each.own for each in turned]).mean() < own.own.mean() - 0.2


def test_the_network_itself_draws_the_same_pictures_again(atlas: Atlas, network: Network) -> None:
    again = atlas_checks.redrawn(atlas, [0, 2], network)
    assert (again - atlas.picture[[0, 2]]).abs().mean() < 0.01
    other = atlas_checks.redrawn(atlas, [0, 2], Network(tiny(seed=1).eval(), "other", size=16))
    assert (other - atlas.picture[[0, 2]]).abs().mean() > 0.02


def test_places_that_speak_for_a_class_are_answered_with_it(undecided: Network, folder: Path) -> None:
    recipe = ActivationAtlas(**SMALL, photos=str(folder)).changed(label="cat", fewest=1)
    its, all_places = (activation_atlas.survey(recipe.changed(label=name), undecided) for name in ("cat", ""))
    expected = undecided.net.head(its.collected.vectors).softmax(1)[:, 2].mean().item()
    assert atlas_checks.speaking(its, "cat", undecided) == pytest.approx(expected, abs=1e-5)
    assert atlas_checks.speaking(its, "cat", undecided) > atlas_checks.speaking(all_places, "cat", undecided)


def two(atlas: Atlas, first: torch.Tensor, second: torch.Tensor) -> Atlas:
    return replace(
        atlas,
        recipe=atlas.recipe.changed(other="another"),
        components=first,
        beside=replace(atlas, components=second),
    )


def test_mixing_knows_two_that_are_the_same_from_two_that_are_apart(atlas: Atlas) -> None:
    points = noise(60, 6)
    near, apart = points + 1e-3 * noise(60, 6, seed=1), noise(60, 6, seed=2) + 9
    same = atlas_checks.mixing(two(atlas, points, near))
    assert same.twins == 1
    assert same.others == pytest.approx(0.5, abs=0.1)  # each place's twin, and as many of the one as of the other
    assert same.shuffled == pytest.approx(0.5, abs=0.06)
    assert same.by_chance == pytest.approx(10 / 60, abs=0.1)
    other = atlas_checks.mixing(two(atlas, points, apart))
    assert other.others == 0
    assert other.shuffled == pytest.approx(0.5, abs=0.06)
    assert other.twins == pytest.approx(10 / 60, abs=0.1)


def test_a_single_map_is_not_mixed(atlas: Atlas) -> None:
    with pytest.raises(ValueError, match="as two networks or layers have them"):
        atlas_checks.mixing(atlas)
