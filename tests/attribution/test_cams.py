"""Class activation maps, against captum, the grad-cam package, singular values and plain loops."""

import numpy as np
import pytest
import torch
from captum.attr import GuidedGradCam, LayerGradCam
from pytorch_grad_cam import EigenCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from small_networks import noise, outside, same_outside, tiny
from torch import Tensor, nn

from nbhelpers import models
from nbhelpers.attribution import cams
from nbhelpers.attribution.gradients import layer_gradients
from nbhelpers.models import Network

LAYERS = {"vgg11": "features.17", "resnet18": "layer3", "squeezenet1_1": "features.10"}
CLASSES = [3, 500, 999]


@pytest.fixture(scope="module", params=LAYERS)
def case(request) -> tuple[Network, str]:
    """Three architectures with random weights: of He et al. where torchvision's own would drown in the biases."""
    return models.randomised(models.load(request.param, weights=None, device="cpu")), LAYERS[request.param]


@pytest.fixture
def small() -> Network:
    return Network(tiny().eval(), "small", classes=["ant", "bee", "cat", "dog", "elk"], size=16, mean=(0.4, 0.5, 0.6))


def photos(size: int = 48) -> Tensor:
    """Three smooth pictures: noise of few waves."""
    return nn.functional.interpolate(noise(3, 3, 5, 5), (size, size), mode="bicubic").clamp(0, 1)


def as_the_package(maps: Tensor, size: int) -> np.ndarray:
    """What the grad-cam package does to a map before it returns it: ReLU, stretch, enlarge, stretch again."""
    return scale_cam_image(scale_cam_image(maps.relu().numpy(), (size, size)))


def test_grad_cam_against_captum(case: tuple[Network, str]) -> None:
    network, layer = case
    found, logits = cams.class_maps(network, layer, photos(), CLASSES)
    other = LayerGradCam(network, models.find_module(network, layer))
    expected = other.attribute(photos(), target=torch.tensor(CLASSES), relu_attributions=True)[:, 0]
    assert expected.amax() > 0
    assert torch.allclose(found, expected, atol=1e-4 * expected.amax().item())
    assert torch.allclose(logits, network(photos()), atol=1e-4)
    against, _ = cams.class_maps(network, layer, photos(), CLASSES, counterfactual=True)
    signed = other.attribute(photos(), target=torch.tensor(CLASSES))[:, 0]
    assert torch.allclose(found - against, signed, atol=1e-4 * expected.amax().item())


@pytest.mark.parametrize(
    ("method", "kind"), [("grad_cam_plus_plus", GradCAMPlusPlus), ("layer_cam", LayerCAM)], ids=["++", "layer"]
)
def test_against_the_grad_cam_package(case: tuple[Network, str], method: str, kind: type) -> None:
    network, layer = case
    found, _ = cams.class_maps(network, layer, photos(), CLASSES, method)
    with kind(model=network, target_layers=[models.find_module(network, layer)]) as other:
        expected = other(photos(), [ClassifierOutputTarget(each) for each in CLASSES])
    assert expected.max() == pytest.approx(1, abs=1e-3)
    assert np.abs(as_the_package(found, 48) - expected).max() < 1e-4


def test_guided_grad_cam_against_captum() -> None:
    network = models.randomised(models.load("squeezenet1_1", weights=None, device="cpu"))
    found = cams.guided_grad_cam(network, "features.10", photos(), CLASSES)
    other = GuidedGradCam(network, models.find_module(network, "features.10"))
    wanting = photos().requires_grad_()
    with pytest.warns(UserWarning, match="hooks"):
        expected = other.attribute(wanting, target=torch.tensor(CLASSES), interpolate_mode="bilinear").detach()
    assert torch.allclose(found, expected, atol=1e-4 * expected.abs().amax().item())
    maps, _ = cams.class_maps(network, "features.10", photos(), CLASSES, "guided_grad_cam")
    assert torch.equal(maps, found.abs().amax(1))


def test_grad_cam_is_cam_where_the_head_is_a_mean_and_a_linear_layer() -> None:
    """Zhou et al. 2016: the class's weights themselves, over the number of places."""
    network = models.load("minivgg_robust", device="cpu")
    activations, _, _ = layer_gradients(network, "block4", photos(96), [3, 50, 99])
    weights = network.net.head.weight[[3, 50, 99]]
    expected = torch.einsum("bc,bchw->bhw", weights, activations).relu() / activations[0, 0].numel()
    found, _ = cams.class_maps(network, "block4", photos(96), [3, 50, 99])
    assert torch.allclose(found, expected, atol=1e-5)


def test_grad_cam_plus_plus_by_the_papers_formula_in_float64() -> None:
    activations, gradients = noise(2, 5, 3, 4).double(), noise(2, 5, 3, 4, seed=1).double() * 20 - 10
    expected = torch.zeros(2, 3, 4, dtype=torch.float64)
    for b in range(2):
        for k in range(5):
            a, g = activations[b, k], gradients[b, k]
            weight = sum(
                g[i, j] ** 2 / (2 * g[i, j] ** 2 + a.sum() * g[i, j] ** 3) * max(g[i, j], 0)
                for i in range(3)
                for j in range(4)
            )
            expected[b] += weight * a
    assert torch.allclose(cams.grad_cam_plus_plus(activations, gradients), expected.relu(), atol=1e-5)


def test_layer_cam_by_hand() -> None:
    activations = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    gradients = torch.tensor([[[[1.0, -1.0]], [[2.0, 0.5]]]])
    assert torch.equal(cams.layer_cam(activations, gradients), torch.tensor([[[7.0, 2.0]]]))
    assert torch.equal(cams.grad_cam(activations, gradients), torch.tensor([[[3.75, 5.0]]]))


def test_eigen_cam_against_numpys_singular_values(case: tuple[Network, str]) -> None:
    network, layer = case
    activations, _, _ = layer_gradients(network, layer, photos(), CLASSES)
    found = cams.eigen_cam(activations)
    for each, one in zip(found.numpy(), activations.numpy(), strict=True):
        places = one.reshape(len(one), -1).T.astype(np.float64)
        left, values, _ = np.linalg.svd(places, full_matrices=False)
        expected = (left[:, 0] * values[0]).reshape(each.shape)
        expected *= np.sign(expected.sum())
        assert np.abs(each - expected).max() < 1e-4 * np.abs(expected).max()
    assert (found.sum((1, 2)) > 0).all()
    turned = cams.eigen_cam(-activations)  # the sign does not hang on that of the decomposition
    assert torch.allclose(turned, found, atol=1e-4 * found.abs().max().item())


def test_eigen_cam_is_never_negative_behind_a_relu() -> None:
    assert (cams.eigen_cam(noise(6, 9, 4, 5)) >= -1e-6).all()


def test_eigen_cam_of_centred_activations_is_the_packages_up_to_its_sign(small: Network) -> None:
    activations, _, _ = layer_gradients(small, "relu2", photos(16), 0)
    centred = activations - activations.mean((2, 3), keepdim=True)
    found = cams.eigen_cam(centred)
    with EigenCAM(model=small, target_layers=[small.net.relu2]) as other:
        expected = other(photos(16), [ClassifierOutputTarget(0)] * 3)
    for each, one in zip(found, expected, strict=True):
        either = [np.abs(as_the_package(sign * each[None], 16)[0] - one).max() for sign in (1, -1)]
        assert min(either) < 1e-4


def score_cam_loop(network: Network, layer: str, wanted: list[int], sign: int = 1) -> Tensor:
    """Algorithm 1 of Wang et al. 2020, photo by photo, channel by channel."""
    activations, _, _ = layer_gradients(network, layer, photos(16), wanted)
    maps = []
    for photo, one, number in zip(photos(16), activations, wanted, strict=True):
        normalised = network.normalise(photo)
        scores = []
        for channel in one:
            mask = nn.functional.interpolate(channel[None, None], (16, 16), mode="bilinear")[0]
            mask = (mask - channel.min()) / (channel.max() - channel.min())
            scores.append(sign * network.net((mask * normalised)[None])[0, number])
        weights = torch.stack(scores).softmax(0)
        maps.append((weights[:, None, None] * one).sum(0).relu())
    return torch.stack(maps)


def test_score_cam_against_a_plain_loop(small: Network) -> None:
    for sign in (1, -1):
        found, _ = cams.class_maps(small, "conv2", photos(16), ["cat", 3, 0], "score_cam", counterfactual=sign < 0)
        with torch.no_grad():
            expected = score_cam_loop(small, "conv2", [2, 3, 0], sign)
        assert torch.allclose(found, expected, atol=1e-5)


def test_score_cam_does_not_hang_on_the_batch_and_can_try_fewer_channels(small: Network) -> None:
    activations, _, _ = layer_gradients(small, "conv2", photos(16), 2)
    whole = cams.score_cam(small, activations, photos(16), [2, 2, 2])
    assert torch.allclose(cams.score_cam(small, activations, photos(16), [2, 2, 2], batch_size=5), whole, atol=1e-6)
    assert torch.equal(cams.score_cam(small, activations, photos(16), [2, 2, 2], channels=6), whole)
    one = cams.score_cam(small, activations, photos(16), [2, 2, 2], channels=1)
    widest = activations.flatten(2).std(2).argmax(1)
    assert torch.allclose(one, activations[torch.arange(3), widest].relu())


def test_score_cam_gives_no_weight_to_channels_that_are_the_same_everywhere(small: Network) -> None:
    activations, _, _ = layer_gradients(small, "conv2", photos(16), 2)
    whole = cams.score_cam(small, activations, photos(16), [2, 2, 2])
    dead = torch.cat([activations, torch.zeros_like(activations[:, :2])], 1)
    assert torch.allclose(cams.score_cam(small, dead, photos(16), [2, 2, 2]), whole, atol=1e-6)
    assert (cams.score_cam(small, torch.ones_like(activations), photos(16), [2, 2, 2]) == 0).all()


def test_score_cam_against_the_package_without_the_corners_convention(small: Network) -> None:
    """The package enlarges with aligned corners, we (as captum) without: they agree where nothing is enlarged."""
    found, _ = cams.class_maps(small, "relu1", photos(16), 2, "score_cam")
    with ScoreCAM(model=small.net, target_layers=[small.net.relu1]) as other:
        expected = other(small.normalise(photos(16)), [ClassifierOutputTarget(2)] * 3)
    assert np.abs(as_the_package(found, 16) - expected).max() < 1e-4


@pytest.mark.parametrize("method", cams.METHODS)
def test_a_batch_gives_what_each_photo_gives_alone(small: Network, method: str) -> None:
    wanted = ["bee", 4, "cat"]
    together, _ = cams.class_maps(small, "relu1", photos(16), wanted, method)
    for index, each in enumerate(wanted):
        alone, _ = cams.class_maps(small, "relu1", photos(16)[index : index + 1], each, method)
        assert torch.allclose(together[index], alone[0], atol=1e-6)
    everything, _ = cams.all_class_maps(small, "relu1", photos(16), wanted)
    assert torch.allclose(everything[method], together, atol=1e-6)


@pytest.mark.parametrize("method", cams.METHODS)
def test_the_network_is_left_as_it_was(small: Network, method: str) -> None:
    small.train().requires_grad_(False)
    before = outside(small)
    with torch.no_grad():
        cams.class_maps(small, "conv2", photos(16), None, method)
    with pytest.raises(ValueError, match="no class 'bat'"):
        cams.class_maps(small, "conv2", photos(16), "bat", method)
    assert same_outside(before, outside(small))


def test_bad_input_is_explained(small: Network) -> None:
    with pytest.raises(ValueError, match="unknown method 'cam': choose from grad_cam"):
        cams.class_maps(small, "conv2", photos(16), 0, "cam")
    with pytest.raises(ValueError, match="eigen_cam knows no class"):
        cams.class_maps(small, "conv2", photos(16), 0, "eigen_cam", counterfactual=True)
    with pytest.raises(ValueError, match=r"'head' of small gives \(3, 5\), no feature maps"):
        cams.class_maps(small, "head", photos(16), 0)
    with pytest.raises(ValueError, match="'pool' have a single place"):
        cams.class_maps(small, "pool", photos(16), 0)
    with pytest.raises(ValueError, match="expected class logits"):
        cams.class_maps(nn.Sequential(nn.Conv2d(3, 4, 3)), "0", photos(16), 0)
