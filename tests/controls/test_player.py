"""The sliders without a browser: what they offer, what moving one does, and that no run is lost or left behind."""

import base64
import gc
import io
import json
import math
import shlex
import threading
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_networks import noise, tiny

from nbhelpers import controls, models, recipes
from nbhelpers.ascent import Step
from nbhelpers.ascent.canvas import Pixels
from nbhelpers.controls import cells, copies, sliders
from nbhelpers.controls import player as playing
from nbhelpers.models import Network
from nbhelpers.recipes import Field, Recipe
from nbhelpers.techniques.activation_maximization import ActivationMaximization
from nbhelpers.techniques.class_pictures import ClassPictures
from nbhelpers.techniques.inversion import Inversion

WAIT = 60  # seconds; far more than anything here takes
PHOTO = str(Path(__file__).parents[2] / "sample_images" / "cat.jpg")


class Slow(Recipe):
    """Steps one at a time when it is let, and paints each with the parameter."""

    network: str = Field("minivgg_robust", description="of no importance")
    grey: int = Field(10, ge=0, le=255, description="what is painted")
    steps: int = Field(3, ge=1, le=50, description="how many steps")
    fail: bool = Field(False, description="break at the second step")

    def iterate(self, network=None):
        for index in range(1, self.steps + 1):
            GATE.reached.set()
            assert GATE.open.wait(WAIT)
            if self.fail and index == 2:
                raise ValueError("broken <on> purpose")
            canvas = Pixels(torch.full((1, 3, 4, 4), self.grey / 255))
            yield Step(index, self.steps, torch.tensor([float(self.grey)]), torch.ones(1, dtype=torch.bool), canvas)


class Gate:
    def __init__(self):
        self.open, self.reached = threading.Event(), threading.Event()
        self.open.set()

    def close(self):
        self.open.clear()
        self.reached.clear()


GATE = Gate()


@pytest.fixture(autouse=True)
def _open_gate_and_no_thread_left():
    global GATE
    GATE = Gate()
    yield
    GATE.open.set()
    for thread in threading.enumerate():
        if thread.name == "nbhelpers-play":
            thread.join(WAIT)
            assert not thread.is_alive()


@pytest.fixture
def network() -> Network:
    return Network(tiny().eval(), "tiny", size=32)


def grey(player) -> int:
    return int(np.asarray(Image.open(io.BytesIO(player.image.value)))[0, 0, 0])


def small(**changes) -> ActivationMaximization:
    return ActivationMaximization(
        **dict(layer="conv2", channels=[1], size=16, rounds=1, steps=2, canvas="pixels", jitter=4, blur=5) | changes
    )


SHOWN = ["layer", "channels", "objective", "blur", "upscale_factor", "learning_rate", "weight_decay", "jitter", "seed"]


def test_sliders_have_the_recipes_ranges_values_and_words(network):
    sliders = controls.play(small(), SHOWN, network=network).sliders
    assert list(sliders) == SHOWN
    assert isinstance(sliders["layer"], widgets.Dropdown)
    assert sliders["layer"].options == (
        ("conv1 · stage 1 · 8 channels · sees 3 px", "conv1"),
        ("conv2 · stage 2 · 6 channels · sees 5 px", "conv2"),
    )
    assert sliders["objective"].options == ("channel", "unit", "layer")
    for name, low, high, value in [
        ("channels", 0, 5, 1),
        ("blur", 0, 15, 5),
        ("upscale_factor", 1, 2, 1.2),
        ("jitter", 0, 32, 4),
    ]:
        slider = sliders[name]
        assert (slider.min, slider.max, slider.value) == (low, high, value)
        assert slider.tooltip == ActivationMaximization.model_fields[name].description
    rate = sliders["learning_rate"]
    assert (rate.max, rate.value) == (0.2, 0.03)
    assert 0 < rate.min < 0.01
    decay = sliders["weight_decay"]
    assert isinstance(decay, widgets.FloatLogSlider)
    assert (decay.value, decay.max) == (1e-6, 0)
    assert isinstance(sliders["seed"], widgets.IntSlider)
    assert sliders["upscale_factor"].description == "upscale factor"
    assert (sliders["blur"].description, sliders["jitter"].description) == ("blur (px)", "jitter (px)")
    # the default lies on a slider's stop: one step there and back is where it started
    for name in ("upscale_factor", "learning_rate", "jitter"):
        stops = (sliders[name].value - sliders[name].min) / sliders[name].step
        assert stops == pytest.approx(round(stops), abs=1e-6)


def test_the_picture_is_there_before_anything_moves(network):
    player = controls.play(small(), ["jitter"], network=network)
    player.wait(WAIT)
    expected = controls.draw_tiles(small(), small().run(network))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(player.image.value))), np.asarray(expected))
    assert player.step.index == player.step.total
    assert "done" in player.status.value
    assert player.bar.bar_style == "success"
    assert min(expected.size) >= 150


@pytest.mark.parametrize(
    ("name", "value", "changes"),
    [
        ("layer", "conv1", dict(layer="conv1")),
        ("channels", 3, dict(channels=[3])),
        ("learning_rate", 0.1, dict(learning_rate=0.1)),
        ("jitter", 0.0, dict(jitter=0)),
        ("objective", "layer", dict(objective="layer")),
    ],
)
def test_moving_a_slider_shows_the_picture_of_that_recipe(network, name, value, changes):
    player = controls.play(small(), SHOWN, network=network)
    before = player.image.value
    player.sliders[name].value = value
    player.wait(WAIT)
    assert player.recipe == small(**changes)
    expected = controls.draw_tiles(player.recipe, small(**changes).run(network))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(player.image.value))), np.asarray(expected))
    assert player.image.value != before


def test_a_layer_with_fewer_channels_takes_the_last_one_it_has(network):
    player = controls.play(small(layer="conv1", channels=[7]), ["layer", "channels"], network=network)
    assert player.sliders["channels"].max == 7
    player.sliders["layer"].value = "conv2"
    player.wait(WAIT)
    assert (player.sliders["channels"].max, player.sliders["channels"].value) == (5, 5)
    assert (player.recipe.layer, player.recipe.channels) == ("conv2", [5])
    assert "done" in player.status.value
    assert torch.equal(player.step.picture, small(channels=[5]).run(network).picture)
    player.sliders["layer"].value = "conv1"
    player.wait(WAIT)
    assert (player.sliders["channels"].max, player.recipe.channels) == (7, [5])


def test_the_logits_have_a_channel_slider_too(network):
    player = controls.play(small(layer="", channels=[2]), ["layer", "channels"], network=network)
    assert player.sliders["channels"].max == 4
    player.sliders["channels"].value = 4
    player.wait(WAIT)
    assert player.recipe.channels == [4]
    assert "done" in player.status.value
    player.sliders["layer"].value = "conv2"
    player.wait(WAIT)
    assert player.sliders["channels"].max == 5
    player.sliders["layer"].value = ""
    player.wait(WAIT)
    assert player.sliders["channels"].max == 4
    assert "done" in player.status.value


def test_another_network_brings_its_own_layers():
    recipe = small(layer="block2.conv1", channels=[9], size=32)
    player = controls.play(recipe, ["network", "layer", "channels"], options={"network": ["minivgg_robust", "minivgg"]})
    player.sliders["network"].value = "minivgg"
    player.wait(WAIT)
    assert player.recipe.network == "minivgg"
    assert player.network.name == "minivgg"
    assert player.sliders["layer"].value == player.recipe.layer == "block2.conv1"  # it has that one, too
    assert "done" in player.status.value
    last = models.layers(player.network)[player.recipe.layer].channels - 1
    assert player.sliders["channels"].max == last
    expected = recipe.changed(network="minivgg", layer=player.recipe.layer).run(models.load("minivgg"))
    assert torch.equal(player.step.picture, expected.picture)


def test_a_newer_setting_replaces_the_run_under_way():
    player = controls.play(Slow(), ["grey", "steps"], network=tiny())
    player.wait(WAIT)
    assert grey(player) == 10
    GATE.close()
    player.sliders["grey"].value = 50
    assert GATE.reached.wait(WAIT)  # in its first step
    for value in (60, 70, 80):
        player.sliders["grey"].value = value
    GATE.open.set()
    player.wait(WAIT)
    assert grey(player) == 80
    assert player.recipe.grey == 80
    assert (player.step.index, player.step.total) == (3, 3)
    assert "done" in player.status.value


def test_stop_keeps_the_picture_so_far_and_the_sliders_go_on_working():
    player = controls.play(Slow(steps=50), ["grey"], network=tiny())
    player.wait(WAIT)
    GATE.close()
    player.sliders["grey"].value = 50
    assert GATE.reached.wait(WAIT)
    player.stop_button.click()
    GATE.open.set()
    player.wait(WAIT)
    assert grey(player) == 50
    assert player.step.index == 1
    assert "stopped at step 1 of 50" in player.status.value
    assert player.bar.bar_style == "warning"
    player.sliders["grey"].value = 90
    player.wait(WAIT)
    assert (grey(player), player.step.index) == (90, 50)


def test_stop_with_nothing_to_stop_does_no_harm():
    player = controls.play(Slow(), ["grey"], network=tiny())
    player.stop()
    player.sliders["grey"].value = 30
    player.wait(WAIT)
    assert (grey(player), player.step.index) == (30, 3)


def test_an_error_in_a_run_is_shown_and_survived():
    player = controls.play(Slow(), ["grey", "fail"], network=tiny())
    player.sliders["fail"].value = True
    player.wait(WAIT)
    assert "ValueError: broken &lt;on&gt; purpose" in player.status.value
    assert player.bar.bar_style == "danger"
    player.sliders["fail"].value = False
    player.wait(WAIT)
    assert "done" in player.status.value
    assert player.bar.bar_style == "success"


def test_a_value_the_recipe_refuses_is_said_and_the_recipe_stays(network):
    player = controls.play(small(), ["learning_rate", "start"], network=network)
    assert player.sliders["learning_rate"].min > 0  # which the recipe refuses
    player.sliders["start"].value = "no_such_photo.jpg"
    player.wait(WAIT)
    assert "no_such_photo.jpg" in player.status.value
    player.sliders["start"].value = "noise"
    player.wait(WAIT)
    assert "done" in player.status.value
    player = controls.play(Slow(), ["grey"], network=network, options={"grey": [10, 999]})
    player.sliders["grey"].value = 999
    player.wait(WAIT)
    assert "grey = 999" in player.status.value
    assert "less than or equal to 255 (what is painted)" in player.status.value
    assert player.recipe.grey == 10


class Typed(Slow):
    """Slow, with parameters that are typed into a box."""

    numbers: list[int] = Field([1, 2, 3], description="whole numbers")
    words: list[str] = Field([], description="words")
    classes: list[str | int] = Field(["pizza"], description="names or numbers")
    row: int | None = Field(None, ge=0, description="a number or none")
    share: float = Field(0.5, gt=0, lt=1, description="neither nothing nor all")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("numbers", "[1, 2, 4]", [1, 2, 4]),
        ("numbers", "1, 2, 4", [1, 2, 4]),
        ("numbers", "7", [7]),
        ("words", "['one', 'two']", ["one", "two"]),
        ("words", "one, two", ["one", "two"]),
        ("words", "['cats: tabby, Persian cat']", ["cats: tabby, Persian cat"]),
        ("words", "potter's wheel", ["potter's wheel"]),
        ("classes", "'pizza', 3", ["pizza", 3]),
        ("row", "3", 3),
    ],
)
def test_lists_and_optional_numbers_are_typed_and_taken_back(name, text, value):
    recipe = Typed()
    player = controls.play(recipe, [name], network=tiny())
    default = player.sliders[name].value
    for typed, expected in [(text, value), (default, getattr(recipe, name))]:
        player.sliders[name].value = typed
        player.wait(WAIT)
        assert "done" in player.status.value
        assert getattr(player.recipe, name) == expected


def test_nothing_typed_is_an_empty_list_or_none():
    player = controls.play(Typed(row=3), ["numbers", "row"], network=tiny())
    for slider in player.sliders.values():
        slider.value = " "
        player.wait(WAIT)
    assert (player.recipe.numbers, player.recipe.row) == ([], None)
    player.sliders["numbers"].value = "one"
    player.wait(WAIT)
    assert "numbers = &#x27;one&#x27;" in player.status.value
    assert "(whole numbers)" in player.status.value
    assert player.recipe.numbers == []


@pytest.mark.parametrize("value", [0.001, 0.01, 0.5, 0.99])
def test_both_ends_of_a_slider_are_values_the_recipe_takes(value):
    slider = controls.play(Typed(share=value), ["share"], network=tiny()).sliders["share"]
    assert slider.value == value
    base = getattr(slider, "base", None)
    for end in (slider.min, slider.max):
        assert 0 < Typed(share=base**end if base else end).share < 1


def test_every_slider_of_every_technique_gives_what_its_recipe_takes(network):
    recipes.kind_named("Inversion")  # which imports all of them
    for kind in [kind for kind in Recipe.kinds.values() if kind.__module__.startswith("nbhelpers.techniques")]:
        if any(field.is_required() for field in kind.model_fields.values()):
            continue  # there is no default to begin with
        recipe = kind()
        for name in set(kind.model_fields) - {"layer", *sliders.CHANNELS}:  # which depend on the network
            slider = sliders.slider(recipe, name, network, None)
            assert sliders.from_slider(recipe, name, slider.value) == getattr(recipe, name)
            if isinstance(slider, widgets.IntSlider | widgets.FloatSlider):
                recipe.changed(**{name: slider.min})
                recipe.changed(**{name: slider.max})


def test_channels_that_mean_all_have_a_slider_too(network):
    player = controls.play(Inversion(layer="conv2", photos=PHOTO, size=16, steps=1), ["channels"], network=network)
    assert player.recipe.channels == []
    player.sliders["channels"].value = 2
    player.wait(WAIT)
    assert player.recipe.channels == [2]
    assert "done" in player.status.value


def test_a_network_that_cannot_be_had_is_said(monkeypatch):
    def refuse(name):
        raise FileNotFoundError(f"the weights of {name} are not on this machine")

    player = controls.play(Slow(), ["network"], options={"network": ["minivgg_robust", "vgg16"]})
    monkeypatch.setattr(models, "load", refuse)
    player.sliders["network"].value = "vgg16"
    player.wait(WAIT)
    assert "the weights of vgg16 are not on this machine" in player.status.value
    assert player.recipe.network == "minivgg_robust"


def test_a_network_without_that_layer_gives_the_one_that_is_as_deep(network):
    assert sliders.nearest_layer(models.load("minivgg"), "block4.conv1", network) == "conv2"
    assert sliders.nearest_layer(network, "conv1", models.load("minivgg")).startswith("block2")
    assert sliders.nearest_layer(network, "", models.load("minivgg")) == ""


def test_reset_goes_back_to_the_settings_of_the_cell(network):
    player = controls.play(small(), SHOWN, network=network)
    player.wait(WAIT)
    first = player.image.value
    for name, value in [("layer", "conv1"), ("channels", 7), ("jitter", 1), ("weight_decay", 1e-3)]:
        player.sliders[name].value = value
    player.wait(WAIT)
    assert player.image.value != first
    player.reset_button.click()
    player.wait(WAIT)
    assert player.recipe == small()
    assert player.image.value == first
    assert (player.sliders["layer"].value, player.sliders["channels"].value) == ("conv2", 1)


def test_a_number_that_a_browser_rounds_in_its_last_digits_starts_no_run(network):
    player = controls.play(small(), ["weight_decay"], network=network)
    player.wait(WAIT)
    recipe = player.recipe
    player.sliders["weight_decay"].value = 1e-6 * (1 + 1e-14)
    assert player.recipe is recipe


@pytest.mark.parametrize("value", [30.0, 7.0, 123.4])
def test_a_logarithmic_slider_stands_on_its_value(value):
    slider = sliders.slider(ClassPictures(l2_weight=value), "l2_weight", models.load("minivgg_robust"), None)
    stops = (math.log10(value) - slider.min) / slider.step
    assert stops == pytest.approx(round(stops), abs=1e-6)


def test_what_has_no_effect_is_greyed_and_says_why(network):
    player = controls.play(small(), ["blur", "rounds"], network=network)
    assert player.sliders["blur"].disabled
    assert "blur" in player.notes.value
    assert "single round" in player.notes.value
    player.sliders["rounds"].value = 2
    player.wait(WAIT)
    assert not player.sliders["blur"].disabled
    assert player.notes.value == ""


def test_what_is_greyed_indeed_changes_nothing(network):
    expected = small().run(network).picture
    for name, value in {"blur": 9, "upscale_factor": 1.7, "diversity": 3.0}.items():
        assert name in small().idle()
        assert torch.equal(small(**{name: value}).run(network).picture, expected)


def test_an_error_marks_its_control_and_fades_the_old_picture(network):
    player = controls.play(small(), ["start"], network=network)
    player.wait(WAIT)
    player.sliders["start"].value = "no_such_photo.jpg"
    player.wait(WAIT)
    assert player.image.stale
    player.sliders["start"].value = "noise"
    player.wait(WAIT)
    assert not player.image.stale
    assert "mean activation" in player.image.text


def test_a_saved_picture_holds_its_recipe(network, tmp_path, monkeypatch):
    player = controls.play(small(), ["jitter"], network=network)
    player.wait(WAIT)
    files = {}
    monkeypatch.setattr(player.image, "download", files.__setitem__)
    player.save_button.click()
    ((name, content),) = files.items()
    (tmp_path / name).write_bytes(content)
    assert recipes.from_picture(tmp_path / name) == small()


@given(
    channels=st.lists(st.integers(0, 99), min_size=1, max_size=3),
    rate=st.floats(0.001, 0.2),
    start=st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=9),
)
def test_copied_settings_give_the_recipe_again(channels, rate, start):
    recipe = ActivationMaximization(channels=channels, learning_rate=rate, start=start)
    assert eval(copies.as_code(recipe), {"ActivationMaximization": ActivationMaximization}) == recipe
    assert ActivationMaximization(**yaml.safe_load(copies.as_yaml(recipe))["fixed"]) == recipe
    words = shlex.split(copies.as_parameters(recipe))
    assert words[::3] == ["-p"] * (len(words) // 3)
    assert arguments_read(ActivationMaximization, words) == recipe


def arguments_read(kind, words):
    """The recipe that `-p name value` gives, a value that is JSON being read as such where the field is no text."""
    texts = {name for name, field in kind.model_fields.items() if field.annotation is str}
    pairs = zip(words[1::3], words[2::3], strict=True)
    return kind(**{name: value if name in texts else json.loads(value) for name, value in pairs})


def test_copying_shows_the_text(network):
    player = controls.play(small(), ["jitter"], network=network)
    player.copy_as.value = "code"
    assert player.copied.value.startswith("ActivationMaximization(layer='conv2'")
    assert player.copied.layout.display == ""


def test_nothing_piles_up_while_the_layer_changes(network):
    player = controls.play(small(steps=1), ["layer", "channels", "jitter"], network=network)
    for number in range(40):
        if number == 10:  # what is kept once is kept by now
            before = held()
        player.sliders["layer"].value = ("conv1", "conv2")[number % 2]
        player.wait(WAIT)
    assert held() == before


def held() -> tuple[int, int, int]:
    """Widgets, tensors and threads that are alive."""
    gc.collect()
    tensors = sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())
    return living(), tensors, threading.active_count()


def test_an_error_of_the_first_run_is_the_cell_s(cell):
    with pytest.raises(ValueError, match="broken <on> purpose"):
        controls.play(Slow(fail=True), ["grey"], network=tiny())._ipython_display_()


def test_the_cell_shows_the_widgets_first_and_the_picture_when_it_is_there(cell, network):
    player = controls.play(small(), ["jitter"], network=network)
    player._ipython_display_()
    assert cell[0] is player.widget
    assert "image/jpeg" in cell[1]
    assert player.step.index == player.step.total


def living() -> int:
    """How many widgets there are; ipywidgets calls that deprecated and has no other way."""
    with pytest.deprecated_call():
        return len(widgets.Widget.widgets)


class Shell:
    """As much of a notebook's shell as says which cell runs."""

    def __init__(self, cell, run):
        self.parent = {"metadata": {"cellId": cell}, "header": {"msg_id": run}}

    def get_parent(self):
        return self.parent


def test_a_cell_that_runs_again_closes_what_it_made_and_keeps_its_settings(network, monkeypatch):
    def played(cell, run, **changes):
        monkeypatch.setattr(cells, "get_ipython", lambda: Shell(cell, run))
        player = controls.play(small(**changes), ["jitter"], network=network)
        player.wait(WAIT)
        return player

    first = played("cell", "1")
    first.sliders["jitter"].value = 2
    first.wait(WAIT)
    other = played("other cell", "2")
    alive = living()
    second = played("cell", "3")
    assert second.recipe.jitter == 2
    assert second.sliders["jitter"].value == 2
    assert first.widget.comm is None
    assert other.widget.comm is not None
    assert living() == alive
    third = played("cell", "4", learning_rate=0.1)
    assert third.recipe == small(learning_rate=0.1)


def test_another_network_with_a_layer_of_the_same_name_has_its_own_channels(network, monkeypatch):
    wider = tiny()
    wider.conv2, wider.head = torch.nn.Conv2d(8, 20, 3), torch.nn.Linear(20, 5)
    monkeypatch.setattr(models, "load", lambda name: Network(wider, name, size=32))
    player = controls.play(
        small(), ["network", "layer", "channels"], network=network, options={"network": ["minivgg_robust", "wider"]}
    )
    assert player.sliders["layer"].value == "conv2"
    player.sliders["network"].value = "wider"
    assert player.sliders["layer"].value == "conv2"
    assert player.sliders["channels"].max == 19
    player.wait(WAIT)
    assert (player.recipe.network, player.recipe.layer) == ("wider", "conv2")
    assert "done" in player.status.value


def test_the_user_s_network_is_left_as_it_was(network):
    state = {name: value.clone() for name, value in network.state_dict().items()}
    player = controls.play(small(), ["jitter"], network=network)
    player.sliders["jitter"].value = 1
    player.wait(WAIT)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


def test_no_thread_is_left_when_nothing_is_to_do(network):
    before = threading.active_count()
    player = controls.play(small(), ["jitter"], network=network)
    for value in range(5):
        player.sliders["jitter"].value = value
    player.wait(WAIT)
    assert threading.active_count() == before
    assert player._latest.thread is None


def test_what_jupyter_shows_has_the_widgets_and_a_picture_for_where_they_do_not_run(network):
    bundle = controls.play(small(), ["jitter"], network=network)._repr_mimebundle_()
    assert "model_id" in bundle["application/vnd.jupyter.widget-view+json"]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(bundle["image/jpeg"]))))
    drawn = np.asarray(controls.draw_tiles(small(), small().run(network)))
    assert picture.shape == drawn.shape
    assert np.abs(picture.astype(int) - drawn).mean() < 6  # JPEG
    assert "channels=[1]" in bundle["text/plain"]


def test_small_pictures_are_enlarged_and_keep_their_shape():
    canvas = Pixels(noise(2, 3, 20, 20))
    step = Step(1, 1, torch.zeros(2), torch.ones(2, dtype=torch.bool), canvas)
    width, height = controls.draw_tiles(Slow(), step).size
    assert height >= 300
    assert width / height == pytest.approx(42 / 20, abs=0.01)
    step.canvas = Pixels(noise(1, 3, 400, 400))
    assert controls.draw_tiles(Slow(), step).size == (400, 400)


# In a cell, without sliders.


@pytest.fixture
def cell(monkeypatch):
    """What a cell would show, update by update."""
    shown = []

    class Handle:
        def update(self, data, raw):
            shown.append(data)

    def display(widget, display_id):
        shown.append(widget)
        return Handle()

    monkeypatch.setattr(playing, "display", display)
    return shown


def test_watching_gives_the_last_step_and_leaves_a_picture(cell, network):
    step = controls.watch(small(), network)
    assert torch.equal(step.picture, small().run(network).picture)
    assert isinstance(cell[0], widgets.VBox)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(cell[-1]["image/jpeg"]))))
    assert np.abs(picture.astype(int) - np.asarray(controls.draw_tiles(small(), step))).mean() < 6  # JPEG


def test_interrupting_the_kernel_keeps_the_picture_so_far(cell, capsys, monkeypatch):
    steps = Slow.iterate

    def interrupted(self, network=None):
        for step in steps(self):
            if step.index == 3:
                raise KeyboardInterrupt
            yield step

    monkeypatch.setattr(Slow, "iterate", interrupted)
    step = controls.watch(Slow(grey=77, steps=9))
    assert step.index == 2
    assert "Stopped at step 2 of 9" in capsys.readouterr().out
    assert (np.asarray(Image.open(io.BytesIO(base64.b64decode(cell[-1]["image/jpeg"])))) == 77).all()


def test_an_interrupt_before_the_first_step_is_passed_on(cell, monkeypatch):
    def interrupted(self, network=None):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(Slow, "iterate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        controls.watch(Slow())


def test_watching_works_in_a_plain_script_too(network, capsys):
    assert controls.watch(small(), network).index == 2
