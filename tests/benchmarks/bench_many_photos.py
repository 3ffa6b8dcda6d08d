"""Grad-CAM, saliency and the interpretation test of 100, 1,000 and 10,000 photos: seconds a photo and peak memory.

    python tests/benchmarks/bench_many_photos.py [--most 1000]

The photos are synthetic, 120 x 90 pixels, in a folder of their own. Each run is a process of its own that explains
every photo of the folder, batch by batch, writes no picture, and keeps none. Linear time and constant memory is what
it is about: neither number may grow with the photos.
"""

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import peak_memory
from PIL import Image

from nbhelpers import models
from nbhelpers.techniques.grad_cam import GradCAM
from nbhelpers.techniques.interpretation_test import InterpretationTest
from nbhelpers.techniques.saliency import Saliency

COUNTS = (100, 1_000, 10_000)


def write_photos(folder: Path, count: int) -> None:
    """Coarse noise, enlarged: it compresses and decodes about as photographs do."""
    random = np.random.default_rng(0)
    for number in range(len(list(folder.iterdir())), count):
        coarse = Image.fromarray(random.integers(0, 255, (9, 12, 3), dtype=np.uint8))
        coarse.resize((120, 90), Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg")


def explain(folder: str, technique: str) -> tuple[float, float]:
    """Seconds, and the process's peak memory in MB."""
    begun = time.perf_counter()
    network = models.load("minivgg_robust", device="cpu")
    recipes = {
        "Grad-CAM": GradCAM(photos=folder, photo_size=64),
        "saliency": Saliency(photos=folder, photo_size=64, count=1_000_000),
        "interpretation test": InterpretationTest(photos=folder, photo="", size=64),
    }
    for _ in recipes[technique].iterate(network):
        pass
    return time.perf_counter() - begun, peak_memory.peak_megabytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=COUNTS[-1])
    most = parser.parse_known_args()[0].most
    context = multiprocessing.get_context("spawn")
    counts = [count for count in COUNTS if count <= most]
    print(f"{'':<22}{'photos':>8}{'seconds':>10}{'ms a photo':>12}{'peak MB':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            write_photos(Path(folder), count)
            for technique in ("Grad-CAM", "saliency", "interpretation test"):
                with context.Pool(1) as process:
                    seconds, peak = process.apply(explain, (folder, technique))
                print(
                    f"{technique:<22}{count:>8,}{seconds:>10.1f}{1000 * seconds / count:>12.1f}{peak:>9.0f}", flush=True
                )


if __name__ == "__main__":
    main()
