"""Fine-tuning: a trained network learns other classes from a few photos, and we look at what that changes in it.

Features that were learned on one task serve another (Donahue et al., "DeCAF", 2014; Yosinski et al., "How transferable
are features in deep neural networks?", 2014). First only a new head is trained on the frozen base, whose features are
computed once; then the upper layers are freed and trained on with small steps, so that little is unlearned.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import field_validator
from sklearn.metrics import confusion_matrix
from torch import Tensor, nn

from nbhelpers import edge, models
from nbhelpers.models import Network, parts
from nbhelpers.recipes import Field, NetworkName, PhotoSize, Recipe
from nbhelpers.techniques.fine_tuning import tuner
from nbhelpers.techniques.fine_tuning.tuner import Habits, Stage, Tuner
from nbhelpers.training import folders
from nbhelpers.training.data import Pictures
from nbhelpers.training.folders import Labelled


class FineTuning(Recipe):
    """A network learns the classes of an image folder: a new head on the frozen base first, then its upper layers."""

    network: NetworkName = Field("minivgg_robust", description="a bundled network or any torchvision classifier")
    data_dir: str = Field(
        "", description="a folder with one sub-folder a class; 'oxford_pets': fetched; empty: crops of sample photos"
    )
    classes: list[str] = Field([], description="sub-folders to use; 'cats: tabby, Persian cat' joins; empty: all")
    limit: int = Field(200, ge=0, description="most photos of a class; 0 for all")
    validation: float = Field(0.25, gt=0, lt=1, description="share held out where the folder is not split already")
    size: PhotoSize = Field(64, description="side of the photos in pixels, or (height, width)")
    fit: Literal["crop", "pad"] = Field(
        "crop", description="photos' centre, which fills the one shape that a batch needs, or whole within it"
    )
    views: int = Field(2, ge=1, le=16, description="each training photo as it is, and so often less one at random")
    shift: int = Field(6, ge=0, le=64, description="how far a random view is moved, at most, in pixels")
    layer: str = Field("", description="upper layers are trained from this one on; empty: the last convolution")
    head_epochs: int = Field(20, ge=1, le=1000, description="passes that train the head alone, at most")
    upper_epochs: int = Field(10, ge=0, le=1000, description="passes that train the upper layers, at most; 0 for none")
    head_rate: float = Field(0.001, gt=0, le=1, description="learning rate of the head alone, at first")
    upper_rate: float = Field(3e-4, gt=0, le=1, description="learning rate of the upper layers with the head, at first")
    decay: float = Field(1e-3, ge=0, le=1, description="weight decay of AdamW")
    smoothing: float = Field(0.1, ge=0, lt=1, description="share of the target that is spread over all classes")
    batch: int = Field(32, ge=2, le=1024, description="photos a step")
    patience: int = Field(5, ge=1, le=1000, description="epochs without a validation loss 1 % lower that end a stage")
    seed: int = Field(0, ge=0, description="of the held-out photos, the views and their order")
    keep: str = Field("", description="folder for checkpoints and features, to go on from; empty: nothing is kept")

    unsaid: ClassVar[dict[str, Any]] = {"fit": "crop"}
    written: ClassVar[tuple[str, ...]] = ("keep",)

    @field_validator("data_dir", "keep")
    @classmethod
    def _trimmed(cls, text: str) -> str:
        return text.strip()

    def scored(self) -> str:
        return "share of the validation photos that is right"

    def iterate(self, network: nn.Module | None = None) -> Iterator[Progress]:
        """Train, yielding after every chunk of features and every epoch; see `tune`."""
        yield from tune(self, network)


@dataclass
class Progress:
    """Where a run is.

    Attributes:
        index, total: pieces of work done, and done when nothing ends early.
        scores: share of the validation photos that is right, `(1,)`; not a number before the first epoch.
        doing: what was done last, in words.
        log: one record an epoch: stage, epoch, loss, accuracy, validation_loss, validation_accuracy.
        network: the network being tuned, with the weights of the moment; at the end with the best.
        data: the photos.
        computed: chunks of features and epochs that were not there from an earlier run.
        best: the record whose weights are kept; None before the first epoch.
        folder: where the run is kept; None if nowhere.
        stages: what is trained, in order.
    """

    index: int
    total: int
    scores: Float[Tensor, "1"]
    doing: str
    log: list[dict]
    network: Network
    data: Labelled
    computed: int
    best: dict | None
    folder: Path | None
    stages: list[Stage]

    def report(self) -> list[str]:
        """What came of it, in a few sentences."""
        lines = [*self.data.notes]
        for stage in self.stages:
            epochs = [record for record in self.log if record["stage"] == stage.name]
            if epochs:
                best = min(epochs, key=lambda record: record["validation_loss"])
                ended = "" if len(epochs) == stage.epochs else ", ended early"
                lines.append(
                    f"{stage.name}: {len(epochs)} epochs{ended}; best in epoch {best['epoch']}: validation loss "
                    f"{best['validation_loss']:.3f}, {best['validation_accuracy']:.1%} right"
                )
        if self.best is not None:
            lines.append(f"kept: {self.best['stage']}, epoch {self.best['epoch']}")
        return lines


def tune(recipe: FineTuning, network: nn.Module | None = None, data: Labelled | None = None) -> Iterator[Progress]:
    """Train the recipe's network on the recipe's photos, or go on where an interrupted run of it was.

    Args:
        recipe: what and how.
        network: used in place of the one the recipe names; it stays as it is, a copy is tuned.
        data: used in place of the photos the recipe names.

    Raises:
        FileNotFoundError, ValueError: no photos, fewer than two classes, a network without a classifier head, a layer
            without weights, a checkpoint of another run, or a loss that is not finite.
        KeyError: no such layer.
    """
    network = models.as_network(network if network is not None else recipe.network)
    data = photos(recipe) if data is None else data
    tuned, head = parts.with_new_head(network, data.classes, recipe.size)
    stages = plan(recipe, tuned, head)
    train = folders.views(data.train, recipe.views, recipe.shift, recipe.seed)
    keep = Path(recipe.keep).expanduser() if recipe.keep else None
    folder = keep / recipe.changed(keep="").slug if keep else None
    habits = Habits(recipe.batch, recipe.decay, recipe.smoothing, recipe.patience, recipe.seed)
    run = Tuner(tuned, stages, habits, train, data.validation, folder, keep / "features" if keep else None)

    def progress(index: int, ahead: int, doing: str) -> Progress:
        last = run.log[-1]["validation_accuracy"] if run.log else float("nan")
        return Progress(index, index + ahead, torch.tensor([last]), doing, list(run.log), tuned, data, run.computed,
                        run.best_record, folder, stages)  # fmt: skip

    index = 0
    for index, doing in enumerate(run.run(), start=1):
        yield progress(index, run.ahead, doing)
    end = progress(max(index, 1), 0, "done" if run.computed else "nothing left to do: an earlier run did it all")
    if end.best is not None:
        end.scores = torch.tensor([end.best["validation_accuracy"]])
    yield end


def photos(recipe: FineTuning) -> Labelled:
    """The recipe's labelled photos.

    Raises:
        FileNotFoundError, ValueError: as `folders.read`.
    """
    if not recipe.data_dir:
        return folders.sample_crops(recipe.size, seed=recipe.seed)
    options = (recipe.classes, recipe.limit, recipe.validation, recipe.seed)
    return folders.read(recipe.data_dir, recipe.size, *options, recipe.fit)


def plan(recipe: FineTuning, tuned: Network, head: str) -> list[Stage]:
    """The stages: the head alone, and then, unless `upper_epochs` is 0, the upper layers with it.

    Raises:
        KeyError, ValueError: no such layer, or one without weights.
    """
    stages = [Stage("head", (head,), recipe.head_epochs, (recipe.head_rate,))]
    freed = parts.freed_from(tuned, recipe.layer, recipe.size)
    if recipe.upper_epochs and freed != [head]:
        stages.append(Stage("upper layers", tuple(freed), recipe.upper_epochs, (recipe.upper_rate,) * len(freed)))
    return stages


def load(folder: str | Path, network: nn.Module | None = None) -> Network:
    """The tuned network that a run kept, from its `best.safetensors`.

    Args:
        folder: `Progress.folder`.
        network: the untuned network, if it was one of the user's own.

    Raises:
        FileNotFoundError: nothing was kept there. ValueError: the file is damaged, or of another network.
    """
    path = Path(folder) / tuner.BEST
    if not path.exists():
        raise FileNotFoundError(f"no {tuner.BEST} in {folder}: no epoch was finished there")
    weights, note = tuner.read_weights(path)
    with edge.understood(path, "what fine-tuning keeps", tuner.AGAIN):
        named, classes, size = note["network"], list(json.loads(note["classes"])), json.loads(note["size"])
        height, width = map(int, size if isinstance(size, list) else (size, size))
        size = height if height == width else (height, width)
    network = models.as_network(network if network is not None else named)
    tuned, _ = parts.with_new_head(network, classes, size)
    ours = dict(tuned.net.named_parameters())
    wrong = [name for name, value in weights.items() if name not in ours or ours[name].shape != value.shape]
    if wrong:
        raise ValueError(f"{path} is of {note['network']}: {network.name} has no weights {wrong[0]!r} of that shape")
    with torch.no_grad():
        for name, value in weights.items():
            ours[name].copy_(value)
    return tuned


@torch.no_grad()
def predictions(network: Network, pictures: Pictures, batch: int = 32) -> Float[Tensor, "photos classes"]:
    """Probabilities of the classes, `(N, classes)`."""
    logits = [network(part).float().cpu() for part, _ in pictures.batches(batch)]
    return models.shares(torch.cat(logits))


def confusion(
    probabilities: Float[Tensor, "photos classes"], labels: Int[Tensor, " photos"]
) -> Int[Tensor, "classes classes"]:
    """How many photos of each class (row) were given each class (column), `(classes, classes)`."""
    classes = probabilities.shape[1]
    return torch.from_numpy(confusion_matrix(labels, probabilities.argmax(1), labels=range(classes)))


def mistakes(probabilities: Float[Tensor, "photos classes"], labels: Int[Tensor, " photos"]) -> list[int]:
    """Numbers of the photos that were given another class, the most certain mistake first."""
    certainty, given = probabilities.max(1)
    wrong = (given != labels).nonzero().flatten()
    return wrong[certainty[wrong].argsort(descending=True, stable=True)].tolist()


@torch.no_grad()
def counterparts(original: Network, data: Labelled, batch: int = 32) -> list[int]:
    """For each new class the original class that its photos were given most (highest mean probability)."""
    given = predictions(original, data.train, batch)
    return [int(given[data.train.labels == label].mean(0).argmax()) for label in range(len(data.classes))]
