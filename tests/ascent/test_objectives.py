"""Every objective against its closed form in float64, its gradient against finite differences of that closed form."""

import numpy as np
import pytest
import torch
from small_networks import noise

from nbhelpers.ascent import objectives
from nbhelpers.ascent.objectives import PICTURE, Objective

LAYER = "block1.conv1"
MAPS = noise(3, 4, 5, 6, seed=1) * 2 - 0.7
PICTURES = noise(3, 3, 7, 8, seed=2)
VECTORS = noise(3, 4, seed=3) - 0.3


def _cosines(maps):
    flat = maps.reshape(*maps.shape[:2], -1)
    grams = (flat @ flat.transpose(0, 2, 1)).reshape(len(maps), -1)
    grams = grams / np.linalg.norm(grams, axis=1, keepdims=True)
    return grams @ grams.T


def _direction(maps):
    vectors = VECTORS.double().numpy()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.einsum("bchw,bc->b", maps, unit) / maps[0, 0].size


def _total_variation(pictures):
    vertical = np.abs(pictures[:, :, 1:] - pictures[:, :, :-1]).mean((1, 2, 3))
    return vertical + np.abs(pictures[..., 1:] - pictures[..., :-1]).mean((1, 2, 3))


# objective, what it reads, the same in float64 numpy
CASES = {
    "channel": (objectives.channel(LAYER, [2, 0, 2]), LAYER, lambda a: a[range(3), [2, 0, 2]].mean((1, 2))),
    "unit": (objectives.unit(LAYER, [1, 3, 0], 4, 1), LAYER, lambda a: a[range(3), [1, 3, 0], 4, 1]),
    "centre unit": (objectives.unit(LAYER, [1, 3, 0]), LAYER, lambda a: a[range(3), [1, 3, 0], 2, 3]),
    "corner unit": (objectives.unit(LAYER, [1, 3, 0], 0, 0), LAYER, lambda a: a[range(3), [1, 3, 0], 0, 0]),
    "direction": (objectives.direction(LAYER, VECTORS), LAYER, _direction),
    "deep dream": (objectives.deep_dream(LAYER), LAYER, lambda a: (a**2).mean((1, 2, 3))),
    "diversity": (objectives.diversity(LAYER), LAYER, lambda a: -(_cosines(a).sum(1) - 1) / 2),
    "squared norm": (objectives.squared_norm(), PICTURE, lambda x: ((x - 0.5) ** 2).mean((1, 2, 3))),
    "total variation": (objectives.total_variation(), PICTURE, _total_variation),
    "sum": (
        2 * objectives.channel(LAYER, [1, 1, 1])
        - 0.5 * objectives.deep_dream(LAYER)
        + -objectives.unit(LAYER, [0] * 3),
        LAYER,
        lambda a: 2 * a[:, 1].mean((1, 2)) - 0.5 * (a**2).mean((1, 2, 3)) - a[:, 0, 2, 3],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_scores_are_the_closed_form_one_per_picture(name):
    objective, reads, closed_form = CASES[name]
    tensor = PICTURES if reads == PICTURE else MAPS
    scores = objective({reads: tensor})
    assert scores.shape == (3,)
    assert scores.dtype == torch.float32
    assert np.allclose(scores.numpy(), closed_form(tensor.double().numpy()), rtol=1e-5, atol=1e-7)
    assert objective.layers == (() if reads == PICTURE else (LAYER,))


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_the_finite_differences_of_the_closed_form(name):
    objective, reads, closed_form = CASES[name]
    tensor = (PICTURES if reads == PICTURE else MAPS).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective({reads: tensor}).sum(), tensor)
    point, step = tensor.detach().double().numpy(), 1e-6
    expected = np.zeros_like(point)
    for place in np.ndindex(point.shape):
        for sign in (1, -1):
            moved = point.copy()
            moved[place] += sign * step
            expected[place] += sign * closed_form(moved).sum() / (2 * step)
    assert np.allclose(gradient.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_logit_is_the_networks_output_and_channel_takes_it_too():
    logits = noise(3, 7)
    objective = objectives.logit([6, 0, 3])
    assert objective.layers == ("",)
    assert torch.equal(objective({"": logits}), logits[[0, 1, 2], [6, 0, 3]])
    assert torch.equal(objectives.channel("", [6, 0, 3])({"": logits}), objective({"": logits}))


def test_logits_have_a_direction_and_a_diversity_but_no_units():
    logits, vectors = noise(2, 7), noise(2, 7, seed=1)
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    assert torch.allclose(objectives.direction("", vectors)({"": logits}), (logits * unit).sum(1))
    # the Gram matrix of a vector is its outer product: the cosine of two is that of the vectors, squared
    cosine = torch.nn.functional.cosine_similarity(logits[0], logits[1], dim=0)
    assert torch.allclose(objectives.diversity("")({"": logits}), -(cosine**2).expand(2))
    with pytest.raises(ValueError, match=r"unit\('', .*no feature maps"):
        objectives.unit("", [0, 1])({"": logits})


def test_diversity_of_one_picture_is_nought_and_of_equal_ones_minus_one():
    diversity = objectives.diversity(LAYER)
    assert diversity({LAYER: MAPS[:1]}).tolist() == [0]
    assert torch.allclose(diversity({LAYER: MAPS[:1].expand(4, -1, -1, -1)}), torch.full((4,), -1.0))
    # shifted in place, a picture is no other picture: the Gram matrix knows no positions
    assert torch.allclose(diversity({LAYER: torch.cat([MAPS[:1], MAPS[:1].roll(2, 3)])}), torch.full((2,), -1.0))


def test_bfloat16_activations_give_float32_scores():
    for objective, reads, closed_form in CASES.values():
        if reads == LAYER:
            rounded = MAPS.bfloat16()
            scores = objective({LAYER: rounded})
            assert scores.dtype == torch.float32
            assert np.allclose(scores.numpy(), closed_form(rounded.double().numpy()), rtol=1e-2, atol=1e-2)


def test_an_objective_reads_as_it_computes_and_needs_each_layer_once():
    objective = 2 * objectives.channel("a", [3, 1]) - objectives.diversity("b") + objectives.channel("a", [0, 0])
    assert repr(objective) == "2 * (channel('a', [3, 1])) + -1 * (diversity('b')) + channel('a', [0, 0])"
    assert objective.layers == ("a", "b")
    assert repr(objectives.unit("a", [1], 2, 3)) == "unit('a', [1], 2, 3)"
    assert repr(objectives.logit([4])) == "logit([4])"


def test_a_sum_in_brackets_is_scaled_as_a_whole():
    first, second = objectives.channel(LAYER, [0, 1, 2]), objectives.deep_dream(LAYER)
    seen = {LAYER: MAPS}
    assert torch.allclose((3 * (first + second))(seen), 3 * first(seen) + 3 * second(seen))
    assert torch.allclose((first - (first - second))(seen), second(seen), atol=1e-6)


def test_an_objective_of_ones_own_joins_in():
    brightness = Objective([], lambda seen: seen[PICTURE].flatten(1).mean(1), "brightness()")
    objective = objectives.channel(LAYER, [0, 1, 2]) - 3 * brightness
    expected = MAPS[range(3), range(3)].mean((1, 2)) - 3 * PICTURES.mean((1, 2, 3))
    assert torch.allclose(objective({LAYER: MAPS, PICTURE: PICTURES}), expected)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (objectives.channel(LAYER, [0, 1]), "3 pictures but 2 channels"),
        (objectives.channel(LAYER, [0, 4, 1]), r"which has 4: each must be from 0 to 3"),
        (objectives.channel(LAYER, [0, -1, 1]), r"which has 4: each must be from 0 to 3"),
        (objectives.unit(LAYER, [0, 1, 2], 5, 0), r"unit \(5, 0\) is outside the 5 x 6 feature map"),
        (objectives.unit(LAYER, [0, 1, 2], 0, -1), r"unit \(0, -1\) is outside the 5 x 6 feature map"),
        (objectives.direction(LAYER, noise(3, 5)), r"gives \(3, 4\).*directions are \(3, 5\)"),
        (objectives.direction(LAYER, noise(1, 4)), r"gives \(3, 4\).*directions are \(1, 4\)"),
    ],
)
def test_what_does_not_fit_is_said(objective, message):
    with pytest.raises(ValueError, match=message):
        objective({LAYER: MAPS})


def test_only_objectives_add_and_only_numbers_scale():
    objective = objectives.channel(LAYER, [0])
    for wrong in (lambda: objective + 1, lambda: objective * objective, lambda: objective - 1):
        with pytest.raises(TypeError):
            wrong()
