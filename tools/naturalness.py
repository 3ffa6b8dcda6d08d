"""Are made pictures like photographs, and what do they cost in activation? A table over networks and layers.

    python -m tools.naturalness --photos FOLDER        # 16 channels of each layer: half an hour on two cores
    python -m tools.naturalness --photos FOLDER --channels 4

For each layer: saturation, share burnt out and contrast (`images.naturalness`) of pictures of channels that are drawn
at random by a seed; the share of them that excite their channel more than any of the photographs; their activation, as
a share of what the published multi-scale procedure reaches at the same size with three times as many steps in plain
pixels; the share of the picture where the channel fires at more than a quarter of its height (the 95th percentile), and
how evenly it fires (coefficient of variation over the picture).
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from nbhelpers import images, models
from nbhelpers.ascent import last_size
from nbhelpers.models import Network
from nbhelpers.techniques.activation_maximization import ActivationMaximization, multi_scale

LAYERS = {
    "minivgg_robust": ["block2.conv2", "block3.conv1", "block3.conv2", "block4.conv1"],
    "minivgg": ["block2.conv2", "block3.conv1", "block3.conv2", "block4.conv1"],
    "squeezenet1_0": ["features.3.expand3x3", "features.7.expand3x3", "features.9.expand3x3", "features.12.expand3x3"],
    "mobilenet_v2": ["features.2.conv", "features.4.conv", "features.10.conv", "features.14.conv"],
}
BEFORE = {"canvas": "fourier", "learning_rate": 0.01, "settle": False, "steps": 24, "blur": 5}
SHAKEN = {"jitter": 8, "scale": 0.2, "rotate": 10}


def activations(network: Network, layer: str, pictures: Tensor) -> Tensor:
    """Maps of a layer over pictures, `(B, channels, height, width)`."""
    look = models.capture(network, layer, stop=True)
    return torch.cat([look(batch.to(network.mean.device))[layer].cpu() for batch in pictures.split(16)])


def row(recipe: ActivationMaximization, network: Network, photos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The recipe's pictures, their channels' mean activations, and the strongest of the photographs'."""
    pictures = recipe.run(network).picture.cpu()
    resized = images.resize(photos, pictures.shape[-1])
    strongest = activations(network, recipe.layer, resized).mean((2, 3))[:, recipe.channels].max(0).values
    own = activations(network, recipe.layer, pictures)[range(len(pictures)), recipe.channels]
    return pictures, own, strongest


def main() -> None:
    """Draw, measure, print a table in Markdown, and keep a sheet of each layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--channels", type=int, default=16, help="how many of each layer")
    parser.add_argument("--sheets", type=Path, help="folder for the pictures themselves")
    chosen = parser.parse_args()
    photos = images.read_folder(chosen.photos, 160).pictures
    found = images.naturalness(photos)
    for name in ("saturation", "edge", "contrast"):
        spread = getattr(found, name).quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
        print(f"{name} of {len(photos)} photographs: " + ", ".join(f"{value:.2f}" for value in spread))
    print("\n| | saturation | burnt out | contrast | above all photographs | of multi-scale | filled | variation |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name, layers in LAYERS.items():
        network = models.load(name)
        for layer in layers:
            count = models.check_layer(network, layer).channels
            channels = torch.randperm(count, generator=torch.Generator().manual_seed(7))[: chosen.channels].tolist()
            now = ActivationMaximization(network=name, layer=layer, channels=channels)
            side = last_size(now.size, now.rounds, now.upscale_factor)
            reach = multi_scale(network=name, layer=layer, channels=channels, size=56, rounds=6)
            assert abs(last_size(56, 6, reach.upscale_factor) - side) <= 2
            most = row(reach, network, photos)[1].mean((1, 2))
            for when, recipe in (("before", now.changed(**BEFORE, **SHAKEN)), ("now", now)):
                pictures, maps, strongest = row(recipe, network, photos)
                natural, means, height = images.naturalness(pictures), maps.mean((1, 2)), maps.clamp(min=0).flatten(1)
                fires = most > 0
                cells = [
                    *(f"{value.mean():.2f}" for value in (natural.saturation, natural.edge, natural.contrast)),
                    f"{(means > strongest).double().mean():.0%}",
                    f"{(means / most)[fires].median():.2f}",
                    f"{(height > height.quantile(0.95, dim=1, keepdim=True) / 4).double().mean():.0%}",
                    f"{(height.std(1) / height.mean(1))[fires].median():.2f}",
                ]
                print(f"| {name} {layer}, {when} | " + " | ".join(cells) + " |", flush=True)
                if chosen.sheets:
                    chosen.sheets.mkdir(parents=True, exist_ok=True)
                    images.tile(pictures, columns=8).save(chosen.sheets / f"{name}-{layer}-{when}.png")


if __name__ == "__main__":
    main()
