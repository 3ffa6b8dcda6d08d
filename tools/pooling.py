"""Compare the ways to shrink a map between blocks: a table, and a sheet of class pictures.

    python tools/pooling.py DATA --sheet runs/pooling.png

Trains the bundled architecture three times on some of the classes, with the same seed and the same pictures, and asks
of each: how often is it right; does its answer survive when the picture moves by a pixel or two (Zhang 2019, "Making
convolutional networks shift-invariant again"); and does its gradient, from which every visualization is drawn, carry
a grid: dropping every second place of a map makes some pixels matter more than their neighbours, everywhere the same.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nbhelpers import images
from nbhelpers.models import Network
from nbhelpers.models.minivgg import POOLINGS, MiniVGG
from nbhelpers.techniques.class_pictures import ClassPictures
from nbhelpers.training import data, evaluate
from nbhelpers.training.data import Pictures
from nbhelpers.training.settings import Settings
from nbhelpers.training.train import MEAN, STD, Trainer, normalise

STRIDE = 16  # of the last convolution's map, in pixels
SHOWN, STEPS = 6, 120  # classes on the sheet, and steps of each picture


def some_classes(pictures: Pictures, count: int) -> Pictures:
    """The pictures of the first classes."""
    chosen = pictures.labels < count
    return Pictures(pictures.pixels[chosen], pictures.labels[chosen])


@torch.no_grad()
def steadiness(network: MiniVGG, pictures: Pictures) -> float:
    """Share of answers that stay when the picture moves right by 1, 2 or 3 pixels (reflected border)."""
    stays = []
    for batch, _ in pictures.batches(250):
        answers = network(normalise(batch)).argmax(1)
        for shift in (1, 2, 3):
            moved = F.pad(batch, (shift, 0, 0, 0), mode="reflect")[..., : batch.shape[-1]]
            stays.append(network(normalise(moved)).argmax(1) == answers)
    return torch.cat(stays).float().mean().item()


def grid(gradients: Tensor) -> float:
    """How unevenly the gradient's energy is spread over the places of the last map's grid.

    Args:
        gradients: `(B, 3, H, W)`, H and W multiples of 16 and at least 48.

    Returns:
        Standard deviation over mean of the energy at the 16 x 16 places of a pixel within the grid's cells, the cells
        at the border left out; 0 is no grid.
    """
    energy = gradients.double().square().mean((0, 1))[STRIDE:-STRIDE, STRIDE:-STRIDE]
    height, width = energy.shape
    places = energy.view(height // STRIDE, STRIDE, width // STRIDE, STRIDE).mean((0, 2))
    return (places.std(unbiased=False) / places.mean()).item()


def gradients(network: MiniVGG, pictures: Pictures) -> Tensor:
    """Of the answer's logit with respect to the pixels, `(B, 3, H, W)`."""
    found = []
    for batch, _ in pictures.batches(125):
        batch.requires_grad_()
        logits = network(normalise(batch))
        found.append(torch.autograd.grad(logits.max(1).values.sum(), batch)[0])
    return torch.cat(found)


def drawn(network: nn.Module, names: list[str]) -> Tensor:
    """Class pictures of the first classes, by one recipe and seed."""
    wrapped = Network(network, "compared", names, 64, MEAN, STD)
    return ClassPictures(classes=names[:SHOWN], rounds=1, size=64, steps=STEPS).run(wrapped).picture


def main() -> None:
    """Train, measure, print the table, draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="Tiny-ImageNet folder, or folder of packed shards")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--side", type=int, default=48, help="of the cuts that are trained on, in pixels")
    parser.add_argument("--radius", type=float, default=0.5, help="of the attack that is trained under; 0 for none")
    parser.add_argument("--runs", type=Path, default=Path("runs/pooling"), help="folder of the three runs")
    parser.add_argument("--sheet", type=Path, help="where to write the class pictures")
    chosen = parser.parse_args()
    names = [entry["name"] for entry in data.classes(chosen.data)][: chosen.classes]
    train, validation = (some_classes(data.load(chosen.data, split), len(names)) for split in ("train", "val"))
    usual = Settings(
        epochs=chosen.epochs, peak=0.1, sides=(chosen.side,), radius=chosen.radius, average=0.99, bfloat16=False
    )
    pictures = []
    print("| pooling | right | under attack 0.5 | steady under shifts | grid in the gradient | minutes |")
    print("|---|---|---|---|---|---|")
    for pooling in POOLINGS:
        settings = replace(usual, pooling=pooling)
        trainer = Trainer(settings, train, validation, chosen.runs / pooling, len(names))
        network = trainer.run(progress=False).requires_grad_(False)
        minutes = sum(record["seconds"] for record in trainer.records()) / 60
        print(
            f"| {pooling} | {evaluate.accuracy(network, validation)[0]:.1%} | "
            f"{evaluate.accuracy_under_attack(network, validation, 0.5)[0]:.1%} | "
            f"{steadiness(network, validation):.1%} | {grid(gradients(network, validation)):.1%} | {minutes:.1f} |",
            flush=True,
        )
        pictures.append(drawn(network, names))
    if chosen.sheet:
        labels = [f"{pooling}: {name}" for pooling in POOLINGS for name in names[:SHOWN]]
        images.tile(images.resize(torch.cat(pictures), 144), columns=SHOWN, labels=labels).save(chosen.sheet)


if __name__ == "__main__":
    main()
