"""Networks as people bring them: right numbers, or a refusal that names the cause and not the size."""

import copy
import json
import threading
import warnings

import numpy as np
import pytest
import torch
from small_networks import noise, outside, same_outside
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from nbhelpers import ascent, models
from nbhelpers.ascent.canvas import Pixels
from nbhelpers.ascent.objectives import channel
from nbhelpers.attribution import cams, gradients, pixel_maps
from nbhelpers.models import Network, parts
from nbhelpers.techniques.activation_maximization import ActivationMaximization
from nbhelpers.techniques.class_pictures import ClassPictures
from nbhelpers.techniques.filter_gradients import FilterGradients, filter_weights
from nbhelpers.techniques.fine_tuning import FineTuning
from nbhelpers.techniques.grad_cam import GradCAM

CAT = "sample_images/cat.jpg"


def chain(first: nn.Module | None = None, *end: nn.Module) -> nn.Sequential:
    """A convolution, a mean and a head of five classes."""
    torch.manual_seed(0)
    first = first or nn.Conv2d(3, 4, 3)
    return nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5), *end).eval()


class Viewed(nn.Module):
    """Flattens with `view`, as textbooks do: one size, one layout."""

    def __init__(self, side: int = 32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * side * side, 5)

    def forward(self, x):
        x = self.conv(x).relu()
        return self.head(x.view(x.size(0), -1))


class Gives(nn.Module):
    """A chain whose logits come in some wrapping."""

    def __init__(self, wrap) -> None:
        super().__init__()
        self.chain, self.wrap = chain(), wrap

    def forward(self, x):
        return self.wrap(self.chain(x))


def by_float64(net: nn.Module, pictures: torch.Tensor, number: int, pick=lambda given: given) -> torch.Tensor:
    """The gradient of a logit by a plain pass in float64."""
    double, wide = copy.deepcopy(net).double().eval(), pictures.double().requires_grad_()
    return torch.autograd.grad(pick(double(wide))[:, number].sum(), wide)[0]


def test_a_network_that_flattens_with_view_has_its_gradients() -> None:
    net, pictures = Viewed().eval(), noise(2, 3, 32, 32)
    network = Network(net, "mine", size=32)
    _, found = pixel_maps.gradient(network, pictures, 1)
    assert torch.allclose(found.double(), by_float64(net, pictures, 1), atol=1e-7)
    assert not models.examine(network, 32).channels_last
    assert cams.class_maps(network, "conv", pictures, 1)[0].shape == (2, 32, 32)
    made = ActivationMaximization(layer="conv", channels=[0], size=32, rounds=1, steps=2).run(network)
    assert made.alive.all()


def test_a_network_that_flattens_with_view_is_tuned(tmp_path) -> None:
    import shutil

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for photo in ("cat", "coffee"):
            shutil.copy(f"sample_images/{photo}.jpg", tmp_path / name)
    recipe = FineTuning(data_dir=str(tmp_path), size=32, head_epochs=1, upper_epochs=1)
    assert recipe.run(Viewed().eval()).log


WRAPPINGS = {
    "dictionary": lambda logits: {"logits": logits},
    "out": lambda logits: {"aux": logits + 1, "out": logits},
    "tuple": lambda logits: (logits, logits.mean()),
    "list, the second": lambda logits: [logits.sum(0), logits],
}


@pytest.mark.parametrize("name", WRAPPINGS)
@pytest.mark.filterwarnings("ignore:.*several tensors that could be logits")
def test_logits_are_found_in_what_a_network_gives(name: str) -> None:
    net, pictures = Gives(WRAPPINGS[name]).eval(), noise(2, 3, 20, 20)
    expected = net.chain(pictures)
    logits, found = pixel_maps.gradient(net, pictures, 1)
    assert torch.allclose(logits, expected, atol=1e-6)
    assert torch.allclose(found.double(), by_float64(net.chain, pictures, 1), atol=1e-7)
    for target in ("", 1):
        step = GradCAM(photos=CAT, layer="chain.0", photo_size=64, target=target).run(net)
        assert step.labels == [f"class {step.classes[0]}"]
    assert models.class_count(models.as_network(net), 20) == 5


def test_of_several_logits_the_first_counts_and_that_is_said_once() -> None:
    net, pictures = Gives(WRAPPINGS["out"]).eval(), noise(1, 3, 20, 20)
    with pytest.warns(UserWarning, match=r"several tensors.*'out' \(2, 5\), 'aux' \(2, 5\).*The first one counts"):
        pixel_maps.gradient(net, pictures, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixel_maps.gradient(net, pictures, 1)
    aux = Network(net, output=lambda out: out["aux"] * 2)
    assert torch.allclose(pixel_maps.gradient(aux, pictures, 1)[0], 2 * (net.chain(pictures) + 1), atol=1e-6)


@pytest.mark.parametrize(
    "wrap", [lambda logits: [{"boxes": logits}], lambda logits: {"a": logits.sum()}, lambda x: None]
)
def test_a_network_without_logits_is_refused_by_what_it_gives(wrap) -> None:
    with pytest.raises(ValueError, match=r"Gives gives a .*expected class logits.*Network\(module, output="):
        GradCAM(photos=CAT, layer="chain.0", photo_size=32, target=1).run(Gives(wrap).eval())


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x


class ByKeyword(nn.Module):
    def forward(self, *, pixel_values):
        return pixel_values


def _locked() -> nn.Module:
    net = chain()
    net.logger = threading.Lock()
    return net


CAUSES = {
    "TorchScript": (lambda: torch.jit.trace(chain(), torch.zeros(1, 3, 64, 64)), "is TorchScript"),
    "a lock": (_locked, r"attribute 'logger' is a lock.*del net\.logger"),
    "lazy": (lambda: chain(nn.LazyConv2d(4, 3)), r"has not seen a picture yet.*'0\.weight'.*run it once"),
    "two inputs": (TwoInputs, r"more than one input \(x, y\): wrap it"),
    "keyword-only": (ByKeyword, r"by keyword alone \(pixel_values\): wrap it"),
    "volumes": (lambda: chain(nn.Conv3d(3, 4, 3)), r"volumes.*not pictures.*Conv3d"),
    "sound": (lambda: chain(nn.Conv1d(3, 4, 3)), r"takes \(B, channels, length\), not pictures"),
    "size": (lambda: Viewed(32), "pictures of 64 x 64 pixels: give the size that it was made for, 32"),
    "its own error": (lambda: chain(nn.Linear(7, 4)), r"and at other sizes.*Make it run first"),
}


@pytest.mark.parametrize("name", CAUSES)
@pytest.mark.filterwarnings("ignore:Lazy modules", "ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
def test_a_refusal_names_the_cause(name: str) -> None:
    make, cause = CAUSES[name]
    net = make()
    with pytest.raises(ValueError, match=cause) as refused:
        models.layers(net, 64)
    assert name == "size" or "give the size that it was made for" not in str(refused.value)
    with pytest.raises(ValueError, match=cause):
        pixel_maps.gradient(net, noise(1, 3, 64, 64), 0)


def test_grey_pictures_are_found_from_the_first_convolution() -> None:
    net = chain(nn.Conv2d(1, 4, 3))
    network = Network(net, mean=(0.13,), std=(0.31,))
    assert network.channels == models.as_network(net).channels == 1
    photo = noise(2, 3, 20, 20)
    grey = (photo * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    assert torch.allclose(network(photo), net((grey - 0.13) / 0.31), atol=1e-6)
    _, found = pixel_maps.gradient(network, photo, 1)
    expected = by_float64(net, (grey - 0.13) / 0.31, 1) / 0.31
    assert torch.allclose(found[:, 1].double(), 0.587 * expected[:, 0], atol=1e-7)
    assert [layer.channels for layer in models.layers(net, 32)] == [4, 4, 4]
    step = ActivationMaximization(layer="0", channels=[0], size=32, rounds=1, steps=2).run(network)
    assert step.picture.shape == (1, 3, 32, 32)


def test_a_convolution_that_is_written_down_first_need_not_run_first() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first, self.head = nn.Conv2d(8, 4, 1), nn.Conv2d(3, 8, 3), nn.Linear(4, 5)

        def forward(self, x):
            return self.head(self.last(self.first(x)).mean((2, 3)))

    assert models.as_network(Backwards()).channels == 3


def test_a_pair_is_a_size() -> None:
    network = Network(nn.Conv2d(3, 4, 3, stride=2), "wide", size=(48, 96))
    (layer,) = models.layers(Network(nn.Sequential(network.net), "wide", size=(48, 96)))
    assert (layer.height, layer.width) == (23, 47)
    assert "48 x 96 pixels" in repr(network)


# Gradients.


class Without(nn.Module):
    """A chain whose way back is cut somewhere."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.chain, self.how = chain(), how

    def forward(self, x):
        if self.how == "no_grad":
            with torch.no_grad():
                return self.chain(x)
        if self.how == "detach":
            return self.chain(x.detach())
        if self.how == "data":
            return self.chain[1:](self.chain[0](x).data)
        return checkpoint(self.chain, x, use_reentrant=True)


GRADIENTS = {
    "no_grad": (lambda: Without("no_grad"), "its forward switches gradients off"),
    "detach": (lambda: Without("detach"), "detached"),
    "data": (lambda: Without("data"), "detached|does not depend"),
    "checkpoint": (lambda: Without("checkpoint"), "reentrant checkpointing.*use_reentrant=False"),
    "quantized": (
        lambda: torch.ao.quantization.quantize_dynamic(chain(), {nn.Linear}, dtype=torch.qint8),
        "layer '4' is quantized",
    ),
}


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:.*quantiz", "ignore:None of the inputs have requires_grad"
)
def test_why_there_is_no_gradient_is_said_by_every_technique(name: str) -> None:
    make, cause = GRADIENTS[name]
    net, pictures = make().eval(), noise(1, 3, 32, 32)
    layer = "0" if name == "quantized" else "chain.0"
    with pytest.raises(ValueError, match=cause):
        pixel_maps.gradient(net, pictures, 1)
    with pytest.raises(ValueError, match=cause):
        pixel_maps.guided_backpropagation(net, pictures, 1)
    with pytest.raises(ValueError, match=cause):
        ClassPictures(classes=[0], size=32, rounds=1, steps=2).run(net)
    if name in ("no_grad", "quantized"):
        recipe = FilterGradients(layer=layer, target=1, reference=CAT, similar=CAT, dissimilar=CAT, size=32)
        with pytest.raises(ValueError, match=cause):
            recipe.run(net)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_every_gradient_works_under_the_callers_mode(mode) -> None:
    def everything(net: nn.Module) -> list[torch.Tensor]:
        pictures = noise(2, 3, 32, 32)
        recipe = FilterGradients(layer="0", target=1, reference=CAT, similar=CAT, dissimilar=CAT, size=32)
        canvas = Pixels.from_picture(noise(1, 3, 32, 32))
        *_, last = ascent.ascend(Network(net), channel("0", [1]), canvas, steps=3)
        return [
            pixel_maps.gradient(net, pictures, 1)[1],
            pixel_maps.integrated_gradients(net, pictures, 1)[1],
            cams.class_maps(net, "0", pictures, 1)[0],
            recipe.run(net).importance,
            last.picture,
        ]

    expected = everything(chain())
    with mode():
        found = everything(chain())  # its weights are made in this mode, too
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(found, expected, strict=True))


def test_dropout_that_stays_on_is_said_once_with_its_size() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(F.dropout(self.conv(x).relu().mean((2, 3)), 0.5))

    net, pictures = Net().eval(), noise(1, 3, 16, 16)
    with pytest.warns(UserWarning, match=r"another result at each call, by up to 0\.\d+ in a logit"):
        cams.class_maps(net, "conv", pictures, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cams.class_maps(net, "conv", pictures, 1)


def test_a_batch_that_matters_is_said() -> None:
    net = chain()
    net.insert(1, nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.warns(UserWarning, match="depends on the others of its batch"):
        pixel_maps.gradient(net.eval(), noise(1, 3, 16, 16), 1)


# Types.


def normalised() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_maps_of_a_network_of_any_type_are_those_of_the_same_weights_in_float32(dtype: torch.dtype) -> None:
    net, pictures = normalised().to(dtype), noise(1, 3, 64, 64)
    plain = copy.deepcopy(net).float()
    for method in cams.METHODS:
        found = cams.class_maps(net, "3", pictures, 1, method)[0]
        expected = cams.class_maps(plain, "3", pictures, 1, method)[0]
        assert found.max() > 0
        assert torch.allclose(found.float(), expected, rtol=1e-3, atol=1e-3 * expected.abs().max())
    recipe = ActivationMaximization(layer="3", channels=[0], size=64, rounds=1, steps=2)
    assert torch.allclose(recipe.run(net).picture.float(), recipe.run(plain).picture, atol=1e-3)


def test_float64_as_default() -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        network = models.load("minivgg_robust")
        assert network(torch.rand(1, 3, 64, 64, dtype=torch.float32)).shape == (1, 100)
        step = GradCAM(photos=CAT, photo_size=64).run(network)
        assert step.maps.isfinite().all()
        ActivationMaximization(channels=[0], size=48, rounds=1, steps=2).run(network)
    finally:
        torch.set_default_dtype(before)


# Acting on outputs.


@pytest.mark.parametrize(
    "norm",
    [None, nn.utils.weight_norm, nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_a_filter_that_is_taken_away_gives_nothing_wherever_its_weights_come_from(norm) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3, bias=False)
    ).eval()
    if norm:
        norm(net[0])
    pictures, before = noise(2, 3, 16, 16), outside(net)
    network = models.as_network(net)
    assert filter_weights.logits_without(network, "0", [0, 1, 2, 3], pictures).abs().max() == 0
    kept = net[0](pictures).relu()
    kept[:, [1, 2]] = 0
    found = filter_weights.logits_without(network, "0", [1, 2], pictures)
    assert torch.allclose(found, net[4](kept.mean((2, 3))), atol=1e-6)
    assert same_outside(before, outside(net))


class Stated(nn.Module):
    """A ReLU as a statement: in place, nothing assigned."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu, self.head, self.how = nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Linear(8, 3), how

    def forward(self, x):
        y = self.conv(x)
        if self.how == "module":
            self.relu(y)
        elif self.how == "function":
            F.relu(y, True)
        elif self.how == "method":
            y.relu_()
        elif self.how == "clamp":
            y.clamp_(min=0)
        else:
            F.hardtanh(y, 0.0, 6.0, True)
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize("how", ["module", "function", "method", "clamp", "hardtanh"])
def test_a_relu_that_is_a_statement_is_guided(how: str) -> None:
    net, pictures = Stated(how).eval(), noise(2, 3, 16, 16)
    logits, found = pixel_maps.guided_backpropagation(net, pictures, 1)
    assert torch.allclose(logits, net(pictures), atol=1e-6)
    wide = pictures.clone().requires_grad_()
    before = net.conv(wide)
    back = (net.head.weight[1].view(1, 8, 1, 1) / before[0, 0].numel()).expand_as(before)
    (expected,) = torch.autograd.grad(before, wide, back.clamp(min=0) * (before > 0))
    assert torch.allclose(found, expected, atol=1e-7)


def test_activations_that_are_no_relus_are_counted_and_said() -> None:
    net = models.load("mobilenet_v3_small", weights=None)
    kinds = {kind: sum(isinstance(each, kind) for each in net.modules()) for kind in (nn.ReLU, nn.Hardswish)}
    assert kinds == {nn.ReLU: 14, nn.Hardswish: 19}
    with pytest.warns(UserWarning, match=r"guided in 14 of the 33 activations.*19 x hardswish"):
        pixel_maps.guided_backpropagation(net, noise(1, 3, 64, 64))


def test_a_module_of_your_own_works_wherever_a_name_does() -> None:
    net, pictures = normalised(), noise(1, 3, 64, 64)
    assert models.load(net).net is net
    recipe = GradCAM(photos=CAT, photo_size=64, network=net, layer="3")
    assert recipe.network == "Sequential"
    assert recipe.document()["parameters"]["network"] == "Sequential"
    assert json.loads(recipe.model_dump_json())["network"] == "Sequential"
    changed = recipe.changed(opacity=0.2)
    assert torch.equal(changed.run().maps, recipe.changed(network="minivgg").run(net).maps)
    wrapped = Network(net, "mine", classes=list("abcde"), size=64)
    named = ClassPictures(network=wrapped, classes=["c"], size=32, rounds=1, steps=2)
    assert named.network == "mine"
    assert torch.equal(named.run().picture, named.changed(network="minivgg").run(wrapped).picture)
    for module in (nn.DataParallel(net), torch.compile(net)):
        assert models.as_network(module).net is net
        assert torch.equal(pixel_maps.gradient(module, pictures, 1)[1], pixel_maps.gradient(net, pictures, 1)[1])


# Classes and shares.


def test_shares_whatever_the_network_ends_in() -> None:
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double() * 4
    expected = logits.softmax(1)
    for given in (logits, logits.softmax(1), logits.log_softmax(1)):
        assert torch.allclose(models.shares(given), expected, atol=1e-12)
        assert torch.allclose(models.log_shares(given), logits.log_softmax(1), atol=1e-9)
    assert torch.allclose(models.shares(logits[:, :1]), logits[:, :1].sigmoid())
    # one row of logits that adds up to 1 by chance
    chance = torch.tensor([[0.0, 0.25, 0.75], [1.0, 2.0, 3.0]])
    assert torch.allclose(models.shares(chance), chance.softmax(1))
    wide = logits.clone().requires_grad_()
    assert torch.autograd.grad(models.log_shares(wide)[:, 0].sum(), wide)[0].isfinite().all()


def test_percentages_of_a_softmax_network_and_of_a_single_logit() -> None:
    sure, one = chain(None, nn.Softmax(1)), chain()
    sure[4].bias.data[2] = 9
    one[4] = nn.Linear(4, 1)
    one[4].bias.data[0] = -3
    step = GradCAM(photos=CAT, layer="0", photo_size=64).run(sure)
    assert step.labels == ["class 2"]
    assert torch.allclose(step.probabilities, step.logits, atol=1e-5)
    step = GradCAM(photos=CAT, layer="0", photo_size=64).run(one)
    assert torch.allclose(step.probabilities, step.logits.sigmoid(), atol=1e-6)
    assert step.probabilities.item() < 0.1


ENDS = {
    "module": lambda: chain(None, nn.Softmax(1)),
    "log": lambda: chain(None, nn.LogSoftmax(1)),
    "sigmoid": lambda: chain(None, nn.Sigmoid()),
    "function": lambda: Gives(lambda logits: F.softmax(logits, dim=1)),
    "method": lambda: Gives(lambda logits: {"logits": logits.log_softmax(1)}),
    "in place": lambda: Gives(lambda logits: logits.sigmoid_()),
    "the second of two": lambda: Gives(lambda logits: (logits * logits.sigmoid().sum().sign()).softmax(-1)),
}


@pytest.mark.parametrize("end", ENDS)
def test_class_pictures_go_before_a_softmax(end: str) -> None:
    recipe, net = ClassPictures(classes=[1], size=32, rounds=1, steps=4), ENDS[end]().eval()
    before = outside(net)
    assert torch.equal(recipe.run(net).picture, recipe.run(chain()).picture)
    assert same_outside(before, outside(net))


@pytest.mark.parametrize("end", ENDS)
def test_a_tuned_network_gives_logits(end: str) -> None:
    net, pictures = ENDS[end]().eval(), noise(2, 3, 32, 32)
    tuned, head = parts.with_new_head(models.as_network(net), ["a", "b"], 32)
    with torch.no_grad():
        tuned.net.get_submodule(head).bias.copy_(torch.tensor([3.0, -40.0]))
    assert torch.equal(tuned(pictures), torch.tensor([[3.0, -40.0]] * 2))
    assert torch.equal(copy.deepcopy(tuned)(pictures), tuned(pictures))


NAMED = Network(chain(), "animals", ["tabby, tabby cat", "Persian cat", "cattle egret", "crane", "7"], size=64)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("7", 4), ("2", 2), (2, 2), (np.int64(2), 2), (np.uint8(2), 2), (torch.tensor(2), 2), ("PERSIAN CAT", 1),
     ("tabby cat", 0), ("egret", 2), ("persian", 1), ("attl", 2)],
)  # fmt: skip
def test_a_class_by_name_by_number_or_by_a_part_of_its_name(given, expected: int) -> None:
    assert models.class_indices(NAMED, given) == models.class_indices(NAMED, [given]) == [expected]
    assert gradients.chosen_class(NAMED, given if isinstance(given, str) else int(given), 64) == expected


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("cat", ValueError, r"'cat' means several classes of animals: 0 \(tabby, tabby cat\), 1 \(Persian cat\)"),
        ("crain", ValueError, "knows no class 'crain'.*Nearest: crane"),
        (True, TypeError, "True is no class"),
        (2.5, TypeError, "2.5 is no class: give a name or a whole number, 0 to 4"),
        (np.float32(2), TypeError, "is no class"),
        (torch.tensor(True), TypeError, "is no class"),
        (5, ValueError, "5 classes, 0 to 4: there is no class 5"),
        (np.int64(-1), ValueError, "there is no class -1"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_class(given, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        models.class_indices(NAMED, [given])


@pytest.mark.parametrize("numbers", [np.array([2, 0]), torch.tensor([2, 0]), (2, 0), [np.int64(2), "tabby"]])
def test_several_classes_at_once(numbers) -> None:
    assert models.class_indices(NAMED, numbers) == [2, 0]
    pictures = noise(2, 3, 20, 20)
    found = pixel_maps.gradient(NAMED, pictures, numbers)[1]
    assert torch.equal(found, pixel_maps.gradient(NAMED, pictures, [2, 0])[1])


def test_a_class_is_counted_at_the_size_of_the_pictures() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 32 * 32, 5)).eval()
    step = GradCAM(photos=CAT, layer="0", photo_size=32, target=1).run(net)
    assert step.labels == ["class 1"]
