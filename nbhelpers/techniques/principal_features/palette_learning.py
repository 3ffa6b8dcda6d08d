"""Learn a palette from a folder of any size, with constant memory; stop and go on whenever you like.

    for step in Fit(recipe, "photos.palette").iterate():
        print(step.index, step.total)
    PrincipalFeatures(palette="photos.palette", photos="others").run()

Two passes: the first collects the covariance of all photos, the second looks at some of them again to see how far
the components' maps spread, which fixes the colours. One file holds the state on the way and the palette in the end.
It is written whole or not at all; a run that was stopped, even by a power cut, continues from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbhelpers import edge, images, models
from nbhelpers.models.covariance import exact_device
from nbhelpers.models.stages import select
from nbhelpers.recipes import Recipe
from nbhelpers.techniques.principal_features.palettes import Learner, Palette, Seen, Spread, observe

COLOUR_PHOTOS = 256  # photos, evenly spread over the folder, that the second pass looks at
SAVE_EVERY = 5.0  # seconds
PREVIEW = 6  # photos
KIND = "nbhelpers palette"


@dataclass
class Fit:
    """Learns the palette of a recipe's whole folder.

    Attributes:
        recipe: a `PrincipalFeatures`: network, layer, photos, size, hierarchical, upsampling; the rest is for display.
        state: the file that holds the state and then the palette.
        batch_size: photos in memory at a time.
    """

    recipe: Recipe
    state: str | os.PathLike = field(repr=False)
    batch_size: int = 16

    def iterate(self, network: nn.Module | None = None) -> Iterator[Progress]:
        """Learn, yielding after every mini-batch; go on from the state file if there is one.

        Raises:
            FileNotFoundError, ValueError: no photos, none readable, no such layer, or a state file of another run.
        """
        network = models.as_network(network if network is not None else self.recipe.network)
        run = _Run(self, network)
        try:
            yield from run.steps()
        finally:
            run.save()


@dataclass
class Progress:
    """How far the learning has come.

    Attributes:
        index, total: photos looked at so far in both passes, and in the end.
        skipped: unreadable files with the reason.
        palette: the finished palette, after the last step.
    """

    index: int
    total: int
    skipped: dict[str, str]
    palette: Palette | None
    learner: Learner = field(repr=False)
    preview: Any = field(repr=False)

    @property
    def scores(self) -> Float[Tensor, " components"]:
        """Share of the variance explained by each of the first three components so far."""
        return self._palette().explained[:3]

    @property
    def picture(self) -> Float[Tensor, "photos 3 size size"]:
        """A few photos painted with what is known so far, `(B, 3, size, size)`."""
        return self.preview(self._palette())

    def _palette(self) -> Palette:
        if self.palette is not None:
            return self.palette
        return self.learner.palette or self.learner.draft()


class _Run:
    """The two passes over the folder."""

    def __init__(self, fit: Fit, network: models.Network) -> None:
        recipe = fit.recipe
        self.fit, self.network = fit, network
        self.layer, self.finer = select(network, recipe.layer, recipe.size)
        alone = edge.existing_file(recipe.photos) if edge.kind(recipe.photos) == "file" else None
        self.files = {alone.name: alone} if alone else images.files_in(recipe.photos)
        count = len(self.files)
        looked_at = min(count, COLOUR_PHOTOS)
        self.sample = [number * count // looked_at for number in range(looked_at)]
        self.learner = Learner(network, self.layer, self.finer, recipe.hierarchical, recipe.upsampling)
        self.skipped: dict[str, str] = {}
        self.learnt = self.measured = 0
        self.shown: Seen | None = None
        self.saved, self.consistent = time.monotonic(), True
        self.identity = _identity(network, self.layer.name, [each.name for each in self.finer]) | {
            "size": recipe.size,
            "photos": _digest(self.files),
        }
        if recipe.fit != "crop":
            self.identity["fit"] = recipe.fit
        self.manner = models.photo_fit(network, recipe.size, recipe.fit)
        if Path(fit.state).expanduser().exists():
            self._resume()
        else:
            self.save()  # a folder that cannot be written to is better known now than in an hour

    def steps(self) -> Iterator[Progress]:
        names = list(self.files)
        while self.learnt < len(names):
            some = names[self.learnt : self.learnt + self.fit.batch_size]
            self._look(some, self.learner.add)
            self.learnt += len(some)
            self._settled()
            if self.learner.moments.count or self.learner.palette:
                yield self._progress()
        if self.learner.palette is None:
            reasons = "".join(f"\n- {reason}" for reason in list(self.skipped.values())[:5])
            raise ValueError(f"{self.fit.recipe.photos} holds no readable picture:{reasons}")
        while self.measured < len(self.sample):
            some = [names[index] for index in self.sample[self.measured : self.measured + self.fit.batch_size]]
            self._look(some, self.learner.measure)
            self.measured += len(some)
            self._settled()
            yield self._progress()
        self.save()
        yield self._progress()

    def _look(self, names: list[str], use) -> None:
        pictures = []
        for name in names:
            try:
                pictures.append(images.read(self.files[name], self.fit.recipe.size, **self.manner))
            except (ValueError, OSError) as error:
                self.skipped[name] = str(error)
        finer = [each.name for each in self.finer]
        every = [observe(self.network, self.layer.name, finer, some) for _, some in images.alike(pictures)]
        # an interrupt in here would leave half a batch added: such a state is not saved
        self.consistent = not every
        for seen in every:
            use(seen)

    def _settled(self) -> None:
        """A mini-batch is counted; at the end of the first pass the components are final."""
        if self.learnt == len(self.files) and self.learner.palette is None and self.learner.moments.count:
            self.learner.settle()
        self.consistent = True
        if time.monotonic() - self.saved > SAVE_EVERY:
            self.save()

    def _progress(self) -> Progress:
        index, total = self.learnt + self.measured, len(self.files) + len(self.sample)
        done = self.learner.palette if index == total else None
        return Progress(index, total, self.skipped, done, self.learner, self._preview)

    def _preview(self, palette: Palette) -> Tensor:
        recipe = self.fit.recipe
        if self.shown is None:
            some = [self.files[name] for name in self.files if name not in self.skipped][:PREVIEW]
            fit = "crop" if recipe.fit == "crop" else "pad"  # all of one shape
            pictures = images.read_many(some, recipe.size, None, fit).pictures
            self.shown = observe(self.network, palette.layer, palette.shallower, pictures)
        if palette.spread.values is None:  # not measured yet: a copy, so that looking changes nothing
            palette = replace(palette, spread=Spread())
            palette.spread.add(palette.maps(self.shown))
        return palette.paint(self.shown, recipe.components, recipe.n_sigma).cpu()

    def save(self) -> None:
        """Write the state, if it is one to go on from."""
        if not self.consistent:
            return
        palette, moments = self.learner.palette, self.learner.moments
        tensors = {"maxima": self.learner.maxima}
        if palette is None:
            tensors |= {"mean": moments.mean, "scatter": moments.scatter}
        else:
            tensors |= {"mean": palette.mean, "directions": palette.directions, "variances": palette.variances}
            if palette.spread.values is not None:
                tensors["spread"] = palette.spread.values
        facts = {
            "kind": KIND,
            "identity": self.identity,
            "manner": self.learner.manner,
            "learnt": self.learnt,
            "measured": self.measured,
            "total": [len(self.files), len(self.sample)],
            "skipped": self.skipped,
            "count": moments.count if palette is None else palette.count,
            "variance": None if palette is None else palette.total,
        }
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with edge.replacing(Path(self.fit.state).expanduser()) as temporary:
            safetensors.torch.save_file(tensors, temporary, {"nbhelpers": json.dumps(facts)})
        self.saved = time.monotonic()

    def _resume(self) -> None:
        facts, tensors = _read(self.fit.state)
        _compare(facts["identity"], self.identity, self.fit.state)
        with _understood(self.fit.state):
            self._take(facts, tensors)

    def _take(self, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.learnt, self.skipped = facts["learnt"], facts["skipped"]
        self.learner.maxima = tensors["maxima"]
        if "scatter" in tensors:
            moments = self.learner.moments
            moments.count = facts["count"]
            moments.mean, moments.scatter = (tensors[name].to(moments.mean) for name in ("mean", "scatter"))
        else:
            self.learner.palette = _palette(facts, tensors, self.network)
            if facts["manner"] == self.learner.manner:
                self.measured = facts["measured"]
            else:  # the components stay, their maps are others
                self.learner.palette.spread = Spread()
                vars(self.learner.palette).update(self.learner.manner)


def load(path: str | os.PathLike, network: models.Network, recipe: Recipe) -> Palette:
    """A palette learnt by `Fit`, for painting what this recipe shows.

    Args:
        path: the file.
        network: the network that is going to be painted with.
        recipe: a `PrincipalFeatures`; its layer, hierarchical and upsampling must be those of the palette.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no palette, is not finished, or was learnt from another network, layer or manner.
    """
    facts, tensors = _read(path)
    layer, finer = select(network, recipe.layer, recipe.size)
    wanted = _identity(network, layer.name, [each.name for each in finer])
    _compare({name: facts["identity"].get(name) for name in wanted}, wanted, path)
    _compare(facts["manner"], {"hierarchical": recipe.hierarchical, "upsampling": recipe.upsampling}, path)
    with _understood(path):
        done, total = [facts["learnt"], facts["measured"]], facts["total"]
    if done != total:
        raise ValueError(
            f"the palette {path} is not finished ({sum(done)} of {sum(facts['total'])} photos looked at): run the fit "
            "again with the same file, it goes on from there"
        )
    with _understood(path):
        return _palette(facts, tensors, network)


def _palette(facts: dict[str, Any], tensors: dict[str, Tensor], network: models.Network) -> Palette:
    on_device = {
        name: tensors[name].to(exact_device(network.mean.device)) for name in ("mean", "directions", "variances")
    }
    return Palette(
        network=network.name,
        layer=facts["identity"]["layer"],
        shallower=facts["identity"]["finer stages"],
        **facts["manner"],
        **on_device,
        total=facts["variance"],
        count=facts["count"],
        maxima=tensors["maxima"],
        spread=Spread(tensors.get("spread")),
    )


def _read(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        path = edge.existing_file(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"there is no palette {edge.short(path)}; learn one from a folder with Fit(recipe, 'a name')"
        ) from error
    try:
        with safetensors.safe_open(path, "pt") as opened:
            with _understood(path):
                facts = json.loads((opened.metadata() or {})["nbhelpers"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a palette, or it is damaged ({error}). {_ADVICE}") from error
    with _understood(path):
        if facts["kind"] != KIND:
            raise ValueError(facts["kind"])
        for entry in ("identity", "manner"):
            facts[entry].items()
    return facts, tensors


_ADVICE = "Name another file, or delete it and learn again"


def _understood(path: str | os.PathLike) -> AbstractContextManager[None]:
    return edge.understood(path, "a palette", _ADVICE)


def _compare(found: dict[str, Any], wanted: dict[str, Any], path: str | os.PathLike) -> None:
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        told = [f"{name}: {found.get(name)!r} there, {wanted[name]!r} here" for name in differing]
        raise ValueError(
            f"the palette {path} was learnt from something else ({edge.few(told, separator='; ')}). "
            "Use what it was learnt from, or another file"
        )


def _identity(network: models.Network, layer: str, finer: list[str]) -> dict[str, Any]:
    checksum = 0
    for tensor in network.net.state_dict().values():
        checksum = zlib.crc32(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy(), checksum)
    return {"network": network.name, "weights": f"{checksum:08x}", "layer": layer, "finer stages": finer}


def _digest(files: dict[str, Path]) -> str:
    """Names and sizes of the files, as a short text."""
    listed = [(name, path.stat().st_size) for name, path in files.items()]
    return f"{len(files)} files {hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:12]}"
