"""MiniVGG: the small network that the package carries.

A VGG (Simonyan and Zisserman 2014) cut down to a few million weights: plain 3x3 convolutions, each followed by
a ReLU, in named blocks with a pooling between them, so that a learner can point at a layer (`block3.conv2`).
It is convolutional up to the pooled head, so any picture from 64 pixels up fits.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = ((96,), (192, 192), (352, 352), (512,))
POOLINGS = ("max", "stride", "blur")


class Blur(nn.Module):
    """Binomial blur, then every second pixel (Zhang 2019, "Making convolutional networks shift-invariant again")."""

    def forward(
        self, features: Float[Tensor, "pictures channels height width"]
    ) -> Float[Tensor, "pictures channels _ _"]:
        """`(B, C, H, W)` to `(B, C, ceil(H / 2), ceil(W / 2))`."""
        line = torch.tensor([0.25, 0.5, 0.25], dtype=features.dtype, device=features.device)
        kernel = (line.view(1, 1, 3, 1) * line).expand(features.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(features, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=features.shape[1])


def convolution(name: str, inputs: int, outputs: int, kernel: int, stride: int, norm: bool) -> OrderedDict:
    """One convolution with its ReLU; batch normalisation between them only while training."""
    suffix = name.removeprefix("conv")
    layers = OrderedDict()
    layers[name] = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=not norm)
    if norm:
        layers[f"norm{suffix}"] = nn.BatchNorm2d(outputs)
    layers[f"relu{suffix}"] = nn.ReLU()
    return layers


class MiniVGG(nn.Module):
    """Stem, blocks of 3x3 convolutions with max pooling between them, global average pooling, linear head.

    Args:
        widths: channels of each convolution, one sequence per block.
        stem: channels of the first convolution (5x5, stride 2).
        classes: number of logits.
        norm: batch normalisation after each convolution, as in training; the shipped weights have it folded in.
        pooling: between the blocks: "max" of 2x2, "stride" 2 in the block's last convolution, or "blur", the maximum
            at every place, blurred before every second is dropped. `tools/pooling.py` compares them.

    Raises:
        ValueError: an unknown pooling.
    """

    def __init__(
        self,
        widths: Sequence[Sequence[int]] = WIDTHS,
        stem: int = 32,
        classes: int = 100,
        norm: bool = False,
        pooling: str = "max",
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling is {pooling!r}; choose one of {', '.join(POOLINGS)}.")
        self.pooling = pooling
        self.stem = nn.Sequential(convolution("conv", 3, stem, 5, 2, norm))
        inputs = stem
        for number, block in enumerate(widths, start=1):
            layers = OrderedDict()
            shrinks = number < len(widths)
            for index, outputs in enumerate(block, start=1):
                stride = 2 if shrinks and pooling == "stride" and index == len(block) else 1
                layers |= convolution(f"conv{index}", inputs, outputs, 3, stride, norm)
                inputs = outputs
            if shrinks and pooling == "max":
                layers["pool"] = nn.MaxPool2d(2)
            if shrinks and pooling == "blur":
                layers["pool"] = nn.Sequential(nn.MaxPool2d(2, stride=1), Blur())
            self.add_module(f"block{number}", nn.Sequential(layers))
        self.blocks = [f"block{number}" for number in range(1, len(widths) + 1)]
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(inputs, classes)

    def forward(self, picture: Float[Tensor, "pictures 3 height width"]) -> Float[Tensor, "pictures classes"]:
        """Logits, shape `(B, classes)`, of normalised pictures `(B, 3, H, W)`."""
        features = self.stem(picture)
        for name in self.blocks:
            features = self.get_submodule(name)(features)
        return self.head(self.pool(features).flatten(1))
