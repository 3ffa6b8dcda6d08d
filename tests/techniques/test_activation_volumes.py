"""Activation volumes: the right maps at the right depth, and a viewer whose sliders do what they say."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nbhelpers import images, models
from nbhelpers.models import Network
from nbhelpers.notebooks import WIDGET_VIEW
from nbhelpers.techniques import activation_volumes
from nbhelpers.techniques.activation_volumes import ActivationVolume
from nbhelpers.volumes import ordering, rendering
from nbhelpers.volumes import viewer as volume_viewer

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


@pytest.fixture
def viewer() -> volume_viewer.VolumeViewer:
    rng = np.random.default_rng(0)
    boxes = {"small": rng.integers(0, 256, (4, 5, 6), np.uint8), "large": rng.integers(0, 256, (4, 5, 40), np.uint8)}

    def make(name: str) -> np.ndarray:
        if name == "none":
            raise ValueError("there is <nothing> to show")
        return boxes[name]

    return volume_viewer.view(make, ["small", "large", "none"], threshold=100)


def test_the_scene_holds_the_volume_upright_first_channel_in_front(viewer: volume_viewer.VolumeViewer) -> None:
    volume, scene = viewer.volume, viewer.drawn.volume
    for (row, column, channel), value in np.ndenumerate(volume):
        assert scene[5 - channel, 3 - row, column] == value


def test_sliders_change_the_scene(viewer: volume_viewer.VolumeViewer) -> None:
    def opacity(value: int) -> float:
        """As K3D reads its table: linear between the points, over the colour range."""
        points = np.reshape(viewer.drawn.opacity_function, (-1, 2))
        low, high = viewer.drawn.color_range
        return float(np.interp((value - low) / (high - low), points[:, 0], points[:, 1]))

    assert opacity(99) == 0 < opacity(101) < opacity(250)
    viewer.sliders["threshold"].value = 200
    assert opacity(199) == 0 < opacity(201)
    viewer.sliders["binary"].value = True
    assert opacity(201) == opacity(255) == 1
    assert len(np.unique(np.reshape(viewer.drawn.color_map, (-1, 4))[:, 1:], axis=0)) == 1
    viewer.sliders["threshold"].value = 255
    assert opacity(253) < 0.1
    assert opacity(255) == 1
    before = viewer.drawn.alpha_coef
    viewer.sliders["opacity"].value = 0.9
    assert viewer.drawn.alpha_coef > 2 * before


def test_the_slice_cuts_what_lies_before_it(viewer: volume_viewer.VolumeViewer) -> None:
    assert viewer.plot.clipping_planes == []
    viewer.sliders["slice"].value = 3
    ((*normal, offset),) = viewer.plot.clipping_planes
    # six channels over depth 1 to -1: their middles; a point stays where the plane's value is positive
    middles = [1 - (2 * channel + 1) / 6 for channel in range(6)]
    assert [bool(normal[2] * z + offset > 0) for z in middles] == [False, False, False, True, True, True]
    picture = np.asarray(Image.open(io.BytesIO(viewer.picture.value)))
    times = picture.shape[0] // 4
    expected = rendering.coloured(viewer.volume[:, :, 3]).permute(1, 2, 0).numpy() * 255
    assert np.abs(picture[::times, ::times] - expected).max() <= 1


def test_another_volume_and_one_that_fails(viewer: volume_viewer.VolumeViewer) -> None:
    viewer.sliders["layer"].value = "large"
    viewer.wait(30)
    assert viewer.volume.shape == (4, 5, 40)
    assert viewer.drawn.volume.shape == (40, 4, 5)
    viewer.sliders["slice"].value = 39
    viewer.sliders["layer"].value = "none"
    viewer.wait(30)
    assert "there is &lt;nothing&gt; to show" in viewer.status.value
    assert viewer.volume.shape == (4, 5, 40)
    viewer.sliders["layer"].value = "small"
    viewer.wait(30)
    assert viewer.status.value == ""
    assert viewer.sliders["slice"].value == viewer.sliders["slice"].max == 5
    with pytest.raises(ValueError, match="layer 'huge' is not among small, large, none"):
        volume_viewer.view(lambda name: None, ["small", "large", "none"], "huge")


def test_without_widgets_the_same_cell_shows_projections(viewer: volume_viewer.VolumeViewer) -> None:
    bundle = viewer._repr_mimebundle_()
    assert WIDGET_VIEW in bundle
    shown = Image.open(io.BytesIO(base64.b64decode(bundle["image/jpeg"])))
    expected = rendering.projections(viewer.volume, 100, title="layer small")
    assert np.abs(np.asarray(shown).astype(int) - np.asarray(expected)).mean() < 3  # JPEG


def test_play_runs_through_the_options() -> None:
    volume = np.zeros((3, 3, 3), np.uint8)
    played = volume_viewer.view(lambda name: volume, ["a", "b", "c"], kind="photo", animated=True)
    button = played.widget.children[0].children[0]
    button.value = 2
    played.wait(30)
    assert played.sliders["photo"].value == "c"


def test_a_volume_of_a_whole_photo(network: Network) -> None:
    recipe = ActivationVolume(photo=str(SAMPLES / "cat.jpg"), layer="block2.relu1", size=64, fit="whole")
    step = recipe.run(network)
    height, width = step.maps.shape[1:]
    assert width / height == pytest.approx(451 / 300, abs=0.1)
    assert step.volume.shape[:2] == (height, width)
    assert step.picture.shape[2:] == (height, width)
