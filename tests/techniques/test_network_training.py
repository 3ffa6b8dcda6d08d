"""The training notebook's technique: attacks against the plain ones, runs against themselves, cards against files."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nbhelpers import models
from nbhelpers.models.minivgg import WIDTHS
from nbhelpers.techniques import network_training
from nbhelpers.techniques.network_training import NetworkTraining
from nbhelpers.training.attack import attack

ROOT = Path(__file__).parents[2]
QUICK = {"photos": str(ROOT / "sample_images"), "size": 32, "channels": [8, 8], "epochs": 2}


@pytest.fixture(scope="module")
def network() -> models.Network:
    return models.load("minivgg_robust", device="cpu")


@pytest.fixture
def photos() -> torch.Tensor:
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_attacks_are_those_of_training_and_leave_the_network_alone(network, photos) -> None:
    network.net.head.weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    changed, logits = network_training.attacked(network, photos, 0.7, 4, seed=3)
    required = {name: each.requires_grad for name, each in network.named_parameters()}
    assert [name for name, each in required.items() if not each] == ["net.head.weight"]
    network.net.head.weight.requires_grad_()
    with torch.no_grad():
        answers = network(photos).argmax(1)
        assert torch.allclose(logits, network(changed), atol=1e-3)
    expected = attack(network, photos, answers, 0.7, 4, torch.Generator().manual_seed(3))
    assert torch.allclose(changed, expected, atol=1e-3)
    assert (changed - photos).flatten(1).norm(dim=1).max() <= 0.7 + 1e-4
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_answers_survive_as_counted_by_hand(network, photos) -> None:
    shares = network_training.survival({"it": network}, photos, [0.0, 0.5, 8.0], 3)["it"]
    assert shares[0] == 1
    with torch.no_grad():
        answers = network(photos).argmax(1)
    for radius, share in zip([0.5, 8.0], shares[1:], strict=True):
        _, logits = network_training.attacked(network, photos, radius, 3)
        assert share == pytest.approx((logits.argmax(1) == answers).float().mean().item())
    assert shares[0] >= shares[1] >= shares[2]


def test_a_run_is_continued_bit_for_bit(tmp_path: Path) -> None:
    recipe = NetworkTraining(**QUICK, training_radius=0.5)
    whole = recipe.run()
    kept = recipe.changed(keep=str(tmp_path))
    stopped = kept.iterate()
    assert next(stopped).index == 1
    stopped.close()
    steps = list(kept.iterate())
    assert [step.index for step in steps] == [2]
    untimed = [
        [{k: v for k, v in record.items() if k != "seconds"} for record in run.log] for run in (whole, steps[-1])
    ]
    assert untimed[0] == untimed[1]
    for one, other in zip(whole.network.parameters(), steps[-1].network.parameters(), strict=True):
        assert torch.equal(one, other)
    finished = list(kept.iterate())
    assert [step.index for step in finished] == [2]
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_every_photo_is_a_class_of_crops() -> None:
    training, judged, classes = network_training.pictures(NetworkTraining(**QUICK))
    assert len(classes) == 12
    assert torch.equal(training.labels.bincount(), torch.full((12,), 16))
    assert torch.equal(judged.labels.bincount(), torch.full((12,), 4))
    assert training.pixels.shape == (192, 32, 32, 3)
    assert all(
        name.startswith(classes[label]) for name, label in zip(judged.names, judged.labels.tolist(), strict=True)
    )


def test_a_folder_of_ones_own_and_the_bundled_architecture(tmp_path: Path) -> None:
    lines = []
    for label, wnid in enumerate(("n01", "n02")):
        for part, count in ((tmp_path / "train" / wnid / "images", 8), (tmp_path / "val" / "images", 2)):
            part.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                name = f"{wnid}_{number}.JPEG"
                Image.fromarray(np.full((64, 64, 3), 60 + 120 * label, np.uint8)).save(part / name)
                lines += [f"{name}\t{wnid}"] if part.parent.name == "val" else []
    (tmp_path / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "words.txt").write_text("n01\tdark\nn02\tbright\n")
    last = NetworkTraining(data_dir=str(tmp_path), channels=[4, 4], epochs=1, batch=8).run()
    assert last.network.classes == ["dark", "bright"]
    assert last.network(torch.rand(1, 3, 64, 64)).shape == (1, 2)
    assert network_training.settings(NetworkTraining(channels=[])).widths == WIDTHS


def test_cards_are_read_not_typed() -> None:
    written = json.loads((ROOT / "nbhelpers" / "models" / "weights" / "minivgg.json").read_text())
    assert network_training.card("minivgg") == written
    with pytest.raises(ValueError, match="vgg16 is not bundled and has no card here: minivgg_robust, minivgg have"):
        network_training.card("vgg16")


def test_the_architecture_is_drawn_to_scale(network) -> None:
    table = models.layers(network, 64)
    drawn = network_training.architecture_figure(table, "it")
    axis = drawn.axes[0]
    names = [text.get_text() for text in axis.texts if "\n" not in text.get_text()]
    assert names == [layer.name for layer in table if layer.kind in network_training.DRAWN]
    heights = dict(zip(names, [bar.get_height() for bar in axis.patches], strict=True))
    assert heights["block4.conv1"] == pytest.approx((4 / 32) ** 0.5)


def test_rows_show_photo_change_and_result() -> None:
    photos = torch.full((2, 3, 4, 4), 0.5)
    changed = photos.clone()
    changed[1, 0] += 0.01
    rows = network_training.attack_rows(photos, changed, 30)
    assert rows.shape == (6, 3, 4, 4)
    assert torch.equal(rows[0], rows[1])
    assert rows[4, 0].mean() == pytest.approx(0.8)
    assert rows[4, 1].mean() == pytest.approx(0.5)
    assert torch.equal(rows[5], changed[1])


def test_logs_are_drawn_as_they_are() -> None:
    log = [{"epoch": epoch, "loss": 2 / epoch, "clean": epoch / 4} for epoch in (1, 2, 3)]
    drawn = network_training.log_figure({"one": log, "two": log[:2]})
    assert [list(line.get_ydata()) for line in drawn.axes[1].lines] == [[0.25, 0.5, 0.75], [0.25, 0.5]]


def test_bad_input() -> None:
    with pytest.raises(FileNotFoundError, match="No data folder"):
        NetworkTraining(data_dir="nowhere").run()
    with pytest.raises(ValueError, match="radius"):
        NetworkTraining(radius=-1)
