"""From a trained network to what the package ships: weights, their description, and a model card with its numbers."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from nbhelpers import edge
from nbhelpers.models.minivgg import MiniVGG
from nbhelpers.training import evaluate, folding
from nbhelpers.training.data import Pictures
from nbhelpers.training.train import Settings

LICENCE = (
    "The weights come under the package's MIT licence. Trained on 100 of the 200 classes of Tiny-ImageNet (Stanford "
    "CS231n; 64-pixel pictures from ImageNet, offered for non-commercial research and teaching). The pictures are not "
    "part of the package. Whoever uses the weights commercially should consider ImageNet's terms."
)
POOLING = {"max": "max pooling", "stride": "a stride of 2", "blur": "blurred max pooling"}


def export(network: MiniVGG, folder: str | Path, name: str) -> Path:
    """Write the weights as safetensors in half precision.

    Args:
        network: folded, see `folding.fold`.
        folder: where to.
        name: of the file, without its suffix.

    Returns:
        The path of the file.

    Raises:
        ValueError: a weight is not finite in half precision.
    """
    state = {key: value.detach().half().contiguous() for key, value in network.state_dict().items()}
    broken = [key for key, value in state.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(f"{edge.few(broken)}: not finite in half precision; train with a lower peak learning rate.")
    path = Path(folder) / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    save_file(state, scratch, metadata={"pooling": network.pooling})
    scratch.replace(path)
    return path


def describe(
    weights: Path,
    classes: list[dict[str, str]],
    validation: Pictures,
    settings: Settings,
    log: list[dict],
    start: str | None = None,
    attacked: int = 5000,
    teachers: Sequence[str] = (),
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

    Returns:
        What the JSON file holds.
    """
    network = folding.read(weights)
    top1, top5, clean = evaluate.accuracy(network, validation)
    sample = validation.subset(attacked)
    under = {radius: evaluate.accuracy_under_attack(network, sample, radius) for radius in evaluate.RADII}
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
        },
        "measured": {
            "pictures": len(validation),
            "clean_top1": _percent(top1),
            "sample_top1": _percent(evaluate.accuracy(network, validation.subset(500))[0]),
            "clean_top5": _percent(top5),
            "attacked_pictures": len(sample),
            "l2_attack_top1": {str(radius): _percent(share) for radius, (share, _) in under.items()},
            "dead_channels": {
                name: _percent(share) for name, share in evaluate.dead_channels(network, validation).items()
            },
            "load_ms": round(evaluate.load_milliseconds(weights), 1),
            "forward_ms": round(evaluate.forward_milliseconds(network), 1),
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
        "| | % |",
        "|---|---|",
        f"| right (top 1) | {measured['clean_top1']} |",
        f"| among the first five | {measured['clean_top5']} |",
        *(
            f"| right under a {evaluate.STEPS}-step L2 attack of radius {radius} ({measured['attacked_pictures']} "
            f"pictures) | {share} |"
            for radius, share in measured["l2_attack_top1"].items()
        ),
        "",
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
    text = (
        f"{begin}; {training['epochs_done']} epochs in {training['minutes']} minutes (time includes whatever else the "
        "machine did). Stochastic gradient descent with Nesterov momentum, one-cycle learning rate, random cuts and "
        "mirroring."
    )
    if training.get("teaching"):
        text += (
            f" {round(100 * training['teaching'])} % of each target is the mean verdict of trained networks on the "
            f"picture ({training['teachers']}), the rest its label."
        )
    if training.get("cutmix"):
        text += f" In {round(100 * training['cutmix'])} % of the batches each picture carries a patch of another."
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


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 1)
