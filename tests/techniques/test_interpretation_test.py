"""Ranks and percentiles against scipy, and photos wherever they are: one, a folder, a folder with a broken file."""

import numpy as np
import pytest
import torch
from matplotlib.patches import StepPatch
from PIL import Image
from scipy import stats
from small_networks import noise, outside, same_outside, tiny
from torch import nn

from nbhelpers import images, models
from nbhelpers.images import figures
from nbhelpers.models import Network
from nbhelpers.techniques.interpretation_test import (
    Evidence,
    InterpretationTest,
    figure,
    mean_activations,
    percentile,
    rank,
    weigh,
)


@pytest.fixture
def network() -> Network:
    return Network(tiny().eval(), "tiny", size=32)


@pytest.fixture
def folder(tmp_path):
    for index, name in enumerate(["dog.png", "house.png", "tree.png", "wood.png"]):
        Image.fromarray((noise(30, 40, 3, seed=index) * 255).byte().numpy()).save(tmp_path / name)
    return tmp_path


def recipe(folder, **changes) -> InterpretationTest:
    return InterpretationTest(
        **{"layer": "conv2", "channel": 2, "photos": str(folder), "photo": "house.png", "top": 2, "size": 16}
        | {"fit": "crop"}
        | changes
    )


def with_ties(*shape):
    return (noise(*shape, seed=8) * 5).round()


def test_ranks_are_scipys_with_ties_at_the_best_place():
    activations = with_ties(6, 20)
    expected = stats.rankdata(-activations.numpy(), method="min", axis=1)
    for channel in range(20):
        assert rank(activations, channel) == expected[:, channel].tolist()


def test_percentiles_are_scipys_over_the_other_photos():
    activations = with_ties(9, 4)
    for channel in range(4):
        values = activations[:, channel].numpy()
        expected = [stats.percentileofscore(np.delete(values, i), value, kind="mean") for i, value in enumerate(values)]
        assert np.allclose(percentile(activations, channel), expected)
    assert percentile(activations[:1], 0) == [0]


def test_mean_activations_are_those_behind_the_relu_whatever_the_batch(network):
    pictures = noise(7, 3, 16, 16)
    expected = network.net.relu2(network.net.conv2(network.net.conv1(pictures).relu())).mean((2, 3)).detach()
    for size in (1, 3, 7, 16):
        found = mean_activations(network, "conv2", pictures, batch_size=size)
        assert torch.allclose(found, expected, atol=1e-6)
        assert not found.requires_grad
    assert torch.allclose(mean_activations(network.net, "relu2", pictures), expected, atol=1e-6)


def test_a_network_without_parameters_has_activations_too():
    pictures = noise(2, 3, 8, 8)
    assert torch.allclose(mean_activations(nn.Sequential(nn.AvgPool2d(2)), "0", pictures), pictures.mean((2, 3)))


def test_the_evidence_is_what_the_photos_give(network, folder):
    before = outside(network)
    evidence = weigh(recipe(folder), network)
    assert same_outside(before, outside(network))
    assert evidence.names == ["dog.png", "house.png", "tree.png", "wood.png"]
    assert evidence.chosen == 1
    photos = torch.stack([images.read(folder / name, 16) for name in evidence.names])
    assert torch.allclose(evidence.activations, mean_activations(network, "conv2", photos))
    control = models.randomised(network, 0)
    assert torch.allclose(evidence.random_activations, mean_activations(control, "conv2", photos))
    assert not torch.allclose(evidence.random_activations, evidence.activations)
    assert evidence.scores.tolist() == [evidence.activations[1, 2].item()]
    assert torch.equal(evidence.picture, photos[1:2])
    step = recipe(folder).run(network)
    assert (step.index, step.total) == (1, 1)


def test_whole_photos_of_unlike_shapes_are_measured_one_by_one(network, folder):
    Image.fromarray((noise(60, 30, 3, seed=9) * 255).byte().numpy()).save(folder / "dune.png")
    evidence = weigh(recipe(folder, fit="whole"), network)
    assert evidence.names == ["dog.png", "dune.png", "house.png", "tree.png", "wood.png"]
    shapes = [(16, 22), (32, 16), (16, 22), (16, 22), (16, 22)]
    for name, found, shape in zip(evidence.names, evidence.activations, shapes, strict=True):
        photo = images.read(folder / name, 16, fit="whole", stride=2)[None]
        assert tuple(photo.shape[2:]) == shape
        assert torch.allclose(found, mean_activations(network, "conv2", photo)[0], atol=1e-6)


def test_the_report_says_what_the_numbers_say(network, folder):
    evidence = weigh(recipe(folder), network)
    places = stats.rankdata(-evidence.activations.numpy(), method="min", axis=1)[:, 2].astype(int).tolist()
    values = evidence.activations[:, 2].numpy()
    percent = stats.percentileofscore(np.delete(values, 1), values[1], kind="mean")
    random = stats.rankdata(-evidence.random_activations.numpy(), method="min", axis=1)[1, 2].astype(int)
    verdict = "supported" if places[1] <= 2 else "not supported"
    others = sum(place <= 2 for index, place in enumerate(places) if index != 1)
    assert evidence.report() == [
        f"house.png: channel 2 is number {places[1]} of 6 channels: {verdict} by the rule "
        "(top 2; by chance 33% of channels are)",
        f"among the top 2 also for {others} of the 3 other photos",
        f"it fires more for this photo than for {percent:.0f} % of the other photos",
        f"in the re-initialised network it is number {random} of 6",
    ]


def test_the_control_depends_on_its_seed_alone(network, folder):
    first, same, other = (weigh(recipe(folder, seed=seed), network).random_activations for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)


def test_one_photo_is_enough(network, folder):
    evidence = weigh(recipe(folder / "tree.png", photo=""), network)
    assert evidence.names == ["tree.png"]
    assert len(evidence.report()) == 2
    assert figures.to_pil(figure(evidence)).mode == "RGB"
    assert weigh(recipe(folder / "tree.png", photo="tree.png"), network).chosen == 0


def test_an_unreadable_file_is_named_and_passed_over(network, folder):
    (folder / "broken.jpg").write_bytes(b"no picture at all")
    (folder / "cut.png").write_bytes((folder / "dog.png").read_bytes()[:200])
    evidence = weigh(recipe(folder), network)
    assert set(evidence.skipped) == {"broken.jpg", "cut.png"}
    assert evidence.names == ["dog.png", "house.png", "tree.png", "wood.png"]
    assert evidence.chosen == 1
    assert torch.equal(evidence.picture[0], images.read(folder / "house.png", 16))


def test_without_a_name_it_is_the_first_photo(network, folder):
    assert weigh(recipe(folder, photo=""), network).chosen == 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(photo="hose.png"), ValueError, r"no photo is called 'hose.png' in .*dog.png, house.png, tree.png"),
        (dict(photos="no_such_folder"), FileNotFoundError, "no_such_folder"),
        (dict(layer="conv9"), KeyError, "no layer 'conv9'"),
        (dict(layer="head"), ValueError, "gives no feature maps"),
        (dict(channel=6), ValueError, "6 channels, 0 to 5: there is no channel 6"),
    ],
)
def test_what_does_not_fit_is_said(network, folder, changes, error, message):
    with pytest.raises(error, match=message):
        weigh(recipe(folder, **changes), network)


def test_the_figure_shows_the_photo_the_rankings_and_the_other_photos(network, folder):
    evidence = weigh(recipe(folder), network)
    drawn = figure(evidence)
    photo, trained, over, untrained = drawn.axes
    assert np.allclose(photo.images[0].get_array(), evidence.picture[0].permute(1, 2, 0))
    for axes, activations in [(trained, evidence.activations), (untrained, evidence.random_activations)]:
        (steps,) = (patch for patch in axes.patches if isinstance(patch, StepPatch))
        assert np.allclose(steps.get_data().values, np.sort(activations[1])[::-1])
        (mark,) = axes.lines
        assert mark.get_xydata()[0].tolist() == pytest.approx([rank(activations, 2)[1], activations[1, 2].item()])
    assert np.allclose([bar.get_width() for bar in over.patches], np.sort(evidence.activations[:, 2]))
    order = np.argsort(evidence.activations[:, 2].numpy())
    assert [label.get_text() for label in over.get_yticklabels()] == [evidence.names[i].split(".")[0] for i in order]


def test_the_photo_under_test_is_shown_even_where_many_others_are_stronger():
    activations = torch.arange(30.0)[:, None].repeat(1, 3)
    names = [f"{index}.png" for index in range(30)]
    evidence = Evidence(names, noise(1, 3, 4, 4), {}, activations, activations, channel=1, top=1, chosen=2)
    over = figure(evidence).axes[2]
    shown = [label.get_text() for label in over.get_yticklabels()]
    assert shown == ["2", *(str(index) for index in range(17, 30))]
    assert [bar.get_width() for bar in over.patches] == [2, *range(17, 30)]
    assert over.patches[0].get_facecolor() != over.patches[1].get_facecolor()
