"""Weights of one's own: read as tensors, their wrappings taken off, and told apart from those of another network."""

import json
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_networks import noise
from torch import nn
from torchvision.models import resnet18

from nbhelpers import models


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(0)
    return resnet18(num_classes=7).eval()


WRAPPINGS = {
    "plain": lambda weights: weights,
    "DataParallel": lambda weights: {f"module.{key}": value for key, value in weights.items()},
    "compiled, Lightning": lambda weights: {"state_dict": {f"model._orig_mod.{k}": v for k, v in weights.items()}},
    "a trainer's checkpoint": lambda weights: {"epoch": 3, "model_state_dict": weights, "loss": 0.5},
    "without counters": lambda weights: {k: v for k, v in weights.items() if "num_batches" not in k},
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_a_file_of_weights_computes_what_the_network_computed(name: str, trained: nn.Module, tmp_path: Path) -> None:
    torch.save(WRAPPINGS[name](trained.state_dict()), tmp_path / "mine.pth")
    network = models.load("resnet18", weights=str(tmp_path / "mine.pth"), classes=list("abcdefg"), device="cpu")
    pictures = noise(2, 3, 64, 64)
    assert torch.allclose(network(pictures), trained((pictures - network.mean) / network.std), atol=1e-5)
    assert network.class_name(3) == "d"
    assert network.name == "resnet18 (mine.pth)"


def test_safetensors_and_a_bundled_architecture(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = models.minivgg.MiniVGG(classes=3)
    save_file(net.state_dict(), tmp_path / "mine.safetensors")
    network = models.load("minivgg", weights=tmp_path / "mine.safetensors", device="cpu")
    assert models.class_count(network) == 3
    assert torch.equal(network.net.head.weight, net.head.weight)


@pytest.mark.parametrize(
    ("ending", "content"),
    [("txt", "a\nb\n\nc\nd\ne\nf\ng\n"), ("json", json.dumps(list("abcdefg"))),
     ("json", json.dumps({str(9 - n): name for n, name in zip(range(3, 10), "gfedcba", strict=True)})),
     ("json", json.dumps({name: number for number, name in enumerate("abcdefg")}))],
)  # fmt: skip
def test_classes_from_a_file(ending: str, content: str, trained: nn.Module, tmp_path: Path) -> None:
    torch.save(trained.state_dict(), tmp_path / "mine.pth")
    (tmp_path / f"names.{ending}").write_text(content)
    network = models.load("resnet18", weights=tmp_path / "mine.pth", classes=tmp_path / f"names.{ending}")
    assert network.classes == list("abcdefg")


def broken(weights: OrderedDict, how: str) -> object:
    weights = OrderedDict(weights)
    if how == "missing":
        del weights["layer1.0.conv1.weight"]
    elif how == "unexpected":
        weights["extra.weight"] = torch.zeros(2)
    elif how == "shape":
        weights["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    elif how == "NaN":
        weights["layer1.0.conv1.weight"] = weights["layer1.0.conv1.weight"] * float("nan")
    elif how == "whole":
        return resnet18()
    elif how == "nothing":
        return {"epoch": 3}
    return weights


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"not those of resnet18\. missing: layer1\.0\.conv1\.weight"),
        ("unexpected", r"unexpected: extra\.weight"),
        ("shape", r"other shapes: conv1\.weight \(64, 3, 3, 3\), not \(64, 3, 7, 7\)"),
        ("NaN", r"layer1\.0\.conv1\.weight in .* holds NaN"),
        ("whole", r"cannot be read as a file of tensors.*net\.state_dict\(\)"),
        ("nothing", "holds no weights"),
    ],
)
def test_what_does_not_fit_is_named(how: str, message: str, trained: nn.Module, tmp_path: Path) -> None:
    torch.save(broken(trained.state_dict(), how), tmp_path / "mine.pth")
    with pytest.raises(ValueError, match=message):
        models.load("resnet18", weights=tmp_path / "mine.pth")


def test_a_file_that_is_none(trained: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="mine"):
        models.load("resnet18", weights=tmp_path / "mine.pth")
    (tmp_path / "mine.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="cannot be read as a file of tensors"):
        models.load("resnet18", weights=tmp_path / "mine.safetensors")
    torch.save(trained.state_dict(), tmp_path / "mine.pth")
    with pytest.raises(ValueError, match="2 names for 7 classes"):
        models.load("resnet18", weights=tmp_path / "mine.pth", classes=["a", "b"])


@pytest.mark.parametrize("name", ["my_weights.pth", "runs/best.safetensors", "last.CKPT"])
def test_a_file_as_the_networks_name_is_told_how(name: str) -> None:
    with pytest.raises(ValueError, match=r"is a file of weights.*load\('resnet18', weights='"):
        models.load(name)
