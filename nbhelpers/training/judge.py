"""Are class pictures pictures of something? Other networks say what they see in them.

A picture that raises a logit can be noise that fools one network only. If a second network, trained otherwise, names
the same class, the picture shows that class. Run as `python -m nbhelpers.training.judge`.
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ascent import ascend
from ..canvas import Fourier
from ..images import resize, tile
from ..models import Network, load
from ..objectives import logit
from ..transforms import Transforms
from . import card

# slow steps and strong shaking: faster ones saturate the colours, and only the network itself knows the picture
SHAKE = Transforms(jitter=8, scale=0.2, rotate=15)
RATE = 0.005


def class_pictures(network: Network, steps: int = 100, side: int = 64, batch: int = 10) -> Tensor:
    """One picture per class, `(classes, 3, side, side)` in [0, 1], by raising its logit on a Fourier canvas."""
    pictures = []
    for classes in torch.arange(len(network.classes)).split(batch):
        seeds = classes.tolist()
        canvas = Fourier.random(side, side, [torch.Generator().manual_seed(seed) for seed in seeds])
        for step in ascend(network, logit(seeds), canvas, steps=steps, learning_rate=RATE, transforms=SHAKE):
            last = step
        pictures.append(last.picture)
    return torch.cat(pictures)


@torch.no_grad()
def judge(pictures: Tensor, names: list[str], judging: Network) -> tuple[float, float, int]:
    """Share of pictures named right by another network, and within its first five, of the classes both know.

    Args:
        pictures: `(N, 3, H, W)` in [0, 1], one per name.
        names: what each picture should show.
        judging: a network with class names; pictures are scaled to its size.

    Raises:
        ValueError: no name is known to the judging network.
    """
    known = [index for index, name in enumerate(names) if name in judging.classes]
    if not known:
        raise ValueError(f"{judging.name} knows none of these classes: {', '.join(names[:5])}, ...")
    scaled = F.interpolate(pictures[known], size=(judging.size,) * 2, mode="bicubic", antialias=True).clamp(0, 1)
    best = torch.cat([judging(part).topk(5).indices for part in scaled.split(10)])
    hits = best == torch.tensor([judging.classes.index(names[index]) for index in known]).view(-1, 1)
    return hits[:, 0].float().mean().item(), hits.any(1).float().mean().item(), len(known)


def main() -> None:
    """Make the class pictures, have them judged, write the contact sheet."""
    parser = argparse.ArgumentParser(prog="python -m nbhelpers.training.judge", description=__doc__)
    parser.add_argument("--network", default="minivgg_robust")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--sheet", type=Path, default=Path("results/gallery/minivgg_robust_classes.png"))
    parser.add_argument("--card", type=Path, help="NAME.json whose model card gets the verdict")
    chosen = parser.parse_args()
    network = load(chosen.network)
    pictures = class_pictures(network, chosen.steps)
    judged = {"how": f"{chosen.steps} steps on a Fourier canvas of 64 pixels, {SHAKE}"}
    for name, key in (("minivgg", "minivgg"), ("mobilenet_v2", "mobilenet")):
        first, five, known = judge(pictures, network.classes, load(name))
        judged |= {f"{key}_top1": round(100 * first, 1), f"{key}_top5": round(100 * five, 1), f"{key}_classes": known}
        print(f"{name}: {100 * first:.1f} % first, {100 * five:.1f} % in the first five, of {known} classes")
    if chosen.card:
        document = json.loads(chosen.card.read_text(encoding="utf-8"))
        card.write(document | {"judged": judged}, chosen.card)
    chosen.sheet.parent.mkdir(parents=True, exist_ok=True)
    sheet = tile(resize(pictures, 112), columns=10, labels=network.classes)
    sheet.save(chosen.sheet)


if __name__ == "__main__":
    main()
