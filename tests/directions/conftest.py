"""Three crowds of photos, and a small network that looks at them."""

from pathlib import Path

import pytest
from PIL import Image
from small_networks import noise, tiny

from nbhelpers.models import Network


@pytest.fixture(scope="session")
def network() -> Network:
    return Network(tiny().eval(), "tiny", classes=["ant, insect", "bee", "cat", "dog", "elk"], size=16)


@pytest.fixture(scope="session")
def undecided() -> Network:
    """A network for which some places of the photos speak for each class, and others against it."""
    return Network(tiny(seed=8).eval(), "undecided", classes=["ant, insect", "bee", "cat", "dog", "elk"], size=16)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red, green and blue photos with some noise."""
    folder = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(["red", "green", "blue"]):
        pixels = 0.4 * noise(30, 30, 3, seed=number)
        pixels[..., number] += 0.6
        Image.fromarray((pixels * 255).byte().numpy()).save(folder / f"{name}.png")
    return folder
