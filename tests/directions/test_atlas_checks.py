"""Is an atlas real: measures that know what is so from what is dealt at random."""

from pathlib import Path

import pytest
import torch
from small_networks import noise, tiny

from nbhelpers import models
from nbhelpers.directions import activation_atlas, atlas_checks, photographs
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
    its = activation_atlas.survey(recipe, undecided)
    found = atlas_checks.speaking(its, undecided)
    said = undecided.net.head(its.among).softmax(1)[:, 2].detach()
    assert found.every == pytest.approx(said.mean().item(), abs=1e-5)
    on_map = (its.among[:, None] == its.collected.vectors).all(2).any(1)
    assert found.chosen == pytest.approx(said[on_map].mean().item(), abs=1e-5)
    assert found.chosen > found.every
    # as many places, picked by a network that has learned nothing
    untrained = models.randomised(undecided, 0)
    theirs = untrained.net[:4](its.pictures.batch(slice(None))[0]).detach()
    places = photographs.collect(undecided, "relu2", its.pictures, 1, 0)
    column, row = (places.centres * 8).long().unbind(1)
    vectors = theirs[places.photos, :, row, column]
    shares = untrained(its.pictures.batch(slice(None))[0]).softmax(1).detach()
    weights = untrained.net.head.weight.detach()
    adds = (vectors * (weights[2] - shares @ weights)[places.photos]).sum(1)
    picked = adds.argsort(descending=True)[: len(its.collected.vectors)]
    assert found.untrained == pytest.approx(said[picked].mean().item(), abs=1e-5)


def test_an_atlas_of_all_places_speaks_for_no_class(atlas: Atlas, network: Network) -> None:
    with pytest.raises(ValueError, match="give its recipe a label"):
        atlas_checks.speaking(atlas, network)


def test_mixing_knows_two_that_are_the_same_from_two_that_are_apart() -> None:
    points = noise(400, 6)
    near, apart = points + 1e-3 * noise(400, 6, seed=1), noise(400, 6, seed=2) + 9
    same = atlas_checks.mixing(points, near)
    assert same.twins == 1
    assert same.others == pytest.approx(0.5, abs=0.06)  # each place's twin, and as many of the one as of the other
    assert same.shuffled == pytest.approx(0.5, abs=0.05)
    assert same.by_chance == pytest.approx(10 / 400, abs=0.02)
    other = atlas_checks.mixing(points, apart)
    assert other.others == 0
    assert other.shuffled == pytest.approx(0.5, abs=0.05)
    assert other.twins == pytest.approx(10 / 400, abs=0.03)
