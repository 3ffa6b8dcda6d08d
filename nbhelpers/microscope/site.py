"""The pages: one file with everything that does not move, a script of facts per layer, small pictures beside them.

    index.html                   the network; layers, channels and classes stand behind the # of its address
    data/LAYER.js                what is known of a layer's channels, loaded when the reader goes there
    pictures/LAYER/CHANNEL.webp  made pictures; -diverse, -negative, -untrained, -photos beside them
    unfinished/                  what photographs told so far, for the next try; gone when the site is whole
    site.json                    what the site was built from, so that the next one can say what changed

Layers are numbers in these names, so that no name of a network's own reaches the file system. All works from a disk:
nothing is fetched, and what is text stays text.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from nbhelpers import __version__, edge, images, models, pages
from nbhelpers.microscope import again, circuits, evidence, photographs
from nbhelpers.microscope.made import Folder, Job, Picture
from nbhelpers.microscope.photographs import Seen
from nbhelpers.models import Layer, Network
from nbhelpers.training.data import Pictures

STRIP = 16  # channels of a layer that the network's page shows
QUALITY = 82  # of the pictures' compression
PHOTO_QUALITY = 70
Facts = dict[str, Any]


@dataclass(frozen=True)
class Photographs:
    """Photographs to look at.

    Attributes:
        pictures: with the number of the label of each.
        labels: their names.
        judge: the network that answers the two-choice test; empty for the default one.
    """

    pictures: Pictures
    labels: Sequence[str]
    judge: str = ""


def write(
    network: Network,
    chosen: Sequence[Layer],
    jobs: Sequence[Job],
    kept: Folder,
    folder: str | Path,
    photos: Photographs | None = None,
    about: Sequence[str] = (),
) -> Path:
    """Write the site from pictures that are drawn.

    Args:
        network: whose site it is.
        chosen: its layers, in order.
        jobs: all drawn and kept.
        kept: where.
        folder: of the site.
        photos: shown and counted in the user's own site; without them it is fit to publish.
        about: what stands at the foot of every page.

    Returns:
        The page to open.

    Raises:
        FileNotFoundError: a job's pictures are not there. OSError: the disk is full; what the site was is still there.
    """
    folder = Path(folder)
    pictures = _by_channel(jobs, kept)
    unfinished = folder / "unfinished"
    seen = photographs.look(network, chosen, photos.pictures, unfinished) if photos else {}
    looked = photos.pictures.subset(evidence.PHOTOS).batch(slice(None))[0] if photos else None
    steps = circuits.facts(network, chosen, looked)
    spoken = evidence.classes(network, chosen, looked) if looked is not None else None
    judge = (
        evidence.Judge(network, chosen, photos.pictures, photos.judge)
        if photos and evidence.can_judge(network, photos.pictures)
        else None
    )
    layers, written = [], set()
    for index, layer in enumerate(chosen):
        of_layer = seen.get(layer.name)
        channels = _channels(network, layer, pictures, of_layer, photos)
        channels = [fact | circuit for fact, circuit in zip(channels, steps[index], strict=True)]
        for fact, tuned in zip(channels, evidence.tuned(network, layer), strict=True):
            fact.update(tuned)  # of an early channel its tuning says more than the class that it tells best
        for fact, said in zip(channels, spoken.channels[layer.name] if spoken else [], strict=False):
            fact.update(said)
        two = (
            judge.add(layer.name, channels, [pictures[layer.name, each["n"]] for each in channels], of_layer)
            if judge
            else {}
        )
        if photos:
            written |= _add_patches(network, layer, of_layer, channels, photos, folder / "pictures" / str(index))
        for fact in channels:
            for kind, (drawn, _) in pictures[layer.name, fact["n"]].items():
                written.add(_save(drawn, folder / "pictures" / str(index) / f"{fact['n']}{_suffix(kind)}.webp"))
        script = f"microscope.layer({index}, {_script_safe(channels)});\n"
        written.add(folder / "data" / f"{index}.js")
        edge.write_text(script, folder / "data" / f"{index}.js")
        layers.append(_summary(layer, channels) | {"two": two})
    classes = [network.class_name(number) for number in range(len(network.classes or []))]
    class_facts: dict[int, Facts] = {}
    for number in range(len(classes)):
        class_facts[number] = spoken.classes[number] if spoken and number < len(spoken.classes) else {}
        for kind, (drawn, recipe) in pictures.get(("", number), {}).items():
            written.add(_save(drawn, folder / "pictures" / "classes" / f"{number}{_suffix(kind)}.webp"))
            class_facts[number].setdefault("recipes", []).append(recipe)
    now = {
        "nbhelpers": __version__,
        "layers": [layer.name for layer in chosen],
        "kinds": sorted({job.kind for job in jobs}),
        "recipes": {f"{job.layer or 'classes'}, {job.kind}": _manner(job) for job in jobs},
        "photos": photos is not None,
    }
    channels, dead = (sum(each[name] for each in layers) for name in ("channels", "dead"))
    data = {
        "name": network.name,
        "summary": [
            f"{len(chosen)} layers",
            f"{channels:,} channels, "
            + (f"{dead:,} of which ({dead / channels:.1%}) never fire" if dead else "all of which fire"),
            _many(len(classes), "class", "classes"),
        ],
        "about": [*about, f"nbhelpers {__version__}"],
        "changed": changes(folder, now),
        "layers": layers,
        "classes": classes,
        "class_facts": class_facts,
        "class_pictures": any(job.layer == "" for job in jobs),
        "photos": photos is not None,
    }
    edge.write_text(pages.render("microscope.html", data=_finite(data)), folder / "index.html")
    edge.write_text(edge.to_json(now, indent=1), folder / "site.json")
    shutil.rmtree(unfinished, ignore_errors=True)
    for old in {*folder.glob("data/*"), *folder.glob("pictures/*/*")} - written:
        old.unlink()  # of a site before: photographs above all must not stay in one that is to be published
    for place in folder.glob("pictures/*"):
        if not any(place.iterdir()):
            place.rmdir()
    return folder / "index.html"


def changes(folder: Path, now: Facts) -> list[str]:
    """In words, what differs from the site that lies in a folder; nothing where there is none."""
    try:
        before = json.loads((folder / "site.json").read_text(encoding="utf-8"))
        if not isinstance(before, dict):
            raise ValueError
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        return ["what it was built from could not be read"]
    found = []
    if before.get("nbhelpers") != now["nbhelpers"]:
        found.append(f"nbhelpers {edge.short(before.get('nbhelpers'))} is now {now['nbhelpers']}")
    for name in ("layers", "kinds"):
        was = before.get(name) if isinstance(before.get(name), list) else []
        for word, some in (
            ("added", set(now[name]) - set(map(str, was))),
            ("gone", set(map(str, was)) - set(now[name])),
        ):
            if some:
                found.append(f"{name} {word}: {edge.few(sorted(some))}")
    recipes = before.get("recipes")
    if not isinstance(recipes, dict) or any(now["recipes"].get(what, how) != how for what, how in recipes.items()):
        found.append("the pictures are made in another way")
    if before.get("photos") != now["photos"]:
        found.append("with photographs now" if now["photos"] else "without photographs now")
    return found


def _by_channel(jobs: Sequence[Job], kept: Folder) -> dict[tuple[str, int], dict[str, tuple[list[Picture], Facts]]]:
    """By layer and channel, and then by kind: the pictures, and how they are made again."""
    found: dict[tuple[str, int], dict[str, tuple[list[Picture], Facts]]] = defaultdict(dict)
    for job in jobs:
        pictures = kept.pictures(job)
        if pictures is None:
            raise FileNotFoundError(f"pictures of {job.layer or 'classes'} are not drawn: {kept.paths(job)[0]}")
        for index, (channel, picture) in enumerate(zip(job.channels, pictures, strict=True)):
            if job.kind == "diverse":
                found[job.layer, channel].setdefault(job.kind, ([], again.how(job, picture, index)))[0].append(picture)
            else:
                found[job.layer, channel][job.kind] = ([picture], again.how(job, picture, index))
    return found


def _channels(
    network: Network, layer: Layer, pictures: Mapping, seen: Seen | None, photos: Photographs | None
) -> list[Facts]:
    """What a layer's script says of each channel."""
    by_kind = [pictures[layer.name, channel] for channel in range(layer.channels)]
    dead = [not kinds["made"][0][0].alive for kinds in by_kind]
    answers = _answers(network, layer.name, [kinds["made"][0][0] for kinds in by_kind])
    own = answers.diagonal()
    others = (answers.sum(0) - own) / max(1, layer.channels - 1)
    spread = answers.std(0, correction=0).clamp(min=1e-6)
    told = photographs.facts(seen, own, photos.pictures, photos.labels) if seen and photos else [{}] * layer.channels
    facts = []
    for channel, kinds in enumerate(by_kind):
        fact = {
            "n": channel,
            "kinds": [kind for kind in kinds if kind != "made"],
            "recipes": [r for _, r in kinds.values()],
        }
        if dead[channel]:
            fact["dead"] = True
        else:
            fact["strength"] = _short(own[channel])
            fact["selectivity"] = _short((own - others)[channel] / spread[channel])
        facts.append(fact | told[channel])
    return facts


def _add_patches(
    network: Network, layer: Layer, seen: Seen, channels: Sequence[Facts], photos: Photographs, folder: Path
) -> set[Path]:
    """Each channel's patches of photos: a picture beside the made ones, and what the page says of each."""
    sheets = photographs.patches(network, layer, seen, photos.pictures)
    bar = edge.Bar(channels, desc=f"patches of {layer.name}", unit="channel", leave=False, disable=None)
    written = set()
    for fact, (sheet, said) in zip(bar, sheets, strict=True):
        fact["patches"] = said
        written.add(_save_sheet(sheet, folder / f"{fact['n']}-photos.webp", PHOTO_QUALITY))
    return written


@torch.no_grad()
def _answers(network: Network, layer: str, drawn: Sequence[Picture]) -> Float[Tensor, "pictures channels"]:
    """The mean answer of every channel of a layer to every picture."""
    pictures = torch.stack([picture.read() for picture in drawn])
    look = models.capture(network, layer, stop=True)
    batches = pictures.to(network.mean.device).split(64)
    return torch.cat([look(batch)[layer].float().mean((2, 3)).cpu() for batch in batches])


def _summary(layer: Layer, channels: Sequence[Facts]) -> Facts:
    """What the network's page says of a layer."""
    alive = [fact for fact in channels if not fact.get("dead")]
    strongest = sorted(alive, key=lambda fact: -fact["strength"])[:STRIP]
    return {
        "name": layer.name,
        "kind": layer.kind,
        "channels": layer.channels,
        "height": layer.height,
        "width": layer.width,
        "stride": layer.stride,
        "field": layer.receptive_field,
        "dead": len(channels) - len(alive),
        "strip": [fact["n"] for fact in strongest],
    }


def _save(drawn: Sequence[Picture], path: Path) -> Path:
    """One picture, or several side by side."""
    tiles = [images.to_pil(picture.read()) for picture in drawn]
    sheet = Image.new("RGB", (sum(tile.width for tile in tiles), tiles[0].height))
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number * tile.width, 0))
    return _save_sheet(sheet, path, QUALITY)


def _save_sheet(sheet: Image.Image, path: Path, quality: int) -> Path:
    with edge.replacing(path) as temporary:
        sheet.save(temporary, "WEBP", quality=quality)
    return path


def _suffix(kind: str) -> str:
    return "" if kind == "made" else f"-{kind}"


def _manner(job: Job) -> str:
    """A recipe without what differs from job to job of one layer."""
    document = job.recipe.document()["parameters"]
    return json.dumps({name: value for name, value in document.items() if name not in ("channels", "directions")})


def _script_safe(value: Any) -> str:
    """JSON that may stand in a script: strict, and nothing in it ends the script or a line of it."""
    text = edge.to_json(value, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    """What strict JSON has no word for as null."""
    return json.loads(edge.to_json(value))


def _short(value: Tensor) -> float | None:
    number = float(value)
    return float(f"{number:.4g}") if math.isfinite(number) else None


def _many(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}" if count else f"no {many}"
