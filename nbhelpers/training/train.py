"""Training the bundled networks: stochastic gradient descent on pictures, or on pictures under attack.

One-cycle learning rate (Smith and Topin 2017), label smoothing, and an exponential moving average of the weights that
is what gets measured and shipped. All randomness of an epoch comes from the seed and the epoch's number, so a run that
was killed goes on from its last finished epoch exactly as if nothing had happened.
"""

import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from nbhelpers import edge
from nbhelpers.models.minivgg import WIDTHS, MiniVGG
from nbhelpers.training import folding
from nbhelpers.training.attack import attack
from nbhelpers.training.data import Pictures, augment, cut_and_mix
from nbhelpers.training.fingerprints import fingerprint

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run computes.

    Attributes:
        widths, stem, pooling: the architecture, see `MiniVGG`.
        epochs: passes over the training pictures.
        batch: pictures per step.
        peak, rise: highest learning rate, and the share of the run that climbs to it.
        momentum, decay: of the gradient (Nesterov), and of the weights.
        smoothing: probability that the target spreads over all classes.
        teaching: share of the target that is what the teachers see in the picture instead of its label.
        cutmix: share of the batches in which each picture carries a patch of another, see `cut_and_mix`.
        average: decay per step of the moving average of the weights.
        shift: pixels of reflected border for random cuts.
        sides: sizes of the cuts, in equal shares of the run; small ones first make it cheaper.
        radius, steps: of the L2 attack; radius 0 is standard training. A cut of half the side gets half the radius.
        radius_rise: share of the run over which the radius grows from 0.
        bfloat16: autocast; about twice as fast where the processor has it.
        compiled: `torch.compile` fuses normalisation and ReLU, a tenth of the time; it needs a C++ compiler.
        seed: of everything random.
    """

    widths: tuple[tuple[int, ...], ...] = WIDTHS
    stem: int = 32
    pooling: str = "max"
    epochs: int = 30
    batch: int = 128
    peak: float = 0.2
    rise: float = 0.25
    momentum: float = 0.9
    decay: float = 5e-4
    smoothing: float = 0.1
    teaching: float = 0.0
    cutmix: float = 0.0
    average: float = 0.999
    shift: int = 4
    sides: tuple[int, ...] = (64,)
    radius: float = 0.0
    steps: int = 1
    radius_rise: float = 0.2
    bfloat16: bool = True
    compiled: bool = False
    seed: int = 0


class Trainer:
    """One training run: its network, its optimiser, its moving average and its folder.

    Args:
        settings: what to compute.
        train, validation: the pictures.
        folder: receives `log.jsonl` and `checkpoint.safetensors`; a checkpoint found there is continued.
        classes: number of classes.
        start: a trained network without normalisation to start from, instead of random weights.
        teachers: trained networks whose mean verdict on each training picture is part of the target
            (Hinton et al. 2015, "Distilling the knowledge in a neural network"), as far as `settings.teaching` says.
        device: where to compute.
    """

    def __init__(
        self,
        settings: Settings,
        train: Pictures,
        validation: Pictures,
        folder: str | Path,
        classes: int,
        start: MiniVGG | None = None,
        device: torch.device | str = "cpu",
        teachers: Sequence[MiniVGG] = (),
    ) -> None:
        if (settings.teaching > 0) != bool(teachers):
            raise ValueError(
                f"teaching is {settings.teaching} and there are {len(teachers)} teachers; a share above 0 needs at "
                "least one teacher, and a teacher a share above 0."
            )
        for role, known in [("start", start), *(("teacher", teacher) for teacher in teachers)]:
            if known is not None and known.head.out_features != classes:
                raise ValueError(
                    f"The {role} knows {known.head.out_features} classes, the data has {classes}: use weights that "
                    "were trained on these classes, or none."
                )
        self.settings, self.train, self.validation, self.device = settings, train, validation, device
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator().manual_seed(settings.seed)
        if start is None:
            with torch.random.fork_rng():
                torch.manual_seed(settings.seed)
                network = MiniVGG(settings.widths, settings.stem, classes, norm=True, pooling=settings.pooling)
        else:
            index = torch.randperm(len(train), generator=generator)[:1000]
            network = folding.unfold(start, normalise(train.batch(index)[0]), generator)
        self.network = network.to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self._trained = torch.compile(self.network, dynamic=False) if settings.compiled else self.network
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=0.1, momentum=settings.momentum, weight_decay=settings.decay, nesterov=True
        )
        self.epoch = 0
        self._made_from = {
            "pictures": fingerprint(train.labels, train.subset(1000).pixels),
            "start": fingerprint(start) if start is not None else "",
            "teachers": fingerprint(*teachers),
        }
        if self.checkpoint.exists():
            self._resume()
        self._cut_log()
        self._targets = self._taught(teachers)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def records(self) -> list[dict[str, Any]]:
        """The log: one record per finished epoch."""
        path = self.folder / "log.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def run(self, epochs: int | None = None, progress: bool = True) -> MiniVGG:
        """Train until the settings' last epoch, or `epochs` more; returns the folded average."""
        last = self.settings.epochs if epochs is None else min(self.epoch + epochs, self.settings.epochs)
        while self.epoch < last:
            start = time.time()
            record = self._epoch(progress)
            self.epoch += 1
            shipped = folding.fold(self.average)
            seconds = time.time() - start
            record |= measure(shipped, self.validation, self.settings, self.device)
            record = {"epoch": self.epoch, **record, "seconds": round(seconds, 1)}
            self._save()
            with open(self.folder / "log.jsonl", "a") as log:
                log.write(json.dumps(record) + "\n")
            if progress:
                tqdm.write("  ".join(f"{key} {value}" for key, value in record.items()))
        return folding.fold(self.average)

    def _epoch(self, progress: bool) -> dict[str, float]:
        settings = self.settings
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.train), generator=generator)
        # the last, smaller batch would weigh its pictures more
        batches = order.split(settings.batch)
        if len(batches) > 1 and len(batches[-1]) < settings.batch:
            batches = batches[:-1]
        total = settings.epochs * len(batches)
        loss_sum, right, seen = 0.0, 0, 0
        self.network.train()
        bar = tqdm(batches, desc=f"epoch {self.epoch + 1}/{settings.epochs}", unit="batch", disable=not progress)
        for index, chosen in enumerate(bar):
            done = (self.epoch * len(batches) + index) / total
            side = settings.sides[int(done * len(settings.sides))]
            pictures, labels = self.train.batch(chosen)
            pictures, labels = augment(pictures, side, settings.shift, generator), labels.to(self.device)
            targets = self._targets[chosen]
            if settings.cutmix > 0 and torch.rand((), generator=generator) < settings.cutmix:
                pictures, targets = cut_and_mix(pictures, targets, generator)
            pictures, targets = pictures.to(self.device), targets.to(self.device)
            radius = settings.radius * side / self.train.pixels.shape[1]
            if settings.radius_rise > 0:
                radius *= min(1.0, done / settings.radius_rise)
            if radius > 0:
                target = folding.fold(self.network).to(self.device).requires_grad_(False)
                pictures = attack(self._forward(target), pictures, targets.argmax(1), radius, settings.steps, generator)
            self.optimizer.param_groups[0]["lr"] = learning_rate(done, settings)
            logits = self._forward(self._trained)(pictures)
            loss = F.cross_entropy(logits, targets)
            if not loss.isfinite():
                raise ValueError(
                    f"The loss became {loss.item()} in epoch {self.epoch + 1}, batch {index}. Lower the peak "
                    f"learning rate ({settings.peak}); the last finished epoch is in {self.checkpoint}."
                )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self._update_average(self.epoch * len(batches) + index)
            loss_sum += loss.item() * len(labels)
            right += (logits.argmax(1) == labels).sum().item()
            seen += len(labels)
            if index % 10 == 0:
                bar.set_postfix(loss=f"{loss_sum / seen:.3f}", right=f"{right / seen:.3f}")
        return {
            "rate": round(learning_rate(done, settings), 5),
            "loss": round(loss_sum / seen, 4),
            "train": round(right / seen, 4),
        }

    def _taught(self, teachers: Sequence[MiniVGG]) -> Tensor:
        """Targets `(N, classes)`: the label, smoothed, and for a share of it what the teachers see in the picture."""
        classes = self.network.head.out_features
        targets = F.one_hot(self.train.labels, classes).float().lerp(torch.tensor(1 / classes), self.settings.smoothing)
        if teachers:
            for teacher in teachers:
                teacher.to(self.device, memory_format=torch.channels_last).requires_grad_(False).eval()
            with torch.no_grad():
                verdicts = [
                    sum(self._forward(teacher)(batch.to(self.device)).softmax(1) for teacher in teachers).cpu()
                    for batch, _ in tqdm(list(self.train.batches(250)), desc="teachers look", leave=False)
                ]
            targets = targets.lerp(torch.cat(verdicts) / len(teachers), self.settings.teaching)
        return targets

    def _forward(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        def forward(pictures: Tensor) -> Tensor:
            with _mixed(self.device, self.settings.bfloat16):
                return network(normalise(pictures)).float()

        return forward

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        # early on a long average would still hold the random start
        decay = min(self.settings.average, (step + 1) / (step + 10))
        ours, theirs = self.average.state_dict(), self.network.state_dict()
        floating = [key for key in ours if ours[key].is_floating_point()]
        torch._foreach_lerp_([ours[key] for key in floating], [theirs[key] for key in floating], 1 - decay)

    def _save(self) -> None:
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in self.average.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            momentum = self.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{name}"] = momentum
        tensors = {key: value.contiguous() for key, value in tensors.items()}
        note = {"epoch": str(self.epoch), "settings": json.dumps(asdict(self.settings)), **self._made_from}
        scratch = self.checkpoint.with_suffix(".tmp")
        save_file(tensors, scratch, metadata=note)
        scratch.replace(self.checkpoint)

    def _resume(self) -> None:
        try:
            with safe_open(self.checkpoint, "pt") as file:
                note = file.metadata() or {}
            tensors = load_file(self.checkpoint)
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{self.checkpoint} is damaged ({error}). Delete it to start again, or restore a copy."
            ) from error
        stored = json.loads(note.get("settings", "{}"))
        ours = json.loads(json.dumps(asdict(self.settings)))
        changes = [f"{key} {stored.get(key)} there, {ours[key]} here" for key in ours if stored.get(key) != ours[key]]
        changes += [f"other {what}" for what, mark in self._made_from.items() if note.get(what, mark) != mark]
        if changes:
            raise ValueError(
                f"{self.checkpoint} belongs to another run ({edge.few(changes)}). Use its settings or another folder."
            )
        for prefix, module in (("network.", self.network), ("average.", self.average)):
            state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            try:
                module.load_state_dict(state)
            except RuntimeError as error:
                raise ValueError(
                    f"{self.checkpoint} holds another architecture than MiniVGG {folding.config(self.network)}: "
                    f"{str(error).splitlines()[-1].strip()} Use another folder."
                ) from error
        for name, parameter in self.network.named_parameters():
            if f"momentum.{name}" in tensors:
                buffer = tensors[f"momentum.{name}"].to(self.device)
                self.optimizer.state[parameter]["momentum_buffer"] = buffer.to(memory_format=_format(buffer))
        self.epoch = int(note["epoch"])

    def _cut_log(self) -> None:
        """The log tells of this run and no other, also after somebody deleted the checkpoint."""
        records = self.records()
        if len(done := [record for record in records if record["epoch"] <= self.epoch]) < len(records):
            (self.folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in done))


def _mixed(device: torch.device | str, bfloat16: bool) -> AbstractContextManager:
    """Within it the device computes in bfloat16 where that is safe, or as always."""
    return torch.autocast(torch.device(device).type, torch.bfloat16) if bfloat16 else nullcontext()


def _format(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.dim() == 4 else torch.contiguous_format


def normalise(pictures: Float[Tensor, "pictures 3 height width"]) -> Float[Tensor, "pictures 3 height width"]:
    """Pictures in [0, 1] as the network wants them: torchvision's ImageNet mean and deviation."""
    mean, std = (torch.tensor(values, device=pictures.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (pictures - mean) / std


def learning_rate(done: float, settings: Settings) -> float:
    """Linear climb to the peak, then half a cosine down to nothing; `done` in [0, 1)."""
    if done < settings.rise:
        return settings.peak * max(done / settings.rise, 0.01)
    return settings.peak * 0.5 * (1 + math.cos(math.pi * (done - settings.rise) / (1 - settings.rise)))


def measure(network: MiniVGG, pictures: Pictures, settings: Settings, device: torch.device | str) -> dict[str, float]:
    """Quick look after an epoch: share right, clean, and of 250 pictures under a 10-step attack of radius 0.5."""
    network = network.to(device).requires_grad_(False).eval()

    def forward(batch: Tensor) -> Tensor:
        with _mixed(device, settings.bfloat16):
            return network(normalise(batch)).float()

    right = 0
    with torch.no_grad():
        for batch, labels in pictures.batches(250):
            right += (forward(batch.to(device)).argmax(1).cpu() == labels).sum().item()
    result = {"clean": round(right / len(pictures), 4)}
    if settings.radius > 0:
        generator = torch.Generator().manual_seed(0)
        sample, right = pictures.subset(250), 0
        for batch, labels in sample.batches(250):
            moved = attack(forward, batch.to(device), labels.to(device), 0.5, 10, generator)
            right += (forward(moved).argmax(1).cpu() == labels).sum().item()
        result["attacked"] = round(right / len(sample), 4)
    return result
