"""The site as files: what the pages are told, against brute force; what changed; the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from small_networks import tiny

from nbhelpers import models
from nbhelpers.microscope import cli, evidence, made, photographs, site, speaking, two_choice
from nbhelpers.models import Network
from nbhelpers.training.data import Pictures

HOSTILE = "</script><b>'&"


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(tiny().eval(), "tiny", classes=["ant", HOSTILE, "cat", "dog", "elk"], size=32)


@pytest.fixture(scope="module")
def photos() -> Pictures:
    pixels = torch.randint(0, 256, (40, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels[::2] //= torch.arange(1, 21, dtype=torch.uint8)[:, None, None, None]
    return Pictures(pixels, torch.arange(40) % 2)


@pytest.fixture(scope="module")
def drawn(network: Network, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[made.Job], made.Folder]:
    jobs, kept = (
        made.jobs(network, made.layers(network), steps=1),
        made.Folder(tmp_path_factory.mktemp("kept"), network),
    )
    list(made.draw(jobs, network, kept))
    return jobs, kept


@pytest.fixture(scope="module")
def folder(network, drawn, photos, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    site.write(network, made.layers(network), *drawn, folder, site.Photographs(photos, ["dark", "light"]))
    return folder


def told(folder: Path, index: int) -> list[dict]:
    text = (folder / "data" / f"{index}.js").read_text()
    assert "<" not in text
    return json.loads(text.removeprefix(f"microscope.layer({index}, ").removesuffix(");\n"))


def data(folder: Path) -> dict:
    page = (folder / "index.html").read_text()
    return json.loads(page.split('id="data"', 1)[1].split(">", 1)[1].split("</script>", 1)[0])


def test_channels_say_for_whom_they_speak_and_what_is_lost_without_them(network, photos, folder) -> None:
    pictures = photos.subset(32).batch(slice(None))[0]
    pooled = models.pooled_activations(network, "relu2", pictures).mean(0)
    adds = pooled[:, None] * models.find_module(network, "head").weight.detach().T
    for channel, fact in enumerate(told(folder, 1)):
        order = adds[channel].argsort(descending=True).tolist()
        for kind in ("speaks", "lost"):  # the head is linear: both are the same there
            np.testing.assert_allclose([each["value"] for each in fact[kind]], adds[channel][order], atol=1e-4)
    assert [each["class"] for each in told(folder, 1)[0]["speaks"]] == adds[0].argsort(descending=True).tolist()


def test_class_pages_name_the_channels_that_add_most_in_each_layer(network, photos, folder) -> None:
    pictures = photos.subset(32).batch(slice(None))[0]
    layers = made.layers(network)
    adds = speaking.contributions(network, layers, pictures)
    for number in range(5):
        fact = data(folder)["class_facts"][str(number)]
        *before, deepest = [layer.name for layer in layers]
        best = [(deepest, c) for c in sorted(range(6), key=lambda c: -adds[deepest][c, number])[:5]]
        best += [(name, int(adds[name][:, number].argmax())) for name in reversed(before)]
        assert [(each["layer"], each["channel"]) for each in fact["channels"]] == best
        falls = [float(speaking.lost(network, name, [c], pictures)[0, number]) for name, c in best]
        np.testing.assert_allclose([each["value"] for each in fact["ablation"]], falls, atol=1e-4)
        assert (folder / "pictures" / "classes" / f"{number}.webp").is_file()


def test_the_two_choice_test_by_hand(network, photos, drawn, folder) -> None:
    judge = models.load("minivgg_robust")
    seen = photographs.look(network, made.layers(network), photos)["conv1"]
    level = two_choice.level(judge, network, "conv1")
    known = two_choice.features(judge, photos.batch(slice(None))[0], [level], 32)[level].double()
    unit = torch.nn.functional.normalize(known - known.mean(0), dim=1)
    groups = told(folder, 0)[0]["two"]["groups"]
    strongest = seen.means[:, 0].argsort(descending=True, stable=True)[:2]
    for group, weak in zip(groups, ("lower half", "middling"), strict=True):
        asked = two_choice.questions(seen.means[:, 0], weak=weak)
        rows = {row["name"]: row for row in group["rows"]}
        assert list(rows) == ["one made picture", "its strongest photo", "its 2 strongest photos"]
        for name, count in (("its strongest photo", 1), ("its 2 strongest photos", 2)):
            like = unit @ unit[strongest[:count]].mean(0)
            right = [like[strong] > like[weak] for strong, weak in zip(asked.strong, asked.weak, strict=True)]
            assert rows[name]["share"] == pytest.approx(sum(map(float, right)) / 20, abs=1e-4)
            assert rows[name]["low"] <= rows[name]["share"] <= rows[name]["high"]
    two = data(folder)["layers"][0]["two"]
    assert two["judge"] == f"minivgg_robust ({level})"
    assert [row["name"] for row in two["groups"][0]["rows"]][-1] == "any photo"
    shares = [fact["two"]["groups"][0]["rows"][0]["share"] for fact in told(folder, 0) if "two" in fact]
    assert len(shares) == two["channels"]
    assert two["groups"][0]["rows"][0]["share"] == pytest.approx(sum(shares) / len(shares), abs=1e-3)


def test_early_layers_are_tuned(folder) -> None:
    curves = told(folder, 0)[0]["tuning"]["curves"]
    assert [(len(each["x"]), len(each["y"])) for each in curves] == [(12, 12), (5, 5), (12, 12), (8, 8), (4, 4)]


def test_tuning_has_labels_only_where_chance_would_not_give_as_many(network) -> None:
    untrained = evidence.tuned(network, made.layers(network)[0])
    assert all("label" not in fact and "label" not in fact["tuning"] for fact in untrained)
    assert "none has a label" in untrained[0]["tuning"]["note"]
    robust = models.load("minivgg_robust")
    first = evidence.tuned(robust, made.layers(robust, ["block1.conv1"])[0])
    assert sum("label" in fact for fact in first) > 30


def test_nothing_unfinished_is_left_beside_a_whole_site(folder) -> None:
    assert {each.name for each in folder.iterdir()} == {"index.html", "data", "pictures", "site.json"}


def test_without_photographs_nothing_of_them_is_said(network, drawn, tmp_path) -> None:
    site.write(network, made.layers(network), *drawn, tmp_path)
    assert not {"two", "speaks", "lost", "labels", "patches"} & set(told(tmp_path, 1)[0])
    assert data(tmp_path)["photos"] is False
    assert data(tmp_path)["classes"][1] == HOSTILE
    assert not list(tmp_path.rglob("*-photos.webp"))


def test_what_changed_is_said(tmp_path) -> None:
    now = dict(nbhelpers="2", layers=["a", "b"], kinds=["made"], recipes=["x"], photos=True)
    assert site.changes(tmp_path, now) == []
    before = dict(nbhelpers="1", layers=["a", "c"], kinds=["made"], recipes=["y"], photos=False)
    (tmp_path / "site.json").write_text(json.dumps(before))
    said = "; ".join(site.changes(tmp_path, now))
    for words in ("1 is now 2", "layers added: b", "layers gone: c", "another way", "with photographs now"):
        assert words in said
    (tmp_path / "site.json").write_text(json.dumps(now))
    assert site.changes(tmp_path, now) == []
    (tmp_path / "site.json").write_text("[")
    assert site.changes(tmp_path, now) == ["what it was built from could not be read"]


def test_lines_make_the_same_pixels_again(tmp_path) -> None:
    network = models.load("minivgg_robust")
    layer = made.layers(network)[0]
    job = made.jobs(network, [layer], steps=1)[0]
    kept = made.Folder(tmp_path, network)
    list(made.draw([job], network, kept))
    *before, last = site.lines(job, 1).splitlines()
    space: dict = {}
    exec("\n".join([*before, f"again = {last}"]), space)
    kept_picture = kept.pictures(job)[1].read()
    assert (space["again"].detach() - kept_picture).abs().max() < 2 / 255


def test_the_command_with_two_layers(network, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(models, "load", lambda name: network)
    names = ["conv1", "conv2"]
    for number in range(3):
        path = tmp_path / "photos" / "some" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (80 * number, 20, 90)).save(path)
    (tmp_path / "photos" / "some" / "broken.png").write_text("no picture")
    asked = ["--layers", ",".join(names), "--steps", "1", "--workers", "1", "--results", str(tmp_path)]
    first = CliRunner().invoke(cli.microscope, ["tiny", *asked, "--photos", str(tmp_path / "photos")])
    assert first.exit_code == 0, first.output
    assert "broken.png" in first.output
    page = tmp_path / "microscope" / "tiny"
    assert [each["name"] for each in data(page)["layers"]] == names
    assert "speaks" in told(page, 1)[0]
    assert "two" not in told(page, 1)[0]
    again = CliRunner().invoke(cli.microscope, ["tiny", *asked])
    assert ", 0 to draw" in again.output
    assert data(page)["changed"] == ["without photographs now"]
    refused = CliRunner().invoke(cli.microscope, ["tiny", "--layers", "nowhere", "--results", str(tmp_path)])
    assert refused.exit_code == 2
    assert "nowhere" in refused.output
