"""Photos from wherever they are, and what a layer gives at places in them.

A few photos are cut into many squares; a collection with labels is taken as it is. Of every picture one or several
places of the layer's maps are kept. Where they are more than memory should hold, or are to be kept, they lie in a file
(`tables`): in memory are the pictures as bytes, the maps of one batch, and 32 bytes for each place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nbhelpers import edge, images, models
from nbhelpers.attribution import gradients
from nbhelpers.directions import tables
from nbhelpers.models import Network
from nbhelpers.recipes import Recipe
from nbhelpers.training import data, fingerprints
from nbhelpers.training.data import Pictures

SMALLEST_CUT = 0.35  # of a photo's shorter side
BATCH = 64
FEW = 16  # pictures at a time where what comes behind the layer is remembered


@dataclass
class Places:
    """What a layer gives at places of pictures.

    Attributes:
        vectors: `(N, C)` float32.
        photos: which picture each is from, `(N,)`, ascending.
        centres: where each lies in its picture, from 0 to 1 of the width and of the height, `(N, 2)`.
        corners: left and top of what each place sees, as a square of `side` pixels within its picture, `(N, 2)`.
        side: of these squares in pixels.
    """

    vectors: Float[Tensor, "places channels"]
    photos: Int[Tensor, " places"]
    centres: Float[Tensor, "places 2"]
    corners: Int[Tensor, "places 2"]
    side: int

    def subset(self, chosen: Int[Tensor, " chosen"]) -> Places:
        """Some of the places, in ascending order."""
        return Places(self.vectors[chosen], self.photos[chosen], self.centres[chosen], self.corners[chosen], self.side)

    def units(self, height: int, width: int) -> Int[Tensor, " places"]:
        """Which unit of maps of this size lies where each place does, counted row by row."""
        column, row = (self.centres * torch.tensor([width, height])).long().unbind(1)
        return row * width + column

    def patch(self, pictures: Pictures, place: int) -> Float[Tensor, "3 side side"]:
        """What one place sees of its picture."""
        left, top = self.corners[place].tolist()
        pixels = pictures.pixels[self.photos[place], top : top + self.side, left : left + self.side]
        return pixels.permute(2, 0, 1).float() / 255


def read(source: str | Path, size: int, limit: int, cuts: int, seed: int) -> tuple[Pictures, list[str]]:
    """Photos to be looked at, and the names of their labels.

    Args:
        source: a folder of photos (labelled by its sub-folders, or each photo by its own name), or a data folder that
            `nbhelpers.training.data` knows, whose validation pictures are taken.
        size: side of the pictures in pixels.
        limit: most pictures, spread evenly.
        cuts: squares at random places and of random sizes from every photo of a folder; 1 takes its centre.
        seed: of the cuts.

    Raises:
        FileNotFoundError, ValueError: no such folder, or nothing readable in it.
    """
    if edge.is_folder(source) and data.known(Path(source).expanduser()):
        pictures = data.load(source, "val", size)
        names = [entry["name"] for entry in data.classes(source)]
        few = replace(pictures.subset(limit), skipped=pictures.skipped) if limit < len(pictures) else pictures
        return few, names
    files = images.files_in(source)
    chosen = torch.linspace(0, len(files) - 1, min(len(files), -(-limit // cuts))).long().tolist()
    generator = torch.Generator().manual_seed(seed % 2**63)
    squares, labels, skipped, named = [], [], [], []
    for name in [list(files)[index] for index in chosen]:
        try:
            squares += _cut(images.read(files[name]), size, cuts, generator)
        except (ValueError, OSError) as error:
            skipped.append(f"{name}: {error}")
            continue
        labels += [name.split("/")[0] if "/" in name else Path(name).stem] * cuts
        named += [name] * cuts
    if not squares:
        raise ValueError(f"{source} holds no readable picture: {edge.few(skipped, separator='; ')}")
    names = sorted(set(labels))
    numbers = torch.tensor([names.index(label) for label in labels])
    return Pictures(torch.stack(squares)[:limit], numbers[:limit], skipped, named[:limit]), names


def gathered(recipe: Recipe, network: Network, kept: Path | None = None) -> tuple[Pictures, list[str], Places]:
    """The photos of a recipe, the names of their labels, and what its layer gives at places in them.

    Args:
        recipe: with a layer to look at and one to draw in (`drawn`), photos and how they are cut, places and seed.
        network: left as it is.
        kept: a folder for what the layer gives, see `collect`.

    Raises:
        KeyError, ValueError: a layer is unknown, the two layers do not match, or the photos cannot be read.
    """
    seen, drawn = (models.check_layer(network, name, recipe.size).channels for name in (recipe.layer, recipe.drawn))
    if seen != drawn:
        raise ValueError(
            f"layer {recipe.layer!r} has {seen} channels and {recipe.drawn!r}, to draw in, "
            f"{drawn}: take the convolution before the ReLU, or the same layer twice"
        )
    pictures, labels = read(recipe.photos, recipe.size, recipe.limit, recipe.cuts, recipe.seed)
    return pictures, labels, collect(network, recipe.layer, pictures, recipe.places, recipe.seed, kept=kept)


def collect(
    network: Network, layer: str, pictures: Pictures, places: int, seed: int = 0, like: Places | None = None,
    kept: Path | None = None,
) -> Places:  # fmt: skip
    """What a layer gives at some places of every picture, drawn at random, other ones in every picture.

    Args:
        network: left as it is.
        layer: dotted name of a layer that gives feature maps.
        pictures: N of them.
        places: of each picture; 0 for all.
        seed: of the places.
        like: what another layer or network gave for the same pictures; its places are taken again, and none drawn.
        kept: a folder for what the layer gives, written once, 4 bytes a number. A run that was stopped goes on there,
            to the same bytes, and one that is done is there at once; what belongs to other weights, pictures or
            settings is left alone.

    Raises:
        KeyError, ValueError: no such layer, or one without feature maps; numbers that are not finite; or more of them
            than the disk has room for.
    """
    known = models.check_layer(network, layer, pictures.pixels.shape[1])
    size = pictures.pixels.shape[1]
    field = min(size, int(known.receptive_field)) if known.receptive_field < size else size
    shape = known.height, known.width
    if like is None:
        photos, units = _drawn(len(pictures), places, shape, seed)
    else:
        photos, units = like.photos, like.units(*shape)
    where = torch.stack([(units % shape[1] + 0.5) / shape[1], (units // shape[1] + 0.5) / shape[0]], dim=1)
    path = kept / f"places-{_name(network, layer, pictures, photos, units)}.npy" if kept else None
    growing, bad = tables.Growing(len(photos), known.channels, path), []
    look = models.capture(network, layer, stop=True)
    counts = torch.bincount(photos // BATCH, minlength=-(-len(pictures) // BATCH)).tolist()
    with torch.no_grad():
        for number, rows in enumerate(torch.arange(len(photos)).split(counts)):
            if not len(rows) or int(rows[-1]) < growing.done:
                continue
            batch, _ = pictures.batch(slice(number * BATCH, (number + 1) * BATCH))
            maps = look(batch.to(network.mean.device))[layer].float().cpu()
            vectors = maps.flatten(2)[photos[rows] - number * BATCH, :, units[rows]]
            bad += photos[rows][~vectors.isfinite().all(1)].unique().tolist()
            if not bad:
                growing.add(vectors)
    if bad:
        raise ValueError(
            f"layer {layer!r} gives numbers that are not finite for picture {edge.few(bad)}: "
            "check the network's weights, or leave these pictures out"
        )
    corners = (where * size - field / 2).round().clamp(0, size - field).long()
    return Places(growing.table, photos, where, corners, field)


def _drawn(pictures: int, places: int, shape: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Pictures and units of the places that a seed draws."""
    every, generator = shape[0] * shape[1], torch.Generator().manual_seed(seed % 2**63)
    kept = places if 0 < places < every else every
    counts = [min(BATCH, pictures - start) for start in range(0, pictures, BATCH)]
    units = [torch.rand(count, every, generator=generator).argsort(1)[:, :kept].flatten() for count in counts]
    return torch.arange(pictures).repeat_interleave(kept), torch.cat(units)


def _name(network: Network, layer: str, pictures: Pictures, photos: Tensor, units: Tensor) -> str:
    """For everything that the numbers depend on."""
    return fingerprints.fingerprint(network, f"{layer} {BATCH}", pictures.pixels, photos, units)


def effects(network: Network, layer: str, pictures: Pictures, places: Places, label: int) -> Float[Tensor, " places"]:
    """How far each place speaks for a class, to first order: its activation times the gradient of the class's score.

    The score is the logarithm of the class's share of the answer. The logit alone would also rise with whatever makes
    the network say more of everything; above 0, the place speaks for this class against the others.

    Args:
        network: left as it is.
        layer: the layer that gave the places.
        pictures: the pictures that they are from.
        places: N of them.
        label: the class, by its number.

    Raises:
        ValueError: the network gives no class logits, or they do not depend on the layer.

    Source: Carter et al. 2019, "Activation Atlas", the atlas of a class.
    """
    fast = gradients.frozen(network, gradients=False)
    models.find_module(fast, layer).register_forward_hook(lambda module, inputs, output: output.requires_grad_())
    look, found = models.Capture(fast, layer, gradients.OUTPUT), []
    for number, (batch, _) in enumerate(pictures.batches(FEW)):
        with models.differentiable():
            seen = look(gradients.as_batch(fast, batch))
            logits = gradients.class_logits(fast, seen[gradients.OUTPUT], len(batch))
            score = models.log_shares(logits)[:, label].sum()
            (slopes,) = torch.autograd.grad(score, seen[layer], allow_unused=True) if score.requires_grad else (None,)
        if slopes is None:
            gradients.depending(network, layer, batch, slopes)
        adds = (seen[layer] * slopes).detach().sum(1).float().cpu()
        mine = places.subset((places.photos // FEW == number).nonzero().flatten())
        found.append(adds.flatten(1)[mine.photos - number * FEW, mine.units(*adds.shape[1:])])
    return torch.cat(found)


class Behind:
    """The network behind a layer: from what the layer would give to logits.

    A copy that shares the weights looks at pictures, and at the layer its maps are exchanged for those that are given.
    What comes before is the same for all, so it is computed once: every layer there says again what it said.

    Args:
        network: left as it is.
        layer: dotted name of a layer that gives feature maps.
        size: side of the pictures in pixels, or `(height, width)`, which decides how large the maps are.
        pictures: what the copy looks at, `(N, channels, height, width)` in [0, 1]; a grey one unless given. Where
            something goes around the layer (a shortcut), it is theirs.
    """

    def __init__(
        self,
        network: Network,
        layer: str,
        size: models.Size,
        pictures: Float[Tensor, "photos channels _ _"] | None = None,
    ) -> None:
        known = models.check_layer(network, layer, size)
        self.shape = (known.height, known.width)
        self._network = models.sharing_copy(network)
        grey = torch.full((1, network.channels, *models.sides(size)), 0.5)
        self._pictures = (grey if pictures is None else pictures).to(network.mean.device)
        self._maps: Tensor | None = None
        target = models.find_module(self._network, layer)
        for module, said in _before(self._network, target, self._pictures).items():
            module.forward = lambda *_, said=said: self._again(said)
        target.register_forward_hook(lambda *_: self._maps)

    def _again(self, said: Tensor) -> Tensor:
        # always a copy: what comes next may work in place
        return said.repeat(len(self._maps) // len(self._pictures), *[1] * (said.ndim - 1))

    def __call__(self, maps: Float[Tensor, "pictures channels height width"]) -> Float[Tensor, "pictures classes"]:
        """Logits if the layer gave these maps, as many as pictures or a multiple; differentiable in them."""
        self._maps = maps.to(self._pictures.device)
        return self._network(self._again(self._pictures)).float().cpu()


def _before(network: nn.Module, target: nn.Module, picture: Tensor) -> dict[nn.Module, Tensor]:
    """What the innermost modules that run once, and before the target is done, say to a picture."""
    said: dict[nn.Module, list[Tensor]] = {}
    done: list[nn.Module] = []

    def note(module: nn.Module, inputs: tuple, output: object) -> None:
        if not done and isinstance(output, Tensor):
            said.setdefault(module, []).append(output.clone())
        elif module in said:
            said[module].append(output)
        if module is target:
            done.append(module)

    innermost = [module for module in network.modules() if not any(module.children())]
    hooks = [module.register_forward_hook(note) for module in {*innermost, target}]
    with torch.no_grad():
        network(picture)
    for hook in hooks:
        hook.remove()
    return {module: runs[0] for module, runs in said.items() if len(runs) == 1 and module is not target}


@torch.no_grad()
def answers(
    network: Network, layer: str, vectors: Float[Tensor, "vectors channels"], size: int
) -> Float[Tensor, "vectors classes"]:
    """What the network would answer if a layer said one thing everywhere: class shares of each vector.

    Args:
        network: left as it is.
        layer: dotted name of a layer that gives feature maps.
        vectors: `(N, C)`.
        size: side of the pictures in pixels, which decides how large the maps are.
    """
    behind = Behind(network, layer, size)
    maps = vectors[:, :, None, None].expand(-1, -1, *behind.shape)
    return models.shares(torch.cat([behind(some.contiguous()) for some in maps.split(BATCH)]))


def _cut(photo: Float[Tensor, "3 _ _"], size: int, count: int, generator: torch.Generator) -> list[Tensor]:
    """Squares of a photo as bytes `(size, size, 3)`: its centre first, then others."""
    height, width = photo.shape[1:]
    whole = min(height, width)
    squares = []
    for index in range(count):
        share, x, y = torch.rand(3, generator=generator).tolist() if index else (1.0, 0.5, 0.5)
        side = max(1, round(whole * (SMALLEST_CUT + (1 - SMALLEST_CUT) * share)))
        left, top = round((width - side) * x), round((height - side) * y)
        square = images.resize(photo[None, :, top : top + side, left : left + side], size)[0]
        squares.append((square * 255).round().byte().permute(1, 2, 0))
    return squares
