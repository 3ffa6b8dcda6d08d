"""Concepts: parts in order, their photos and heats by brute force, files, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import tiny

from nbhelpers import recipes
from nbhelpers.directions import concepts as technique
from nbhelpers.directions.concepts import Concepts, Found
from nbhelpers.models import Network

SMALL = dict(
    **dict(layer="relu2", drawn="conv2", size=16, cuts=6, places=0, parts=3, shown=3),
    **dict(picture_size=16, rounds=1, steps=3),
)


@pytest.fixture(scope="module")
def found(network: Network, folder: Path) -> Found:
    return Concepts(**SMALL, photos=str(folder)).run(network)


def test_what_carries_most_comes_first(found: Found) -> None:
    made = found.codes[:, :, None] * found.dictionary.directions
    carried = made.square().sum(2).mean(0)
    assert carried[found.order].tolist() == sorted(carried.tolist(), reverse=True)
    assert found.index == found.total == 3


def test_the_strongest_places_are_of_different_pictures(found: Found) -> None:
    best = {}
    for code, photo in zip(found.codes[:, 0].tolist(), found.collected.photos.tolist(), strict=True):
        best[photo] = max(code, best.get(photo, -1))
    expected = sorted(best.values(), reverse=True)[:5]
    assert found.codes[found.strongest(0, 5), 0].tolist() == pytest.approx(expected)
    few = found.strongest(0, 6, alike=2)
    labels = found.pictures.labels[found.collected.photos[few]].tolist()
    assert max(map(labels.count, labels)) <= 2


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ([0] * 12 + [1] * 8, "red, green"),
        ([0] * 17 + [1] * 3, "red"),
        ([0] * 5 + [1] * 4 + [2, 3, 4, 5] * 2 + [6, 7, 8], "many things"),
    ],
)
def test_a_direction_is_named_by_what_most_of_its_photos_are_of(found: Found, labels: list[int], name: str) -> None:
    """By labels that a fifth of the 20 strongest have, if such labels make up half of them."""
    pictures = replace(found.pictures, pixels=torch.zeros(20, 16, 16, 3).byte(), labels=torch.tensor(labels))
    places = replace(found.collected.subset(torch.arange(20)), photos=torch.arange(20))
    codes = torch.arange(20.0, 0, -1).float()[:, None].expand(-1, 3)
    names = ["red, crimson", "green", *"abcdefg"]
    assert replace(found, pictures=pictures, labels=names, collected=places, codes=codes).name(0) == name


def test_heat_is_the_code_at_every_place(found: Found, network: Network) -> None:
    pictures = found.pictures.batch(slice(0, 2))[0]
    heats = technique.heat(found, 1, pictures, network)
    codes = found.codes[:, 1].view(-1, 8, 8)[:2] if found.recipe.places == 0 else None
    assert heats.shape == (2, 16, 16)
    for index in range(2):
        mine = found.codes[found.collected.photos == index, 1]
        assert heats[index].max() <= mine.max() / found.codes[:, 1].max() + 1e-5
    assert codes is not None


def test_what_is_drawn_has_nothing_of_the_mean_activation(found: Found) -> None:
    directions = torch.tensor(technique.pictures_recipe(found).directions)
    mean = found.collected.vectors.mean(0)
    assert torch.nn.functional.cosine_similarity(directions, mean[None]).abs().max() < 0.01


def test_leaving_out_the_most_important_is_measured_beside_random_orders(found: Found, network: Network) -> None:
    worth = technique.weigh(found, network, samples=8)
    assert worth.label in network.classes
    assert len(worth.without) == len(worth.at_random) == 3
    assert worth.without[-1] == pytest.approx(worth.at_random[-1], abs=1e-4)  # all are gone
    assert -1 <= worth.correlation <= 1


def test_a_class_that_no_photo_is_taken_for_says_which_ones_are(found: Found, network: Network) -> None:
    _, label = technique.class_maps(found, network)
    others = [name for index, name in enumerate(network.classes) if index != label]
    for name in others:
        asked = replace(found, recipe=found.recipe.changed(label=name))
        try:
            _, number = technique.class_maps(asked, network)
        except ValueError as error:
            assert f"is taken for {name!r}: most are taken for {network.classes[label]}" in str(error)  # noqa: PT017
            return
        assert network.classes[number] == name
    pytest.fail("every class has a photo")


def test_all_methods_are_judged(found: Found, network: Network) -> None:
    table = technique.contest(found, network)
    assert list(table) == ["nmf", "autoencoder", "k-means", "components", "channels"]
    assert table["components"]["variance"] == max(row["variance"] for row in table.values())
    assert table["channels"]["seeds"] == pytest.approx(1)
    assert table["k-means"]["used"] == 1
    assert table["components"]["logit kept"] > table["k-means"]["logit kept"]
    assert len(technique.by_chance(found, 3)) == 3


def test_pictures_are_drawn_again_from_their_files(found: Found, network: Network, tmp_path: Path) -> None:
    paths = technique.save(found, tmp_path)
    for path, picture in zip(paths, found.picture, strict=True):
        assert torch.equal(recipes.remake(path, network), picture)


def test_the_sheet_has_a_row_for_each_direction(found: Found, network: Network) -> None:
    sheet = np.asarray(technique.draw(found.recipe, found, network))
    assert sheet.shape[1] > sheet.shape[0] > 3 * 16


def test_an_autoencoder_that_was_stopped_leaves_its_state(network, folder, tmp_path, monkeypatch) -> None:
    recipe = Concepts(**SMALL, photos=str(folder)).changed(method="autoencoder")
    through = technique.find(recipe, network)
    load, largest, steps = torch.load, technique.dictionaries._largest, []

    def stopped(codes: torch.Tensor, active: int) -> torch.Tensor:
        steps.append(active)
        if len(steps) > 400:
            raise KeyboardInterrupt
        return largest(codes, active)

    monkeypatch.setattr(technique.dictionaries, "_largest", stopped)
    kept = recipe.changed(keep=str(tmp_path / "states"))
    with pytest.raises(KeyboardInterrupt):
        kept.run(network)
    names = sorted(path.name.partition("-")[0] + path.suffix for path in (tmp_path / "states").iterdir())
    assert names == ["autoencoder.pt", "places.json", "places.npy"]
    monkeypatch.setattr(technique.dictionaries, "_largest", largest)
    read = []
    monkeypatch.setattr(torch, "load", lambda *given, **options: read.append(given) or load(*given, **options))
    again = technique.find(kept, network)
    assert len(read) == 1
    assert torch.equal(again.codes, through.codes)


def test_the_report_says_what_was_left_out(found) -> None:
    assert found.report() == ["18 pictures, 1152 places, 6 channels", "3 directions, learned from all places"]
    pictures = replace(found.pictures, skipped=["a.png: broken"])
    assert "1 files that cannot be read were left out" in replace(found, pictures=pictures).report()


def test_more_than_memory_holds_gives_the_same_concepts(found, network, tmp_path, monkeypatch) -> None:
    """All tables in files, from the places to the codes and the halves that are judged."""
    expected = technique.contest(found, network)
    monkeypatch.setattr(technique.tables, "IN_MEMORY", 0)
    monkeypatch.setattr(technique.tables, "PORTION", 1000)
    stored = technique.find(found.recipe.changed(keep=str(tmp_path)), network)
    assert torch.allclose(stored.codes, found.codes, atol=1e-4)
    assert stored.order == found.order
    assert [stored.strongest(part, 5) for part in stored.order] == [found.strongest(part, 5) for part in found.order]
    table = technique.contest(stored, network)
    assert table["nmf"] == pytest.approx(expected["nmf"], abs=0.01)
    assert table["components"] == pytest.approx(expected["components"], abs=0.01)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(drawn="conv1"), ValueError, r"'relu2' has 6 channels and 'conv1', to draw in, 8"),
        (dict(layer="conv2"), ValueError, "'conv2' gives negative numbers.*never negative: take layer 'relu2', or"),
        (dict(layer="head"), ValueError, "'head'.* gives no feature maps"),
        (dict(parts=16384), ValueError, r"16384 parts of 1152 places"),
        (dict(layer="relu9"), KeyError, "no layer 'relu9'"),
    ],
)
def test_what_does_not_fit_is_said(network, folder, changes, error, message) -> None:
    with pytest.raises(error, match=message):
        technique.find(Concepts(**SMALL, photos=str(folder)).changed(**changes), network)


def test_halves_that_are_too_few_for_the_parts_are_said(network, folder) -> None:
    found = technique.find(Concepts(**SMALL, photos=str(folder)).changed(cuts=1, places=1), network)
    with pytest.raises(ValueError, match=r"3 parts are to be found in each half .* one half has 1 places: take fewer"):
        technique.contest(found, network)


def test_a_layer_of_negative_numbers_without_a_relu_behind_it_names_none(folder) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh(), torch.nn.Conv2d(4, 5, 3)).eval()
    recipe = Concepts(**SMALL, photos=str(folder)).changed(layer="0", drawn="0")
    with pytest.raises(ValueError, match="take a layer after a ReLU, or another method"):
        technique.find(recipe, Network(net, "smooth", size=16))
    assert technique.find(recipe.changed(method="components"), Network(net, "smooth", size=16)).total == 3


def test_a_network_without_classes_weighs_nothing(network, folder) -> None:
    headless = Network(network.net[:4], "headless", size=16)
    found = technique.find(Concepts(**SMALL, photos=str(folder)), headless)
    with pytest.raises(ValueError, match=r"headless gives .* expected class logits"):
        technique.weigh(found, headless)


def test_of_one_class_everything_is_said_that_can_be(folder) -> None:
    """A network that knows one class, and photos of one label."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
            torch.nn.Linear(6, 1),
        ).eval()  # fmt: skip
    single = Network(net, "single", classes=["thing"], size=16)
    recipe = Concepts(**SMALL, photos=str(folder)).changed(layer="1", drawn="0", label="thing")
    found = technique.find(recipe, single)
    worth = technique.weigh(found, single, samples=8)
    assert (worth.label, worth.photos) == ("thing", technique.CLASS_PHOTOS)
    # all of the logit is the parts' affair, for nothing else comes between
    maps, label = technique.class_maps(found, single)
    assert worth.whole == pytest.approx(net[2:](maps)[:, label].mean().item(), abs=0.05)
    assert technique.contest(found, single)["nmf"]["answers kept"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("dead", "the same at every place, so it has no parts: take another layer"),
        ("nan", "not finite for picture 0, 1"),
    ],
)
def test_dead_layers_and_broken_weights_are_said(folder, change: str, message: str) -> None:
    net = tiny().eval()
    with torch.no_grad():
        net.conv2.weight.zero_()
        net.conv2.bias.fill_(-1.0 if change == "dead" else torch.nan)
    with pytest.raises(ValueError, match=message):
        technique.find(Concepts(**SMALL, photos=str(folder)), Network(net, change, size=16))
