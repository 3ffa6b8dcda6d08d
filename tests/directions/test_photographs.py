"""Photos from folders, places of a layer's maps, and what a network answers to a vector."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import noise, outside, same_outside, tiny

from nbhelpers.directions import photographs
from nbhelpers.models import Network
from nbhelpers.training.data import Pictures


@pytest.fixture
def network() -> Network:
    return Network(tiny().eval(), "tiny", classes=list("abcde"), size=16)


@pytest.fixture
def pictures() -> Pictures:
    return Pictures((noise(5, 16, 16, 3) * 255).byte(), torch.tensor([0, 1, 1, 0, 2]))


def write(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((noise(40, 50, 3, seed=number) * 255).byte().numpy()).save(folder / name)


def test_labels_are_sub_folders_or_the_photos_own_names(tmp_path: Path) -> None:
    write(tmp_path, "cats/1.png", "cats/2.png", "dogs/3.png", "moon.png")
    (tmp_path / "dogs" / "broken.png").write_bytes(b"no picture")
    pictures, names = photographs.read(tmp_path, 16, limit=100, cuts=3, seed=0)
    assert names == ["cats", "dogs", "moon"]
    assert [names[label] for label in pictures.labels] == ["cats"] * 6 + ["dogs"] * 3 + ["moon"] * 3
    assert len(pictures.skipped) == 1
    assert "broken.png" in pictures.skipped[0]


def test_cuts_are_parts_of_the_photo_and_the_first_is_its_centre(tmp_path: Path) -> None:
    write(tmp_path, "one.png")
    pictures, _ = photographs.read(tmp_path, 40, limit=100, cuts=4, seed=0)
    whole = np.asarray(Image.open(tmp_path / "one.png"))
    assert np.array_equal(pictures.pixels[0].numpy(), whole[:, 5:45])
    assert len({each.numpy().tobytes() for each in pictures.pixels}) == 4
    again, _ = photographs.read(tmp_path, 40, limit=100, cuts=4, seed=0)
    assert torch.equal(again.pixels, pictures.pixels)
    few, _ = photographs.read(tmp_path, 40, limit=2, cuts=4, seed=0)
    assert torch.equal(few.pixels, pictures.pixels[:2])


def test_places_are_those_of_the_maps(network: Network, pictures: Pictures) -> None:
    before = outside(network)
    found = photographs.collect(network, "conv2", pictures, places=0)
    assert same_outside(before, outside(network))
    maps = network.net.conv2(network.net.conv1(pictures.batch(slice(None))[0]).relu()).detach()
    every = maps.permute(0, 2, 3, 1).flatten(0, 2)
    for photo in range(5):
        mine = found.vectors[found.photos == photo]
        distances = torch.cdist(mine, every)
        assert distances.amin(1).max() < 1e-3
        assert sorted(distances.argmin(1).tolist()) == list(range(photo * 64, photo * 64 + 64))


def test_some_places_are_different_ones_and_the_same_for_a_seed(network: Network, pictures: Pictures) -> None:
    some = photographs.collect(network, "conv2", pictures, places=3, seed=1)
    assert some.photos.tolist() == [photo for photo in range(5) for _ in range(3)]
    assert len(some.vectors.unique(dim=0)) == 15
    assert torch.equal(some.vectors, photographs.collect(network, "conv2", pictures, 3, 1).vectors)
    assert not torch.equal(some.vectors, photographs.collect(network, "conv2", pictures, 3, 2).vectors)


def test_the_same_places_are_found_in_another_layer(network: Network, pictures: Pictures) -> None:
    """`conv1` has twice as many units along each side: the one that holds the middle is the lower right of four."""
    coarse = photographs.collect(network, "conv2", pictures, places=3, seed=1)
    fine = photographs.collect(network, "conv1", pictures, places=0, like=coarse)
    maps = network.net.conv1(pictures.batch(slice(None))[0]).detach()
    column, row = (coarse.centres * 8).long().unbind(1)
    assert torch.allclose(fine.vectors, maps[coarse.photos, :, 2 * row + 1, 2 * column + 1], atol=1e-6)
    assert torch.equal(fine.photos, coarse.photos)
    again = photographs.collect(network, "conv2", pictures, places=0, like=coarse.subset(torch.tensor([0, 4, 14])))
    assert torch.equal(again.vectors, coarse.vectors[[0, 4, 14]])


@pytest.mark.parametrize("passes", [0, 1, 3])
def test_collecting_that_was_stopped_goes_on_to_the_same_bytes(network, passes, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(photographs, "BATCH", 8)
    monkeypatch.setattr(photographs.tables, "PAUSE", -1.0)
    pictures = Pictures((noise(37, 16, 16, 3) * 255).byte(), torch.zeros(37, dtype=torch.long))
    capture, left = photographs.models.capture, [5]

    def stopping(*given, **options):
        look = capture(*given, **options)

        def looking(batch):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return look(batch)

        return looking

    def collected(folder: Path) -> photographs.Places:
        return photographs.collect(network, "conv2", pictures, places=5, seed=2, kept=folder)

    expected = photographs.collect(network, "conv2", pictures, 5, 2)
    monkeypatch.setattr(photographs.models, "capture", stopping)
    whole = collected(tmp_path / "through")
    (through,) = (tmp_path / "through").glob("*.npy")
    assert torch.equal(whole.vectors, expected.vectors)
    assert np.array_equal(np.load(through), expected.vectors.numpy())

    left[0] = passes
    with pytest.raises(KeyboardInterrupt):
        collected(tmp_path / "again")
    left[0] = 5 - passes  # of five batches, what is left and no more
    again = collected(tmp_path / "again")
    assert (tmp_path / "again" / through.name).read_bytes() == through.read_bytes()
    assert torch.equal(again.vectors, whole.vectors)
    assert torch.equal(collected(tmp_path / "again").vectors, whole.vectors)  # without another look


def test_what_is_kept_belongs_to_weights_pictures_and_settings(network, pictures, tmp_path) -> None:
    def names(**changes) -> set[str]:
        given = dict(network=network, layer="conv2", pictures=pictures, places=3, seed=1, kept=tmp_path)
        photographs.collect(**given | changes)
        return {path.name for path in tmp_path.glob("*.npy")}

    other = Pictures(255 - pictures.pixels, pictures.labels)
    first = names()
    assert names() == first
    for number, changes in enumerate(
        [dict(seed=2), dict(places=2), dict(layer="relu2"), dict(pictures=other), dict(network=Network(tiny(seed=3)))]
    ):
        assert len(names(**changes)) == number + 2


def test_what_is_not_finite_is_not_kept(pictures: Pictures, tmp_path: Path) -> None:
    class Divided(torch.nn.Module):
        def forward(self, maps):
            return maps / maps.abs().amax((1, 2, 3), keepdim=True)

    pictures.pixels[3] = 0
    network = Network(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1, bias=False), Divided()).eval(), "breaks", size=16)
    for _ in range(2):  # and is refused again
        with pytest.raises(ValueError, match="not finite for picture 3: "):
            photographs.collect(network, "1", pictures, 1, kept=tmp_path)


def test_of_a_data_folder_that_is_cut_short_it_is_still_known_what_could_not_be_read(tmp_path, monkeypatch) -> None:
    pictures = Pictures((noise(6, 16, 16, 3) * 255).byte(), torch.arange(6) % 2, skipped=["x.JPEG: broken"])
    monkeypatch.setattr(photographs.data, "known", lambda folder: True)
    monkeypatch.setattr(photographs.data, "load", lambda *given: pictures)
    monkeypatch.setattr(photographs.data, "classes", lambda folder: [{"name": "a"}, {"name": "b"}])
    few, _ = photographs.read(tmp_path, 16, limit=3, cuts=1, seed=0)
    assert len(few) == 3
    assert few.skipped == ["x.JPEG: broken"]


@pytest.mark.parametrize("count", [5, 21])
def test_what_a_place_adds_to_a_class_is_activation_times_gradient(network: Network, count: int) -> None:
    """By finite differences in float64: the class's share, when the layer gives a little less at one place."""
    pictures = Pictures((noise(count, 16, 16, 3) * 255).byte(), torch.zeros(count, dtype=torch.long))
    before = outside(network)
    places = photographs.collect(network, "relu1", pictures, places=2)
    found = photographs.effects(network, "relu1", pictures, places, 3)
    assert same_outside(before, outside(network))
    precise = tiny().double().eval()
    maps = precise[:2](pictures.batch(slice(None))[0].double()).detach()
    rest = lambda maps: precise[2:](maps.clone()).log_softmax(1)[:, 3].detach()  # noqa: E731
    for place in (0, 7, 2 * count - 1):
        photo, unit = int(places.photos[place]), int(places.units(16, 16)[place])
        less = maps[photo : photo + 1].clone()
        less[0, :, unit // 16, unit % 16] *= 1 - 1e-4
        expected = (rest(maps[photo : photo + 1]) - rest(less)) / 1e-4
        assert found[place].item() == pytest.approx(expected.item(), abs=2e-5, rel=1e-2)


def test_a_network_without_classes_has_no_places_for_one(pictures: Pictures) -> None:
    network = Network(tiny()[:4].eval(), "headless", size=16)
    places = photographs.collect(network, "conv2", pictures, 1)
    with pytest.raises(ValueError, match="class logits"):
        photographs.effects(network, "conv2", pictures, places, 0)


def test_a_patch_is_what_the_place_sees(network: Network, pictures: Pictures) -> None:
    """Outside the patch the picture may change, and the place does not notice; inside, it does."""
    found = photographs.collect(network, "conv2", pictures, places=4)
    assert found.side == 5  # two 3 x 3 convolutions, the second with stride 2
    place = 7
    left, top = found.corners[place].tolist()
    photo = int(found.photos[place])
    other = Pictures((noise(5, 16, 16, 3, seed=9) * 255).byte(), pictures.labels)
    inside = slice(top, top + 5), slice(left, left + 5)
    other.pixels[photo][inside] = pictures.pixels[photo][inside]
    again = photographs.collect(network, "conv2", other, places=4)
    assert (again.vectors[place] - found.vectors[place]).abs().max() < 0.5
    assert torch.equal(found.patch(pictures, place), pictures.batch(slice(None))[0][photo][:, inside[0], inside[1]])


def test_answers_to_a_vector_are_the_rest_of_the_network_applied_to_it(network: Network) -> None:
    vectors = noise(70, 6, seed=4)
    expected = network.net.head(vectors).softmax(1).detach()
    assert torch.allclose(photographs.answers(network, "relu2", vectors, 16), expected, atol=1e-6)


def test_what_is_not_finite_names_the_picture(pictures: Pictures) -> None:
    class Scaled(torch.nn.Module):
        def forward(self, maps):
            return maps / maps.abs().amax((1, 2, 3), keepdim=True)

    pictures.pixels[3] = 0
    network = Network(
        torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1, bias=False), Scaled()).eval(), "black breaks", size=16
    )
    with pytest.raises(ValueError, match="not finite for picture 3: "):
        photographs.collect(network, "1", pictures, 1)


def test_a_folder_without_pictures_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no pictures"):
        photographs.read(tmp_path, 16, 10, 1, 0)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"no readable picture: a\.png"):
        photographs.read(tmp_path, 16, 10, 1, 0)


def test_photos_that_cannot_be_read_are_left_out_with_all_their_places(network: Network, tmp_path: Path) -> None:
    """Of unreadable ones among readable ones, the others are what they would be alone."""
    write(tmp_path / "clean", "a/1.png", "b/2.png", "b/3.png")
    write(tmp_path / "mixed", "a/1.png", "b/2.png", "b/3.png")
    (tmp_path / "mixed" / "a" / "0.png").write_bytes(b"no picture")
    (tmp_path / "mixed" / "b" / "22.jpg").write_bytes((tmp_path / "mixed" / "b" / "2.png").read_bytes()[:200])
    (clean, names), (mixed, others) = (photographs.read(tmp_path / each, 16, 100, 2, 0) for each in ("clean", "mixed"))
    assert names == others == ["a", "b"]
    assert torch.equal(clean.pixels, mixed.pixels)
    assert torch.equal(clean.labels, mixed.labels)
    assert len(mixed.skipped) == 2
    first, second = (photographs.collect(network, "relu2", each, 2) for each in (clean, mixed))
    assert torch.equal(first.vectors, second.vectors)
