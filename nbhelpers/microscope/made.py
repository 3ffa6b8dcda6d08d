"""The made pictures of a whole network, as jobs: drawn once, kept whole or not at all, on one core or on a cluster.

A job is a recipe for a batch of pictures. Each picture is a PNG with that recipe and its number in the batch inside,
under a fingerprint of the network's weights, so a run that was stopped goes on with what is missing, `nbhelpers replay`
makes any of them again, and the same network tuned has pictures of its own. A worker gets a recipe and gives pixels
back; only the process that asked writes files, so workers need no disk in common.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nbhelpers import images, models
from nbhelpers.models import Layer, Network
from nbhelpers.recipes import Recipe
from nbhelpers.techniques import direction_pictures
from nbhelpers.techniques.activation_maximization import ActivationMaximization
from nbhelpers.techniques.direction_pictures import DirectionPictures
from nbhelpers.training import fingerprints

Kind = Literal["made", "diverse", "negative", "untrained"]
KINDS: dict[str, str] = {
    "made": "what drives it most",
    "diverse": "four that differ, and drive it as well",
    "negative": "what drives it down",
    "untrained": "the same channel of the network before it learned anything",
}
"""Kinds of made pictures, and what each shows."""

TOGETHER = 16
"""Pictures in a job: a batch as large as pays, and not more than is lost when a run is stopped."""

SEED = 0
"""Of all pictures, and of the weights of the untrained network."""


@dataclass(frozen=True)
class Job:
    """Pictures that are drawn together.

    Attributes:
        kind: what they show.
        layer: dotted name; empty for the classes.
        channels: of each picture, in order; one channel four times for diverse ones.
        recipe: how they are made.
    """

    kind: Kind
    layer: str
    channels: tuple[int, ...]
    recipe: Recipe


@dataclass(frozen=True)
class Picture:
    """A picture on disk.

    Attributes:
        path: of the PNG.
        alive: False where the channel never fired while it was drawn, so that the picture says nothing.
    """

    path: Path
    alive: bool

    def read(self) -> Float[Tensor, "3 height width"]:
        """Its pixels."""
        return images.read(self.path)


def layers(network: Network, names: Sequence[str] = ()) -> list[Layer]:
    """The layers to look at: those that are named, or all convolutions, in the order of execution.

    Raises:
        KeyError: no such layer. ValueError: none of the layers gives maps.
    """
    table = models.layers(network)
    named = {table[name].name for name in names}
    chosen = [layer for layer in table if (layer.name in named if named else layer.kind.startswith("Conv"))]
    if not chosen:
        raise ValueError(f"{network.name} has no convolution: name layers with --layers; there are {table.names}")
    return chosen


def side(network: Network, layer: Layer) -> int:
    """Of a made picture in pixels: half more than a unit of the layer sees, and never more than the network is for."""
    most = min(max(models.sides(network.size)), 128)
    wanted = 1.5 * layer.receptive_field if layer.receptive_field < most else most
    return max(32, min(most, -(-int(wanted) // 16) * 16))


def jobs(
    network: Network,
    chosen: Sequence[Layer],
    kinds: Sequence[Kind] = ("made",),
    classes: bool = True,
    steps: int = 24,
    only: Sequence[int] = (),
) -> list[Job]:
    """Everything to be drawn: every channel of the layers, and every class.

    Args:
        network: whose layers they are.
        chosen: the layers.
        kinds: which pictures of each channel.
        classes: whether each class is drawn as well, by its logit.
        steps: of Adam for each picture.
        only: channels of each layer; none for all, as a site needs them.
    """
    name = network.name
    found = []
    for layer in chosen:
        size, channels = side(network, layer), only or range(layer.channels)
        plain = {"network": name, "layer": layer.name, "size": size, "rounds": 1, "steps": steps, "seed": SEED}
        for kind in kinds:
            if kind == "diverse":
                batches = [(channel,) * 4 for channel in channels]
            else:
                batches = [tuple(channels[at : at + TOGETHER]) for at in range(0, len(channels), TOGETHER)]
            for batch in batches:
                if kind == "negative":
                    recipe = DirectionPictures(**plain, directions=_against(batch, layer.channels))
                else:
                    recipe = ActivationMaximization(
                        **plain, channels=list(batch), diversity=DIVERSITY if kind == "diverse" else 0
                    )
                found.append(Job(kind, layer.name, batch, recipe))
    if classes and network.classes:
        size, count = min(max(models.sides(network.size)), 128), len(network.classes)
        for at in range(0, count, TOGETHER):
            batch = tuple(range(at, min(at + TOGETHER, count)))
            recipe = ActivationMaximization(
                network=name, layer="", channels=list(batch), size=size, rounds=1, steps=2 * steps, seed=SEED
            )
            found.append(Job("made", "", batch, recipe))
    return found


DIVERSITY = 0.2
"""Four pictures at this weight still excite an early channel as much; at 1 they answer with a fifth of it."""


def _against(channels: Sequence[int], count: int) -> list[list[float]]:
    return direction_pictures.rounded(-torch.eye(count)[list(channels)])


class Folder:
    """Where pictures are kept: `pictures/` below a folder, as those of the explorer.

    Args:
        folder: for results.
        network: whose pictures they are.
    """

    def __init__(self, folder: str | Path, network: Network) -> None:
        self._root = Path(folder) / "pictures"
        self._name = network.name.replace("/", "-")
        self._network = network

    def paths(self, job: Job) -> list[Path]:
        """The files of a job's pictures, in order."""
        folder = self._of_untrained if job.kind == "untrained" else self._of_trained
        layer = job.layer or "classes"
        return [folder / f"{job.recipe.slug}-{layer}-{index}.png" for index in range(len(job.channels))]

    def pictures(self, job: Job) -> list[Picture] | None:
        """The job's pictures if all of them are there and can be read; else None."""
        found = []
        for path in self.paths(job):
            try:
                found.append(Picture(path, images.read_recipe(path).get("alive", True)))
            except (FileNotFoundError, ValueError):
                return None
        return found

    def keep(self, job: Job, pictures: Float[Tensor, "pictures 3 height width"], alive: Sequence[bool]) -> None:
        """Write what a job gave."""
        for index, (path, picture) in enumerate(zip(self.paths(job), pictures, strict=True)):
            document = job.recipe.document() | {"index": index} | ({} if alive[index] else {"alive": False})
            images.save(picture, path, recipe=document)

    @property
    def _of_trained(self) -> Path:
        return self._root / f"{self._name}-{_print_of(self._network)}"

    @property
    def _of_untrained(self) -> Path:
        return self._root / f"{self._name}-{_print_of(self._network)}-untrained-{SEED}"


@lru_cache(8)
def _print_of(network: Network) -> str:
    return fingerprints.fingerprint(network)


def draw(
    missing: Sequence[Job], network: Network, folder: Folder, workers: int = 1, scheduler: str | None = None
) -> Iterator[Job]:
    """Draw and keep pictures, yielding each job as it is done.

    Args:
        missing: what to draw.
        network: draws it here; on workers, the one that the recipe names is loaded.
        folder: where it goes.
        workers: processes on this machine; with 1, all is drawn in this one.
        scheduler: address of a Dask cluster in place of these.

    Raises:
        ConnectionError: no scheduler answers. ModuleNotFoundError: there is no Dask. OSError: as when a disk is full;
            what was drawn before is kept.
    """
    if scheduler is None and workers == 1:
        untrained = None
        for job in missing:
            if job.kind == "untrained" and untrained is None:
                untrained = models.randomised(network, SEED)
            folder.keep(job, *_drawn(job.recipe, untrained if job.kind == "untrained" else network))
            yield job
        return
    import distributed

    with _client(distributed, workers, scheduler) as client:
        waiting = {
            client.submit(_drawn_by_name, job.recipe.document(), job.kind == "untrained", pure=False): job
            for job in missing
        }
        for future, result in distributed.as_completed(list(waiting), with_results=True, loop=client.loop):
            job = waiting.pop(future)
            folder.keep(job, *result)
            yield job


@contextlib.contextmanager
def _client(distributed: Any, workers: int, scheduler: str | None) -> Iterator[Any]:
    if scheduler is not None:
        try:
            client = distributed.Client(scheduler, timeout=10, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConnectionError(f"no Dask scheduler answers at {scheduler}: {error}") from error
        with client:
            yield client
        return
    with (
        distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _drawn(recipe: Recipe, network: Network) -> tuple[Tensor, list[bool]]:
    step = recipe.run(network)
    return step.picture.cpu(), step.alive.tolist()


def _drawn_by_name(document: dict[str, Any], untrained: bool) -> tuple[Tensor, list[bool]]:
    from nbhelpers import recipes

    torch.set_num_threads(1)
    recipe = recipes.from_document(document)
    return _drawn(recipe, _loaded(recipe.network, untrained))


@lru_cache(4)
def _loaded(name: str, untrained: bool) -> Network:
    network = models.load(name)
    return models.randomised(network, SEED) if untrained else network
