"""Fine-tuning: against the plain loop, against itself after an interrupt, and on cats and dogs."""

import copy
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_networks import Holder, Small
from torch import nn

from nbhelpers import images, models
from nbhelpers.models import Network, parts
from nbhelpers.techniques import fine_tuning
from nbhelpers.techniques.fine_tuning import FineTuning, tuning_pictures
from nbhelpers.techniques.fine_tuning.features import CHUNK, Features
from nbhelpers.techniques.fine_tuning.tuner import BEST, CHECKPOINT, Habits, Tuner, shuffled
from nbhelpers.training import folders
from nbhelpers.training.data import Pictures
from nbhelpers.training.fingerprints import fingerprint
from nbhelpers.training.folders import Labelled

SAMPLES = Path(__file__).parents[2] / "sample_images"
QUICK = {"size": 32, "views": 1, "head_epochs": 3, "upper_epochs": 2, "batch": 8}


@pytest.fixture
def small() -> Network:
    return Network(Small(), "small", size=16)


def write(folder: Path, name: str, colour: tuple[int, int, int], seed: int, side: int = 40) -> None:
    noise = np.random.default_rng(seed).integers(-40, 40, (side, side, 3))
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(folder / name)


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    """A folder with one sub-folder a class: noise around one colour each, learnt in seconds."""
    for label, (name, colour) in enumerate({"red": (170, 90, 90), "green": (90, 170, 90)}.items()):
        for number in range(12):
            write(tmp_path / "photos" / name, f"{number:02}.png", colour, 100 * label + number)
    return tmp_path / "photos"


def run(recipe: FineTuning, network: nn.Module | None = None) -> fine_tuning.Progress:
    *_, last = recipe.iterate(network)
    return last


def trained(network: Network) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


# --- training


class Answering(Small):
    """Its logits are one of several answers."""

    def forward(self, pictures):
        return {"size": torch.tensor(pictures.shape[-1]), "logits": super().forward(pictures)}


@pytest.mark.parametrize(
    ("net", "layer", "size"),
    [
        (Small, "second", 16),
        (Small, "first", 16),
        (Holder, "block", 16),
        (Answering, "second", 16),
        (Small, "second", (16, 24)),
    ],
)
def test_the_same_weights_as_the_plain_loop(
    net: type[nn.Module], layer: str, size: int | tuple[int, int], coloured: Path
) -> None:
    small = Network(net(), "small", size=16)
    recipe = FineTuning(data_dir=str(coloured), layer=layer, **{**QUICK, "size": size}, patience=100)
    data = fine_tuning.photos(recipe)
    before = copy.deepcopy(small.state_dict())
    *_, last = fine_tuning.tune(recipe, small, data)
    # the longhand: everything through the whole network, every time
    tuned, _ = parts.with_new_head(small, data.classes, size)
    best, best_loss = None, float("inf")
    for number, (names, epochs, rate) in enumerate(
        [(["head"], 3, recipe.head_rate), (parts.freed_from(tuned, layer, size), 2, recipe.upper_rate)]
    ):
        if best is not None:
            tuned.load_state_dict(best)
        parameters = [each for name in names for each in tuned.net.get_submodule(name).parameters()]
        optimiser = torch.optim.AdamW(parameters, rate, weight_decay=recipe.decay)
        for epoch in range(epochs):
            batches = shuffled(len(data.train), recipe.seed, number, epoch).split(recipe.batch)
            for place, chosen in enumerate(batches):
                optimiser.param_groups[0]["lr"] = (
                    rate * (1 + np.cos(np.pi * (epoch + place / len(batches)) / epochs)) / 2
                )
                pictures, labels = data.train.batch(chosen)
                for each in parameters:
                    each.requires_grad_()
                optimiser.zero_grad()
                F.cross_entropy(tuned(pictures), labels, label_smoothing=0.1).backward()
                optimiser.step()
                tuned.requires_grad_(False)
            pictures, labels = data.validation.batch(slice(None))
            loss = F.cross_entropy(tuned(pictures), labels).item()
            record = last.log[3 * number + epoch]
            assert record["validation_loss"] == pytest.approx(loss, abs=1e-4)
            if loss < best_loss:
                best, best_loss = copy.deepcopy(tuned.state_dict()), loss
    for name, value in last.network.state_dict().items():
        assert torch.allclose(value, best[name], atol=1e-4), name
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


def test_learns_and_reports(coloured: Path) -> None:
    last = run(FineTuning(data_dir=str(coloured), **{**QUICK, "head_epochs": 8}))
    assert last.data.counts() == {"green": (9, 3), "red": (9, 3)}
    assert last.scores.item() == 1
    assert last.index == last.total
    assert last.network.classes == ["green", "red"]
    probabilities = fine_tuning.predictions(last.network, last.data.validation)
    assert fine_tuning.confusion(probabilities, last.data.validation.labels).tolist() == [[3, 0], [0, 3]]
    assert fine_tuning.mistakes(probabilities, last.data.validation.labels) == []
    assert last.report()[0].startswith("head: 8 epochs; best in epoch")


def test_progress_counts_up_to_its_total(coloured: Path) -> None:
    steps = list(FineTuning(data_dir=str(coloured), **QUICK, patience=100).iterate())
    assert [step.index for step in steps[:-1]] == list(range(1, len(steps)))
    assert {step.total for step in steps} == {2 + 3 + 2}  # two sets of features, five epochs
    assert [step.doing for step in steps][2:4] == ["head: epoch 1", "head: epoch 2"]


def test_the_best_epoch_is_kept_and_patience_ends_a_stage(coloured: Path, tmp_path: Path) -> None:
    for number in range(12):  # the colours tell nothing any more
        write(coloured / "green", f"red{number:02}.png", (170, 90, 90), 300 + number)
        write(coloured / "red", f"green{number:02}.png", (90, 170, 90), 400 + number)
    options = {"head_epochs": 40, "head_rate": 0.1, "upper_epochs": 0, "patience": 3, "keep": str(tmp_path / "runs")}
    recipe = FineTuning(data_dir=str(coloured), **{**QUICK, **options})
    snapshots = [(len(step.log), trained(step.network)) for step in recipe.iterate()]
    last = run(recipe)
    losses = [record["validation_loss"] for record in last.log]
    best = losses.index(min(losses))
    assert len(losses) < 40
    assert min(losses[-3:]) >= 0.99 * min(losses[:-3])
    assert losses[-1] > min(losses)
    at_best = next(weights for count, weights in snapshots if count == best + 1)
    assert all(torch.equal(value, at_best[name]) for name, value in trained(last.network).items())
    assert "ended early" in "\n".join(last.report())


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(coloured: Path, tmp_path: Path) -> None:
    recipe = FineTuning(data_dir=str(coloured), **QUICK, layer="block4", keep=str(tmp_path / "whole"), patience=100)
    whole = run(recipe)
    assert whole.computed == 2 + 5
    for stop in range(1, 8):
        halves = recipe.changed(keep=str(tmp_path / f"halves-{stop}"))
        generator = halves.iterate()
        for _ in range(stop):
            next(generator)
        generator.close()
        resumed = run(halves)
        assert resumed.computed == 7 - stop
        assert resumed.log == whole.log
        for name, value in trained(whole.network).items():
            assert torch.equal(value, trained(resumed.network)[name]), (stop, name)
    again = run(recipe)
    assert again.computed == 0
    assert "nothing left to do" in again.doing
    kept = [path for path in (tmp_path / "whole").rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} == {".safetensors"}


def test_features_serve_other_settings_and_mend_themselves(coloured: Path, tmp_path: Path) -> None:
    recipe = FineTuning(data_dir=str(coloured), **{**QUICK, "upper_epochs": 0}, keep=str(tmp_path), patience=100)
    assert run(recipe).computed == 2 + 3
    assert run(recipe.changed(head_rate=0.01)).computed == 3
    chunks = sorted((tmp_path / "features").rglob("*.safetensors"))
    assert len(chunks) == 2
    chunks[0].write_bytes(chunks[0].read_bytes()[:50])
    assert run(recipe.changed(head_rate=0.02)).computed == 1 + 3


def test_what_is_kept_belongs_to_one_network(small: Network, coloured: Path, tmp_path: Path) -> None:
    recipe = FineTuning(data_dir=str(coloured), **{**QUICK, "upper_epochs": 0}, keep=str(tmp_path))
    assert run(recipe, small).computed == 2 + 3
    darker = Network(small.net, "small", size=16, mean=(0.9, 0.9, 0.9))  # the same weights, but other features
    with pytest.raises(ValueError, match="another network"):
        run(recipe, darker)
    assert run(recipe.changed(head_rate=0.01), darker).computed == 2 + 3  # the features are its own
    assert run(recipe.changed(head_rate=0.02), small).computed == 3


def test_features_too_many_to_keep_are_computed_each_time() -> None:
    pictures = Pictures(torch.randint(0, 256, (CHUNK + 5, 4, 4, 3), dtype=torch.uint8), torch.zeros(CHUNK + 5).long())
    passes = []

    def base(batch):
        passes.append(len(batch))
        return batch.flatten(1)

    kept, fresh = Features(base, pictures), Features(base, pictures, largest=1000)
    assert list(kept.prepare()) == [True, True]
    assert list(fresh.prepare()) == []
    passes.clear()
    chosen = torch.tensor([0, CHUNK + 4, 3])
    assert torch.equal(kept.batch(chosen)[0], fresh.batch(chosen)[0])
    assert passes == [3]
    assert torch.equal(kept.batch(chosen)[0], pictures.batch(chosen)[0].flatten(1))


def test_fingerprints_tell_weights_and_pictures_apart() -> None:
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    assert fingerprint(one, "a") == fingerprint(copy.deepcopy(one), "a")
    names = {fingerprint(one, "a"), fingerprint(other, "a"), fingerprint(one, "b"), fingerprint(torch.zeros(3))}
    assert len(names) == 4


def test_the_kept_weights_load(coloured: Path, tmp_path: Path) -> None:
    last = run(FineTuning(data_dir=str(coloured), **QUICK, keep=str(tmp_path)))
    loaded = fine_tuning.load(last.folder)
    assert loaded.classes == ["green", "red"]
    pictures = last.data.validation.batch(slice(None))[0]
    with torch.no_grad():
        assert torch.allclose(loaded(pictures), last.network(pictures), atol=1e-5)
    with pytest.raises(ValueError, match="is of minivgg_robust: small has no weights"):
        fine_tuning.load(last.folder, Network(Small(), "small", size=16))
    with pytest.raises(FileNotFoundError, match="no epoch was finished there"):
        fine_tuning.load(tmp_path)
    (last.folder / BEST).write_bytes(b"not weights")
    with pytest.raises(ValueError, match="is damaged"):
        fine_tuning.load(last.folder)


def test_checkpoints_of_other_runs_and_damaged_ones_are_refused(coloured: Path, tmp_path: Path) -> None:
    recipe = FineTuning(data_dir=str(coloured), **QUICK, keep=str(tmp_path / "runs"))
    folder = run(recipe).folder
    write(coloured / "red", "new.png", (200, 0, 0), 999)
    with pytest.raises(ValueError, match="belongs to another run: other photos"):
        run(recipe)
    (coloured / "red" / "new.png").unlink()
    (folder / CHECKPOINT).write_bytes((folder / CHECKPOINT).read_bytes()[:100])
    with pytest.raises(ValueError, match=r"is damaged .*Delete it to start again"):
        run(recipe)


def test_a_loss_that_is_not_finite_stops_with_what_was_kept(coloured: Path, tmp_path: Path) -> None:
    recipe = FineTuning(data_dir=str(coloured), **QUICK, keep=str(tmp_path / "runs"))
    data = fine_tuning.photos(recipe)
    tuned, head = parts.with_new_head(models.load("minivgg_robust"), data.classes, 32)
    run_ = Tuner(tuned, fine_tuning.plan(recipe, tuned, head), Habits(batch=8), data.train, data.validation, tmp_path)
    steps = run_.run()
    for _ in range(3):
        next(steps)
    tuned.net.head.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"loss became nan in epoch 2 of head. Lower the learning rate"):
        list(steps)
    assert (tmp_path / CHECKPOINT).exists()
    assert not any(each.requires_grad for each in tuned.parameters())


def test_the_users_network_is_left_as_it_was(small: Network, coloured: Path) -> None:
    small.train()
    small.net.head.weight.requires_grad_(False)
    before = copy.deepcopy(small.state_dict())
    with torch.no_grad():
        last = run(FineTuning(data_dir=str(coloured), **{**QUICK, "size": 16}), small)
    assert last.best is not None
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())
    assert all(module.training for module in small.net.modules())
    assert [name for name, each in small.named_parameters() if not each.requires_grad] == ["net.head.weight"]
    assert not any(module._forward_hooks for module in small.modules())


def test_a_network_without_a_classifier_head(coloured: Path) -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(ValueError, match=r"has no classifier head to replace: it gives \(1, 4, 30, 30\)"):
        run(FineTuning(data_dir=str(coloured), **QUICK), Network(body, "body", size=32))


# --- photos


def test_what_is_at_the_end_of_a_wide_photo_is_learnt_when_it_is_padded(tmp_path: Path) -> None:
    for name, colour in (("green", (20, 230, 20)), ("red", (230, 20, 20))):
        for number in range(8):
            write(tmp_path / name, f"{number}.png", (128, 128, 128), number)  # the same for both classes
            with Image.open(tmp_path / name / f"{number}.png") as photo:
                wide = photo.resize((80, 40))
            wide.paste(colour, (0, 0, 15, 40))
            wide.save(tmp_path / name / f"{number}.png")
    recipe = FineTuning(data_dir=str(tmp_path), **QUICK | {"fit": "pad", "head_epochs": 15, "upper_epochs": 0})
    last = run(recipe)
    assert last.scores.item() == 1
    assert torch.equal(
        last.data.train.batch(slice(0, 1))[0][0].mul(255).round(),
        images.read(tmp_path / last.data.train.names[0], 32, "pad").mul(255).round(),
    )
    cut = fine_tuning.photos(recipe.changed(fit="crop"))
    found = {
        name: each for part in (cut.train, cut.validation) for name, each in zip(part.names, part.pixels, strict=True)
    }
    assert all(torch.equal(found[f"red/{number}.png"], found[f"green/{number}.png"]) for number in range(8))
    with pytest.raises(ValueError, match=r"fit = 'whole': Input should be 'crop' or 'pad' .*one shape that a batch"):
        recipe.changed(fit="whole")


def test_photos_of_any_proportions_are_viewed_and_kept(coloured: Path, tmp_path: Path) -> None:
    shape = {"size": (24, 40), "views": 2, "head_epochs": 1, "upper_epochs": 1}
    last = run(FineTuning(data_dir=str(coloured), **QUICK | shape, keep=str(tmp_path / "kept")))
    assert last.data.train.pixels.shape[1:] == (24, 40, 3)
    viewed = folders.views(last.data.train, 2, 6, 0)
    assert viewed.pixels.shape == (2 * len(last.data.train), 24, 40, 3)
    kept = fine_tuning.load(last.folder)
    expected = fine_tuning.predictions(last.network, last.data.validation)
    assert torch.allclose(fine_tuning.predictions(kept, last.data.validation), expected, atol=1e-5)
    crops = folders.sample_crops((24, 40), crops=2, folder=SAMPLES)
    assert crops.train.pixels.shape == (8, 24, 40, 3)


def test_unreadable_photos_are_skipped_counted_and_named(coloured: Path) -> None:
    (coloured / "red" / "05.png").write_bytes(b"\x89PNG no picture")
    data = folders.read(coloured, 16)
    assert sum(map(sum, data.counts().values())) == 23
    assert len(data.train.skipped) == 1
    assert data.train.skipped[0].startswith("red/05.png: ")
    assert data.notes[0].startswith("skipped 1 unreadable: red/05.png")


def test_folders_that_cannot_be_learnt_from(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*one sub-folder a class; 'oxford_pets' fetches"):
        folders.read(tmp_path / "nowhere", 16)
    with pytest.raises(ValueError, match="holds no sub-folder: telling apart takes two classes"):
        folders.read(tmp_path, 16)
    write(tmp_path / "one", "a.png", (1, 2, 3), 0)
    with pytest.raises(ValueError, match="holds only the class 'one': telling apart takes two"):
        folders.read(tmp_path, 16)
    (tmp_path / "two").mkdir()
    with pytest.raises(ValueError, match="class 'one' has 1 readable photos to train on and 0 to be judged by"):
        folders.read(tmp_path, 16)
    write(tmp_path / "one", "b.png", (1, 2, 3), 1)
    with pytest.raises(ValueError, match="class 'two' has 0 readable photos"):
        folders.read(tmp_path, 16)
    for number in range(3):
        (tmp_path / "two" / f"{number}.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"class 'two' has 0 readable photos.*3 files could not be read, such as two/"):
        folders.read(tmp_path, 16)
    with pytest.raises(ValueError, match="is a file, expected a folder"):
        folders.read(tmp_path / "one" / "a.png", 16)


def test_classes_are_chosen_joined_and_offered(coloured: Path) -> None:
    for number in range(4):
        write(coloured / "blue", f"{number}.png", (90, 90, 170), number)
    data = folders.read(coloured, 16, ["warm: red", "cold: green, blue"])
    assert data.classes == ["warm", "cold"]
    assert data.counts() == {"warm": (9, 3), "cold": (12, 4)}
    assert folders.read(coloured, 16, ["blue", "red"]).classes == ["blue", "red"]
    assert folders.read(coloured, 16, limit=4).counts() == dict.fromkeys(["blue", "green", "red"], (3, 1))
    with pytest.raises(ValueError, match=r"has no class 'reed'. Nearest: red"):
        folders.read(coloured, 16, ["reed", "blue"])


def test_a_folder_that_is_split_already(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("val", 2)):
        for name in ("ant", "bee"):
            for number in range(count):
                write(tmp_path / part / name, f"{part}{number}.png", (90, 90, 90), number)
    data = folders.read(tmp_path, 16)
    assert data.counts() == {"ant": (3, 2), "bee": (3, 2)}
    assert all("/val" in name for name in data.validation.names)


def test_the_layout_of_tiny_imagenet(tmp_path: Path) -> None:
    lines = []
    for number, wnid in enumerate(("n01", "n02", "n03")):
        for index in range(4):
            write(tmp_path / "train" / wnid / "images", f"{wnid}_{index}.JPEG", (60 * number,) * 3, index)
        write(tmp_path / "val" / "images", f"val_{number}.JPEG", (60 * number,) * 3, 9)
        lines.append(f"val_{number}.JPEG\t{wnid}")
    (tmp_path / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "words.txt").write_text("n01\ttabby, tabby cat\nn02\tPersian cat\nn03\tpoodle\n")
    data = folders.read(tmp_path, 16, ["cats: tabby, Persian cat", "dogs: poodle"])
    assert data.counts() == {"cats": (8, 2), "dogs": (4, 1)}


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 70), st.integers(0, 99))
def test_every_photo_is_on_one_side_only(count: int, share: float, limit: int, seed: int) -> None:
    photos = [(f"{number}", None, False) for number in range(count)]
    generator = torch.Generator().manual_seed(seed)
    chosen = list(folders._chosen(["a"], {"a": photos}, False, limit, share, generator))
    kept = min(count, limit) if limit else count
    assert len({name for name, _, _ in chosen}) == len(chosen) == kept
    held = sum(held for _, _, held in chosen)
    assert held == (min(max(1, round(kept * share)), kept - 1) if kept > 1 else 0)


def test_views_begin_with_the_photos_themselves(coloured: Path) -> None:
    train = folders.read(coloured, 16).train
    three = folders.views(train, 3, 4, seed=0)
    assert len(three) == 3 * len(train)
    assert torch.equal(three.pixels[: len(train)], train.pixels)
    assert torch.equal(three.labels, train.labels.repeat(3))
    assert not torch.equal(three.pixels[len(train) : 2 * len(train)], train.pixels)
    assert torch.equal(three.pixels, folders.views(train, 3, 4, seed=0).pixels)


def test_pets_that_cannot_be_fetched(monkeypatch, tmp_path: Path) -> None:
    def offline(*arguments, **options):
        raise URLError("no route")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"Oxford-IIIT Pet data set cannot be fetched .*oxford-iiit-pet"):
        folders.read("oxford_pets", 16)


def test_pets_that_are_there(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    root = tmp_path / "datasets" / "oxford-iiit-pet"
    (root / "annotations").mkdir(parents=True)
    for split, first in (("trainval", 1), ("test", 5)):
        lines = []
        for number in range(first, first + 4):
            name, species = (f"Bengal_{number}", 1) if number % 2 else (f"pug_{number}", 2)
            write(root / "images", f"{name}.jpg", (90, 90, 90), number)
            lines.append(f"{name} {1 if species == 1 else 2} {species} 1")
        (root / "annotations" / f"{split}.txt").write_text("\n".join(lines) + "\n")
    data = folders.read("oxford_pets", 16)
    assert data.counts() == {"cat": (2, 2), "dog": (2, 2)}
    assert set(data.train.names) == {"Bengal_1.jpg", "Bengal_3.jpg", "pug_2.jpg", "pug_4.jpg"}


def test_sample_crops_hold_whole_photos_out() -> None:
    data = folders.sample_crops(32, folder=SAMPLES)
    assert data.counts() == {"people": (24, 12), "patterns": (24, 12)}
    sides = [{name.split()[0] for name in each.names} for each in (data.train, data.validation)]
    assert not sides[0] & sides[1]
    assert "held out" in data.notes[0]


# --- what is drawn


def test_confusion_counts_every_photo() -> None:
    labels, given = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 2, 0, 0])
    probabilities = F.one_hot(given, 4).float() * 0.6 + 0.1
    expected = torch.zeros(4, 4).long()
    for label, answer in zip(labels.tolist(), given.tolist(), strict=True):
        expected[label, answer] += 1
    assert torch.equal(fine_tuning.confusion(probabilities, labels), expected)
    probabilities[4, 0] = 0.9
    assert fine_tuning.mistakes(probabilities, labels)[0] == 4
    assert sorted(fine_tuning.mistakes(probabilities, labels)) == [1, 4, 5]
    drawn = tuning_pictures.confusion_figure(expected, list("abcd"))
    texts = [text.get_text() for text in drawn.axes[0].texts]
    assert texts == [str(int(value)) for value in expected.flatten()]


def test_curves_show_the_log() -> None:
    log = [
        {"stage": stage, "epoch": epoch, "loss": 1 / epoch, "accuracy": 0.5, "validation_loss": 2 / epoch,
         "validation_accuracy": 0.4}
        for stage in ("head", "upper layers") for epoch in (1, 2)
    ]  # fmt: skip
    drawn = tuning_pictures.curves(log, log[1])
    lines = {line.get_label(): line.get_ydata() for line in drawn.axes[0].lines}
    assert list(lines["training"]) == [1, 0.5, 1, 0.5]
    assert list(lines["validation"]) == [2, 1, 2, 1]
    assert drawn.axes[0].texts[0].get_text() == "upper layers →"
    assert tuning_pictures.curves([], None, "features of the training photos").axes[0].texts


def test_looks_are_the_gradient_and_grad_cam(coloured: Path) -> None:
    network = models.load("minivgg_robust")
    photos = torch.rand(2, 3, 64, 64, requires_grad=True)
    logits = network(photos)
    (gradient,) = torch.autograd.grad(logits[0, 3] + logits[1, 7], photos)
    maps, found = tuning_pictures.looks(network, photos.detach(), [3, 7])
    assert torch.allclose(maps, gradient.abs().amax(1), atol=1e-5)
    assert torch.allclose(found, logits.detach(), atol=1e-4)
    coarse, _ = tuning_pictures.looks(network, photos.detach(), [3, 7], "block4.conv1", blur=2.0)
    assert coarse.shape == (2, 64, 64)
    assert coarse.min() >= 0


def test_counterparts_are_what_the_photos_were_taken_for() -> None:
    network = models.load("minivgg_robust")
    photo = torch.from_numpy(np.asarray(Image.open(SAMPLES / "coffee.jpg").convert("RGB").resize((64, 64))).copy())
    pictures = Pictures(torch.stack([photo, photo, 255 - photo]), torch.tensor([0, 0, 1]))
    found = fine_tuning.counterparts(network, Labelled(pictures, pictures, ["coffee", "negative"], []))
    with torch.no_grad():
        expected = network(pictures.batch(slice(None))[0]).argmax(1)
    assert found == [int(expected[0]), int(expected[2])]


def test_cats_and_dogs(shared: Path, monkeypatch) -> None:
    """Three breeds of cats against five of dogs, 64-pixel photos: 90 % right, on photos not trained on."""
    data_dir = shared / "data" / "tiny100"
    if not data_dir.is_dir():
        pytest.skip("needs the photos in ../shared/data/tiny100")
    monkeypatch.setenv("TORCH_HOME", str(shared / "weights"))
    recipe = FineTuning(
        network="mobilenet_v2",
        data_dir=str(data_dir),
        classes=[
            "cats: tabby, Persian cat, Egyptian cat",
            "dogs: Chihuahua, Yorkshire terrier, golden retriever, German shepherd, standard poodle",
        ],
        limit=1400,  # of 1,500 cats and 2,500 dogs: what half a minute allows
        validation=0.5,
        size=128,
        views=1,
        layer="features.14",
        head_epochs=3,
        upper_epochs=2,
    )
    last = run(recipe, models.load("mobilenet_v2", "IMAGENET1K_V1", device="cpu"))
    assert last.data.counts() == {"cats": (1400, 150), "dogs": (1400, 250)}
    head = [record["validation_accuracy"] for record in last.log if record["stage"] == "head"]
    assert max(head) < last.best["validation_accuracy"]  # the upper layers earn their keep
    assert last.best["validation_accuracy"] >= 0.9
