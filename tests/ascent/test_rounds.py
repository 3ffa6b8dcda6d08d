"""Rounds: what would not fit into the machine is said before the first step, what fits is not refused."""

import pytest

from nbhelpers.techniques.activation_maximization import ActivationMaximization
from nbhelpers.techniques.class_pictures import ClassPictures


@pytest.mark.parametrize("kind", [ActivationMaximization, ClassPictures])
def test_a_climb_that_cannot_be_held_is_refused_before_the_first_step(kind) -> None:
    recipe = kind(size=512, rounds=16, upscale_factor=2)
    with pytest.raises(ValueError, match=r"a side of 16,777,216 pixels needs about [\d,]+ GB, and this machine has"):
        next(recipe.iterate())


def test_a_large_climb_that_fits_begins() -> None:
    recipe = ActivationMaximization(size=32, rounds=4, upscale_factor=2, steps=1, channels=[5])
    assert next(recipe.iterate()).index == 1
