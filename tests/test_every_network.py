"""Every technique on every kind of network: numbers as in float64, or a refusal; and on networks nobody thought of."""

from collections.abc import Callable

import pytest
import torch
from every_network import GREY, NETWORKS, PAGE, TECHNIQUES, Case, outcome, page, run
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn


@pytest.mark.parametrize("network", NETWORKS)
def test_numbers_as_in_float64_or_a_refusal(network: str) -> None:
    reasons = {technique: outcome(network, technique) for technique in TECHNIQUES}
    assert all(len(reason) > 30 for reason in reasons.values() if reason), reasons


def test_the_page_tells_what_works() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python tests/every_network.py writes it anew"


class Block(nn.Module):
    """A convolution with what a drawn network puts around it: a norm, an activation, a shortcut, a shared weight."""

    def __init__(self, conv: nn.Module, norm: nn.Module, activation: nn.Module, shortcut: bool, again: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.activation, self.shortcut, self.again = conv, norm, activation, shortcut, again

    def forward(self, features: Tensor) -> Tensor:
        seen = self.activation(self.norm(self.conv(features)))
        seen = self.activation(self.conv(seen)) if self.again else seen
        return seen + features if self.shortcut else seen


class Drawn(nn.Module):
    """Blocks, nested or in a row, and a head; its logits come in some wrapping."""

    def __init__(self, blocks: nn.Module, width: int, wrap: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.blocks, self.head, self.wrap = blocks, nn.Linear(width, 4), wrap

    def forward(self, pictures: Tensor) -> object:
        return self.wrap(self.head(self.blocks(pictures).mean((2, 3))))


ACTIVATIONS = [nn.ReLU, lambda: nn.ReLU(inplace=True), nn.ReLU6, nn.SiLU, nn.GELU, nn.Tanh, nn.LeakyReLU, nn.Hardswish]
NORMS = [
    nn.Identity,
    nn.BatchNorm2d,
    lambda width: nn.GroupNorm(2, width),
]
WRAPS = {
    "bare": (lambda logits: logits, lambda given: given),
    "tuple": (lambda logits: (logits, logits.sum()), lambda given: given[0]),
    "dictionary": (lambda logits: {"aux": logits.mean(), "logits": logits}, lambda given: given["logits"]),
}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    colours, width = draw(st.sampled_from([3, 1])), 8
    torch.manual_seed(draw(st.integers(0, 100)))
    blocks: nn.Module = nn.Sequential()
    for index in range(draw(st.integers(1, 3))):
        stride, before = draw(st.sampled_from([1, 2])), width if index else colours
        plain = stride == 1 and before == width
        conv = nn.Conv2d(before, width, draw(st.sampled_from([1, 3])), stride, "valid" if stride == 2 else "same")
        norm, activation = draw(st.sampled_from(NORMS))(width), draw(st.sampled_from(ACTIVATIONS))()
        block = Block(conv, norm, activation, plain and draw(st.booleans()), plain and draw(st.booleans()))
        blocks = nn.Sequential(blocks, block) if draw(st.booleans()) else blocks.append(block)
    wrap, logits = WRAPS[draw(st.sampled_from(sorted(WRAPS)))]
    net = Drawn(blocks, width, wrap)
    if draw(st.booleans()):
        net = net.double()
    names = [name for name, module in net.named_modules() if isinstance(module, Block)]
    size = draw(st.tuples(st.integers(24, 40), st.integers(24, 40)))
    seen = (lambda x: (x * GREY).sum(1, keepdim=True)) if colours == 1 else (lambda x: x)
    return Case(net, size, draw(st.sampled_from(names)), seen, logits)


POOR = ("components are shown", "are the same everywhere", "is silent", "no gradient reaches")
"""What is said of a layer that chance left dead, or with less than three channels that differ."""


@settings(max_examples=15)
@given(case=cases(), technique=st.sampled_from(sorted(set(TECHNIQUES) - {"facets", "fine-tuning", "filter gradients"})))
def test_networks_nobody_thought_of(case: Case, technique: str) -> None:
    reason = run(case, technique)
    assert not reason or any(cause in reason for cause in POOR), reason
