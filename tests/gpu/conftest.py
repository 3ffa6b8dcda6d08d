"""A GPU, or none and a reason.

`NBHELPERS_GPU_DEVICE=cpu` rehearses these tests without one: the processor is compared with itself, its weights off by
about as much as another device rounds.
"""

import os
from collections.abc import Iterator

import pytest
import torch

from nbhelpers import models
from nbhelpers.models import Network

ROUNDING = 2e-7


@pytest.fixture(scope="session")
def device() -> torch.device:
    name = os.environ.get("NBHELPERS_GPU_DEVICE", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU; NBHELPERS_GPU_DEVICE=cpu rehearses these tests without one")
    return torch.device(name)


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """The device, where it must be a real one."""
    if device.type != "cuda":
        pytest.skip("needs a GPU: a processor waits for nobody")
    return device


@pytest.fixture(autouse=True)
def _full_float32() -> Iterator[None]:
    """Convolutions and products in float32 proper: by default a GPU rounds what goes into a convolution to 11 bits."""
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [each.allow_tf32 for each in backends]
    for each in backends:
        each.allow_tf32 = False
    yield
    for each, allowed in zip(backends, before, strict=True):
        each.allow_tf32 = allowed


@pytest.fixture(scope="session")
def here() -> Network:
    return models.load("minivgg_robust", device="cpu")


@pytest.fixture(scope="session")
def there(device: torch.device) -> Network:
    network = models.load("minivgg_robust", device=device)
    if device.type == "cpu":
        generator = torch.Generator().manual_seed(0)
        for weights in network.parameters():
            weights.data *= 1 + ROUNDING * torch.randn(weights.shape, generator=generator)
    return network
