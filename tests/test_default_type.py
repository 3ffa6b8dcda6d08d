"""Every technique where somebody made float64 the default: nothing of the package may depend on it."""

from collections.abc import Iterator

import pytest
import torch
from same_on_every_device import CASES

from nbhelpers import models


@pytest.fixture
def by_default_float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:.* components were asked for")
@pytest.mark.usefixtures("by_default_float64")
def test_every_technique_where_float64_is_the_default(name: str) -> None:
    network = models.load("minivgg_robust", device="cpu")
    made = CASES[name][1](network)
    assert all(each.isfinite().all() for each in (*made.exact.values(), *made.reached.values()))
    if made.pictures is not None:
        assert made.pictures.isfinite().all()
