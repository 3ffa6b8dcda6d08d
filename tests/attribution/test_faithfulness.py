"""Deletion and insertion against closed forms on linear networks, and against the plain loop."""

import pytest
import torch
from small_networks import noise, outside, same_outside, tiny
from torch import nn
from torch.nn import functional as F

from nbhelpers.attribution import faithfulness
from nbhelpers.models import Network


class Linear(nn.Module):
    """Two classes: the logit of class 0 is the weighted sum of all values, that of class 1 is 0."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, pictures):
        own = (pictures * self.weights).flatten(1).sum(1)
        return torch.stack([own, torch.zeros_like(own)], 1)


@pytest.fixture
def linear():
    weights = torch.zeros(3, 4, 4, dtype=torch.float64)
    weights[:, :2, :2] = torch.tensor([[4.0, 3.0], [2.0, 1.0]])
    return Network(Linear(weights), "linear", size=4).double()


def test_deletion_of_a_linear_network_has_the_closed_form(linear):
    photo = torch.ones(1, 3, 4, 4, dtype=torch.float64)
    maps = linear.net.weights.detach().sum(0)[None]
    found = faithfulness.curves(linear, photo, maps, [0], steps=16, baseline="black")
    left = torch.tensor([30, 18, 9, 3, 0] + [0] * 12).double()  # three colours: 3 * (4 + 3 + 2 + 1) and so on
    assert torch.allclose(found.scores[0].double(), torch.sigmoid(left), atol=1e-6)
    assert torch.allclose(found.fractions, torch.arange(17) / 16)
    values = torch.sigmoid(left)
    assert found.areas[0].item() == pytest.approx(((values[1:] + values[:-1]) / 2).mean().item(), abs=1e-6)
    # insertion brings the same pixels back
    risen = faithfulness.curves(linear, photo, maps, [0], steps=16, mode="insertion", baseline="black")
    gained = torch.tensor([0, 12, 21, 27, 30] + [30] * 12).double()
    assert torch.allclose(risen.scores[0].double(), torch.sigmoid(gained), atol=1e-6)


def test_the_true_map_beats_its_opposite_and_noise(linear):
    photos = noise(4, 3, 4, 4).double()
    maps = linear.net.weights.detach().sum(0).expand(4, -1, -1)
    areas = [
        faithfulness.curves(linear, photos, each, [0] * 4, 8, baseline="black").areas
        for each in (maps, faithfulness.random_maps(photos), -maps)
    ]
    assert (areas[0] <= areas[1]).all()
    assert (areas[1] <= areas[2]).all()
    assert (areas[0] < areas[2]).all()


def test_curves_are_those_of_the_plain_loop():
    network = Network(tiny().eval(), "tiny", size=12)
    photos, maps = noise(3, 3, 12, 12), noise(3, 12, 12, seed=2)
    for mode in faithfulness.MODES:
        found = faithfulness.curves(network, photos, maps, [0, 3, 4], 6, mode, "grey", batch_size=5)
        for index, target in enumerate([0, 3, 4]):
            order = maps[index].flatten().argsort(descending=True)
            for step in range(7):
                gone = torch.zeros(144, dtype=torch.bool)
                gone[order[: 24 * step]] = True
                if mode == "insertion":
                    gone = ~gone
                picture = torch.where(gone.view(12, 12), torch.tensor(0.5), photos[index])
                share = network(picture[None]).softmax(1)[0, target]
                assert found.scores[index, step].item() == pytest.approx(share.item(), abs=1e-5)


def test_a_photo_fares_the_same_alone_and_in_a_batch():
    network = Network(tiny().eval(), "tiny", size=12)
    photos, maps = noise(3, 3, 12, 12), noise(3, 6, 6, seed=2)
    together = faithfulness.curves(network, photos, maps, [1, 2, 3], 5)
    alone = faithfulness.curves(network, photos[1:2], maps[1:2], [2], 5)
    assert torch.allclose(together.scores[1:2], alone.scores, atol=1e-6)


def test_the_network_is_left_as_it_was():
    network = Network(tiny().train(), "tiny", size=12)
    before = outside(network)
    faithfulness.curves(network, noise(1, 3, 12, 12), noise(1, 12, 12), [1], 3)
    assert same_outside(before, outside(network))


def test_equal_values_come_in_an_order_without_a_direction():
    ranks = faithfulness.pixel_ranks(torch.zeros(2, 40, 40))
    assert torch.equal(ranks[0], ranks[1])
    assert sorted(ranks[0].flatten().tolist()) == list(range(1600))
    first_half = ranks[0] < 800
    assert 0.4 < first_half[:20].float().mean() < 0.6
    maps = noise(2, 9, 7)
    assert torch.equal(
        faithfulness.pixel_ranks(maps).flatten(1).argsort(1), maps.flatten(1).argsort(1, descending=True)
    )


def test_what_stands_in_for_a_pixel():
    photos = noise(2, 3, 16, 16)
    assert faithfulness.stand_in(photos, "grey").unique().tolist() == [0.5]
    assert faithfulness.stand_in(photos, "black").count_nonzero() == 0
    mean = faithfulness.stand_in(photos, "mean")
    assert torch.allclose(mean[1, 2], photos[1, 2].mean().expand(16, 16))
    blurred = faithfulness.stand_in(photos, "blur")
    assert F.mse_loss(blurred, mean) < F.mse_loss(photos, mean) / 10
    with pytest.raises(ValueError, match="baseline 'gray' is unknown: choose one of blur, mean, grey, black"):
        faithfulness.stand_in(photos, "gray")


def test_controls_know_nothing():
    photos = noise(3, 3, 16, 20)
    random = faithfulness.random_maps(photos, seed=4)
    assert torch.equal(random[1], faithfulness.random_maps(photos[:1], seed=5)[0])
    centre = faithfulness.centre_maps(photos)
    assert centre.shape == random.shape == (3, 16, 20)
    assert torch.allclose(centre, centre.flip(1, 2))
    assert centre[0].argmax() in (7 * 20 + 9, 7 * 20 + 10, 8 * 20 + 9, 8 * 20 + 10)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(mode="delete"), "mode 'delete' is unknown: choose one of deletion, insertion"),
        (dict(baseline="white"), "baseline 'white' is unknown"),
        (dict(steps=0), "0 steps: expected 1 to 144"),
        (dict(steps=145), "145 steps: expected 1 to 144"),
        (dict(maps=noise(2, 12, 12)), "1 photos, 2 maps, 1 classes: give as many of each"),
        (dict(classes=[5]), "has 5 classes, 0 to 4: there is no class 5"),
        (dict(maps=torch.full((1, 12, 12), torch.inf)), "map 0 holds values that are not finite"),
    ],
)
def test_bad_input_says_what_is_wrong(changes, message):
    arguments = dict(photos=noise(1, 3, 12, 12), maps=noise(1, 12, 12), classes=[1]) | changes
    with pytest.raises(ValueError, match=message):
        faithfulness.curves(Network(tiny().eval(), "tiny", size=12), **arguments)
