"""A player goes from one network to another: to the layers, classes and sizes that stand where the last ones stood."""

import pytest
from small_networks import tiny
from torch import nn

from nbhelpers import controls, models
from nbhelpers.controls import sliders
from nbhelpers.models import Network
from nbhelpers.techniques import grad_cam
from nbhelpers.techniques.class_agnostic_features import ClassAgnosticFeatures
from nbhelpers.techniques.class_pictures import ClassPictures
from nbhelpers.techniques.grad_cam import GradCAM
from nbhelpers.techniques.principal_features import PrincipalFeatures


@pytest.fixture(scope="module")
def robust() -> Network:
    return models.load("minivgg_robust", device="cpu")


@pytest.fixture(scope="module")
def squeezenet() -> Network:
    return models.load("squeezenet1_1", weights=None, device="cpu")


def flat() -> nn.Module:
    """A network whose head takes pictures of 24 x 24 pixels and no others."""
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 24 * 24, 5))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("stem.conv", "features.0"),  # the first convolution stays the first
        ("block4.relu1", "features.12.expand3x3_activation"),  # the deepest ReLU of the features stays that
        ("", ""),  # the logits stay the logits
    ],
)
def test_the_layer_that_stands_where_the_last_one_stood(
    layer: str, expected: str, robust: Network, squeezenet: Network
) -> None:
    found = sliders.nearest_layer(robust, layer, squeezenet)
    assert found == expected
    assert not layer or models.check_layer(squeezenet, found).kind == models.check_layer(robust, layer).kind


def test_a_second_layer_has_as_many_channels_and_comes_no_later(robust: Network, squeezenet: Network) -> None:
    recipe = ClassAgnosticFeatures()
    changes = sliders.carried_over(recipe, recipe, robust, squeezenet)
    names = [layer.name for layer in models.layers(squeezenet)]
    first, second = (models.check_layer(squeezenet, changes[name]) for name in ("layer", "penalty_layer"))
    assert first.channels == second.channels
    assert names.index(second.name) <= names.index(first.name)
    recipe.changed(**changes).model_copy()


def test_classes_that_the_other_network_lacks_give_way_to_one_it_has(robust: Network) -> None:
    recipe, numbered = ClassPictures(), models.as_network(tiny())
    assert sliders.carried_over(recipe, recipe, robust, numbered)["classes"] == [0]
    assert sliders.carried_over(recipe, recipe, robust, models.load("minivgg"))["classes"] == recipe.classes
    aimed = GradCAM(target="pizza")
    assert sliders.carried_over(aimed, aimed, robust, numbered)["target"] == ""
    wide = Network(tiny(), size=(48, 96))
    assert sliders.carried_over(aimed, aimed, robust, wide)["photo_size"] == (48, 96)


@pytest.mark.parametrize("name", ["photo_size", "size"])
def test_a_size_set_by_hand_stays_where_the_other_network_takes_it(name: str, robust: Network) -> None:
    kind = GradCAM if name == "photo_size" else PrincipalFeatures
    begun = kind(**{name: 96})
    large, fixed = Network(tiny(), size=224), Network(flat(), size=24)

    def carried(size: models.Size, before: Network, after: Network) -> models.Size:
        return sliders.carried_over(begun.changed(**{name: size}), begun, before, after)[name]

    assert carried(160, robust, large) == 160
    assert carried((64, 96), robust, large) == (64, 96)
    assert carried(160, robust, fixed) != 160
    if name == "photo_size":  # nobody set it: as large as the network is at home with, there and back
        assert carried(96, robust, large) == 224
        assert carried(224, large, robust) == 96


def test_a_players_size_follows_a_network_that_is_no_square() -> None:
    models.offer(Network(tiny(), size=(48, 96)), "wide")
    try:
        recipe = GradCAM(photos="sample_images/cat.jpg", layer="block4", photo_size=32)
        player = controls.play(recipe, ["network", "photo_size"], draw=lambda recipe, step: grad_cam.sheet(step))
        player.sliders["network"].value = "wide"
        player.wait(30)
        assert "error" not in player.status.value
        assert player.recipe.photo_size == (48, 96)
        player.sliders["photo_size"].value = 40
        player.wait(30)
        assert player.recipe.photo_size == 40
        player.close()
    finally:
        models.withdraw("wide")


def test_a_player_changes_its_network_and_comes_back() -> None:
    models.offer(tiny(), "two convolutions")
    try:
        recipe = GradCAM(photos="sample_images/cat.jpg", layer="block4", photo_size=32, target="pizza")
        player = controls.play(recipe, ["network", "layer", "target"], draw=lambda recipe, step: grad_cam.sheet(step))
        player.sliders["network"].value = "two convolutions"
        player.wait(30)
        assert "error" not in player.status.value
        assert player.sliders["layer"].value in ("conv1", "relu1", "conv2", "relu2")
        assert player.step.photos.names == ["cat.jpg"]
        player.reset()
        player.wait(30)
        assert player.sliders["layer"].value == "block4"
        assert player.sliders["target"].value == "pizza"
        player.close()
    finally:
        models.withdraw("two convolutions")
