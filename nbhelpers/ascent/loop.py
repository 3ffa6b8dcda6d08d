"""The one optimisation loop: a generator that yields its steps.

    for step in ascend(network, channel("block3.conv2", [7]), canvas, steps=100):
        print(step.index, step.scores)          # show it, stop it, save it: the loop is the caller's
    canvas.picture()

What makes it fast: the weights are frozen (a third of the work is their gradient), the forward pass ends at the
deepest layer that is needed, tensors are laid out `channels_last`, and bfloat16 is used where it is asked for. All
of it happens on a twin of the network that shares its weights, so the user's own model is never touched: an
interrupt has nothing to clean up, and two runs can go on at once.

A picture does not depend on its batch: it draws from its own source of randomness, and on a processor every picture
passes through the network alone, since Adam makes a visible difference of the last bit of a sum; for the same reason
convolutions are done in one way on any number of threads (`convolution`). Where its score does not depend on the
others, its way back follows at once: the activations of one picture are kept, not of all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nbhelpers import edge, models
from nbhelpers.ascent.canvas import Canvas
from nbhelpers.ascent.convolution import steadily
from nbhelpers.ascent.objectives import PICTURE, Objective
from nbhelpers.ascent.transforms import Transforms
from nbhelpers.models import (
    Capture,
    Network,
    Rectifiers,
    Seen,
    capture,
    differentiable,
    find_module,
    outside_inference,
    twin,
)

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# so many steps may borrow the gradient of a ReLU that lets nothing through before a picture counts as dead
PATIENCE = 16


@dataclass
class Step:
    """One step of an ascent, after it was made.

    Attributes:
        index: number of steps made so far, from 1.
        total: number of steps asked for.
        scores: `(B,)`, of the pictures as they were before the step, transformed as they were for it.
        alive: `(B,)`, False where no gradient has ever reached the picture.
        canvas: what is being optimised; `picture` reads it.
    """

    index: int
    total: int
    scores: Float[Tensor, " pictures"]
    alive: Bool[Tensor, " pictures"]
    canvas: Canvas

    @property
    def picture(self) -> Float[Tensor, "pictures 3 height width"]:
        """The pictures as the canvas shows them now, `(B, 3, H, W)` in [0, 1]."""
        with torch.no_grad():
            return self.canvas.shown().detach().clone()

    @property
    def pixels(self) -> Float[Tensor, "pictures channels height width"]:
        """The pictures as the network takes them, `(B, channels, H, W)`: not always three channels."""
        with torch.no_grad():
            return self.canvas.picture().detach().clone()


class NonFiniteScore(ArithmeticError):
    """A score, or its gradient, became infinite or not a number; `step` holds the last good pictures."""

    def __init__(self, message: str, step: Step) -> None:
        super().__init__(message)
        self.step = step


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One source of randomness per picture, so that no picture depends on the others of its batch."""
    return [torch.Generator().manual_seed(seed % 2**63) for seed in seeds]


@outside_inference
def ascend(
    network: Network,
    objective: Objective,
    canvas: Canvas,
    *,
    steps: int,
    learning_rate: float = 0.01,
    weight_decay: float = 0.0,
    transforms: Transforms = Transforms(),  # noqa: B008 (immutable)
    seeds: Sequence[int] | None = None,
    precision: str = "float32",
    dropout: tuple[str, float] | None = None,
    fade: float = 0.0,
    settle: bool = False,
    together: bool = False,
) -> Iterator[Step]:
    """Change the canvas by Adam so that every picture's score rises; yields after each step.

    Where no gradient reaches a picture because a ReLU on the way is shut, that ReLU's gradient is let through
    (for the first steps only; see `_OpenReLU`).

    Args:
        network: the network; it stays untouched.
        objective: scores to raise, one per picture.
        canvas: what to change, in place.
        steps: how many steps, at least 1.
        learning_rate: of Adam, in units of the canvas's `step_size`.
        weight_decay: of Adam, on the canvas's parameters.
        transforms: shakes the pictures before each step.
        seeds: one per picture, for the transforms; 0, 1, 2, ... unless given.
        precision: "float32" or "bfloat16" for the network; the canvas and the scores are float32 always.
        dropout: a layer, and the share of its inputs that are hidden at each step, so that no few of them can make
            up the score alone.
        fade: share of the canvas's parameters that is lost after each step, whatever the step's size (decoupled weight
            decay, Loshchilov and Hutter 2019); waves fade towards the mean colour of photographs.
        settle: whether the learning rate falls to zero along half a cosine.
        together: whether a processor, too, takes all pictures in one pass. Small ones (64 pixels and less) are up to
            twice as fast then, and a picture depends on its batch.

    Yields:
        A `Step` after each step.

    Raises:
        NonFiniteScore: with the last good pictures, at the first score or gradient that is infinite or not a number.
        ValueError: an unknown precision, or fewer steps than one.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown: choose one of {', '.join(PRECISIONS)}")
    if steps < 1:
        raise ValueError(f"{steps} steps: at least one is needed")
    _awaken(canvas)
    models.check_layout(network, objective.layers, tuple(canvas.picture().shape[2:]))
    fast = twin(network, PRECISIONS[precision])
    batch = len(canvas.parameters)
    sources = generators(range(batch) if seeds is None else seeds)
    if dropout is not None:
        _hide_inputs(fast, *dropout, sources)
    look = Capture(fast, *objective.layers, stop=True)
    one_by_one = not together and canvas.parameters.device.type == "cpu"
    objectives = objective.each(batch) if one_by_one and objective.layers else None
    seen = steadily(look.alone if one_by_one else look)
    climb = partial(_climb, seen, objectives or [objective], canvas, transforms, sources)
    optimiser = torch.optim.Adam(
        [canvas.parameters], lr=learning_rate * canvas.step_size, weight_decay=weight_decay, eps=1e-12
    )
    alive = torch.zeros(batch, dtype=torch.bool)
    good = canvas.parameters.detach().clone()

    for index in range(1, steps + 1):
        draws = [source.get_state() for source in sources]
        with differentiable():
            scores, gradient, through = climb()
            scores, reached, finite = _told(scores, gradient, through)
            if not scores.isfinite().all():
                raise _stopped("score", scores, canvas, good, Step(index - 1, steps, scores, alive, canvas), objective)
            good.copy_(canvas.parameters.detach())
            alive |= reached.bool()
            if not alive.all() and index <= PATIENCE:
                for source, state in zip(sources, draws, strict=True):
                    source.set_state(state)
                with _OpenReLU():
                    _, borrowed, _ = climb()
                gradient[~alive] = borrowed[~alive]
                finite = gradient.flatten(1).isfinite().all(1)
        if not finite.all():
            raise _stopped("gradient", gradient, canvas, good, Step(index - 1, steps, scores, alive, canvas), objective)
        canvas.parameters.grad = gradient.neg_()
        if settle:
            optimiser.param_groups[0]["lr"] = learning_rate * canvas.step_size * _falling(index / steps)
        optimiser.step()
        canvas.parameters.grad = None
        if fade:
            canvas.parameters.data.mul_(1 - fade)
        canvas.project()
        yield Step(index, steps, scores, alive.clone(), canvas)


@torch.no_grad()
def measure(
    network: nn.Module, objective: Objective, pictures: Float[Tensor, "pictures channels height width"]
) -> Float[Tensor, " pictures"]:
    """Scores of finished pictures, `(B,)` float32, without any transform."""
    network = models.as_network(network)
    models.check_layout(network, objective.layers, tuple(pictures.shape[2:]))
    seen = capture(network, *objective.layers, stop=True)(pictures) if objective.layers else Seen()
    return objective(Seen(seen) | {PICTURE: pictures}).float()


def _awaken(canvas: Canvas) -> None:
    """What was made in inference mode is made anew: nothing can be differentiated through it."""
    with differentiable():
        for name, value in vars(canvas).items():
            if isinstance(value, Canvas):
                _awaken(value)
            elif isinstance(value, Tensor) and value.is_inference():
                setattr(canvas, name, value.detach().clone().requires_grad_(value.requires_grad))


def _falling(done: float) -> float:
    """From 1 to 0 along half a cosine."""
    return (1 + math.cos(math.pi * done)) / 2


def _hide_inputs(network: Network, layer: str, share: float, sources: list[torch.Generator]) -> None:
    """Dropout before a layer (Srivastava et al. 2014), drawn per picture."""

    turns = itertools.cycle(sources)  # one by one or all at once, the pictures pass in order

    def hide(module: nn.Module, inputs: tuple) -> tuple:
        (activations,) = inputs
        kept = torch.stack([torch.rand(each.shape, generator=next(turns)) for each in activations]) >= share
        return (activations * kept.to(activations, non_blocking=True) / (1 - share),)

    find_module(network, layer).register_forward_pre_hook(hide)


def _climb(
    look: Callable[[Tensor], Seen],
    objectives: Sequence[Objective],
    canvas: Canvas,
    transforms: Transforms,
    sources: list[torch.Generator],
) -> tuple[Tensor, Tensor, Tensor]:
    """The scores, their gradient at the canvas, and that at the pictures as the network was shown them.

    With one objective for each picture, they go through the network and back one after the other: what a picture's way
    back needs lies near still, and is never kept for more than one.
    """
    picture, layers = canvas.picture(), objectives[0].layers
    shown = transforms(picture, sources).clone() if layers else picture  # apart from what penalties look at
    ends = [each.detach().requires_grad_() for each in (picture, shown)]
    scores, gradients = [], []
    for index, objective in enumerate(objectives):
        part = slice(None) if len(objectives) == 1 else slice(index, index + 1)
        plain, shaken = (each[part] for each in ends)
        seen = look(shaken) if layers else Seen()
        score = objective(Seen(seen) | {PICTURE: plain})
        gradients.append(torch.autograd.grad(score.sum(), [plain, shaken], materialize_grads=True))
        scores.append(score.detach())
    at_picture, at_shown = (torch.cat(each) for each in zip(*gradients, strict=True))
    (gradient,) = torch.autograd.grad([picture, shown], canvas.parameters, [at_picture, at_shown])
    return torch.cat(scores), gradient, at_shown if layers else at_picture


def _told(scores: Tensor, gradient: Tensor, through: Tensor) -> Tensor:
    """Of each picture: its score, whether a gradient through the network reaches it, whether all is finite, `(3, B)`.

    In one transfer, the only one of a step: a GPU is waited for until it has done all that it was given.
    """
    reached = through.flatten(1).ne(0).any(1)
    return torch.stack([scores, reached.to(scores), gradient.flatten(1).isfinite().all(1).to(scores)]).cpu()


def _stopped(
    what: str, numbers: Tensor, canvas: Canvas, good: Tensor, step: Step, objective: Objective
) -> NonFiniteScore:
    with torch.no_grad():
        canvas.parameters.copy_(good)
    rows = numbers.detach().flatten(1) if numbers.ndim > 1 else numbers.detach()[:, None]
    bad = [index for index, row in enumerate(rows) if not row.isfinite().all()]
    value = rows[bad[0]][~rows[bad[0]].isfinite()][0].item()
    return NonFiniteScore(
        f"the {what} of picture {edge.few(bad)} is {value} at step {step.index + 1} of {step.total} "
        f"({edge.short(objective)}). The last good pictures are kept. Lower the learning rate, use float32, or check "
        "the network's weights for infinities.",
        step,
    )


class _OpenReLU(Rectifiers):
    """Lets the gradient through ReLUs that let nothing through, for those pictures only.

    At a unit that is off, the gradient passes if it would raise the unit and is stopped if it would lower it
    further (lucid's redirected ReLU; Olah et al. 2017).
    """

    def __init__(self) -> None:
        super().__init__(_Redirected)


class _Redirected(torch.autograd.Function):
    @staticmethod
    def forward(context, inputs: Tensor, ceiling: float) -> Tensor:
        # not the inputs: a ReLU in place overwrites them
        context.save_for_backward(inputs > 0, inputs < ceiling)
        return inputs.clamp(0, ceiling)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None]:
        on, below = context.saved_tensors
        usual = gradient * (on & below)
        redirected = gradient * (on | (gradient > 0)) * below
        nothing = (usual.flatten(1) == 0).all(1).view(-1, *[1] * (on.ndim - 1))
        return torch.where(nothing, redirected, usual), None
