"""Pictures of directions: channels are a special case, batches join up, files are drawn again, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small_networks import noise, tiny

from nbhelpers import images, recipes
from nbhelpers.models import Network
from nbhelpers.techniques import direction_pictures as technique
from nbhelpers.techniques.activation_maximization import ActivationMaximization
from nbhelpers.techniques.direction_pictures import DirectionPictures

SMALL = dict(layer="conv2", size=16, rounds=2, steps=4, jitter=4, scale=0.1, rotate=5)


@pytest.fixture
def network() -> Network:
    return Network(tiny().eval(), "tiny", size=32)


def one_hot(*channels: int) -> list[list[float]]:
    return torch.eye(6)[list(channels)].tolist()


def test_the_direction_of_a_channel_gives_the_channels_picture(network: Network) -> None:
    recipe = DirectionPictures(**SMALL, directions=one_hot(0))
    made = recipe.run(network).picture
    shared = {name: getattr(recipe, name) for name in ActivationMaximization.model_fields if hasattr(recipe, name)}
    others = {"channels": [0], "weight_decay": 0, "canvas": "fourier", "settle": False}
    expected = ActivationMaximization(**shared, **others).run(network).picture
    assert torch.equal(made, expected)


def test_length_does_not_matter_and_the_opposite_direction_is_another_picture(network: Network) -> None:
    vector = noise(1, 6) - 0.5
    made, longer, opposite = (
        DirectionPictures(**SMALL, directions=(factor * vector).tolist()).run(network).picture for factor in (1, 8, -1)
    )
    assert torch.allclose(made, longer, atol=1e-3)
    assert (made - opposite).abs().mean() > 0.02


def test_equal_directions_are_equal_pictures_and_another_seed_is_another(network: Network) -> None:
    recipe = DirectionPictures(**SMALL, directions=one_hot(1, 4, 1))
    first, second, third = recipe.run(network).picture
    assert torch.allclose(first, third, atol=1e-3)
    assert (first - second).abs().mean() > 0.01
    assert (recipe.changed(seed=1).run(network).picture[0] - first).abs().mean() > 0.01


def test_strength_is_the_projection_of_the_mean_activation(network: Network) -> None:
    vectors, pictures = noise(2, 6, seed=1) - 0.5, noise(2, 3, 16, 16)
    recipe = DirectionPictures(**SMALL, directions=vectors.tolist())
    mean = network.net.conv2(network.net.conv1(pictures).relu()).detach().double().mean((2, 3)).numpy()
    expected = (mean * vectors.double().numpy()).sum(1) / np.linalg.norm(vectors.double().numpy(), axis=1)
    assert np.allclose(technique.strengths(recipe, pictures, network), expected, atol=1e-5)


def test_each_picture_rises_along_its_own_direction(network: Network) -> None:
    recipe = DirectionPictures(**SMALL, directions=(noise(6, 6, seed=2) - 0.5).tolist()).changed(steps=20)
    made = technique.draw(recipe, network)
    own = technique.strengths(recipe, made, network)
    others = technique.strengths(recipe, made.roll(1, 0), network)
    assert (own > others).all()


def test_many_directions_are_drawn_in_batches_and_drawn_again_from_their_files(network, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(technique, "TOGETHER", 2)
    recipe = DirectionPictures(**SMALL, directions=technique.rounded(noise(5, 6, seed=3) - 0.5))
    made = technique.draw(recipe, network)
    assert [len(batch.directions) for batch in technique.batches(recipe)] == [2, 2, 1]
    paths = technique.save(recipe, made, tmp_path)
    assert len(set(paths)) == 5
    for path, picture in zip(paths, made, strict=True):
        assert (images.read(path) - picture).abs().max() <= 0.5 / 255 + 1e-6
        assert torch.equal(recipes.remake(path, network), picture)


@settings(deadline=None)
@given(
    arrays(np.float32, (3, 7), elements=st.floats(-1e4, 1e4, width=32)).filter(lambda v: (abs(v).max(1) > 1e-3).all())
)
def test_rounding_keeps_the_direction(vectors: np.ndarray) -> None:
    kept = np.array(technique.rounded(torch.from_numpy(vectors)))
    exact = vectors.astype(np.float64)
    cosines = (kept * exact).sum(1) / np.linalg.norm(kept, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines == pytest.approx(1, abs=1e-5)
    assert all(len(repr(float(number))) <= 10 for number in kept.flat)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(directions=[[1.0] * 5]), ValueError, r"direction 0 has 5 numbers, .*'conv2' of tiny has 6 channels"),
        (dict(directions=[[1.0] * 6, [0.0] * 6]), ValueError, "direction 1 points nowhere"),
        (dict(directions=[[float("inf")] * 6]), ValueError, "direction 0 points nowhere"),
        (dict(layer="conv3"), KeyError, r"no layer 'conv3'.*conv2"),
        (dict(layer="head"), ValueError, "gives no feature maps"),
    ],
)
def test_what_does_not_fit_is_said(network: Network, changes: dict, error: type[Exception], message: str) -> None:
    recipe = DirectionPictures(**SMALL, directions=one_hot(0)).changed(**changes)
    with pytest.raises(error, match=message):
        technique.draw(recipe, network)


def test_no_directions_is_said() -> None:
    with pytest.raises(ValueError, match=r"directions = \[\]: .*one picture each"):
        DirectionPictures(directions=[])
