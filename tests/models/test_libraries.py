"""timm's and Hugging Face's networks by name: their logits, their normalisation, their names."""

import builtins
from pathlib import Path

import pytest
import torch
from small_networks import noise

from nbhelpers import models
from nbhelpers.attribution import pixel_maps
from nbhelpers.techniques.grad_cam import GradCAM


def test_timm_by_name() -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    network = models.load("timm/resnet18.a1_in1k", weights=None, device="cpu")
    assert (network.name, network.size, network.classes) == ("timm/resnet18.a1_in1k", 224, None)
    assert network.mean.flatten().tolist() == pytest.approx(timm.data.IMAGENET_DEFAULT_MEAN)
    again = models.load("timm/resnet18.a1_in1k", weights=None, device="cpu")
    pictures = noise(1, 3, 64, 64)
    assert torch.equal(network(pictures), again(pictures))
    assert torch.allclose(network(pictures), network.net((pictures - network.mean) / network.std))
    step = GradCAM(network="timm/resnet18.a1_in1k", photos="sample_images/cat.jpg", photo_size=64, layer="layer4")
    assert step.run(network).maps.isfinite().all()
    with pytest.raises(ValueError, match=r"timm has no network 'resnet1888'.*Nearest: "):
        models.load("timm/resnet1888")


def test_hugging_face_by_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    labels = {0: "tench", 1: "goldfish", 2: "shark"}
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", id2label=labels,
        label2id={name: number for number, name in labels.items()},
    )  # fmt: skip
    torch.manual_seed(0)
    net = transformers.ResNetForImageClassification(config).eval()
    net.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_processor_type": "ViTImageProcessor", "size": {"height": 48, "width": 48}, '
        '"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.25], "do_resize": true}'
    )
    network = models.load(f"hf/{tmp_path}", device="cpu")
    assert network.classes == ["tench", "goldfish", "shark"]
    assert network.size == 48
    assert network.mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])
    pictures = noise(2, 3, 48, 48)
    expected = net((pictures - network.mean) / network.std).logits
    logits, found = pixel_maps.gradient(network, pictures, "goldfish")
    assert torch.allclose(logits, expected, atol=1e-5)
    assert found.abs().sum() > 0
    assert "goldfish" in GradCAM(photos="sample_images/cat.jpg", photo_size=48, layer="resnet.encoder.stages.1",
                                 target="goldfish").run(network).labels  # fmt: skip


@pytest.mark.parametrize(("name", "library"), [("timm/resnet18", "timm"), ("hf/microsoft/resnet-18", "transformers")])
def test_a_library_that_is_not_installed(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(module: str, *rest, **named):
        if module.partition(".")[0] == library:
            raise ImportError(f"No module named {library!r}")
        return real(module, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=f"pip install {library}"):
        models.load(name)
