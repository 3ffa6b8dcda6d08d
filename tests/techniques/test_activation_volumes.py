"""Activation volumes: the right maps at the right depth."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nbhelpers import images, models
from nbhelpers.models import Network
from nbhelpers.techniques import activation_volumes
from nbhelpers.techniques.activation_volumes import ActivationVolume
from nbhelpers.volumes import ordering, rendering

SAMPLES = Path(__file__).parents[2] / "sample_images"
QUICK = {"photo": str(SAMPLES / "cat.jpg"), "layer": "block2.relu2", "size": 64}


@pytest.fixture(scope="module")
def network() -> Network:
    return models.load("minivgg_robust")


@pytest.fixture(scope="module")
def maps(network: Network) -> torch.Tensor:
    return activation_volumes.activations(ActivationVolume(**QUICK), network)


def test_the_maps_are_the_layers(network: Network, maps: torch.Tensor) -> None:
    """Against the network's own modules, run one after the other."""
    picture = network.normalise(images.read(QUICK["photo"], 64)[None])
    with torch.no_grad():
        expected = network.net.block2[:4](network.net.block1(network.net.stem(picture)))[0]
    assert torch.allclose(maps, expected, atol=1e-5)


@pytest.mark.parametrize("method", ordering.METHODS)
def test_each_depth_holds_its_channel(network: Network, maps: torch.Tensor, method: str) -> None:
    recipe = ActivationVolume(**QUICK, order=method, clusters=5, gap=2)
    step = recipe.run(network)
    scaled = np.rint(maps.double().numpy() / maps.max().item() * 255)
    places = step.order.places(2)
    assert step.volume.shape == (16, 16, len(maps) + 2 * (len(step.order.groups) - 1))
    assert sorted(place for place in places if place is not None) == list(range(len(maps)))
    for depth, channel in enumerate(places):
        expected = scaled[channel] if channel is not None else np.zeros((16, 16))
        assert np.abs(step.volume[:, :, depth] - expected).max() <= 1
    assert step.scores.item() == pytest.approx(ordering.neighbour_correlation(maps, step.order.channels))


def test_an_order_carries_over_to_another_photo(network: Network, maps: torch.Tensor) -> None:
    recipe = ActivationVolume(**QUICK)
    first = activation_volumes.stacked(recipe, maps)
    other = activation_volumes.activations(recipe, network, str(SAMPLES / "coffee.jpg"))
    second = activation_volumes.stacked(recipe, other, first.order)
    assert second.order is first.order
    depth = first.order.channels.index(40)
    expected = np.rint(other[40].double().numpy() / other.max().item() * 255)
    assert np.abs(second.volume[:, :, depth] - expected).max() <= 1
    with pytest.raises(ValueError, match=r"64 maps, but the order .* has 192 channels"):
        activation_volumes.stacked(recipe, other[:64], first.order)


def test_the_table_of_orders(maps: torch.Tensor) -> None:
    recipe = ActivationVolume(**QUICK)
    table = activation_volumes.compare_orders(recipe, maps)
    shuffles = [ordering.neighbour_correlation(maps, ordering.shuffled(maps, seed).channels) for seed in range(20)]
    assert table["shuffled"] == pytest.approx(np.mean(shuffles))
    assert table["tree"] == ordering.neighbour_correlation(maps, ordering.tree(maps).channels)
    assert max(table, key=table.get) == "tree"
    assert set(table) == set(ordering.METHODS)
    text = activation_volumes.order_table(table).splitlines()
    assert text[-1].split() == ["tree", f"{table['tree']:.3f}"]


def test_the_grid_shows_the_maps_that_were_asked_for(maps: torch.Tensor) -> None:
    means = maps.numpy().mean((1, 2))
    strongest = ActivationVolume(**QUICK, count=5)
    assert activation_volumes.chosen(strongest, maps) == np.argsort(-means, kind="stable")[:5].tolist()
    assert activation_volumes.chosen(strongest.changed(maps="first"), maps) == [0, 1, 2, 3, 4]
    assert activation_volumes.chosen(strongest.changed(maps="all"), maps) == list(range(len(maps)))
    assert activation_volumes.chosen(strongest.changed(count=4000), maps)[-1] == int(
        np.flatnonzero(means == means.min())[-1]
    )


def test_a_common_scale_is_the_layers_whatever_is_shown(maps: torch.Tensor) -> None:
    weakest = [int(maps.mean((1, 2)).argsort()[20])]
    recipe = ActivationVolume(**QUICK, maps="first", count=1)
    only = torch.cat([maps[weakest], maps])
    dim = np.asarray(activation_volumes.grid(recipe, only, side=16))[:16, :16]
    bright = np.asarray(activation_volumes.grid(recipe.changed(scaling="each"), only, side=16))[:16, :16]
    white = (rendering.coloured(np.full((1, 1), 255, np.uint8)).numpy().ravel() * 255).round().tolist()
    assert white in bright.reshape(-1, 3).tolist()
    assert white not in dim.reshape(-1, 3).tolist()


def test_layers_that_cannot_be_stacked_are_explained(network: Network) -> None:
    with pytest.raises(KeyError, match=r"block2\.relu9"):
        ActivationVolume(**{**QUICK, "layer": "block2.relu9"}).run(network)
    with pytest.raises(ValueError, match="gives no feature maps"):
        ActivationVolume(**{**QUICK, "layer": "head"}).run(network)
    with pytest.raises(ValueError, match="slice_index 99 is outside the map, whose rows are 0 to 15"):
        ActivationVolume(**QUICK, order="row_component", slice_index=99).run(network)
    with pytest.raises(ValueError, match="200 clusters of 192 maps"):
        ActivationVolume(**QUICK, order="row_clusters", clusters=200).run(network)
    with pytest.raises(FileNotFoundError):
        ActivationVolume(**{**QUICK, "photo": str(SAMPLES / "catt.jpg")}).run(network)
    one = Network(nn.Sequential(nn.Conv2d(3, 1, 3)), "one", size=16)
    with pytest.raises(ValueError, match="only one map"):
        ActivationVolume(**{**QUICK, "layer": "0"}).run(one)
    assert ActivationVolume(**{**QUICK, "layer": "0", "order": "natural"}).run(one).volume.shape == (62, 62, 1)
    silent = Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Threshold(1e9, 0)), "silent", size=16)
    with pytest.raises(ValueError, match="all 4 maps have the same value, 0, everywhere"):
        ActivationVolume(**{**QUICK, "layer": "1"}).run(silent)
    with torch.no_grad():
        one.net[0].weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="infinite or not a number"):
        ActivationVolume(**{**QUICK, "layer": "0"}).run(one)


def test_threshold_and_binary() -> None:
    volume = np.array([[[0, 1, 100, 101, 255]]], np.uint8)
    assert rendering.shown(volume, 101, False).tolist() == [[[0, 0, 0, 101, 255]]]
    assert rendering.shown(volume, 100, True).tolist() == [[[0, 0, 255, 255, 255]]]
    assert rendering.shown(volume, 0, True).tolist() == [[[0, 255, 255, 255, 255]]]


def test_the_turned_volume_is_where_it_should_be() -> None:
    """Unturned it is the front view; by a right angle, the side view, channels from right to left or left to right."""
    volume = np.zeros((10, 10, 20), np.uint8)
    volume[2, 7, 0] = 255
    rows, columns = np.nonzero(rendering.turned(volume, 0, 0, side=170))
    # the box of height 1 fills 1 / 1.7 of the image: voxel (2, 7) lies at -0.25, 0.25 of it
    assert rows.mean() == pytest.approx(85 - 0.25 * 100, abs=2)
    assert columns.mean() == pytest.approx(127.5 + 0.25 * 100, abs=2)
    rows, columns = np.nonzero(rendering.turned(volume, 90, 0, side=170))
    assert rows.mean() == pytest.approx(85 - 0.25 * 100, abs=2)
    assert abs(columns.mean() - 127.5) == pytest.approx(0.95 * 100, abs=4)


def test_a_slice_outside_the_volume_is_explained() -> None:
    with pytest.raises(ValueError, match="slice 5 is outside the volume, whose slices are 0 to 4"):
        rendering.projections(np.zeros((3, 3, 5), np.uint8), depth=5)


def test_a_volume_of_a_whole_photo(network: Network) -> None:
    recipe = ActivationVolume(photo=str(SAMPLES / "cat.jpg"), layer="block2.relu1", size=64, fit="whole")
    step = recipe.run(network)
    height, width = step.maps.shape[1:]
    assert width / height == pytest.approx(451 / 300, abs=0.1)
    assert step.volume.shape[:2] == (height, width)
    assert step.picture.shape[2:] == (height, width)
