"""The two-choice test: what the judge must tell, and what must be chance."""

import numpy as np
import pytest
import torch
from small_networks import noise

from nbhelpers import models
from nbhelpers.microscope import two_choice

PHOTOS, CHANNELS = 1000, 200


@pytest.fixture(scope="module")
def distances() -> torch.Tensor:
    """From each photo to the mean photo."""
    return torch.linspace(0.3, 1.5, PHOTOS)


@pytest.fixture(scope="module")
def features(distances) -> torch.Tensor:
    """Photos that share a large mean, as all features that are never negative do."""
    return 1 + distances[:, None] * torch.randn(PHOTOS, 32, generator=torch.Generator().manual_seed(0))


def test_references_of_what_a_channel_likes_tell_and_any_photo_does_not(features, distances) -> None:
    """Channels that like photos near the mean photo are where a judge with the mean in its features would be fooled."""
    generator = torch.Generator().manual_seed(1)
    along = torch.nn.functional.normalize(torch.randn(CHANNELS, 32, generator=generator), dim=1)
    answers = [(features - 1) @ each - 2 * distances for each in along]
    asked = [two_choice.questions(each, seed=channel) for channel, each in enumerate(answers)]
    chance = [features[torch.randint(PHOTOS, (1,), generator=generator)] for _ in answers]
    strongest = [features[each.topk(9).indices] for each in answers]
    unit = torch.nn.functional.normalize(features, dim=1)
    fooled = [
        (unit[some.strong] @ photo > unit[some.weak] @ photo).float().mean()
        for some, photo in zip(asked, torch.cat(chance), strict=True)
    ]
    told, random = two_choice.test(strongest, features, asked), two_choice.by_chance(features, asked)
    assert told.low > 0.8
    assert abs(random.share - 0.5) < 0.02 < torch.stack(fooled).mean() - 0.5
    once = two_choice.test(chance, features, asked)
    assert random.high - random.low < (once.high - once.low) / 2


def test_an_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    found = [two_choice.verdict(generator.beta(8, 2, 60)) for _ in range(200)]
    held = sum(each.low <= 0.8 <= each.high for each in found)
    assert 180 <= held <= 198  # of 95 %, four deviations either way


def test_a_shift_of_all_features_changes_no_answer(features) -> None:
    asked = [two_choice.questions(features[:, 0])]
    reference = [features[features[:, 0].argmax()][None]]
    before = two_choice.judged(reference, features, asked)
    shifted = two_choice.judged([reference[0] + 100], features + 100, asked)
    assert (before == shifted).all()


def test_middling_photos_lie_between_the_strong_and_the_lower_half() -> None:
    answers = torch.arange(200.0)
    asked = two_choice.questions(answers, 50, "middling")
    assert asked.weak.min() >= 100
    assert asked.weak.max() < 180
    assert asked.strong.max() <= 190  # the nine strongest are spared
    assert two_choice.questions(answers, 50).weak.max() < 100


def test_as_many_questions_as_references_are_needed(features) -> None:
    with pytest.raises(ValueError, match="references and questions"):
        two_choice.judged([features[:1]], features, [])


def test_the_judge_looks_as_closely_as_the_layer_does() -> None:
    robust, plain = models.load("minivgg_robust"), models.load("minivgg")
    for layer in ("stem.conv", "block1.conv1", "block2.conv2", "block3.conv1", "block4.conv1"):
        assert two_choice.level(plain, robust, layer) == layer.replace("conv", "relu")


def test_features_are_the_means_of_the_judges_maps_at_the_scale_of_whole_photos() -> None:
    judge, pictures = models.load("minivgg"), noise(3, 3, 40, 20)
    found = two_choice.features(judge, pictures, ["stem.conv", "block2.relu1"], 40, batch_size=2)
    scaled = torch.nn.functional.interpolate(pictures, (64, 32), mode="bilinear", antialias=True)
    by_hand = judge.net.stem.conv(judge.normalise(scaled)).mean((2, 3))
    torch.testing.assert_close(found["stem.conv"], by_hand)
    assert found["block2.relu1"].shape == (3, models.layers(judge)["block2.relu1"].channels)
