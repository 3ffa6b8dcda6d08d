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
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nbhelpers import images, models
from nbhelpers.attribution import boxes, cams, faithfulness
from nbhelpers.attribution.boxes import Boxed
from nbhelpers.attribution.gradients import Classes, of_part, targets

SMALL = 1 / 4  # share of the picture; Zhang et al. 2016 call such objects difficult
CONTROLS = ("random map", "random pixels", "middle", "untrained network")


@dataclass
class Verdict:
    """What the maps of one layer did on photos with boxes.

    Attributes:
        hits: by method and control, whether each photo's map points at its object, `(N,)` bool.
        deletion: by method and control, area under each photo's deletion curve, `(N,)`; empty if not measured.
        chance: how often a blind point would hit, `(N,)`.
        small: where the objects cover less than a quarter of the picture, which is when pointing is hard, `(N,)` bool.
        classes: the class of each map.
    """

    hits: dict[str, Bool[Tensor, " photos"]]
    deletion: dict[str, Float[Tensor, " photos"]]
    chance: Float[Tensor, " photos"]
    small: Bool[Tensor, " photos"]
    classes: list[int]

    def shares(self) -> dict[str, float]:
        """Share of photos whose map points at the object, by method and control."""
        return {name: found.float().mean().item() for name, found in self.hits.items()}

    def small_shares(self) -> dict[str, float]:
        """The same among the photos with a small object; not a number if there is none."""
        return {name: found[self.small].float().mean().item() for name, found in self.hits.items()}

    def areas(self) -> dict[str, float]:
        """Mean area under the deletion curve, by method and control."""
        return {name: found.mean().item() for name, found in self.deletion.items()}

    def table(self) -> str:
        """The numbers as text: methods first, then controls and chance."""
        small, areas = self.small_shares(), self.areas()
        few = int(self.small.sum())
        lines = [
            f"{'map':<20}{'hits':>16}{'small objects':>16}{'deletion area':>16}",
            f"{'':<20}{'more: better':>16}{'more: better':>16}{'less: better':>16}",
        ]
        for name, share in self.shares().items():
            if name == CONTROLS[0]:
                lines.append("-" * 68)
            cells = [f"{self.hits[name].sum()}/{len(self.chance)} {share:4.0%}"]
            cells += [f"{self.hits[name][self.small].sum()}/{few} {small[name]:4.0%}" if few else "none"]
            cells += [f"{areas[name]:.3f}" if name in areas else "not measured"]
            lines.append(f"{name:<20}" + "".join(f"{cell:>16}" for cell in cells))
        blind = [f"{self.chance.mean():4.0%}", f"{self.chance[self.small].mean():4.0%}" if few else "none"]
        return "\n".join([*lines, f"{'chance':<20}" + "".join(f"{cell:>16}" for cell in blind)])


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
        boxed: photos with boxes, of any shapes.
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
    hits, deletion = ({name: [] for name in names} for _ in range(2))
    places, numbers = [], []
    for some, part in boxed.alike(batch_size):
        pictures = part.photos.pictures
        wanted = of_part(classes, some, len(boxed))
        maps, logits = cams.all_class_maps(network, layer, pictures, wanted, methods, channels=channels)
        asked = targets(network, logits, wanted)
        untaught, _ = cams.class_maps(untrained, layer, pictures, asked)
        coarse, seeds = pictures.new_zeros(len(pictures), 3, *untaught.shape[1:]), [seed + each for each in some]
        maps |= {
            "random map": faithfulness.random_maps(coarse, seeds),
            "random pixels": faithfulness.random_maps(pictures, seeds),
            "middle": faithfulness.centre_maps(pictures),
            "untrained network": untaught,
        }
        places.append(some)
        numbers.append(torch.tensor(asked))
        for name in names:
            found = maps[name].float().cpu()
            hits[name].append(boxes.hits(found, part, tolerance))
            if steps:
                options = {"steps": steps, "mode": "deletion", "batch_size": 4 * batch_size}
                deletion[name].append(faithfulness.curves(network, pictures, found, asked, **options).areas)

    def ordered(values: dict[str, list[Tensor]]) -> dict[str, Tensor]:
        return {name: images.in_order(places, each) for name, each in values.items() if each}

    small = boxes.chance(boxed, 0) < SMALL
    classes = images.in_order(places, numbers).tolist()
    return Verdict(ordered(hits), ordered(deletion), boxes.chance(boxed, tolerance), small, classes)
