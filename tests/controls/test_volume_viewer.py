"""A volume that turns: its sliders do what they say, the newest wish counts, and errors are shown where one looks."""

import base64
import io
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from nbhelpers.controls import volume_viewer
from nbhelpers.notebooks import WIDGET_VIEW
from nbhelpers.volumes import rendering


def shown(viewer: volume_viewer.VolumeViewer) -> np.ndarray:
    """The picture beside the scene."""
    return np.asarray(Image.open(io.BytesIO(viewer.picture.value)))


@pytest.fixture
def viewer() -> Iterator[volume_viewer.VolumeViewer]:
    rng = np.random.default_rng(0)
    boxes = {"small": rng.integers(0, 256, (4, 5, 6), np.uint8), "large": rng.integers(0, 256, (4, 5, 40), np.uint8)}

    def make(name: str) -> np.ndarray:
        if name == "none":
            raise ValueError("there is <nothing> to show")
        return boxes[name]

    made = volume_viewer.view(make, ["small", "large", "none"], threshold=100)
    made.wait(30)
    yield made
    made.close()


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
    picture = shown(viewer)
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
    assert viewer.status.value == "volume 4 x 5 x 6, layer small"
    assert viewer.sliders["slice"].value == viewer.sliders["slice"].max == 5
    with pytest.raises(ValueError, match="layer 'huge' is not among small, large, none"):
        volume_viewer.view(lambda name: None, ["small", "large", "none"], "huge")


def test_without_widgets_the_same_cell_shows_projections(viewer: volume_viewer.VolumeViewer) -> None:
    bundle = viewer._repr_mimebundle_()
    assert WIDGET_VIEW in bundle
    paper = Image.open(io.BytesIO(base64.b64decode(bundle["image/jpeg"])))
    expected = rendering.projections(viewer.volume, 100, title="layer small")
    assert np.abs(np.asarray(paper).astype(int) - np.asarray(expected)).mean() < 3  # JPEG


def test_play_runs_through_the_options() -> None:
    volume = np.zeros((3, 3, 3), np.uint8)
    played = volume_viewer.view(lambda name: volume, ["a", "b", "c"], kind="photo", animated=True)
    button = played.widget.children[0].children[0]
    button.value = 2
    played.wait(30)
    assert played.sliders["photo"].value == "c"


def test_uncut_it_shows_all_from_the_front(viewer: volume_viewer.VolumeViewer) -> None:
    times = shown(viewer).shape[0] // 4
    expected = rendering.coloured(viewer.volume.max(2)).permute(1, 2, 0).numpy() * 255
    assert np.abs(shown(viewer)[::times, ::times] - expected).max() <= 1
    assert expected.max() > 100


def test_the_first_volume_is_made_on_the_worker_and_the_newest_wish_counts() -> None:
    threads, go_on = [], threading.Event()

    def make(number: int) -> np.ndarray:
        threads.append((number, threading.current_thread()))
        go_on.wait(30)
        return np.full((2, 2, 3), number, np.uint8)

    viewer = volume_viewer.view(make, [1, 2, 3, 4])
    assert "making" in viewer.status.value
    for number in (2, 3, 4):
        viewer.sliders["layer"].value = number
    go_on.set()
    viewer.wait(30)
    assert viewer.volume.max() == 4
    assert [number for number, _ in threads] in ([1, 4], [4])
    assert threading.main_thread() not in [thread for _, thread in threads]
    viewer.close()
    assert not any(thread.is_alive() for _, thread in threads)


def test_another_photo_makes_another_volume() -> None:
    asked = []

    def make(layer: str, photo: str) -> np.ndarray:
        asked.append((layer, photo))
        return np.full((2, 2, 3), 9, np.uint8)

    viewer = volume_viewer.view(make, ["one", "two"], photo="sample_images/cat.jpg")
    viewer.wait(30)
    viewer.sliders["photo"].value = "sample_images/coffee.jpg"
    viewer.wait(30)
    assert asked[0] == ("one", "sample_images/cat.jpg")
    assert asked[-1] == ("one", "sample_images/coffee.jpg")
    viewer.close()


def test_options_may_be_photos_themselves() -> None:
    viewer = volume_viewer.view(lambda name: np.full((2, 2, 3), len(name), np.uint8), ["cat", "rocket"], kind="photo")
    viewer.sliders["photo"].value = "rocket"
    viewer.wait(30)
    assert viewer.volume.max() == 6
    assert viewer.status.value == "volume 2 x 2 x 3, photo rocket"
    viewer.close()


def test_an_option_that_is_not_there_is_said() -> None:
    with pytest.raises(ValueError, match="layer 'three' is not among one, two"):
        volume_viewer.view(lambda layer: np.zeros((1, 1, 1), np.uint8), ["one", "two"], "three")
