"""What another network sees in pictures, against a count by hand."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import noise, tiny
from torch import nn

from nbhelpers import gallery, models, recipes
from nbhelpers.ascent import recognised
from nbhelpers.ascent.recognition import matching
from nbhelpers.models import Network, loading
from nbhelpers.techniques.class_pictures import for_bundled_networks
from nbhelpers.training.data import Pictures
from tools import judge


class _Reads(nn.Module):
    """Logits are the means of the picture's first row of pixels, one per class."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, pictures):
        return pictures[:, :, 0, : self.classes].mean(1)


def test_shares_are_those_counted_by_hand():
    names = [f"c{number}" for number in range(12)]
    pictures = noise(30, 3, 16, 16)
    for number in range(30):
        pictures[number, :, 0, number % 12] += 0.2
    shown = [names[number % 12] for number in range(30)]
    found = recognised(pictures, shown, Network(_Reads(12), "reads", classes=names, size=16))
    logits = pictures.numpy()[:, :, 0, :12].mean(1)
    own = logits[np.arange(30), np.arange(30) % 12]
    ranks = 1 + (logits > own[:, None]).sum(1)
    assert found.ranks == ranks.tolist()
    assert found.answers == [names[best] for best in logits.argmax(1)]
    assert found.top1 == pytest.approx((ranks == 1).mean())
    assert found.top5 == pytest.approx((ranks <= 5).mean())
    assert found.known == 30
    assert str(found).startswith(f"reads names {100 * (ranks == 1).mean():.0f} % [")
    share, z = (ranks == 1).mean(), 1.959964
    middle, half = share + z**2 / 60, z * np.sqrt(share * (1 - share) / 30 + z**2 / 3600)  # Wilson's, by hand
    assert found.interval(1) == pytest.approx(((middle - half) / (1 + z**2 / 30), (middle + half) / (1 + z**2 / 30)))
    right = ranks.tolist().index(1)
    assert found.labels[right] == f"{shown[right]}\nrecognised"


def test_names_are_matched_by_synonyms_and_every_namesake_counts():
    network = Network(_Reads(4), "reads", classes=["crane", "tabby, tabby cat", "Crane", "lion"], size=16)
    assert matching("CRANE", network) == [0, 2]
    assert matching("Crane", network) == [2]
    assert matching("Tabby cat", network) == [1]
    assert matching("lion, king of beasts", network) == [3]
    assert matching("teapot", network) == []
    pictures = torch.zeros(3, 3, 16, 16)
    pictures[0, :, 0, 2] = 1
    pictures[1:, :, 0, 3] = 1
    found = recognised(pictures, ["CRANE", "teapot", "tabby"], network)
    assert found.ranks[:2] == [1, None]
    assert found.ranks[2] > 1
    assert (found.known, found.top1) == (2, 0.5)
    assert "does not know the classes of 1 others" in str(found)
    assert found.labels[1] == "teapot\nlion"


def test_pictures_are_scaled_to_the_judge_which_is_left_as_it_was():
    network = Network(tiny(), "tiny", classes=list("abcde"), size=32).train()
    found = recognised(noise(2, 3, 16, 16), ["a", "b"], network)
    assert network.net.training
    large = nn.functional.interpolate(noise(2, 3, 16, 16), size=32, mode="bicubic", antialias=True).clamp(0, 1)
    assert found.answers == ["abcde"[best] for best in network.eval()(large).argmax(1)]


def test_what_cannot_be_judged_is_said():
    named = Network(_Reads(4), "reads", classes=list("abcd"), size=16)
    with pytest.raises(ValueError, match="2 pictures but 1 classes"):
        recognised(noise(2, 3, 16, 16), ["a"], named)
    with pytest.raises(ValueError, match="reads knows none of these classes: teapot"):
        recognised(noise(1, 3, 16, 16), ["teapot"], named)
    with pytest.raises(ValueError, match="class names of reads are not known"):
        recognised(noise(1, 3, 16, 16), ["a"], Network(_Reads(4), "reads", size=16))


def test_the_bundled_networks_class_pictures_are_those_of_the_recipe():
    network = models.load("minivgg_robust", device="cpu")
    network.classes = network.classes[:12]
    recipe = for_bundled_networks(steps=1, rounds=1, classes=judge.drawn(network, 100))
    pictures = judge.class_pictures(network, recipe)
    assert pictures.shape == (12, 3, 64, 64)
    alone = recipe.changed(classes=[11]).run(network).picture[0]
    assert torch.equal(pictures[11], alone)
    assert "steps 1" in judge.how(recipe)
    assert "classes" not in judge.how(recipe)


def test_classes_are_drawn_once_and_for_all():
    network = Network(_Reads(4), "reads", classes=[f"c{number}" for number in range(50)], size=16)
    few, more = judge.drawn(network, 10), judge.drawn(network, 20)
    assert few == more[:10]
    assert len(set(more)) == 20
    assert few != list(range(10))
    assert judge.drawn(network, 50) == network.classes


def test_the_verdict_on_class_pictures_and_photographs_goes_into_the_card(tmp_path, monkeypatch):
    loaded = {name: models.load(name, device="cpu") for name in ("minivgg_robust", "minivgg")}
    monkeypatch.setattr(judge, "load", lambda name: loaded.get(name, loaded["minivgg"]))
    small = functools.partial(for_bundled_networks, size=32, view=32)
    monkeypatch.setattr(judge, "for_bundled_networks", small)
    pixels = torch.randint(0, 255, (210, 64, 64, 3), generator=torch.Generator().manual_seed(0)).byte()
    labels = torch.arange(210) % 100
    monkeypatch.setattr(judge.data, "load", lambda folder, split: Pictures(pixels, labels))
    shipped = Path(loading.__file__).parent / "weights" / "minivgg_robust.json"
    card, sheet = tmp_path / "minivgg_robust.json", tmp_path / "sheet.png"
    card.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    options = ["judge", "--steps", "1", "--data", "somewhere", "--card", str(card), "--sheet", str(sheet)]
    monkeypatch.setattr("sys.argv", options)
    judge.main()
    judged = json.loads(card.read_text(encoding="utf-8"))["judged"]
    with torch.no_grad():
        answers = loaded["minivgg"](pixels.permute(0, 3, 1, 2).float() / 255).argmax(1)
    assert judged["minivgg_photographs_top1"] == round(100 * (answers == labels).float().mean().item(), 1)
    assert judged["photographs"] == 210
    text = card.with_suffix(".md").read_text(encoding="utf-8")
    assert f"{judged['minivgg_top1']} % of the 100 classes" in text
    assert "of 210 validation photographs" in text
    recipe = recipes.from_picture(sheet)
    assert (recipe.steps, len(recipe.classes)) == (1, 100)
    assert gallery.replay(sheet).same


def test_the_first_of_each_class():
    pictures = Pictures(torch.arange(7).view(7, 1, 1, 1).expand(7, 2, 2, 3).byte(), torch.tensor([2, 0, 2, 2, 0, 0, 1]))
    few = pictures.first_of_each(2)
    assert few.labels.tolist() == [0, 0, 1, 2, 2]
    assert few.pixels[:, 0, 0, 0].tolist() == [1, 4, 6, 0, 2]
