"""How many epochs fit into the time there is."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError, safe_open

from nbhelpers.models.minivgg import MiniVGG
from nbhelpers.training import folding
from nbhelpers.training.data import Pictures
from nbhelpers.training.settings import Settings
from nbhelpers.training.train import CHECKPOINT, Trainer, measure

REHEARSED = 8  # steps of each size that are timed


def planned_epochs(folder: Path) -> int | None:
    """Epochs of the run that a folder's checkpoint belongs to; None where there is none that can be read."""
    try:
        with safe_open(folder / CHECKPOINT, "pt") as file:
            return json.loads(file.metadata()["settings"])["epochs"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None


def epochs_within(
    seconds: float,
    settings: Settings,
    train: Pictures,
    validation: Pictures,
    classes: int,
    start: MiniVGG | None = None,
    device: str = "cpu",
    teachers: Sequence[MiniVGG] = (),
) -> int:
    """How many epochs fit into a time, at least one: a few steps of every size are tried, on weights thrown away.

    Args:
        seconds: for the epochs and the quick look after each.
        settings: of the run; its number of epochs has no say.
        train, validation, classes, start, device, teachers: as for `Trainer`.
    """
    few = train.subset(min(REHEARSED * settings.batch, len(train)))
    per_step = []
    for side in settings.sides:
        with TemporaryDirectory() as folder:
            tried = replace(settings, sides=(side,), radius_rise=0.0, epochs=2)
            rehearsal = Trainer(tried, few, validation, folder, classes, start, device, teachers)
            rehearsal._epoch()  # kernels are chosen, memory is taken
            begun = time.monotonic()
            rehearsal._epoch()
            per_step.append((time.monotonic() - begun) / max(1, len(few) // settings.batch))
            shipped = folding.fold(rehearsal.average)
            measure(shipped, rehearsal.validation, settings)
            begun = time.monotonic()
            measure(shipped, rehearsal.validation, settings)
            looking = time.monotonic() - begun
    epoch = sum(per_step) / len(per_step) * max(1, len(train) // settings.batch) + looking
    return max(1, int(seconds / epoch))
