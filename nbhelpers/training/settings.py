"""What a training run computes, and how fast it goes on at each moment of it."""

import math
import time
from dataclasses import dataclass

from nbhelpers.models.minivgg import WIDTHS


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
        teaching: share of the target that is what the teachers see in the picture as it is trained on, cut and mixed
            (Beyer et al. 2022, "Knowledge distillation: a good teacher is patient and consistent"), not its label.
        cutmix: share of the pictures that carry a patch of another, see `cut_and_mix`.
        average: decay per step of the moving average of the weights.
        shift: pixels of reflected border for random cuts. Which pictures are mirrored changes from epoch to epoch: in
            any two each is seen both ways (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU").
        zoom: shortest side of a cut as a share of the full one, see `augment`.
        settle: share of the run, at its end, without patches and enlarged cuts: things are then as large as where the
            network is measured (Touvron et al. 2019, "Fixing the train-test resolution discrepancy").
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
    zoom: float = 1.0
    settle: float = 0.0
    sides: tuple[int, ...] = (64,)
    radius: float = 0.0
    steps: int = 1
    radius_rise: float = 0.2
    bfloat16: bool = True
    compiled: bool = False
    seed: int = 0


def learning_rate(done: float, settings: Settings) -> float:
    """Linear climb to the peak, then half a cosine down to nothing; `done` in [0, 1)."""
    if done < settings.rise:
        return settings.peak * max(done / settings.rise, 0.01)
    return settings.peak * 0.5 * (1 + math.cos(math.pi * (done - settings.rise) / (1 - settings.rise)))


@dataclass(frozen=True)
class Clock:
    """What of a run is done by the time that has passed.

    Attributes:
        before: share of the run that was done at the start.
        start, deadline: on the clock of `time.monotonic`.
    """

    before: float
    start: float
    deadline: float

    def done(self) -> float:
        """Share of the run, in [0, 1]."""
        if self.deadline <= self.start:
            return 1.0
        passed = (time.monotonic() - self.start) / (self.deadline - self.start)
        return min(1.0, self.before + (1 - self.before) * passed)
