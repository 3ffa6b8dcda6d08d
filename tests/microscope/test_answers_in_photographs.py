"""What photographs tell: against brute force, scipy and scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score
from small_networks import noise, tiny

from nbhelpers.microscope import made, photographs
from nbhelpers.models import Layer, Network
from nbhelpers.training.data import Pictures

PHOTOS = 70  # more than a batch


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
    area, chance = photographs.areas(peaks, labels, 6)
    for number in range(5):
        inside = (labels == number).numpy()
        for channel in range(4):
            values = peaks[:, channel].double().numpy()
            assert area[number, channel] == pytest.approx(roc_auc_score(inside, values))
            theirs = mannwhitneyu(values[inside], values[~inside], alternative="greater", method="asymptotic")
            assert chance[number, channel] == pytest.approx(min(1, 6 * theirs.pvalue), rel=1e-6)
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
    sheet, rows = photographs.patches(network, layer, seen, 4, photos)
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


def test_one_photo_is_enough_for_a_page(network: Network, photos: Pictures, layer: Layer) -> None:
    one = photos.subset(1)
    seen = photographs.look(network, [layer], one)["conv2"]
    told = photographs.facts(seen, torch.zeros(6), one, ["ant"])
    assert len(told) == 6
    assert all("label" not in fact for fact in told)
    assert len(photographs.patches(network, layer, seen, 0, one)[1][0]["photos"]) == 1
