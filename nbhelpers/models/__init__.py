"""Networks: by name or one's own, their layers, and what a layer gives.

    network = models.load("minivgg_robust")
    with models.capture(network, "block4", stop=True) as seen: ...

Two small networks are bundled (`weights/`); torchvision's classifiers load through torchvision. Besides the names
below, four modules are for everybody: `stages` (the layers before each reduction of resolution), `parts` (a network
cut in two, or with another head), `covariance` (components of more activations than fit into memory), `minivgg`.
"""

from nbhelpers.models import covariance, minivgg, parts, stages
from nbhelpers.models.capturing import Seen, activation_batches, capture
from nbhelpers.models.layer_table import Layer, LayerTable, class_count, nearest, refusal
from nbhelpers.models.loading import (
    as_network,
    check_channels,
    check_layer,
    chosen_device,
    class_indices,
    find_module,
    layers,
    load,
    randomised,
)
from nbhelpers.models.network import Network, copied, drawn_from, reinitialise, sharing_copy
from nbhelpers.models.sources import DEFAULT, at_hand, bundled, torchvision_names

__all__ = [
    "DEFAULT",
    "Layer",
    "LayerTable",
    "Network",
    "Seen",
    "activation_batches",
    "as_network",
    "at_hand",
    "bundled",
    "capture",
    "check_channels",
    "check_layer",
    "chosen_device",
    "class_count",
    "class_indices",
    "copied",
    "covariance",
    "drawn_from",
    "find_module",
    "layers",
    "load",
    "minivgg",
    "nearest",
    "parts",
    "randomised",
    "refusal",
    "reinitialise",
    "sharing_copy",
    "stages",
    "torchvision_names",
]
