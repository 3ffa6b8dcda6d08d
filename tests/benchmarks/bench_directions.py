"""Directions found in data: what an atlas and a dictionary take, step by step, on one network and the same photos.

    python tests/benchmarks/bench_directions.py [DATA]

DATA is a data folder such as Tiny-ImageNet, of which 5,000 pictures are taken; without it, squares of the sample photos
stand in. Beside each step stand others on the same work, where they are installed: scikit-learn's factorisation in
mini-batches, Overcomplete's dictionaries (Fel et al.), the code of CRAFT's authors, dreamlens' atlas.

    pip install --no-deps overcomplete einops craft-xai dreamlens && pip install umap-learn
"""

import contextlib
import importlib.util
import io
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.cm
import torch
from sklearn.decomposition import MiniBatchNMF
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from nbhelpers import models
from nbhelpers.directions import activation_atlas, atlas_checks, dictionaries, importance, layouts, photographs
from nbhelpers.directions.activation_atlas import ActivationAtlas
from nbhelpers.directions.dictionaries import Dictionary
from nbhelpers.models import Network
from nbhelpers.techniques import direction_pictures
from nbhelpers.techniques.direction_pictures import DirectionPictures
from nbhelpers.training.data import Pictures

SAMPLES = Path(__file__).parent.parent.parent / "sample_images"
LAYER, DRAWN = "block4.relu1", "block4.conv1"
LIMIT, CUTS = 5000, 417
PARTS, WIDE = 20, 2048
PICTURES = 16
PART = 8000  # places that dictionaries are judged on
CELLS, FEWEST = 10, 6  # dreamlens' own grid, and its least places of a square
LOUD = 1000.0  # times a square's mean: dreamlens weighs it against the border, and drew only grey of numbers below 10
EVERY = 2  # of dreamlens' squares are drawn, at all its steps
DESIGN = 32  # points that an importance is estimated from, as CRAFT has it


def timed(name: str, work: Callable[[], Any], note: Callable[[Any, float], str] = lambda made, seconds: "") -> Any:
    """Does some work and prints how long it took."""
    start = time.perf_counter()
    made = work()
    seconds = time.perf_counter() - start
    print(f"{name:<62}{seconds:8.1f} s   {note(made, seconds)}", flush=True)
    return made


def installed(*names: str) -> list[ModuleType] | None:
    """Modules of somebody else's, or None, and a line that says so."""
    # Overcomplete 0.3 asks for this name, which matplotlib has no more
    matplotlib.cm.get_cmap = getattr(matplotlib.cm, "get_cmap", matplotlib.colormaps.get_cmap)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [importlib.import_module(name) for name in names]
    except ImportError as error:
        print(f"    {names[0].partition('.')[0]}: not installed ({error})", flush=True)
        return None


def judged(vectors: Tensor) -> Callable[[Dictionary, float], str]:
    """Says how much of vectors a dictionary explains with how many parts at a time, and how many are dead."""

    def told(made: Dictionary, seconds: float) -> str:
        codes = made.encode(vectors)
        used, dead = dictionaries.used(codes)
        explained = dictionaries.explained(made, vectors, codes)
        return f"variance {explained:.3f}, {used:.1f} used, {100 * dead:.0f} % dead"

    return told


def written(method: str, directions: Tensor, encoder: Callable[[Tensor], Tensor]) -> Dictionary:
    """Somebody else's dictionary behind our interface."""
    return Dictionary(method, directions.detach().float(), torch.zeros(directions.shape[1]), encoder)


def factorisations(every: Tensor, some: Tensor) -> None:
    timed(
        f"factorisation of {len(every)} places into {PARTS}",
        lambda: dictionaries.fitted("nmf", every, PARTS),
        judged(some),
    )
    batches = MiniBatchNMF(PARTS, init="nndsvda", max_iter=8, max_no_improvement=None, tol=0, random_state=0)

    def by_batches() -> Dictionary:
        batches.fit(every.numpy())
        parts = torch.from_numpy(batches.components_)
        return written("nmf", parts, lambda x: torch.from_numpy(batches.transform(x.numpy())))

    timed("    by scikit-learn in mini-batches", by_batches, judged(some))
    if found := installed("overcomplete"):

        def theirs() -> Dictionary:
            model = found[0].NMF(PARTS, solver="hals")
            model.fit(every)
            return written("nmf", model.get_dictionary(), model.encode)

        timed("    by Overcomplete, its fastest solver (hals)", theirs, judged(some))


def autoencoders(every: Tensor, some: Tensor) -> None:
    wide = min(WIDE, len(every))
    timed(
        f"autoencoder of {len(every)} places into {wide}, {dictionaries.ACTIVE} at a time",
        lambda: dictionaries.fitted("autoencoder", every, wide),
        judged(some),
    )
    if not (found := installed("overcomplete.sae")):
        return
    epochs = max(1, round(dictionaries.STEPS * dictionaries.BATCH / len(every)))  # as many steps as ours
    for rate in (5e-4, 5e-3):  # as its manual has it, and ten times that

        def theirs(rate: float = rate) -> Dictionary:
            torch.manual_seed(0)
            scale = every.std()
            model = found[0].TopKSAE(every.shape[1], nb_concepts=wide, top_k=dictionaries.ACTIVE)
            batches = DataLoader(TensorDataset(every / scale), batch_size=dictionaries.BATCH, shuffle=True)
            optimiser = torch.optim.Adam(model.parameters(), lr=rate)
            with contextlib.redirect_stdout(io.StringIO()):
                found[0].train_sae(model, batches, _error, optimiser, nb_epochs=epochs, monitoring=0)
            model.eval()
            return written("autoencoder", model.get_dictionary() * scale, lambda x: model.encode(x / scale)[1])

        timed(f"    by Overcomplete, {epochs} epochs, learning rate {rate:g}", theirs, judged(some))


def _error(x: Tensor, made: Tensor, before: Tensor, codes: Tensor, dictionary: Tensor) -> Tensor:
    return (x - made).square().mean()


def craft(network: Network, pictures: Pictures) -> None:
    """CRAFT: concepts of photos as wholes, and what each is worth to a class."""
    look = models.capture(network, LAYER, stop=True)
    batch = pictures.batch(slice(None))[0]

    def ours() -> Dictionary:
        return dictionaries.fitted("nmf", models.pooled_activations(network, LAYER, batch), PARTS)

    pooled = models.pooled_activations(network, LAYER, batch)
    mine = timed(f"CRAFT: {len(batch)} photos into {PARTS} concepts", ours, judged(pooled))
    behind = photographs.Behind(network, LAYER, batch.shape[-1])
    with torch.no_grad():
        maps = torch.cat([look(each)[LAYER] for each in batch.split(64)])
        label = int(torch.bincount(torch.cat([behind(each).argmax(1) for each in maps.split(64)])).argmax())
    chosen = [k for k, each in enumerate(maps.split(1)) if int(behind(each).argmax()) == label][:12]
    worth = timed(
        f"CRAFT: importance for a class on {len(chosen)} photos",
        lambda: importance.sobol(behind, mine, maps[chosen], label, DESIGN),
        lambda made, seconds: f"the most is worth {made.max():.2f}",
    )
    without = importlib.util.find_spec("tensorflow") is None
    if without:
        sys.modules["tensorflow"] = ModuleType("tensorflow")  # imported there, and not used with PyTorch
    found = installed("craft.craft_torch")
    if without:
        del sys.modules["tensorflow"]
    if not found:
        return
    model = found[0].Craft(
        lambda x: look(x)[LAYER], behind, PARTS, batch_size=64, patch_size=batch.shape[-1], device="cpu"
    )

    def theirs() -> Dictionary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's, of a copied tensor
            model.fit(batch)
        return written("nmf", torch.from_numpy(model.W), lambda x: torch.from_numpy(model.reducer.transform(x.numpy())))

    other = timed("    by its authors' code", theirs, judged(pooled))
    timed(
        "    importance by its authors' code",
        lambda: torch.from_numpy(model.estimate_importance(batch[chosen], label, DESIGN)).float(),
        lambda made, seconds: (
            f"the most is worth {made.max():.2f}; parts match ours by "
            f"{dictionaries.stability(mine.directions, other.directions):.2f}; ours {worth.topk(2).values.tolist()}"
        ),
    )


def atlases(network: Network, source: str) -> None:
    """A whole atlas, from photos to pictures; both judged by what the layer gives for the pictures."""
    recipe = ActivationAtlas(
        **dict(layer=LAYER, drawn=DRAWN, photos=source, limit=LIMIT, cuts=CUTS, places=1),
        **dict(cells=CELLS, fewest=FEWEST, rounds=2, steps=20),
    )

    def told(atlas: activation_atlas.Atlas, plane: Tensor, pictures: Tensor, means: Tensor) -> str:
        """What the layer gives for the pictures, beside what a square has of its own and beside its mean."""
        kept = layouts.quality(atlas.collected.vectors, plane)
        agree = atlas_checks.agreement(atlas, pictures, list(range(len(pictures))), network)
        whole = torch.cosine_similarity(models.pooled_activations(network, LAYER, pictures), means)
        return (
            f"{len(pictures)} pictures of {pictures.shape[-1]} pixels, trustworthiness {kept.trustworthiness:.3f}, "
            f"continuity {kept.continuity:.3f}, cosine with what its square has of its own {agree.own.mean():.2f} "
            f"(others {agree.others.mean():.2f}), with the square's mean {whole.mean():.2f}, percentile "
            f"{agree.percentile.mean():.0f}"
        )

    ours = timed(
        "atlas", lambda: recipe.run(network), lambda made, seconds: told(made, made.plane, made.picture, made.means)
    )
    found = installed("dreamlens", "umap")
    if not found:
        return
    lens, umap = found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # UMAP's, of its own threads
        umap.UMAP(n_neighbors=5, metric="cosine").fit(torch.rand(200, 4).numpy())  # compiled before the clock runs
        steps = {}

        def theirs() -> activation_atlas.Atlas:
            pictures, _ = photographs.read(source, recipe.size, LIMIT, CUTS, 0)
            layer = models.find_module(network, LAYER)
            batches = [pixels for pixels, _ in pictures.batches(64)]
            vectors = lens.collect_activations(network, layer, batches, spatial="random", random_seed=0)
            layout = lens.atlas.aligned_umap(vectors)
            means, *_ = lens.bin_laid_out_activations(layout, vectors, CELLS, threshold=FEWEST - 1)
            side = ours.picture.shape[-1]
            means = means[::EVERY]
            icons = [
                each
                for some in lens.atlas.chunked([LOUD * each for each in means], 32)
                for each in lens.render_icons(some, network, layer, size=side, num_attempts=1)[0]
            ]
            steps["plane"] = torch.from_numpy(layout).float()
            every, mean = torch.from_numpy(vectors), torch.stack([torch.from_numpy(each) for each in means])
            steps["means"] = mean.float()
            return replace(
                ours,
                collected=replace(ours.collected, vectors=every),
                directions=activation_atlas.directions(recipe, every, mean),
                picture=torch.stack([torch.from_numpy(each).permute(2, 0, 1).float() for each in icons]),
            )

        timed(
            f"    by dreamlens: UMAP, 128 steps a picture, 1 of {EVERY} squares drawn",
            theirs,
            lambda made, seconds: told(made, steps["plane"], made.picture, steps["means"]),
        )


def main(source: str = str(SAMPLES)) -> None:
    network = models.load("minivgg_robust")
    pictures, _ = photographs.read(source, 64, LIMIT, CUTS, 0)
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
    some = every[torch.linspace(0, len(every) - 1, min(PART, len(every))).long()]
    factorisations(every, some)
    craft(network, pictures)
    chosen = direction_pictures.rounded(one[:: max(1, len(one) // PICTURES)][:PICTURES] - one.mean(0))
    for precision in ("float32", "bfloat16"):
        recipe = DirectionPictures(layer=DRAWN, directions=chosen, precision=precision)
        timed(
            f"{len(chosen)} pictures of 77 pixels, 46 steps, {precision}",
            lambda recipe=recipe: direction_pictures.draw(recipe, network),
            lambda made, seconds: f"{seconds / len(made):.2f} s each",
        )
    atlases(network, source)
    autoencoders(every, some)


if __name__ == "__main__":
    main(*sys.argv[1:])
