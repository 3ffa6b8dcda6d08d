"""Kinds of classes: named as ImageNet names them, found by name, taken for what they are."""

import pytest

from nbhelpers import models
from nbhelpers.microscope import hypernyms


def test_every_name_is_one_of_imagenets() -> None:
    known = {name.lower() for name in models.imagenet_classes()}
    assert {kind: some - known for kind, some in hypernyms.imagenet().items() if some - known} == {}


@pytest.mark.parametrize(
    ("kind", "inside", "outside"),
    [
        ("bird", ["cock", "macaw", "king penguin", "great grey owl", "albatross"], ["axolotl", "tusker", "grey whale"]),
        ("fish", ["tench", "stingray", "puffer", "eel"], ["cock", "abacus", "jellyfish"]),
        ("reptile", ["loggerhead", "American alligator", "sidewinder"], ["tailed frog", "trilobite"]),
        ("dog", ["Chihuahua", "Mexican hairless"], ["killer whale", "timber wolf"]),
        (
            "mammal",
            ["tusker", "koala", "meerkat", "wood rabbit", "giant panda"],
            ["jellyfish", "ladybug", "sea urchin"],
        ),
        ("insect", ["tiger beetle", "lycaenid"], ["meerkat", "starfish", "centipede"]),
        ("ape or monkey", ["orangutan", "squirrel monkey"], ["three-toed sloth", "Madagascar cat"]),
        ("food", ["guacamole", "mushroom", "red wine", "eggnog"], ["plate", "hay", "cup", "alp"]),
        ("landscape", ["alp", "coral reef", "volcano"], ["bubble", "ballplayer"]),
        ("vehicle", ["school bus", "tractor"], ["car wheel", "lifeboat"]),
    ],
)
def test_ranges_begin_and_end_where_they_should(kind: str, inside: list[str], outside: list[str]) -> None:
    some = hypernyms.imagenet()[kind]
    assert {name.lower() for name in inside} <= some
    assert not {name.lower() for name in outside} & some


def test_kinds_are_found_by_name_and_only_where_they_tell_labels_apart() -> None:
    labels = [
        "pug",
        "goldfish, Carassius auratus",
        "boa constrictor",
        "Beagle",
        "night_snake",
        "rocking chair",
        "elsewhere",
    ]
    found = hypernyms.groups(labels)
    assert found["dog"] == [0, 3]
    assert found["snake"] == [2, 4]
    assert "reptile" not in found  # the same two
    assert "mammal" not in found
    assert found["animal"] == [0, 1, 2, 3, 4]
    assert "furniture" not in found  # one
    assert hypernyms.groups(["pug", "beagle"]) == {}  # all of them
    assert hypernyms.groups(["red", "blue"]) == {}


def test_a_network_of_imagenet_has_them_all() -> None:
    assert set(hypernyms.groups(models.imagenet_classes())) == set(hypernyms.RANGES) | set(hypernyms.NAMES)
