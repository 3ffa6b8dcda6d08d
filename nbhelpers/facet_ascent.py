"""The loop of class-agnostic features: gradient ascent through a window on a larger picture, smoothed as it goes.

It differs from `nbhelpers.ascent` in what happens around a step: learning rate, mask, blur, denoising and penalty
follow schedules, the gradient is masked, the window moves. What it needs to go on is one value that is replaced as a
whole, so that a run stopped anywhere can be saved and continued.
Source: Stergiou, "The Mind's Eye: Visualizing Class-Agnostic Features of CNNs", ICIP 2021, and its published code.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from nbhelpers import facets, filters, images, models
from nbhelpers.ascent import NonFiniteScore, Step, twin
from nbhelpers.canvas import Pixels
from nbhelpers.capture import capture
from nbhelpers.facets import Facets
from nbhelpers.network import Network

if TYPE_CHECKING:
    from nbhelpers.techniques.class_agnostic_features import ClassAgnosticFeatures

PUBLISHED_SIZE = 512  # side, in pixels, for which the published widths of the mask are meant
SMOOTH_EVERY = 10  # steps
BRIGHTER = 5 / 255
MOMENTUM = 0.9
STRIDE = 0.005  # how far a learning rate of 1 moves a pixel (root mean square), before momentum gathers


@dataclass
class FacetStep(Step):
    """A step of all facets' pictures.

    Attributes:
        facets: the photos and their groups.
        checkpoints: the pictures so far, by number of steps, `(facets, 3, size, size)` each; 0 is the start.
    """

    facets: Facets
    checkpoints: dict[int, Tensor]


def scheduled(start: float, end: float, index: int, total: int) -> float:
    """The value at step `index` of 1 to `total`, on a straight line from `start` to `end`."""
    return end if total == 1 else start + (end - start) * (index - 1) / (total - 1)


def gaussian_mask(height: int, width: int, sigma: float) -> Tensor:
    """A round Gaussian, `(height, width)`, scaled so that it is 1 in the middle and 0 in the corners."""
    down = torch.arange(height) - (height - 1) / 2
    across = torch.arange(width) - (width - 1) / 2
    mask = torch.exp(-(down[:, None] ** 2 + across**2) / (2 * sigma**2))
    return (mask - mask.min()) / (mask.max() - mask.min()).clamp(min=1e-12)


def robust_distance(pooled: Tensor, target: Tensor) -> Tensor:
    """Mean over the channels of sqrt(x^2 + 1) - 1, `(B,)`: a square near 0, straight further out.

    Source: Barron 2019, "A General and Adaptive Robust Loss Function", for alpha 1 and c 1, where its adaptive form,
    which the paper uses, begins.
    """
    return ((pooled - target).square() + 1).sqrt().sub(1).mean(1)


@dataclass(frozen=True)
class State:
    """All that a run needs to go on; replaced as a whole, so that an interrupt leaves the last one complete."""

    index: int
    whole: Tensor  # (facets, 3, H, W), the enlarged pictures
    corner: tuple[int, int]  # of the window
    picture: Tensor  # what is in the window, (facets, 3, size, size)
    velocity: Tensor
    scores: Tensor
    alive: Tensor
    random: Tensor  # state of the generator that places the window
    checkpoints: dict[int, Tensor] = field(default_factory=dict)


class Run:
    """What stays the same during a run, and the step that leads from one state to the next."""

    def __init__(self, recipe: ClassAgnosticFeatures, network: Network, found: Facets) -> None:
        self.recipe, self.facets = recipe, found
        self.device = network.mean.device
        target, start = facets.targets(found, recipe.nearest)
        self.start = torch.full_like(start, 0.5) if recipe.start == "grey" else start
        self.target = target.to(self.device)
        self.excited = facets.top_channels(self.target, recipe.top_channels)
        self.network = twin(network)
        # the penalty is on what goes into a layer; the twin is ours alone, so its hook need not be removed
        self.inputs: list[Tensor] = []
        models.find_module(self.network, recipe.penalty_layer).register_forward_pre_hook(
            lambda module, inputs: self.inputs.append(inputs[0].clone())
        )

    def begin(self) -> State:
        recipe = self.recipe
        side = round(recipe.size * recipe.scale)
        whole = F.interpolate(self.start, size=(side, side), mode="bicubic", align_corners=False).clamp(0, 1)
        corner = ((side - recipe.size) // 2,) * 2
        picture = _window(whole, corner, recipe.size).to(self.device)
        count = len(picture)
        return State(
            index=0,
            whole=whole,
            corner=corner,
            picture=picture,
            velocity=torch.zeros_like(picture),
            scores=torch.zeros(count),
            alive=torch.zeros(count, dtype=torch.bool),
            random=torch.Generator().manual_seed(recipe.seed).get_state(),
            checkpoints={0: picture.cpu()},
        )

    def step(self, state: State) -> FacetStep:
        canvas = Pixels(state.picture.cpu())
        checkpoints = dict(state.checkpoints)
        return FacetStep(state.index, self.recipe.steps, state.scores, state.alive, canvas, self.facets, checkpoints)

    def advance(self, state: State) -> State:
        recipe, index = self.recipe, state.index + 1

        def now(start: float, end: float) -> float:
            return scheduled(start, end, index, recipe.steps)

        if index % recipe.window_step == 0:
            state = self._moved(state)
        mask_sigma = now(recipe.start_mask_sigma, recipe.end_mask_sigma) * recipe.size / PUBLISHED_SIZE
        mask = gaussian_mask(recipe.size, recipe.size, mask_sigma).to(self.device)
        picture = state.picture
        if index % SMOOTH_EVERY == 0:
            blurred = filters.gaussian_blur(picture, now(recipe.start_sigma, recipe.end_sigma))
            picture = picture.lerp(blurred, mask)
        if index % recipe.brightness_step == 0:
            picture = (picture + BRIGHTER).clamp(0, 1)
        scores, gradient = self._gradient(picture, now(recipe.start_lambda, recipe.end_lambda))
        if not scores.isfinite().all():
            raise self._stopped(state, scores)
        size = gradient.square().flatten(1).mean(1).sqrt().view(-1, 1, 1, 1)
        gradient = gradient / size.clamp(min=1e-30) * mask
        velocity = MOMENTUM * state.velocity + gradient
        rate = STRIDE * now(recipe.start_lr, recipe.end_lr)
        picture = (picture + rate * (gradient + MOMENTUM * velocity)).clamp(0, 1)  # Nesterov's
        if index % SMOOTH_EVERY == 0:
            weight = now(recipe.start_denoise_weight, recipe.end_denoise_weight)
            picture = picture.lerp(filters.denoise_total_variation(picture, weight), mask)
        checkpoints = state.checkpoints
        if index % recipe.checkpoint_step == 0 or index == recipe.steps:
            checkpoints = checkpoints | {index: picture.cpu()}
        return replace(
            state,
            index=index,
            picture=picture,
            velocity=velocity,
            scores=scores.cpu(),
            alive=state.alive | size.flatten().gt(0).cpu(),
            checkpoints=checkpoints,
        )

    def _gradient(self, picture: Tensor, penalty_weight: float) -> tuple[Tensor, Tensor]:
        picture = picture.detach().requires_grad_()
        self.inputs.clear()
        with torch.enable_grad(), capture(self.network, self.recipe.layer, stop=True) as seen:
            self.network(picture)
            pooled = seen[self.recipe.layer].mean((2, 3))
            penalty = self.inputs[0].abs().flatten(1).sum(1)
            product = (pooled * self.excited).sum(1)
            scores = product - robust_distance(pooled, self.target) - penalty_weight * penalty
            (gradient,) = torch.autograd.grad(scores.sum(), picture)
        return scores.detach(), filters.favour_large_shapes(gradient, self.recipe.smoothness)

    def _moved(self, state: State) -> State:
        """What is in the window put back into the whole picture, and the window somewhere else."""
        recipe = self.recipe
        size = recipe.size
        whole = state.whole.clone()
        _window(whole, state.corner, size).copy_(state.picture)
        generator = torch.Generator()
        generator.set_state(state.random)
        free = whole.shape[2] - size
        draws = free / 2 + free * recipe.window * torch.randn(2, generator=generator)
        top, left = (int(place) for place in draws.clamp(0, free).tolist())
        return replace(
            state,
            whole=whole,
            corner=(top, left),
            picture=_window(whole, (top, left), size).to(self.device),
            velocity=torch.zeros_like(state.velocity),  # it belongs to the place before
            random=generator.get_state(),
        )

    def _stopped(self, state: State, scores: Tensor) -> NonFiniteScore:
        bad = [number for number, finite in enumerate(scores.isfinite().tolist()) if not finite]
        return NonFiniteScore(
            f"the score of facet {', '.join(map(str, bad))} is {scores[bad[0]].item()} at step {state.index + 1} of "
            f"{self.recipe.steps}. The last good pictures are kept. Check the network's weights for infinities.",
            self.step(state),
        )


def save_state(state: State, recipe: ClassAgnosticFeatures, path: str | Path) -> None:
    """Write a state, whole or not at all."""
    values = {name: getattr(state, name) for name in State.__dataclass_fields__}
    with images.replacing(Path(path).expanduser()) as temporary:
        torch.save({"recipe": recipe.model_dump(mode="json"), "state": values}, temporary)


def load_state(path: str | Path, recipe: ClassAgnosticFeatures, device: torch.device) -> State:
    """Read a state that `save_state` wrote for the same recipe.

    Raises:
        ValueError: the file is damaged or something else, or its recipe is another one (says where they differ).
    """
    try:
        document = torch.load(Path(path).expanduser(), map_location="cpu", weights_only=True)
        was, values = document["recipe"], document["state"]
        state = State(**values)
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is no saved run, or a damaged one: delete it to begin anew") from error
    now = recipe.model_dump(mode="json")
    other = [f"{name} = {was.get(name)!r}" for name in now if was.get(name) != now[name]]
    if other:
        raise ValueError(f"the run saved in {path} was made with {', '.join(other)}: give that, or another file")
    return replace(state, picture=state.picture.to(device), velocity=state.velocity.to(device))


def _window(whole: Tensor, corner: tuple[int, int], size: int) -> Tensor:
    top, left = corner
    return whole[:, :, top : top + size, left : left + size]
