"""Fine-tuning: a network learns classes of one's own from a folder of photos."""

from nbhelpers.techniques.fine_tuning import features, tuner, tuning_pictures
from nbhelpers.techniques.fine_tuning.technique import (
    FineTuning,
    Progress,
    confusion,
    counterparts,
    load,
    mistakes,
    photos,
    plan,
    predictions,
    tune,
)

__all__ = [
    "FineTuning",
    "Progress",
    "confusion",
    "counterparts",
    "features",
    "load",
    "mistakes",
    "photos",
    "plan",
    "predictions",
    "tune",
    "tuner",
    "tuning_pictures",
]
