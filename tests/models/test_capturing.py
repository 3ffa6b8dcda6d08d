"""Captured activations against torchvision's feature extractor, and networks left as they were, whatever happens."""

import gc
import threading
import types
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torchvision
from small_networks import noise, outside, same_outside, tiny
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from nbhelpers import images, models
from nbhelpers.models import Network, Seen, capture
from nbhelpers.techniques.activation_volumes import ActivationVolume, activations
from nbhelpers.techniques.filter_gradients import FilterGradients, ablate
from nbhelpers.techniques.interpretation_test import mean_activations
from nbhelpers.techniques.principal_features import palettes

SAMPLES = Path(__file__).parents[2] / "sample_images"

# layers: our name to the feature extractor's node
CASES = {
    "squeezenet1_1": {"features.0": "features.0", "features.3.squeeze": "features.3.squeeze", "": "flatten"},
    # a ResNet block runs its one ReLU twice: the node without a suffix is the first run
    "resnet18": {"layer1.0.relu": "layer1.0.relu", "layer2.1.bn1": "layer2.1.bn1", "layer3.0": "layer3.0.relu_1"},
    "mobilenet_v2": {"features.2.conv.1": "features.2.conv.1", "features.3": "features.3.add", "": "classifier.1"},
}


@pytest.mark.parametrize("name", CASES)
def test_sees_what_torchvisions_feature_extractor_sees(name):
    network = models.load(name, weights=None, device="cpu")
    layers = CASES[name]
    pictures = noise(2, 3, 48, 48)
    extracted = create_feature_extractor(network.net, list(layers.values()))(network.normalise(pictures))
    for stop in (False, True):
        seen = capture(network, *layers, stop=stop)(pictures)
        for layer, node in layers.items():
            # the extractor hands out the tensor that an in-place ReLU changes next; a capture has it as it was
            rectified = (extracted[node] >= 0).all() and (seen[layer] < 0).any()
            assert torch.equal(seen[layer].clamp(min=0) if rectified else seen[layer], extracted[node])


def test_an_in_place_relu_does_not_change_what_was_seen():
    net = tiny().eval()
    pictures = noise(2, 3, 9, 9)
    seen = capture(net, "conv1", "relu1", "conv2", "")(pictures)
    assert torch.equal(seen["conv1"], net.conv1(pictures))
    assert seen["conv1"].min() < 0
    assert torch.equal(seen["relu1"], seen["conv1"].clamp(min=0))
    assert torch.equal(seen["conv2"], net.conv2(seen["relu1"]))
    assert torch.equal(seen[""], net(pictures))


def test_a_layer_that_runs_again_is_seen_at_its_first_run_of_each_pass():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.ReLU(inplace=True)

        def forward(self, x):
            return self.shared(self.shared(x - 0.5) - 0.25)

    net, first, second = Twice(), noise(1, 3, 4, 4), noise(1, 3, 4, 4, seed=1)
    for stop in (False, True):
        look = capture(net, "shared", stop=stop)
        for pictures in (first, second):
            assert torch.equal(look(pictures)["shared"], (pictures - 0.5).clamp(min=0))


def test_gradients_of_a_stopped_pass_are_those_of_a_whole_one():
    net = tiny().eval()
    pictures = noise(2, 3, 9, 9).requires_grad_()
    seen = capture(net, "conv2", stop=True)(pictures)
    (stopped,) = torch.autograd.grad(seen["conv2"].square().sum(), pictures)
    plain = net.conv2(net.conv1(pictures).relu())
    (whole,) = torch.autograd.grad(plain.square().sum(), pictures)
    assert torch.equal(stopped, whole)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_gradients_with_respect_to_a_layer_flow_from_the_output():
    net = tiny().eval()
    pictures = noise(1, 3, 9, 9).requires_grad_()
    seen = capture(net, "conv2", "")(pictures)
    (by_capture,) = torch.autograd.grad(seen[""][0, 3], seen["conv2"])
    activations = seen["conv2"].detach()
    # logit = head(mean of relu): the weight over the number of units, where the unit is on
    expected = net.head.weight[3].view(1, -1, 1, 1) / activations[0, 0].numel() * (activations > 0)
    assert torch.allclose(by_capture, expected.detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "Network"])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "pool", ""])
def test_stop_ends_the_pass_there(wrapped, layer):
    net = tiny()
    network = Network(net, "tiny") if wrapped else net
    ran = []
    for name, module in net.named_children():
        module.register_forward_hook(lambda module, inputs, output, name=name: ran.append(name))
    pictures = noise(1, 3, 9, 9)
    look = capture(network, layer, stop=True)
    seen = [look(pictures) for _ in range(2)]
    names = [name for name, _ in net.named_children()]
    # the capture's own hook, registered later, stops after the module's other hooks
    assert ran == 2 * names[: names.index(layer) + 1 if layer else None]
    expected = net.eval()[: len(ran) // 2](pictures)
    assert all(torch.equal(each[layer], expected) for each in seen)


def test_activations_come_batch_by_batch_and_the_network_is_left_alone() -> None:
    network, pictures = Network(tiny().train().double(), "tiny", size=9), noise(5, 3, 9, 9)
    before = outside(network)
    batches = list(models.activation_batches(network, "conv2", pictures, batch_size=2))
    assert [len(each) for each in batches] == [2, 2, 1]
    expected = network.net.conv2(network.net.conv1(pictures.double()).relu())
    assert torch.allclose(torch.cat(batches), expected, atol=1e-12)
    assert not batches[0].requires_grad
    assert same_outside(before, outside(network))
    with pytest.raises(KeyError, match="no layer 'conv3'"):
        next(models.activation_batches(network, "conv3", pictures))


def test_stop_waits_for_every_layer():
    net = tiny()
    seen = capture(net, "conv2", "conv1", stop=True)(noise(1, 3, 9, 9))
    assert set(seen) == {"conv1", "conv2"}


def test_names_are_those_of_the_bare_module_even_beside_an_attribute_called_net():
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = tiny()

        def forward(self, x):
            return self.net(x)

    holder = Holder()
    for network in (holder, Network(holder, "holder")):
        seen = capture(network, "net.conv1", stop=True)(noise(1, 3, 9, 9))
        assert seen["net.conv1"].shape == (1, 8, 9, 9)


def _mixed_network():
    """In training mode, one part evaluating, one weight frozen."""
    net = tiny().train()
    net.relu2.eval()
    net.conv1.weight.requires_grad_(False)
    return net


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "Network"])
@pytest.mark.parametrize("stop", [False, True])
def test_the_network_is_never_touched_not_even_while_its_copy_runs(wrapped, stop):
    net = _mixed_network()
    network = Network(net, "mixed") if wrapped else net
    before, during = outside(network), []

    class Spy(nn.Identity):
        def forward(self, x):
            during.append(same_outside({**before}, outside(network)) and not any(p.requires_grad for p in watched()))
            return x

    def watched():
        return look.network.parameters()

    net.relu1.add_module("spy", spy := Spy())
    net.relu1.register_forward_hook(lambda module, inputs, output: spy(output))
    before = outside(network)
    look = capture(network, "conv1", "conv2", stop=stop)
    assert not any(module.training for module in look.network.modules())
    look(noise(1, 3, 9, 9))
    assert during == [True]
    assert same_outside(before, outside(network))
    assert network(noise(1, 3, 9, 9)).shape == (1, 5)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
@pytest.mark.parametrize("stop", [False, True])
def test_after_an_error_in_the_forward_pass_the_next_one_is_seen_again(error, stop):
    class Breaks(nn.Module):
        broken = True

        def forward(self, x):
            if Breaks.broken:
                raise error("in the middle")
            return x

    net = _mixed_network()
    net.relu2 = Breaks()
    before = outside(net)
    look = capture(net, "conv2", "head", stop=stop)
    with pytest.raises(error, match="in the middle"):
        look(noise(1, 3, 9, 9))
    Breaks.broken = False
    assert set(look(noise(1, 3, 9, 9))) == {"conv2", "head"}
    assert same_outside(before, outside(net))


def test_an_unknown_layer_is_said_before_anything_is_copied():
    with pytest.raises(KeyError, match=r"Sequential has no layer 'conv3'.*conv"):
        capture(_mixed_network(), "conv1", "conv3")


def test_a_copy_made_while_another_looks_has_none_of_its_hooks():
    net = _mixed_network()
    outer = capture(net, "conv1")
    inner = capture(net, "conv2", stop=True)
    assert set(inner(noise(1, 3, 9, 9))) == {"conv2"}
    assert set(outer(noise(1, 3, 9, 9))) == {"conv1"}


def _by_closure(net):
    plain = net.forward
    net.forward = lambda pictures: plain(pictures) + 1


def _by_name(net):
    global brought
    brought = net
    brought.forward = lambda pictures: (
        brought.head(brought.conv2(brought.conv1(pictures).relu()).relu().mean((2, 3))) + 1
    )


def _by_method(net):
    net.forward = types.MethodType(lambda self, pictures: self.head(self.conv1(pictures).mean((2, 3))[:, :6]), net)


@pytest.mark.parametrize("replace", [_by_closure, _by_name, _by_method])
def test_a_forward_replaced_on_the_instance_runs_the_copy_and_not_the_users_network(replace):
    net = tiny().eval()
    replace(net)
    mine, pictures = net.forward, noise(1, 3, 9, 9)
    expected, own = net(pictures), []
    look = capture(net, "conv1", "")  # a hook on the user's own would be copied, so it is put there afterwards
    handle = net.conv1.register_forward_hook(lambda *_: own.append(1))
    seen = look(pictures)
    handle.remove()
    assert torch.equal(seen[""], expected)
    assert torch.equal(seen["conv1"], net.conv1(pictures))
    assert net.forward is mine
    assert own == []


def test_what_is_missing_is_said():
    net = tiny()
    with pytest.raises(KeyError, match=r"'conv1'.*captured was nothing"):
        Seen()["conv1"]
    seen = capture(net, "conv1", "conv2")(noise(1, 3, 9, 9))
    with pytest.raises(KeyError, match=r"'head'.*captured was 'conv1', 'conv2'"):
        seen["head"]
    assert isinstance(seen, Seen)
    assert "head" not in seen


def test_a_layer_the_forward_pass_never_uses_is_said():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.used(x)

    net = Unused()
    seen = capture(net, "used", "unused", stop=True)(noise(1, 3, 4, 4))
    with pytest.raises(KeyError, match=r"'unused'.*check that the network's forward pass uses"):
        seen["unused"]


def test_seen_under_no_grad_and_with_dropout_is_the_evaluated_network():
    net = torchvision.models.alexnet(weights=None).train()
    pictures = noise(1, 3, 64, 64)
    with torch.no_grad():
        seen = capture(net, "")(pictures)
    assert torch.equal(seen[""], net.eval()(pictures).detach())


class Meeting(nn.Identity):
    """Two threads wait here for each other, so that both are inside a forward pass at once."""

    barrier: threading.Barrier | None = None

    def forward(self, pictures):
        if Meeting.barrier is not None:
            Meeting.barrier.wait(10)
        return pictures


def _observed(network: Network, photo: Path) -> torch.Tensor:
    seen = palettes.observe(network, "1.conv2", ["1.conv1"], images.read(photo, 24)[None])
    return torch.cat([seen.features.flatten(), seen.energies[0].flatten()])


def _pooled(network: Network, photo: Path) -> torch.Tensor:
    return models.pooled_activations(network, "1.conv2", images.read(photo, 24)[None])


def _averaged(network: Network, photo: Path) -> torch.Tensor:
    return mean_activations(network, "1.conv2", images.read(photo, 24)[None])


def _stacked(network: Network, photo: Path) -> torch.Tensor:
    return activations(ActivationVolume(layer="1.conv2", size=24), network, str(photo))


def _ablated(network: Network, photo: Path) -> torch.Tensor:
    recipe = FilterGradients(layer="1.conv2", target="b", reference=str(photo), size=24, removed=[0, 2], draws=1)
    return torch.tensor(list(ablate(recipe, range(6), network).logits.values()))


@pytest.mark.parametrize("look", [_observed, _pooled, _averaged, _stacked, _ablated])
def test_two_threads_look_at_one_network(look: Callable[[Network, Path], torch.Tensor], monkeypatch):
    network = Network(nn.Sequential(Meeting(), tiny()), "meeting", classes=list("abcde"), size=24)
    photos = [SAMPLES / "cat.jpg", SAMPLES / "rocket.jpg"]
    expected = [look(network, photo) for photo in photos]
    assert not torch.equal(*expected)
    before = outside(network)
    monkeypatch.setattr(Meeting, "barrier", threading.Barrier(2))
    with ThreadPoolExecutor(2) as threads:
        for _ in range(4):
            found = list(threads.map(look, [network] * 2, photos))
            assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert same_outside(before, outside(network))


def test_a_copy_goes_with_its_last_reference_and_waits_for_no_collector() -> None:
    network = models.as_network(tiny())
    looks = (lambda: capture(network, "conv2", stop=True), lambda: capture(models.twin(network), "conv1", ""))
    for make in looks:
        look = make()
        assert look(noise(1, 3, 16, 16))
        copies = [weakref.ref(module) for module in look.network.modules()]
        gc.disable()
        try:
            del look
            assert [each() for each in copies] == [None] * len(copies)
        finally:
            gc.enable()
