"""Training the bundled networks: stochastic gradient descent on pictures, or on pictures under attack.

One-cycle learning rate (Smith and Topin 2017), label smoothing, and an exponential moving average of the weights that
is what gets measured and shipped. Pictures lie on the device as bytes; cuts, patches and attacks are made there, and
nothing is copied between device and host within an epoch. All randomness of an epoch comes from the seed and the
epoch's number, so a run that was killed goes on from its last checkpoint as if nothing had happened (on the CPU to the
bit).
"""

import copy
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nbhelpers import edge, models
from nbhelpers.models.minivgg import MiniVGG
from nbhelpers.training import folding
from nbhelpers.training.attack import attack
from nbhelpers.training.data import Pictures, augment, cut_and_mix
from nbhelpers.training.fingerprints import fingerprint
from nbhelpers.training.settings import Clock, Settings, learning_rate

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CHECKPOINT = "checkpoint.safetensors"
BETWEEN_CHECKPOINTS = 20.0  # seconds; shorter epochs are not all kept


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
        self.settings, self.device = settings, torch.device(device)
        self.train, self.validation = train.to(self.device), validation.to(self.device)
        self.teachers = [
            teacher.to(self.device, memory_format=torch.channels_last).requires_grad_(False).eval()
            for teacher in teachers
        ]
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator().manual_seed(settings.seed)
        if start is None:
            with models.drawn_from(settings.seed):
                network = MiniVGG(settings.widths, settings.stem, classes, norm=True, pooling=settings.pooling)
        else:
            index = torch.randperm(len(train), generator=generator)[:1000]
            network = folding.unfold(start, normalise(train.batch(index)[0]), generator)
        self.network = network.to(self.device, torch.float32, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self._attacked = folding.fold(self.network).requires_grad_(False)
        ours, theirs = self.average.state_dict(), self.network.state_dict()
        floating = [key for key in ours if ours[key].is_floating_point()]
        self._averaged = [ours[key] for key in floating], [theirs[key] for key in floating]
        self._mirrored = (torch.rand(len(train), generator=generator) < 0.5).to(self.device)
        self._trained = torch.compile(self.network, dynamic=False) if settings.compiled else self.network
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=0.1, momentum=settings.momentum, weight_decay=settings.decay, nesterov=True
        )
        self.epoch = 0
        self._saved = time.monotonic()
        self._made_from = {
            "pictures": fingerprint(train.labels, train.subset(1000).pixels),
            "start": fingerprint(start) if start is not None else "",
            "teachers": fingerprint(*teachers),
        }
        if self.checkpoint.exists():
            self._resume()
        self._cut_log()

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    def records(self) -> list[dict[str, Any]]:
        """The log: one record per finished epoch."""
        path = self.folder / "log.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def run(
        self,
        epochs: int | None = None,
        progress: bool = True,
        deadline: float = math.inf,
        keep: Callable[[MiniVGG], object] = lambda network: None,
    ) -> MiniVGG:
        """Train until the settings' last epoch, or `epochs` more.

        Args:
            epochs: how many at most.
            progress: whether to show bars and figures.
            deadline: on the clock of `time.monotonic`. Where steps are slower than the settings' epochs would need,
                the learning rate falls with the time instead, and is at its end by then. A short epoch that would not
                be done is not begun; a long one is cut short: it is not in the log and the checkpoint, but in what is
                returned.
            keep: called with the folded average whenever a checkpoint is written.

        Returns:
            The folded average, on the CPU.
        """
        last = self.settings.epochs if epochs is None else min(self.epoch + epochs, self.settings.epochs)
        clock = Clock(self.epoch / self.settings.epochs, time.monotonic(), deadline)
        while self.epoch < last:
            start = time.monotonic()
            record = self._epoch(progress, clock)
            if record is None:
                break
            self.epoch += 1
            seconds = time.monotonic() - start
            shipped = folding.fold(self.average)
            record |= measure(shipped, self.validation, self.settings)
            record = {"epoch": self.epoch, **record, "seconds": round(seconds, 1)}
            late = time.monotonic() + seconds > deadline
            if self.epoch == last or late or time.monotonic() - self._saved > BETWEEN_CHECKPOINTS:
                self._save()
                keep(shipped.cpu())
            with open(self.folder / "log.jsonl", "a") as log:
                log.write(json.dumps(record) + "\n")
            if progress:
                edge.Bar.write("  ".join(f"{key} {value}" for key, value in record.items()))
            if late and seconds < BETWEEN_CHECKPOINTS:
                break
        return folding.fold(self.average).cpu()

    def _epoch(self, progress: bool = False, clock: Clock | None = None) -> dict[str, float] | None:
        settings = self.settings
        generator = drawing_on(self.device).manual_seed(settings.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.train), generator=generator, device=generator.device).to(self.device)
        # the last, smaller batch would weigh its pictures more
        batches = order.split(settings.batch)
        if len(batches) > 1 and len(batches[-1]) < settings.batch:
            batches = batches[:-1]
        total = settings.epochs * len(batches)
        mirrored = self._mirrored ^ bool(self.epoch % 2)
        losses, right, seen = torch.zeros((), device=self.device), torch.zeros((), device=self.device), 0
        shown = time.monotonic()
        self.network.train()
        bar = edge.Bar(batches, desc=f"epoch {self.epoch + 1}/{settings.epochs}", unit="batch", disable=not progress)
        for index, chosen in enumerate(bar):
            done = (self.epoch * len(batches) + index) / total
            if clock:
                done = max(done, clock.done())
            if done >= 1:
                return None
            side = settings.sides[int(done * len(settings.sides))]
            pixels, labels = self.train.pixels[chosen], self.train.labels[chosen]
            settling = done >= 1 - settings.settle
            zoom, patched = (1.0, 0.0) if settling else (settings.zoom, settings.cutmix)
            pictures = augment(pixels, side, settings.shift, mirrored[chosen], generator, zoom)
            pictures, targets = self._aims(pictures, labels, patched, generator)
            radius = settings.radius * side / self.train.pixels.shape[1]
            if settings.radius_rise > 0:
                radius *= min(1.0, done / settings.radius_rise)
            if radius > 0:
                self._attacked.load_state_dict(folding.folded_weights(self.network))
                aims = targets.argmax(1)
                pictures = attack(self._forward(self._attacked), pictures, aims, radius, settings.steps, generator)
            self.optimizer.param_groups[0]["lr"] = learning_rate(done, settings)
            logits = self._forward(self._trained)(pictures)
            loss = F.cross_entropy(logits, targets)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self._update_average(self.epoch * len(batches) + index)
            losses += loss.detach() * len(labels)
            right += (logits.argmax(1) == labels).sum()
            seen += len(labels)
            if progress and time.monotonic() - shown > 1:
                bar.set_postfix(loss=f"{losses.item() / seen:.3f}", right=f"{right.item() / seen:.3f}")
                shown = time.monotonic()
        if not losses.isfinite():
            raise ValueError(
                f"The loss became {losses.item()} in epoch {self.epoch + 1}. Lower the peak learning rate "
                f"({settings.peak}); the last epoch that was kept is in {self.checkpoint}."
            )
        return {
            "rate": round(learning_rate(done, settings), 5),
            "loss": round(losses.item() / seen, 4),
            "train": round(right.item() / seen, 4),
        }

    @torch.no_grad()
    def _aims(
        self, pictures: Tensor, labels: Tensor, patched: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Pictures, a share of them with patches of others, and targets `(B, classes)`.

        A target is the label, smoothed, and for a share of it what the teachers see in the picture.
        """
        settings = self.settings
        targets = F.one_hot(labels, self.network.head.out_features).float()
        targets = (1 - settings.smoothing) * targets + settings.smoothing / targets.shape[1]
        if patched > 0:
            pictures, targets = cut_and_mix(pictures, targets, patched, generator)
        if self.teachers:
            verdicts = torch.stack([self._forward(teacher)(pictures).softmax(1) for teacher in self.teachers])
            targets = targets.lerp(verdicts.mean(0), settings.teaching)
        return pictures, targets

    def _forward(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        def forward(pictures: Tensor) -> Tensor:
            with _mixed(self.device, self.settings.bfloat16):
                return network(normalise(pictures)).float()

        return forward

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        # early on a long average would still hold the random start
        decay = min(self.settings.average, (step + 1) / (step + 10))
        torch._foreach_lerp_(*self._averaged, 1 - decay)

    def _save(self) -> None:
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in self.average.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            momentum = self.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{name}"] = momentum
        tensors = {key: value.cpu().contiguous() for key, value in tensors.items()}
        note = {"epoch": str(self.epoch), "settings": json.dumps(asdict(self.settings)), **self._made_from}
        with edge.replacing(self.checkpoint) as scratch:
            save_file(tensors, scratch, metadata=note)
        self._saved = time.monotonic()

    def _resume(self) -> None:
        try:
            with safe_open(self.checkpoint, "pt") as file:
                note = file.metadata() or {}
            tensors = load_file(self.checkpoint)
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{self.checkpoint} is damaged ({error}). Delete it to start again, or restore a copy."
            ) from error
        with edge.understood(self.checkpoint, "a checkpoint of training", "Delete it, or restore a copy"):
            stored, epoch = dict(json.loads(note.get("settings", "{}"))), int(note["epoch"])
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
        self.epoch = epoch

    def _cut_log(self) -> None:
        """The log tells of this run and no other, also after somebody deleted the checkpoint."""
        records = self.records()
        if len(done := [record for record in records if record["epoch"] <= self.epoch]) < len(records):
            (self.folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in done))


def drawing_on(device: torch.device) -> torch.Generator:
    """A generator on a GPU, where drawing elsewhere would cost; on the processor for any other device."""
    return torch.Generator(device if device.type == "cuda" else "cpu")


def _mixed(device: torch.device, bfloat16: bool) -> AbstractContextManager:
    """Within it the device computes in bfloat16 where that is safe, or as always."""
    return torch.autocast(device.type, torch.bfloat16) if bfloat16 else nullcontext()


def _format(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.dim() == 4 else torch.contiguous_format


def normalise(pictures: Float[Tensor, "pictures 3 height width"]) -> Float[Tensor, "pictures 3 height width"]:
    """Pictures in [0, 1] as the network wants them: torchvision's ImageNet mean and deviation."""
    mean, std = _mean_and_std(pictures.device)
    return ((pictures - mean) / std).contiguous(memory_format=torch.channels_last)


@cache
def _mean_and_std(device: torch.device) -> tuple[Tensor, Tensor]:
    """Copied to a device once: a copy a step would make the step wait."""
    mean, std = (torch.tensor(values, device=device, dtype=torch.float32).view(1, 3, 1, 1) for values in (MEAN, STD))
    return mean, std


def measure(network: MiniVGG, pictures: Pictures, settings: Settings) -> dict[str, float]:
    """Quick look after an epoch: share right, clean, and of 250 pictures under a 10-step attack of radius 0.5."""
    network = network.requires_grad_(False).eval()
    device = pictures.pixels.device

    def forward(batch: Tensor) -> Tensor:
        with _mixed(device, settings.bfloat16):
            return network(normalise(batch)).float()

    def share_right(found: Iterable[tuple[Tensor, Tensor]]) -> float:
        return round(torch.cat([logits.argmax(1) == labels for logits, labels in found]).float().mean().item(), 4)

    with torch.no_grad():
        result = {"clean": share_right((forward(batch), labels) for batch, labels in pictures.batches(250))}
    if settings.radius > 0:
        generator = drawing_on(device).manual_seed(0)
        result["attacked"] = share_right(
            (forward(attack(forward, batch, labels, 0.5, 10, generator)), labels)
            for batch, labels in pictures.subset(250).batches(250)
        )
    return result
