"""The site as files: what the pages are told, against brute force; what changed; the command."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from small_networks import tiny

from nbhelpers import edge, models
from nbhelpers.microscope import again, cli, evidence, made, photographs, site, speaking, two_choice
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
    now = dict(nbhelpers="2", layers=["a", "b"], kinds=["made"], recipes={"a": "x", "b": "z"}, photos=True)
    assert site.changes(tmp_path, now) == []
    before = dict(nbhelpers="1", layers=["a", "c"], kinds=["made"], recipes={"a": "y", "c": "z"}, photos=False)
    (tmp_path / "site.json").write_text(json.dumps(before))
    said = "; ".join(site.changes(tmp_path, now))
    for words in ("1 is now 2", "layers added: b", "layers gone: c", "another way", "with photographs now"):
        assert words in said
    (tmp_path / "site.json").write_text(json.dumps(now))
    assert site.changes(tmp_path, now) == []
    (tmp_path / "site.json").write_text(json.dumps(now | {"layers": ["a"], "recipes": {"a": "x", "c": "z"}}))
    assert site.changes(tmp_path, now) == ["layers added: b"]  # other layers are no other way
    (tmp_path / "site.json").write_text("[")
    assert site.changes(tmp_path, now) == ["what it was built from could not be read"]


def test_lines_make_the_same_pixels_again(tmp_path) -> None:
    network = models.load("minivgg_robust")
    layer = made.layers(network)[0]
    job = made.jobs(network, [layer], steps=1)[0]
    kept = made.Folder(tmp_path, network)
    list(made.draw([job], network, kept))
    *before, last = again.lines(job, 1).splitlines()
    space: dict = {}
    exec("\n".join([*before, f"remade = {last}"]), space)
    kept_picture = kept.pictures(job)[1].read()
    assert (space["remade"].detach() - kept_picture).abs().max() < 2 / 255


@pytest.fixture(scope="module")
def asked(network, tmp_path_factory) -> Iterator[list[str]]:
    """The command on two layers and 24 photos, one more of which cannot be read, with little to draw."""
    load, folder = models.load, tmp_path_factory.mktemp("photos")
    for number in range(24):
        path = folder / f"kind {number % 2}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), (10 * number, 20 + 90 * (number % 2), 90)).save(path)
    (folder / "kind 0" / "broken.png").write_text("no picture")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load", lambda name: network if name == "tiny" else load(name))
        patch.setattr(photographs, "PORTION", 10)
        yield ["tiny", "--steps", "1", "--workers", "1", "--photos", str(folder)]


@pytest.fixture(scope="module")
def whole(asked, tmp_path_factory) -> Path:
    """Results of a run that nothing stopped."""
    results = tmp_path_factory.mktemp("whole")
    assert run(*asked, "--results", str(results)).exit_code == 0
    return results


def run(*asked: str) -> Any:
    return CliRunner().invoke(cli.microscope, [*asked])


def test_the_command_with_photographs_and_then_without(asked, tmp_path) -> None:
    here = ["--results", str(tmp_path)]
    first = run(*asked, *here)
    assert first.exit_code == 0, first.output
    assert "broken.png" in first.output
    page = tmp_path / "microscope" / "tiny"
    assert [each["name"] for each in data(page)["layers"]] == ["conv1", "conv2"]
    assert {"speaks", "two", "labels"} <= set(told(page, 1)[0])
    assert data(page)["layers"][0]["two"]["judge"].startswith("minivgg_robust")
    assert told(page, 1)[0]["patches"][0]["photos"][0]["name"].startswith("kind ")
    second = run(*asked, *here, "--layers", "conv1", "--no-photos")
    assert ", 0 to draw" in second.output
    assert data(page)["changed"] == ["layers gone: conv2", "without photographs now"]
    assert data(page)["about"][0] == "made pictures only"
    left = {str(path.relative_to(page)) for path in page.rglob("*.*")}
    pictures = {f"pictures/0/{number}.webp" for number in range(8)} | {f"pictures/classes/{n}.webp" for n in range(5)}
    assert left == pictures | {"data/0.js", "index.html", "site.json"}  # no photograph of the site before
    assert {path.name for path in page.glob("pictures/*")} == {"0", "classes"}
    assert run(*asked, *here, "--judge", "minivgg", "--no-classes").exit_code == 0
    assert data(page)["layers"][0]["two"]["judge"].startswith("minivgg (")
    assert (data(page)["class_pictures"], len(data(page)["classes"])) == (False, 5)
    assert not list(page.glob("pictures/classes/*"))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--layers", "nowhere"], "nowhere"),
        (["--layers", "head"], "head"),
        (["--photos", "nowhere"], "nowhere"),
        (["--judge", "nowhere"], "nowhere"),
    ],
)
def test_what_is_not_there_is_named_before_anything_is_drawn(asked, tmp_path, wrong, words) -> None:
    refused = run(*asked, *wrong, "--results", str(tmp_path / "results"))
    assert refused.exit_code == 2
    assert words in refused.output
    assert not list(tmp_path.glob("results/pictures/*"))


ERRORS = {
    "interrupted": (KeyboardInterrupt(), 130, "the same command goes on"),
    "full": (OSError(errno.ENOSPC, "No space left on device"), 1, "is full: what is drawn is whole"),
}


@pytest.mark.parametrize("why", ERRORS)
@pytest.mark.parametrize(
    ("where", "name"),
    [
        (made.Folder, "keep"),
        (photographs, "_keep"),
        (evidence.Judge, "add"),
        (site, "_save"),
        (edge, "write_text"),
    ],
)
def test_a_run_that_stopped_anywhere_ends_as_if_it_had_not(
    asked, whole, tmp_path, monkeypatch, where, name, why
) -> None:
    error, code, words = ERRORS[why]
    real, calls = getattr(where, name), []

    def once(*given, **named):
        calls.append(given)
        if len(calls) == 2:
            raise error
        return real(*given, **named)

    monkeypatch.setattr(where, name, once)
    first = run(*asked, "--results", str(tmp_path))
    assert first.exit_code == code, first.output
    assert words in first.output
    drawn_before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    second = run(*asked, "--results", str(tmp_path))
    assert second.exit_code == 0, second.output
    assert drawn_before.items() <= {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}.items()
    assert contents(tmp_path / "microscope") == contents(whole / "microscope")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_photo_is_a_site(network, drawn, photos, tmp_path) -> None:
    site.write(network, made.layers(network), *drawn, tmp_path, site.Photographs(photos.subset(1), ["dark"]))
    fact = told(tmp_path, 1)[0]
    assert {"patches", "speaks"} <= set(fact)
    assert not {"two", "labels", "label"} & set(fact)


def grey() -> torch.nn.Module:
    module = tiny()
    module.conv1 = torch.nn.Conv2d(1, 8, 3, padding=1)
    return module


@pytest.mark.parametrize("module", [tiny, grey])
def test_a_network_without_classes_and_one_that_sees_no_colours(photos, tmp_path, module) -> None:
    nameless = Network(module().eval(), "nameless", size=32)
    jobs, kept = made.jobs(nameless, made.layers(nameless), steps=1), made.Folder(tmp_path, nameless)
    list(made.draw(jobs, nameless, kept))
    page, shown = tmp_path / "nameless", site.Photographs(photos, ["dark", "light"])
    site.write(nameless, made.layers(nameless), jobs, kept, page, shown)
    assert data(page)["summary"][-1] == "no classes"
    assert not {"speaks", "lost"} & set(told(page, 1)[0])
    assert {"labels", "patches", "excited"} <= set(told(page, 1)[0])  # of the photographs
    assert ("two" in told(page, 1)[0]) == ("tuning" in told(page, 1)[0]) == (module is tiny)
