"""The layer table against gradients, torchvision's feature extractor and real forward passes."""

import itertools
import math
import re

import pytest
import torch
import torch.nn.functional as F
import torchvision
from small_networks import noise
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from nbhelpers import ascent, models
from nbhelpers.ascent import objectives
from nbhelpers.attribution import cams
from nbhelpers.models.layer_table import least_size
from nbhelpers.models.minivgg import MiniVGG
from nbhelpers.models.receptive_field import Watch


def random_net(name: str) -> nn.Module:
    if name == "minivgg":
        return MiniVGG(widths=((6,), (8, 8), (8, 8), (8,)), stem=4, classes=5)
    if name.startswith(("vgg", "alexnet")):
        # their heads are most of the weights, and slow to draw
        with torch.device("meta"):
            net = torchvision.models.get_model(name)
        net.classifier = nn.Identity()
        return net.to_empty(device="cpu")
    options = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, **options)


def averaging(net: nn.Module) -> nn.Module:
    """Every weight positive and every unit an average, so that whatever a unit sees has a gradient."""
    net = net.eval().double()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.uniform_(0.5, 1.5).div_(module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def seen_by(output: torch.Tensor, pictures: torch.Tensor, down: int, across: int) -> list[int]:
    """First row, last row, first and last column of the pixels with an influence on one place of a layer."""
    weights = torch.linspace(1, 2, output.shape[1], dtype=output.dtype)  # a layer norm's plain sum is constant
    gradient = torch.autograd.grad((output[0, :, down, across] * weights).sum(), pictures, retain_graph=True)[0]
    influence = gradient[0].abs().sum(0) > 0
    rows, columns = influence.any(1).nonzero().flatten(), influence.any(0).nonzero().flatten()
    return [rows[0].item(), rows[-1].item(), columns[0].item(), columns[-1].item()]


def expected(span, index: int, size: int) -> list[int]:
    low, high = span.low + index * span.stride, span.high + index * span.stride
    return [int(max(low, 0)), int(min(high, size - 1))]


def watched(net: nn.Module, pictures: torch.Tensor, names: list[str]) -> dict:
    """Output and field of the named layers."""
    found = {}
    handles = [
        net.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: found.setdefault(name, output))
        for name in names
    ]
    with Watch() as watch:
        net(watch.start(pictures))
    for handle in handles:
        handle.remove()
    return {name: (output, watch.field(output)) for name, output in found.items()}


NETWORKS = {
    "minivgg": (150, ["stem", "block1.conv1", "block2.pool", "block3.conv2", "block4"]),
    "vgg11": (96, ["features.0", "features.6", "features.10", "features.18"]),
    "alexnet": (127, ["features.0", "features.2", "features.3", "features.8", "features.12"]),
    "squeezenet1_0": (95, ["features.2", "features.4.expand3x3", "features.4", "features.7", "features.12"]),
    "resnet18": (99, ["conv1", "maxpool", "layer1", "layer2.0.downsample", "layer2", "layer3.0", "layer4"]),
    "googlenet": (97, ["conv1", "inception3a.branch1", "inception3a.branch3", "inception3b", "inception4a"]),
    "inception_v3": (123, ["Conv2d_2b_3x3", "Mixed_5b", "Mixed_6a", "Mixed_6b.branch7x7_2"]),
    "mobilenet_v2": (97, ["features.1", "features.3", "features.5"]),
    "shufflenet_v2_x0_5": (97, ["stage2.0", "stage2.2", "stage3"]),
    "densenet121": (65, ["features.denseblock1", "features.transition1"]),
    "convnext_tiny": (96, ["features.0", "features.1.1", "features.2", "features.3.0"]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_receptive_field_and_stride_are_what_the_gradients_say(name, monkeypatch):
    size, names = NETWORKS[name]
    net = averaging(random_net(name))
    pictures = torch.rand(1, 3, size, size, dtype=torch.float64) + 0.5
    fields = {layer: field for layer, (_, field) in watched(net, pictures.detach(), names).items()}
    table = models.layers(net, size)

    # only the maximum of a pool has a gradient: for the reference, the pool takes all of its window
    def average(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        return F.avg_pool2d(x, kernel_size, stride, padding, ceil_mode)

    monkeypatch.setattr(F, "max_pool2d", average)
    for layer, (output, _) in watched(net, pictures.requires_grad_(), names).items():
        field = fields[layer]
        middle = (output.shape[2] // 2, output.shape[3] // 2)
        for down, across in (middle, (0, 0), (output.shape[2] - 1, max(middle[1] - 1, 0))):
            truth = seen_by(output, pictures, down, across)
            assert truth == expected(field.down, down, size) + expected(field.across, across, size), layer
        assert table[layer].receptive_field == max(field.down.size, field.across.size)
        assert table[layer].stride == field.down.stride
        assert tuple(output.shape[1:]) == (table[layer].channels, table[layer].height, table[layer].width)


def test_published_receptive_fields():
    """Araujo et al. 2019, table of common networks."""
    assert models.layers(random_net("vgg16"), 224)["features.30"].receptive_field == 212
    assert models.layers(random_net("alexnet"), 224)["features.12"].receptive_field == 195
    inception = models.layers(random_net("inception_v3"), 299)["Mixed_7c"]
    assert (inception.receptive_field, inception.stride) == (1311, 32)


@pytest.mark.parametrize("name", ["vgg11", "mobilenet_v3_small", "efficientnet_b0", "regnet_x_400mf"])
def test_sizes_are_those_of_torchvisions_feature_extractor(name):
    net = random_net(name).eval()
    table = models.layers(net, 96)
    nodes = [node for node in get_graph_node_names(net)[1] if node in dict(net.named_modules())]
    with torch.no_grad():
        outputs = create_feature_extractor(net, nodes)(torch.rand(1, 3, 96, 96))
    maps = {layer: output for layer, output in outputs.items() if output.ndim == 4}
    assert len(maps) > 10
    for layer, output in maps.items():
        assert tuple(output.shape[1:]) == (table[layer].channels, table[layer].height, table[layer].width)
    assert [layer for layer in table.names if layer in maps] == list(maps)  # both in the order of execution


@pytest.mark.parametrize("name", ["resnet18", "maxvit_t", "densenet121"])
def test_every_map_of_a_real_pass_is_listed_and_nothing_else(name):
    net = random_net(name).eval()
    size = 224 if name == "maxvit_t" else 64
    shapes = {}

    def note(layer):
        def hook(module, inputs, output):
            if output.ndim == 4:
                shapes.setdefault(layer, output.shape[1:])

        return hook

    for layer, module in net.named_modules():
        module.register_forward_hook(note(layer))
    with torch.no_grad():
        net(torch.rand(1, 3, size, size))
    table = models.layers(net, size)
    assert all(tuple(shapes[layer.name]) == (layer.channels, layer.height, layer.width) for layer in table)
    if name == "maxvit_t":  # its windows of tokens are four-dimensional, but no maps
        assert not any("attn_layer" in layer or layer.endswith("mlp") for layer in table.names)
    else:
        assert table.names == list(shapes)


def test_squeeze_and_excitation_sees_the_whole_picture():
    table = models.layers(random_net("mobilenet_v3_small"), 224)
    assert table["features.1.block.0"].receptive_field == 7
    assert math.isinf(table["features.1.block.1"].receptive_field)
    assert table["features.1.block.1"].stride == 4
    assert (table["avgpool"].height, table["avgpool"].stride) == (1, 224)


# A network of the user's own may do anything between its layers.


class Between(nn.Module):
    """Two averaging convolutions with something in between."""

    def __init__(self, between, channels: int = 4) -> None:
        super().__init__()
        self.first, self.between, self.last = nn.Conv2d(3, channels, 3), between, nn.Identity()
        averaging(self)

    def forward(self, x):
        return self.last(self.between(self.first(x)))


BETWEEN = {
    "crop": lambda x: x[:, :, 1:-2, 2:],
    "every other": lambda x: x[..., 1::2, ::3],
    "reflected border": lambda x: F.avg_pool2d(F.pad(x, (1, 2, 3, 0), mode="reflect"), 2),
    "permuted and back": lambda x: F.layer_norm(x.permute(0, 2, 3, 1) + 1, (4,)).permute(0, 3, 1, 2),
    "linear over channels": lambda x: F.linear(x.movedim(1, -1), torch.ones(2, 4).double()).movedim(-1, 1),
    "channel shuffle": lambda x: x.view(len(x), 2, 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape),
    "channel mean": lambda x: x * x.mean(1, keepdim=True),
    "two paths": lambda x: torch.cat([x[:, :, 1:-1, 1:-1], F.avg_pool2d(x, 3, 1)], 1),
    "in place": lambda x: F.avg_pool2d(x, 3, 1, 1).mul_(2).add_(x),
    "one channel": lambda x: x[:, 0].unsqueeze(1),
    "split": lambda x: torch.cat(x.chunk(2, dim=1)[::-1], dim=1),
    "dilated": lambda x: F.conv2d(x, torch.ones(1, 4, 3, 2).double(), dilation=(2, 2), padding="same"),
    "lp pool": lambda x: F.lp_pool2d(x, 2, 3, 2),
    "bins": lambda x: F.adaptive_avg_pool2d(x, (15, 10)),
}


@pytest.mark.parametrize("what", BETWEEN)
def test_operations_between_layers_are_followed(what):
    size = 32
    net = Between(lambda x: BETWEEN[what](x))
    pictures = torch.rand(1, 3, size, size, dtype=torch.float64) + 0.5
    _, field = watched(net, pictures, ["last"])["last"]
    assert field.axes == (2, 3)
    output, _ = watched(net, pictures.requires_grad_(), ["last"])["last"]
    for down, across in itertools.product((5, 7), (4, 6)):
        truth = seen_by(output, pictures, down, across)
        assert truth == expected(field.down, down, size) + expected(field.across, across, size)
    assert models.layers(net, size)["last"].channels == output.shape[1]


UPSAMPLING = {
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "transposed, no overlap": lambda x: F.conv_transpose2d(x, torch.ones(4, 2, 2, 2).double(), stride=2),
    "transposed": lambda x: F.conv_transpose2d(x, torch.ones(4, 2, 4, 4).double(), stride=2, padding=1),
}


@pytest.mark.parametrize("what", UPSAMPLING)
def test_upsampling_is_right_in_size_and_placed_to_half_a_unit(what):
    net = Between(lambda x: UPSAMPLING[what](F.avg_pool2d(x, 2)))
    pictures = torch.rand(1, 3, 32, 32, dtype=torch.float64).requires_grad_()
    output, _ = watched(net, pictures, ["last"])["last"]
    with torch.no_grad():
        _, field = watched(net, pictures.detach(), ["last"])["last"]
    assert field.down.stride == 1
    for place in (12, 13):
        low, high, *_ = seen_by(output, pictures, place, place)
        assert high - low + 1 == field.down.size
        assert abs(field.down.low + place * field.down.stride - low) <= 1


SEES_ALL = {
    "group norm": lambda x: F.group_norm(x, 2),
    "norm over the map": lambda x: F.layer_norm(x, x.shape[1:]),
    "attention over places": lambda x: x + (x.flatten(2).mT @ x.flatten(2)).sum(1).view(len(x), 1, *x.shape[2:]),
    "channel gate": lambda x: x * x.mean((2, 3), keepdim=True),
    "shift around": lambda x: x.roll(5, 2),
}


@pytest.mark.parametrize("what", SEES_ALL)
def test_what_mixes_all_places_sees_the_whole_picture(what):
    layer = models.layers(Between(lambda x: SEES_ALL[what](x)), 16)["last"]
    assert math.isinf(layer.receptive_field)
    assert (layer.height, layer.stride) == (14, 1)


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(_, x):
        return torch.from_numpy(x.numpy()[:, :, ::2, ::2].copy())


class Halving(nn.Module):
    def forward(self, x):
        return Hidden.apply(x)


def test_a_layer_that_hides_what_it_does_is_still_listed():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Halving(), nn.Conv2d(4, 5, 3))
    table = models.layers(net, 16)
    assert [layer.channels for layer in table] == [4, 4, 5]
    assert table["0"].receptive_field == 3
    assert math.isinf(table["1"].receptive_field)
    assert table["1"].stride == 2


class LeNet(nn.Module):
    """Written the old way: an empty batch cannot pass `view`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.head = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5), nn.Linear(400, 10)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.head(x.view(x.size(0), -1))


def test_your_own_module():
    net = LeNet().train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    table = models.layers(net, 32)
    assert [(layer.name, layer.height, layer.receptive_field) for layer in table] == [
        ("conv1", 28, 5),
        ("conv2", 10, 14),
    ]
    assert net.training
    assert not net.conv1._forward_hooks
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    with pytest.raises(
        ValueError, match=r"LeNet does not take pictures of 64 x 64 pixels: give the size that it was made for, 32"
    ):
        models.layers(net, 64)
    assert models.check_layer(net, "conv2").height == 106  # the head's trouble is not this layer's


def test_listing_does_not_disturb_hooks_or_weight_norm():
    net = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU(inplace=True))
    calls = []
    net[0].register_forward_hook(lambda *_: calls.append(1))
    net(torch.rand(1, 3, 8, 8))
    assert models.layers(net, 8).names == ["0", "1"]
    assert calls == [1]


# The table itself.


def test_table_as_a_sequence_and_as_text():
    table = models.layers("minivgg", 64)
    assert table.names[:3] == ["stem.conv", "stem.relu", "stem"]
    assert table[0] == table["stem.conv"] == next(iter(table))
    assert "block4" in table
    assert "block5" not in table
    assert [layer.name for layer in table[-2:]] == ["block4", "pool"]
    assert str(table) == repr(table)
    title, headings, *rows = str(table).splitlines()
    assert title == "minivgg, pictures of 64 x 64 pixels"
    assert len(rows) == len(table)
    ends = {len(row) for row in rows}
    assert ends == {len(headings)}  # the last column is aligned to the right
    assert re.fullmatch(r"stem\.conv +Conv2d +32 +32 x 32 +2 +5", rows[0])
    assert rows[-1].endswith("whole picture")


def test_table_in_a_notebook_escapes_what_the_user_named():
    net = nn.Sequential()
    net.add_module("<b>", nn.Conv2d(3, 2, 1))
    page = models.layers(net, 8)._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert page.count("<tr>") == 2


def test_unknown_name_offers_the_nearest():
    with pytest.raises(KeyError, match=r"no layer 'block3\.conv3'.*Nearest: .*block3\.conv2"):
        models.layers("minivgg")["block3.conv3"]


# Errors.


@pytest.mark.parametrize("name", ["vit_b_32", "swin_t", "swin_v2_t"])
def test_transformers_have_no_feature_maps(name):
    with pytest.raises(ValueError, match=r"has no feature maps: .* is a transformer"):
        models.layers(random_net(name), 224 if name != "swin_v2_t" else 256)


def test_a_network_without_maps():
    with pytest.raises(ValueError, match="has no feature maps: no layer's output"):
        models.layers(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), 2)


@pytest.mark.parametrize(
    ("name", "layer"), [("vgg11", "features.20"), ("alexnet", "features.12"), ("squeezenet1_0", None)]
)
def test_least_size_is_where_a_real_pass_stops_working(name, layer):
    net = random_net(name).eval()
    least = least_size(models.Network(net), layer)
    part = net if layer is None else net.features
    with torch.no_grad():
        assert min(part(torch.rand(1, 3, least, least)).shape[1:]) >= 1
        with pytest.raises(RuntimeError):
            part(torch.rand(1, 3, least - 1, least - 1))
    wanted = f"too small for layer '{layer}' of .*: at least {least} pixels" if layer else f"at least {least} pixels"
    with pytest.raises(ValueError, match=wanted):
        models.check_layer(net, layer, least - 1) if layer else models.layers(net, least - 1)


def test_layers_and_channels_are_checked():
    assert models.check_channels("minivgg", "block3.conv2", [0, 351]).channels == 352
    with pytest.raises(ValueError, match=r"'block3\.conv2' has 352 channels, 0 to 351: there is no channel -1, 352"):
        models.check_channels("minivgg", "block3.conv2", [-1, 3, 352])
    with pytest.raises(ValueError, match=r"'head' of minivgg \(Linear\) gives no feature maps"):
        models.check_channels("minivgg", "head", [0])
    with pytest.raises(KeyError, match=r"minivgg has no layer 'blok3\.conv2'.*Nearest: block3\.conv2"):
        models.check_channels("minivgg", "blok3.conv2", [0])


def test_find_module_in_a_network_and_in_a_bare_module():
    network = models.load("minivgg")
    assert models.find_module(network, "block1.conv1") is network.net.block1.conv1
    assert models.find_module(network.net, "block1.conv1") is network.net.block1.conv1
    assert models.find_module(network, "") is network.net


def test_direct_calls_refuse_a_layer_whose_channels_come_last():
    net = models.Network(torchvision.models.swin_t(weights=None).eval(), "swin", size=64)
    pictures = noise(2, 3, 64, 64)
    for call in (
        lambda layer: cams.class_maps(net, layer, pictures),
        lambda layer: ascent.measure(net, objectives.channel(layer, [0, 3]), pictures),
        lambda layer: models.pooled_activations(net, layer, pictures),
        lambda layer: next(
            ascent.ascend(net, objectives.channel(layer, [0, 3]), ascent.canvas.Pixels(pictures), steps=1)
        ),
    ):
        for layer in ("features.1", "norm"):
            with pytest.raises(ValueError, match=rf"'{layer}' of swin gives \(B, height, width, channels\)"):
                call(layer)
        call("permute")
    assert torch.isfinite(ascent.measure(net, objectives.channel("", [0, 3]), pictures)).all()
    assert torch.isfinite(ascent.measure(net, objectives.channel("head", [0, 3]), pictures)).all()
