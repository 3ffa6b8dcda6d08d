"""Fine-tuning, kept safe: a new head on frozen features, then upper layers with it; every finished epoch is on disk.

Each stage cuts the network in front of what it trains (`nbhelpers.models.parts`) and computes what comes before once
(`features`). Normalisation keeps its statistics and dropout stays off, so that an epoch depends on
the seed and its number alone: a run that was killed goes on as if nothing had happened. The epoch with the lowest
validation loss is kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Int, Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nbhelpers import edge
from nbhelpers.models import Network, examine
from nbhelpers.models.parts import cut
from nbhelpers.techniques.fine_tuning.features import CHUNK, Features
from nbhelpers.training.data import Pictures
from nbhelpers.training.fingerprints import fingerprint

AGAIN = "Delete it to start again, or restore a copy"
CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"


@dataclass(frozen=True)
class Stage:
    """One part of the training.

    Attributes:
        name: what to call it.
        freed: dotted names of the layers that are trained.
        epochs: passes over the training pictures, at most.
        rates: learning rate of each freed layer at first; half a cosine brings it down to nothing.
    """

    name: str
    freed: tuple[str, ...]
    epochs: int
    rates: tuple[float, ...]


@dataclass(frozen=True)
class Habits:
    """How a stage is trained.

    Attributes:
        batch: pictures a step.
        decay: weight decay of AdamW.
        smoothing: probability that the target spreads over all classes, so that no logit need grow for ever.
        patience: epochs in which the validation loss does not fall by one per cent, before a stage ends.
        seed: of the order of the pictures.
    """

    batch: int = 32
    decay: float = 1e-3
    smoothing: float = 0.1
    patience: int = 5
    seed: int = 0


class Tuner:
    """One run: its network, its log, its best weights and its folder.

    Args:
        network: with its new head (`network_parts.with_new_head`); trained in place.
        stages: in order.
        habits: how.
        train, validation: the pictures; views, if any, are among them already.
        folder: of this run, for the checkpoint and the best weights; continued if it holds a checkpoint. None keeps
            nothing on disk.
        features: folder for features, which runs on the same pictures share.

    Raises:
        ValueError: the checkpoint is damaged, or belongs to another run.
    """

    def __init__(
        self,
        network: Network,
        stages: Sequence[Stage],
        habits: Habits,
        train: Pictures,
        validation: Pictures,
        folder: Path | None = None,
        features: Path | None = None,
    ) -> None:
        self.network, self.stages, self.habits = network, list(stages), habits
        self.train, self.validation = train, validation
        self.folder, self._features = folder, features
        self.log: list[dict] = []
        last = examine(network, tuple(train.pixels.shape[1:3])).channels_last
        self._layout = torch.channels_last if last else torch.contiguous_format
        network.net.to(memory_format=self._layout)
        # every stage trains the head; the one that trains most decides what stays as it is
        self._lowest = max(self.stages, key=lambda stage: len(stage.freed))
        few = train.batch(torch.zeros(2, dtype=torch.long))[0]
        self._base = cut(network.net, self._lowest.freed, network.normalise(few), network.logits)
        self._shallow: list[Features] = []
        self.computed = 0  # chunks of features and epochs that this run had to compute itself
        self._stage, self._epoch = 0, 0
        self._moments: dict[str, Tensor] = {}
        self._trained = dict.fromkeys(name for stage in stages for name in stage.freed)
        self.best = self._weights()
        # the whole run depends on these, and on what was drawn from them
        self.identity = fingerprint(
            network.net, train.pixels, train.labels, validation.pixels, json.dumps([asdict(each) for each in stages]),
            json.dumps(asdict(habits)), str(network.classes), network.mean, network.std, str(network.net),
        )  # fmt: skip
        if folder is not None and (folder / CHECKPOINT).exists():
            self._resume()

    @property
    def best_record(self) -> dict | None:
        """The line of the log whose weights are kept."""
        return min(self.log, key=lambda record: record["validation_loss"], default=None)

    @property
    def ahead(self) -> int:
        """Pieces of work that are left when nothing ends early."""
        epochs = sum(stage.epochs for stage in self.stages[self._stage :]) - self._epoch
        chunks = sum(-(-len(each) // CHUNK) for each in (self.train, self.validation))
        return epochs + max(0, chunks - sum(each.done for each in self._shallow))

    def run(self) -> Iterator[str]:
        """Train; yields after every chunk of features and every epoch, saying what was done."""
        if self._stage < len(self.stages):
            yield from self._prepare()
        while self._stage < len(self.stages):
            stage = self.stages[self._stage]
            if self._epoch < stage.epochs and not self._waited_enough(stage):
                yield from self._carry_out(stage)
            self._stage, self._epoch, self._moments = self._stage + 1, 0, {}
            self._load(self.best)  # the next stage goes on from the best so far
            self._save()
        self._load(self.best)

    def _prepare(self) -> Iterator[str]:
        """What never changes, computed once: features in front of the lowest layer that any stage trains."""
        for name, pictures in (("training", self.train), ("validation", self.validation)):
            folder = None
            if self._features is not None:
                base, network = self._base.base, self.network
                folder = self._features / fingerprint(
                    base, str(base), network.mean, network.std, self._base.after, network.name, pictures.pixels
                )
            features = Features(self._features_of, pictures, folder)
            self._shallow.append(features)
            for number, computed in enumerate(features.prepare(), start=1):
                self.computed += computed
                yield f"features of the {name} photos, {number} of {features.chunks}"

    def _features_of(self, pictures: Tensor) -> Tensor:
        pictures = self.network.normalise(pictures).contiguous(memory_format=self._layout)
        return self._base.base(pictures)

    def _carry_out(self, stage: Stage) -> Iterator[str]:
        device = self.network.mean.device
        parts, sets = self._base, self._shallow
        if stage.freed != self._lowest.freed:  # it trains less: what lies between is computed once, too
            few = sets[0].batch(torch.zeros(2, dtype=torch.long))[0].to(device)
            parts = cut(self._base.upper, stage.freed, few, self.network.logits)
            sets = [Features(lambda features: parts.base(features.to(device)), each) for each in self._shallow]
            for each in sets:
                for _ in each.prepare():
                    pass

        def upper(features: Tensor) -> Tensor:
            return self.network.logits(parts.upper(features.to(device)), len(features)).float()

        optimiser = self._optimiser(stage)
        while self._epoch < stage.epochs and not self._waited_enough(stage):
            record = {"stage": stage.name, "epoch": self._epoch + 1}
            record |= self._train(upper, sets[0], optimiser, stage)
            record |= self._measure(upper, sets[1])
            best = self.best_record
            self.log.append(record)
            self._epoch += 1
            if best is None or record["validation_loss"] < best["validation_loss"]:
                self.best = self._weights()
                self._save_best()
            self._moments = self._state(stage, optimiser)
            self._save()
            self.computed += 1
            yield f"{stage.name}: epoch {record['epoch']}"

    def _train(self, upper: Callable, features: Features, optimiser: torch.optim.Optimizer, stage: Stage) -> dict:
        order = shuffled(len(features), self.habits.seed, self._stage, self._epoch)
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        total, right = 0.0, 0
        for parameter in parameters:
            parameter.requires_grad_()
        try:
            batches = order.split(self.habits.batch)
            for number, chosen in enumerate(batches):
                done = (self._epoch + number / len(batches)) / stage.epochs
                for group, rate in zip(optimiser.param_groups, stage.rates, strict=True):
                    group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * done))
                inputs, labels = features.batch(chosen)
                labels = labels.to(self.network.mean.device)
                with torch.enable_grad():
                    logits = upper(inputs)
                    loss = F.cross_entropy(logits, labels, label_smoothing=self.habits.smoothing)
                if not loss.isfinite():
                    raise ValueError(
                        f"the loss became {loss.item()} in epoch {self._epoch + 1} of {self.stages[self._stage].name}. "
                        "Lower the learning rate; what was finished before is kept"
                    )
                # a part of a layer that no pass uses has no gradient, and stays as it is
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient
                optimiser.step()
                total += F.cross_entropy(logits.detach(), labels, reduction="sum").item()
                right += (logits.argmax(1) == labels).sum().item()
        finally:
            for parameter in parameters:
                parameter.grad = None
                parameter.requires_grad_(False)
        return {"loss": total / len(features), "accuracy": right / len(features)}

    @torch.no_grad()
    def _measure(self, upper: Callable, features: Features) -> dict:
        logits, labels = [], features.labels
        for chosen in torch.arange(len(features)).split(128):
            logits.append(upper(features.batch(chosen)[0]).cpu())
        logits = torch.cat(logits)
        return {
            "validation_loss": F.cross_entropy(logits, labels).item(),
            "validation_accuracy": (logits.argmax(1) == labels).float().mean().item(),
        }

    def _waited_enough(self, stage: Stage) -> bool:
        """Whether the stage has gone on for as long as patience allows without getting better."""
        losses = [record["validation_loss"] for record in self.log if record["stage"] == stage.name]
        if len(losses) <= self.habits.patience:
            return False
        return min(losses[-self.habits.patience :]) >= 0.99 * min(losses[: -self.habits.patience])

    def _optimiser(self, stage: Stage) -> torch.optim.Optimizer:
        groups = [
            {"params": list(self.network.net.get_submodule(name).parameters(recurse=False)), "lr": rate}
            for name, rate in zip(stage.freed, stage.rates, strict=True)
        ]
        optimiser = torch.optim.AdamW(groups, weight_decay=self.habits.decay)
        for name, parameter in self._parameters(stage.freed):
            state = {key: self._moments[f"{key}:{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
                     if f"{key}:{name}" in self._moments}  # fmt: skip
            if state:
                optimiser.state[parameter] = {
                    key: value if key == "step" else value.to(parameter.device) for key, value in state.items()
                }
        return optimiser

    def _state(self, stage: Stage, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
        return {
            f"{key}:{name}": value
            for name, parameter in self._parameters(stage.freed)
            for key, value in optimiser.state[parameter].items()
        }

    def _parameters(self, layers) -> Iterator[tuple[str, Tensor]]:
        for layer in layers:
            for name, parameter in self.network.net.get_submodule(layer).named_parameters(recurse=False):
                yield f"{layer}.{name}", parameter

    def _weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach().cpu().clone() for name, parameter in self._parameters(self._trained)}

    @torch.no_grad()
    def _load(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self._parameters(self._trained):
            parameter.copy_(weights[name])

    def _save_best(self) -> None:
        if self.folder is not None:
            _write(self.folder / BEST, self.best, {"identity": self.identity, **self.describe()})

    def describe(self) -> dict[str, str]:
        """What a file of best weights says of itself."""
        height, width = self.train.pixels.shape[1:3]
        return {"network": self.network.name.removesuffix(" (tuned)"), "classes": json.dumps(self.network.classes),
                "size": json.dumps(height if height == width else [height, width])}  # fmt: skip

    def _save(self) -> None:
        if self.folder is None:
            return
        tensors = {f"now:{name}": value for name, value in self._weights().items()}
        tensors |= {f"best:{name}": value for name, value in self.best.items()}
        tensors |= {f"moment:{name}": value.detach().cpu() for name, value in self._moments.items()}
        place = {"stage": self._stage, "epoch": self._epoch, "log": self.log, "identity": self.identity}
        _write(self.folder / CHECKPOINT, tensors, {"place": json.dumps(place)})

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        tensors, note = read_weights(path)
        with edge.understood(path, "a checkpoint of fine-tuning", AGAIN):
            place = dict(json.loads(note.get("place", "{}")))
        if place.get("identity") != self.identity:
            raise ValueError(
                f"{path} belongs to another run: other photos, another network or other settings. Use another folder, "
                "or delete it to start again"
            )
        with edge.understood(path, "a checkpoint of fine-tuning", AGAIN):
            self._take(place, tensors)

    def _take(self, place: dict, tensors: dict[str, Tensor]) -> None:
        kinds = {"now": {}, "best": {}, "moment": {}}
        for key, value in tensors.items():
            kind, _, name = key.partition(":")
            kinds[kind][name] = value
        self._stage, self._epoch, self.log = place["stage"], place["epoch"], place["log"]
        self.best, self._moments = kinds["best"], kinds["moment"]
        self._load(kinds["now"])


def shuffled(count: int, seed: int, stage: int, epoch: int) -> Int[Tensor, " count"]:
    """The order of the training pictures in an epoch, the same every time."""
    mixed = (seed * 1_000_003 + stage) * 1_000_003 + epoch
    return torch.randperm(count, generator=torch.Generator().manual_seed(mixed % 2**63))


def _write(path: Path, tensors: dict[str, Tensor], note: dict[str, str]) -> None:
    with edge.replacing(path) as temporary:
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary, metadata=note)


def read_weights(path: Path) -> tuple[dict[str, Shaped[Tensor, "..."]], dict[str, str]]:
    """Tensors of a file and what it says of itself.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}). Delete it to start again, or restore a copy") from error
