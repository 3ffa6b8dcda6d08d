"""The bundled networks: their data, their training, their cards. Every module here is for everybody."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "attack", "budget", "card", "data", "evaluate", "fingerprints", "folders", "folding", "settings", "train"
    ],
)  # fmt: skip
