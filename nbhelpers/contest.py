"""Which map is best here? Where maps point, and what the class loses when the pixels they point at are taken away.

    verdict = compare(network, "block4", boxed)
    print(verdict.table())

Every method competes with guesses: a random map as coarse as the layer's, single random pixels, a blob in the middle,
and the Grad-CAM of the same network with nothing learned. A method that does not beat them has shown nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nbhelpers import boxes, cams, faithfulness, models
from nbhelpers.boxes import Boxed
from nbhelpers.gradients import Classes, targets

CONTROLS = ("random map", "random pixels", "middle", "untrained network")


@dataclass
class Verdict:
    """What the maps of one layer did on photos with boxes.

    Attributes:
        hits: by method and control, whether each photo's map points at its object, `(N,)` bool.
        deletion: by method and control, area under each photo's deletion curve, `(N,)`; empty if not measured.
        chance: how often a blind point would hit, `(N,)`.
        classes: the class of each map.
    """

    hits: dict[str, Tensor]
    deletion: dict[str, Tensor]
    chance: Tensor
    classes: list[int]

    def shares(self) -> dict[str, float]:
        """Share of photos whose map points at the object, by method and control."""
        return {name: found.float().mean().item() for name, found in self.hits.items()}

    def areas(self) -> dict[str, float]:
        """Mean area under the deletion curve, by method and control."""
        return {name: found.mean().item() for name, found in self.deletion.items()}

    def table(self) -> str:
        """The numbers as text: methods first, then controls and chance."""
        shares, areas, count = self.shares(), self.areas(), len(self.chance)
        lines = [
            f"{'map':<20}{'hits':>14}{'deletion area':>16}",
            " " * 20 + f"{'more: better':>14}{'less: better':>16}",
        ]
        for name in shares:
            if name == CONTROLS[0]:
                lines.append("-" * 50)
            area = f"{areas[name]:.3f}" if name in areas else ""
            lines.append(f"{name:<20}{f'{self.hits[name].sum()}/{count} {shares[name]:4.0%}':>14}{area:>16}")
        return "\n".join([*lines, f"{'chance':<20}{f'{self.chance.mean():4.0%}':>14}"])


def compare(
    network: str | nn.Module,
    layer: str,
    boxed: Boxed,
    classes: Classes = None,
    methods: Sequence[str] = cams.METHODS,
    *,
    steps: int = 16,
    tolerance: float = boxes.TOLERANCE,
    channels: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> Verdict:
    """Pointing game and deletion area of every method and control.

    Args:
        network: left as it is.
        layer: dotted name of a layer that gives feature maps.
        boxed: photos with boxes.
        classes: one name or number per photo, or one for all; None for the class that each photo is given.
        methods: of `cams.METHODS`.
        steps: portions in which pixels are taken away; 0 leaves the deletion out.
        tolerance: distance from a box that counts as a hit, in sides of the photo.
        channels: how many Score-CAM tries per photo; all unless given.
        batch_size: photos at a time; bounds the memory.
        seed: of the controls' randomness.

    Raises:
        KeyError, ValueError: as `cams.class_maps`.
    """
    network = models.as_network(network)
    untrained = models.randomised(network, seed)
    names = [*methods, *CONTROLS]
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    numbers: list[int] = []
    given = classes if classes is None or isinstance(classes, str | int) else list(classes)
    for start in range(0, len(boxed), batch_size):
        batch = slice(start, start + batch_size)
        pictures = boxed.photos.pictures[batch]
        wanted = given[batch] if isinstance(given, list) else given
        maps, logits = cams.all_class_maps(network, layer, pictures, wanted, methods, channels=channels)
        asked = targets(network, logits, wanted)
        numbers += asked
        untaught, _ = cams.class_maps(untrained, layer, pictures, asked)
        coarse = pictures.new_zeros(len(pictures), 3, *untaught.shape[1:])
        maps |= {
            "random map": faithfulness.random_maps(coarse, seed + start),
            "random pixels": faithfulness.random_maps(pictures, seed + start),
            "middle": faithfulness.centre_maps(pictures),
            "untrained network": untaught,
        }
        for name in names:
            found[name].append(maps[name].float().cpu())
    together = {name: torch.cat(each) for name, each in found.items()}
    deletion = {}
    if steps:
        options = {"steps": steps, "mode": "deletion", "batch_size": 4 * batch_size}
        for name, maps in together.items():
            curves = faithfulness.curves(network, boxed.photos.pictures, maps, numbers, **options)
            deletion[name] = curves.areas
    hits = {name: boxes.hits(maps, boxed, tolerance) for name, maps in together.items()}
    return Verdict(hits, deletion, boxes.chance(boxed, tolerance), numbers)
