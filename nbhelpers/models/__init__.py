"""Networks: by name or one's own, their layers, and what a layer gives.

    network = models.load("minivgg_robust")
    seen = models.capture(network, "block4", stop=True)(pictures)

Two small networks are bundled (`weights/`); torchvision's classifiers load through torchvision. Besides the names
below, four modules are for everybody: `stages` (the layers before each reduction of resolution), `parts` (a network
cut in two, or with another head), `covariance` (components of more activations than fit into memory), `minivgg`.
"""

from nbhelpers.models import covariance, minivgg, parts, stages
from nbhelpers.models.capturing import Capture, Seen, activation_batches, capture, pooled_activations
from nbhelpers.models.classes import class_indices, log_shares, shares
from nbhelpers.models.examination import (
    Examination,
    described,
    differentiable,
    examine,
    outside_inference,
    refusal,
    takes,
)
from nbhelpers.models.layer_table import Layer, LayerTable, nearest
from nbhelpers.models.loading import (
    Named,
    as_network,
    check_channels,
    check_layer,
    check_layout,
    chosen_device,
    class_count,
    find_module,
    layers,
    load,
    photo_fit,
    randomised,
)
from nbhelpers.models.network import Network, Size, copied, drawn_from, reinitialise, sharing_copy, sides
from nbhelpers.models.offered import offer, offered, withdraw
from nbhelpers.models.rectifiers import Rectifiers
from nbhelpers.models.sources import DEFAULT, at_hand, bundled, download_size, imagenet_classes, torchvision_names
from nbhelpers.models.twins import twin

__all__ = [
    "DEFAULT",
    "Capture",
    "Examination",
    "Layer",
    "LayerTable",
    "Named",
    "Network",
    "Rectifiers",
    "Seen",
    "Size",
    "activation_batches",
    "as_network",
    "at_hand",
    "bundled",
    "capture",
    "check_channels",
    "check_layer",
    "check_layout",
    "chosen_device",
    "class_count",
    "class_indices",
    "copied",
    "covariance",
    "described",
    "differentiable",
    "download_size",
    "drawn_from",
    "examine",
    "find_module",
    "imagenet_classes",
    "layers",
    "load",
    "log_shares",
    "minivgg",
    "nearest",
    "offer",
    "offered",
    "outside_inference",
    "parts",
    "photo_fit",
    "pooled_activations",
    "randomised",
    "refusal",
    "reinitialise",
    "shares",
    "sharing_copy",
    "sides",
    "stages",
    "takes",
    "torchvision_names",
    "twin",
    "withdraw",
]
