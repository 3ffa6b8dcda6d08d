"""Networks of the reader's own under a name."""

import pytest
from small_networks import tiny

from nbhelpers import models
from nbhelpers.models import Network


def test_what_was_offered_is_loaded_by_its_name():
    module = tiny()
    made = models.offer(module, "ours")
    try:
        assert models.load("ours") is made
        assert made.net is module
        other = models.offer(Network(tiny(), "ours", size=32))
        assert models.load("ours") is other
    finally:
        models.withdraw("ours")
    with pytest.raises(ValueError, match="no network is called 'ours'"):
        models.load("ours")


@pytest.mark.parametrize("name", ["", "minivgg", "vgg16"])
def test_a_name_that_is_taken_is_refused(name):
    with pytest.raises(ValueError, match="give another"):
        models.offer(tiny(), name)


def test_download_sizes_are_those_of_the_weights():
    assert models.download_size("vgg16") == pytest.approx(528, abs=1)
