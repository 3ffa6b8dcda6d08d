"""The saliency recipe: photos in, overlays out; nothing lost when a photo fails, nothing left behind."""

import threading

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import noise, outside, same_outside, tiny
from torch import nn

from nbhelpers import controls, images, models, recipes
from nbhelpers.attribution import pixel_maps
from nbhelpers.images import overlays
from nbhelpers.models import Network
from nbhelpers.techniques import saliency
from nbhelpers.techniques.saliency import Saliency

METHODS = ["gradient", "gradient x input", "smoothgrad", "integrated gradients", "guided backpropagation"]
CLASSES = ["cat", "dog", "tower, keep", "keep", "ship"]


@pytest.fixture
def network() -> Network:
    return Network(tiny().eval(), "tiny", classes=CLASSES, size=16)


@pytest.fixture
def folder(tmp_path):
    """Five photos: colour, grey, transparent, tall, tiny; and two files that are none."""
    values = (noise(5, 3, 40, 40) * 255).byte().permute(0, 2, 3, 1).numpy()
    Image.fromarray(values[0]).save(tmp_path / "a.png")
    Image.fromarray(values[1, :, :, 0]).save(tmp_path / "b.jpg")
    Image.fromarray(np.concatenate([values[2], values[2, :, :, :1]], 2)).save(tmp_path / "c.png")
    Image.fromarray(values[3, :, :17]).save(tmp_path / "d.bmp")
    Image.fromarray(values[4, :5, :5]).save(tmp_path / "e.png")
    (tmp_path / "f.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture either")
    return tmp_path


def small(folder, **changes) -> Saliency:
    return Saliency(**dict(photos=str(folder), photo_size=24, fit="crop", samples=3) | changes)


def test_the_maps_are_those_of_the_plain_gradient(network, folder):
    found = small(folder).run(network)
    assert found.photos.names == ["a.png", "b.jpg", "c.png", "d.bmp", "e.png"]
    assert list(found.photos.skipped) == ["f.png"]
    pixels = images.read_folder(folder, 24).pictures.requires_grad_()
    logits = network(pixels)
    own = logits.max(1)
    (gradient,) = torch.autograd.grad(own.values.sum(), pixels)
    assert torch.allclose(found.maps, gradient.abs().amax(1), rtol=1e-4, atol=1e-7)
    assert found.classes == own.indices.tolist()
    assert found.labels == [CLASSES[index] for index in found.classes]
    assert torch.allclose(found.scores, own.values, rtol=1e-5)
    assert torch.allclose(found.probabilities, logits.softmax(1).amax(1), rtol=1e-5)
    assert torch.allclose(found.picture, overlays.overlay(pixels.detach(), found.maps, 0.8, "magma"))


@pytest.mark.parametrize("method", METHODS)
def test_photos_in_batches_have_the_maps_they_have_together(network, folder, method):
    for sign in ("absolute", "signed"):
        recipe = small(folder, method=method, sign=sign, seed=3)
        together = recipe.run(network)
        steps = list(recipe.changed(batch_size=2).iterate(network))
        assert [(step.index, step.total, len(step.photos)) for step in steps] == [(2, 6, 2), (4, 6, 2), (6, 6, 1)]
        whole = recipe.joined(steps)
        assert torch.allclose(whole.maps, together.maps, rtol=1e-3, atol=together.maps.abs().max().item() * 1e-4)
        alone = recipe.one_picture(3, network)
        assert torch.allclose(alone, together.picture[3], atol=1e-3)
        assert (together.maps.min() < 0) == (sign == "signed")


def test_a_class_is_named_numbered_or_the_one_that_is_given(network, folder):
    by_name = small(folder, target="DOG").run(network)
    assert by_name.classes == [1] * 5
    assert by_name.labels == ["dog"] * 5
    for target in (1, "1", " dog "):
        assert torch.equal(small(folder, target=target).run(network).maps, by_name.maps)
    assert torch.equal(small(folder, target=0).run(network).maps, small(folder, target="cat").run(network).maps)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(target="doge"), "tiny knows no class 'doge'. Nearest: dog"),
        (dict(target=5), "tiny has 5 classes, 0 to 4: there is no class 5"),
        (dict(target=-1), "there is no class -1"),
        (dict(first=9), "holds 6 photos: there is no number 9"),
        (dict(colour_map="magna"), "no colour map 'magna'. Nearest: magma"),
        (dict(photos="nowhere"), "nowhere"),
    ],
)
def test_bad_input_says_what_is_wrong(network, folder, changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        small(folder, **changes).run(network)


def test_an_ambiguous_class_is_offered_its_meanings(folder):
    twice = Network(tiny().eval(), "tiny", classes=["crane", "crane", "dog", "cat", "ship"], size=16)
    with pytest.raises(ValueError, match=r"'crane' means several classes of tiny: 0 \(crane\), 1 \(crane\). Give the"):
        small(folder, target="crane").run(twice)


def test_a_network_without_a_head_or_of_another_size_is_refused(folder):
    body = Network(nn.Sequential(*list(tiny().eval())[:4]), "body", size=16)
    with pytest.raises(ValueError, match=r"body gives a tensor .*classifier head"):
        small(folder).run(body)
    fixed = Network(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)), "fixed", size=16)
    with pytest.raises(ValueError, match="fixed does not take pictures of 24 x 24 pixels"):
        small(folder).run(fixed)


class Touchy(nn.Module):
    """Breaks at photos that are all grey."""

    def __init__(self):
        super().__init__()
        self.net = tiny().eval()

    def forward(self, pictures):
        logits = self.net(pictures)
        grey = (pictures.amax(1) == pictures.amin(1)).flatten(1).all(1)
        return logits * torch.where(grey, torch.inf, 1.0)[:, None]


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_a_photo_that_fails_costs_only_itself(folder, batch_size):
    touchy = Network(Touchy().eval(), "touchy", size=16)
    found = small(folder, batch_size=batch_size, target=1).run(touchy)
    assert found.photos.names == ["a.png", "c.png", "d.bmp", "e.png"]
    assert list(found.failed) == ["b.jpg"]
    assert "infinite or not a number" in found.failed["b.jpg"]
    calm = small(folder, target=1).run(Network(tiny().eval(), "tiny", size=16))
    assert torch.allclose(found.maps, calm.maps[[0, 2, 3, 4]], rtol=1e-4, atol=1e-7)


def test_if_every_photo_fails_it_is_an_error(tmp_path):
    Image.new("L", (20, 20), 100).save(tmp_path / "grey.png")
    with pytest.raises(ValueError, match="infinite or not a number"):
        small(tmp_path, target=1).run(Network(Touchy().eval(), "touchy", size=16))


@pytest.mark.parametrize("method", METHODS)
def test_a_network_in_training_with_frozen_weights_without_gradients_works_and_stays_so(folder, method):
    network = Network(tiny().train(), "tiny", size=16)
    network.net.head.requires_grad_(False)
    before = outside(network)
    with torch.no_grad():
        found = small(folder, method=method).run(network)
    expected = small(folder, method=method).run(Network(tiny().eval(), "tiny", size=16))
    assert torch.allclose(found.maps, expected.maps, rtol=1e-4, atol=1e-7)
    assert same_outside(before, outside(network))


def test_a_broken_network_keeps_no_hook(folder):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = tiny()

        def forward(self, pictures):
            self.net(pictures)
            raise RuntimeError("broken on purpose")

    network = Network(Broken().train(), "broken", size=16)
    before = outside(network)
    for method in METHODS:
        with pytest.raises(ValueError, match="broken on purpose"):
            small(folder, method=method).run(network)
    assert same_outside(before, outside(network))


def test_files_carry_the_recipe_that_makes_them_again(network, folder, tmp_path):
    recipe = small(folder, method="smoothgrad", sign="signed", seed=2)
    found = recipe.run(network)
    paths = saliency.save(recipe, found, tmp_path / "out")
    assert len(paths) == 5
    assert recipes.from_picture(paths[3]) == recipe
    assert torch.equal((recipes.remake(paths[3], network) * 255).round(), (images.read(paths[3]) * 255).round())
    sheet = saliency.sheet(found, columns=3)
    assert sheet.width == 3 * saliency.LEGIBLE + 4


def test_methods_stand_beside_their_photo(network, folder):
    pictures = images.read_folder(folder, 96).pictures[:2]
    values = {name: torch.linspace(-1, 1, 96).expand_as(pictures) for name in ("gradient", "smoothgrad")}
    sheet = np.asarray(saliency.methods_sheet(pictures, values, ["gradient"])) / 255
    photo, strongest, _, signed = (sheet[:96, start : start + 96] for start in (0, 98, 196, 294))
    assert np.abs(photo - pictures[0].permute(1, 2, 0).numpy()).max() < 0.01
    assert np.abs(strongest[:, 0] - strongest[:, -1]).max() < 0.05  # as strong on either side
    assert signed[50, 5, 2] > signed[50, 5, 0]  # blue: against the class
    assert signed[50, -5, 0] > signed[50, -5, 2]


def test_opacity_and_colours_move_the_picture_and_not_the_map(network, folder):
    found = small(folder).run(network)
    clear = small(folder, opacity=0).run(network)
    green = small(folder, colour_map="viridis").run(network)
    assert torch.equal(clear.maps, found.maps)
    assert torch.equal(clear.picture, clear.photos.pictures)
    assert torch.equal(green.maps, found.maps)
    assert not torch.allclose(green.picture, found.picture)


def test_sliders_play_the_recipe(network, folder):
    player = controls.play(
        small(folder, count=2),
        ["method", "sign", "opacity", "colour_map", "first", "target"],
        network=network,
        draw=lambda recipe, step: saliency.sheet(step),
        options={"colour_map": ["", *overlays.COLOUR_MAPS]},
    )
    before = player.image.value
    other = next(name for name in CLASSES if name not in small(folder, first=3, count=2).run(network).labels)
    for name, value in [
        ("opacity", 0.2),
        ("method", "smoothgrad"),
        ("first", 3),
        ("target", other),
        ("sign", "signed"),
    ]:
        player.sliders[name].value = value
        player.wait(60)
        assert player.image.value != before, name
        assert getattr(player.recipe, name) == value
        before = player.image.value
    player.sliders["target"].value = "doge"
    player.wait(60)
    assert "Nearest: dog" in player.status.value
    assert not [thread for thread in threading.enumerate() if thread.name == "nbhelpers-play"]


def test_the_map_is_of_the_class_that_was_named():
    recipe = Saliency(photos="sample_images/coffee.jpg", target="espresso", network="minivgg_robust")
    network = models.load("minivgg_robust", device="cpu")
    found = recipe.run(network)
    assert found.maps[0, 8:64, 18:72].mean() > 1.2 * found.maps[0, 72:].mean()  # the cup, and what is below it
    named = pixel_maps.gradient(network, found.photos.pictures, "espresso")[1]
    assert torch.allclose(found.maps, pixel_maps.strongest(named), rtol=1e-5)


def test_a_network_that_forgets_is_looked_at_stage_by_stage() -> None:
    from scipy.stats import spearmanr

    from nbhelpers.attribution import pixel_maps, randomisation

    network, recipe = models.load("minivgg"), saliency.Saliency(stages=3)
    pictures, classes = torch.rand(2, 3, 32, 32), [3, 7]
    kinds = {"size": ("gradient", "absolute"), "sign": ("gradient", "signed")}
    stages, maps = saliency.forgetting(recipe, network, pictures, classes, kinds)
    assert stages[0] == "trained"
    assert {len(each) for each in maps.values()} == {len(stages)}
    _, gradient = pixel_maps.gradient(network, pictures, classes)
    assert torch.equal(maps["size"][0], gradient.abs().amax(1))
    assert torch.equal(maps["sign"][0], gradient.sum(1))
    for stage, (layer, forgetful) in enumerate(randomisation.cascade(network, 3, recipe.seed), 1):
        assert stages[stage] == layer
        _, gradient = pixel_maps.gradient(forgetful, pictures, classes)
        assert torch.allclose(maps["sign"][stage], gradient.sum(1), atol=1e-6)
    flat = [maps["sign"][stage][0].flatten().numpy() for stage in (0, -1)]
    alike = randomisation.rank_correlations(maps["sign"][0], maps["sign"][-1])[0].item()
    assert alike == pytest.approx(spearmanr(*flat).statistic, abs=1e-5)
