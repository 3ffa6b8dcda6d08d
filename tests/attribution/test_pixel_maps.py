"""Attributions against captum, finite differences in double precision, and closed forms."""

import pytest
import torch
from captum.attr import GuidedBackprop, InputXGradient, IntegratedGradients, NoiseTunnel, Saliency
from small_networks import noise, outside, same_outside, tiny
from torch import nn
from torch.nn import functional as F

from nbhelpers import models
from nbhelpers.attribution import gradients, pixel_maps
from nbhelpers.attribution.pixel_maps import (
    gradient,
    gradient_times_input,
    guided_backpropagation,
    integrated_gradients,
    smoothgrad,
    strongest,
    total,
)
from nbhelpers.models import Network

ALL = [gradient, gradient_times_input, smoothgrad, integrated_gradients, guided_backpropagation]


def network(seed=0, **options) -> Network:
    return Network(tiny(seed).eval(), "tiny", size=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.2), **options)


def difference(a, b) -> float:
    return ((a - b).norm() / b.norm()).item()


def plain_relus() -> nn.Sequential:
    """The tiny network with ReLUs that captum can hook: not in-place."""
    net = tiny().eval()
    net.relu1.inplace = net.relu2.inplace = False
    return net


def test_the_gradient_is_captums_and_the_difference_quotient():
    model, photos, classes = network().double(), noise(3, 3, 16, 16).double(), [0, 2, 4]
    logits, found = gradient(model, photos, classes)
    captums = Saliency(model).attribute(photos.clone().requires_grad_(), target=classes, abs=False)
    assert difference(found, captums) < 1e-12
    assert torch.allclose(logits, model(photos))
    for photo, channel, row, column in [(0, 0, 3, 4), (1, 2, 15, 0), (2, 1, 8, 8)]:
        moved = photos[photo].repeat(2, 1, 1, 1)
        moved[0, channel, row, column] += 1e-6
        moved[1, channel, row, column] -= 1e-6
        high, low = model(moved)[:, classes[photo]]
        assert found[photo, channel, row, column].item() == pytest.approx(((high - low) / 2e-6).item(), abs=1e-8)


def test_gradient_times_input_is_captums():
    photos = noise(2, 3, 16, 16)
    _, found = gradient_times_input(network(), photos, [1, 3])
    assert difference(found, InputXGradient(network()).attribute(photos.clone().requires_grad_(), target=[1, 3])) < 1e-5


def test_smoothgrad_is_captums_with_the_same_draws():
    photo = noise(1, 3, 16, 16)
    _, found = smoothgrad(network(), photo, [2], samples=5, noise=0.2, seed=7)
    torch.manual_seed(7)
    deviation = 0.2 * (photo.max() - photo.min()).item()
    tunnel = NoiseTunnel(Saliency(network()))
    expected = tunnel.attribute(photo, nt_samples=5, nt_samples_batch_size=5, stdevs=deviation, target=2, abs=False)
    assert difference(found, expected) < 1e-5


def test_smoothgrad_of_a_photo_does_not_depend_on_its_batch_nor_on_the_world():
    photos = noise(3, 3, 16, 16)
    state = torch.get_rng_state()
    together = smoothgrad(network(), photos, [0, 1, 2], samples=4, seed=5)[1]
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(7)
    alone = smoothgrad(network(), photos[2:], [2], samples=4, seed=7)[1]
    assert difference(alone[0], together[2]) < 1e-5
    assert difference(smoothgrad(network(), photos, [0, 1, 2], samples=4, seed=6)[1], together) > 0.01


def test_smoothgrad_names_the_photo_whose_gradient_is_not_finite():
    class Squares(nn.Module):
        def forward(self, pictures):
            return pictures.square().mean((2, 3))

    photos = noise(3, 3, 16, 16)
    photos[1] = torch.nan
    with pytest.raises(gradients.NotFinite, match=r"the gradient of photo 1 is infinite or not a number"):
        smoothgrad(Network(Squares(), "squares", size=16), photos, [0, 1, 2], samples=3)


def test_smoothgrad_without_noise_is_the_gradient():
    photos = noise(2, 3, 16, 16)
    assert difference(smoothgrad(network(), photos, [0, 1], 3, 0.0)[1], gradient(network(), photos, [0, 1])[1]) < 1e-5


def test_integrated_gradients_are_captums_and_complete():
    model, photos, classes = network().double(), noise(2, 3, 16, 16).double(), [1, 4]
    _, found = integrated_gradients(model, photos, classes, samples=20, baseline="grey")
    grey = torch.full_like(photos, 0.5)
    expected = IntegratedGradients(model).attribute(photos, grey, target=classes, n_steps=20)
    assert difference(found, expected) < 1e-10
    many = integrated_gradients(model, photos, classes, samples=300, baseline="grey")[1].flatten(1).sum(1)
    gained = (model(photos) - model(grey))[[0, 1], classes]
    assert torch.allclose(many, gained, rtol=0.01, atol=1e-4)


def test_a_baseline_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="baseline 'gray' is unknown: choose one of blur, mean, grey, black"):
        integrated_gradients(network(), noise(1, 3, 16, 16), 0, baseline="gray")


@pytest.mark.parametrize("side", [15, 16])  # torch draws normal numbers sixteen at a time
@pytest.mark.parametrize("method", [smoothgrad, integrated_gradients])
def test_memory_is_bounded_without_changing_the_result(method, side):
    photos = noise(3, 3, side, side)
    expected = method(network(), photos, [0, 1, 2], samples=7, batch_size=100)[1]
    for batch_size in (1, 3, 7):
        small = method(network(), photos, [0, 1, 2], samples=7, batch_size=batch_size)[1]
        assert difference(small, expected) < 1e-5


def test_guided_backpropagation_is_captums_where_captum_can():
    photos, classes = noise(3, 3, 16, 16), [0, 2, 4]
    net = plain_relus()
    with pytest.warns(UserWarning, match="backward hooks"):
        expected = GuidedBackprop(net).attribute(photos.clone().requires_grad_(), target=classes)
    _, found = guided_backpropagation(Network(plain_relus(), "plain", size=16), photos, classes)
    assert difference(found, expected) < 1e-5
    # and where it cannot: in-place, and one module used twice or none at all
    assert (
        difference(guided_backpropagation(Network(tiny().eval(), "tiny", size=16), photos, classes)[1], expected) < 1e-5
    )

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = plain_relus()

        def forward(self, pictures):
            features = F.relu(self.parts.conv1(pictures))
            features = torch.relu(self.parts.conv2(features))
            return self.parts.head(features.mean((2, 3)))

    own = Functional().eval()
    assert difference(guided_backpropagation(Network(own, "functional", size=16), photos, classes)[1], expected) < 1e-5


def test_guided_backpropagation_without_relus_says_so():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=r"smooth has no ReLU.*take another method"):
        guided_backpropagation(Network(net, "smooth", size=16), noise(1, 3, 16, 16), [0])


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("state", ["training", "frozen", "no grad", "bad class"])
def test_the_network_is_left_as_it_was(method, state):
    model = network()
    model.train(state == "training")
    model.net.conv1.requires_grad_(state != "frozen")
    before, photos = outside(model), noise(2, 3, 16, 16)
    expected = method(network(), photos, [1, 2])[1]
    if state == "bad class":
        with pytest.raises(ValueError, match=r"tiny has 5 classes, 0 to 4|knows no class"):
            method(model, photos, [1, 5])
    else:
        with torch.set_grad_enabled(state != "no grad"):
            found = method(model, photos, [1, 2])[1]
        assert difference(found, expected) < 1e-5
        assert not found.requires_grad
    assert same_outside(before, outside(model))


@pytest.mark.parametrize("method", ALL)
def test_the_class_that_a_photo_is_given_is_explained_unless_another_is_named(method):
    photos = noise(2, 3, 16, 16)
    own = network()(photos).argmax(1).tolist()
    assert difference(method(network(), photos)[1], method(network(), photos, own)[1]) < 1e-6
    named = network(classes=["a", "b", "c", "d", "e"])
    assert difference(method(named, photos, "c")[1], method(network(), photos, 2)[1]) < 1e-6


@pytest.mark.parametrize("method", ALL)
def test_a_network_without_a_head_is_refused(method):
    body = Network(nn.Sequential(*list(tiny().eval())[:4]), "body", size=16)
    with pytest.raises(ValueError, match=r"body gives a tensor .* expected class logits .*classifier head"):
        method(body, noise(2, 3, 16, 16), 0)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("photos", "got"),
    [
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "torch.uint8"),
        (torch.zeros(3, 16, 16), r"\(3, 16, 16\)"),
        (torch.zeros(2, 1, 16, 16), r"\(2, 1, 16, 16\)"),
        ("photo.jpg", "str"),
    ],
)
@pytest.mark.parametrize("method", ALL)
def test_photos_of_another_type_are_refused(method, photos, got):
    with pytest.raises(ValueError, match=rf"expected a batch of photos, a float tensor .*{got}"):
        method(network(), photos, 0)


def test_maps_from_attributions():
    values = noise(2, 3, 4, 5) - 0.5
    assert torch.equal(strongest(values), values.abs().max(1).values)
    assert torch.equal(total(values), values[:, 0] + values[:, 1] + values[:, 2])


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121"])
def test_captums_numbers_on_real_architectures(name):
    model = models.load(name, weights=None, device="cpu").double()
    photos = noise(2, 3, 64, 64).double()
    expected = Saliency(model).attribute(photos.clone().requires_grad_(), target=[3, 7], abs=False)
    assert difference(pixel_maps.gradient(model, photos, [3, 7])[1], expected) < 1e-9
