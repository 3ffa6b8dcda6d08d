"""The loop against Adam by hand, batches against single pictures, and the user's network left alone."""

import gc
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_networks import noise, outside, same_outside, tiny
from torch import nn

from nbhelpers import models
from nbhelpers.ascent import NonFiniteScore, Transforms, ascend, generators, measure
from nbhelpers.ascent.canvas import CANVASES, Fourier, Pixels
from nbhelpers.ascent.loop import _OpenReLU
from nbhelpers.ascent.objectives import PICTURE, Objective, channel, deep_dream, diversity, logit, squared_norm
from nbhelpers.models import Network, capture, twin

SHAKEN = Transforms(jitter=2, scale=0.1, rotate=5)


def small(net: nn.Module | None = None) -> Network:
    return Network(net or tiny().eval(), "tiny", size=16)


def climbed(network, objective, canvas, **options):
    """All scores, `(steps, B)`, and the pictures at the end."""
    scores = [step.scores for step in ascend(network, objective, canvas, **options)]
    return torch.stack(scores), canvas.picture().detach()


# The arithmetic.


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_ascent_is_torchs_adam_on_the_whole_plain_network(weight_decay):
    net = tiny().eval()
    start = 0.2 + 0.6 * noise(2, 3, 10, 10)
    scores, pictures = climbed(
        small(net), channel("conv2", [1, 4]), Pixels(start), steps=8, learning_rate=0.02, weight_decay=weight_decay
    )

    picture = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([picture], lr=0.02, weight_decay=weight_decay, eps=1e-12, maximize=True)
    for expected in scores:
        optimiser.zero_grad()
        activations = net.conv2(net.conv1(picture).relu())
        score = torch.stack([activations[0, 1].mean(), activations[1, 4].mean()])
        assert torch.allclose(expected, score, atol=1e-5)
        net(picture)  # a whole pass, with the weights' gradients on
        score.sum().backward()
        optimiser.step()
        with torch.no_grad():
            picture.clamp_(0, 1)
    assert torch.allclose(pictures, picture, atol=1e-4)


def test_the_gradient_is_that_of_a_whole_pass_with_nothing_frozen():
    net, objective = tiny().eval(), channel("conv2", [3]) - 2 * squared_norm()
    picture = noise(1, 3, 12, 12).requires_grad_()
    fast = twin(small(net))
    seen = capture(fast, "conv2", stop=True)(picture)
    score = objective(seen | {PICTURE: picture})
    (truncated,) = torch.autograd.grad(score.sum(), picture)
    double = tiny().double().eval()
    wide = picture.detach().double().requires_grad_()
    activations = double.conv2(double.conv1(wide).relu())
    whole = activations[0, 3].mean() - 2 * (wide - 0.5).square().mean()
    (expected,) = torch.autograd.grad(whole, wide)
    assert torch.allclose(truncated.double(), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("canvas", CANVASES)
def test_the_first_step_moves_every_parameter_by_the_learning_rate_in_the_canvass_unit(canvas):
    start = CANVASES[canvas].random(12, 12, generators([0, 1]))
    before = start.parameters.detach().clone()
    objective = Objective([], lambda seen: (seen[PICTURE] * noise(1, 3, 12, 12)).sum((1, 2, 3)), "weighted")
    climbed(small(), objective, start, steps=1, learning_rate=0.001)
    moved = (start.parameters.detach() - before).abs()
    assert ((moved - 0.001 * start.step_size).abs() < 1e-5 * max(1, start.step_size)).float().mean() > 0.8


def test_scores_are_those_of_the_picture_before_the_step_and_measure_gives_them_too():
    network, objective = small(), channel("conv2", [2, 2])
    canvas = Pixels(noise(2, 3, 10, 10))
    before = canvas.picture().detach().clone()
    for step in ascend(network, objective, canvas, steps=4):
        assert torch.allclose(step.scores, measure(network, objective, before), atol=1e-6)
        before = step.picture
        assert torch.equal(before, canvas.picture())


@pytest.mark.parametrize("canvas", CANVASES)
def test_a_batch_gives_the_pictures_of_one_at_a_time(canvas):
    network, channels, seeds = models.load("minivgg_robust", device="cpu"), [3, 20, 3], [5, 6, 7]
    options = dict(steps=4, transforms=SHAKEN, weight_decay=1e-4)
    layer = "block2.conv1"
    together, pictures = climbed(
        network, channel(layer, channels), CANVASES[canvas].random(40, 36, generators(seeds)), seeds=seeds, **options
    )
    for index, (number, seed) in enumerate(zip(channels, seeds, strict=True)):
        alone, picture = climbed(
            network,
            channel(layer, [number]),
            CANVASES[canvas].random(40, 36, generators([seed])),
            seeds=[seed],
            **options,
        )
        assert torch.allclose(alone[:, 0], together[:, index], rtol=1e-3, atol=1e-4)
        # where a gradient is nought but for its last bits Adam still takes a whole step: few pixels, small steps
        assert (picture[0] - pictures[index]).abs().mean() < 1e-3
    assert (pictures[0] - pictures[2]).abs().mean() > 0.01


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_seeds_give_the_same_picture_bit_for_bit(precision):
    def once():
        torch.manual_seed(np.random.default_rng().integers(1_000_000))  # the global source plays no part
        canvas = Fourier.random(20, 20, generators([1, 2]))
        return climbed(small(), channel("conv2", [0, 1]), canvas, steps=5, transforms=SHAKEN, precision=precision)

    first, second = once(), once()
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_bfloat16_is_close_to_float32_and_the_scores_are_float32():
    network = models.load("minivgg_robust", device="cpu")
    runs = [
        climbed(
            network, channel("block3.conv1", [1, 2]), Fourier.random(64, 64, generators([0, 1])), steps=8, precision=p
        )
        for p in ("float32", "bfloat16")
    ]
    assert runs[1][0].dtype == runs[1][1].dtype == torch.float32
    assert torch.allclose(runs[0][0], runs[1][0], rtol=0.1, atol=0.03 * runs[0][0].abs().max().item())
    assert runs[1][0][-1].min() > runs[1][0][0].max()


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18"])
def test_bfloat16_runs_networks_with_batch_normalisation(name):
    network = models.load(name, weights=None, device="cpu")
    scores, _ = climbed(network, logit([3]), Pixels(noise(1, 3, 48, 48)), steps=1, precision="bfloat16")
    assert torch.allclose(scores[0], measure(network, logit([3]), noise(1, 3, 48, 48)), rtol=0.1, atol=0.1)


def test_diversity_makes_pictures_of_one_channel_less_alike():
    network, likeness = small(), diversity("conv2")

    def made(weight):
        objective = channel("conv2", [1, 1]) + weight * likeness if weight else channel("conv2", [1, 1])
        _, pictures = climbed(network, objective, Fourier.random(20, 20, generators([0, 1])), steps=25)
        return measure(network, likeness, pictures).mean()

    assert made(10.0) > made(0) + 0.01


# The user's network.


@pytest.mark.parametrize("mode", ["evaluating", "training", "frozen", "no_grad"])
def test_the_network_is_left_as_it_was_and_its_mode_makes_no_difference(mode):
    def network():
        net = nn.Sequential(tiny().conv1, nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Conv2d(8, 4, 3))
        net.load_state_dict({k: noise(*v.shape, seed=5) if v.ndim else v for k, v in net.state_dict().items()})
        return Network(net.eval(), "net")

    def run(network):
        return climbed(network, channel("4", [1]), Pixels(noise(1, 3, 10, 10)), steps=3, transforms=SHAKEN)

    expected, user = run(network()), network()
    user.train(mode == "training")
    user.requires_grad_(mode != "frozen")
    before = outside(user)
    with torch.set_grad_enabled(mode != "no_grad"):
        scores, pictures = run(user)
    assert same_outside(before, outside(user))
    assert torch.equal(scores, expected[0])
    assert torch.equal(pictures, expected[1])


def test_the_network_is_left_as_it_was_when_the_caller_stops_or_is_interrupted():
    network = small(tiny().train())
    before = outside(network)
    canvas = Pixels(noise(1, 3, 10, 10))
    running = ascend(network, channel("conv2", [0]), canvas, steps=100)
    next(running)
    running.close()
    assert same_outside(dict(before), outside(network))

    def interrupted(seen):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(ascend(network, Objective(["conv1"], interrupted, "interrupted"), canvas, steps=3))
    assert same_outside(dict(before), outside(network))
    assert canvas.parameters.grad is None


def test_two_ascents_on_one_network_do_not_disturb_each_other():
    network = small()
    alone = [
        climbed(network, channel(layer, [0]), Pixels(noise(1, 3, 10, 10)), steps=4)[1] for layer in ("conv1", "conv2")
    ]
    canvases = [Pixels(noise(1, 3, 10, 10)) for _ in alone]
    runs = [
        ascend(network, channel(layer, [0]), canvas, steps=4)
        for layer, canvas in zip(("conv1", "conv2"), canvases, strict=True)
    ]
    for _ in zip(*runs, strict=True):
        pass
    for canvas, expected in zip(canvases, alone, strict=True):
        assert torch.equal(canvas.picture(), expected)


def test_a_twin_computes_the_same_with_the_same_weights_and_nothing_of_it_stays():
    network = models.load("squeezenet1_1", weights=None, device="cpu")
    before, pictures = outside(network), noise(2, 3, 48, 48)
    double = twin(network)
    assert torch.allclose(double(pictures), network(pictures), atol=1e-5)
    shared = {parameter.data_ptr() for parameter in network.parameters()}
    unused = twin(network)
    assert all(parameter.data_ptr() in shared for parameter in unused.parameters())
    assert not any(parameter.requires_grad for parameter in double.parameters())
    assert same_outside(before, outside(network))
    left = weakref.ref(double)
    del double
    gc.collect()
    assert left() is None


class Functional(nn.Module):
    """Rectifies by function, holds an attribute called `net`, takes no more than it is given."""

    def __init__(self):
        super().__init__()
        self.net = tiny()

    def forward(self, x):
        x = F.relu(self.net.conv1(x))
        return self.net.conv2(x).relu().mean((2, 3))


class Unweighted(nn.Module):
    """Local contrast without a single parameter."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool2d(2)

    def forward(self, x):
        return (self.pool(x) - 0.5).flatten(1)


@pytest.mark.parametrize(
    ("net", "layer", "count"), [(Functional(), "net.conv2", 2), (Functional(), "", 2), (Unweighted(), "pool", 2)]
)
def test_modules_of_ones_own_work_by_object(net, layer, count):
    network = models.as_network(net)
    scores, pictures = climbed(network, channel(layer, [0, 2]), Pixels(noise(count, 3, 10, 10)), steps=10)
    assert (scores[-1] > scores[0]).all()
    assert torch.allclose(
        measure(net, channel(layer, [0, 2]), pictures), measure(network, channel(layer, [0, 2]), pictures)
    )
    if isinstance(net, Unweighted):
        # every pixel has the same weight: ten steps of 0.01 up, white at most
        expected = (noise(2, 3, 10, 10) + 0.1).clamp(max=1)
        assert torch.allclose(pictures[0, 0], expected[0, 0], atol=1e-5)
        assert torch.equal(pictures[0, 1], noise(2, 3, 10, 10)[0, 1])


def test_shared_weights_and_parametrised_ones_are_followed():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3, padding=1))
            self.second = nn.Conv2d(3, 3, 3, padding=1)
            self.third = nn.Conv2d(3, 3, 3, padding=1)
            self.third.weight = self.second.weight

        def forward(self, x):
            return self.third(self.second(self.first(x)).relu())

    net = Shared()
    scores, _ = climbed(models.as_network(net), channel("", [1]), Pixels(noise(1, 3, 8, 8)), steps=1)
    assert torch.allclose(scores[0], net(noise(1, 3, 8, 8))[:, 1].mean().detach().view(1), atol=1e-6)


class Keeps(nn.Module):
    """Keeps what its last pass went through, as many modules do that are made to be looked into."""

    def __init__(self):
        super().__init__()
        self.net, self.all = tiny(), []

    def forward(self, x):
        self.last = self.net.conv1(x)
        self.all.append({"second": self.net.conv2(self.last.relu())})
        return self.all[-1]["second"]


def test_modules_that_keep_their_activations_work_after_a_pass_of_the_users():
    used, fresh = Keeps(), Keeps()
    used(noise(1, 3, 10, 10))
    kept = used.last
    found, expected = (
        climbed(models.as_network(net), channel("", [1]), Pixels(noise(1, 3, 10, 10)), steps=2) for net in (used, fresh)
    )
    assert torch.equal(found[0], expected[0])
    assert used.last is kept
    assert kept.grad_fn is not None
    control = models.randomised(used)
    assert not torch.equal(control.net.net.conv1.weight, used.net.conv1.weight)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
def test_weights_that_a_hook_computes_are_followed():
    net = tiny().eval()
    net.conv1 = nn.utils.weight_norm(net.conv1)
    with torch.no_grad():
        net.conv1.weight_g.mul_(2)
    scores, _ = climbed(small(net), channel("conv1", [3]), Pixels(noise(1, 3, 8, 8)), steps=1)
    weight = tiny().conv1.weight[3] * 2
    expected = F.conv2d(noise(1, 3, 8, 8), weight[None], net.conv1.bias[3:4], padding=1).mean()
    assert torch.allclose(scores[0, 0], expected, atol=1e-5)


# What goes wrong.


def test_a_score_that_is_not_finite_stops_the_run_and_keeps_the_last_good_pictures():
    def score(seen):
        brightness = seen[PICTURE].mean((1, 2, 3))
        return torch.where(brightness > 0.545, torch.nan, brightness) + 0 * seen["conv1"].mean((1, 2, 3))

    canvas = Pixels(torch.stack([torch.full((3, 8, 8), 0.5), torch.full((3, 8, 8), 0.2)]))
    shown = [canvas.picture().detach().clone()]
    steps = ascend(small(), Objective(["conv1"], score, "too bright"), canvas, steps=50)
    with pytest.raises(
        NonFiniteScore, match=r"score of picture 0 is nan at step 6 of 50 \(too bright\).*kept"
    ) as caught:
        shown.extend(step.picture for step in steps)
    kept = caught.value.step.picture
    assert torch.equal(kept, canvas.picture())
    assert torch.equal(kept, shown[-2])  # the last whose score was a number; the one after it gave the bad score
    assert kept.isfinite().all()


def test_a_network_with_infinite_weights_stops_at_the_first_step_with_the_start():
    net = tiny()
    with torch.no_grad():
        net.conv2.weight[0, 0, 0, 0] = torch.inf
    canvas = Pixels(noise(1, 3, 8, 8))
    with pytest.raises(NonFiniteScore, match="at step 1 of 9") as caught:
        list(ascend(small(net), channel("conv2", [0]), canvas, steps=9))
    assert torch.equal(caught.value.step.picture, noise(1, 3, 8, 8))


def test_a_gradient_that_is_not_finite_stops_the_run_too():
    def score(seen):
        return (seen[PICTURE] - 0.5).square().sum((1, 2, 3)).sqrt()  # not differentiable where it is nought

    canvas = Pixels(torch.full((1, 3, 4, 4), 0.5))
    with pytest.raises(NonFiniteScore, match="gradient") as caught:
        list(ascend(small(), Objective([], score, "distance"), canvas, steps=1))
    assert torch.equal(caught.value.step.picture, torch.full((1, 3, 4, 4), 0.5))


@pytest.mark.parametrize(
    ("options", "message"),
    [(dict(steps=0), "0 steps: at least one"), (dict(steps=1, precision="float16"), "'float16' is unknown.*bfloat16")],
)
def test_what_cannot_be_asked_for(options, message):
    with pytest.raises(ValueError, match=message):
        list(ascend(small(), channel("conv1", [0]), Pixels(noise(1, 3, 8, 8)), **options))


def test_an_unknown_layer_and_an_unknown_channel_are_said():
    with pytest.raises(KeyError, match="no layer 'conv9'"):
        list(ascend(small(), channel("conv9", [0]), Pixels(noise(1, 3, 8, 8)), steps=1))
    with pytest.raises(ValueError, match="which has 6: each must be from 0 to 5"):
        list(ascend(small(), channel("conv2", [6]), Pixels(noise(1, 3, 8, 8)), steps=1))


# Channels that are shut.


def _shut(by: float) -> Network:
    """Channel 0 of the layer `relu2` is off for the start, by so much."""
    net = tiny().eval()
    with torch.no_grad():
        net.conv2.bias[0] -= net.conv2(net.conv1(noise(2, 3, 12, 12)).relu())[:, 0].max() + by
    return small(net)


def test_a_channel_that_starts_shut_is_opened_and_its_neighbours_climb_as_ever():
    network, start = _shut(0.02), noise(2, 3, 12, 12)
    assert measure(network, channel("relu2", [0, 3]), start)[0] == 0
    scores, pictures = climbed(network, channel("relu2", [0, 3]), Pixels(start), steps=20, learning_rate=0.05)
    assert scores[0, 0] == 0
    assert scores[-1, 0] > 0
    _, alone = climbed(network, channel("relu2", [3]), Pixels(start[1:]), steps=20, learning_rate=0.05)
    assert torch.allclose(alone[0], pictures[1], atol=1e-3)


def test_the_first_borrowed_step_is_the_one_before_the_relu():
    network, start = _shut(0.5), noise(1, 3, 12, 12)
    behind, before = Pixels(start), Pixels(start)
    (step,) = ascend(network, channel("relu2", [0]), behind, steps=1)
    list(ascend(network, channel("conv2", [0]), before, steps=1))
    assert not step.alive
    assert torch.allclose(behind.picture(), before.picture(), atol=1e-4)


def test_a_channel_that_nothing_opens_is_reported_dead():
    net = tiny().eval()
    with torch.no_grad():
        net.conv2.weight[0] = 0
        net.conv2.bias[0] = -1
    for step in ascend(small(net), channel("relu2", [0, 1]), Pixels(noise(2, 3, 12, 12)), steps=20):
        assert not step.alive[0]
    assert step.alive[1]
    assert step.scores[0] == 0


@pytest.mark.parametrize("ceiling", [float("inf"), 6.0])
def test_the_redirected_gradient_in_closed_form(ceiling):
    x = torch.tensor([[-2.0, -1.0, 0.5, 7.0], [-2.0, -1.0, -0.5, -3.0]]).requires_grad_()
    upstream = torch.tensor([[1.0, -1.0, 2.0, 4.0], [1.0, -1.0, 2.0, -0.5]])
    with _OpenReLU():
        forms = [F.relu(x), x.relu(), torch.relu(x), nn.ReLU()(x)] if ceiling > 6 else [F.relu6(x), nn.ReLU6()(x)]
        clones = [] if ceiling < 7 else [nn.ReLU(inplace=True)(x.clone()), x.clone().relu_(), torch.relu_(x.clone())]
    # the first picture lets something through and is left alone; in the second, what would rise gets through
    through = 4.0 if ceiling > 7 else 0.0
    expected = torch.tensor([[0, 0, 2.0, through], [1, 0, 2, 0]])
    for rectified in forms + clones:
        assert torch.equal(rectified, x.clamp(0, ceiling))
        (gradient,) = torch.autograd.grad((rectified * upstream).sum(), x, retain_graph=True)
        assert torch.equal(gradient, expected)
    (plain,) = torch.autograd.grad((F.relu(x) * upstream).sum(), x)  # and outside everything is as ever
    assert torch.equal(plain, upstream * (x > 0))


def test_squeezenets_rectified_logits_are_opened_from_grey():
    """Its head ends in a ReLU: with random weights half of the logits start at nought."""
    network = models.load("squeezenet1_0", weights=None, device="cpu")
    with torch.no_grad():
        network.net.classifier[1].bias[:] = -0.05 * 100
    start = 0.5 + 0.1 * (noise(1, 3, 64, 64) - 0.5)
    assert measure(network, logit([7]), start) == 0
    canvas = Pixels(start)
    steps = list(ascend(network, logit([7]), canvas, steps=3, learning_rate=0.02))
    assert (steps[-1].picture - start).abs().mean() > 0.02
    opened = [
        measure(network.net.classifier[:2], channel("1", [7]), _features(network, x)) for x in (start, canvas.picture())
    ]
    assert opened[1] > opened[0]


def _features(network, pictures):
    return network.net.features(network.normalise(pictures))


def test_a_real_squeezenets_logit_rises(shared):
    network = models.load("squeezenet1_0", device="cpu")
    scores, _ = climbed(network, logit([1]), Fourier.random(96, 96, generators([0])), steps=12, learning_rate=0.02)
    assert scores[-1] > scores[0] + 1


def test_deep_dream_starts_from_what_is_there():
    network, start = small(), 0.2 + 0.6 * noise(1, 3, 12, 12)
    scores, _ = climbed(network, deep_dream("conv2"), Pixels(start), steps=10)
    activations = network.net.conv2(network.net.conv1(start).relu())
    assert torch.allclose(scores[0], activations.square().mean().view(1), rtol=1e-5)
    assert scores[-1] > scores[0]


class Leftover:
    """What another library leaves on a model: a hook that holds the activations of its last pass."""

    def __init__(self, module):
        self.kept = None
        module.register_forward_hook(self.keep)

    def keep(self, module, inputs, output):
        self.kept = output


def test_hooks_left_behind_by_another_library_stop_nothing():
    network = models.load("minivgg_robust")
    leftover = Leftover(network.net.block1.conv1)
    network(torch.rand(1, 3, 64, 64))
    assert leftover.kept.grad_fn is not None
    picture = Pixels(torch.full((1, 3, 64, 64), 0.5))
    *_, step = ascend(network, channel("block2.conv1", [3]), picture, steps=2)
    assert step.scores.isfinite().all()
    assert models.layers(network)["block1.conv1"].channels == 96
    assert models.randomised(network).name == "minivgg_robust (random)"


def test_dropout_hides_its_share_of_a_layers_inputs_and_keeps_their_mean():
    """The head is linear, so its first logit without a bias is a sum over the inputs that are left, twice as strong."""
    network = Network(tiny().eval(), "tiny", size=32)
    start = noise(3, 3, 16, 16)
    features = network.net[:6](start).detach()
    weight, bias = network.net.head.weight[2].detach(), network.net.head.bias[2].detach()
    possible = {}
    for picture in range(3):
        terms = (features[picture] * weight * 2).double()
        masks = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 6)
        possible[picture] = masks @ terms + bias.double()
    found = []
    for seed in range(30):
        step = next(ascend(network, logit([2, 2, 2]), Pixels(start), steps=1, seeds=[seed] * 3, dropout=("head", 0.5)))
        for picture in range(3):
            assert (possible[picture] - step.scores[picture]).abs().min() < 1e-5
        found.append(step.scores)
    assert len({tuple(scores.tolist()) for scores in found}) > 10
    plain = network(start)[:, 2].detach()
    spread = torch.stack(found).std(0) / 30**0.5
    assert ((torch.stack(found).mean(0) - plain).abs() < 4 * spread + 1e-4).all()
    alone = next(ascend(network, logit([2]), Pixels(start[1:2]), steps=1, seeds=[29], dropout=("head", 0.5)))
    assert torch.allclose(alone.scores[0], found[-1][1], atol=1e-5)


def test_what_nothing_holds_fades():
    canvas = Fourier.random(16, 16, generators([0, 1]))
    before = canvas.parameters.detach().clone()
    *_, last = ascend(small(), 0 * squared_norm(), canvas, steps=5, fade=0.1)
    assert torch.allclose(last.canvas.parameters, before * 0.9**5, atol=1e-7)


def test_a_settling_climb_goes_as_far_as_half_a_cosine_lets_it():
    """Of a linear score the gradient is the same at each step, and each of Adam's steps the learning rate."""
    start = torch.full((1, 3, 8, 8), 0.2)
    total = Objective([], lambda seen: (1.0 * seen[PICTURE]).flatten(1).sum(1), "total")
    *_, last = ascend(small(), total, Pixels(start), steps=10, learning_rate=0.01, settle=True)
    expected = 0.01 * sum((1 + np.cos(np.pi * step / 10)) / 2 for step in range(1, 11))
    assert torch.allclose(last.picture, start + expected, atol=1e-5)
    *_, last = ascend(small(), total, Pixels(start), steps=10, learning_rate=0.01)
    assert torch.allclose(last.picture, start + 0.1, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "swin", "swin v2"])
def test_attention_runs_in_bfloat16(kind):
    from torchvision.models import VisionTransformer
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

    torch.manual_seed(0)
    if kind == "vit":
        module = VisionTransformer(32, 16, 2, 2, 16, 32, num_classes=7)
        torch.nn.init.normal_(module.heads.head.weight)  # zero before training
    else:
        newer = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2} if kind == "swin v2" else {}
        module = SwinTransformer([4, 4], 16, [2, 2], [2, 2], [4, 4], num_classes=7, **newer)
    network, pictures = Network(module.eval(), kind, size=32), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected, found = network(pictures), twin(network, torch.bfloat16)(pictures)
    assert found.dtype == torch.bfloat16
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()
    assert {each.dtype for each in network.parameters()} == {torch.float32}


def test_a_penalty_keeps_no_picture_alive():
    net = tiny().eval()
    with torch.no_grad():
        net.head.weight[2] = 0  # no pixel has a say in this logit
    penalised = logit([2, 3]) - squared_norm()
    *_, last = ascend(small(net), penalised, Pixels(noise(2, 3, 12, 12)), steps=20)
    assert last.alive.tolist() == [False, True]
