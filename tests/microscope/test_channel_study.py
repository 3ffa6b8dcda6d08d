"""One channel as a recipe: its pictures are those of activation maximization, so a PNG of them is made again."""

from pathlib import Path

import torch
from small_networks import tiny

from nbhelpers import recipes
from nbhelpers.microscope.channel_study import ChannelStudy
from nbhelpers.models import Network

SAMPLES = str(Path(__file__).parents[2] / "sample_images")


def test_four_pictures_of_the_channel_from_its_recipe(tmp_path) -> None:
    network = Network(tiny().eval(), "tiny", size=32)
    recipe = ChannelStudy(photos=SAMPLES, layer="conv2", channel=3, size=32, steps=2)
    made = recipe.run(network).picture
    again = recipe.pictures().run(network).picture
    assert torch.equal(made, again)
    assert len(made) == 4
    assert recipe.pictures().channels == [3] * 4
    paths = recipes.save_pictures(recipe, made, list("abcd"), tmp_path)
    assert (recipes.remake(paths[2], network) - made[2]).abs().max() <= 0.5 / 255 + 1e-6
