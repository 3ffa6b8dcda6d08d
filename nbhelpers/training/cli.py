"""`nbhelpers train DATA --network minivgg_robust`: train a bundled network from a data folder."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch

from nbhelpers.models.minivgg import MiniVGG
from nbhelpers.training import card, data, folding
from nbhelpers.training.budget import epochs_within, planned_epochs
from nbhelpers.training.data import Pictures
from nbhelpers.training.settings import Settings
from nbhelpers.training.train import Trainer

RECIPES = {
    # too large to be bundled; the bundled ones learn from it
    "teacher": Settings(
        widths=((96, 96), (192, 192, 192), (384, 384, 384), (448, 448)),
        epochs=80, batch=512, peak=0.4, cutmix=0.5, zoom=0.5, settle=0.15,
    ),
    "minivgg": Settings(
        epochs=150, batch=512, peak=0.4, smoothing=0.0, teaching=0.8, cutmix=0.5, zoom=0.5, settle=0.15
    ),
    "minivgg_robust": Settings(
        epochs=150, batch=512, peak=0.4, smoothing=0.0, teaching=0.5, cutmix=0.5, zoom=0.75, settle=0.15,
        radius=0.6, steps=2,
    ),
}  # fmt: skip


class _Values(click.ParamType):
    """Several numbers after one name: `48,64`; in blocks of several, `64 128,128 256,256 512`."""

    name = "values"

    def __init__(self, like: tuple[Any, ...]) -> None:
        self.blocks = isinstance(like[0], tuple)
        self.number = type(like[0][0]) if self.blocks else type(like[0])

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[Any, ...]:
        try:
            blocks = [tuple(self.number(each) for each in block.split(",")) for block in value.split()]
        except ValueError:
            blocks = []
        if not blocks or (len(blocks) > 1 and not self.blocks):
            shown = "'64 128,128 512', one block of layers each" if self.blocks else "numbers with commas, 48,64"
            self.fail(f"{value!r} is not {shown}", parameter, context)
        return tuple(blocks) if self.blocks else blocks[0]


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Adds an option for each of `Settings`; one that is not given keeps the value of the network's recipe."""
    for name, value in reversed(asdict(Settings()).items()):
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            added = click.option(f"{option}/--no-{option[2:]}", default=None)
        else:
            added = click.option(option, type=_Values(value) if isinstance(value, tuple) else type(value))
        command = added(command)
    return command


@click.command(
    help="Train a bundled network. DATA is a Tiny-ImageNet folder, or a folder of packed shards.",
    epilog="`nbhelpers.training.settings.Settings` says what the options without a text decide, and their defaults.",
)
@click.argument("source", metavar="DATA", type=click.Path(path_type=Path))
@click.option("--network", type=click.Choice(list(RECIPES)), default="minivgg_robust", help="Which recipe.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the run, continued if it exists.  [runs/NETWORK]"
)
@click.option("--start", type=click.Path(path_type=Path), help="Shipped weights (.safetensors) to go on from.")
@click.option(
    "--mix", type=float, default=1.0, help="Share of the trained weights in what is shipped, the rest --start's."
)
@click.option(
    "--teachers",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Trained weights to learn from as well; may be repeated.",
)
@click.option("--attacked", type=int, default=5000, help="Validation pictures to attack for the model card.")
@click.option(
    "--autoattacked",
    type=click.IntRange(0),
    default=0,
    help="Validation pictures to put through AutoAttack for the model card (needs torchattacks).",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    help="Time for all of it, reading and measuring included: as many epochs as fit, whatever --epochs says.",
)
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu")
@_with_settings
def train(
    source: Path,
    network: str,
    out: Path | None,
    start: Path | None,
    mix: float,
    teachers: tuple[Path, ...],
    attacked: int,
    autoattacked: int,
    minutes: float | None,
    device: str,
    **given: Any,
) -> None:
    begun = time.monotonic()
    if not 0 <= mix <= 1:
        raise click.UsageError(f"--mix is {mix}, but it is a share: give a number from 0 to 1")
    if mix < 1 and not start:
        raise click.UsageError("--mix needs the weights that the rest of the mean comes from: give --start, too")
    if attacked < 1:
        raise click.UsageError(f"--attacked is {attacked}: the model card needs at least one attacked picture")
    settings = replace(RECIPES[network], **{name: value for name, value in given.items() if value is not None})
    if not teachers and given["teaching"] is None:
        settings = replace(settings, teaching=0.0)
    folder = out or Path("runs") / network
    if settings.bfloat16 and device == "cpu" and _lacks_bfloat16():
        click.echo("This processor only imitates bfloat16: --no-bfloat16 is about three times as fast here.")
    if torch.device(device).type == "cuda":
        torch.backends.cudnn.benchmark = True
    try:
        names = data.classes(source)
        pictures = {split: data.load(source, split) for split in ("train", "val")}
        folder.mkdir(parents=True, exist_ok=True)
        for split, read in pictures.items():
            click.echo(f"{split}: {len(read)} pictures, {len(read.skipped)} unreadable")
            if read.skipped:
                (folder / f"unreadable-{split}.txt").write_text("\n".join(read.skipped) + "\n")
        weights = folder / f"{network}.safetensors"
        known = folding.deepen(folding.read(start), settings.widths) if start else None
        made_of = (pictures["train"], pictures["val"])
        wisdom = {"start": known, "device": device, "teachers": [folding.read(path) for path in teachers]}
        deadline = math.inf
        if minutes:
            measuring = card.seconds(settings, pictures["val"], attacked, autoattacked, device)
            deadline = begun + 60 * minutes - measuring
            if deadline < time.monotonic():
                raise ValueError(
                    f"Measuring the network for its card takes about {measuring / 60:.1f} minutes, and {minutes:g} are "
                    f"all there is: attack fewer pictures (--attacked {attacked}) or give more --minutes."
                )
            settings = replace(settings, epochs=_epochs(folder, settings, deadline, made_of, len(names), wisdom))
            click.echo(f"epochs that fit into {minutes:g} minutes: {settings.epochs}")
        trainer = Trainer(settings, *made_of, folder, len(names), **wisdom)

        def keep(trained: MiniVGG) -> None:
            folding.write(folding.mix(known, trained, mix) if mix < 1 else trained, weights)

        keep(trainer.run(deadline=deadline, keep=keep))
        origin = None
        if start:
            mixed = f", of which {1 - mix:.0%} were mixed into the result" if mix < 1 else ""
            origin = f"Started from the trained weights {start.name}{mixed}"
        taught = [path.name for path in teachers]
        document = card.describe(
            weights, names, pictures["val"], settings, trainer.records(), origin,
            attacked, taught, autoattacked, device, trained_on=device,
        )  # fmt: skip
        click.echo(f"{weights}: {document['measured']['clean_top1']} % right; see {weights.with_suffix('.md').name}")
    except (FileNotFoundError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _epochs(
    folder: Path,
    settings: Settings,
    deadline: float,
    pictures: tuple[Pictures, Pictures],
    classes: int,
    wisdom: dict[str, Any],
) -> int:
    """As many as fit before the deadline; a run that is gone on with keeps the number it was planned with."""
    if planned := planned_epochs(folder):
        return planned
    begun = time.monotonic()
    fit = epochs_within(deadline - begun, settings, *pictures, classes, **wisdom)
    tried = time.monotonic() - begun
    return max(1, int(fit * max(0.0, 1 - tried / (deadline - begun))))


def _lacks_bfloat16() -> bool:
    # older versions of torch can't say; other kinds of processor don't name this instruction
    return getattr(torch.cpu, "get_capabilities", dict)().get("avx512_bf16") is False
