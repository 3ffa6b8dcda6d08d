"""A network in two parts: which layers it has, where it is cut, and its head replaced."""

import pytest
import torch
from small_networks import Holder, Small, noise, outside, same_outside
from torch import nn
from torchvision.models import VisionTransformer

from nbhelpers import models
from nbhelpers.models import Network, parts


class Stubborn(Small):
    """A network whose code depends on what it sees: no graph of it can be written down."""

    def forward(self, pictures):
        return super().forward(pictures if pictures.mean() > -100 else -pictures)


@pytest.fixture
def small() -> Network:
    return Network(Small(), "small", size=16)


@pytest.fixture
def transformer() -> Network:
    torch.manual_seed(0)
    return Network(VisionTransformer(32, 16, 2, 2, 16, 32, num_classes=7), "transformer", size=32)


# --- layers


def test_layers_come_in_the_order_in_which_they_run() -> None:
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(4, 2), nn.Conv2d(3, 4, 1)
            self.unused = nn.Linear(1, 1)

        def forward(self, pictures):
            return self.last(self.first(pictures).mean((2, 3)))

    found = parts.weighted_layers(Network(Backwards(), "backwards", size=8), 8)
    assert found == ["first", "last", "unused"]


def test_layers_that_never_run_by_themselves_come_with_the_one_around_them(transformer: Network) -> None:
    found = parts.weighted_layers(transformer, 32)
    assert found[:3] == ["", "conv_proj", "encoder"]  # the class token and the places are the network's own
    first = "encoder.layers.encoder_layer_0."
    inside = ["ln_1", "self_attention", "self_attention.out_proj", "ln_2", "mlp.0", "mlp.3"]
    assert found[3:9] == [first + name for name in inside]
    everything = {name.rpartition(".")[0] for name, _ in transformer.net.named_parameters()}
    assert set(found) == everything
    holder = Network(Holder(), "holder", size=8)
    assert parts.weighted_layers(holder, 8) == ["first", "block.projection", "block.unused", "norm", "head"]


def test_the_size_counts_and_the_network_is_left_alone(small: Network, transformer: Network) -> None:
    small.double().train()
    before = outside(small)
    assert parts.weighted_layers(small, 16) == ["first", "norm", "second", "head"]
    assert same_outside(before, outside(small))
    with pytest.raises(ValueError, match="transformer does not take pictures of 48 x 48 pixels"):
        parts.weighted_layers(transformer, 48)


# --- two parts


@pytest.mark.usefixtures("unchecked")  # torch.fx would write the checks down, too
@pytest.mark.parametrize(
    ("name", "size", "head"),
    [
        ("minivgg_robust", 64, "head"),
        ("mobilenet_v2", 64, "classifier.1"),
        ("squeezenet1_0", 64, "classifier.1"),
        ("resnet18", 64, "fc"),
        ("densenet121", 64, "classifier"),
        ("convnext_tiny", 64, "classifier.2"),
    ],
)
def test_base_and_upper_layers_together_are_the_network(name: str, size: int, head: str) -> None:
    network = models.load(name, weights="DEFAULT" if name in models.bundled() else None, device="cpu")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    tuned, found = parts.with_new_head(network, ["a", "b", "c"], size)
    assert found == head
    pictures = torch.rand(3, 3, size, size)
    with torch.no_grad():
        assert not tuned(pictures).any()  # a head of zeros
        nn.init.normal_(tuned.net.get_submodule(head).weight)
        freed = parts.freed_from(tuned, "", size)
        assert freed[-1] == head
        assert len(freed) > 1
        for layers in ([head], freed):
            pieces = parts.cut(tuned.net, layers, tuned.normalise(pictures[:2]))
            assert pieces.after
            features = pieces.base(tuned.normalise(pictures))
            assert torch.allclose(pieces.upper(features), tuned(pictures), rtol=1e-4, atol=1e-5)
            # what is trained lies in the upper part, all of it
            inside = {id(each) for each in pieces.upper.parameters()}
            assert all(id(each) in inside for layer in layers for each in tuned.net.get_submodule(layer).parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_cut_never_lies_inside_a_residual_block(small: Network) -> None:
    tuned, _ = parts.with_new_head(small, ["a", "b"], 16)
    pictures = torch.rand(2, 3, 16, 16)
    inside = parts.cut(tuned.net, ["second", "head"], pictures)
    assert inside.base(pictures).shape == (2, 8, 16, 16)
    assert torch.allclose(inside.base(pictures), tuned.net.norm(tuned.net.first(pictures)).relu(), atol=1e-6)


def test_a_network_without_a_graph_is_left_whole() -> None:
    tuned, _ = parts.with_new_head(Network(Stubborn(), "stubborn", size=16), ["a", "b"], 16)
    pictures = torch.rand(2, 3, 16, 16)
    pieces = parts.cut(tuned.net, ["head"], pictures)
    assert pieces.after == ""
    assert torch.equal(pieces.base(pictures), pictures)
    assert torch.equal(pieces.upper(pictures), tuned.net(pictures))


def test_squeezenets_last_rectifier_goes() -> None:
    network = models.load("squeezenet1_0", weights=None, device="cpu")
    tuned, head = parts.with_new_head(network, ["a", "b"], 64)
    with torch.no_grad():
        tuned.net.get_submodule(head).bias.fill_(-1.0)
        assert torch.allclose(tuned(torch.rand(1, 3, 64, 64)), torch.full((1, 2), -1.0))
        assert network(torch.rand(1, 3, 64, 64)).min() >= 0


def test_upper_layers_by_name(small: Network) -> None:
    assert parts.weighted_layers(small, 16) == ["first", "norm", "second", "head"]
    assert parts.freed_from(small, "", 16) == ["second", "head"]
    assert parts.freed_from(small, "norm", 16) == ["norm", "second", "head"]
    network = models.load("minivgg_robust")
    assert parts.freed_from(network, "block3", 64) == ["block3.conv1", "block3.conv2", "block4.conv1", "head"]
    with pytest.raises(KeyError, match=r"no layer 'block5'.*Nearest: block"):
        parts.freed_from(network, "block5", 64)
    with pytest.raises(ValueError, match=r"'block4.relu1' of minivgg_robust holds no weights to train.*block4.conv1"):
        parts.freed_from(network, "block4.relu1", 64)


def test_in_a_transformer_the_last_block_is_freed() -> None:
    torch.manual_seed(0)
    from torchvision.models import VisionTransformer

    network = Network(VisionTransformer(32, 16, 2, 2, 16, 32, num_classes=7), "transformer", size=32)
    tuned, head = parts.with_new_head(network, ["a", "b"], 32)
    assert head == "heads.head"
    freed = parts.freed_from(tuned, "", 32)
    assert freed[0].startswith("encoder.layers.encoder_layer_1.mlp")
    pieces = parts.cut(tuned.net, freed, torch.rand(2, 3, 32, 32))
    assert pieces.after != "x"  # behind the pictures
    with pytest.raises(ValueError, match="transformer does not take pictures of 48 x 48 pixels"):
        parts.with_new_head(network, ["a", "b"], 48)


@pytest.mark.parametrize("freed", [["block.projection", "head"], ["block.unused", "norm", "head"]])
def test_weights_that_are_used_bare_lie_in_the_upper_part(freed: list[str]) -> None:
    tuned, _ = parts.with_new_head(Network(Holder(), "holder", size=8), ["a", "b"], 8)
    pieces = parts.cut(tuned.net, freed, noise(2, 3, 8, 8))
    inside = {id(each) for each in pieces.upper.parameters()}
    projection = "block.projection" in freed
    assert (id(tuned.net.block.projection.weight) in inside) == projection
    assert id(tuned.net.head.weight) in inside
    assert id(tuned.net.first.weight) not in inside


def test_from_an_attentions_projection_on(transformer: Network) -> None:
    tuned, _ = parts.with_new_head(transformer, ["a", "b"], 32)
    projection = "encoder.layers.encoder_layer_1.self_attention.out_proj"
    freed = parts.freed_from(tuned, projection, 32)
    assert freed[0] == projection
    assert freed[-1] == "heads.head"
    pieces = parts.cut(tuned.net, freed, noise(2, 3, 32, 32))
    assert pieces.after
    inside = {id(each) for each in pieces.upper.parameters()}
    assert all(id(each) in inside for layer in freed for each in tuned.net.get_submodule(layer).parameters())


def test_what_does_not_run_and_what_comes_behind_the_head_is_not_freed() -> None:
    class Aside(Small):
        def __init__(self) -> None:
            super().__init__()
            self.aside = nn.Linear(8, 8)

    assert parts.freed_from(Network(Aside(), "aside", size=16), "norm", 16) == ["norm", "second", "head"]
