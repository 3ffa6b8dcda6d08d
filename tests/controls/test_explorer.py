"""The explorer without a browser: what a click lists, what is drawn and kept, what a change of network does."""

import io
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from small_networks import tiny

from nbhelpers import controls, images, models, recipes
from nbhelpers.__main__ import main
from nbhelpers.controls import cli, sliders
from nbhelpers.controls.picture_cache import PictureCache, channel_direction
from nbhelpers.techniques import semantic_dictionary
from nbhelpers.techniques.direction_pictures import DirectionPictures
from nbhelpers.techniques.semantic_dictionary import SemanticDictionary
from nbhelpers.training.fingerprints import fingerprint

SAMPLES = Path(__file__).parents[2] / "sample_images"
WAIT = 120


@pytest.fixture
def quick(monkeypatch):
    """Pictures in a few steps."""
    draw = PictureCache.__init__

    def faster(self, folder, network, manner):
        draw(self, folder, network, manner.changed(steps=1, rounds=1, size=32))

    monkeypatch.setattr(PictureCache, "__init__", faster)


def first(**changes) -> SemanticDictionary:
    return SemanticDictionary(**dict(photo=str(SAMPLES / "cat.jpg"), photo_size=64, channels=3) | changes)


def manner(**changes) -> DirectionPictures:
    return DirectionPictures(
        **dict(layer="block2.conv1", directions=[channel_direction(0, 192)], size=32, rounds=1, steps=2) | changes
    )


def explorer(tmp_path, **changes):
    made = controls.explore(first(**changes), folder=tmp_path)
    made.wait(WAIT)
    return made


def test_a_click_lists_the_channels_of_that_place_with_their_pictures(tmp_path, quick):
    found = explorer(tmp_path)
    assert "evidence for" in found.status.value
    found.image.place = [0.9, 0.2]
    found.wait(WAIT)
    expected = semantic_dictionary.strongest(first().run(), [0.9, 0.2], 3)
    assert [row["channel"] for row in found.channels.rows] == [answer.channel for answer in expected]
    assert set(found.channels.pictures) == {str(answer.channel) for answer in expected}


@pytest.mark.parametrize("sides", [(300, 100), (100, 300)])
def test_a_photo_that_is_no_square_is_shown_whole_and_a_click_lands_where_it_was(tmp_path, quick, sides):
    photo = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (sides[1] // 20, sides[0] // 20, 3), np.uint8)
    Image.fromarray(noise).resize(sides, Image.Resampling.NEAREST).save(photo)
    found = explorer(tmp_path, photo=str(photo))
    shown = Image.open(io.BytesIO(found.image.value))
    assert shown.width / shown.height == pytest.approx(sides[0] / sides[1])
    whole = images.read(photo, 64, "whole", 16)[None]
    seen = models.capture(found.network, found.recipe.layer, stop=True)(whole)[found.recipe.layer][0].detach()
    for place in ([0.01, 0.01], [0.99, 0.99]):
        found.image.place = place
        found.wait(WAIT)
        row, column = (int(share * side) for share, side in zip(place, seen.shape[1:], strict=True))
        expected = seen[:, row, column].topk(3)
        assert [each["channel"] for each in found.channels.rows] == expected.indices.tolist()
        assert [each["strength"] for each in found.channels.rows] == pytest.approx(expected.values.tolist(), abs=1e-4)


def test_the_photo_the_class_and_the_map_are_changed_while_one_looks(tmp_path, quick):
    found = explorer(tmp_path)
    before = found.image.value
    for name, value in [("target", "espresso"), ("map", "layer_cam"), ("photo", str(SAMPLES / "coffee.jpg"))]:
        found.sliders[name].value = value
        found.wait(WAIT)
        assert found.image.value != before
        before = found.image.value
    assert "espresso" in found.status.value
    found.sliders["target"].value = "no such class"
    found.wait(WAIT)
    assert "nbhelpers-error" in found.status.value
    assert found.image.stale


def test_another_network_brings_its_layers_and_classes(tmp_path, quick):
    found = explorer(tmp_path)
    found.sliders["network"].value = "minivgg"
    found.wait(WAIT)
    assert found.network.name == "minivgg"
    assert "nbhelpers-error" not in found.status.value
    assert len(found.channels.rows) == 3
    found.sliders["network"].value = "no_such_network"
    assert "nbhelpers-error" in found.status.value
    assert found.recipe.network == "minivgg"


def test_a_size_and_a_fit_set_by_hand_stay_with_another_network(tmp_path, quick):
    found = explorer(tmp_path)
    assert found.look.photo.shape == (1, 3, 64, 96)
    found.sliders["photo_size"].value = 80
    found.sliders["fit"].value = "crop"
    found.wait(WAIT)
    assert found.look.photo.shape == (1, 3, 80, 80)
    found.sliders["network"].value = "minivgg"
    found.wait(WAIT)
    assert found.sliders["photo_size"].value == found.recipe.photo_size == 80
    assert found.look.photo.shape == (1, 3, 80, 80)


def test_pictures_of_channels_are_of_the_network_that_is_shown(tmp_path, quick, monkeypatch):
    same = [semantic_dictionary.Answer(channel, 1.0, 0.0) for channel in (3, 5)]
    monkeypatch.setattr(semantic_dictionary, "strongest", lambda *asked: same)
    found = explorer(tmp_path)
    before = found.channels.pictures
    found.sliders["network"].value = "minivgg"
    found.wait(WAIT)
    assert set(found.channels.pictures) == set(before) == {"3", "5"}
    assert all(found.channels.pictures[channel] != before[channel] for channel in before)


def test_another_opacity_is_no_other_look(tmp_path, quick):
    found = explorer(tmp_path)
    look, before = found.look, found.image.value
    found.sliders["opacity"].value = 0.9
    found.wait(WAIT)
    assert found.look is look
    assert found.image.value != before


def test_hover_shows_where_a_channel_fires_and_a_click_its_page(tmp_path, quick):
    found = explorer(tmp_path)
    plain = found.image.value
    channel = found.channels.rows[0]["channel"]
    found.channels._hear(found.channels, {"seen": channel}, [])
    assert found.image.value != plain
    assert str(channel) in found.image.text
    found.channels._hear(found.channels, {"seen": None}, [])
    assert found.image.value == plain
    found.channels._hear(found.channels, {"opened": channel}, [])
    assert f"Channel {channel}" in found.page.value
    assert found.large.value


def test_the_grid_and_its_control_are_told(tmp_path, quick):
    found = explorer(tmp_path)
    found.sliders["cells"].value = 2
    found.draw_grid()
    found.wait(WAIT)
    assert "cosine" in found.grid_words.value
    assert "2 x 3" in found.grid.text
    found.ask()
    assert "random" in found.verdict.value


def test_a_channel_page_shows_the_photos_that_it_answers_most(tmp_path, quick):
    found = explorer(tmp_path)
    channel = found.channels.rows[0]["channel"]
    found.channels._hear(found.channels, {"opened": channel}, [])
    found.wait(WAIT)
    photos = images.read_many([str(path) for path in images.files_in(SAMPLES).values()], 64, None, "whole", 16)
    capture = models.capture(found.network, found.recipe.layer, stop=True)
    with torch.no_grad():
        seen = torch.stack([capture(each[None])[found.recipe.layer][0, channel].amax() for each in photos.pictures])
    best = [f"{Path(photos.names[number]).stem} {seen[number]:.2f}" for number in seen.topk(6).indices.tolist()]
    assert all(told in found.large.text for told in best)
    assert found.histogram.value


def test_a_frame_of_the_camera_is_seen_and_the_next_one_asked_for(tmp_path, quick, monkeypatch):
    found = explorer(tmp_path)
    picker, before, asked = found.sliders["photo"], found.image.value, []
    monkeypatch.setattr(picker, "send", lambda message: asked.append(message))
    picker._hear(picker, {"frame": True}, [(SAMPLES / "coffee.jpg").read_bytes()])
    found.wait(WAIT)
    assert asked == [{"next": True}]
    assert found.image.value != before
    assert "espresso" in found.status.value
    picker.take("camera.jpg", (SAMPLES / "cat.jpg").read_bytes())
    found.wait(WAIT)
    assert asked == [{"next": True}]


def test_the_classes_that_the_photo_is_given_are_on_top(tmp_path, quick):
    found = explorer(tmp_path)
    shares, numbers = models.shares(found.look.logits[None])[0].topk(5)
    top = [
        f"{found.network.classes[n]} · {share:.0%}" for n, share in zip(numbers.tolist(), shares.tolist(), strict=True)
    ]
    assert list(found.sliders["target"].options[:5]) == top
    assert len(found.sliders["target"].options) == len(found.network.classes)
    found.sliders["target"].value = top[1]
    found.wait(WAIT)
    assert found.look.target == numbers[1]


def test_a_network_of_the_readers_own_is_chosen_by_name(tmp_path, quick):
    own = models.Network(tiny().eval(), "own", ["ant", "bee", "cat", "dog", "elk"], size=32)
    models.offer(own)
    try:
        assert sliders.network_names()[0] == "own"
        found = explorer(tmp_path)
        found.sliders["network"].value = "own"
        found.wait(WAIT)
        assert found.network is own
        assert "nbhelpers-error" not in found.status.value
        found.sliders["network"].value = "minivgg"
        found.wait(WAIT)
        assert found.network.name == "minivgg"
    finally:
        models.withdraw("own")


def test_no_thread_is_left(tmp_path, quick):
    before = threading.active_count()
    explorer(tmp_path).close()
    assert threading.active_count() == before


def test_a_kept_picture_is_found_again_and_can_be_made_again(tmp_path):
    network = models.load("minivgg_robust")
    directions = [channel_direction(channel, 192) for channel in (3, 5, 7)]
    cache = PictureCache(tmp_path, network, manner())
    made = dict(cache.draw(directions))
    assert sorted(made) == [0, 1, 2]
    kept = PictureCache(tmp_path, network, manner()).get(directions[1])
    assert torch.allclose(kept, made[1], atol=1 / 255)
    again = recipes.remake(cache.path(directions[1]), network)
    assert np.array_equal(np.asarray(images.to_pil(again)), np.asarray(images.to_pil(kept)))
    assert cache.get(channel_direction(9, 192)) is None


def test_a_damaged_picture_is_made_again(tmp_path):
    network = models.load("minivgg_robust")
    cache = PictureCache(tmp_path, network, manner())
    direction = channel_direction(3, 192)
    list(cache.draw([direction]))
    cache.path(direction).write_bytes(b"half a pic")
    assert cache.get(direction) is None
    list(cache.draw([direction]))
    assert cache.get(direction) is not None


def test_drawing_ends_when_it_is_enough(tmp_path):
    cache = PictureCache(tmp_path, models.load("minivgg_robust"), manner())
    assert list(cache.draw([channel_direction(1, 192)], enough=lambda: True)) == []


def test_other_weights_have_other_pictures(tmp_path):
    network = models.load("minivgg_robust")
    assert fingerprint(network) == fingerprint(models.load("minivgg_robust"))
    changed = models.copied(network)
    with torch.no_grad():
        next(changed.parameters()).flatten()[0] += 1e-3
    assert fingerprint(changed) != fingerprint(network)
    assert fingerprint(models.randomised(network)) != fingerprint(network)


def test_the_app_is_a_notebook_that_makes_the_explorer(tmp_path):
    (cell,) = cli.app(SAMPLES / "cat.jpg", "minivgg", None, tmp_path).cells
    names = {}
    exec(cell.source.replace("explorer.explore(", "made = dict(recipe="), names)
    recipe = names["made"]["recipe"]
    assert (recipe.network, recipe.layer, recipe.photo) == ("minivgg", "block4.conv1", str(SAMPLES / "cat.jpg"))
    assert names["made"]["folder"] == str(tmp_path)


def test_the_app_needs_no_torch_before_its_kernel_has_it():
    asked = "import sys, nbhelpers.controls.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked]).returncode == 0
    assert models.DEFAULT in next(each.help for each in cli.explore.params if each.name == "network")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no_such.jpg"], "no_such.jpg"),
        ([str(SAMPLES / "cat.jpg"), "--network", "minivg"], "minivgg"),
        ([str(SAMPLES / "cat.jpg"), "--layer", "block9"], "block"),
    ],
)
def test_the_app_refuses_in_words(words, said, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "serve", lambda *rest: pytest.fail("it serves"))
    result = CliRunner().invoke(main, ["explore", *words, "--results", str(tmp_path)])
    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output
