"""Principal features: against scikit-learn, closed forms, and the published formulas written out again in float64."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision.models import get_model

from nbhelpers import images, models
from nbhelpers.models.covariance import Moments
from nbhelpers.models.stages import select, stages
from nbhelpers.techniques.principal_features import (
    NETWORKS,
    PrincipalFeatures,
    paint,
    palette_learning,
    palettes,
    sheet,
    side_by_side,
    strips,
)
from nbhelpers.techniques.principal_features.palette_learning import Fit

SAMPLES = Path(__file__).parents[2] / "sample_images"


def recipe(**changes) -> PrincipalFeatures:
    return PrincipalFeatures(**{"photos": str(SAMPLES), "batch": 5, "size": 64, "fit": "crop", **changes})


@pytest.fixture(scope="module")
def network() -> models.Network:
    return models.load(device="cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eleven small photos and one file that is none."""
    made = tmp_path / "photos"
    made.mkdir()
    for number, path in enumerate(sorted(SAMPLES.glob("*.jpg"))[:11]):
        Image.open(path).convert("RGB").resize((90 + 7 * number, 80)).save(made / path.name)
    (made / "broken.jpg").write_bytes(b"no picture")
    return made


# --- stages ----------------------------------------------------------------------------------------------------------

EXPECTED = {
    "alexnet": "features.1 features.4 features.11",
    "resnet18": "relu layer1 layer2 layer3 layer4",
    "squeezenet1_0": "features.1 features.5 features.10 features",
    "googlenet": "conv1 conv3 inception3b inception4e inception5b",
    "inception_v3": "Conv2d_2b_3x3 Conv2d_4a_3x3 Mixed_5d Mixed_6e Mixed_7c",
    "densenet121": "features.relu0 features.transition1.conv features.transition2.conv features.transition3.conv "
    "features",
    "mobilenet_v2": "features.2.conv.0 features.4.conv.0 features.7.conv.0 features.14.conv.0 features",
    "mnasnet0_5": "layers.8.0.layers.2 layers.9.0.layers.2 layers.10.0.layers.2 layers.12.0.layers.2 layers",
    "shufflenet_v2_x1_0": "conv1 maxpool stage2 stage3 conv5",
    "efficientnet_b0": "features.2.0.block.0 features.3.0.block.0 features.4.0.block.0 features.6.0.block.0 features",
    "wide_resnet50_2": "relu layer1 layer2 layer3 layer4",
    "vgg11": "features.1 features.4 features.9 features.14 features.19",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_family_of_networks(name: str) -> None:
    """Random weights: the stages, and a map in colours that fill [0, 1]."""
    net = get_model(name, weights=None, init_weights=False) if name == "vgg11" else models.load(name, weights=None)
    net = models.Network(net.eval(), name) if name == "vgg11" else net
    assert [layer.name for layer in stages(net)] == EXPECTED[name].split()
    assert [layer.name for layer in stages(net, 80)] == EXPECTED[name].split()
    painted = paint(recipe(size=80, batch=4), net)
    assert painted.picture.shape == (4, 3, 80, 80)
    assert painted.picture.min() == 0
    assert painted.picture.max() == 1
    assert painted.palette.shallower == EXPECTED[name].split()[:-1]
    assert 0 < painted.palette.explained.sum() <= 1 + 1e-5


class Functional(nn.Module):
    """Reduces by functions, so that no module tells of it, in two branches, and gates in between."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, padding=1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.left = nn.Conv2d(8, 4, 3, padding=1)
        self.right = nn.Conv2d(8, 4, 3, 2, padding=1)
        self.last = nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Linear(6, 2)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        one = self.one(pictures).relu()
        one = one * self.gate(one.mean((2, 3), keepdim=True)).sigmoid()
        two = torch.cat([F.max_pool2d(self.left(one), 2), self.right(one)], 1)
        return self.head(self.last(F.avg_pool2d(two, 2)).relu().mean((2, 3)))


def test_reductions_that_are_no_modules() -> None:
    net = Functional()
    assert [(layer.name, layer.stride) for layer in stages(net, 32)] == [("left", 1), ("right", 2), ("last", 4)]
    assert paint(recipe(), net).palette.shallower == ["left", "right"]


def test_a_network_without_convolutions_has_no_stages() -> None:
    with pytest.raises(ValueError, match="no convolutions"):
        stages(nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3 * 32 * 32, 2)), 64)


class Cosine(nn.Module):
    """Its logits are no layer's: cosines with bare weights."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 3, 2), nn.ReLU())
        self.classes = nn.Parameter(torch.rand(7, 5))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.features(pictures).mean((2, 3))) @ self.classes.T


class Gated(nn.Module):
    """Class maps at its end, a linear gate in between, and a branch that comes last and does not count."""

    def __init__(self, size: int = 0) -> None:
        super().__init__()
        self.first, self.gate, self.second = nn.Conv2d(3, 8, 3), nn.Linear(8, 8), nn.Conv2d(8, 12, 3, 2)
        self.rectified, self.maps, self.aside = nn.ReLU(), nn.Conv2d(12, 7, 1), nn.Conv2d(12, 9, 1)
        self.size = size

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        first = self.first(pictures).relu()
        second = self.rectified(self.second(first * self.gate(first.mean((2, 3))).sigmoid()[..., None, None]))
        maps = self.maps(second)
        answer = F.interpolate(maps, size=self.size) if self.size else maps.mean((2, 3))
        return {"out": answer, "aux": self.aside(second)}


@pytest.mark.parametrize(
    ("net", "last"), [(Cosine(), "features"), (Gated(), "rectified"), (Gated(size=48), "rectified")]
)
def test_the_deepest_stage_is_features_whatever_the_head(net: nn.Module, last: str) -> None:
    assert stages(models.Network(net.eval(), size=48))[-1].name == last


def test_segmentation_and_detection() -> None:
    options = {"weights": None, "weights_backbone": None}
    segmentation = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(**options, aux_loss=True).eval()
    assert stages(models.Network(segmentation, size=96))[-1].name == "classifier.3"
    detector = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(**options).eval()
    with pytest.raises(ValueError, match=r"a list of 1 \(dict\), no logits.*: name a layer"):
        stages(models.Network(detector, size=96))


def test_only_finer_stages_weight_a_layer(network: models.Network) -> None:
    layer, finer = select(network, "block3.conv1")
    assert (layer.channels, [each.name for each in finer]) == (352, ["block1.relu1", "block2.relu2"])


# --- painting --------------------------------------------------------------------------------------------------------


def published(activations: list[np.ndarray], signs: np.ndarray, hierarchical: bool, n_sigma: float) -> np.ndarray:
    """The paper's procedure, step by step, in float64 on all positions at once."""
    deepest = activations[-1]
    batch, channels, height, width = deepest.shape
    vectors = deepest.transpose(0, 2, 3, 1).reshape(-1, channels)
    left, singular, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    principal = (left[:, :3] * singular[:3] * signs).reshape(batch, height, width, 3).transpose(0, 3, 1, 2)

    def enlarged(values: np.ndarray, like: np.ndarray) -> np.ndarray:
        return F.interpolate(torch.from_numpy(values), like.shape[2:], mode="bilinear", align_corners=False).numpy()

    finest = np.empty((1, 1, 64, 64))
    if hierarchical:
        for stage in activations[-2::-1]:
            total = stage.sum(1, keepdims=True)
            principal = enlarged(principal, total) * (total / total.max())
        principal = enlarged(principal, finest)
    else:
        weights = sum(enlarged(stage.sum(1, keepdims=True), finest) for stage in activations[:-1])
        principal = enlarged(principal, finest) * weights
    clipped = np.clip((principal - principal.mean()) / principal.std(), -n_sigma, n_sigma)
    return (clipped - clipped.min()) / (clipped.max() - clipped.min())


@pytest.mark.parametrize(("hierarchical", "n_sigma"), [(False, 1.0), (True, 1.0), (False, 3.0)])
def test_the_map_is_the_published_one(network: models.Network, hierarchical: bool, n_sigma: float) -> None:
    painted = paint(recipe(hierarchical=hierarchical, n_sigma=n_sigma), network)
    names = [*painted.palette.shallower, "block4"]
    exact = models.load(device="cpu").double()
    activations, inputs = [], exact.normalise(painted.photos.pictures.double())
    for name, module in [(name, models.find_module(exact, name)) for name in names]:
        module.register_forward_hook(lambda module, inputs, output, name=name: activations.append(output.clone()))
    with torch.no_grad():
        exact.net(inputs)
    activations = [values.numpy() for values in activations]
    vectors = activations[-1].transpose(0, 2, 3, 1).reshape(-1, 512)
    right = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)[2][:3]
    signs = np.sign(right[range(3), np.abs(right).argmax(1)])
    expected = published(activations, signs, hierarchical, n_sigma)
    np.testing.assert_allclose(painted.picture, expected, atol=2e-4)


def test_components_can_be_chosen_and_repeated(network: models.Network) -> None:
    usual, turned = paint(recipe(), network), paint(recipe(components=[3, 1, 2]), network)
    torch.testing.assert_close(usual.picture, turned.picture[:, [1, 2, 0]])
    grey = paint(recipe(components=[2, 2, 2]), network).picture
    assert torch.equal(grey[:, 0], grey[:, 2])


def test_colours_stay_when_the_run_or_the_order_changes(network: models.Network) -> None:
    photos = images.read_folder(SAMPLES, 64, limit=5).pictures
    layer, finer = select(network, "", 64)

    def painted(pictures: torch.Tensor) -> torch.Tensor:
        seen = palettes.observe(network, layer.name, [each.name for each in finer], pictures, batch_size=2)
        return palettes.learn(palettes.Learner(network, layer, finer), [seen]).paint(seen)

    first = painted(photos)
    assert torch.equal(first, painted(photos))
    order = [3, 0, 4, 1, 2]
    torch.testing.assert_close(painted(photos[order]), first[order], atol=1e-3, rtol=0)


def test_upsampling_and_layers_are_taken(network: models.Network) -> None:
    nearest = paint(recipe(upsampling="nearest", layer="block1.relu1"), network)
    assert nearest.palette.shallower == []
    assert any("not weighted" in note for note in nearest.notes)
    assert torch.equal(nearest.picture[:, :, ::2, ::2], nearest.picture[:, :, 1::2, 1::2])
    bicubic = paint(recipe(upsampling="bicubic"), network).picture
    assert 0 < (bicubic - paint(recipe(), network).picture).abs().mean() < 0.1


def test_pictures_for_the_notebook(network: models.Network) -> None:
    painted = paint(recipe(batch=8), network)
    assert sheet(painted).size == (6 * 66 - 2, 4 * 66 - 2)
    assert len(strips({"photos": painted.photos.pictures, "maps": painted.picture}).axes) == 2


def test_networks_without_weights_are_named_and_not_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *arguments: pytest.fail("a connection was tried"))
    paintings, left_out = side_by_side(recipe(), ["minivgg", *NETWORKS, "minivgg_robust"])
    assert list(paintings) == ["minivgg", "minivgg_robust"]
    assert left_out == list(NETWORKS)


def test_the_first_component_of_a_trained_network_is_about_the_photo(shared: Path) -> None:
    """The paper's control on real weights: a random network's components follow the frame, not the photo."""
    wanted = recipe(network="squeezenet1_0", photos=str(shared / "images" / "animals"), batch=6, size=224)
    trained = paint(wanted, net := models.load("squeezenet1_0", device="cpu"))
    random = paint(wanted, models.randomised(net))
    assert trained.palette.explained[0] < 0.2
    assert random.palette.explained[0] > 0.4


# --- learning from a folder ------------------------------------------------------------------------------------------


def finished(fit: Fit, network: models.Network) -> palette_learning.Progress:
    return list(fit.iterate(network))[-1]


def same(first: palettes.Palette, second: palettes.Palette) -> bool:
    names = ("mean", "directions", "variances", "maxima")
    pairs = [(getattr(first, name), getattr(second, name)) for name in names]
    pairs.append((first.spread.values, second.spread.values))
    return all(torch.equal(*pair) for pair in pairs) and first.total == second.total


def test_a_folder_teaches_what_its_batch_does(network: models.Network, folder: Path, tmp_path: Path) -> None:
    wanted = recipe(photos=str(folder), batch=12, hierarchical=True)
    step = finished(Fit(wanted, tmp_path / "p.palette", batch_size=4), network)
    assert (step.index, step.total) == (24, 24)
    assert list(step.skipped) == ["broken.jpg"]
    in_one_go = paint(wanted, network)
    torch.testing.assert_close(step.palette.variances, in_one_go.palette.variances, rtol=1e-5, atol=0)
    learnt = paint(wanted.changed(palette=str(tmp_path / "p.palette")), network)
    torch.testing.assert_close(learnt.picture, in_one_go.picture, atol=2e-4, rtol=0)
    # one photo alone keeps the colours it had among the others
    alone = paint(wanted.changed(palette=str(tmp_path / "p.palette"), first=4, batch=1), network)
    among = learnt.photos.names.index(alone.photos.names[0])
    torch.testing.assert_close(alone.picture[0], learnt.picture[among], rtol=0, atol=1e-5)


@pytest.mark.parametrize("stop_after", [1, 3, 5, 7])
def test_a_stopped_run_goes_on_where_it_was(
    network: models.Network, folder: Path, tmp_path: Path, stop_after: int
) -> None:
    wanted = recipe(photos=str(folder))
    whole = finished(Fit(wanted, tmp_path / "whole", 3), network)
    steps = Fit(wanted, tmp_path / "parts", 3).iterate(network)
    stopped = list(itertools.islice(steps, stop_after))[-1]
    steps.close()
    resumed = list(Fit(wanted, tmp_path / "parts", 3).iterate(network))
    assert resumed[0].index == min(stopped.index + 3, 24)
    assert same(resumed[-1].palette, whole.palette)
    assert resumed[-1].skipped == whole.skipped
    again = list(Fit(wanted, tmp_path / "parts", 3).iterate(network))
    assert [step.index for step in again] == [24]
    assert not list(tmp_path.glob(".*"))


def test_a_broken_batch_is_not_saved(
    network: models.Network, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, state = recipe(photos=str(folder)), tmp_path / "state"
    whole = finished(Fit(wanted, tmp_path / "whole", 3), network)
    added = Moments.add
    calls = itertools.count()

    def interrupted(self: Moments, activations: torch.Tensor) -> None:
        added(self, activations)
        if next(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(palette_learning, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(Moments, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finished(Fit(wanted, state, 3), network)
    monkeypatch.setattr(Moments, "add", added)
    resumed = list(Fit(wanted, state, 3).iterate(network))
    assert resumed[0].index == 9
    assert same(resumed[-1].palette, whole.palette)


def test_progress_shows_what_is_known_so_far(network: models.Network, folder: Path, tmp_path: Path) -> None:
    for step in Fit(recipe(photos=str(folder)), tmp_path / "p", 6).iterate(network):
        assert step.picture.shape == (6, 3, 64, 64)
        assert step.scores.shape == (3,)
        assert (step.palette is None) == (step.index < 24)
    unwatched = finished(Fit(recipe(photos=str(folder)), tmp_path / "unwatched", 6), network)
    assert same(step.palette, unwatched.palette)  # looking changes nothing


def test_another_manner_keeps_the_components(network: models.Network, folder: Path, tmp_path: Path) -> None:
    wanted, state = recipe(photos=str(folder)), tmp_path / "p"
    first = finished(Fit(wanted, state), network)
    steps = list(Fit(wanted.changed(hierarchical=True), state, 4).iterate(network))
    assert steps[0].index == 12 + 4
    assert torch.equal(steps[-1].palette.directions, first.palette.directions)
    assert steps[-1].palette.hierarchical
    with pytest.raises(ValueError, match="hierarchical: True there, False here"):
        paint(wanted.changed(palette=str(state)), network)


def test_a_palette_is_for_what_it_was_learnt_from(network: models.Network, folder: Path, tmp_path: Path) -> None:
    wanted, state = recipe(photos=str(folder)), tmp_path / "p"
    steps = Fit(wanted, state, 4).iterate(network)
    next(steps)
    steps.close()
    with pytest.raises(ValueError, match=r"not finished \(4 of 24 photos looked at\): run the fit again"):
        paint(wanted.changed(palette=str(state)), network)
    with pytest.raises(ValueError, match=r"learnt from something else .*network: 'minivgg_robust' there, 'minivgg'"):
        paint(wanted.changed(palette=str(state), network="minivgg"))
    with pytest.raises(ValueError, match=r"layer: 'block4' there, 'block3.conv1' here"):
        finished(Fit(wanted.changed(layer="block3.conv1"), state), network)
    shutil.copy(SAMPLES / "temple.jpg", folder / "one_more.jpg")
    with pytest.raises(ValueError, match=r"photos: '12 files .* there, '13 files"):
        finished(Fit(wanted, state), network)
    state.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="is not a palette, or it is damaged"):
        finished(Fit(wanted, state), network)
    with pytest.raises(FileNotFoundError, match="learn one from a folder"):
        paint(wanted.changed(palette="nowhere"), network)


# --- bad input -------------------------------------------------------------------------------------------------------


def test_reductions_are_said_aloud(network: models.Network, folder: Path, tmp_path: Path) -> None:
    few = paint(recipe(photos=str(folder), first=3, batch=30), network)
    assert few.notes[0].startswith("skipped 1 unreadable: broken.jpg (")
    assert few.notes[1] == "9 photos instead of 30: there are no more"
    assert few.report()[2:] == few.notes
    one = paint(recipe(photos=str(SAMPLES / "cat.jpg"), batch=1), network)
    assert one.picture.shape == (1, 3, 64, 64)
    assert "nothing to compare" in one.notes[0]
    twins = tmp_path / "twins"
    twins.mkdir()
    for name in "ab":
        shutil.copy(SAMPLES / "cat.jpg", twins / f"{name}.jpg")
    pair = paint(recipe(photos=str(twins), batch=2), network)
    assert pair.notes == ["the photos are identical: what contrasts is within each of them"]
    torch.testing.assert_close(pair.picture[0], pair.picture[1])


def constant(folder: Path, count: int = 2) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (64, 64), (9, 80, 200)).save(folder / f"{number}.png")
    return folder


def test_photos_without_contrast(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 2, 2))
    with pytest.raises(ValueError, match=r"zero variance.*take photos that differ"):
        paint(recipe(photos=str(constant(tmp_path / "blank"))), net)


def test_activations_that_are_not_finite() -> None:
    net = models.load(device="cpu")
    with torch.no_grad():
        net.net.block3.conv1.bias[5] = torch.nan
    with pytest.raises(ValueError, match=r"'block[34].*' gives values that are not finite for photo number 1"):
        paint(recipe(), net)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer": "block3.conv9"}, r"no layer 'block3\.conv9'\. Nearest: block3\.conv"),
        ({"layer": "head"}, r"layer 'head' .* gives no feature maps"),
        ({"components": [1, 2, 40]}, r"features of layer 'block4' have 9: there is no component 40"),
        ({"first": 20}, "holds 12 photos: there is no number 20"),
        ({"photos": "nowhere"}, "nowhere"),
    ],
)
def test_what_is_refused(network: models.Network, changes: dict, said: str) -> None:
    with pytest.raises((ValueError, KeyError, FileNotFoundError), match=said):
        paint(recipe(**changes), network)


def test_components_beyond_the_rank() -> None:
    with pytest.raises(ValueError, match=r"have 2: there is no component 3"):
        paint(recipe(), nn.Sequential(nn.Conv2d(3, 8, 1), nn.MaxPool2d(2), nn.Conv2d(8, 2, 1)))


@pytest.mark.parametrize("components", [[1, 2], [0, 1, 2], [1, 2, 3, 4]])
def test_three_components(components: list[int]) -> None:
    with pytest.raises(ValueError, match="three numbers from 1"):
        recipe(components=components)


def test_an_empty_or_unreadable_folder(network: models.Network, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match="holds no pictures"):
        finished(Fit(recipe(photos=str(tmp_path / "photos")), tmp_path / "p"), network)
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="holds no readable picture"):
        finished(Fit(recipe(photos=str(tmp_path / "photos")), tmp_path / "p"), network)


def test_whole_photos_in_groups_of_one_shape(network: models.Network, folder: Path) -> None:
    with_folder = {"photos": str(folder), "fit": "whole", "batch": 11, "size": 48}
    painted = paint(recipe(**with_folder), network)
    names = [path.name for path in sorted(folder.glob("*.jpg")) if path.name != "broken.jpg"]
    assert painted.photos.names == names
    assert [each.shape for each in painted.picture] == [each.shape for each in painted.photos.pictures]
    assert len({each.shape for each in painted.picture}) > 3
    layer = painted.palette.layer
    alone = [palettes.observe(network, layer, [], each[None]).features for each in painted.photos.pictures]
    positions = np.concatenate([each[0].flatten(1).T.double().numpy() for each in alone])
    assert np.allclose(painted.palette.variances, np.linalg.eigvalsh(np.cov(positions.T))[::-1][:9], rtol=1e-4)
    assert painted.palette.count == len(positions)
    assert {each.size[0] / each.size[1] for each in [sheet(painted), sheet(paint(recipe(), network))]}
    *_, last = Fit(recipe(**with_folder), folder.parent / "whole.palette", batch_size=4).iterate(network)
    assert torch.allclose(last.palette.variances, painted.palette.variances, rtol=1e-4)
    with pytest.raises(ValueError, match="fit: 'whole' there"):
        next(Fit(recipe(**with_folder | {"fit": "pad"}), folder.parent / "whole.palette").iterate(network))
