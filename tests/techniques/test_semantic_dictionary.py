"""The dictionary of a place: its numbers against plain autograd, its shares against finite differences."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_networks import noise, tiny
from torch import nn

from nbhelpers import images, models
from nbhelpers.models import Network
from nbhelpers.techniques import semantic_dictionary
from nbhelpers.techniques.semantic_dictionary import SemanticDictionary

PHOTO = str(Path(__file__).parents[2] / "sample_images" / "cat.jpg")


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(tiny().eval(), "tiny", ["ant", "bee", "cat", "dog", "elk"], size=32)


def small(**changes) -> SemanticDictionary:
    return SemanticDictionary(**dict(photo=PHOTO, photo_size=32, layer="conv2", channels=3, target="cat") | changes)


def logits_without(network: Network, photo: torch.Tensor, change) -> torch.Tensor:
    """The logits, with what conv2 gives changed by a function, in float64."""
    net = tiny().eval().double()
    net.load_state_dict(network.net.state_dict())
    net.conv2.register_forward_hook(lambda module, inputs, output: change(output.clone()))
    mean, std = (each.double().reshape(1, -1, 1, 1) for each in (network.mean, network.std))
    return net((photo.double() - mean) / std)[0]


def test_the_strongest_channels_of_a_place_in_order(network):
    look = small().run(network)
    seen = models.capture(network, "conv2", stop=True)(images.read(PHOTO, 32, "whole", 2)[None])["conv2"][0].detach()
    row, column = look.cell([0.25, 0.8])
    assert (row, column) == (int(0.25 * seen.shape[1]), int(0.8 * seen.shape[2]))
    order = seen[:, row, column].argsort(descending=True).tolist()
    found = semantic_dictionary.strongest(look, [0.25, 0.8], 3)
    assert [answer.channel for answer in found] == order[:3]
    for answer in found:
        assert answer.strength == pytest.approx(seen[answer.channel, row, column].item(), abs=1e-5)
    assert len(semantic_dictionary.strongest(look, [0, 0], 99)) == 6


def test_a_share_is_what_the_logit_loses_to_first_order(network):
    look = small().run(network)
    answer = semantic_dictionary.strongest(look, [0.5, 0.5], 1)[0]
    row, column = look.cell([0.5, 0.5])
    step = 1e-4

    def fainter(output):
        output[0, answer.channel, row, column] *= 1 - step
        return output

    photo = images.read(PHOTO, 32, "whole", 2)[None]
    whole, less = (logits_without(network, photo, change)[2].item() for change in (lambda output: output, fainter))
    assert answer.share == pytest.approx((whole - less) / step, rel=1e-2, abs=1e-6)


def test_a_rival_s_evidence_is_subtracted(network):
    mine, theirs = (small(target=name).run(network).gradients for name in ("cat", "bee"))
    assert torch.allclose(small(rival="bee").run(network).gradients, mine - theirs, atol=1e-6)
    assert small(rival="cat").run(network).gradients.abs().max() == 0


def test_taking_channels_away_is_a_pass_with_zeros(network):
    recipe = small(draws=5)
    look = recipe.run(network)

    def without(output):
        output[:, [1, 4]] = 0
        return output

    photo = images.read(PHOTO, 32, "whole", 2)[None]
    expected = look.logits[2].item() - logits_without(network, photo, without)[2].item()
    lost = semantic_dictionary.ablate(recipe, look, [1, 4], network)
    assert lost.lost == pytest.approx(expected, abs=1e-4)
    assert len(lost.random) == 5
    everything = semantic_dictionary.ablate(recipe, look, range(6), network)
    assert everything.random == pytest.approx([everything.lost] * 5, abs=1e-5)  # there is but one such set


def test_the_grid_s_directions_are_means_over_cells(network):
    square, wide = small(fit="crop").run(network), small().run(network)
    assert torch.allclose(semantic_dictionary.directions(square, 1)[0], square.activations.mean((1, 2)), atol=1e-6)
    rows, columns = semantic_dictionary.grid(wide, 2)
    assert (rows, columns) == (2, 3)
    found = semantic_dictionary.directions(wide, 2)
    down, across = (side // count for side, count in zip(wide.activations.shape[1:], (rows, columns), strict=True))
    for number, vector in enumerate(found):
        top, left = number // columns * down, number % columns * across
        cell = wide.activations[:, top : top + down, left : left + across]
        assert torch.allclose(vector, cell.mean((1, 2)), atol=1e-6)


def test_agreement_of_pictures_with_the_directions_that_they_have_is_one(network):
    pictures = noise(4, 3, 32, 32)
    vectors = models.capture(network, "conv2", stop=True)(pictures)["conv2"].detach().mean((2, 3))
    own, others = semantic_dictionary.agreement(network, "conv2", vectors, pictures)
    cosines = torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=2)
    assert own == pytest.approx(1, abs=1e-5)
    assert others == pytest.approx(cosines[~torch.eye(4, dtype=torch.bool)].mean().item(), abs=1e-5)


@pytest.mark.parametrize("left", [0, 56])
def test_the_ends_of_a_wide_photo_are_seen_and_pointed_at(tmp_path, left):
    pixels = np.full((32, 64, 3), 100, np.uint8)
    pixels[12:20, left : left + 8] = (230, 25, 25)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, -1, -1], [-1, 1, 1]])[:, :, None, None])
        net[0].bias.zero_()
        net[4].weight.copy_(torch.eye(2))
    recipe = SemanticDictionary(photo=str(tmp_path / "wide.png"), photo_size=32, layer="1", target=0)
    look = recipe.run(Network(net, "red", size=32))
    there = torch.zeros(32, 64, dtype=torch.bool)
    there[12:20, left : left + 8] = True
    assert torch.equal(look.evidence[0] > 0, there)
    place = [0.5, (left + 4) / 64]
    assert semantic_dictionary.strongest(look, place, 1)[0].channel == 0
    assert semantic_dictionary.strongest(look, [0.5, 0.5], 1)[0].channel == 1
    cut = recipe.changed(fit="crop").run(Network(net, "red", size=32))
    assert (cut.evidence == 0).all()


@given(place=st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_every_place_of_the_photo_is_a_place_of_the_map(network, place):
    look = small().run(network)
    row, column = look.cell(place)
    assert 0 <= row < look.activations.shape[1]
    assert 0 <= column < look.activations.shape[2]


@pytest.mark.parametrize("place", [[1.2, 0], [0.5], [-0.1, 0.5]])
def test_what_is_no_place_is_refused(network, place):
    with pytest.raises(ValueError, match="is no place: give shares of the height and of the width, 0 to 1"):
        small().run(network).cell(place)


@pytest.mark.parametrize("name", ["grad_cam", "grad_cam_plus_plus", "layer_cam", "eigen_cam", "pixels"])
def test_each_map_lies_over_the_photo(network, name):
    recipe = small(map=name)
    drawn = semantic_dictionary.draw(recipe, recipe.run(network))
    assert drawn.shape == (1, 3, 32, 48)
    assert torch.equal(
        semantic_dictionary.draw(recipe.changed(opacity=0), recipe.run(network)),
        images.read(PHOTO, 32, "whole", 2)[None],
    )


def test_principal_maps_are_the_components_of_scikit_learn():
    from sklearn.decomposition import PCA

    activations = noise(7, 5, 4)
    places = activations.flatten(1).T.numpy()
    expected = PCA(3, svd_solver="full").fit_transform(places).T
    for found, wanted in zip(semantic_dictionary.principal_maps(activations).flatten(1).numpy(), expected, strict=True):
        assert (found.min(), found.max()) == pytest.approx((0, 1), abs=1e-6)
        stretched = (wanted - wanted.min()) / (wanted.max() - wanted.min())
        assert min(abs(found - stretched).max(), abs(found - (1 - stretched)).max()) < 1e-4


def test_what_is_the_same_everywhere_has_no_principal_maps():
    assert (semantic_dictionary.principal_maps(torch.ones(4, 3, 3)) == 0.5).all()


@pytest.mark.parametrize("map", get_args(SemanticDictionary.model_fields["map"].annotation))
def test_every_map_lies_over_the_photo(network, map):
    recipe = small(map=map, opacity=1)
    drawn = semantic_dictionary.draw(recipe, recipe.run(network))
    assert drawn.shape == (1, 3, 32, 48)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert drawn.std() > 0
