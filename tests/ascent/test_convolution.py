"""Steady convolutions against torch's in double precision, whatever they are given."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nbhelpers.ascent.convolution import SteadyConvolutions


@given(
    colours=st.sampled_from([(1, 3), (1, 16), (3, 3), (2, 8), (8, 8)]),
    maps=st.sampled_from([1, 2, 5]),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pictures=st.integers(1, 3),
    sides=st.tuples(st.integers(9, 20), st.integers(9, 20)),
    biased=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_numbers_and_gradients_are_those_of_torch(
    colours, maps, kernel, stride, padding, dilation, pictures, sides, biased
):
    (groups, each), rest = colours, (stride, padding, dilation, colours[0])
    source = torch.Generator().manual_seed(0)
    x = torch.randn(pictures, groups * each, *sides, generator=source).requires_grad_()
    weight = nn.Parameter(torch.randn(groups * maps, each, *kernel, generator=source), requires_grad=False)
    bias = torch.randn(groups * maps, generator=source) if biased else None
    with SteadyConvolutions():
        made = F.conv2d(x, weight, bias, *rest)
    exact = x.detach().double().requires_grad_()
    right = F.conv2d(exact, weight.double(), None if bias is None else bias.double(), *rest)
    back = torch.randn(made.shape, generator=source)
    assert type(made.grad_fn).__name__ == "_ConvolutionBackward"
    torch.testing.assert_close(made.double(), right, rtol=1e-4, atol=1e-4)
    (gradient,), (expected,) = torch.autograd.grad(made, x, back), torch.autograd.grad(right, exact, back.double())
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_in_a_word_is_torchs_own(padding):
    x, weight = torch.randn(1, 3, 9, 9), torch.randn(4, 3, 3, 3)
    with SteadyConvolutions():
        made = F.conv2d(x, weight, padding=padding)
    torch.testing.assert_close(made, F.conv2d(x, weight, padding=padding), rtol=0, atol=0)


def test_weights_that_learn_have_their_gradient():
    x, layer = torch.randn(1, 3, 9, 9), nn.Conv2d(3, 4, 3)
    with SteadyConvolutions():
        layer(x).sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((4,), 49.0))
    torch.testing.assert_close(layer.weight.grad[0], F.unfold(x, 3).sum(2).view(3, 3, 3), rtol=1e-4, atol=1e-4)


def test_weights_that_are_made_anew_in_every_pass_are_not_kept():
    steady, x = SteadyConvolutions(), torch.randn(1, 3, 9, 9, requires_grad=True)
    for _ in range(3):
        with steady:
            F.conv2d(x, torch.randn(4, 3, 3, 3)).sum().backward()
    assert not steady._turned
