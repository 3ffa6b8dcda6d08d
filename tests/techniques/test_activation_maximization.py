"""The whole technique: published defaults, sizes, blur, batches, photos, and channels that never fire."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from small_networks import noise, outside, same_outside, tiny
from torch import nn

from nbhelpers import images, models, recipes
from nbhelpers.ascent import NonFiniteScore, generators, picture_seeds
from nbhelpers.ascent.canvas import CANVASES, Pixels
from nbhelpers.ascent.rounds import box_blur, enlarge
from nbhelpers.models import Network
from nbhelpers.techniques import activation_maximization as technique
from nbhelpers.techniques.activation_maximization import ActivationMaximization, multi_scale

SMALL = dict(layer="conv2", channels=[1, 4], size=16, rounds=3, steps=4, jitter=4, scale=0.1, rotate=5)


@pytest.fixture
def network() -> Network:
    return Network(tiny().eval(), "tiny", size=32)


@pytest.fixture(scope="module")
def minivgg() -> Network:
    return models.load("minivgg_robust", device="cpu")


# The published procedure.


def test_multi_scale_is_as_published():
    recipe = multi_scale()
    assert (recipe.canvas, recipe.size, recipe.rounds, recipe.steps) == ("pixels", 56, 12, 50)
    assert (recipe.learning_rate, recipe.weight_decay) == (0.01, 1e-6)
    assert (recipe.upscale_factor, recipe.blur) == (1.2, 5)
    assert (recipe.jitter, recipe.scale, recipe.rotate) == (0, 0, 0)
    assert multi_scale(rounds=2, channels=[9]).rounds == 2
    sides = [56]
    for _ in range(11):
        sides.append(round(sides[-1] * 1.2))
    assert sides[-1] == pytest.approx(56 * 1.2**11, rel=0.01)


@pytest.mark.parametrize(("rounds", "steps"), [(1, [13]), (2, [10, 13]), (3, [10, 10, 13]), (4, [10, 10, 13, 13])])
def test_the_later_half_has_more_steps_and_the_picture_grows_by_rounds(network, rounds, steps):
    recipe = ActivationMaximization(**SMALL).changed(rounds=rounds, steps=10)
    made = list(recipe.iterate(network))
    if rounds == 1:
        steps = [10]
    assert [step.index for step in made] == list(range(1, sum(steps) + 1))
    assert {step.total for step in made} == {sum(steps)}
    sides = [step.picture.shape[2:] for step in recipe.iterate(network)]
    expected, side = [], 16
    for count in steps:
        expected += [(side, side)] * count
        side = round(side * 1.2)
    assert [tuple(side) for side in sides] == expected


def test_a_multi_scale_run_is_the_procedure_by_hand(network):
    """Adam on the pixels, bicubic enlargement, box blur, 1.3 times the steps later: with torch and scipy alone."""
    recipe = multi_scale(layer="conv2", channels=[1], size=16, rounds=2, steps=5, blur=3)
    found = recipe.run(network).picture
    seeds = picture_seeds(recipe.seed, recipe.channels)
    picture = CANVASES["pixels"].random(16, 16, generators(seeds)).picture().detach()
    for number, steps in enumerate([5, 6]):
        if number:
            picture = nn.functional.interpolate(picture, size=(19, 19), mode="bicubic").clamp(0, 1)
            blurred = ndimage.uniform_filter(picture.numpy(), (0, 0, 3, 3), mode="mirror")
            picture = torch.from_numpy(blurred)
        picture.requires_grad_()
        optimiser = torch.optim.Adam([picture], lr=0.01, weight_decay=1e-6, eps=1e-12, maximize=True)
        for _ in range(steps):
            optimiser.zero_grad()
            network.net.conv2(network.net.conv1(picture).relu())[0, 1].mean().backward()
            optimiser.step()
            with torch.no_grad():
                picture.clamp_(0, 1)
        picture = picture.detach()
    assert (found - picture).abs().max() < 2e-3


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8])
def test_the_blur_is_a_mean_with_mirrored_borders(width):
    pictures = noise(2, 3, 12, 17)
    # scipy's window of even width reaches further to the left, ours to the right
    origin = -1 if width % 2 == 0 else 0
    expected = ndimage.uniform_filter(
        pictures.double().numpy(), (0, 0, width, width), mode="mirror", origin=(0, 0, origin, origin)
    )
    assert np.allclose(box_blur(pictures, width).numpy(), expected, atol=1e-5)
    assert torch.allclose(box_blur(torch.full((1, 3, 9, 9), 0.3), width), torch.full((1, 3, 9, 9), 0.3), atol=1e-6)


def test_no_blur_leaves_the_picture():
    pictures = noise(1, 3, 6, 6)
    assert box_blur(pictures, 0) is pictures


@pytest.mark.parametrize("canvas", CANVASES)
def test_enlarging_keeps_what_the_picture_shows(canvas):
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 20), torch.linspace(0, 1, 24), indexing="ij")
    gradient = torch.stack([rows, columns, 1 - rows])[None] * 0.3 + 0.35
    larger = enlarge(CANVASES[canvas].from_picture(gradient), 1.5, 0)
    assert isinstance(larger, CANVASES[canvas])
    picture = larger.picture().detach()
    assert picture.shape == (1, 3, 30, 36)
    if canvas != "maco":  # which gives it the amplitudes of photographs
        y = (np.arange(30) + 0.5) / 1.5 - 0.5
        x = (np.arange(36) + 0.5) / 1.5 - 0.5
        expected = np.broadcast_arrays(0.35 + 0.3 * y[:, None] / 19, 0.35 + 0.3 * x[None] / 23)
        assert np.allclose(picture[0, :2].numpy()[:, 3:-3, 3:-3], np.stack(expected)[:, 3:-3, 3:-3], atol=2e-3)
    assert torch.equal(enlarge(Pixels(gradient), 1, 0).picture(), gradient)


# One at a time, all at once, and again.


@pytest.mark.parametrize("canvas", CANVASES)
def test_a_batch_gives_the_pictures_of_one_at_a_time(minivgg, canvas):
    recipe = ActivationMaximization(layer="block2.conv1", channels=[3, 60], canvas=canvas, size=32, rounds=2, steps=3)
    together = recipe.run(minivgg)
    for index, channel in enumerate(recipe.channels):
        alone = recipe.changed(channels=[channel]).run(minivgg)
        assert torch.allclose(alone.scores[0], together.scores[index], rtol=2e-3, atol=1e-3)
        # waves that an enlarged picture lacks have a phase of rounding errors, and Adam steps by it as by any other
        assert (alone.picture[0] - together.picture[index]).abs().mean() < 0.01
    assert (together.picture[0] - together.picture[1]).abs().mean() > 0.02


def test_the_same_seed_gives_the_same_picture_bit_for_bit_and_another_seed_another(network):
    recipe = ActivationMaximization(**SMALL, diversity=0.5)
    first, second = recipe.run(network), recipe.run(network)
    assert torch.equal(first.picture, second.picture)
    assert torch.equal(first.scores, second.scores)
    assert (recipe.changed(seed=1).run(network).picture - first.picture).abs().mean() > 0.01


def test_a_channel_that_comes_twice_gets_two_pictures_and_the_first_is_its_usual_one(network):
    twice = ActivationMaximization(**SMALL).changed(channels=[4, 4, 1])
    made, alone = twice.run(network).picture, twice.changed(channels=[4]).run(network).picture
    assert (made[0] - made[1]).abs().mean() > 0.005
    assert (made[0] - alone[0]).abs().mean() < 1e-3


def test_seeds_never_meet():
    seeds = [
        seed + number
        for start in range(3)
        for seed in picture_seeds(start, [*range(600), *range(600)])
        for number in range(16)
    ]
    assert len(set(seeds)) == len(seeds)


def test_any_seed_will_do(network):
    recipe = ActivationMaximization(**SMALL, seed=10**15).changed(rounds=1, steps=1)
    assert recipe.run(network).picture.isfinite().all()


def test_diversity_makes_pictures_of_one_channel_less_alike(network):
    recipe = ActivationMaximization(layer="conv2", channels=[1, 1, 1], size=20, rounds=1, steps=30)

    def likeness(weight):
        pictures = recipe.changed(diversity=weight).run(network).picture
        maps = network.net.conv2(network.net.conv1(pictures).relu()).flatten(2).detach().double().numpy()
        grams = np.stack([(each @ each.T).ravel() for each in maps])
        grams /= np.linalg.norm(grams, axis=1, keepdims=True)
        return (grams @ grams.T)[np.triu_indices(3, 1)].mean()

    assert likeness(20) < likeness(0) - 0.01


def test_the_network_is_left_as_it_was(network):
    network.train()
    before = outside(network)
    recipe = ActivationMaximization(**SMALL)
    recipe.run(network)
    assert same_outside(dict(before), outside(network))
    running = recipe.iterate(network)
    next(running)
    running.close()
    assert same_outside(dict(before), outside(network))


# What is maximised.


def test_units_layers_and_logits(network):
    recipe = ActivationMaximization(**SMALL).changed(rounds=1, jitter=0, scale=0, rotate=0, steps=1)
    seeds = picture_seeds(0, [1, 4])
    start = CANVASES[recipe.canvas].random(16, 16, generators(seeds)).picture().detach()
    maps = network.net.conv2(network.net.conv1(start).relu()).detach()
    logits = network.net(start).detach()
    for changes, expected in [
        (dict(), maps[[0, 1], [1, 4]].mean((1, 2))),
        (dict(objective="unit"), maps[[0, 1], [1, 4], 4, 4]),
        (dict(objective="layer"), maps.square().mean((1, 2, 3))),
        (dict(layer=""), logits[[0, 1], [1, 4]]),
        (dict(layer="", diversity=0.0), logits[[0, 1], [1, 4]]),
    ]:
        assert torch.allclose(recipe.changed(**changes).run(network).scores, expected, atol=1e-5)


def test_logits_climb_with_diversity_too(network):
    recipe = ActivationMaximization(**SMALL).changed(layer="", rounds=1, diversity=1)
    scores = [step.scores.mean() for step in recipe.iterate(network)]
    assert scores[-1] > scores[0]


def test_the_tricks_of_the_ladder_come_one_by_one():
    recipe = ActivationMaximization(size=60, rounds=4, steps=10)
    rungs = technique.ladder(recipe)
    assert list(rungs) == ["pixels", "+ scales and blur", "+ jitter", "+ Fourier", "+ colour", "+ limits"]
    first, *others = rungs.values()
    assert (first.rounds, first.steps) == (1, 10 + 10 + 13 + 13)
    assert first.size == 103  # 60, 72, 86, 103
    assert [rung.canvas for rung in rungs.values()] == ["pixels"] * 3 + ["fourier_rgb", "fourier", "natural"]
    assert [bool(rung.jitter) for rung in rungs.values()] == [False, False, True, True, True, True]
    for rung in others:
        changed = {name for name, value in rung.model_dump().items() if value != getattr(recipe, name)}
        assert changed <= {"canvas", "jitter", "scale", "rotate"}


def test_the_ladders_first_rung_ends_where_the_others_do_however_large(network):
    first, *others = technique.ladder(ActivationMaximization(size=400, rounds=4, steps=400)).values()
    assert (first.size, first.steps) == (691, 400 + 400 + 520 + 520)  # 400, 480, 576, 691
    small = ActivationMaximization(layer="", channels=[0], size=17, rounds=6, steps=1)
    first, *others = technique.ladder(small).values()
    assert {rung.run(network).picture.shape for rung in (first, others[0])} == {(1, 3, first.size, first.size)}


# Starting from a photo.


@pytest.mark.parametrize("canvas", ["pixels", "fourier", "fourier_rgb"])
def test_a_photo_is_where_it_starts(network, tmp_path, canvas):
    Image.fromarray((noise(40, 60, 3) * 215 + 20).byte().numpy()).save(tmp_path / "photo.png")
    photo = images.read(tmp_path / "photo.png", 16)
    recipe = ActivationMaximization(**SMALL, start=str(tmp_path / "photo.png"), canvas=canvas)
    recipe = recipe.changed(rounds=1, steps=1, learning_rate=1e-6)
    made = recipe.run(network).picture
    assert torch.allclose(made, photo.clamp(0.01, 0.99).expand(2, -1, -1, -1), atol=0.012)
    moved = recipe.changed(steps=20, learning_rate=0.01).run(network).picture
    assert (moved - photo).abs().mean() > 0.01


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(start="no_such_photo.jpg"), FileNotFoundError, "no_such_photo"),
        (dict(channels=[1, 6]), ValueError, r"'conv2' has 6 channels, 0 to 5: there is no channel 6"),
        (dict(channels=[-1]), ValueError, "there is no channel -1"),
        (dict(layer="conv3"), KeyError, r"no layer 'conv3'.*conv2"),
        (dict(layer="head"), ValueError, "gives no feature maps"),
        (dict(layer="", channels=[5]), ValueError, "5 classes, 0 to 4: there is no class 5"),
        (dict(layer="", objective="unit"), ValueError, "no feature maps"),
    ],
)
def test_what_does_not_fit_is_said(network, changes, error, message):
    recipe = ActivationMaximization(**SMALL).changed(**changes)
    with pytest.raises(error, match=message):
        recipe.run(network)


def test_a_picture_too_small_for_the_layer_says_the_least_size():
    network = models.load("squeezenet1_1", weights=None, device="cpu")
    with pytest.raises(ValueError, match=r"16 pixels are too small for layer 'features.12'.*at least \d+ pixels"):
        ActivationMaximization(layer="features.12", channels=[0], size=16).run(network)


def test_parameters_out_of_range():
    with pytest.raises(ValueError, match=r"channels = \[\]: .*feature maps, one picture each"):
        ActivationMaximization(channels=[])
    with pytest.raises(ValueError, match=r"canvas = 'oil': .*'fourier', 'fourier_rgb', 'maco' or 'pixels'"):
        ActivationMaximization(canvas="oil")
    with pytest.raises(ValueError, match=r"learning_rate = nan"):
        ActivationMaximization(learning_rate=float("nan"))


def test_unknown_networks_offer_the_nearest():
    with pytest.raises(ValueError, match=r"no network is called 'minivgg_robst'.*minivgg_robust"):
        ActivationMaximization(network="minivgg_robst").run()


def test_a_non_finite_score_in_a_later_round_keeps_the_picture_of_that_round(network):
    class Overflows(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = tiny()

        def forward(self, x):
            return self.net(x) / (x.shape[2] <= 16)

    recipe = ActivationMaximization(layer="", channels=[1], size=16, rounds=2, steps=3)
    net = Network(Overflows(), "overflows", size=16)
    shown = []
    with pytest.raises(NonFiniteScore) as caught:
        shown.extend(step.index for step in recipe.iterate(models.as_network(net)))
    assert shown == [1, 2, 3]
    assert caught.value.step.picture.shape == (1, 3, 19, 19)
    assert caught.value.step.picture.isfinite().all()


# What is said and shown.


def _with_a_dead_channel() -> Network:
    net = tiny().eval()
    with torch.no_grad():
        net.conv2.weight[4] = 0
        net.conv2.bias[4] = -1
    return Network(net, "tiny", size=32)


def test_a_channel_that_never_fires_is_said_and_left_blank():
    network, recipe = _with_a_dead_channel(), ActivationMaximization(**SMALL).changed(layer="relu2", rounds=2)
    step = recipe.run(network)
    assert step.alive.tolist() == [True, False]
    lines = technique.verdicts(recipe, step, network)
    assert lines[0].startswith("channel 1: ")
    assert float(lines[0].split()[-1]) > 0
    assert lines[1] == "channel 4: never fires"
    drawn = np.asarray(technique.sheet(recipe, step, network))
    side = technique.SIDE
    assert drawn[:side, :side].std() > 5
    assert (drawn[:side, side + 2 :] == 255).all()


def test_a_channel_that_stays_below_zero_is_said():
    network = _with_a_dead_channel()
    recipe = ActivationMaximization(**SMALL)
    step = recipe.run(network)
    # before its ReLU it is a constant: no gradient either
    assert technique.verdicts(recipe, step, network)[1] == "channel 4: never fires"
    with torch.no_grad():
        network.net.conv2.weight[4] = 0.01
    step = recipe.run(network)
    assert re.fullmatch(r"channel 4: stays below zero \(-0\.9\d\)", technique.verdicts(recipe, step, network)[1])


def test_verdicts_are_the_means_of_the_finished_pictures(network):
    recipe = ActivationMaximization(**SMALL, diversity=3)
    step = recipe.run(network)
    maps = network.net.conv2(network.net.conv1(step.picture).relu()).detach()
    first, second = maps[[0, 1], [1, 4]].mean((1, 2)).tolist()
    assert first > 0 > second
    assert technique.verdicts(recipe, step, network) == [
        f"channel 1: {first:.2f}",
        f"channel 4: stays below zero ({second:.2f})",
    ]


def test_saved_files_are_named_after_layer_and_channel(network, tmp_path):
    recipe = ActivationMaximization(**SMALL).changed(rounds=1)
    paths = technique.save(recipe, recipe.run(network), tmp_path / "new")
    assert [path.name for path in paths] == [f"{recipe.slug}-conv2-{c}-{i}.png" for i, c in enumerate([1, 4])]
    assert images.read(paths[0]).shape == (3, 16, 16)


def test_channels_of_the_real_network_beat_noise_by_far(minivgg):
    recipe = ActivationMaximization(channels=[7], size=64, rounds=2, steps=10)
    steps = [step.scores.item() for step in recipe.iterate(minivgg)]
    assert steps[-1] > 5 * abs(steps[0])


# What comes out at the defaults.


@pytest.mark.parametrize("layer", ["block2.conv2", "block4.conv1"])
def test_pictures_are_no_louder_than_photographs_and_excite_their_channel_more(minivgg, layer):
    channels = torch.randperm(192, generator=torch.Generator().manual_seed(2))[:4].tolist()
    recipe = ActivationMaximization(layer=layer, channels=channels, size=64)
    pictures = recipe.run(minivgg).picture
    found = images.naturalness(pictures)
    assert found.saturation.mean() <= 0.30
    assert found.edge.max() <= 0.06
    assert 0.1 <= found.contrast.mean() <= 0.35
    photos = images.read_folder(Path(__file__).parents[2] / "sample_images", pictures.shape[-1]).pictures
    look = models.capture(minivgg, layer, stop=True)
    by_photos = look(photos)[layer].mean((2, 3))[:, channels].max(0).values
    made = look(pictures)[layer].mean((2, 3))[range(4), channels]
    assert (made > by_photos).all()


def test_a_picture_of_before_the_rounds_settled_is_made_again_without(tmp_path):
    document = ActivationMaximization(settle=True).document()
    del document["parameters"]["settle"]
    assert recipes.from_document(document) == ActivationMaximization(settle=False)


# A whole layer.


@pytest.mark.parametrize(
    ("given", "channels"),
    [("0..3", [0, 1, 2, 3]), (["8..4 step -2", 1], [8, 6, 4, 1]), ([5], [5]), ("7..7", [7])],
)
def test_channels_may_be_a_range(given: object, channels: list[int]) -> None:
    assert ActivationMaximization(channels=given).channels == channels


@pytest.mark.parametrize("given", ["0..", "3..1", "5", "0..1 step 0.5"])
def test_channels_that_are_no_range_of_whole_numbers_are_refused(given: str) -> None:
    with pytest.raises(ValueError, match="channels"):
        ActivationMaximization(channels=given)


def test_many_channels_make_a_sheet_of_small_pictures(minivgg: Network) -> None:
    recipe = ActivationMaximization(layer="block2.conv1", channels="0..19", size=32, rounds=1, steps=1)
    step = recipe.run(minivgg)
    sheet = technique.sheet(recipe, step, minivgg)
    assert sheet.width < 8 * 40  # seven in a row, as large as they were made
    first = np.asarray(sheet)[:32, :32] / 255
    assert np.abs(first - step.picture[0].permute(1, 2, 0).numpy()).max() < 1 / 255


@pytest.mark.parametrize("objective", ["channel", "unit"])
def test_how_many_photos_a_picture_surpasses_is_counted_by_hand(
    network: Network, tmp_path: Path, objective: str
) -> None:
    recipe = ActivationMaximization(**SMALL).changed(objective=objective, rounds=1, steps=2, diversity=0.5)
    step, photos = recipe.run(network), torch.cat([noise(12, 3, 16, 16, seed=3), torch.zeros(1, 3, 16, 16)])

    def height(pictures: torch.Tensor, number: int) -> torch.Tensor:
        maps = models.capture(network, "conv2")(pictures)["conv2"][:, number]
        return maps.mean((1, 2)) if objective == "channel" else maps[:, maps.shape[1] // 2, maps.shape[2] // 2]

    expected = [
        (height(step.picture[index : index + 1], number) > height(photos, number)).float().mean().item()
        for index, number in enumerate(recipe.channels)
    ]
    assert technique.surpassed(recipe, step, photos, network).tolist() == pytest.approx(expected)
    assert len(set(expected)) == 2
    paths = technique.save(recipe, step, tmp_path, network, photos)
    known = [images.read_recipe(path)["measured"] for path in paths]
    assert [each["surpassed photos"] for each in known] == pytest.approx(expected, abs=0.001)
    assert all("saturation" in each for each in known)
    plain, more = technique.sheet(recipe, step, network), technique.sheet(recipe, step, network, photos)
    assert more.height > plain.height
