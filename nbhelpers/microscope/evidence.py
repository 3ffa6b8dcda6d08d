"""What the pages say beyond pictures: the two-choice test, tuning, the classes that a channel speaks for."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float
from scipy.stats import binomtest, fisher_exact
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

CERTAIN = 0.01
"""Tuning is labelled where chance would give as many tuned channels less often than this (Fisher's exact test)."""

AGAINST: dict[two_choice.Weak, str] = {
    "lower half": "against a photo of the weaker half",
    "middling": "against a middling photo, which is harder",
}
CHANCE = "any photo"

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
    leaders = _leaders(adds, layers)
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
        words = (
            f"Each held at zero in turn: how much lower this logit is then, measured on {len(pictures)} photographs."
        )
        note = "What adds most to its logit over the photographs: of the deepest layer, then of each one before it."
        said.append({"note": note, "channels": links, "ablation": ablation, "ablation_note": words})
    return Classes(channels, said)


def _leaders(adds: dict[str, Float[Tensor, "channels classes"]], layers: Sequence[Layer]) -> list[list[int]]:
    """By class, the numbers among all channels of the deepest layer's strongest, and of the one that leads each before.

    Layer by layer, because what an early channel adds passes through all that come after: the sums are of one size, and
    the few channels of a first layer, which every photo excites, would lead each list.
    """
    starts = dict(
        zip([layer.name for layer in layers], [0, *accumulate(layer.channels for layer in layers)], strict=False)
    )
    *before, deepest = [layer.name for layer in layers]
    strongest = adds[deepest].topk(min(STRONGEST, len(adds[deepest])), dim=0).indices + starts[deepest]
    first = [adds[name].argmax(0, keepdim=True) + starts[name] for name in reversed(before)]
    return torch.cat([strongest, *first]).T.tolist()


def tuned(network: Network, layer: Layer) -> list[Facts]:
    """Tuning curves of an early layer's channels; labels only where they say more than an untrained network's would."""
    nothing: list[Facts] = [{} for _ in range(layer.channels)]
    if network.channels != 3 or not layer.receptive_field <= EARLY * min(models.sides(network.size)):
        return nothing
    found = tuning.curves(network, layer.name)
    control, other = (tuning.curves(models.randomised(network, seed), layer.name) for seed in (0, 1))
    labels, by_chance = tuning.labels(found, control), tuning.labels(other, control)
    count, chance = (sum(label is not None for label in some) for some in (labels, by_chance))
    table = [[count, layer.channels - count], [chance, layer.channels - chance]]
    more = fisher_exact(table, alternative="greater").pvalue < CERTAIN
    note = f"Of this layer's {layer.channels} channels {count} are tuned so clearly, of an untrained network's {chance}"
    note += "." if more else ": no more than chance, so none has a label."
    curves = [
        ("lines by angle", "°", tuning.ANGLES, found.preferred),
        ("lines by frequency, in cycles a pixel", "", found.frequencies, found.by_frequency),
        ("uniform colours by hue, from red over blue and green", "°", range(0, 360, 30), found.colours),
        ("corners by the direction they open to", "°", tuning.TURNS, found.corners),
        ("lines and edges by bend", "", tuning.BENDS, found.arcs),
    ]
    for channel, (fact, label) in enumerate(zip(nothing, labels, strict=True)):
        drawn = [
            {"name": name, "unit": unit, "x": list(map(short, x)), "y": list(map(short, values[channel]))}
            for name, unit, x, values in curves
        ]
        fact["tuning"] = {"note": note, "curves": drawn}
        if more:
            fact["tuning"]["label"] = label or "tuned to nothing, or not more than untrained channels are"
        if more and label:
            fact["label"] = {"name": label}
    return nothing


def can_judge(network: Network, photos: Pictures) -> bool:
    """Whether there are photos enough to ask about, in colours that a judge sees."""
    return len(photos) >= 20 and network.channels == 3


class Judge:
    """Another network that answers the two-choice test, its features of the photos computed once for all layers."""

    def __init__(self, network: Network, layers: Sequence[Layer], photos: Pictures, name: str = "") -> None:
        self.name = name or two_choice.default_judge(network)
        self._judge, self._whole = models.load(self.name), photos.pixels.shape[1]
        self._levels = {each.name: two_choice.level(self._judge, network, each.name) for each in layers}
        used = list(dict.fromkeys(self._levels.values()))
        parts = [two_choice.features(self._judge, batch, used, self._whole) for batch, _ in photos.batches(64)]
        self._photos = {name: torch.cat([part[name] for part in parts]) for name in used}

    def add(self, layer: str, channels: Sequence[Facts], drawn: Sequence[Drawn], seen: Seen) -> Facts:
        """Add to what is known of each channel how telling its made pictures and real photos are; the same of all."""
        asked: dict[two_choice.Weak, dict[int, two_choice.Questions]] = {weak: {} for weak in AGAINST}
        for index, fact in enumerate(channels):
            for weak, some in asked.items() if not fact.get("dead") else ():
                with contextlib.suppress(ValueError):  # it answers to all alike: there is nothing to ask
                    some[index] = two_choice.questions(seen.means[:, index], weak=weak)
        able = [index for index in range(len(channels)) if all(index in some for some in asked.values())]
        if not able:
            return {}
        level = self._levels[layer]
        known, judge = self._photos[level], f"{self.name} ({level})"
        kinds = self._references(level, able, drawn, seen)
        together: list[Facts] = []
        for weak, words in AGAINST.items():
            questions, rows = [asked[weak][index] for index in able], []
            verdicts = {name: two_choice.test(references, known, questions) for name, references in kinds.items()}
            verdicts[CHANCE] = two_choice.by_chance(known, questions)
            for name, verdict in verdicts.items():
                rows.append({"name": name, "share": short(verdict.share),
                             "low": short(verdict.low), "high": short(verdict.high)})  # fmt: skip
                for index, share in zip(able, verdict.shares, strict=True):
                    if name != CHANCE:
                        two = channels[index].setdefault("two", {"judge": judge, "groups": {}})
                        row = _row(name, float(share), two_choice.QUESTIONS)
                        two["groups"].setdefault(weak, {"name": words, "rows": []})["rows"].append(row)
            together.append({"name": words, "rows": rows})
        for index in able:
            channels[index]["two"]["groups"] = list(channels[index]["two"]["groups"].values())
        return {"judge": judge, "channels": len(able), "groups": together}

    def _references(
        self, level: str, able: Sequence[int], drawn: Sequence[Drawn], seen: Seen
    ) -> dict[str, list[Float[Tensor, "references channels"]]]:
        """What the judge is shown of each channel, as features: made pictures, its strongest photos."""
        known, kinds = self._photos[level], {}
        for kind, name in (("made", "one made picture"), ("diverse", "four made pictures")):
            if all(kind in drawn[index] for index in able):
                made = [[picture.read() for picture in drawn[index][kind][0]] for index in able]
                pictures = torch.stack([picture for some in made for picture in some])
                judged = two_choice.features(self._judge, pictures, [level], self._whole)[level]
                kinds[name] = list(judged.split([len(some) for some in made]))
        order = {index: seen.means[:, index].argsort(descending=True, stable=True) for index in able}
        best = two_choice.spared(len(known))  # that no question is about
        for count in sorted({1, best}):
            name = f"its {count} strongest photos" if count > 1 else "its strongest photo"
            kinds[name] = [known[order[index][:count]] for index in able]
        return kinds


def _row(name: str, share: float, questions: int) -> Facts:
    interval = binomtest(round(share * questions), questions).proportion_ci(method="wilson")
    return {"name": name, "share": short(share), "questions": questions,
            "low": short(interval.low), "high": short(interval.high)}  # fmt: skip


def _strongest(row: Float[Tensor, " classes"]) -> list[Facts]:
    best = row.topk(min(STRONGEST, len(row)))
    return [
        {"class": each, "value": short(value)} for value, each in zip(best.values, best.indices.tolist(), strict=True)
    ]
