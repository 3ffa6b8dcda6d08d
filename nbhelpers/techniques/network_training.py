"""Training a MiniVGG, plainly or under attack, and comparing what two trained networks make of an attack.

A network that is trained on pictures under attack (Madry et al., "Towards deep learning models resistant to
adversarial attacks", 2018) answers less often right and holds on to its answers longer, and its gradients are those
that people can read (Engstrom et al., "Adversarial robustness as a prior for learned representations", 2019). The
bundled networks are one of each kind; `nbhelpers.training` is what trained them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor, nn

from nbhelpers import images, models
from nbhelpers.images import figures
from nbhelpers.models import LayerTable, Network, twin
from nbhelpers.recipes import Field, NetworkName, Recipe
from nbhelpers.training import data, folders
from nbhelpers.training.attack import attack
from nbhelpers.training.data import Pictures
from nbhelpers.training.settings import Settings
from nbhelpers.training.train import MEAN, STD, Trainer

DRAWN = {"Conv2d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d"}


class NetworkTraining(Recipe):
    """Trains a MiniVGG, plainly or under an L2 attack, and attacks two trained networks (Madry et al. 2018)."""

    network: NetworkName = Field(
        "minivgg_robust", description="the network to look at: a bundled or any torchvision classifier"
    )
    other: str = Field("minivgg", description="the network to compare it with")
    photos: str = Field("../sample_images", description="a folder of photos to attack and look at")
    size: int = Field(64, ge=32, le=512, description="side of the photos' central square in pixels")
    radius: float = Field(0.5, ge=0, le=10, description="of the attack: length of the change of all pixels together")
    attack_steps: int = Field(10, ge=1, le=200, description="steps of the attack")
    data_dir: str = Field("", description="to train on: a Tiny-ImageNet folder or packed shards; empty: sample crops")
    channels: list[int] = Field([16, 32, 64], description="of the blocks trained here; empty: the bundled architecture")
    epochs: int = Field(8, ge=1, le=1000, description="passes over the training pictures")
    batch: int = Field(32, ge=2, le=1024, description="pictures a step")
    peak: float = Field(0.1, gt=0, le=2, description="highest learning rate")
    training_radius: float = Field(0.0, ge=0, le=10, description="of the attack that is trained under; 0 for none")
    seed: int = Field(0, ge=0, description="of everything random")
    keep: str = Field("", description="folder of the run, to go on from; empty: nothing is kept")

    written: ClassVar[tuple[str, ...]] = ("keep",)

    def scored(self) -> str:
        return "share of the validation photos that is right"

    def iterate(self, network: nn.Module | None = None) -> Iterator[Epoch]:
        """Train, yielding after every epoch; see `train`."""
        yield from train(self, "auto" if network is None else models.as_network(network).mean.device)


@dataclass
class Epoch:
    """A training run after an epoch.

    Attributes:
        index, total: epochs done, and to do in all.
        scores: share of the validation pictures that is right, `(1,)`.
        log: one record an epoch, as `nbhelpers.training` writes it to `log.jsonl`.
        network: what was trained so far, its normalisation folded in.
    """

    index: int
    total: int
    scores: Float[Tensor, "1"]
    log: list[dict]
    network: Network


def train(recipe: NetworkTraining, device: torch.device | str = "auto") -> Iterator[Epoch]:
    """Train the recipe's MiniVGG; a folder that holds a checkpoint of the same run is continued.

    Args:
        recipe: what and how.
        device: where to compute; `"auto"` is a GPU where there is one.

    Raises:
        FileNotFoundError, ValueError: no data there, or a checkpoint that is damaged or of another run.
    """
    training, validation, classes = pictures(recipe)
    with TemporaryDirectory() as nowhere:
        folder = Path(recipe.keep).expanduser() if recipe.keep else Path(nowhere)
        device = models.chosen_device(device)
        trainer = Trainer(settings(recipe), training, validation, folder, len(classes), device=device)
        yielded = False
        while trainer.epoch < recipe.epochs or not yielded:
            folded = trainer.run(epochs=1, progress=False)
            yielded = True
            log = trainer.records()[: trainer.epoch]
            found = Network(folded, "trained here", classes, training.pixels.shape[1], MEAN, STD)
            yield Epoch(trainer.epoch, recipe.epochs, torch.tensor([log[-1]["clean"]]), log, found)


def settings(recipe: NetworkTraining) -> Settings:
    """What `nbhelpers.training` calls the recipe's parameters."""
    side = recipe.size if not recipe.data_dir else data.SIDE
    given = {"widths": tuple((channels,) for channels in recipe.channels), "stem": 16} if recipe.channels else {}
    return Settings(
        **given,
        epochs=recipe.epochs,
        batch=recipe.batch,
        peak=recipe.peak,
        radius=recipe.training_radius,
        sides=(side,),
        average=0.9 if recipe.epochs < 20 else 0.999,
        bfloat16=False,
        seed=recipe.seed,
    )


def pictures(recipe: NetworkTraining) -> tuple[Pictures, Pictures, list[str]]:
    """Pictures to train on, pictures to be judged by, names of the classes.

    Without a data folder every sample photo is a class of its own, and its crops are its pictures: enough to see
    training work, and to recognise twelve photographs by.
    """
    if recipe.data_dir:
        names = [entry["name"] for entry in data.classes(recipe.data_dir)]
        return data.load(recipe.data_dir, "train"), data.load(recipe.data_dir, "val"), names
    files = images.files_in(recipe.photos)
    found = folders.crops_of(list(files.values()), recipe.size, (16, 4), recipe.seed)
    return *found, [Path(name).stem for name in files]


def attacked(
    network: Network,
    photos: Float[Tensor, "photos 3 height width"],
    radius: float,
    steps: int,
    seed: int = 0,
    labels: Int[Tensor, " photos"] | None = None,
) -> tuple[Float[Tensor, "photos 3 height width"], Float[Tensor, "photos classes"]]:
    """Photos changed within an L2 ball so that the network gives up its own answers.

    Args:
        network: left as it is.
        photos: `(B, 3, H, W)` in [0, 1].
        radius: of the ball, over all pixels of a photo.
        steps: of the attack.
        seed: of its random start.
        labels: the answers to attack; the network's own unless given.

    Returns:
        The changed photos, and the logits for them, `(B, classes)`.
    """
    fast = twin(models.as_network(network))
    photos = photos.to(fast.mean.device)
    with torch.no_grad():
        answers = fast(photos).argmax(1) if labels is None else labels.to(photos.device)
    changed = attack(fast, photos, answers, radius, steps, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return changed.cpu(), fast(changed).float().cpu()


def survival(
    networks: dict[str, Network],
    photos: Float[Tensor, "photos 3 height width"],
    radii: Sequence[float],
    steps: int,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Share of its own answers that each network keeps, per radius of the attack."""
    shares = {}
    for name, network in networks.items():
        with torch.no_grad():
            answers = network(photos).argmax(1).cpu()
        runs = [attacked(network, photos, radius, steps, seed, answers)[1] for radius in radii]
        shares[name] = [(logits.argmax(1) == answers).float().mean().item() for logits in runs]
    return shares


def card(name: str) -> dict:
    """What the model card of a bundled network says, as data.

    Raises:
        ValueError: the network is not bundled.
    """
    if name not in models.bundled():
        raise ValueError(f"{name} is not bundled and has no card here: {', '.join(models.bundled())} have")
    path = Path(models.__file__).parent / "weights" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def architecture_figure(table: LayerTable, title: str = "") -> Figure:
    """The layers in the order in which they run: each as tall as its feature maps and as wide as it has channels."""
    figure, axis = figures.new(10.5, 2.9)
    rows = [layer for layer in table if layer.kind in DRAWN]
    place, tallest = 0.0, max(layer.height for layer in rows)
    for layer in rows:
        width = 0.85 + layer.channels / 160
        tall = (layer.height / tallest) ** 0.5
        colour = figures.ACCENT if layer.kind == "Conv2d" else figures.QUIET
        axis.bar(place + width / 2, tall, width, bottom=-tall / 2, color=colour, edgecolor="white", lw=0.8)
        axis.text(place + width / 2, -0.56, layer.name, fontsize=7, rotation=35, ha="right", va="top")
        text = f"{layer.channels}\n{layer.height}x{layer.width}"
        axis.text(place + width / 2, tall / 2 + 0.03, text, fontsize=7, ha="center", va="bottom", color=figures.INK)
        place += width + 0.4
    axis.set_xlim(-0.3, place)
    axis.set_ylim(-0.95, 0.78)
    axis.set_axis_off()
    axis.set_title(title, fontsize=9, loc="left")
    return figure


def log_figure(logs: dict[str, Sequence[dict]]) -> Figure:
    """Loss and share right per epoch, one colour per run."""
    figure, axes = figures.new(9.5, 2.7, columns=2)
    for (name, log), colour in zip(logs.items(), (figures.ACCENT, figures.INK, "#edae49", "#8d99ae"), strict=False):
        epochs = [record["epoch"] for record in log]
        axes[0].plot(epochs, [record["loss"] for record in log], "o-", color=colour, markersize=3.5, label=name)
        axes[1].plot(epochs, [record["clean"] for record in log], "o-", color=colour, markersize=3.5, label=name)
    for axis, label in zip(axes, ("training loss", "validation, share right"), strict=True):
        axis.set_xlabel("epoch", fontsize=8)
        axis.set_ylabel(label, fontsize=8)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylim(bottom=0)
    axes[1].set_ylim(-0.03, 1.05)
    axes[1].legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def attack_rows(
    photos: Float[Tensor, "photos 3 height width"], changed: Float[Tensor, "photos 3 height width"], magnified: float
) -> Float[Tensor, "rows 3 height width"]:
    """For each photo three pictures: as it is, what the attack changed (grey is nothing), and attacked.

    Args:
        photos, changed: `(B, 3, H, W)` in [0, 1].
        magnified: how many times the change is enlarged.

    Returns:
        `(3 B, 3, H, W)` in [0, 1], photo after photo.
    """
    change = (0.5 + magnified * (changed - photos)).clamp(0, 1)
    return torch.stack([photos, change, changed], dim=1).flatten(0, 1)
