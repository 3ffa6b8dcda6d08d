"""Steady convolutions against torch's in double precision, whatever they are given."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nbhelpers.ascent.convolution import SteadyConvolutions


@given(
    colours=st.sampled_from([1, 3, 4, 16]),
    maps=st.sampled_from([1, 2, 5, 16]),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pictures=st.integers(1, 3),
    sides=st.tuples(st.integers(9, 20), st.integers(9, 20)),
    biased=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
@settings(max_examples=80, deadline=None)
def test_numbers_and_gradients_are_those_of_torch(
    colours, maps, kernel, stride, padding, dilation, pictures, sides, biased, dtype
):
    source = torch.Generator().manual_seed(0)
    x = torch.randn(pictures, colours, *sides, generator=source).to(dtype).requires_grad_()
    weight = nn.Parameter(torch.randn(maps, colours, *kernel, generator=source).to(dtype), requires_grad=False)
    bias = torch.randn(maps, generator=source).to(dtype) if biased else None
    with SteadyConvolutions():
        made = F.conv2d(x, weight, bias, stride, padding, dilation)
    exact = x.detach().double().requires_grad_()
    right = F.conv2d(exact, weight.double(), None if bias is None else bias.double(), stride, padding, dilation)
    back = torch.randn(made.shape, generator=source).to(dtype)
    assert type(made.grad_fn).__name__ == "_ConvolutionBackward"
    near = 1e-5 if dtype is torch.float32 else 0.02
    (gradient,), (expected,) = torch.autograd.grad(made, x, back), torch.autograd.grad(right, exact, back.double())
    for found, known in ((made, right), (gradient, expected)):
        assert (found.double() - known).abs().max() <= near * known.abs().max().clamp(min=1)


def test_one_kernel_goes_back_through_every_stride_and_padding():
    weight, x = nn.Parameter(torch.randn(4, 3, 3, 3), requires_grad=False), torch.randn(1, 3, 12, 12).requires_grad_()
    steady = SteadyConvolutions()
    for stride, padding in ((1, 0), (2, 1), (1, 4)):
        with steady:
            made = F.conv2d(x, weight, None, stride, padding)
        expected = F.conv2d(x, weight, None, stride, padding)
        for found, known in zip(*(torch.autograd.grad(each.sin().sum(), x) for each in (made, expected)), strict=True):
            torch.testing.assert_close(found, known, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("colours", "groups"), [(8, 1), (8, 8), (8, 2)])
def test_what_is_steady_already_is_torchs_own(colours, groups):
    x, weight = torch.randn(1, colours, 60, 60, requires_grad=True), torch.randn(8, colours // groups, 3, 3)
    with SteadyConvolutions():
        made = F.conv2d(x, weight, None, 1, 1, 1, groups)
    expected = F.conv2d(x, weight, None, 1, 1, 1, groups)
    assert type(made.grad_fn) is type(expected.grad_fn)
    torch.testing.assert_close(made, expected, rtol=0, atol=0)


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
    assert not steady._ways_back
