"""Gradients of logits, against captum, finite differences and closed forms; and networks left as they were."""

from collections import OrderedDict

import pytest
import torch
from captum.attr import GuidedBackprop, Saliency
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import noise, outside, same_outside, tiny
from torch import Tensor, nn

from nbhelpers import models
from nbhelpers.attribution import gradients
from nbhelpers.attribution.gradients import GuidedReLUs, layer_gradients, pixel_gradients
from nbhelpers.models import Network


@pytest.fixture
def small() -> Network:
    return Network(tiny(), "small", classes=["ant", "bee", "cat", "dog", "elk"], size=16)


class Branches(nn.Module):
    """One in-place ReLU that runs twice, a functional one, and a layer beside the way."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.aside = nn.Conv2d(6, 6, 1)
        self.spare = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        first = self.relu(self.first(pictures))
        self.aside(first)
        second = self.relu(self.second(first) + first)
        return self.head(nn.functional.relu(second - 0.2).mean((2, 3)))


def difference(function, at: Tensor, place: tuple[int, ...], step: float = 1e-5) -> Tensor:
    """Central difference of a function `(B, ...)` to `(B,)` along one entry of each of its inputs."""
    moved = torch.zeros_like(at)
    moved[(slice(None), *place)] = step
    return (function(at + moved) - function(at - moved)) / (2 * step)


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "squeezenet1_1"])
def test_pixels_against_captum_one_class_per_photo(name: str) -> None:
    network = models.load(name, weights=None, device="cpu")
    photos, classes = noise(3, 3, 64, 64), [3, 500, 999]
    logits, found = pixel_gradients(network, photos, classes)
    expected = Saliency(network).attribute(photos.clone().requires_grad_(), target=torch.tensor(classes), abs=False)
    assert torch.allclose(found, expected, atol=1e-5 * expected.abs().max().item())
    assert torch.allclose(logits, network(photos), atol=1e-4)


def test_guided_gradients_against_captum() -> None:
    network = models.load("alexnet", weights=None, device="cpu")
    photos = noise(2, 3, 64, 64)
    with GuidedReLUs():
        _, found = pixel_gradients(network, photos, [3, 500])
    with pytest.warns(UserWarning, match="backward hooks"):
        expected = GuidedBackprop(network).attribute(photos.clone().requires_grad_(), target=torch.tensor([3, 500]))
    assert torch.allclose(found, expected, atol=1e-5 * expected.abs().max().item())
    assert not torch.allclose(found, pixel_gradients(network, photos, [3, 500])[1], atol=1e-5)


@pytest.mark.parametrize("relu", [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6()])
def test_guided_gradients_by_hand(relu: nn.Module) -> None:
    net = nn.Sequential(OrderedDict(relu=relu, flat=nn.Flatten(), head=nn.Linear(12, 1, bias=False)))
    photos = torch.full((1, 3, 2, 2), 0.5)
    photos[0, 0] = -0.5  # off
    photos[0, 1, 0] = 7.0  # beyond the ceiling of ReLU6
    with torch.no_grad():
        net.head.weight.copy_(torch.arange(12.0) - 8)
    with GuidedReLUs():
        _, found = pixel_gradients(Network(net, "hand"), photos, 0)
    on = (photos > 0) & (photos < (6 if isinstance(relu, nn.ReLU6) else 1e9))
    assert torch.equal(found, (torch.arange(12.0) - 8).clamp(min=0).view(1, 3, 2, 2) * on)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["conv1", "relu1", "conv2", "relu2", "pool", "flat", "head", ""]), st.integers(0, 4))
def test_layers_against_finite_differences_in_float64(layer: str, wanted: int) -> None:
    net = tiny().double().eval()
    photos = noise(2, 3, 9, 9).double()
    activations, found, logits = layer_gradients(net, layer, photos, wanted)
    names = [*dict(net.named_children()), ""]
    behind = nn.Sequential(*list(net.children())[names.index(layer) + 1 :])
    assert activations.dtype == torch.float64
    assert torch.allclose(behind(activations.clone()), logits)
    assert torch.allclose(logits, net(photos))
    for entry in range(0, activations[0].numel(), 1 + activations[0].numel() // 7):
        place = tuple(int(each) for each in torch.unravel_index(torch.tensor(entry), activations.shape[1:]))
        moved = difference(lambda at: behind(at.clone())[:, wanted], activations, place)
        assert torch.allclose(found[(slice(None), *place)], moved, atol=1e-8)


def test_pixels_against_finite_differences_in_float64() -> None:
    network = Network(tiny().double(), "double", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25)).double()
    photos = noise(2, 3, 9, 9).double()
    _, found = pixel_gradients(network, photos, [1, 2])
    for place in [(0, 0, 0), (1, 4, 4), (2, 8, 3)]:
        moved = difference(lambda at: network(at).gather(1, torch.tensor([[1], [2]]))[:, 0], photos, place)
        assert torch.allclose(found[(slice(None), *place)], moved, atol=1e-7)


def test_a_batch_gives_what_each_photo_gives_alone(small: Network) -> None:
    photos, classes = noise(4, 3, 16, 16), ["bee", 3, "DOG", 0]
    _, pixels = pixel_gradients(small, photos, classes)
    _, layer, _ = layer_gradients(small, "conv2", photos, classes)
    for index, wanted in enumerate(classes):
        one = photos[index : index + 1]
        assert torch.allclose(pixels[index], pixel_gradients(small, one, wanted)[1][0], atol=1e-7)
        assert torch.allclose(layer[index], layer_gradients(small, "conv2", one, wanted)[1][0], atol=1e-7)


def test_without_a_class_the_predicted_one_even_if_all_are_equal(small: Network) -> None:
    photos = noise(3, 3, 16, 16)
    logits, found = pixel_gradients(small, photos)
    assert torch.equal(found, pixel_gradients(small, photos, logits.argmax(1).tolist())[1])
    with torch.no_grad():
        small.net.head.weight[1:] = small.net.head.weight[0]
        small.net.head.bias.zero_()
    assert torch.equal(pixel_gradients(small, photos)[1], pixel_gradients(small, photos, 0)[1])


def test_a_relu_that_runs_twice_counts_at_its_first_run() -> None:
    net, photos = Branches(), noise(2, 3, 8, 8)
    activations, found, _ = layer_gradients(net, "relu", photos, 1)
    first = net.first(photos).relu().detach().requires_grad_()
    logits = net.head(nn.functional.relu((net.second(first) + first).relu() - 0.2).mean((2, 3)))
    (expected,) = torch.autograd.grad(logits[:, 1].sum(), first)
    assert torch.allclose(activations, first, atol=1e-6)
    assert torch.allclose(found, expected, atol=1e-7)


def test_before_the_layer_there_is_no_graph(small: Network) -> None:
    heard = []
    small.net.relu1.register_forward_hook(lambda module, inputs, output: heard.append(output.requires_grad))
    small.net.relu2.register_forward_hook(lambda module, inputs, output: heard.append(output.requires_grad))
    layer_gradients(small, "conv2", noise(1, 3, 16, 16))
    assert heard == [False, True]


@pytest.mark.parametrize("ways", [(), ("no_grad",), ("train",), ("frozen",), ("train", "frozen", "no_grad")])
def test_any_state_of_the_network_works_and_stays(ways: tuple[str, ...]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), tiny()[2:]).eval()
    net[3].conv2 = nn.Conv2d(8, 6, 3)
    photos = noise(2, 3, 16, 16)
    expected = pixel_gradients(net, photos, 1)[1], layer_gradients(net, "1", photos, 1)[1]
    net.train("train" in ways)
    net.requires_grad_("frozen" not in ways)
    before = outside(net)
    with torch.set_grad_enabled("no_grad" not in ways):
        found = pixel_gradients(net, photos, 1)[1], layer_gradients(net, "1", photos, 1)[1]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert same_outside(before, outside(net))


def test_nothing_is_left_after_an_error(small: Network) -> None:
    small.train()
    before = outside(small)
    with pytest.raises(ValueError, match="knows no class 'bat'"):
        layer_gradients(small, "conv2", noise(1, 3, 16, 16), "bat")
    with pytest.raises(ValueError, match="knows no class 'bat'"):
        pixel_gradients(small, noise(1, 3, 16, 16), "bat")
    assert same_outside(before, outside(small))


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_explained(small: Network) -> None:
    photos = noise(2, 3, 16, 16)
    with pytest.raises(ValueError, match=r"got torch.float32 \(3, 16, 16\)"):
        pixel_gradients(small, photos[0])
    with pytest.raises(ValueError, match=r"got torch.uint8 \(2, 3, 16, 16\)"):
        layer_gradients(small, "conv2", (photos * 255).byte())
    with pytest.raises(ValueError, match="got str"):
        pixel_gradients(small, "photo.jpg")
    with pytest.raises(ValueError, match="3 classes for 2 photos"):
        pixel_gradients(small, photos, ["ant", "bee", "cat"])
    with pytest.raises(ValueError, match="5 classes, 0 to 4: there is no class 5"):
        layer_gradients(small, "conv2", photos, 5)
    with pytest.raises(KeyError, match=r"no layer 'conv3'.*Nearest: conv"):
        layer_gradients(small, "conv3", photos)
    with pytest.raises(KeyError, match="no activation of layer 'spare'"):
        layer_gradients(Branches(), "spare", photos)
    with pytest.raises(ValueError, match="do not depend on layer 'aside'"):
        layer_gradients(Branches(), "aside", photos)
    maps = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU())
    for call in (lambda: pixel_gradients(maps, photos), lambda: layer_gradients(maps, "0", photos)):
        with pytest.raises(ValueError, match=r"a tensor \(2, 5, 14, 14\).*expected class logits \(2, classes\)"):
            call()
    photos[1, 0, 0, 0] = float("nan")
    for call in (lambda: pixel_gradients(tanh(), photos), lambda: layer_gradients(tanh(), "tanh", photos)):
        with pytest.raises(ValueError, match="gradient of photo 1 is infinite or not a number"):
            call()


def tanh() -> nn.Module:
    """A network whose gradient depends on its input everywhere."""
    layers = OrderedDict(tanh=nn.Tanh(), again=nn.Tanh(), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten())
    return nn.Sequential(layers | {"head": nn.Linear(3, 4)})


@pytest.mark.parametrize(
    ("activations", "share", "portions"),
    [(3 * 8 * 8 * 8 * 4 + 1, 1 / 4, [3, 3, 1]), (1, 1.0, [5, 2])],  # bytes: three times eight maps; all weights
)
def test_a_portion_of_photos_fits_its_largest_activation_and_is_worth_reading_the_weights(
    activations: int, share: float, portions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 64, 5))
    network, photos = Network(net, size=8), noise(7, 3, 8, 8)
    whole = pixel_gradients(network, photos, 2)
    monkeypatch.setattr(gradients, "PORTION", activations)
    monkeypatch.setattr(gradients, "WEIGHTS_SHARE", share)
    parts = gradients._parts(gradients.frozen(network), photos)
    assert [len(photos[part]) for part in parts] == portions
    for made, wanted in zip(pixel_gradients(network, photos, 2), whole, strict=True):
        torch.testing.assert_close(made, wanted)
