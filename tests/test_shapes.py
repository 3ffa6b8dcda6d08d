"""The package's annotations are checked at every call that the tests make: types and shapes."""

import jaxtyping
import pytest
import torch

from nbhelpers import images


def test_a_wrong_rank_and_a_wrong_type_are_found_out() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="pictures 3"):
        images.resize(torch.rand(3, 8, 8), 4)
    with pytest.raises(jaxtyping.TypeCheckError, match="size"):
        images.resize(torch.rand(1, 3, 8, 8), "4")


def test_two_arguments_agree_in_what_they_share() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="photos"):
        images.overlays.overlay(torch.rand(2, 3, 8, 8), torch.rand(3, 8, 8))
