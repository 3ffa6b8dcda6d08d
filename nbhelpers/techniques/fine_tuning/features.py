"""What a frozen base makes of pictures, computed once and kept.

Training a head on a frozen base runs the base over the same pictures in every epoch, for the same result. Here it runs
once; the features lie in memory, and on disk in chunks, so that a run that was interrupted does not compute them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float, Int, Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nbhelpers import edge
from nbhelpers.training.data import Pictures

CHUNK = 256  # pictures a file
BATCH = 32  # pictures a pass
LARGEST = 2 * 1024**3  # bytes of features that are kept; beyond that they are computed anew each time


class Features:
    """The features of some pictures under a frozen base, in memory and in a folder, chunk by chunk.

    Args:
        base: what it is given to features; frozen, without anything random in it.
        source: pictures, given to the base in [0, 1]; or the features of a shallower base, given to it as they are.
        folder: where chunks are kept; None keeps them in memory only.
        largest: bytes of features that are kept at most.
    """

    def __init__(
        self,
        base: Callable[[Shaped[Tensor, "..."]], Shaped[Tensor, "..."]],
        source: Pictures | Features,
        folder: Path | None = None,
        largest: int = LARGEST,
    ) -> None:
        self.source, self.folder = source, folder
        self.labels: Tensor = source.labels
        self._base = base
        self._kept: list[Tensor] = []
        self._done = 0
        self.bytes = self._compute(torch.arange(1)).nbytes * len(source)
        self.keeps = self.bytes <= largest

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def done(self) -> int:
        """How many of them are there."""
        return self._done

    @property
    def chunks(self) -> int:
        """How many pieces `prepare` makes."""
        return -(-len(self) // CHUNK) if self.keeps else 0

    def prepare(self) -> Iterator[bool]:
        """Compute all features, chunk by chunk; yields whether a chunk had to be computed or lay on disk."""
        for number in range(self._done, self.chunks):
            found = self._read(number)
            if found is None:
                chunk = torch.cat([self._compute(part) for part in self._parts(number)])
                if self.folder is not None:
                    with edge.replacing(self._path(number)) as temporary:
                        save_file({"features": chunk.contiguous()}, temporary)
            self._kept.append(chunk if found is None else found)
            self._done += 1
            yield found is None
        if len(self._kept) > 1:
            self._kept = [torch.cat(self._kept)]

    def batch(self, index: Int[Tensor, " batch"]) -> tuple[Float[Tensor, "batch ..."], Int[Tensor, " batch"]]:
        """Features and labels of some pictures, by their numbers."""
        labels = self.labels[index]
        if not self.keeps:
            return self._compute(index), labels
        return self._kept[0][index], labels

    def _parts(self, number: int) -> tuple[Tensor, ...]:
        return torch.arange(number * CHUNK, min((number + 1) * CHUNK, len(self))).split(BATCH)

    @torch.no_grad()
    def _compute(self, index: Tensor) -> Tensor:
        return self._base(self.source.batch(index)[0]).detach().cpu()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.safetensors"

    def _read(self, number: int) -> Tensor | None:
        """A chunk from disk; one that is damaged is computed again."""
        if self.folder is None or not self._path(number).exists():
            return None
        try:
            found = load_file(self._path(number)).get("features")
        except (SafetensorError, OSError):
            return None
        expected = min(CHUNK, len(self) - number * CHUNK)
        return found if found is not None and len(found) == expected else None
