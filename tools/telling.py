"""Do made pictures tell what photos do? The two-choice test over networks, layers and kinds of references, as a table.

    python -m tools.telling --photos DATA              # 60 channels of each layer: half an hour on two cores
    python -m tools.telling --photos DATA --channels 8

For each layer, of channels that are drawn at random by a seed: how often the other bundled network is right of 20
questions a channel, shown one made picture, four that differ, these and one of what drives the channel down (being
like that one speaks against a photo), the strongest photo or the nine strongest, or any photo; and how far the four are
ahead of the nine photos, channel by channel. Intervals are of 95 %, over channels.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from nbhelpers import edge, models
from nbhelpers.directions import photographs as source
from nbhelpers.microscope import made, photographs, two_choice
from nbhelpers.models import Layer, Network
from nbhelpers.training.data import Pictures

NETWORKS = ("minivgg_robust", "minivgg")
LAYERS = ("block4.conv1", "block2.conv2")
WEAK: dict[two_choice.Weak, str] = {"lower half": "weak", "middling": "middling"}
FEW, AGAINST, PHOTOS = "4 made", "4 made, 1 against", "9 photos"


def drawn(network: Network, layer: Layer, channels: list[int], kind: made.Kind, steps: int) -> list[Tensor]:
    """Pictures of channels as the microscope makes them, of each `(count, 3, side, side)`."""
    jobs = made.jobs(network, [layer], [kind], classes=False, steps=steps, only=channels)
    bar = edge.Bar(jobs, desc=f"{layer.name}, {kind}", unit="job", leave=False, disable=None)
    pictures = torch.cat([job.recipe.run(network).picture.cpu() for job in bar])
    return list(pictures.split(len(pictures) // len(channels)))


def verdicts(
    network: Network, layer: Layer, photos: Pictures, count: int, steps: int
) -> dict[str, dict[str, two_choice.Verdict]]:
    """Of each kind of weak photo and each kind of references: how often the judge is right."""
    seen = photographs.look(network, [layer], photos)[layer.name]
    order = torch.randperm(layer.channels, generator=torch.Generator().manual_seed(0)).tolist()
    alive = [channel for channel in order if seen.peaks[:, channel].max() > 0][:count]
    judge = models.load(two_choice.default_judge(network))
    level, side = two_choice.level(judge, network, layer.name), photos.pixels.shape[1]
    parts = [two_choice.features(judge, batch, [level], side)[level] for batch, _ in photos.batches(64)]
    known = torch.cat(parts)
    one, few, against = (
        [two_choice.features(judge, some, [level], side)[level] for some in drawn(network, layer, alive, kind, steps)]
        for kind in ("made", "diverse", "negative")
    )
    # what is like a picture that is mirrored at the mean photo is unlike the picture, which counts as much as the four
    mirrored = [(2 * known.mean(0) - picture).expand(len(some), -1) for picture, some in zip(against, few, strict=True)]
    both = [torch.cat(pair) for pair in zip(few, mirrored, strict=True)]
    shown = {"1 made": one, FEW: few, AGAINST: both}
    ranked = seen.means[:, alive].argsort(dim=0, descending=True, stable=True).T
    shown |= {"1 photo": list(known[ranked[:, :1]]), PHOTOS: list(known[ranked[:, :9]])}
    found = {}
    for weak, words in WEAK.items():
        asked = [two_choice.questions(seen.means[:, channel], weak=weak) for channel in alive]
        found[words] = {name: two_choice.test(some, known, asked) for name, some in shown.items()}
        found[words]["any photo"] = two_choice.by_chance(known, asked)
        ahead = found[words][FEW].shares - found[words][PHOTOS].shares
        found[words][f"{FEW}, less {PHOTOS}"] = two_choice.verdict(ahead)
    return found


def main() -> None:
    """Draw, ask, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="data folder, or folder of photographs")
    parser.add_argument("--channels", type=int, default=60, help="how many of each layer")
    parser.add_argument("--steps", type=int, default=24, help="of Adam for each picture")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--layers", nargs="+", default=LAYERS)
    chosen = parser.parse_args()
    heading = None
    for name in chosen.networks:
        network = models.load(name)
        photos, _ = source.read(chosen.photos, max(models.sides(network.size)), 5000, 1, 0)
        for layer in made.layers(network, chosen.layers):
            for weak, found in verdicts(network, layer, photos, chosen.channels, chosen.steps).items():
                if heading is None:
                    heading = list(found)
                    print("| network, layer, against | " + " | ".join(heading) + " |")
                    print("|---" * (1 + len(heading)) + "|")
                cells = [f"{100 * v.share:.1f} [{100 * v.low:.1f}, {100 * v.high:.1f}]" for v in found.values()]
                print(f"| {name} {layer.name}, {weak} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
