"""Loading against torchvision and by hand, what goes wrong on the way, controls, and class names."""

import io
import itertools
import json
import shutil
import urllib.error
import urllib.request
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from nbhelpers import models
from nbhelpers.models import sources
from nbhelpers.models.minivgg import MiniVGG

WEIGHTS = Path(sources.__file__).parent / "weights"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty folder in the place of torchvision's cache."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


@pytest.fixture
def no_connection(monkeypatch) -> None:
    def refuse(*args, **options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", refuse)


# The bundled networks.


@pytest.mark.parametrize("name", models.bundled())
def test_bundled_network_computes_what_its_file_says(name):
    network = models.load(name, device="cpu")
    stored = {key: value.double() for key, value in load_file(WEIGHTS / f"{name}.safetensors").items()}
    pictures = torch.rand(2, 3, network.size, network.size)
    x = (pictures.double() - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    x = F.conv2d(x, stored["stem.conv.weight"], stored["stem.conv.bias"], stride=2, padding=2).relu()
    card = json.loads((WEIGHTS / f"{name}.json").read_text())
    widths = card["architecture"]["widths"]
    for block, convolutions in enumerate(widths, start=1):
        for conv in range(1, len(convolutions) + 1):
            key = f"block{block}.conv{conv}"
            x = F.conv2d(x, stored[f"{key}.weight"], stored[f"{key}.bias"], padding=1).relu()
        if block < len(widths):
            x = F.max_pool2d(x, 2)
    logits = x.mean((2, 3)) @ stored["head.weight"].T + stored["head.bias"]
    with torch.no_grad():
        torch.testing.assert_close(network(pictures).double(), logits, rtol=1e-4, atol=1e-4)
    assert not network.training
    assert network.name == name
    assert len(network.classes) == 100


@pytest.mark.parametrize("name", models.bundled())
def test_bundled_network_is_as_accurate_as_its_card_says(name, shared):
    with np.load(shared / "data" / "tiny100" / "val.npz") as packed:
        content, offsets, labels = packed["bytes"], packed["offsets"], torch.from_numpy(packed["labels"][:500])
    pictures = [
        np.asarray(Image.open(io.BytesIO(content[start:end].tobytes())).convert("RGB"))
        for start, end in itertools.pairwise(offsets[: len(labels) + 1])
    ]
    with torch.no_grad():
        network = models.load(name)
        answers = torch.cat(
            [
                network(torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2) / 255).argmax(1)
                for part in (pictures[i : i + 250] for i in range(0, len(pictures), 250))
            ]
        )
    stated = json.loads((WEIGHTS / f"{name}.json").read_text())["measured"]["clean_top1"]
    # three standard deviations of 500 draws
    assert (answers == labels).float().mean().item() * 100 == pytest.approx(stated, abs=6.7)


def test_class_names_are_those_of_the_training_data(shared):
    listed = json.loads((shared / "data" / "tiny100" / "classes.json").read_text())
    assert models.load("minivgg").classes == [each["name"] for each in sorted(listed, key=lambda each: each["index"])]


@pytest.mark.parametrize("name", models.bundled())
def test_every_bundled_network_has_a_card(name):
    text = (WEIGHTS / f"{name}.md").read_text()
    assert "licence" in text.lower()


def test_random_bundled_network_is_the_same_every_time():
    state = torch.get_rng_state()
    one, two = models.load("minivgg", weights=None), models.load("minivgg", weights=None)
    assert torch.equal(torch.get_rng_state(), state)
    assert one.classes is None
    for key, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[key])
    assert not torch.equal(one.net.head.weight, models.load("minivgg").net.head.weight)


def test_tampered_file_is_found_out(tmp_path, monkeypatch):
    for path in WEIGHTS.glob("minivgg.*"):
        shutil.copy(path, tmp_path)
    content = bytearray((tmp_path / "minivgg.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "minivgg.safetensors").write_bytes(content)
    monkeypatch.setattr(sources, "FOLDER", tmp_path)
    with pytest.raises(RuntimeError, match=r"minivgg\.safetensors are damaged .*install nbhelpers again"):
        models.load("minivgg")
    (tmp_path / "minivgg.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"minivgg\.safetensors are missing: install nbhelpers again"):
        models.load("minivgg")


# torchvision's.

FAMILIES = [
    "vgg11",
    "vgg11_bn",
    "alexnet",
    "googlenet",
    "squeezenet1_1",
    "resnet18",
    "wide_resnet50_2",
    "resnext50_32x4d",
    "densenet121",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    "mnasnet0_5",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "regnet_y_400mf",
    "convnext_tiny",
    "inception_v3",
    "maxvit_t",
    "vit_b_32",
    "swin_t",
]


@pytest.fixture
def quick(monkeypatch) -> None:
    """Networks without the minutes that drawing their heads takes."""
    for draw in ("kaiming_normal_", "kaiming_uniform_", "normal_", "trunc_normal_", "xavier_uniform_"):
        monkeypatch.setattr(nn.init, draw, lambda tensor, *args, **options: tensor.data.fill_(0.001))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_loads_and_gives_logits(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = models.load(name, weights=None, device="cpu")
    assert network.classes is None
    assert not network.training
    preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    assert [network.size] == preset.crop_size
    assert network.mean.flatten().tolist() == pytest.approx(preset.mean)
    assert network.std.flatten().tolist() == pytest.approx(preset.std)
    side = network.size if name.startswith(("vit", "swin", "maxvit")) else 96
    with torch.no_grad():
        logits = network(torch.zeros(1, 3, side, side))
    assert logits.shape == (1, 1000)


def test_random_torchvision_network_is_the_same_every_time():
    state = torch.get_rng_state()
    one, two = (models.load("squeezenet1_1", weights=None) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, one.state_dict().values(), two.state_dict().values()))
    assert one.net.features[0].weight.std() > 0


@pytest.mark.parametrize("name", ["squeezenet1_0", "mobilenet_v2"])
def test_real_weights_give_torchvisions_own_logits(name, shared):
    network = models.load(name, weights="IMAGENET1K_V1", device="cpu")
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    theirs = torchvision.models.get_model(name, weights=weights).eval()
    photo = Image.open(next((shared / "images" / "imagenet").glob("*_goldfish.jpg"))).convert("RGB")
    prepared = weights.transforms()(photo)
    picture = prepared * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) + torch.tensor([0.485, 0.456, 0.406]).view(
        3, 1, 1
    )
    with torch.no_grad():
        logits = network(picture[None])
        torch.testing.assert_close(logits, theirs(prepared[None]), rtol=1e-3, atol=1e-3)
    assert network.classes[logits.argmax()] == "goldfish"
    assert models.class_indices(network, ["Goldfish"]) == [1]


def test_default_takes_an_older_version_that_is_there_and_says_so(shared):
    with pytest.warns(UserWarning, match=r"mobilenet_v2: using IMAGENET1K_V1, .*weights='IMAGENET1K_V2' to download"):
        models.load("mobilenet_v2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        models.load("mobilenet_v2", weights="IMAGENET1K_V1")
        models.load("squeezenet1_0")


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_with_auxiliary_heads_see_the_picture_as_torchvision_means_them_to(name, monkeypatch):
    """Their weights expect pictures scaled to [-1, 1]; they get there from ImageNet's normalisation themselves."""
    trained = torchvision.models.get_model(name, aux_logits=True, init_weights=False)
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *args, **options: trained.state_dict()
    )
    network = models.load(name, device="cpu")
    assert network.classes[1] == "goldfish"
    assert not any("aux" in layer.lower() for layer in network.net.state_dict())
    pictures = torch.rand(1, 3, 96, 96)
    trained.eval().transform_input = False
    with torch.no_grad():
        torch.testing.assert_close(network(pictures), trained(pictures * 2 - 1), rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("no_connection")
def test_without_a_connection_nothing_is_substituted(cache):
    with pytest.raises(FileNotFoundError) as caught:
        models.load("squeezenet1_0")
    message = str(caught.value)
    assert "squeezenet1_0" in message
    assert "no route to host" in message
    assert str(cache) in message
    assert "load('minivgg_robust') needs no download" in message
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a network", "truncated", "of another network"])
def test_damaged_weights_file_is_named(cache, content, tmp_path):
    path = cache / "squeezenet1_0-b66bff10.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        state = MiniVGG(stem=4, widths=((4,),)).state_dict()
        torch.save(state, path)
        if content == "truncated":
            path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(RuntimeError, match=r"squeezenet1_0-b66bff10\.pth are damaged .*: delete that file"):
        models.load("squeezenet1_0")


def test_download_that_arrives_damaged_is_not_kept(cache, monkeypatch):
    source = cache.parent / "server.pth"
    source.write_bytes(b"something else")
    urls = []

    def serve(request):
        urls.append(request.full_url)
        return urllib.request.urlopen(source.as_uri())

    monkeypatch.setattr("torch.hub.urlopen", serve)
    with pytest.raises(RuntimeError, match=r"download of .*squeezenet1_0-b66bff10\.pth went wrong .*invalid hash.*try"):
        models.load("squeezenet1_0")
    assert [url.rsplit("/", 1)[-1] for url in urls] == ["squeezenet1_0-b66bff10.pth"]
    assert list(cache.iterdir()) == []


def test_unknown_names():
    with pytest.raises(ValueError, match=r"no network is called 'vgg61'\. Nearest: vgg16|no network .* vgg16"):
        models.load("vgg61")
    with pytest.raises(ValueError, match=r"'MiniVGG_robst'\. Nearest: minivgg_robust"):
        models.load("MiniVGG_robst")
    with pytest.raises(ValueError, match=r"resnet50 has no weights called 'V1'; it has DEFAULT, IMAGENET1K_V1, IMAGEN"):
        models.load("resnet50", weights="V1")
    with pytest.raises(ValueError, match=r"minivgg has one set of weights: .*got 'IMAGENET1K_V1'"):
        models.load("minivgg", weights="IMAGENET1K_V1")


def test_device():
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert next(models.load().parameters()).device.type == expected
    assert models.load(device="cpu").mean.device.type == "cpu"


# Your own.


@pytest.mark.usefixtures("unchecked")
def test_your_own_module_is_taken_as_it_is():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    module[1].eval()
    network = models.as_network(module)
    assert network.net is module
    assert network.name == "Sequential"
    assert models.as_network(network) is network
    assert [each.training for each in module] == [True, False, True]
    pictures = torch.rand(1, 3, 8, 8)
    module.eval()
    assert torch.equal(network(pictures), module(pictures))
    with pytest.raises(TypeError, match=r"network's name or an nn\.Module, got int"):
        models.as_network(3)


def test_normalisation_is_torchvisions():
    network = models.Network(nn.Identity(), "mine", mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    pictures = torch.rand(2, 3, 5, 5)
    wanted = torchvision.transforms.functional.normalize(pictures, [0.1, 0.2, 0.3], [0.5, 0.6, 0.7])
    torch.testing.assert_close(network(pictures), wanted)


# Controls.


def test_randomised_copy_shares_no_learned_number():
    network = models.load("minivgg", device="cpu")
    kept = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    one, again, other = (models.randomised(network, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in network.state_dict().items():
        assert torch.equal(value, kept[key])
        assert torch.equal(one.state_dict()[key], again.state_dict()[key])
        assert not torch.equal(one.state_dict()[key], value)
        assert key.endswith("bias") or not torch.equal(one.state_dict()[key], other.state_dict()[key])
    assert (one.size, one.classes) == (network.size, network.classes)
    assert not one.training


@pytest.mark.parametrize("name", ["minivgg", "squeezenet1_1", "resnet18", "mobilenet_v3_small"])
def test_randomised_network_still_sees_the_picture(name):
    """The control's answer depends on the picture, and neither fades nor explodes on the way."""
    network = models.load(name, weights="DEFAULT" if name == "minivgg" else None, device="cpu")
    with torch.no_grad():
        logits = models.randomised(network)(torch.rand(8, 3, 96, 96) * torch.linspace(0, 1, 8).view(8, 1, 1, 1))
    varies = logits.std(0).mean() / logits.abs().mean()
    assert 0.1 < varies < 10
    assert 1e-3 < logits.abs().mean() < 1e6


def test_he_initialisation_has_the_variance_of_the_paper():
    network = models.randomised(nn.Sequential(nn.Conv2d(64, 128, 3, groups=2), nn.Linear(1000, 300)))
    assert network.net[0].weight.var().item() == pytest.approx(2 / (32 * 9), rel=0.05)
    assert network.net[1].weight.var().item() == pytest.approx(2 / 1000, rel=0.05)
    assert network.net[0].bias.abs().max() == 0


def test_other_layers_return_to_their_start():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.arange(100.0))
            self.norm = nn.BatchNorm2d(3)
            self.weighted = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3))
            self.attention = nn.MultiheadAttention(8, 2)

    net = Net()
    net.norm(torch.rand(4, 3, 2, 2))
    nn.init.constant_(net.norm.weight, 5)
    control = models.randomised(net).net
    assert control.norm.running_mean.tolist() == [0, 0, 0]
    assert control.norm.weight.tolist() == [1, 1, 1]
    assert control.norm.num_batches_tracked == 0
    assert not torch.equal(control.token, net.token)
    assert torch.equal(control.token.sort().values, net.token)
    assert not torch.equal(control.weighted.weight, net.weighted.weight)
    assert not torch.equal(control.attention.in_proj_weight, net.attention.in_proj_weight)


# Classes.


def named(*classes: str) -> models.Network:
    return models.Network(nn.Linear(1, len(classes)), "animals", classes)


def test_class_names_and_numbers():
    network = named("tabby, tabby cat", "tiger cat", "cat", "Great Dane", "crane", "crane")
    assert models.class_indices(network, ["tabby", 3, "CAT", " great dane", "Tabby Cat", np.int64(0)]) == [
        *(0, 3, 2, 3, 0, 0)
    ]
    assert models.class_indices(network, "cat") == [2]
    assert models.class_indices(network, []) == []
    with pytest.raises(ValueError, match=r"animals knows no class 'tigr cat'\. Nearest: tiger cat"):
        models.class_indices(network, ["tigr cat"])
    with pytest.raises(ValueError, match=r"'crane' means several classes of animals: 4 \(crane\), 5 \(crane\)"):
        models.class_indices(network, ["crane"])
    with pytest.raises(ValueError, match=r"animals has 6 classes, 0 to 5: there is no class 6"):
        models.class_indices(network, [6])
    with pytest.raises(ValueError, match="there is no class -1"):
        models.class_indices(network, [-1])


def test_one_synonym_of_several_classes():
    network = named("maillot", "maillot, tank suit", "drake, duck", "hen, duck")
    assert models.class_indices(network, ["maillot"]) == [0]  # the whole name comes first
    assert models.class_indices(network, ["tank suit"]) == [1]
    with pytest.raises(ValueError, match=r"'duck' means several classes .*: 2 \(drake, duck\), 3 \(hen, duck\)"):
        models.class_indices(network, ["duck"])


@pytest.mark.parametrize(
    ("wanted", "meant"), [("puma", "cougar"), ("Felis concolor", "cougar"), ("mobile phone", "cellular telephone")]
)
def test_a_class_is_found_by_its_other_names(wanted: str, meant: str) -> None:
    network = named("cougar", "cellular telephone", "lion", "crane", "puma-like cat")
    if wanted == "puma":  # a part of a name that the network has comes first
        assert models.class_indices(network, wanted) == [4]
        network = named("cougar", "lion")
    assert network.class_name(models.class_indices(network, wanted)[0]) == meant


def test_every_name_of_imagenet_finds_its_class() -> None:
    from torchvision.models import ResNet50_Weights

    names = ResNet50_Weights.DEFAULT.meta["categories"]
    network = named(*names)
    text = (Path(models.__file__).parent / "imagenet_names.txt").read_text(encoding="utf-8")
    rows = [line.split(", ") for line in text.splitlines() if not line.startswith("#")]
    assert [row[0] for row in rows] == names
    times = Counter(name.lower() for row in rows for name in row)
    wrong = []
    for number, row in enumerate(rows):
        for name in row[1:]:
            try:
                found = models.class_indices(network, name)
            except ValueError:  # a part of several classes' names
                continue
            part = any(name.lower() in each.lower() for each in names)
            wrong += [name] if found != [number] and times[name.lower()] == 1 and not part else []
    assert wrong == []


def test_digits_are_a_number_unless_they_are_a_name():
    network = named("seven", "7", "1, one")
    assert models.class_indices(network, ["7", " 2 ", "0", "1"]) == [1, 2, 0, 2]
    with pytest.raises(ValueError, match="animals has 3 classes, 0 to 2: there is no class 3"):
        models.class_indices(network, ["3"])
    with pytest.raises(ValueError, match="animals knows no class '²'"):
        models.class_indices(network, ["²"])


def test_a_class_without_a_name_is_called_by_its_number():
    assert named("tabby", "cat").class_name(1) == "cat"
    assert models.load("minivgg", weights=None).class_name(7) == "class 7"


def test_classes_without_names_are_counted():
    network = models.load("minivgg", weights=None)
    assert models.class_indices(network, [99, "98"]) == [99, 98]
    with pytest.raises(ValueError, match="has 100 classes, 0 to 99: there is no class 100"):
        models.class_indices(network, [100])
    with pytest.raises(ValueError, match=r"class names of .* are not known: give 'tabby' as a number"):
        models.class_indices(network, ["tabby"])
