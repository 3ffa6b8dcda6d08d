"""The whole technique: photos come back where nothing is lost, batches, blends, subsets, and what does not fit."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import noise, outside, same_outside, tiny
from torch import nn
from torchvision.models import vgg11, vgg16, vgg16_bn

from nbhelpers import images, models, recipes
from nbhelpers.ascent import generators, measure
from nbhelpers.ascent.canvas import Pixels
from nbhelpers.models import Network
from nbhelpers.techniques import inversion as technique
from nbhelpers.techniques.inversion import Inversion
from nbhelpers.techniques.inversion.representations import STEP, feature_distance, represent

CAT, COFFEE = "sample_images/cat.jpg", "sample_images/coffee.jpg"
SMALL = {"layer": "conv2", "photos": CAT, "second": COFFEE, "size": 24, "steps": 12}


@pytest.fixture
def network() -> Network:
    return Network(tiny().eval(), "tiny", size=32)


@pytest.fixture(scope="module")
def minivgg() -> Network:
    return models.load("minivgg_robust", device="cpu")


@pytest.fixture
def two(tmp_path):
    """A folder with two of the sample photos, and a file that is none."""
    for path in (CAT, COFFEE):
        shutil.copy(path, tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    return tmp_path


def _psnr(picture, photo) -> float:
    return -10 * np.log10(((picture - photo).double() ** 2).mean().item())


def _isometry(outputs: int) -> Network:
    """A 1x1 convolution whose weights have orthonormal columns: nothing of a pixel is lost."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        matrix = torch.linalg.qr(torch.randn(outputs, outputs)).Q[:, :3]
    conv = nn.Conv2d(3, outputs, 1)
    with torch.no_grad():
        conv.weight.copy_(matrix[:, :, None, None])
        conv.bias.copy_(torch.linspace(-0.5, 0.5, outputs))
    return Network(nn.Sequential(conv), "isometry", size=32)


# Where nothing is lost the photo comes back.


@pytest.mark.parametrize("outputs", [3, 8])
@pytest.mark.parametrize("start", ["noise", "mean"])
def test_a_network_that_can_be_inverted_gives_the_photo_back_at_40_db(outputs, start):
    recipe = Inversion(layer="0", photos=COFFEE, size=32, steps=200, tv_weight=0, alpha_weight=0, start=start)
    step = recipe.run(_isometry(outputs))
    photo = images.read(COFFEE, 32)
    assert _psnr(step.picture[0], photo) > 40
    assert step.errors.item() < 1e-4
    assert _psnr(technique.first_canvas(recipe, photo[None]).picture().detach()[0], photo) < 15


def test_a_network_that_keeps_brightness_alone_gives_the_brightness_back_and_not_the_colours():
    grey = nn.Conv2d(3, 1, 1, bias=False)
    with torch.no_grad():
        grey.weight.fill_(1 / 3)
    recipe = Inversion(layer="0", photos=COFFEE, size=32, steps=200, tv_weight=0, alpha_weight=0)
    picture, photo = recipe.run(Network(nn.Sequential(grey), "grey", size=32)).picture[0], images.read(COFFEE, 32)
    assert _psnr(picture.mean(0), photo.mean(0)) > 40
    assert _psnr(picture, photo) < 32


def test_an_inversion_is_adam_on_the_papers_objective_by_hand(network):
    recipe = Inversion(**SMALL).changed(canvas="pixels", steps=20, tv_weight=0.3, alpha_weight=0.2, learning_rate=0.02)
    steps = list(recipe.iterate(network))
    photo = images.read(CAT, 24)[None]
    with torch.no_grad():
        target = network.net.conv2(network.net.conv1(photo).relu())
    picture = Pixels.random(24, 24, generators([0])).picture().detach().clone()
    mean = torch.tensor(np.load("nbhelpers/ascent/natural_images.npz")["mean"], dtype=torch.float32).view(3, 1, 1)
    losses = []
    for count, rate, smoothness in [(5, 0.02, 60), (4, 0.015, 16), (7, 0.01, 1), (4, 0.0025, 1)]:
        picture = picture.detach().requires_grad_()
        optimiser = torch.optim.Adam([picture], lr=rate, eps=1e-12)
        for _ in range(count):
            found = network.net.conv2(network.net.conv1(picture).relu())
            down = torch.cat([picture[:, :, 1:], picture[:, :, -1:]], 2) - picture
            right = torch.cat([picture[..., 1:], picture[..., -1:]], 3) - picture
            loss = (
                (found - target).square().sum() / target.square().sum()
                + smoothness * 0.3 * (down**2 + right**2).mean() / STEP**2
                + 0.2 * ((picture - mean) / 0.5).pow(6).mean()
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                picture.clamp_(0, 1)
            losses.append(-loss.item())
    assert np.allclose([step.scores.item() for step in steps], losses, rtol=1e-3)
    assert (steps[-1].picture - picture.detach()).abs().max() < 2e-3
    assert [step.index for step in steps] == list(range(1, 21))
    assert {step.total for step in steps} == {20}


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 80, 300])
def test_the_rounds_make_all_steps_at_falling_rates_and_end_at_the_recipes_weights(steps):
    plan = technique.plan(steps)
    assert sum(count for count, _ in plan) == steps
    assert all(count > 0 for count, _ in plan)
    rates = [part.rate for _, part in plan]
    assert rates == sorted(rates, reverse=True)
    assert steps < 4 or rates[0] == 1
    assert steps < 10 or [part.smoothness for _, part in plan] == [60, 16, 1, 1]


# The target is computed once, and no further than the layer.


@pytest.mark.parametrize(("changes", "passes"), [({}, 1), ({"mix": 0.5}, 2), ({"kept": 2}, 1)])
def test_the_targets_features_are_computed_once(network, changes, passes):
    calls = {"conv2": 0, "head": 0}
    for name in calls:
        module = network.net.get_submodule(name)
        module.register_forward_hook(lambda *_, name=name: calls.__setitem__(name, calls[name] + 1))
    recipe = Inversion(**SMALL).changed(**changes)
    recipe.run(network)
    assert calls == {"conv2": recipe.steps + passes, "head": 0}


def test_the_network_is_left_as_it_was(network):
    network.train()
    network.requires_grad_(True)
    before = outside(network)
    running = Inversion(**SMALL).iterate(network)
    next(running)
    running.close()
    Inversion(**SMALL).run(network)
    assert same_outside(before, outside(network))


def test_under_no_grad_it_works_the_same(network):
    usual = Inversion(**SMALL).run(network).picture
    with torch.no_grad():
        assert torch.equal(Inversion(**SMALL).run(network).picture, usual)


# One at a time, all at once, and again.


def test_a_batch_gives_the_pictures_of_one_at_a_time(minivgg, two):
    recipe = Inversion(layer="block2.conv1", photos=str(two), second=COFFEE, size=48, steps=10, kept=20)
    together = recipe.run(minivgg)
    assert together.photos.names == ["cat.jpg", "coffee.jpg"]
    assert list(together.photos.skipped) == ["broken.jpg"]
    for index, name in enumerate(together.photos.names):
        alone = recipe.changed(photos=str(two / name)).run(minivgg)
        assert torch.allclose(alone.scores[0], together.scores[index], rtol=2e-3)
        assert torch.allclose(alone.errors[0], together.errors[index], rtol=5e-3)
        assert (alone.picture[0] - together.picture[index]).abs().mean() < 0.005
    assert (together.picture[0] - together.picture[1]).abs().mean() > 0.04
    assert len(recipe.changed(batch=1).run(minivgg).picture) == 1


def test_the_same_seed_gives_the_same_picture_bit_for_bit(network):
    recipe = Inversion(**SMALL)
    assert torch.equal(recipe.run(network).picture, recipe.run(network).picture)
    assert (recipe.changed(seed=1).run(network).picture - recipe.run(network).picture).abs().mean() > 0.005


def test_the_start_knows_nothing_of_the_photo():
    recipe = Inversion(size=32)
    for start in ("noise", "mean"):
        starts = [
            technique.first_canvas(recipe.changed(start=start), noise(2, 3, 32, 32, seed=seed)).picture().detach()
            for seed in (1, 2)
        ]
        assert torch.equal(*starts)
        assert torch.equal(starts[0][0], starts[0][1])
        spread = starts[0].std((2, 3)).max()
        assert spread < 1e-5 if start == "mean" else 0.005 < spread < 0.2


# Which channels, which photo.


def test_only_the_chosen_channels_are_matched(minivgg):
    recipe = Inversion(layer="block2.conv1", photos=CAT, size=48, steps=40)
    few, rest = [3, 20, 77], [channel for channel in range(128) if channel not in (3, 20, 77)]
    step = recipe.changed(channels=few).run(minivgg)
    whole = represent(minivgg, recipe.layer, step.photos.pictures)
    measured = [measure(minivgg, feature_distance(whole.only(each)), step.picture).item() for each in (few, rest)]
    assert step.errors.item() == pytest.approx(measured[0], rel=1e-4)
    assert measured[0] < 0.05
    assert measured[1] > 5 * measured[0]


def test_kept_takes_the_channels_with_the_largest_norm(minivgg):
    recipe = Inversion(layer="block2.conv1", photos=CAT, size=48)
    photo = images.read(CAT, 48)[None]
    target = technique.representation(recipe.changed(kept=10), minivgg, photo)
    norms = target.features.double().square().sum((0, 2, 3))
    assert set(target.counts[0].nonzero()[:, 0].tolist()) == set(norms.argsort(descending=True)[:10].tolist())
    every = technique.representation(recipe.changed(kept=1000), minivgg, photo)
    assert every.counts.all()


def test_a_blend_is_nearer_to_the_photo_that_has_the_larger_share(minivgg):
    recipe = Inversion(layer="block2.conv1", photos=CAT, second=COFFEE, size=48, steps=40)
    cat, coffee = images.read(CAT, 48), images.read(COFFEE, 48)
    mostly_cat, mostly_coffee = (recipe.changed(mix=mix).run(minivgg).picture[0] for mix in (0.15, 0.85))
    assert _psnr(mostly_cat, cat) > _psnr(mostly_cat, coffee) + 2
    assert _psnr(mostly_coffee, coffee) > _psnr(mostly_coffee, cat) + 2
    whole = technique.representation(recipe.changed(mix=1.0), minivgg, cat[None])
    alone = technique.representation(recipe.changed(photos=COFFEE), minivgg, coffee[None])
    assert torch.allclose(whole.features, alone.features, atol=1e-5)


def test_a_reconstruction_is_nearest_to_its_own_photo(minivgg):
    photos = images.read_folder("sample_images", 48)
    few = images.Photos(photos.pictures[[0, 2, 3]], [photos.names[index] for index in (0, 2, 3)])
    recipe = Inversion(layer="block3.relu1", size=48, steps=40)
    for step in technique.invert(recipe, minivgg, few):  # noqa: B007
        pass
    assert [order[0] for order in technique.nearest(step.picture, photos.pictures)] == [0, 2, 3]
    for order, picture in zip(technique.nearest(step.picture, photos.pictures), step.picture, strict=True):
        found = [np.corrcoef(picture.flatten().numpy(), photo.flatten().numpy())[0, 1] for photo in photos.pictures]
        assert order == np.argsort(found)[::-1].tolist()


def test_without_the_features_the_priors_draw_nothing(minivgg):
    picture = Inversion(photos=CAT, size=48, steps=40, feature_weight=0).run(minivgg).picture
    assert picture.std((2, 3)).max() < 0.02


def test_logits_can_be_inverted(minivgg):
    step = Inversion(layer="", photos=CAT, size=64, steps=25).run(minivgg)
    photo = images.read(CAT, 64)[None]
    with torch.no_grad():
        wanted, found = minivgg(photo), minivgg(step.picture)
    error = ((wanted - found).square().sum() / wanted.square().sum()).item()
    assert step.errors.item() == pytest.approx(error, rel=1e-3)
    assert error < 0.02
    assert wanted.argmax() == found.argmax()


def test_a_trained_network_with_real_weights_gives_a_photo_back(shared):
    recipe = Inversion(network="squeezenet1_0", layer="features.3", photos=COFFEE, size=64, steps=80)
    step = recipe.run(models.load("squeezenet1_0", device="cpu"))
    assert step.errors.item() < 0.02
    assert _psnr(step.picture[0], images.read(COFFEE, 64)) > 18


# Layers of the figure.


def test_the_nine_layers_of_vgg16_are_the_relus_behind_its_convolutions():
    names = [f"block{block}_conv{number}" for block in (3, 4, 5) for number in (1, 2, 3)]
    with torch.device("meta"):
        plain, normed, shallow = vgg16(), vgg16_bn(), vgg11()
    found = technique.published_layers(plain)
    assert list(found) == names
    assert list(found.values()) == [f"features.{index}" for index in (11, 13, 15, 18, 20, 22, 25, 27, 29)]
    for name, layer in technique.published_layers(normed).items():
        assert isinstance(normed.get_submodule(layer), nn.ReLU), name
    assert technique.published_layers(shallow) == {}
    assert technique.published_layers(tiny()) == {}


def test_the_figure_goes_through_the_blocks_to_the_logits_or_through_the_layers_asked_for(minivgg):
    blocks = technique.figure_layers(Inversion(), minivgg)
    assert list(blocks) == ["block1.relu1", "block2.relu2", "block3.relu2", "block4", "logits"]
    assert blocks["logits"] == ""
    recipe = Inversion(photos=CAT, size=32, steps=3, layers=["stem.relu", "block2.conv1", ""])
    made = dict(technique.through(recipe, minivgg))
    assert list(made) == ["stem.relu", "block2.conv1", "logits"]
    assert [step.target.layer for step in made.values()] == recipe.layers
    assert torch.equal(made["block2.conv1"].picture, recipe.changed(layer="block2.conv1").run(minivgg).picture)
    drawn = technique.sheet(made, side=64, columns=2)
    assert np.asarray(drawn)[:64, :64].std() > 10
    assert drawn.width == 64 * 2 + 6


def test_layers_already_inverted_are_there_when_a_later_one_fails(network):
    done = []
    with pytest.raises(KeyError, match="no layer 'conv9'"):
        done.extend(title for title, _ in technique.through(Inversion(**SMALL, layers=["conv1", "conv9"]), network))
    assert done == ["conv1"]


# Numbers and files.


def test_numbers_are_those_of_float64(network):
    step = Inversion(**SMALL).run(network)
    photo, picture = images.read(CAT, 24), step.picture[0]
    with torch.no_grad():
        a, b = (network.net.conv2(network.net.conv1(x[None]).relu()).double() for x in (photo, picture))
    error = ((a - b) ** 2).sum() / (a**2).sum()
    assert step.errors.item() == pytest.approx(error.item(), rel=1e-4)
    (text,) = technique.numbers(step)
    assert text.startswith(f"error {error.item():.2%}\n{_psnr(picture, photo):.1f} dB, SSIM ")
    same, other = technique.quality(torch.stack([photo, picture]), torch.stack([photo, photo]))
    assert same == (float("inf"), pytest.approx(1))
    assert other[1] < 1


def test_a_saved_picture_is_made_again_from_its_file(tmp_path):
    recipe = Inversion(layer="block1.conv1", photos=CAT, size=32, steps=3)
    step = recipe.run()
    (path,) = technique.save(recipe, step, tmp_path)
    assert recipes.from_picture(path) == recipe
    assert torch.equal(recipes.remake(path), step.picture[0])


def test_the_live_picture_shows_photo_and_reconstruction_side_by_side(network):
    recipe = Inversion(**SMALL)
    drawn = np.asarray(technique.draw(recipe, recipe.run(network)))
    assert drawn.shape[1] == 2 * 224 + 6
    assert drawn[:224, :224].std() > 10
    assert drawn[:224, 230:].std() > 3


# What does not fit is said.


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"layer": "conv3"}, KeyError, r"no layer 'conv3'.*conv2"),
        ({"channels": [0, 6]}, ValueError, r"'conv2' has 6 channels, 0 to 5: there is no channel 6"),
        ({"channels": [-1]}, ValueError, "there is no channel -1"),
        ({"layer": "", "channels": [5]}, ValueError, "has 5 channels, 0 to 4: there is no channel 5"),
        ({"photos": "no_such_photo.jpg"}, FileNotFoundError, "no_such_photo"),
        ({"mix": 0.5, "second": "no_such_photo.jpg"}, FileNotFoundError, "no_such_photo"),
    ],
)
def test_what_does_not_fit_is_said(network, changes, error, message):
    with pytest.raises(error, match=message):
        Inversion(**SMALL).changed(**changes).run(network)


def test_parameters_that_contradict_each_other():
    with pytest.raises(ValueError, match=r"mix = 0.5: .*a blend needs a second photo; name one in second"):
        Inversion(second="", mix=0.5)
    with pytest.raises(ValueError, match=r"kept = 10: .*channels chooses already; set one of the two"):
        Inversion(channels=[1], kept=10)
    with pytest.raises(ValueError, match=r"mix = 1.5"):
        Inversion(mix=1.5)
    assert Inversion(second="", mix=0).mix == 0


def test_silent_channels_cannot_be_inverted():
    net = tiny().eval()
    with torch.no_grad():
        net.conv2.weight[4] = 0
        net.conv2.bias[4] = -1
    recipe = Inversion(**SMALL).changed(layer="relu2", channels=[4])
    with pytest.raises(ValueError, match=r"layer 'relu2' are silent for photo 0: there is nothing to invert"):
        recipe.run(Network(net, "tiny", size=32))


def test_a_photo_of_any_size_is_cropped_and_resampled(network, tmp_path):
    for height, width in ((40, 60), (9, 200), (24, 24)):
        path = tmp_path / f"{height}x{width}.png"
        Image.fromarray((noise(height, width, 3) * 255).byte().numpy()).save(path)
        step = Inversion(**SMALL).changed(photos=str(path), steps=1).run(network)
        assert step.picture.shape == (1, 3, 24, 24)
        assert torch.equal(step.photos.pictures[0], images.read(path, 24))


def test_a_layer_that_is_not_finite_says_so():
    class Overflows(nn.Module):
        def forward(self, x):
            return x / (x - x)

    net = nn.Sequential(nn.Conv2d(3, 4, 3), Overflows())
    with pytest.raises(ValueError, match=r"layer '1' of overflows gives values that are infinite or no numbers"):
        Inversion(photos=CAT, layer="1", size=16, steps=2).run(Network(net, "overflows", size=16))


def test_a_whole_photo_keeps_its_shape_and_blends_with_another(tmp_path):
    photo = images.read(CAT, 48)[:, :, :32]
    images.save(photo, tmp_path / "tall.png")
    recipe = Inversion(photos=str(tmp_path / "tall.png"), layer="conv2", size=16, fit="whole", steps=3)
    step = recipe.changed(second=COFFEE, mix=0.5).run(tiny())
    assert step.picture.shape == step.photos.pictures.shape == (1, 3, 24, 16)
    assert technique.draw(recipe, step).height > technique.draw(recipe, step).width / 2
    images.save(photo[:, :32], tmp_path / "square.png")
    with pytest.raises(ValueError, match=r"photos of unlike shapes.*fit='crop' or fit='pad'"):
        recipe.changed(photos=str(tmp_path)).run(tiny())
    assert recipe.changed(photos=str(tmp_path), fit="pad").run(tiny()).picture.shape == (2, 3, 16, 16)
