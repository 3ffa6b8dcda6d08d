"""Directions found in data: what an atlas and a dictionary take, step by step, on one network and the same photos.

    python tests/benchmarks/bench_directions.py [DATA]

DATA is a data folder such as Tiny-ImageNet, of which 5,000 pictures are taken; without it, squares of the sample photos
stand in. Beside the factorisation stands scikit-learn's in mini-batches, which is meant for many places.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sklearn.decomposition import MiniBatchNMF

from nbhelpers import models
from nbhelpers.directions import dictionaries, layouts, photographs
from nbhelpers.techniques import direction_pictures
from nbhelpers.techniques.direction_pictures import DirectionPictures

SAMPLES = Path(__file__).parent.parent.parent / "sample_images"
LAYER, DRAWN = "block4.relu1", "block4.conv1"
PARTS, WIDE = 20, 2048
PICTURES = 16
PART = 8000  # places that dictionaries are judged on


def timed(name: str, work: Callable[[], Any], note: Callable[[Any, float], str] = lambda made, seconds: "") -> Any:
    """Does some work and prints how long it took."""
    start = time.perf_counter()
    made = work()
    seconds = time.perf_counter() - start
    print(f"{name:<58}{seconds:8.1f} s   {note(made, seconds)}", flush=True)
    return made


def main(source: str = str(SAMPLES)) -> None:
    network = models.load("minivgg_robust")
    pictures, _ = photographs.read(source, 64, 5000, 417, 0)
    places = timed(
        f"activations of {len(pictures)} photos, one place each",
        lambda: photographs.collect(network, LAYER, pictures, 1),
    )
    one = places.vectors
    scores = timed("50 principal components", lambda: layouts.components(one, 50))
    timed(
        "t-SNE",
        lambda: layouts.plane(scores, 0),
        lambda plane, _: f"trustworthiness {layouts.quality(one, plane).trustworthiness:.3f}",
    )
    every = photographs.collect(network, LAYER, pictures, 0).vectors

    def told(made: dictionaries.Dictionary, seconds: float) -> str:
        codes = made.encode(some)
        used, dead = dictionaries.used(codes)
        return f"variance {dictionaries.explained(made, some, codes):.2f}, {used:.1f} used, {100 * dead:.0f} % dead"

    some = every[torch.linspace(0, len(every) - 1, min(PART, len(every))).long()]
    timed(f"factorisation of {len(every)} places into {PARTS}", lambda: dictionaries.fitted("nmf", every, PARTS), told)
    batches = MiniBatchNMF(PARTS, init="nndsvda", max_iter=8, max_no_improvement=None, tol=0, random_state=0)
    timed("the same by scikit-learn in mini-batches", lambda: batches.fit(every.numpy()))
    rest = some - torch.from_numpy(batches.transform(some.numpy()) @ batches.components_)
    share = 1 - rest.square().sum() / (some - some.mean(0)).square().sum()
    print(f"{'':<58}{'':>10}   variance {share:.2f}")
    timed(
        f"autoencoder of {len(every)} places into {WIDE}",
        lambda: dictionaries.fitted("autoencoder", every, min(WIDE, len(every))),
        told,
    )
    chosen = direction_pictures.rounded(one[:: max(1, len(one) // PICTURES)][:PICTURES] - one.mean(0))
    for precision in ("float32", "bfloat16"):
        recipe = DirectionPictures(layer=DRAWN, directions=chosen, precision=precision)
        timed(
            f"{len(chosen)} pictures of 77 pixels, 46 steps, {precision}",
            lambda recipe=recipe: direction_pictures.draw(recipe, network),
            lambda made, seconds: f"{seconds / len(made):.2f} s each",
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
