"""What photographs tell: against brute force, scipy and scikit-learn."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score
from small_networks import noise, tiny

from nbhelpers.microscope import made, photographs
from nbhelpers.models import Layer, Network
from nbhelpers.training.data import Pictures

PHOTOS = 70


@pytest.fixture(scope="module", autouse=True)
def several_batches() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photographs, "TOGETHER", 16 * 16 * 32)
        yield


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(tiny().eval(), "tiny", classes=["ant", "bee", "cat", "dog", "elk"], size=16)


@pytest.fixture(scope="module")
def photos() -> Pictures:
    pixels = (noise(PHOTOS, 16, 16, 3) * torch.linspace(0.3, 1, PHOTOS)[:, None, None, None] * 255).byte()
    return Pictures(pixels, torch.arange(PHOTOS) % 3)


@pytest.fixture(scope="module")
def layer(network: Network) -> Layer:
    return made.layers(network, ["conv2"])[0]


def _maps(network: Network, photos: Pictures) -> torch.Tensor:
    with torch.no_grad():
        return network.net[:3](network.normalise(photos.batch(slice(None))[0]))


def test_means_peaks_and_places_are_those_of_the_maps(network: Network, photos: Pictures, layer: Layer) -> None:
    seen = photographs.look(network, made.layers(network), photos)["conv2"]
    maps = _maps(network, photos)
    torch.testing.assert_close(seen.means, maps.mean((2, 3)))
    torch.testing.assert_close(seen.peaks, maps.amax((2, 3)))
    torch.testing.assert_close(maps.flatten(2).gather(2, seen.places[..., None])[..., 0], seen.peaks)


def test_a_pass_that_was_interrupted_goes_on_and_no_other_pass_takes_what_is_kept(
    network: Network, photos: Pictures, layer: Layer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photographs, "PORTION", 20)
    whole = photographs.look(network, [layer], photos)["conv2"]
    done: list[int] = []
    portion = photographs._portion

    def stops_at(number: int):
        def counted(capture, layers, photos, numbers, network):
            if numbers.start == number:
                raise KeyboardInterrupt
            done.append(numbers.start)
            return portion(capture, layers, photos, numbers, network)

        return counted

    monkeypatch.setattr(photographs, "_portion", stops_at(40))
    with pytest.raises(KeyboardInterrupt):
        photographs.look(network, [layer], photos, tmp_path)
    monkeypatch.setattr(photographs, "_portion", stops_at(-1))
    again = photographs.look(network, [layer], photos, tmp_path)["conv2"]
    assert done == [0, 20, 40, 60]
    for name in ("means", "peaks", "places"):
        torch.testing.assert_close(getattr(again, name), getattr(whole, name))
    next(tmp_path.rglob("20.safetensors")).write_bytes(b"half")
    for photographed, looked_at, expected in (
        (photos, network, [20]),
        (photos.subset(40), network, [0, 20]),
        (photos, Network(tiny(1).eval(), "tiny", size=16), [0, 20, 40, 60]),
    ):
        done.clear()
        photographs.look(looked_at, [layer], photographed, tmp_path)
        assert done == expected


def test_areas_and_p_values_are_those_of_scipy_and_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    peaks = torch.randn(200, 4, generator=generator)
    labels = torch.arange(200) % 5
    peaks[labels == 1, 2] += 1
    peaks[:, 3] = peaks[:, 3].round()  # ties
    kinds = [[1, 2], [0, 3, 4]]
    area, chance = photographs.areas(peaks, labels, 6, kinds)
    for number, members in [*enumerate([[0], [1], [2], [3], [4]]), *enumerate(kinds, 6)]:
        inside = torch.isin(labels, torch.tensor(members)).numpy()
        for channel in range(4):
            values = peaks[:, channel].double().numpy()
            assert area[number, channel] == pytest.approx(roc_auc_score(inside, values))
            theirs = mannwhitneyu(values[inside], values[~inside], alternative="greater", method="asymptotic")
            assert chance[number, channel] == pytest.approx(min(1, 8 * theirs.pvalue), rel=1e-6)
    assert (area[5] == 0.5).all()
    assert (chance[5] == 1).all()


def test_noise_is_labelled_as_rarely_as_is_promised_and_a_detector_has_its_class(photos: Pictures) -> None:
    channels = 300
    peaks = torch.randn(PHOTOS, channels, generator=torch.Generator().manual_seed(1))
    peaks[:, 7] += 5 * (photos.labels == 2)
    seen = photographs.Seen(peaks, peaks, torch.zeros(PHOTOS, channels, dtype=torch.long))
    told = photographs.facts(seen, torch.zeros(channels), photos, ["ant", "bee", "cat"])
    assert told[7]["label"] == {"name": "cat"}
    false = sum("label" in fact for fact in told) - 1
    assert false <= 9  # one in a hundred: of 299, more than nine would come by chance once in 500 times


def test_what_answers_to_all_dogs_is_labelled_a_dog_and_every_try_is_counted() -> None:
    names = ["pug", "beagle", "goldfish", "tench", "espresso", "pizza"]
    labels = torch.arange(120) % 6
    peaks = torch.randn(120, 2, generator=torch.Generator().manual_seed(2))
    peaks[:, 0] += 2.5 * (labels < 2)
    peaks[:, 1] += 4 * (labels == 4)
    pixels = torch.zeros(120, 8, 8, 3, dtype=torch.uint8)
    seen = photographs.Seen(peaks, peaks, torch.zeros(120, 2, dtype=torch.long))
    dogs, coffee = photographs.facts(seen, torch.zeros(2), Pictures(pixels, labels), names)
    assert dogs["label"] == {"name": "any dog (2 classes)"}
    assert coffee["label"] == {"name": "espresso"}
    assert dogs["labels"]["tried"] == 6 + 4  # dog, fish, animal, food
    inside = (labels < 2).numpy()
    theirs = mannwhitneyu(peaks[inside, 0], peaks[~inside, 0], alternative="greater", method="asymptotic")
    assert dogs["labels"]["rows"][0]["p"] == pytest.approx(min(1, 10 * theirs.pvalue), rel=1e-3)


def test_facts_are_counted(network: Network, photos: Pictures, layer: Layer) -> None:
    seen = photographs.look(network, [layer], photos)["conv2"]
    told = photographs.facts(seen, seen.means.median(0).values, photos, ["ant", "bee", "cat"])
    correlation = np.corrcoef(seen.means.T.numpy())
    for channel, fact in enumerate(told):
        peaks = seen.peaks[:, channel].tolist()
        assert fact["fires"] == pytest.approx(sum(peak > 0 for peak in peaks) / PHOTOS, rel=1e-3)
        assert sum(fact["histogram"]["counts"]) == PHOTOS
        assert fact["percentile"] == pytest.approx(0.5, abs=0.02)
        others = [each for each in (-correlation[channel]).argsort() if each != channel]
        assert [each["channel"] for each in fact["near"]] == others
    assert sorted(fact["likeness"] for fact in told) == list(range(6))


def test_across_the_range_goes_by_ranks_from_strongest_to_weakest() -> None:
    peaks = torch.tensor([3.0, 0, 5, 1, 4, 2, 9, 8, 7, 6, 10])
    chosen = photographs.across(peaks, 6)
    assert peaks[chosen].tolist() == [10, 8, 6, 4, 2, 0]


def test_patches_are_the_strongest_photos_where_the_channel_answers(
    network: Network, photos: Pictures, layer: Layer
) -> None:
    seen = photographs.look(network, [layer], photos)["conv2"]
    sheet, rows = list(photographs.patches(network, layer, seen, photos))[4]
    wanted = sorted(seen.peaks[:, 4].tolist(), reverse=True)[:9]
    assert [each["value"] for each in rows[0]["photos"]] == pytest.approx(wanted, rel=1e-3)
    assert sheet.height == sheet.width // 9 * 3
    best = int(seen.peaks[:, 4].argmax())
    y, x = divmod(int(seen.places[best, 4]), 8)
    field = int(layer.receptive_field)
    top, left = (min(max(round((at + 0.5) * 2 - field / 2), 0), 16 - field) for at in (y, x))
    patch = photos.pixels[best, top : top + field, left : left + field].float().mean((0, 1))
    side = sheet.width // 9
    shown = torch.from_numpy(np.asarray(sheet.crop((0, 0, side, side)), dtype=np.float32)).mean((0, 1))
    torch.testing.assert_close(shown, patch, atol=6, rtol=0)


def test_maps_of_a_channels_own_photos_are_those_of_the_whole_pass(
    network: Network, photos: Pictures, layer: Layer
) -> None:
    chosen = torch.randint(PHOTOS, (3, 6), generator=torch.Generator().manual_seed(3))
    chosen[0] = 5  # of which all channels want one
    maps = photographs._maps(network, layer, chosen, photos)
    whole = _maps(network, photos)
    for rank, channel in torch.cartesian_prod(torch.arange(3), torch.arange(6)).tolist():
        torch.testing.assert_close(maps[rank, channel], whole[chosen[rank, channel], channel])


def test_the_second_row_is_dark_where_the_channel_is_silent(network: Network, photos: Pictures, layer: Layer) -> None:
    whole = replace(layer, receptive_field=16.0)  # so that each patch is its whole photo
    seen = photographs.look(network, [layer], photos)["conv2"]
    sheet, _ = list(photographs.patches(network, whole, seen, photos))[4]
    best = int(seen.peaks[:, 4].argmax())
    heat = _maps(network, photos)[best, 4].clamp(min=0)
    shown = torch.nn.functional.interpolate(heat[None, None], size=16, mode="bilinear")[0, 0]
    wanted = photos.pixels[best] * (0.25 + 0.75 * shown / shown.max())[..., None]
    side = sheet.width // 9
    tile = sheet.crop((0, side, side, 2 * side)).resize((16, 16), Image.Resampling.BOX)
    off = torch.from_numpy(np.asarray(tile, dtype=np.float32)) - wanted
    assert off.abs().mean() < 12
    plain = torch.from_numpy(np.asarray(tile, dtype=np.float32)) - photos.pixels[best]
    assert plain.abs().mean() > 2 * off.abs().mean()


def test_what_lies_on_disk_is_read_layer_by_layer(network: Network, photos: Pictures, tmp_path: Path) -> None:
    layers = made.layers(network)
    kept, held = photographs.look(network, layers, photos, tmp_path), photographs.look(network, layers, photos)
    assert list(kept) == list(held) == ["conv1", "conv2"]
    for name in kept:
        for part in ("means", "peaks", "places"):
            assert torch.equal(getattr(kept[name], part), getattr(held[name], part))
    with pytest.raises(KeyError):
        kept["conv3"]
    for file in tmp_path.rglob("*.safetensors"):  # nothing of it is held in memory
        file.unlink()
    with pytest.raises(FileNotFoundError):
        kept["conv1"]


def test_numbers_that_are_not_finite_are_refused_by_the_layers_name(photos: Pictures) -> None:
    module = tiny()
    with torch.no_grad():
        module.conv2.weight[2] = float("nan")
    network = Network(module.eval(), "tiny", size=16)
    with pytest.raises(ValueError, match=r"conv2.*not finite"):
        photographs.look(network, made.layers(network), photos)


def test_one_photo_is_enough_for_a_page(network: Network, photos: Pictures, layer: Layer) -> None:
    one = photos.subset(1)
    seen = photographs.look(network, [layer], one)["conv2"]
    told = photographs.facts(seen, torch.zeros(6), one, ["ant"])
    assert len(told) == 6
    assert all("label" not in fact for fact in told)
    sheets = list(photographs.patches(network, layer, seen, one))
    assert len(sheets) == 6
    assert len(sheets[0][1][0]["photos"]) == 1
