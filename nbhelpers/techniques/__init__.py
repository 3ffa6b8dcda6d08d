"""One module per technique, each readable on its own; a folder where it has parts that nobody else uses.

A technique declares its parameters as a recipe and carries it out on the rooms below. None imports another.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "activation_maximization",
        "activation_volumes",
        "class_agnostic_features",
        "class_pictures",
        "direction_pictures",
        "filter_gradients",
        "fine_tuning",
        "grad_cam",
        "interpretation_test",
        "inversion",
        "network_training",
        "principal_features",
        "saliency",
        "semantic_dictionary",
    ],
)
