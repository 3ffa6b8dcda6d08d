"""Class activation maps: where in a layer's feature maps the evidence for a class lies.

A layer answers every place of a photo with one number per channel. Each method here weighs the channels and adds them
up to one map; they differ in where the weights come from. `A` are the activations of the layer, `G` the gradients of
the class logit with respect to them, both `(B, C, h, w)`, as `gradients.layer_gradients` gives them.

    maps, logits = class_maps(network, "block4", photos, "espresso", method="grad_cam")

Maps have the layer's own size and no unit: only comparisons within a map mean something. `images.overlays` lays
them over the photos.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nbhelpers import models
from nbhelpers.attribution.gradients import Classes, frozen, layer_gradients, targets
from nbhelpers.attribution.pixel_maps import guided_backpropagation
from nbhelpers.models import Network

TINY = 1e-6  # what the reference code adds to the denominator of Grad-CAM++


def grad_cam(
    activations: Float[Tensor, "photos channels height width"], gradients: Float[Tensor, "photos channels height width"]
) -> Float[Tensor, "photos height width"]:
    """Channels weighed by their mean gradient, what speaks against the class cut off: `(B, h, w)`, not negative.

    Source: Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2.
    """
    weights = gradients.mean((2, 3), keepdim=True)
    return (weights * activations).sum(1).relu()


def grad_cam_plus_plus(
    activations: Float[Tensor, "photos channels height width"], gradients: Float[Tensor, "photos channels height width"]
) -> Float[Tensor, "photos height width"]:
    """As Grad-CAM, but each place's positive gradient has a weight of its own, so that several objects share the map.

    Meant for layers behind a ReLU: where the activations of a channel add up to less than zero, the denominator may
    come near zero.

    Source: Chattopadhay et al. 2018, "Grad-CAM++", equations 7 and 19, for the exponential of the logit, whose own
    factor is the same for a whole map.
    """
    second, third = gradients**2, gradients**3
    alphas = second / (2 * second + activations.sum((2, 3), keepdim=True) * third + TINY)
    weights = (alphas * gradients.relu()).sum((2, 3), keepdim=True)
    return (weights * activations).sum(1).relu()


def layer_cam(
    activations: Float[Tensor, "photos channels height width"], gradients: Float[Tensor, "photos channels height width"]
) -> Float[Tensor, "photos height width"]:
    """Every activation weighed by its own positive gradient, which keeps fine layers sharp: `(B, h, w)`.

    Source: Jiang et al. 2021, "LayerCAM", equations 5 to 7.
    """
    return (gradients.relu() * activations).sum(1).relu()


def eigen_cam(activations: Float[Tensor, "photos channels height width"]) -> Float[Tensor, "photos height width"]:
    """What varies most across the layer, whatever the class: the activations' projection on their main direction.

    That direction, the first right singular vector of the places x channels matrix (not centred, as in the paper), has
    no sign. Here it points to where the activations add up to more than zero, so the mean of the map is positive, and
    behind a ReLU no place of it is negative.

    Source: Muhammad, Yeasin 2020, "Eigen-CAM", equations 2 and 3.
    """
    places = activations.flatten(2).transpose(1, 2)  # (B, h * w, C)
    directions = torch.linalg.svd(places.double(), full_matrices=False).Vh[:, 0, :, None]
    maps = (places.double() @ directions)[..., 0]
    maps = maps * torch.where(maps.sum(1, keepdim=True) < 0, -1, 1)
    return maps.view(len(maps), *activations.shape[2:]).to(activations.dtype)


@torch.no_grad()
def score_cam(
    network: str | nn.Module,
    activations: Float[Tensor, "photos channels height width"],
    photos: Float[Tensor, "photos 3 _ _"],
    classes: list[int],
    counterfactual: bool = False,
    channels: int | None = None,
    batch_size: int = 64,
) -> Float[Tensor, "photos height width"]:
    """Channels weighed by the logit of the photo seen through them alone; no gradient, one pass per channel.

    Each channel, enlarged to the photo and stretched to [0, 1], is a mask; what it covers takes the network's mean
    colour. The weights are the softmax over the channels of the logits (the logit of an empty picture, which the paper
    takes off, would change nothing in it). Channels that are the same everywhere are no masks and have no weight.

    Args:
        network: left as it is.
        activations: of the layer, `(B, C, h, w)`.
        photos: `(B, 3, H, W)` in [0, 1].
        classes: one number per photo.
        counterfactual: weigh by how much the logit is missing instead.
        channels: only so many per photo, those whose maps vary most; the paper takes all.
        batch_size: masked photos at a time; bounds the memory, not the result.

    Returns:
        `(B, h, w)`, not negative.

    Source: Wang et al. 2020, "Score-CAM", algorithm 1.
    """
    fast = frozen(network)
    photos = photos.to(activations)
    low, high, spread = activations.amin((2, 3)), activations.amax((2, 3)), activations.flatten(2).std(2)
    best = spread.topk(min(channels or spread.shape[1], spread.shape[1]), dim=1).indices
    tried = torch.zeros_like(spread, dtype=torch.bool).scatter_(1, best, True) & (high > low)
    scores = torch.full_like(spread, -torch.inf)
    wanted = torch.as_tensor(classes, device=spread.device)
    for chosen in tried.nonzero().split(batch_size):
        photo, channel = chosen.T
        bottom, span = low[photo, channel], (high - low)[photo, channel]
        masks = F.interpolate(activations[photo, channel][:, None], photos.shape[2:], mode="bilinear")
        masks = (masks - bottom[:, None, None, None]) / span[:, None, None, None]
        logits = fast(masks * photos[photo] + (1 - masks) * fast.mean)
        scores[photo, channel] = logits.gather(1, wanted[photo][:, None])[:, 0] * (-1 if counterfactual else 1)
    weights = scores.softmax(1).nan_to_num(0.0)  # a layer that says nothing gives an empty map
    return (weights[:, :, None, None] * activations).sum(1).relu()


def guided_grad_cam(
    network: str | nn.Module,
    layer: str,
    photos: Float[Tensor, "photos 3 height width"],
    classes: Classes = None,
    counterfactual: bool = False,
) -> Float[Tensor, "photos 3 height width"]:
    """Which pixels, in fine detail, speak for the class: guided gradients of the pixels times the enlarged Grad-CAM.

    Args:
        network: left as it is.
        layer: dotted name of a layer that gives feature maps.
        photos: `(B, 3, H, W)` in [0, 1].
        classes: one name or number per photo, or one for all; None for the class that each photo is given.
        counterfactual: use the map of what speaks against the class.

    Returns:
        `(B, 3, H, W)`, with a sign.

    Source: Selvaraju et al. 2017, section 3.2.
    """
    network = models.as_network(network)
    maps, logits = class_maps(network, layer, photos, classes, "grad_cam", counterfactual)
    return _guided(network, maps, photos, targets(network, logits, classes))


GRADIENT_METHODS = {"grad_cam": grad_cam, "grad_cam_plus_plus": grad_cam_plus_plus, "layer_cam": layer_cam}
METHODS = (*GRADIENT_METHODS, "eigen_cam", "score_cam", "guided_grad_cam")


def class_maps(
    network: str | nn.Module,
    layer: str,
    photos: Float[Tensor, "photos 3 height width"],
    classes: Classes = None,
    method: str = "grad_cam",
    counterfactual: bool = False,
    channels: int | None = None,
) -> tuple[Float[Tensor, "photos map_height map_width"], Float[Tensor, "photos classes"]]:
    """One map per photo, by one of the methods.

    Args:
        network: a name, a `Network` or your own module; left as it is.
        layer: dotted name of a layer that gives feature maps.
        photos: `(B, 3, H, W)` in [0, 1].
        classes: one name or number per photo, or one for all; None for the class that each photo is given.
        method: one of `METHODS`.
        counterfactual: what speaks against the class ("why not this one?"): the gradients are negated.
        channels: how many Score-CAM tries per photo, those whose maps vary most; all unless given.

    Returns:
        Maps `(B, h, w)` of the layer's size (of the photos' for guided Grad-CAM: the greatest magnitude among the three
        colours) and logits `(B, classes)`, on the network's device.

    Raises:
        KeyError: no such layer. ValueError: an unknown method or class, a layer without feature maps or with a single
            place, a network without class logits, or Eigen-CAM, which knows no class, asked for a counterfactual.

    Source: Selvaraju et al. 2017, section 3.3, for the counterfactual.
    """
    maps, logits = all_class_maps(network, layer, photos, classes, [method], counterfactual, channels)
    return maps[method], logits


def all_class_maps(
    network: str | nn.Module,
    layer: str,
    photos: Float[Tensor, "photos 3 height width"],
    classes: Classes = None,
    methods: list[str] | tuple[str, ...] = METHODS,
    counterfactual: bool = False,
    channels: int | None = None,
) -> tuple[dict[str, Float[Tensor, "photos _ _"]], Float[Tensor, "photos classes"]]:
    """Maps by several methods, which share one pass: a dictionary of `(B, h, w)` by method, and logits.

    Arguments and errors as in `class_maps`.
    """
    if unknown := [method for method in methods if method not in METHODS]:
        raise ValueError(f"unknown method {unknown[0]!r}: choose from {', '.join(METHODS)}")
    if counterfactual and "eigen_cam" in methods:
        raise ValueError("eigen_cam knows no class, so it has no counterfactual: choose another method")
    network = models.as_network(network)
    models.check_layout(network, [layer], tuple(photos.shape[2:]))
    activations, gradients, logits = layer_gradients(network, layer, photos, classes)
    _check_maps(network, layer, activations)
    if counterfactual:
        gradients = -gradients
    numbers = targets(network, logits, classes)
    maps = {}
    for method in methods:
        if method in GRADIENT_METHODS:
            maps[method] = GRADIENT_METHODS[method](activations, gradients)
        elif method == "eigen_cam":
            maps[method] = eigen_cam(activations)
        elif method == "score_cam":
            maps[method] = score_cam(network, activations, photos, numbers, counterfactual, channels)
        else:
            maps[method] = _guided(network, grad_cam(activations, gradients), photos, numbers).abs().amax(1)
    return maps, logits


def _guided(network: Network, maps: Tensor, photos: Tensor, classes: list[int]) -> Tensor:
    _, pixels = guided_backpropagation(network, photos, classes)
    return pixels * F.interpolate(maps[:, None], photos.shape[2:], mode="bilinear").to(pixels)


def _check_maps(network: Network, layer: str, activations: Tensor) -> None:
    if activations.ndim != 4:
        raise ValueError(
            f"layer {layer!r} of {network.name} gives {tuple(activations.shape)}, no feature maps "
            "(B, channels, height, width): choose one of models.layers(network)"
        )
    if activations.shape[2] * activations.shape[3] == 1:
        raise ValueError(
            f"the feature maps of layer {layer!r} have a single place, so there is nothing to map: choose a layer "
            "before it, or larger photos"
        )
