"""What the pages say beyond pictures: the two-choice test, tuning, the classes that a channel speaks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from scipy.stats import binomtest
from torch import Tensor

from nbhelpers import models
from nbhelpers.microscope import speaking, tuning, two_choice
from nbhelpers.microscope.made import Picture
from nbhelpers.microscope.photographs import Seen, short
from nbhelpers.models import Layer, Network
from nbhelpers.training.data import Pictures

PHOTOS = 32  # that the classes are asked about
STRONGEST = 5  # classes of a channel, channels of a class
MEASURED = 4000
"""Of a network with more channels, only those that speak most for some class are taken away: each costs a pass."""

EARLY = 0.5
"""Layers whose units see at most this share of the picture are asked for their tuning."""

Facts = dict[str, Any]
Drawn = Mapping[str, tuple[list[Picture], Facts]]


@dataclass(frozen=True)
class Classes:
    """Of channels and classes.

    Attributes:
        channels: by layer, what each channel's page says.
        classes: what each class's page says.
    """

    channels: dict[str, list[Facts]]
    classes: list[Facts]


def classes(
    network: Network, layers: Sequence[Layer], pictures: Float[Tensor, "photos channels height width"]
) -> Classes | None:
    """For which classes each channel speaks, and what they lose without it; None for a network without classes."""
    if not network.classes:
        return None
    adds = speaking.contributions(network, layers, pictures)
    places = [(layer.name, channel) for layer in layers for channel in range(layer.channels)]
    together = torch.cat([adds[layer.name] for layer in layers])
    leaders = together.topk(min(STRONGEST, len(places)), dim=0).indices.T.tolist()
    wanted = set(range(len(places))) if len(places) <= MEASURED else {each for row in leaders for each in row}
    falls: dict[tuple[str, int], Tensor] = {}
    for layer in layers:
        taken = [places[each][1] for each in sorted(wanted) if places[each][0] == layer.name]
        if taken:
            rows = speaking.lost(network, layer.name, taken, pictures)
            falls |= {(layer.name, channel): row for channel, row in zip(taken, rows, strict=True)}
    note = f"Gradient times activation, the mean over {len(pictures)} photographs: what it adds to these logits."
    channels: dict[str, list[Facts]] = {layer.name: [] for layer in layers}
    for place, row in zip(places, together, strict=True):
        fact: Facts = {"speaks_note": note, "speaks": _strongest(row)}
        if place in falls:
            fact["lost"] = _strongest(falls[place])
        channels[place[0]].append(fact)
    said = []
    for number, row in enumerate(leaders):
        links = [{"layer": places[e][0], "channel": places[e][1], "value": short(together[e, number])} for e in row]
        ablation = [{"name": f"{e['layer']} {e['channel']}",
                     "value": short(falls[e["layer"], e["channel"]][number])} for e in links]  # fmt: skip
        words = f"How far its logit falls without each of them, measured on {len(pictures)} photographs."
        said.append({"channels": links, "ablation": ablation, "ablation_note": words})
    return Classes(channels, said)


def tuned(network: Network, layer: Layer) -> list[Facts]:
    """Tuning curves of an early layer's channels, and a label where it beats the untrained network's; else nothing."""
    nothing: list[Facts] = [{} for _ in range(layer.channels)]
    if network.channels != 3 or not layer.receptive_field <= EARLY * min(models.sides(network.size)):
        return nothing
    found = tuning.curves(network, layer.name)
    labels = tuning.labels(found, tuning.curves(models.randomised(network, 0), layer.name))
    curves = [
        ("lines by angle", "°", tuning.ANGLES, found.preferred),
        ("uniform colours by hue, from red over blue and green", "°", range(0, 360, 30), found.colours),
        ("corners by the direction they open to", "°", tuning.TURNS, found.corners),
        ("lines and edges by bend", "", tuning.BENDS, found.arcs),
    ]
    for channel, (fact, label) in enumerate(zip(nothing, labels, strict=True)):
        drawn = [{"name": name, "unit": unit, "x": list(x), "y": [short(y) for y in values[channel]]}
                 for name, unit, x, values in curves]  # fmt: skip
        fact["tuning"] = {
            "label": label or "tuned to nothing, or not more than untrained channels are",
            "curves": drawn,
        }
        if label:
            fact["label"] = {"name": label}
    return nothing


def can_judge(network: Network, photos: Pictures) -> bool:
    """Whether there are photos enough to ask about, in colours that a judge sees."""
    return len(photos) >= 20 and network.channels == 3


class Judge:
    """Another network that answers the two-choice test, its features of the photos computed once."""

    def __init__(self, network: Network, photos: Pictures) -> None:
        self.name = two_choice.default_judge(network)
        self._judge = models.load(self.name)
        self._photos = torch.cat([two_choice.features(self._judge, batch) for batch, _ in photos.batches(64)])

    def add(self, channels: Sequence[Facts], drawn: Sequence[Drawn], seen: Seen) -> str:
        """Add to what is known of each channel how telling its made pictures and real photos are; a layer's verdict."""
        asked: dict[int, two_choice.Questions] = {}
        for index, fact in enumerate(channels):
            if not fact.get("dead"):
                try:
                    asked[index] = two_choice.questions(seen.means[:, index])
                except ValueError:  # it answers to all alike: there is nothing to ask
                    continue
        if not asked:
            return ""
        best = min(9, len(self._photos) // 20)  # that no question is about
        real = [self._photos[seen.means[:, each].argsort(descending=True, stable=True)[:best]] for each in asked]
        made = [[picture.read() for picture in _shown(drawn[each])] for each in asked]
        sizes = [len(each) for each in made]
        judged = two_choice.features(self._judge, torch.stack([each for some in made for each in some]))
        kinds = {"made pictures": judged.split(sizes), f"{best} photos" if best > 1 else "one photo": real}
        questions, verdicts = list(asked.values()), []
        for name, references in kinds.items():
            verdict = two_choice.test(list(references), self._photos, questions)
            verdicts.append(f"{name} {verdict}")
            for index, share in zip(asked, verdict.shares, strict=True):
                row = _row(name, float(share), len(asked[index].strong))
                note = f"Shown these, {self.name} tells a photo that excites the channel from one that does not. "
                note += "The line is chance, the bar across it the 95 % interval."
                channels[index].setdefault("two", {"note": note, "rows": []})["rows"].append(row)
        return f"Two-choice test, judged by {self.name}: {'; '.join(verdicts)}."


def _shown(drawn: Drawn) -> list[Picture]:
    return drawn["diverse" if "diverse" in drawn else "made"][0]


def _row(name: str, share: float, questions: int) -> Facts:
    interval = binomtest(round(share * questions), questions).proportion_ci(method="wilson")
    return {"name": name, "share": short(share), "questions": questions,
            "low": short(interval.low), "high": short(interval.high)}  # fmt: skip


def _strongest(row: Float[Tensor, " classes"]) -> list[Facts]:
    best = row.topk(min(STRONGEST, len(row)))
    return [
        {"class": each, "value": short(value)} for value, each in zip(best.values, best.indices.tolist(), strict=True)
    ]
