"""Names for what something was made from, so that what is kept is used only where it belongs."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn


def fingerprint(*parts: nn.Module | Shaped[Tensor, "..."] | str) -> str:
    """A short name for weights, pictures and words: the same for the same contents, on any machine."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, nn.Module):
            for name, tensor in part.state_dict().items():
                digest.update(name.encode())
                digest.update(_bytes(tensor))
        else:
            digest.update(part.encode() if isinstance(part, str) else _bytes(part))
    return digest.hexdigest()[:16]


def _bytes(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
