"""The comparison of poolings: its measures against signals whose answer is known, its table on synthetic pictures."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from nbhelpers.models.minivgg import POOLINGS, MiniVGG
from nbhelpers.training.data import Pictures
from tools import pooling


def test_a_grid_is_told_from_noise():
    noise = torch.randn(400, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert pooling.grid(noise) < 0.03
    lattice = torch.ones(64, 64)
    lattice[::2, ::2] = 2  # every fourth pixel has four times the energy
    energies = np.array([4, 1, 1, 1])
    assert pooling.grid(noise * lattice) == pytest.approx(energies.std() / energies.mean(), abs=0.03)
    hill = torch.linspace(1, 2, 64)  # what changes over the whole picture is no grid
    assert pooling.grid(noise * hill) < 0.2


def test_steadiness_counts_answers_that_stay():
    pixels = torch.zeros(4, 32, 32, 3, dtype=torch.uint8)
    pixels[2:, :, :3] = 255  # a white edge, which a shift widens
    pictures = Pictures(pixels, torch.tensor([0, 0, 1, 1]))

    def network(batch):
        brightness = batch.mean((1, 2, 3))
        limit = brightness.new_tensor(network.limit)
        return torch.stack([limit - brightness, brightness - limit], 1)

    edge = pooling.normalise(pictures.batch(slice(2, 3))[0]).mean().item()
    plain = pooling.normalise(pictures.batch(slice(0, 1))[0]).mean().item()
    column = (pooling.normalise(torch.ones(1, 3, 1, 1)).mean().item() - plain) / 32
    network.limit = edge + 1.5 * column  # one more white column keeps the answer, two and three don't
    assert pooling.steadiness(network, pictures) == pytest.approx((2 * 3 + 2 * 1) / 12)
    network.limit = edge - column
    assert pooling.steadiness(network, pictures) == 1


def test_gradients_are_those_of_the_answer():
    network = MiniVGG(((8,), (8,)), 8, 4).double().eval()
    pictures = Pictures(torch.randint(0, 255, (2, 32, 32, 3)).byte(), torch.zeros(2).long())
    pictures.batch = lambda index: (pictures.pixels[index].permute(0, 3, 1, 2).double() / 255, pictures.labels[index])
    found = pooling.gradients(network, pictures)
    batch = pictures.batch(slice(None))[0]
    change = torch.zeros_like(batch)
    change[:, 1, 16, 17] = 1e-6
    with torch.no_grad():
        higher, lower = (network(pooling.normalise(batch + sign * change)).max(1).values for sign in (1, -1))
    assert torch.allclose(found[:, 1, 16, 17], (higher - lower) / 2e-6, atol=1e-5)


def test_the_table_and_the_sheet(tmp_path, monkeypatch, capsys):
    generator = np.random.default_rng(0)
    folder = tmp_path / "data"
    (folder / "val" / "images").mkdir(parents=True)
    annotations = []
    for label in range(6):
        (folder / "train" / f"n{label}" / "images").mkdir(parents=True)
        for number in range(4):
            pixels = generator.integers(0, 255, (64, 64, 3), dtype=np.uint8) // 2 + 20 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "train" / f"n{label}" / "images" / f"{number}.png")
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "val" / "images" / f"{label}-{number}.png")
            annotations.append(f"{label}-{number}.png\tn{label}")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(annotations))
    monkeypatch.setattr(pooling, "STEPS", 2)
    runs, sheet = tmp_path / "runs", tmp_path / "sheet.png"
    monkeypatch.setattr(
        sys, "argv", ["pooling.py", str(folder), "--classes", "6", "--epochs", "1", "--runs", str(runs)]
    )
    sys.argv += ["--sheet", str(sheet)]
    pooling.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows] == ["pooling", *POOLINGS]
    assert all((runs / kind / "checkpoint.safetensors").exists() for kind in POOLINGS)
    with Image.open(sheet) as drawn:
        assert drawn.width > 6 * 144
