"""From a trained network to what the package ships: weights, their description, and a model card with its numbers."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from nbhelpers.models.minivgg import MiniVGG
from nbhelpers.training import evaluate, folding
from nbhelpers.training.attack import attack
from nbhelpers.training.data import Pictures
from nbhelpers.training.settings import Settings
from nbhelpers.training.train import drawing_on, normalise

LICENCE = (
    "The weights come under the package's MIT licence. Trained on 100 of the 200 classes of Tiny-ImageNet (Stanford "
    "CS231n; 64-pixel pictures from ImageNet, offered for non-commercial research and teaching). The pictures are not "
    "part of the package. Whoever uses the weights commercially should consider ImageNet's terms."
)
AUTOATTACK_RADIUS = 0.5
PROCESSOR = "the processor"
# 100 of APGD and 900 of its targeted kind, 900 of FAB at three times the cost, 5,000 forward passes of Square
AUTOATTACK_STEPS = 5500
POOLING = {"max": "max pooling", "stride": "a stride of 2", "blur": "blurred max pooling"}


def describe(
    weights: Path,
    classes: list[dict[str, str]],
    validation: Pictures,
    settings: Settings,
    log: list[dict],
    start: str | None = None,
    attacked: int = 5000,
    teachers: Sequence[str] = (),
    autoattacked: int = 0,
    device: str = "cpu",
    trained_on: str | None = None,
) -> dict:
    """Measure shipped weights and write `NAME.json` and `NAME.md` beside them.

    Args:
        weights: the exported file; what is measured is what it holds.
        classes: `{"wnid": ..., "name": ...}` per label.
        validation: the pictures to measure on.
        settings: what the run computed.
        log: the run's lines of `log.jsonl`.
        start: where the run took its first weights from, in words; None for random ones.
        attacked: at most so many pictures are attacked, spread evenly.
        teachers: names of the networks whose verdicts were part of the targets.
        autoattacked: at most so many pictures go through AutoAttack (radius 0.5), spread evenly; 0 for none.
        device: where to attack; times are always the processor's.
        trained_on: the device of the run, where it is known; the weights may be measured on another.

    Returns:
        What the JSON file holds.
    """
    network = folding.read(weights).to(device)
    validation = validation.to(device)
    top1, top5, clean = evaluate.accuracy(network, validation)
    sample = validation.subset(attacked)
    under = {radius: evaluate.accuracy_under_attack(network, sample, radius) for radius in evaluate.RADII}
    strongest = {}
    if autoattacked:
        few = validation.subset(autoattacked)
        share = evaluate.accuracy_under_autoattack(network, few, AUTOATTACK_RADIUS)
        strongest = {"autoattacked_pictures": len(few), "autoattack_top1": _percent(share)}
    architecture = folding.config(network)
    architecture.pop("classes")
    document = {
        "architecture": architecture,
        "size": validation.pixels.shape[1],
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "bytes": weights.stat().st_size,
        "training": {
            **asdict(settings),
            "start": start,
            "teachers": ", ".join(teachers) or None,
            "epochs_done": log[-1]["epoch"] if log else None,
            "minutes": round(sum(line["seconds"] for line in log) / 60, 1),
            **({"device": _called(trained_on)} if trained_on else {}),
        },
        "measured": {
            "pictures": len(validation),
            "clean_top1": _percent(top1),
            "sample_top1": _percent(evaluate.accuracy(network, validation.subset(500))[0]),
            "clean_top5": _percent(top5),
            "attacked_pictures": len(sample),
            "attacked_on": _called(device),
            "l2_attack_top1": {str(radius): _percent(share) for radius, (share, _) in under.items()},
            **strongest,
            "dead_channels": {
                name: _percent(share) for name, share in evaluate.dead_channels(network, validation).items()
            },
            "load_ms": round(evaluate.load_milliseconds(weights), 1),
            "forward_ms": round(evaluate.forward_milliseconds(folding.read(weights)), 1),
            "threads": torch.get_num_threads(),
            "per_class": {
                entry["name"]: [_percent(clean[label]), _percent(under[0.5][1][label])]
                for label, entry in enumerate(classes)
            },
        },
        "wnids": [entry["wnid"] for entry in classes],
        "classes": [entry["name"] for entry in classes],
    }
    write(document, weights)
    return document


def seconds(settings: Settings, validation: Pictures, attacked: int, autoattacked: int, device: str) -> float:
    """About how long `describe` takes for a network of these settings: one gradient step of each size is timed.

    Args:
        settings: they say how large the network is.
        validation, attacked, autoattacked, device: as for `describe`.
    """
    network = MiniVGG(settings.widths, settings.stem, pooling=settings.pooling).to(device).requires_grad_(False).eval()

    def step(count: int) -> float:
        pictures, _ = validation.subset(count).to(device).batch(slice(None))
        generator = drawing_on(torch.device(device)).manual_seed(0)
        labels = torch.zeros(len(pictures), dtype=torch.long, device=device)
        for steps in (1, 4):  # the first call chooses kernels
            begun = time.monotonic()
            attack(lambda moved: network(normalise(moved)), pictures, labels, 0.5, steps, generator).sum().item()
        return (time.monotonic() - begun) / 4

    batch = evaluate.at_once(torch.device(device))
    whole = step(batch) * evaluate.STEPS * len(evaluate.RADII) * min(attacked, len(validation)) / batch
    return whole + (step(autoattacked) * AUTOATTACK_STEPS if autoattacked else 0)


def write(document: dict, weights: Path) -> None:
    """Write the JSON and the model card that says the same to readers."""
    text = json.dumps(document, indent=1, ensure_ascii=False)
    weights.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    weights.with_suffix(".md").write_text(markdown(json.loads(text), weights.stem), encoding="utf-8")


def markdown(document: dict, name: str) -> str:
    """The model card of a description."""
    measured, training = document["measured"], document["training"]
    robust = training["radius"] > 0
    judged = document.get("judged")
    lines = [
        f"# {name}",
        "",
        f"{'Adversarially' if robust else 'Conventionally'} trained MiniVGG for {document['size']}-pixel pictures of "
        f"{len(document['classes'])} classes; any size from 64 pixels up works. "
        f"{document['parameters'] / 1e6:.2f} million parameters in half precision, {document['bytes'] / 1e6:.1f} MB. "
        "This card is generated from measurements (`nbhelpers/training/card.py`).",
        "",
        "## Architecture",
        "",
        f"`stem.conv` 5x5 stride 2, 3 -> {document['architecture']['stem']}; then 3x3 convolutions with "
        + "; ".join(
            f"`block{number}`: {', '.join(map(str, block))}"
            for number, block in enumerate(document["architecture"]["widths"], start=1)
        )
        + f" channels; a ReLU after each, {POOLING[document['architecture'].get('pooling', 'max')]} between blocks, "
        "global average pooling, linear `head`. "
        "Batch normalisation, used in training, is folded in. Input: RGB in [0, 1], torchvision's ImageNet mean and "
        "deviation (applied by `nbhelpers.models.load`).",
        "",
        "## Training",
        "",
        _training(training),
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in training.items()),
        "",
        LICENCE,
        "",
        f"## Measured on {measured['pictures']} validation pictures, float32",
        "",
        "| measured | % |",
        "|---|---|",
        f"| right (top 1) | {measured['clean_top1']} |",
        f"| among the first five | {measured['clean_top5']} |",
        *(
            f"| right under a {evaluate.STEPS}-step L2 attack of radius {radius} ({measured['attacked_pictures']} "
            f"pictures) | {share} |"
            for radius, share in measured["l2_attack_top1"].items()
        ),
        *(
            [
                f"| right under AutoAttack, L2 {AUTOATTACK_RADIUS} ({measured['autoattacked_pictures']} pictures) | "
                f"{measured['autoattack_top1']} |"
            ]
            if "autoattack_top1" in measured
            else []
        ),
        "",
        *(
            [f"The attacks were made on {measured['attacked_on']}, whose convolutions round to 11 bits (TF32).", ""]
            if measured.get("attacked_on", PROCESSOR) != PROCESSOR
            else []
        ),
        f"Load {measured['load_ms']} ms; forward pass of 8 pictures of 64 pixels {measured['forward_ms']} ms "
        f"({measured['threads']} threads{', ' + measured['conditions'] if 'conditions' in measured else ''}).",
        "",
        "Channels that no validation picture makes positive: "
        + ", ".join(f"`{layer}` {share} %" for layer, share in measured["dead_channels"].items())
        + ".",
        "",
    ]
    if judged:
        lines += [
            "## Its class pictures, judged by other networks",
            "",
            f"One picture per class, made by maximising the class's logit ({judged['how']}). The standard `minivgg` "
            f"names {judged['minivgg_top1']} % of the 100 classes right. ImageNet-trained `mobilenet_v2` "
            f"names {judged['mobilenet_top1']} % right among its 1000, "
            f"{judged['mobilenet_top5']} % within its first five ({judged['mobilenet_classes']} classes that both "
            "know by the same name)." + _photographs(judged),
            "",
        ]
    lines += [
        "## Good for, not good for",
        "",
        "Good for: looking inside, teaching, fast experiments on a laptop"
        + (
            "; its gradients and its maximised pictures show shapes that people recognise."
            if robust
            else "; the usual kind of network to compare the robust one with: more often right, easily fooled, "
            "its maximised pictures mostly texture and noise."
        ),
        "Not good for: deciding anything about the world. It knows 100 classes, sees 64 pixels, shares the biases "
        "of ImageNet, and gives a confident answer for pictures of anything else.",
        "",
        "## Per class",
        "",
        "| class | right % | under attack, radius 0.5, % |",
        "|---|---|---|",
        *(
            "| " + " | ".join([name, *("-" if share is None else str(share) for share in shares)]) + " |"
            for name, shares in measured["per_class"].items()
        ),
        "",
    ]
    return "\n".join(lines)


def _training(training: dict) -> str:
    begin = training["start"] or "Random weights"
    where = f" on {training['device']}" if "device" in training else ""
    epochs = "epoch" if training["epochs_done"] == 1 else "epochs"
    text = (
        f"{begin}; {training['epochs_done']} {epochs} in {training['minutes']} minutes{where} (time includes whatever "
        "else the machine did). Stochastic gradient descent with Nesterov momentum, one-cycle learning rate, random "
        "cuts and mirroring."
    )
    if training.get("teaching"):
        text += (
            f" {round(100 * training['teaching'])} % of each target is the mean verdict of trained networks on the "
            f"picture ({training['teachers']}), the rest its label."
        )
    if training.get("cutmix"):
        text += f" {round(100 * training['cutmix'])} % of the pictures carry a patch of another."
    if training["average"] > 0:
        text += " What is shipped is an exponential moving average of the weights."
    if training["radius"] > 0:
        text += (
            f" Every batch is attacked first: a random start inside the L2 ball of radius {training['radius']} "
            f"(in [0, 1] pixels, for a full-size cut), {training['steps']} gradient step(s), projected back."
        )
    return text


def _photographs(judged: dict) -> str:
    if "photographs" not in judged:
        return ""
    return (
        f" For comparison, of {judged['photographs']} validation photographs, scaled to the judges alike, `minivgg` "
        f"names {judged['minivgg_photographs_top1']} % right, `mobilenet_v2` "
        f"{judged['mobilenet_photographs_top1']} % and {judged['mobilenet_photographs_top5']} % within its first five: "
        "it learned from 224-pixel pictures, and 64 are few."
    )


def _called(device: str) -> str:
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else PROCESSOR


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 1)
