"""The bundled networks: their data, their training, their cards. Every module here is for everybody."""

__all__ = [
    "attack",
    "card",
    "data",
    "evaluate",
    "fingerprints",
    "folders",
    "folding",
    "train",
]
