"""Filter gradients, against closed forms, finite differences and the plain loop."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from nbhelpers import models
from nbhelpers.models import Network
from nbhelpers.techniques import filter_gradients
from nbhelpers.techniques.filter_gradients import FilterGradients, filter_pictures, filter_weights

SAMPLES = Path(__file__).parents[2] / "sample_images"
QUICK = {
    "reference": str(SAMPLES / "rocket.jpg"),
    "similar": str(SAMPLES / "temple.jpg"),
    "dissimilar": str(SAMPLES / "coffee.jpg"),
    "layer": "block2.conv2",
    "views": 3,
    "size": 64,
    "draws": 2,
}


@pytest.fixture(scope="module")
def network() -> Network:
    return models.load("minivgg_robust")


class Small(nn.Module):
    """In-place ReLUs, grouped and strided convolutions, batch normalisation, dropout: what real networks have."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(8, 6, 3, groups=2, padding=1, bias=False)
        self.drop = nn.Dropout()
        self.head = nn.Linear(6, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        seen = self.relu(self.second(self.relu(self.norm(self.first(pictures)))))
        return self.head(self.drop(seen.mean((2, 3))))


@pytest.fixture
def small() -> Network:
    torch.manual_seed(0)
    network = Network(Small(), "small", size=16)
    network.net.norm.running_mean.uniform_(-0.1, 0.1)
    return network.train()


def loop(network: Network, layer: str, target: int, pictures: Tensor) -> Tensor:
    """The plain way: photo by photo."""
    network = copy.deepcopy(network).eval()
    weight = network.net.get_submodule(layer).weight
    return torch.stack([torch.autograd.grad(network(picture[None])[0, target], weight)[0] for picture in pictures])


def all_at_once(*arguments, **options) -> Tensor:
    return torch.cat([found for found, _ in filter_weights.gradients(*arguments, **options)])


def test_closed_form_of_a_linear_network() -> None:
    """logit = sum of filters' mean outputs: the gradient of each weight is the mean of the pixels it meets."""
    convolution = nn.Conv2d(3, 2, 2)
    head = nn.Linear(2, 1, bias=False)
    nn.init.constant_(head.weight, 1.0)
    net = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    pictures = torch.rand(5, 3, 6, 7)
    found = all_at_once(Network(net, "linear", size=7), "0", 0, pictures, batch_size=2)
    for row in range(2):
        for column in range(2):
            expected = pictures[:, :, row : row + 5, column : column + 6].mean((2, 3))
            assert torch.allclose(found[:, 0, :, row, column], expected, atol=1e-6)
            assert torch.allclose(found[:, 1, :, row, column], expected, atol=1e-6)


@pytest.mark.parametrize("layer", ["first", "second"])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_one_batch_gives_what_the_loop_gives(small: Network, layer: str, batch_size: int) -> None:
    pictures = torch.rand(5, 3, 16, 16)
    found = all_at_once(small, layer, 2, pictures, batch_size=batch_size)
    expected = loop(small, layer, 2, pictures)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_convolution_that_runs_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")
            self.spare = nn.Conv2d(3, 3, 1)

        def forward(self, pictures: Tensor) -> Tensor:
            return self.conv(self.conv(pictures).relu_()).relu().mean((2, 3))

    network, pictures = Network(Twice(), "twice", size=8), torch.rand(3, 3, 8, 8)
    assert torch.allclose(all_at_once(network, "conv", 1, pictures), loop(network, "conv", 1, pictures), atol=1e-6)
    with pytest.raises(ValueError, match="does not use layer 'spare'"):
        all_at_once(network, "spare", 1, pictures)


def test_logits_come_with_the_gradients(small: Network) -> None:
    pictures = torch.rand(3, 3, 16, 16)
    logits = torch.cat([logits for _, logits in filter_weights.gradients(small, "first", 1, pictures, batch_size=2)])
    assert torch.allclose(logits, copy.deepcopy(small).eval()(pictures)[:, 1], atol=1e-6)


@pytest.mark.parametrize("layer", ["stem.conv", "block3.conv1", "block4.conv1"])
def test_finite_differences_in_float64(network: Network, layer: str) -> None:
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    exact = all_at_once(copy.deepcopy(network).double(), layer, 5, picture[None])[0]
    ranked = exact.abs().flatten().argsort(descending=True)[:1000:200]
    places = [tuple(int(k) for k in torch.unravel_index(place, exact.shape)) for place in ranked]
    moved = filter_weights.finite_differences(network, layer, 5, picture, places)
    expected = torch.stack([exact[place] for place in places])
    assert moved.dtype == torch.float64
    assert (expected.abs() > 1e-4).all()
    assert (moved - expected).abs().max() < 1e-5


def test_the_network_is_left_as_it_was(small: Network) -> None:
    small.net.head.weight.requires_grad_(False)
    before = copy.deepcopy(small.state_dict())
    list(filter_weights.gradients(small, "first", 0, torch.rand(2, 3, 16, 16)))
    filter_weights.logits_without(small, "first", [0], torch.rand(2, 3, 16, 16))
    filter_weights.finite_differences(small, "first", 0, torch.rand(3, 16, 16), [(0, 0, 0, 0)])
    stopped = filter_weights.gradients(small, "first", 0, torch.rand(4, 3, 16, 16), batch_size=1)
    next(stopped)
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())
    assert all(module.training for module in small.net.modules())
    assert [name for name, each in small.named_parameters() if not each.requires_grad] == ["net.head.weight"]
    assert all(each.grad is None for each in small.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in small.modules())


def test_filters_taken_away_are_as_good_as_zero(small: Network) -> None:
    pictures = torch.rand(2, 3, 16, 16)
    for layer in ("first", "second"):
        by_hand = copy.deepcopy(small).eval()
        convolution = by_hand.net.get_submodule(layer)
        with torch.no_grad():
            for parameter in convolution.parameters():
                parameter[[1, 4]] = 0
        assert torch.allclose(
            filter_weights.logits_without(small, layer, [1, 4], pictures), by_hand(pictures), atol=1e-6
        )
        whole = filter_weights.logits_without(small, layer, [], pictures)
        assert torch.allclose(whole, copy.deepcopy(small).eval()(pictures), atol=1e-6)


def test_importance_is_the_mean_length_whatever_the_batch(network: Network) -> None:
    recipe = FilterGradients(**QUICK)
    pictures = filter_gradients.crops(recipe.reference, 3, 64).pictures
    each = loop(network, recipe.layer, network.classes.index("obelisk"), pictures)
    expected = torch.stack([torch.linalg.vector_norm(photo.flatten(1), dim=1) for photo in each]).mean(0)
    for batch_size in (1, 2, 8):
        steps = list(recipe.changed(batch_size=batch_size).iterate(network))
        assert [step.index for step in steps] == [*range(batch_size, 3, batch_size), 3]
        last = steps[-1]
        assert torch.allclose(last.lengths, expected, rtol=1e-4, atol=1e-6)
        assert torch.allclose(last.gradient, each.mean(0), rtol=1e-3, atol=1e-5)
        assert torch.allclose(last.importance, expected / expected.max(), rtol=1e-4, atol=1e-5)
        assert last.importance.min() >= 0
        assert last.importance.max() == 1
        assert last.ranking[0] == int(expected.argmax())


@pytest.mark.parametrize("views", [1, 2])
def test_whole_photos_of_unlike_shapes_are_averaged_and_compared(network: Network, tmp_path: Path, views: int) -> None:
    for name, size in (("a", (90, 30)), ("b", (30, 75)), ("c", (60, 40)), ("d", (90, 30))):
        noise = np.random.default_rng(ord(name)).integers(0, 256, (*size[::-1], 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    folder = {"reference": str(tmp_path), "similar": str(SAMPLES / "coffee.jpg"), "views": views, "fit": "whole"}
    recipe = FilterGradients(**QUICK | folder | {"size": 32, "batch_size": 2, "removed": [0, 4]})
    photos = filter_gradients.read_photos(recipe, network, recipe.reference)
    assert len({tuple(picture.shape) for picture in photos.pictures}) == 3
    target = network.classes.index("obelisk")
    each = torch.cat([loop(network, recipe.layer, target, picture[None]) for picture in photos.pictures])
    step = recipe.run(network)
    assert (step.index, step.total) == (4 * views, 4 * views)
    assert torch.allclose(step.gradient, each.mean(0), rtol=1e-3, atol=1e-5)
    comparison = filter_gradients.compare(recipe, network)
    assert torch.allclose(comparison.patterns[: 4 * views], each.sum((3, 4)), rtol=1e-3, atol=1e-5)
    assert comparison.photos.names[: 4 * views] == photos.names
    ablation = filter_gradients.ablate(recipe, step.ranking, network)
    with torch.no_grad():
        logits = torch.stack([network(picture.flip(2)[None])[0, target] for picture in photos.pictures])
    assert ablation.logits["random"][0] == pytest.approx(logits.mean().item(), rel=1e-5)
    volumes = filter_pictures.gradient_volumes(comparison.patterns[:2], 1)
    film = list(filter_pictures.frames(photos.pictures[:2], volumes, ["a", "b"], 1, side=30))
    assert len({frame.shape for frame in film}) == 1


def test_what_is_at_the_end_of_a_wide_photo_counts_when_it_is_whole(network: Network, tmp_path: Path) -> None:
    for name, colour in (("plain", 100), ("marked", 250)):
        pixels = np.full((32, 64, 3), 100, np.uint8)
        pixels[8:24, :8, 0] = colour
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")

    def gradient(name: str, fit: str) -> torch.Tensor:
        recipe = FilterGradients(**QUICK | {"reference": str(tmp_path / f"{name}.png"), "size": 32, "views": 1})
        return recipe.changed(fit=fit).run(network).gradient

    for fit in ("whole", "pad"):
        plain, marked = gradient("plain", fit), gradient("marked", fit)
        assert (plain - marked).norm() > 0.01 * plain.norm()
    assert torch.equal(gradient("plain", "crop"), gradient("marked", "crop"))


def test_memory_is_bounded_by_the_batch(small: Network, monkeypatch) -> None:
    models.examine(small, 16)  # looks once, at pictures of its own
    seen = []
    forward = Small.forward
    monkeypatch.setattr(Small, "forward", lambda self, pictures: (seen.append(pictures), forward(self, pictures))[1])
    shapes = [
        tuple(found.shape) for found, _ in filter_weights.gradients(small, "first", 0, torch.rand(7, 3, 16, 16), 3)
    ]
    assert [shape[0] for shape in shapes] == [3, 3, 1]
    assert len(seen) == 3


def test_correlations_against_numpy(network: Network) -> None:
    comparison = filter_gradients.compare(FilterGradients(**QUICK), network)
    assert comparison.groups == ["reference"] * 3 + ["similar"] * 3 + ["dissimilar"] * 3
    expected = np.corrcoef(comparison.patterns.flatten(1).double().numpy())
    assert np.allclose(comparison.correlations.numpy(), expected, atol=1e-9)
    table = comparison.table()
    assert table["reference"] == pytest.approx(expected[:3, :3][~np.eye(3, dtype=bool)].mean())
    assert table["similar"] == pytest.approx(expected[:3, 3:6].mean())
    assert table["dissimilar"] == pytest.approx(expected[:3, 6:].mean())
    each = loop(network, "block2.conv2", network.classes.index("obelisk"), comparison.photos.pictures[:1])
    assert torch.allclose(comparison.patterns[0], each[0].sum((2, 3)), rtol=1e-3, atol=1e-5)
    assert torch.allclose(comparison.lengths[0], each[0].flatten(1).norm(dim=1), rtol=1e-4, atol=1e-6)


def test_the_important_filters_matter_more_than_random_ones(network: Network) -> None:
    recipe = FilterGradients(**{**QUICK, "layer": "block3.conv2", "removed": [0, 8], "draws": 4})
    ranking = recipe.run(network).ranking
    ablation = filter_gradients.ablate(recipe, ranking, network)
    pictures = filter_gradients.crops(recipe.reference, 3, 64).pictures.flip(3)
    target = network.classes.index("obelisk")
    with torch.no_grad():
        whole = network(pictures)
    without = filter_weights.logits_without(network, "block3.conv2", ranking[:8], pictures)
    assert ablation.logits["most important"][0] == pytest.approx(whole[:, target].mean().item(), rel=1e-5)
    assert ablation.logits["most important"][1] == pytest.approx(without[:, target].mean().item(), rel=1e-5)
    assert ablation.accuracy["random"][0] == pytest.approx((whole.argmax(1) == target).float().mean().item())
    fall = {name: values[0] - values[1] for name, values in ablation.logits.items()}
    assert fall["most important"] > 5 * fall["random"]
    assert fall["most important"] > fall["most active"]
    assert abs(fall["least important"]) < 0.05
    assert filter_gradients.ablate(recipe, ranking, network) == ablation
    assert "most important" in ablation.table()


def test_a_class_by_name_number_or_digits(network: Network) -> None:
    obelisk = network.classes.index("obelisk")
    named = FilterGradients(**QUICK, target="obelisk").run(network)
    for target in (obelisk, str(obelisk)):
        assert torch.equal(FilterGradients(**QUICK, target=target).run(network).gradient, named.gradient)
    with pytest.raises(ValueError, match=r"knows no class 'obelix'.*obelisk"):
        FilterGradients(**QUICK, target="obelix").run(network)


def test_bad_input_is_explained(network: Network, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a ReLU: only a convolution has filter weights. Nearest: block2.conv"):
        FilterGradients(**{**QUICK, "layer": "block2.relu2"}).run(network)
    with pytest.raises(KeyError, match=r"no layer 'block2.conv3'"):
        FilterGradients(**{**QUICK, "layer": "block2.conv3"}).run(network)
    with pytest.raises(ValueError, match=r"gives a single photo of 'obelisk'.*raise views"):
        filter_gradients.compare(FilterGradients(**{**QUICK, "views": 1}), network)
    with pytest.raises(ValueError, match="has 128 filters"):
        filter_gradients.ablate(FilterGradients(**QUICK, removed=[0, 200]), list(range(128)), network)
    with pytest.raises(FileNotFoundError):
        FilterGradients(**{**QUICK, "reference": str(tmp_path / "none")}).run(network)
    with pytest.raises(ValueError, match="holds no pictures"):
        FilterGradients(**{**QUICK, "reference": str(tmp_path)}).run(network)
    broken = copy.deepcopy(network)
    with torch.no_grad():
        broken.net.head.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="picture 0, 1, 2 is infinite or not a number"):
        FilterGradients(**QUICK, target="goldfish").run(broken)


def test_unreadable_photos_are_left_out_and_named(network: Network, tmp_path: Path) -> None:
    Image.open(SAMPLES / "rocket.jpg").resize((80, 80)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8 no picture")
    recipe = FilterGradients(**{**QUICK, "reference": str(tmp_path), "views": 2})
    average = recipe.run(network)
    assert average.total == 2
    assert list(average.skipped) == ["b.jpg"]
    assert list(filter_gradients.compare(recipe, network).photos.skipped) == ["b.jpg"]
    (tmp_path / "a.png").unlink()
    with pytest.raises(ValueError, match=r"is not a picture"):
        recipe.run(network)


def test_a_class_without_any_gradient_has_no_importance(small: Network) -> None:
    with torch.no_grad():
        small.net.head.weight.zero_()
    average = FilterGradients(**{**QUICK, "layer": "first", "target": 0}).run(small)
    assert average.importance.tolist() == [0] * 8
    assert average.ranking == list(range(8))


def test_one_value_per_filter_fills_a_map_row_by_row() -> None:
    assert filter_pictures.grid(torch.arange(6.0)).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert filter_pictures.grid(torch.ones(256)).shape == (16, 16)
    odd = filter_pictures.grid(torch.arange(1, 8.0))
    assert odd.flatten()[:7].tolist() == list(range(1, 8))
    assert not odd.flatten()[7:].any()
    assert filter_pictures.grid(torch.ones(2, 5, 12)).shape[:2] == (2, 5)


def test_gradient_volumes_hold_every_kernel_once() -> None:
    patterns = torch.randn(3, 6, 4)
    volumes = filter_pictures.gradient_volumes(patterns, references=2)
    assert volumes.shape == (3, 2, 3, 4)
    assert volumes.dtype == np.uint8
    top = np.quantile(patterns.abs().numpy(), 0.999)
    expected = (patterns.abs().numpy() / top * 255).clip(0, 255).round().astype(np.uint8).reshape(3, 2, 3, 4)
    columns = {tuple(expected[..., channel].flatten()) for channel in range(4)}
    assert {tuple(volumes[..., depth].flatten()) for depth in range(4)} == columns


def test_the_animation_moves_from_photo_to_photo() -> None:
    pictures = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    volumes = np.zeros((2, 4, 4, 5), np.uint8)
    volumes[1] = 255
    film = list(filter_pictures.frames(pictures, volumes, ["a", "b"], between=3, side=16))
    assert len(film) == 12
    assert all(frame.shape == film[0].shape for frame in film)
    assert torch.equal(film[0], film[2])
    brightness = [frame[:, :16, :16].mean().item() for frame in film]
    assert brightness == pytest.approx([0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 0.75, 0.5, 0.25], abs=0.01)


def test_crops_differ_and_stay_inside() -> None:
    photos = filter_gradients.crops(str(SAMPLES / "coffee.jpg"), 4, 45)
    assert photos.pictures.shape == (4, 3, 45, 45)
    assert len({tuple(picture.flatten()[:50].tolist()) for picture in photos.pictures}) == 4
    assert photos.names[3] == "coffee.jpg 4"
    assert filter_gradients.crops(str(SAMPLES / "coffee.jpg"), 1, 45).names == ["coffee.jpg"]


def test_squeezenet_on_a_real_class(shared: Path, monkeypatch) -> None:
    """The same finding on a network of another family, with photos of the class that it never saw here before."""
    monkeypatch.setenv("TORCH_HOME", str(shared / "weights"))
    network = models.load("squeezenet1_0", "IMAGENET1K_V1", device="cpu")
    photo = str(shared / "images" / "imagenet" / "n01443537_goldfish.jpg")
    recipe = FilterGradients(
        network="squeezenet1_0", layer="features.12.expand3x3", target="goldfish", reference=photo, views=2, size=160
    ).changed(removed=[0, 16], draws=3)
    average = recipe.run(network)
    expected = loop(network, recipe.layer, 1, filter_gradients.crops(photo, 2, 160).pictures).mean(0)
    assert torch.allclose(average.gradient, expected, rtol=1e-3, atol=1e-4)
    ablation = filter_gradients.ablate(recipe, average.ranking, network)
    fall = {name: values[0] - values[1] for name, values in ablation.logits.items()}
    assert fall["most important"] > 5 * abs(fall["random"])
