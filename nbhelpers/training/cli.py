"""`python -m nbhelpers.training DATA --network minivgg_robust`: train a bundled network from a data folder."""

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from nbhelpers.training import card, data, folding
from nbhelpers.training.train import Settings, Trainer

RECIPES = {
    "minivgg": Settings(epochs=40, peak=0.2),
    "minivgg_robust": Settings(epochs=30, peak=0.2, radius=0.7, smoothing=0.0),
}


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, read the data, train, and say where the result is."""
    parser = argparse.ArgumentParser(prog="python -m nbhelpers.training", description=__doc__)
    parser.add_argument("data", type=Path, help="Tiny-ImageNet folder, or folder of packed shards")
    parser.add_argument("--network", choices=RECIPES, default="minivgg_robust", help="which recipe")
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/NETWORK); continued if it exists")
    parser.add_argument("--start", type=Path, help="shipped weights (.safetensors) to go on from")
    parser.add_argument(
        "--mix", type=float, default=1.0, help="share of the trained weights in what is shipped, the rest --start's"
    )
    parser.add_argument("--teachers", type=Path, nargs="+", default=[], help="trained weights to learn from as well")
    parser.add_argument("--attacked", type=int, default=5000, help="validation pictures to attack for the model card")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, value in asdict(Settings()).items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=None)
        elif name == "widths":
            parser.add_argument(option, type=_block, nargs="+", help="one block each, as in 64 128,128 256,256 512")
        elif isinstance(value, tuple):
            parser.add_argument(option, type=type(value[0]), nargs="+", default=None)
        else:
            parser.add_argument(option, type=type(value), default=None)
    chosen = vars(parser.parse_args(arguments))
    if not 0 <= chosen["mix"] <= 1:
        parser.error(f"--mix is {chosen['mix']}, but it is a share: give a number from 0 to 1")
    if chosen["mix"] < 1 and not chosen["start"]:
        parser.error("--mix needs the weights that the rest of the mean comes from: give --start, too")
    if chosen["attacked"] < 1:
        parser.error(f"--attacked is {chosen['attacked']}: the model card needs at least one attacked picture")
    changes = {name: chosen[name] for name in asdict(Settings()) if chosen.get(name) is not None}
    changes = {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
    settings = replace(RECIPES[chosen["network"]], **changes)
    folder = chosen["out"] or Path("runs") / chosen["network"]
    if settings.bfloat16 and chosen["device"] == "cpu" and _lacks_bfloat16():
        print("This processor only imitates bfloat16: --no-bfloat16 is about three times as fast here.")
    try:
        names = data.classes(chosen["data"])
        train, validation = data.load(chosen["data"], "train"), data.load(chosen["data"], "val")
        folder.mkdir(parents=True, exist_ok=True)
        for split, pictures in (("train", train), ("val", validation)):
            print(f"{split}: {len(pictures)} pictures, {len(pictures.skipped)} unreadable")
            if pictures.skipped:
                (folder / f"unreadable-{split}.txt").write_text("\n".join(pictures.skipped) + "\n")
        start = None
        if chosen["start"]:
            start = folding.deepen(folding.read(chosen["start"]), settings.widths)
        teachers = [folding.read(path) for path in chosen["teachers"]]
        trainer = Trainer(settings, train, validation, folder, len(names), start, chosen["device"], teachers)
        network = trainer.run()
        if chosen["mix"] < 1:
            network = folding.mix(start, network, chosen["mix"])
        weights = card.export(network, folder, chosen["network"])
        origin = None
        if start:
            origin = f"Started from the trained weights {chosen['start'].name}"
            if chosen["mix"] < 1:
                origin += f", of which {1 - chosen['mix']:.0%} were mixed into the result"
        taught = [path.name for path in chosen["teachers"]]
        document = card.describe(
            weights, names, validation, settings, trainer.records(), origin, chosen["attacked"], taught
        )
        print(f"{weights}: {document['measured']['clean_top1']} % right; see {weights.with_suffix('.md').name}")
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"{error}")


def _lacks_bfloat16() -> bool:
    # older versions of torch can't say; other kinds of processor don't name this instruction
    return getattr(torch.cpu, "get_capabilities", dict)().get("avx512_bf16") is False


def _block(text: str) -> tuple[int, ...]:
    return tuple(int(width) for width in text.split(","))


if __name__ == "__main__":
    main()
