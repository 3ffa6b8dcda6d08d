"""Shake the picture before each step, so that only what survives a small movement is drawn.

Jitter, scaling and rotation are composed into one affine map per picture and applied by one resampling per step:
three resamplings would blur three times and cost three times. Every picture draws from a generator of its own, so
a batch is shaken as one at a time is.
Source: Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017 (transformation robustness).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Transforms:
    """A random shift, scaling and rotation of each picture.

    Args:
        jitter: largest shift in pixels, in each direction.
        scale: largest relative change of size; 0.1 draws factors between 1 / 1.1 and 1.1.
        rotate: largest rotation in degrees, to either side.
        view: side in pixels of the square that is cut out, anywhere in the picture; 0 leaves the picture whole.
    """

    jitter: float = 0.0
    scale: float = 0.0
    rotate: float = 0.0
    view: int = 0

    def draw(self, generators: Sequence[torch.Generator], height: int, width: int) -> Float[Tensor, "pictures 2 3"]:
        """One affine map per generator, `(B, 2, 3)` from output to input coordinates in [-1, 1]."""
        draws = torch.stack([torch.rand(4, generator=generator) for generator in generators]) * 2 - 1
        angle = draws[:, 0] * math.radians(self.rotate)
        factor = torch.exp(draws[:, 1] * math.log1p(self.scale))
        sine, cosine = angle.sin() / factor, angle.cos() / factor
        shift_x, shift_y = draws[:, 2] * 2 * self.jitter / width, draws[:, 3] * 2 * self.jitter / height
        # in pixels the map is a rotation; in [-1, 1] coordinates a picture that is not square needs its aspect ratio
        aspect = height / width
        rows = [cosine, -sine * aspect, shift_x, sine / aspect, cosine, shift_y]
        if self.view:
            across, down = self.view / width, self.view / height  # share of the picture that a view shows
            free_x, free_y = (1 - across / factor).clamp(min=0), (1 - down / factor).clamp(min=0)
            shift_x, shift_y = shift_x + draws[:, 2] * free_x, shift_y + draws[:, 3] * free_y
            rows = [cosine * across, -sine * down * aspect, shift_x, sine * across / aspect, cosine * down, shift_y]
        return torch.stack(rows, dim=1).view(-1, 2, 3)

    def __call__(
        self, pictures: Float[Tensor, "pictures colours height width"], generators: Sequence[torch.Generator]
    ) -> Float[Tensor, "pictures colours seen_height seen_width"]:
        """Transformed pictures, `(B, 3, H, W)` as they came, or views of them, `(B, 3, view, view)`.

        What moves in from outside is a mirror image.
        """
        if not (self.jitter or self.scale or self.rotate or self.view):
            return pictures
        affine = self.draw(generators, *pictures.shape[2:]).to(pictures, non_blocking=True)
        sides = [self.view, self.view] if self.view else pictures.shape[2:]
        grid = F.affine_grid(affine, [*pictures.shape[:2], *sides], align_corners=False)
        return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
