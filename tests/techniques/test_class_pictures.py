"""Class pictures: closed forms on a linear network, batches, starts, dead heads, and what is refused."""

import re

import pytest
import torch
from small_networks import noise, outside, same_outside, tiny
from torch import nn

from nbhelpers import images, models, recipes
from nbhelpers.ascent.canvas import natural_images
from nbhelpers.models import Network
from nbhelpers.techniques import class_pictures as technique
from nbhelpers.techniques.class_pictures import ClassPictures

NAMES = ["red fox, Vulpes vulpes", "crane", "crane", "school bus", "teapot"]
SMALL = dict(classes=["school bus", 4], size=16, rounds=2, steps=4, jitter=2, scale=0.1, rotate=5)
STILL = dict(jitter=0, scale=0, rotate=0, rounds=1)


@pytest.fixture
def network() -> Network:
    return Network(tiny().eval(), "tiny", classes=NAMES, size=32)


@pytest.fixture(scope="module")
def minivgg() -> Network:
    return models.load("minivgg_robust", device="cpu")


def linear(classes: int = 3) -> Network:
    """Logits that are linear in the pixels of a 16-pixel picture, small enough for a picture within [0, 1]."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, classes))
    with torch.no_grad():
        net[1].weight.copy_((noise(classes, 768) - 0.5) * 0.01)
    return Network(net.eval(), "linear", size=16)


# What is maximised.


def test_of_a_linear_network_the_picture_is_its_weights_over_twice_the_penalty():
    """d/dx (w x - l2 mean (x - 1/2)^2) = 0 at x = 1/2 + N w / (2 l2)."""
    network = linear()
    recipe = ClassPictures(
        classes=[2, 0], canvas="pixels", start="mean", contrast=0, l2_weight=8, size=16, steps=400, learning_rate=0.003
    ).changed(**STILL)
    expected = 0.5 + 768 * network.net[1].weight.detach()[[2, 0]].view(2, 3, 16, 16) / (2 * 8)
    assert 0.2 < (expected - 0.5).abs().max() < 0.5
    assert (recipe.run(network).picture - expected).abs().max() < 5e-3


@pytest.mark.parametrize("weight", [0, 3])
def test_the_score_is_what_the_recipe_says(network, weight):
    start = torch.full((2, 3, 16, 16), 0.5)
    logits = network.net(start).detach()
    log_probabilities = (logits - logits.exp().sum(1, keepdim=True).log())[[0, 1], [3, 4]]
    wanted = logits[[0, 1], [3, 4]]
    recipe = ClassPictures(**SMALL).changed(**STILL, start="zero", l2_weight=7, steps=1, contrast=weight)
    assert torch.allclose(recipe.run(network).scores, wanted + weight * log_probabilities, atol=1e-4)
    softmax = recipe.changed(objective="softmax")
    assert torch.allclose(softmax.run(network).scores, log_probabilities.exp(), atol=1e-5)
    bright = Network(network.net, "tiny", classes=NAMES, size=32, mean=(0.9, 0.8, 0.7))
    penalty = 7 * (0.4**2 + 0.3**2 + 0.2**2) / 3
    with_penalty = recipe.changed(start="mean", canvas="pixels").run(bright).scores
    without = recipe.changed(start="mean", canvas="pixels", l2_weight=0).run(bright).scores
    assert torch.allclose(without - with_penalty, torch.full((2,), penalty), atol=1e-4)


def test_the_penalty_keeps_the_picture_near_grey(network):
    recipe = ClassPictures(**SMALL).changed(steps=30)
    norms = [
        (recipe.changed(l2_weight=weight).run(network).picture - 0.5).square().mean().item() for weight in (0, 10, 1000)
    ]
    assert norms[0] > norms[1] > norms[2]
    assert norms[2] < 0.01


def test_a_softmax_rises_by_lowering_the_others(minivgg):
    """Why the logit: with the probability alone, less of the climb is the class's own."""
    recipe = ClassPictures(classes=["tabby", "teapot"], steps=20, contrast=0, l2_weight=0).changed(**STILL)
    indices = models.class_indices(minivgg, recipe.classes)
    own = {}
    for objective in ("logit", "softmax"):
        with torch.no_grad():
            logits = minivgg(recipe.changed(objective=objective).run(minivgg).picture)
        own[objective] = logits[[0, 1], indices].mean()
    assert own["softmax"] < own["logit"] - 1


# Where it starts.


@pytest.mark.parametrize("canvas", ["pixels", "fourier", "fourier_rgb"])
def test_starts(network, canvas):
    recipe = ClassPictures(**SMALL).changed(**STILL, steps=1, learning_rate=1e-6, canvas=canvas)
    assert (recipe.changed(start="zero").run(network).picture - 0.5).abs().max() < 1e-3
    centred = Network(network.net, "tiny", classes=NAMES, size=32, mean=(0.2, 0.4, 0.6))
    colour = torch.tensor([0.2, 0.4, 0.6]).view(3, 1, 1)
    assert (recipe.changed(start="mean").run(centred).picture - colour).abs().max() < 1e-3
    photographs = natural_images()["mean"].view(3, 1, 1)
    assert (recipe.changed(start="mean").run(network).picture - photographs).abs().max() < 1e-3
    noisy = recipe.changed(start="noise").run(network).picture
    assert noisy.std() > 0.01
    assert (noisy[0] - noisy[1]).abs().mean() > 0.01


# One at a time, all at once, and again.


@pytest.mark.parametrize("canvas", ["fourier", "pixels"])
def test_a_batch_gives_the_pictures_of_one_at_a_time(minivgg, canvas):
    recipe = ClassPictures(classes=["goldfish", 99, "pizza"], size=64, rounds=2, steps=3, canvas=canvas)
    together = recipe.run(minivgg)
    for index, name in enumerate(recipe.classes):
        alone = recipe.changed(classes=[name]).run(minivgg)
        assert torch.allclose(alone.scores[0], together.scores[index], rtol=2e-2, atol=0.1)
        assert (alone.picture[0] - together.picture[index]).abs().mean() < 0.01


def test_names_and_numbers_are_the_same_classes(network):
    recipe = ClassPictures(**SMALL)
    by_name = recipe.changed(classes=["School Bus", "teapot", "vulpes vulpes"]).run(network)
    by_number = recipe.changed(classes=[3, "teapot", 0]).run(network)
    assert torch.equal(by_name.picture, by_number.picture)
    assert technique.class_names(recipe.changed(classes=[3, "vulpes vulpes"]), network) == ["school bus", NAMES[0]]


def test_the_same_seed_gives_the_same_picture_bit_for_bit_and_another_seed_another(network):
    recipe = ClassPictures(**SMALL)
    assert torch.equal(recipe.run(network).picture, recipe.run(network).picture)
    assert (recipe.changed(seed=1).run(network).picture - recipe.run(network).picture).abs().mean() > 0.005


def test_the_network_may_be_in_training_frozen_or_without_gradients_and_is_left_as_it_was(network):
    recipe = ClassPictures(**SMALL)
    usual = recipe.run(network).picture
    network.train().requires_grad_(False)
    before = outside(network)
    with torch.no_grad():
        assert torch.equal(recipe.run(network).picture, usual)
    assert same_outside(before, outside(network))


# Heads.


class _RectifiedHead(nn.Module):
    """Ends like SqueezeNet: a convolution with one map per class, a ReLU, their mean. Class 1 is off everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.classifier = nn.Sequential(nn.Conv2d(8, 3, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))

    def forward(self, pictures):
        return self.classifier(self.features(pictures)).flatten(1)


def test_evidence_is_taken_before_a_rectified_head_and_nowhere_else(network):
    assert technique._head(Network(_RectifiedHead().eval(), "rectified", size=16), 16) == ("classifier.0", True)
    assert technique._head(network, 16) == ("head", False)
    assert technique._head(models.load("squeezenet1_1", weights=None, device="cpu"), 64) == ("classifier.1", True)
    assert technique._head(models.load("mobilenet_v2", weights=None, device="cpu"), 64) == ("classifier.1", False)


@pytest.mark.parametrize("canvas", ["pixels", "fourier"])
def test_a_logit_that_a_relu_keeps_at_zero_still_gets_its_picture(canvas):
    torch.manual_seed(0)
    net = _RectifiedHead().eval()
    with torch.no_grad():
        net.classifier[0].bias[1] = -0.2
        assert net(noise(1, 3, 16, 16) * 0.2 + 0.4)[0, 1] == 0
    network = Network(net, "rectified", size=16)
    recipe = ClassPictures(classes=[1, 2], canvas=canvas, size=16, steps=60, l2_weight=0, learning_rate=0.02)
    recipe = recipe.changed(**STILL)
    step = recipe.run(network)
    assert step.alive.tolist() == [True, True]
    assert network(step.picture)[0, 1] > 0
    assert "logit" in technique.verdicts(recipe, step, network)[0]


def test_a_class_that_no_gradient_reaches_is_said():
    torch.manual_seed(0)
    net = _RectifiedHead().eval()
    with torch.no_grad():
        net.classifier[0].weight[1], net.classifier[0].bias[1] = 0, -1
        net.classifier[0].weight[2], net.classifier[0].bias[2] = 0.3, 0
    network = Network(net, "rectified", size=16)
    recipe = ClassPictures(classes=[1, 2], size=16, steps=2, contrast=0, l2_weight=0)
    first, second = technique.verdicts(recipe, recipe.run(network), network)
    assert first == "class 1\nno gradient reaches it"
    assert second.startswith("class 2\nlogit ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(classes=["scool bus"]), r"tiny knows no class 'scool bus'.*school bus"),
        (dict(classes=["crane"]), r"'crane' means several classes of tiny: 1 \(crane\), 2 \(crane\)"),
        (dict(classes=[0, 5]), r"tiny has 5 classes, 0 to 4: there is no class 5"),
        (dict(classes=[-1]), r"there is no class -1"),
    ],
)
def test_classes_that_are_not_there(network, changes, message):
    with pytest.raises(ValueError, match=message):
        next(ClassPictures(**SMALL).changed(**changes).iterate(network))


def test_a_network_without_class_logits_or_names_says_so():
    headless = Network(tiny().eval()[:4], "headless", size=32)
    with pytest.raises(ValueError, match=r"headless gives a tensor \(B, 6, 8, 8\).*expected class logits"):
        ClassPictures(classes=[1], size=16).run(headless)
    with pytest.raises(ValueError, match="class names of linear are not known: give 'tabby' as a number"):
        ClassPictures(classes=["tabby"], size=16).run(linear())
    with pytest.raises(ValueError, match="minivgg_robust needs pictures of at least 15 pixels"):
        ClassPictures(classes=[0], size=64, view=1).run()
    with pytest.raises(ValueError, match="linear does not take pictures of 32 x 32 pixels"):
        ClassPictures(classes=[1], size=32).run(linear())


def test_parameters_out_of_range():
    with pytest.raises(ValueError, match=r"classes = \[\]: .*names or numbers"):
        ClassPictures(classes=[])
    with pytest.raises(ValueError, match=r"start = 'black': .*'zero', 'mean' or 'noise'"):
        ClassPictures(start="black")
    with pytest.raises(ValueError, match="l2_weight = -1"):
        ClassPictures(l2_weight=-1)


# What is said, shown and kept.


def test_the_ladder_goes_from_the_paper_to_the_recipe_one_idea_a_rung():
    recipe = ClassPictures(size=50, rounds=3, steps=10)
    rungs = technique.ladder(recipe)
    first, *_, last = rungs.values()
    assert (first.canvas, first.start, first.contrast, first.rounds) == ("pixels", "mean", 0, 1)
    assert (first.jitter, first.scale, first.rotate) == (0, 0, 0)
    assert first.l2_weight == recipe.l2_weight
    assert first.steps == 10 + 10 + 13
    assert first.size == round(50 * recipe.upscale_factor**2)
    assert last == recipe
    assert list(rungs)[-1] == "+ contrast"
    assert len({rung.slug for rung in rungs.values()}) == len(rungs) == 6
    assert next(iter(technique.ladder(ClassPictures(size=384, steps=900)).values())).size == 576
    large = technique.ladder(technique.for_large_networks())
    assert list(large) == ["2014: pixels, L2", "+ jitter", "+ Fourier", "+ colour", "+ contrast", "+ views, dropout"]
    assert large["2014: pixels, L2"].l2_weight == 10
    assert large["+ views, dropout"] == technique.for_large_networks()


def test_saved_pictures_carry_the_recipe_and_are_made_again(network, tmp_path):
    recipe = ClassPictures(**SMALL)
    step = recipe.run(network)
    paths = technique.save(recipe, step, tmp_path, network)
    assert [path.name for path in paths] == [f"{recipe.slug}-school_bus-0.png", f"{recipe.slug}-teapot-1.png"]
    assert recipes.from_picture(paths[0]) == recipe
    assert (recipes.remake(paths[1], network) - images.read(paths[1])).abs().max() < 1 / 255


def test_verdicts_tell_logit_and_probability(network):
    recipe = ClassPictures(**SMALL)
    step = recipe.run(network)
    logits = network(step.picture).detach()
    for index, (line, column) in enumerate(zip(technique.verdicts(recipe, step, network), [3, 4], strict=True)):
        name, logit, share = re.fullmatch(r"(.+)\nlogit (-?[\d.]+), (\d+) %", line).groups()
        assert name == NAMES[column]
        assert float(logit) == pytest.approx(logits[index, column].item(), abs=0.06)
        assert float(share) == pytest.approx(100 * logits.softmax(1)[index, column].item(), abs=0.6)


def test_pictures_of_the_bundled_network_are_recognised_by_the_other_one(minivgg):
    recipe = ClassPictures(classes=["goldfish", "school bus", "pizza", "monarch"], steps=60, rounds=1)
    found = technique.recognised(recipe.run(minivgg).picture, recipe.classes, "minivgg")
    assert found.top1 >= 0.75
    assert found.top5 == 1
