"""Principal features: speed against the published procedure, and memory against the number of photos.

    python tests/benchmarks/bench_principal_features.py

The published code decomposes the matrix of all positions by an SVD; here the covariance is collected batch by batch
and its leading eigenvectors are computed. Both run on the same activations in turn, in this one process. The memory
is the peak of a process of its own that learns a palette from a folder.
"""

import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import peak_memory
import torch
from PIL import Image
from torch import Tensor

from nbhelpers import images, models
from nbhelpers.models.covariance import Moments, leading
from nbhelpers.techniques.principal_features import PrincipalFeatures
from nbhelpers.techniques.principal_features.palette_learning import Fit
from nbhelpers.techniques.principal_features.palettes import observe

SAMPLES = Path(__file__).parent.parent.parent / "sample_images"
ROUNDS = 5


def published(features: Tensor) -> Tensor:
    """The first three components at all positions, `(positions, 3)`, by an SVD of all positions."""
    vectors = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    left, singular, _ = torch.svd(vectors - vectors.mean(0))
    return left[:, :3] @ torch.diag(singular[:3])


def plain(features: Tensor) -> Tensor:
    """The same by the covariance of all positions and a full eigendecomposition in float64."""
    vectors = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    vectors = vectors - vectors.mean(0)
    directions = torch.linalg.eigh((vectors.T @ vectors).double()).eigenvectors.flip(1)[:, :3]
    return vectors @ directions.float()


def ours(features: Tensor) -> Tensor:
    """The same as `nbhelpers` does it, in mini-batches of 16 photos."""
    moments = Moments(features.shape[1])
    for batch in features.split(16):
        moments.add(batch)
    directions = leading(moments.covariance, 3)[1]
    offset = (directions @ moments.mean).float()
    scores = torch.einsum("kc,bchw->bhwk", directions.float(), features) - offset
    return scores.reshape(-1, 3)


def crops(count: int, size: int) -> list[Image.Image]:
    """Random squares of the sample photos."""
    source = random.Random(0)
    photos = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.glob("*.jpg"))]
    made = []
    for number in range(count):
        photo = photos[number % len(photos)]
        side = source.randint(min(photo.size) // 2, min(photo.size))
        left, top = (source.randint(0, length - side) for length in photo.size)
        made.append(photo.crop((left, top, left + side, top + side)).resize((size, size)))
    return made


def seconds(methods: list[Callable], features: Tensor) -> list[float]:
    """Best time of each; they take turns, so that what else the machine does disturbs all alike."""
    times: list[list[float]] = [[] for _ in methods]
    for _ in range(ROUNDS):
        for taken, method in zip(times, methods, strict=True):
            began = time.perf_counter()
            method(features)
            taken.append(time.perf_counter() - began)
    return [min(taken) for taken in times]


def peak_megabytes(folder: Path, count: int) -> float:
    """Peak memory of a fresh process that learns from the first `count` photos of a folder."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_learn, (str(folder), count))


def _learn(folder: str, count: int) -> float:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        chosen = Path(scratch) / "photos"
        chosen.mkdir()
        for path in sorted(Path(folder).iterdir())[:count]:
            (chosen / path.name).symlink_to(path)
        recipe = PrincipalFeatures(photos=str(chosen), size=128)
        for _ in Fit(recipe, Path(scratch) / "palette").iterate(models.load(device="cpu")):
            pass
    return peak_memory.peak_megabytes()


def rows() -> list[tuple[str, str, str]]:
    """What was measured, the number, and what it should be."""
    network = models.load(device="cpu")
    photos = torch.stack([images.from_pil(crop) for crop in crops(64, 224)])
    features = observe(network, "block4", [], photos).features
    reference, mine = published(features).double(), ours(features).double()
    same = min(abs(torch.corrcoef(torch.stack(pair))[0, 1].item()) for pair in zip(reference.T, mine.T, strict=True))
    svd, eigh, here = seconds([published, plain, ours], features)
    shape = " x ".join(map(str, features.shape))
    with tempfile.TemporaryDirectory() as folder:
        for number, crop in enumerate(crops(1000, 160)):
            crop.save(Path(folder) / f"{number:04}.jpg")
        few, many = (peak_megabytes(Path(folder), count) for count in (100, 1000))
    return [
        (f"three components of {shape}, SVD of all positions", f"{svd * 1000:.0f} ms", ""),
        ("the same, covariance and full eigendecomposition", f"{eigh * 1000:.0f} ms, {svd / eigh:.1f} x", ""),
        ("the same, as here", f"{here * 1000:.0f} ms, {svd / here:.1f} x", "at least 4 x"),
        ("least correlation of a component with the SVD's", f"{same:.8f}", "above 0.9999"),
        ("peak memory, palette learnt from 100 photos", f"{few:.0f} MB", ""),
        ("peak memory, palette learnt from 1,000 photos", f"{many:.0f} MB, {many / few - 1:+.1%}", "within 10 %"),
    ]


def main() -> None:
    """Print the table."""
    print("\n".join(f"{name:60}{value:>20}   {wanted}".rstrip() for name, value, wanted in rows()))


if __name__ == "__main__":
    main()
