"""Filter gradients: which filters a class depends on."""

from nbhelpers.techniques.filter_gradients import filter_pictures, filter_weights
from nbhelpers.techniques.filter_gradients.technique import (
    GROUPS,
    FilterGradients,
    ablate,
    compare,
    crops,
    read_photos,
)

__all__ = [
    "GROUPS",
    "FilterGradients",
    "ablate",
    "compare",
    "crops",
    "filter_pictures",
    "filter_weights",
    "read_photos",
]
