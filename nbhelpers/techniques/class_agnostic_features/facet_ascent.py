"""The loop of class-agnostic features: gradient ascent through a window on a larger picture, smoothed as it goes.

It differs from `nbhelpers.ascent.ascend` in what happens around a step: learning rate, mask, blur, denoising and
penalty follow schedules, the gradient is masked, the window moves. What it needs to go on is one value that is replaced
as a whole, so that a run stopped anywhere can be saved and continued.
Source: Stergiou, "The Mind's Eye: Visualizing Class-Agnostic Features of CNNs", ICIP 2021, and its published code.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from nbhelpers import edge, models
from nbhelpers.ascent import NonFiniteScore, Step
from nbhelpers.ascent.canvas import Pixels
from nbhelpers.images import smoothing
from nbhelpers.models import Network, differentiable, twin
from nbhelpers.techniques.class_agnostic_features import facets
from nbhelpers.techniques.class_agnostic_features.facets import Facets

PUBLISHED_SIZE = 512  # side, in pixels, for which the published widths of the mask are meant
SMOOTH_EVERY = 10  # steps
BRIGHTER = 5 / 255
MOMENTUM = 0.9
STRIDE = 0.005  # how far a learning rate of 1 moves a pixel (root mean square), before momentum gathers


Schedule = tuple[float, float]  # the value at the first step and at the last; see `scheduled`


@dataclass(frozen=True)
class Settings:
    """What the loop needs to know; `ClassAgnosticFeatures` says what each is, its unit and its range."""

    layer: str
    penalty_layer: str
    nearest: int
    top_channels: int
    start: Literal["photos", "grey"]
    size: models.Size
    steps: int
    learning_rate: Schedule
    mask_sigma: Schedule
    blur_sigma: Schedule
    denoise_weight: Schedule
    penalty_weight: Schedule
    window: float
    window_step: int
    brightness_step: int
    scale: float
    smoothness: float
    checkpoint_step: int
    seed: int


@dataclass
class FacetStep(Step):
    """A step of all facets' pictures.

    Attributes:
        facets: the photos and their groups.
        checkpoints: the pictures so far, by number of steps, `(facets, 3, height, width)` each; 0 is the start.
    """

    facets: Facets
    checkpoints: dict[int, Float[Tensor, "facets 3 height width"]]


def scheduled(start: float, end: float, index: int, total: int) -> float:
    """The value at step `index` of 1 to `total`, on a straight line from `start` to `end`."""
    return end if total == 1 else start + (end - start) * (index - 1) / (total - 1)


def gaussian_mask(height: int, width: int, sigma: float) -> Float[Tensor, "height width"]:
    """A round Gaussian, `(height, width)`, scaled so that it is 1 in the middle and 0 in the corners."""
    down = torch.arange(height) - (height - 1) / 2
    across = torch.arange(width) - (width - 1) / 2
    mask = torch.exp(-(down[:, None] ** 2 + across**2) / (2 * sigma**2))
    return (mask - mask.min()) / (mask.max() - mask.min()).clamp(min=1e-12)


def robust_distance(
    pooled: Float[Tensor, "facets channels"], target: Float[Tensor, "facets channels"]
) -> Float[Tensor, " facets"]:
    """Mean over the channels of sqrt(x^2 + 1) - 1, `(B,)`: a square near 0, straight further out.

    Source: Barron 2019, "A General and Adaptive Robust Loss Function", for alpha 1 and c 1, where its adaptive form,
    which the paper uses, begins.
    """
    return ((pooled - target).square() + 1).sqrt().sub(1).mean(1)


@dataclass(frozen=True)
class State:
    """All that a run needs to go on; replaced as a whole, so that an interrupt leaves the last one complete."""

    index: int
    whole: Float[Tensor, "facets 3 whole_height whole_width"]  # (facets, 3, H, W), the enlarged pictures
    corner: tuple[int, int]  # of the window
    picture: Float[Tensor, "facets 3 height width"]  # what is in the window, (facets, 3, height, width)
    velocity: Float[Tensor, "facets 3 height width"]
    scores: Float[Tensor, " facets"]
    alive: Bool[Tensor, " facets"]
    random: UInt8[Tensor, " state"]  # state of the generator that places the window
    checkpoints: dict[int, Float[Tensor, "facets 3 height width"]] = field(default_factory=dict)


class Run:
    """What stays the same during a run, and the step that leads from one state to the next."""

    def __init__(self, settings: Settings, network: Network, found: Facets) -> None:
        self.settings, self.facets = settings, found
        self.device = network.mean.device
        self.sides = models.sides(settings.size)
        target, start = facets.targets(found, settings.nearest)
        self.start = torch.full_like(start, 0.5) if settings.start == "grey" else start
        self.target = target.to(self.device)
        self.excited = facets.top_channels(self.target, settings.top_channels)
        self.network = twin(network)
        self.look = models.Capture(self.network, settings.layer, stop=True)
        # the penalty is on what goes into a layer; the twin is ours alone, so its hook need not be removed
        self.inputs: list[Tensor] = []
        models.find_module(self.network, settings.penalty_layer).register_forward_pre_hook(
            lambda module, inputs: self.inputs.append(inputs[0].clone())
        )

    def begin(self) -> State:
        settings = self.settings
        larger = [round(side * settings.scale) for side in self.sides]
        whole = F.interpolate(self.start, size=larger, mode="bicubic", align_corners=False).clamp(0, 1)
        top, left = ((length - side) // 2 for length, side in zip(larger, self.sides, strict=True))
        picture = self._window(whole, (top, left)).to(self.device)
        count = len(picture)
        return State(
            index=0,
            whole=whole,
            corner=(top, left),
            picture=picture,
            velocity=torch.zeros_like(picture),
            scores=torch.zeros(count),
            alive=torch.zeros(count, dtype=torch.bool),
            random=torch.Generator().manual_seed(settings.seed).get_state(),
            checkpoints={0: picture.cpu()},
        )

    def step(self, state: State) -> FacetStep:
        canvas = Pixels(state.picture)
        checkpoints = dict(state.checkpoints)
        return FacetStep(state.index, self.settings.steps, state.scores, state.alive, canvas, self.facets, checkpoints)

    def advance(self, state: State) -> State:
        settings, index = self.settings, state.index + 1

        def now(start: float, end: float) -> float:
            return scheduled(start, end, index, settings.steps)

        if index % settings.window_step == 0:
            state = self._moved(state)
        mask_sigma = now(*settings.mask_sigma) * min(self.sides) / PUBLISHED_SIZE
        mask = gaussian_mask(*self.sides, mask_sigma).to(self.device, non_blocking=True)
        picture = state.picture
        if index % SMOOTH_EVERY == 0:
            blurred = smoothing.gaussian_blur(picture, now(*settings.blur_sigma))
            picture = picture.lerp(blurred, mask)
        if index % settings.brightness_step == 0:
            picture = (picture + BRIGHTER).clamp(0, 1)
        scores, gradient = self._gradient(picture, now(*settings.penalty_weight))
        size = gradient.square().flatten(1).mean(1).sqrt()
        scores, reached = torch.stack([scores, size]).cpu()  # the only transfer of most steps
        if not scores.isfinite().all():
            raise self._stopped(state, scores)
        size = size.view(-1, 1, 1, 1)
        gradient = gradient / size.clamp(min=1e-30) * mask
        velocity = MOMENTUM * state.velocity + gradient
        rate = STRIDE * now(*settings.learning_rate)
        picture = (picture + rate * (gradient + MOMENTUM * velocity)).clamp(0, 1)  # Nesterov's
        if index % SMOOTH_EVERY == 0:
            weight = now(*settings.denoise_weight)
            picture = picture.lerp(smoothing.denoise_total_variation(picture, weight), mask)
        checkpoints = state.checkpoints
        if index % settings.checkpoint_step == 0 or index == settings.steps:
            checkpoints = checkpoints | {index: picture.cpu()}
        return replace(
            state,
            index=index,
            picture=picture,
            velocity=velocity,
            scores=scores,
            alive=state.alive | reached.gt(0),
            checkpoints=checkpoints,
        )

    def _gradient(self, picture: Tensor, penalty_weight: float) -> tuple[Tensor, Tensor]:
        self.inputs.clear()
        with differentiable():
            picture = picture.detach().clone().requires_grad_()
            pooled = self.look(picture)[self.settings.layer].mean((2, 3))
            penalty = self.inputs[0].abs().flatten(1).sum(1)
            product = (pooled * self.excited).sum(1)
            scores = product - robust_distance(pooled, self.target) - penalty_weight * penalty
            (gradient,) = torch.autograd.grad(scores.sum(), picture)
        return scores.detach(), smoothing.favour_large_shapes(gradient, self.settings.smoothness)

    def _moved(self, state: State) -> State:
        """What is in the window put back into the whole picture, and the window somewhere else."""
        whole = state.whole.clone()
        self._window(whole, state.corner).copy_(state.picture)
        generator = torch.Generator()
        generator.set_state(state.random)
        free = torch.tensor(whole.shape[2:]) - torch.tensor(self.sides)
        draws = free / 2 + free * self.settings.window * torch.randn(2, generator=generator)
        top, left = (int(place) for place in draws.clamp(torch.zeros(2), free).tolist())
        return replace(
            state,
            whole=whole,
            corner=(top, left),
            picture=self._window(whole, (top, left)).to(self.device),
            velocity=torch.zeros_like(state.velocity),  # it belongs to the place before
            random=generator.get_state(),
        )

    def _window(self, whole: Tensor, corner: tuple[int, int]) -> Tensor:
        (top, left), (height, width) = corner, self.sides
        return whole[:, :, top : top + height, left : left + width]

    def _stopped(self, state: State, scores: Tensor) -> NonFiniteScore:
        bad = [number for number, finite in enumerate(scores.isfinite().tolist()) if not finite]
        return NonFiniteScore(
            f"the score of facet {edge.few(bad)} is {scores[bad[0]].item()} at step {state.index + 1} of "
            f"{self.settings.steps}. The last good pictures are kept. Check the network's weights for infinities.",
            self.step(state),
        )


def save_state(state: State, parameters: dict[str, Any], path: str | Path) -> None:
    """Write a state and the parameters of the recipe it belongs to, whole or not at all."""
    values = {name: getattr(state, name) for name in State.__dataclass_fields__}
    with edge.replacing(Path(path).expanduser()) as temporary:
        torch.save({"recipe": parameters, "state": values}, temporary)


def load_state(
    path: str | Path, parameters: dict[str, Any], device: torch.device, unsaid: dict[str, Any] | None = None
) -> State:
    """Read a state that `save_state` wrote for the same parameters; `unsaid` are those that an older one lacks.

    Raises:
        ValueError: the file is damaged or something else, or its recipe is another one (says where they differ).
    """
    try:
        document = torch.load(Path(path).expanduser(), map_location="cpu", weights_only=True)
        was, values = {**(unsaid or {}), **document["recipe"]}, document["state"]
        state = State(**values)
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is no saved run, or a damaged one: delete it to begin anew") from error
    other = [f"{name} = {was.get(name)!r}" for name, value in parameters.items() if was.get(name) != value]
    if other:
        raise ValueError(f"the run saved in {path} was made with {edge.few(other)}: give that, or another file")
    return replace(state, picture=state.picture.to(device), velocity=state.velocity.to(device))
