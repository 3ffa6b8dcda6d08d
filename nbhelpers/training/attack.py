"""Adversarial pictures inside an L2 ball: what a robust network is trained on and measured with.

Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks": projected gradient ascent on the
loss. With one step from a random start it is the cheap attack of Wong, Rice and Kolter 2020, "Fast is better than
free". Robust networks have gradients that people can read (Engstrom et al. 2019), which is why one is bundled.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor


def attack(
    network: Callable[[Shaped[Tensor, "..."]], Shaped[Tensor, "..."]],
    pictures: Float[Tensor, "pictures 3 height width"],
    labels: Int[Tensor, " pictures"],
    radius: float,
    steps: int,
    generator: torch.Generator,
) -> Float[Tensor, "pictures 3 height width"]:
    """Move each picture within an L2 ball so that the loss of its label grows.

    The weights should be frozen (`requires_grad_(False)`): their gradient is never used here and a third of the work.

    Args:
        network: pictures to logits, `(B, 3, H, W)` to `(B, classes)`.
        pictures: `(B, 3, H, W)` in [0, 1].
        labels: `(B,)`.
        radius: of the ball, in units of [0, 1] pixels over the whole picture.
        steps: gradient steps; one is a full radius long, more are 2.5 radius / steps each.
        generator: draws the random start.

    Returns:
        `(B, 3, H, W)` in [0, 1], each within `radius` of its picture.
    """
    if radius == 0:
        return pictures
    length = radius if steps == 1 else 2.5 * radius / steps
    change = torch.randn(pictures.shape, generator=generator, device=generator.device).to(pictures)
    # uniform lengths, not uniform in the ball: smaller radii are trained on too
    lengths = radius * torch.rand(len(pictures), 1, 1, 1, generator=generator, device=generator.device).to(pictures)
    change = change / _norm(change) * lengths
    for _ in range(steps):
        moved = (pictures + change).clamp(0, 1).requires_grad_()
        with torch.enable_grad():
            loss = F.cross_entropy(network(moved).float(), labels, reduction="sum")
            (slope,) = torch.autograd.grad(loss, moved)
        change = moved.detach() - pictures + length * slope / _norm(slope)
        change = change * (radius / _norm(change)).clamp(max=1)
    return (pictures + change).clamp(0, 1)


def _norm(change: Tensor) -> Tensor:
    return change.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
