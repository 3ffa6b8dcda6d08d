"""What a technique leaves behind when it is done, or stopped: its result, and nothing else."""

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from nbhelpers import recipes
from nbhelpers.recipes import Recipe
from nbhelpers.techniques.fine_tuning import FineTuning
from nbhelpers.techniques.network_training import NetworkTraining

PHOTOS = str(Path(__file__).parents[2] / "sample_images")
CAT, COFFEE = (f"{PHOTOS}/{name}.jpg" for name in ("cat", "coffee"))
QUICK = {
    "ActivationAtlas": dict(photos=PHOTOS, cuts=4, cells=2, size=32, picture_size=24, rounds=1, steps=2),
    "ActivationMaximization": dict(channels=[1], size=24, rounds=1, steps=2),
    "ActivationVolume": dict(photo=CAT, size=64, count=4),
    "ChannelStudy": dict(photos=PHOTOS, size=24, steps=2),
    "ClassAgnosticFeatures": dict(folder=PHOTOS, crops=1, clusters=2, components=3, nearest=2, size=48, steps=2),
    "ClassPictures": dict(classes=["pizza"], size=32, rounds=1, steps=2),
    "Concepts": dict(photos=PHOTOS, cuts=4, parts=3, size=32, picture_size=24, rounds=1, steps=2),
    "DirectionPictures": dict(directions=[[1.0] * 512], size=24, rounds=1, steps=2),
    "FilterGradients": dict(reference=CAT, similar=CAT, dissimilar=COFFEE, views=2, removed=[0, 1], draws=2, size=64),
    "FineTuning": dict(views=1, head_epochs=1, upper_epochs=1),
    "GradCAM": dict(photos=PHOTOS, photo_size=64),
    "InterpretationTest": dict(photos=PHOTOS, size=64),
    "Inversion": dict(photos=CAT, second=COFFEE, size=48, steps=2),
    "NetworkTraining": dict(photos=PHOTOS, channels=[8, 8], epochs=1, size=32, training_radius=0.5),
    "PrincipalFeatures": dict(photos=PHOTOS, size=64),
    "Saliency": dict(photos=PHOTOS, photo_size=64, count=2, method="smoothgrad", samples=2),
    "SemanticDictionary": dict(photo=CAT, photo_size=64),
}


@pytest.fixture(autouse=True)
def beside_the_photos(monkeypatch):
    monkeypatch.chdir(Path(PHOTOS).parent / "notebooks")


def techniques() -> list[str]:
    """Names of all kinds of recipes that the package announces."""
    with pytest.raises(ValueError, match="unknown recipe"):
        recipes.kind_named("none")
    return sorted(name for name, kind in Recipe.kinds.items() if kind.__module__.startswith("nbhelpers."))


@pytest.mark.usefixtures("unchecked")  # the checks of types draw samples
@pytest.mark.parametrize("name", techniques())
def test_the_global_random_states_stay(name):
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    recipes.kind_named(name)(**QUICK[name]).run()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]


def test_training_does_not_depend_on_the_order_of_hashes():
    code = f"""
import hashlib
from nbhelpers.techniques.network_training import NetworkTraining
trained = NetworkTraining(**{QUICK["NetworkTraining"]!r}).run().network.net
print(hashlib.sha256(b"".join(value.numpy().tobytes() for value in trained.state_dict().values())).hexdigest())
"""
    printed = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1]


@pytest.mark.parametrize("recipe", [FineTuning(views=1, head_epochs=3), NetworkTraining(**QUICK["NetworkTraining"])])
def test_no_thread_outlives_an_interrupted_run(recipe):
    # the first pool of threads that torch starts stays for good
    next(iter(recipe.iterate()))
    before = set(threading.enumerate())
    steps = recipe.iterate()
    next(steps)
    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt())
    assert set(threading.enumerate()) <= before
