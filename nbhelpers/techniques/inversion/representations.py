"""Representations: what a layer makes of a photo, how far a picture's is from it, and what photographs are like.

A representation does not say which picture it came from: many share it. Of those, the one most like a photograph is
looked for, so beside the distance (`feature_distance`) stand two priors, `alpha_norm` and `variation`. All three are
numbers without a unit, 0 at best and around 1 for a picture that has nothing to do with the photo, or for an
ordinary photograph: one set of weights suits every layer, network and picture size.
Source: Mahendran, Vedaldi, "Understanding Deep Image Representations by Inverting Them", CVPR 2015.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from nbhelpers import edge, models
from nbhelpers.ascent.canvas import natural_images
from nbhelpers.ascent.objectives import OUTPUT, PICTURE, Objective
from nbhelpers.models import capture, refusal

HALF_RANGE = 0.5  # B in the paper: how far a pixel is from the mean at most
# a * B in the paper: an ordinary step from one pixel to the next. The paper has a = 1 %; photographs have more: over 36
# of them the median of the root mean square is 0.08 at 224 pixels, and 0.10 at 96.
STEP = 0.08


@dataclass(frozen=True)
class Representation:
    """What a layer makes of a batch of photos.

    Attributes:
        layer: dotted name; "" is the network's own output.
        features: `(B, C, H, W)` or `(B, C)`, float32.
        counts: `(B, C)`, True for the channels that are looked at.
    """

    layer: str
    features: Float[Tensor, "photos ..."]
    counts: Bool[Tensor, "photos channels"]

    @property
    def mask(self) -> Shaped[Tensor, "photos channels ..."]:
        """1 for the channels that count and 0 for the others, to multiply features with."""
        return self.counts.float().reshape(*self.counts.shape, *[1] * (self.features.ndim - 2))

    @property
    def energy(self) -> Float[Tensor, " photos"]:
        """Squared norm of the channels that count, `(B,)`."""
        return (self.features * self.mask).flatten(1).square().sum(1)

    def of(self, index: int) -> Representation:
        """That of one photo."""
        return Representation(self.layer, self.features[index : index + 1], self.counts[index : index + 1])

    def blended(self, other: Representation, mix: float) -> Representation:
        """`(1 - mix) * this + mix * other`: the representation halfway to another's, which no photo may have."""
        return Representation(self.layer, torch.lerp(self.features, other.features, mix), self.counts)

    def only(self, channels: Sequence[int]) -> Representation:
        """The same where nothing but these channels counts.

        Raises:
            ValueError: there is no such channel (says how many there are).
        """
        count = self.counts.shape[1]
        wrong = [channel for channel in channels if not 0 <= channel < count]
        if wrong:
            raise ValueError(
                f"layer {self.layer!r} has {count} channels, 0 to {count - 1}: there is no channel {edge.few(wrong)}"
            )
        counts = torch.zeros_like(self.counts)
        counts[:, list(channels)] = True
        return Representation(self.layer, self.features, counts)

    def strongest(self, number: int) -> Representation:
        """The same where nothing but the channels with the largest norm counts, so many for each photo."""
        energies = self.features.reshape(*self.counts.shape, -1).square().sum(2)
        best = energies.topk(min(number, energies.shape[1]), dim=1).indices
        return Representation(self.layer, self.features, torch.zeros_like(self.counts).scatter(1, best, True))


@torch.no_grad()
def represent(network: nn.Module, layer: str, photos: Float[Tensor, "photos 3 height width"]) -> Representation:
    """What a layer makes of photos, from a single forward pass.

    Args:
        network: a `Network` or any module.
        layer: dotted name of any layer that gives one tensor per picture; "" for the logits.
        photos: `(B, 3, H, W)` in [0, 1].

    Raises:
        KeyError: the layer is unknown. ValueError: it gives no feature maps and no list of numbers, or the photos are
            too small for it.
    """
    network = models.as_network(network)
    models.find_module(network, layer)
    photos = photos.to(network.mean.device)
    try:
        features = capture(network, layer, stop=True).alone(photos)[layer]
    except Exception as error:  # of the network, whatever it is
        if layer != OUTPUT:
            models.check_layer(network, layer, tuple(photos.shape[-2:]))  # says the least size
        raise refusal(network, tuple(photos.shape[-2:]), error) from error
    if not isinstance(features, Tensor) or features.ndim not in (2, 4) or len(features) != len(photos):
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(
            f"layer {layer!r} of {network.name} gives {shape}: expected feature maps (B, channels, height, width) or "
            "numbers (B, channels). layers(network) lists those with feature maps"
        )
    if not features.isfinite().all():
        raise ValueError(
            f"layer {layer!r} of {network.name} gives values that are infinite or no numbers: "
            "check the network's weights"
        )
    counts = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
    return Representation(layer, features.float(), counts)


def feature_distance(target: Representation) -> Objective:
    """Squared distance of a picture's representation from the target, in units of the target's own squared norm.

    0 for the photo itself and 1 for a picture whose features are all zero: `||phi(x) - phi0||^2 / ||phi0||^2`
    (Mahendran and Vedaldi 2015, section 2.3), over the channels that count.

    Raises:
        ValueError: the channels that count are silent for a photo: there is nothing to be near to.
    """
    mask, energy = target.mask, target.energy
    if not (energy > 0).all():
        silent = energy.eq(0).nonzero()[:, 0].tolist()
        raise ValueError(
            f"the chosen channels of layer {target.layer!r} are silent for photo {edge.few(silent)}: "
            "there is nothing to invert. Choose channels that respond to it"
        )
    whole = bool(target.counts.all())

    def score(seen: Mapping[str, Tensor]) -> Tensor:
        found = seen[target.layer].float()
        if found.shape != target.features.shape:
            raise ValueError(
                f"layer {target.layer!r} gives {tuple(found.shape)}, but the target is {tuple(target.features.shape)}: "
                "pictures and photos must be as many and of one size"
            )
        difference = found - target.features
        return (difference if whole else difference * mask).flatten(1).square().sum(1) / energy

    return Objective(
        [target.layer],
        score,
        f"feature_distance({target.layer!r})",
        lambda index: feature_distance(target.of(index)),
        len(target.features),
    )


def alpha_norm(alpha: float = 6.0) -> Objective:
    """Mean of `|x / B|^alpha` over pixels and colours, x counted from the mean colour of photographs and B = 0.5.

    Small inside the range and steep at its ends: it keeps pixels from running away. In the paper's terms it is
    `lambda * ||x||_alpha^alpha` with the lambda that section 2.3 chooses, `sigma^alpha / (H W B^alpha)`, divided by
    the three colours.
    """

    def score(seen: Mapping[str, Tensor]) -> Tensor:
        picture = seen[PICTURE]
        mean = natural_images()["mean"].to(picture, non_blocking=True).view(3, 1, 1)
        return _mean_powers(((picture - mean) / HALF_RANGE).abs(), alpha)

    return Objective([], score, f"alpha_norm({alpha:g})", lambda index: alpha_norm(alpha))


def variation(beta: float = 2.0) -> Objective:
    """Mean of `(|step| / s)^beta` over pixels and colours: total variation, 1 for an ordinary photograph.

    `|step|` is the length of the way to the next pixel below and to the right, `s` = 0.08 what it commonly is in
    photographs. In the paper's terms (sections 2.2 and 2.3) it is `lambda * sum |step|^beta` with
    `lambda = sigma^beta / (H W (a B)^beta)` and `a B` = 0.08, divided by the three colours. Beyond the border there is
    no step, as in the authors' code.
    """

    def score(seen: Mapping[str, Tensor]) -> Tensor:
        picture = seen[PICTURE]
        down = F.pad(picture.diff(dim=2), (0, 0, 0, 1))
        right = F.pad(picture.diff(dim=3), (0, 1))
        squares = (down.square() + right.square()) / STEP**2
        # no step has no direction: below beta = 2 the gradient there would be infinite
        return _mean_powers(squares.clamp(min=1e-10), beta / 2)

    return Objective([], score, f"variation({beta:g})", lambda index: variation(beta))


def inversion(
    target: Representation, alpha_weight: float, tv_weight: float, alpha: float, beta: float, feature_weight: float = 1
) -> Objective:
    """What an inversion maximises: minus the distance, minus both priors (Mahendran and Vedaldi 2015, section 2.3)."""
    return -feature_weight * feature_distance(target) - alpha_weight * alpha_norm(alpha) - tv_weight * variation(beta)


def _mean_powers(numbers: Tensor, exponent: float) -> Tensor:
    """Mean power of each picture's numbers; each alone, as torch raises a batch's last ones in another way."""
    return torch.stack([each.pow(exponent).mean() for each in numbers])
