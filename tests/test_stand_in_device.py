"""Every technique on a device that is none: what `tests/gpu` asks of a GPU, as far as a processor can tell."""

import pytest
import torch
from same_on_every_device import CASES, CLIMBS, differences, kinds
from stand_in_device import StandIn

from nbhelpers import models
from nbhelpers.models import Network


@pytest.fixture(scope="module")
def here() -> Network:
    return models.load("minivgg_robust", device="cpu")


def test_every_technique_is_compared() -> None:
    assert kinds() == {kind for kind, _ in CASES.values()}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:.* components were asked for")
def test_a_technique_follows_its_network(name: str, here: Network) -> None:
    make = CASES[name][1]
    with StandIn():
        elsewhere = make(models.load("minivgg_robust", device="meta"))
        assert differences(make(here), elsewhere) == []


@pytest.mark.parametrize("name", CLIMBS)
@pytest.mark.filterwarnings("ignore:.* components were asked for")
def test_a_step_waits_once(name: str) -> None:
    with StandIn() as device:
        steps = CLIMBS[name].iterate(models.load("minivgg_robust", device="meta"))
        next(steps)  # what is prepared once may wait
        for _ in range(4):
            device.waits.clear()
            next(steps)
            assert len(device.waits) == 1, device.waits


@pytest.mark.parametrize(
    "mistake",
    [
        lambda there: there + torch.ones(3),
        lambda there: torch.stack([there, torch.zeros(3)]),
        lambda there: there.numpy(),
    ],
)
def test_the_stand_in_refuses_what_a_gpu_refuses(mistake) -> None:
    with StandIn(), pytest.raises(RuntimeError):
        mistake(torch.ones(3).to("meta"))


@pytest.mark.parametrize(
    ("wait", "count"),
    [
        (lambda there: there.sum().item(), 1),
        (lambda there: there.cpu(), 1),
        (lambda there: there[there > 0], 1),
        (lambda there: there[[0, 2]], 1),
        (lambda there: there + torch.ones(3).to("meta"), 1),
        (lambda there: there + torch.ones(3).to("meta", non_blocking=True), 0),
        (lambda there: there[1:] * 2, 0),
    ],
)
def test_the_stand_in_knows_what_a_gpu_is_waited_for(wait, count: int) -> None:
    with StandIn() as device:
        there = torch.ones(3, device="meta")
        device.waits.clear()
        wait(there)
        assert len(device.waits) == count


def test_a_tensor_of_the_stand_in_does_not_outlive_it() -> None:
    with StandIn():
        there = torch.ones(3, device="meta")
    with pytest.raises(AssertionError, match="outlived"):
        there + 1
