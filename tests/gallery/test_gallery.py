"""The gallery page: what it is made from, and the page itself in a real browser, opened from the disk."""

import html
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import browser
import fsspec
import hostile
import nbformat
import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from nbhelpers import gallery, images
from nbhelpers.__main__ import main
from nbhelpers.gallery.columns import columns, natural, varies

LAYERS = ["conv10", "conv2", "conv1"]  # the sweep's own order, not the alphabet's
NOTEBOOK = "notebooks/01_activation_maximization.ipynb"
ODD = ["</script><script>document.title = 1</script>", "a & b", "quote \" and ' too", "ünï → 日本", "{{ 7 * 7 }}"]

pytestmark = pytest.mark.xdist_group("browser")


def save(path: Path, level: float = 0.5, recipe: dict[str, Any] | None = None, size: int = 16) -> None:
    images.save(torch.full((3, size, size), level), path, recipe=recipe)


def document(index: int = 0, **parameters: Any) -> dict[str, Any]:
    return {"recipe": "Kind", "parameters": {"seed": 0, **parameters}, "nbhelpers": "0.1.0", "index": index}


def write_job(folder: Path, name: str, parameters: dict[str, Any], **more: Any) -> Path:
    job = folder / "jobs" / name
    job.mkdir(parents=True)
    nbformat.write(new_notebook(), job / "notebook.ipynb")
    said = {"id": name, "notebook": NOTEBOOK, "parameters": parameters, "version": "0.1.0", **more}
    (job / "job.json").write_text(json.dumps(said))
    return job


def write_sweep(folder: Path, axes: dict[str, list], fixed: dict[str, Any], **more: Any) -> None:
    sweep = {
        "name": "Three layers",
        "notebook": NOTEBOOK,
        "version": "0.1.0",
        "fixed": fixed,
        "axes": axes,
        "zipped": [],
    }
    (folder / "sweep.json").write_text(json.dumps(sweep | more))


def small_sweep(folder: Path) -> Path:
    """Three layers by four channels, one picture each; the job of conv2, channel 3 has failed."""
    folder.mkdir(parents=True)
    write_sweep(folder, {"layer": LAYERS, "channels": [[0], [1], [2], [3]]}, {"steps": 24})
    for row, layer in enumerate(LAYERS):
        for channel in range(4):
            parameters = {"steps": 24, "layer": layer, "channels": [channel]}
            if (layer, channel) == ("conv2", 3):
                error = new_output("error", ename="ValueError", traceback=["ValueError: no such <channel>"])
                cell = new_code_cell("climb()", execution_count=1, outputs=[error])
                (folder / "failed").mkdir()
                broken = new_notebook(cells=[cell], metadata={"papermill": {"parameters": parameters}})
                nbformat.write(broken, folder / "failed" / "ab12.ipynb")
                continue
            words = f"nbhelpers run {NOTEBOOK} -p steps 24 -p layer {layer} -p channels '[{channel}]'"
            score = 10.0 * row - channel + 0.123456
            job = write_job(folder, f"{row}{channel}", parameters, seconds=2.5, command=words, results={"score": score})
            save(job / f"picture-{channel}.png", 0.1 + 0.2 * row, document(**parameters))
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small_sweep(tmp_path_factory.mktemp("results") / "three layers & #1")
    gallery.write(folder)
    return folder


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    clipboard = ["clipboard-read", "clipboard-write"]
    with browser.page(chromium, "about:blank", width=1200, height=800, permissions=clipboard) as page:
        yield page


def shown(page: Any) -> list[str]:
    """The captions of the pictures, in order."""
    return page.locator("#grid .card span:first-of-type").all_text_contents()


def data_in(page: Path) -> dict[str, Any]:
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])


# --- in the browser


def test_filter_sort_click_and_back(sweep: Path, page: Any) -> None:
    page.goto((sweep / "index.html").as_uri())
    everything = [f"{layer} · channel {c}" for layer in LAYERS for c in range(4) if (layer, c) != ("conv2", 3)]
    assert shown(page) == everything
    assert page.locator("h1").text_content() == "Three layers"
    about = "11 pictures · 01_activation_maximization · 3 layers by 4 channels · 11 jobs, 28 s of work"
    assert page.locator("header .dim").text_content() == about
    page.wait_for_function("[...document.images].filter(i => i.naturalWidth).length >= 11")

    page.locator("summary", has_text="layer").click()
    choices = page.locator('[data-name="layer"] .choices label')
    choices.nth(2).wait_for()
    assert choices.all_text_contents() == ["conv104", "conv23", "conv14"]  # value and how many, in the sweep's order
    choices.nth(0).click()
    choices.nth(2).click()
    assert shown(page) == [line for line in everything if "conv2 " not in line]
    assert page.locator("#count").text_content() == "8 of 11"
    page.keyboard.press("Escape")
    assert not choices.first.is_visible()

    page.locator("#sort").select_option("score")
    page.locator("#down").click()
    assert shown(page)[:2] == ["conv1 · channel 0", "conv1 · channel 1"]
    assert page.locator(".card span:nth-of-type(2)").first.text_content() == "score 20.12"

    page.locator(".card").nth(1).click()
    dialog = page.locator("dialog")
    assert dialog.locator("h2").text_content() == "conv1 · channel 1"
    rows = dict(row.split("\t") for row in dialog.locator("#varied").inner_text().splitlines())
    assert rows == {"layer": "conv1", "channel": "1", "score": "19.12", "seconds": "2.5"}
    page.wait_for_function("document.querySelector('#large').naturalWidth === 16")
    linked = unquote(page.locator("#notebook").evaluate("link => new URL(link.href).pathname"))
    assert Path(linked) == sweep / "jobs" / "21" / "notebook.ipynb"
    again = dialog.locator("#again pre").all_text_contents()
    assert again[0] == f"nbhelpers run {NOTEBOOK} -p steps 24 -p layer conv1 -p channels '[1]'"
    assert again[1] == f"nbhelpers replay '{sweep}/jobs/21/picture-1.png'"
    dialog.get_by_role("button", name="copy").first.click()
    dialog.get_by_role("button", name="copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == again[0]
    inside = images.read_recipe(sweep / "jobs" / "21" / "picture-1.png")
    dialog.locator("#recipe summary").click()
    assert json.loads(dialog.locator("#recipe pre").text_content()) == inside

    page.keyboard.press("ArrowRight")
    assert dialog.locator("h2").text_content() == "conv1 · channel 2"
    copied_address = page.url
    page.go_back()  # closes the picture; the filter stays
    page.wait_for_function("!document.querySelector('dialog').open")
    assert len(shown(page)) == 8
    for expected in ("score", "", ""):  # the sorting's direction, the sorting, then one filter after the other
        page.go_back()
        assert page.locator("#sort").input_value() == expected
    assert shown(page) == [line for line in everything if "conv10" in line]
    page.go_back()
    assert shown(page) == everything

    page.goto(copied_address)  # an address brings all of it back
    page.reload()
    assert dialog.locator("h2").text_content() == "conv1 · channel 2"
    page.keyboard.press("Escape")
    page.wait_for_function("!document.querySelector('dialog').open")
    assert len(shown(page)) == 8
    page.locator("#clear").click()
    assert len(shown(page)) == 11


def test_contact_sheet_has_headings_and_says_what_failed(sweep: Path, page: Any) -> None:
    page.goto((sweep / "index.html").as_uri())
    page.get_by_role("button", name="Contact sheet").click()
    table = page.get_by_role("table", name="layer by channel")
    assert table.get_by_role("columnheader").all_text_contents() == ["layer ↓  channel →", "0", "1", "2", "3"]
    assert table.get_by_role("rowheader").all_text_contents() == LAYERS
    cell = table.locator("tbody tr").nth(2).locator("td").nth(1)
    assert cell.locator("a").get_attribute("title") == "conv1 · channel 1"
    failed = table.locator("tbody tr").nth(1).locator("td").nth(3).get_by_role("link")
    assert failed.text_content() == "failed"
    assert (sweep / unquote(failed.get_attribute("href"))).exists()

    page.locator("#swap").click()
    assert page.get_by_role("rowheader").all_text_contents() == ["0", "1", "2", "3"]
    page.locator("tbody tr").nth(1).locator("td").nth(2).locator("a").click()
    assert page.locator("dialog h2").text_content() == "conv1 · channel 1"
    page.go_back()
    page.go_back()
    assert page.get_by_role("rowheader").all_text_contents() == LAYERS

    page.locator("#failed summary").click()
    assert "ab12 layer conv2 channels [3] ValueError: no such <channel>" in page.locator("#failed li").inner_text()


def test_everything_is_reached_by_keyboard(sweep: Path, page: Any) -> None:
    page.goto((sweep / "index.html").as_uri() + "#view=sheet")
    focus = "document.activeElement.title"
    page.locator("tbody a").first.focus()
    for key, expected in [
        ("ArrowRight", "conv10 · channel 1"),
        ("ArrowDown", "conv2 · channel 1"),
        ("ArrowDown", "conv1 · channel 1"),
        ("ArrowLeft", "conv1 · channel 0"),
        ("ArrowUp", "conv2 · channel 0"),
    ]:
        page.keyboard.press(key)
        assert page.evaluate(focus) == expected
    page.keyboard.press("Enter")
    page.locator("dialog h2").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_function("!document.querySelector('dialog').open")
    assert page.evaluate(focus) == "conv2 · channel 0"

    page.locator('[data-name="channel"] summary').focus()
    page.keyboard.press("Enter")
    page.locator('[data-name="channel"] .choices label').first.wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")  # the focus is still in the list, though it was drawn anew
    page.keyboard.press("Space")
    assert page.locator("#count").text_content() == "6 of 11"
    assert page.get_by_role("columnheader").all_text_contents()[1:] == ["0", "1"]


def test_many_values_are_searched_and_numbers_have_a_range(tmp_path: Path, page: Any) -> None:
    for number in range(30):
        save(tmp_path / f"{number}.png", number / 30, document(strength=number / 10, layer=f"block{number}"))
    save(tmp_path / "plain.png", 1.0)  # without a recipe
    page.goto(gallery.write(tmp_path).as_uri())
    page.locator('[data-name="strength"] summary').click()
    page.get_by_label("strength from").fill("1.5")
    page.keyboard.press("Enter")
    page.get_by_label("strength to").fill("1.8")
    page.keyboard.press("Tab")
    assert shown(page) == [f"strength 1.{n} · block1{n}" for n in range(5, 9)]
    page.locator('[data-name="layer"] summary').click()
    page.get_by_label("find a value of layer").fill("K17")
    page.locator('[data-name="layer"] .choices label').click()
    assert shown(page) == ["strength 1.7 · block17"]
    page.reload()
    assert shown(page) == ["strength 1.7 · block17"]
    page.locator("#clear").click()
    page.locator("#sort").select_option("strength")
    assert shown(page)[0] == "strength 0.0 · block0"
    assert shown(page)[-1] == "plain.png"
    page.locator("#down").click()
    assert shown(page)[0] == "strength 2.9 · block29"
    assert shown(page)[-1] == "plain.png"  # what has no value is last either way


def test_odd_values_are_shown_as_they_are(tmp_path: Path, page: Any) -> None:
    for number, value in enumerate(ODD):
        save(
            tmp_path / f"{number} #?%20'é.png", 0.5, document(constructor=value, __proto__=number, huge=2**60 + number)
        )
    page.goto(gallery.write(tmp_path).as_uri())
    assert page.title() == tmp_path.name
    assert sorted(shown(page)) == sorted(f"{value} · __proto__ {n} · huge {2**60 + n}" for n, value in enumerate(ODD))
    page.wait_for_function("[...document.images].filter(i => i.naturalWidth).length >= 5")
    page.locator('[data-name="constructor"] summary').click()
    page.locator(".choices label", has_text="</script>").click()
    page.locator(".card").click()
    assert json.loads(page.locator("#recipe pre").text_content()) == images.read_recipe(tmp_path / "0 #?%20'é.png")
    page.wait_for_function("document.querySelector('#large').naturalWidth === 16")
    assert page.locator("#full").evaluate("link => decodeURIComponent(new URL(link.href).pathname)").endswith("'é.png")
    page.reload()
    assert page.locator("dialog h2").text_content().startswith(ODD[0])


def test_a_page_made_through_an_address_names_no_copy(tmp_path: Path, page: Any) -> None:
    save(write_job(tmp_path, "ab", {"seed": 3}, command="nbhelpers run") / "a.png", 0.5, document(seed=3))
    page.goto(gallery.write(tmp_path.as_uri()))
    page.locator(".card").click()
    assert page.locator("#again pre").all_text_contents() == ["nbhelpers run"]
    assert page.locator("#recipe").is_visible()


# --- what it is made from


def test_a_rerun_makes_only_what_changed(tmp_path: Path) -> None:
    folder = small_sweep(tmp_path / "sweep")
    gallery.write(folder)
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "thumbnails").iterdir()}
    assert len(before) == 11
    shutil.rmtree(folder / "jobs" / "00")
    save(folder / "jobs" / "01" / "picture-1.png", 0.9, document(layer="conv10", channels=[1]))
    gallery.write(folder)
    after = {path.name: path.stat().st_mtime_ns for path in (folder / "thumbnails").iterdir()}
    assert len(after) == 10
    assert len(after.items() & before.items()) == 9
    assert set(data_in(folder / "index.html")["small"]) == set(after)


def test_the_page_names_no_place_and_asks_no_server(sweep: Path) -> None:
    text = (sweep / "index.html").read_text()
    assert "http:" not in text
    assert "https:" not in text
    told = data_in(sweep / "index.html")
    assert all((sweep / unquote(name)).is_file() for name in told["src"])
    assert all((sweep / "thumbnails" / name).is_file() for name in told["small"])


def test_only_what_can_be_made_again_alone_says_how(tmp_path: Path, page: Any) -> None:
    alone, figure = document(), document()
    del figure["index"]
    save(tmp_path / "1-alone.png", recipe=alone)
    save(tmp_path / "2-figure.png", recipe=figure)
    page.goto(gallery.write(tmp_path).as_uri())
    for number, commands in enumerate(([f"nbhelpers replay {tmp_path}/1-alone.png"], [])):
        page.locator(".card").nth(number).click()
        assert page.locator("#again pre").all_text_contents() == commands
        assert page.locator("#recipe summary").is_visible()
        page.keyboard.press("Escape")


def test_damage_is_listed_and_the_rest_is_shown(tmp_path: Path) -> None:
    folder = small_sweep(tmp_path / "sweep")
    (folder / "jobs" / "00" / "job.json").write_text('{"id": ')
    (folder / "jobs" / "01" / "picture-1.png").write_bytes(b"no picture")
    flipped = folder / "jobs" / "02" / "picture-2.png"
    images.save(torch.rand(3, 160, 170), flipped)
    before, second, after = flipped.read_bytes().rpartition(b"IDAT")
    flipped.write_bytes(before + b"\x00" + second[1:] + after)
    (folder / "jobs" / ".partial").mkdir()
    save(folder / "jobs" / ".partial" / "half.png")
    save(folder / "jobs" / "ef56" / "partial.png")  # no job.json beside it: not whole
    (folder / "failed" / "cd34.ipynb").write_text("{")
    page = gallery.write(folder)
    assert len(data_in(page)["src"]) == 9
    text = html.unescape(page.read_text())
    assert "2 files that cannot be shown" in text
    assert "jobs/02/picture-2.png is a PNG of 170 x 160 pixels, but truncated or damaged" in text
    assert "2 failed jobs" in text
    assert "partial" not in text


def test_pictures_of_one_recipe_are_found_by_their_own_channel(tmp_path: Path) -> None:
    for chunk in ([0, 1, 2], [3, 4, 5]):
        job = write_job(tmp_path, f"job{chunk[0]}", {"channels": chunk})
        for index, channel in enumerate(chunk):
            save(job / f"{channel}.png", 0.5, document(index, channels=chunk))
    write_sweep(tmp_path, {"channels": [[0, 1, 2], [3, 4, 5], [6, 7, 8]]}, {}, name="chunks")
    told = data_in(gallery.write(tmp_path))
    assert told["facets"] == [["parameters", "channel"]]
    assert told["parameters"]["channel"]["values"] == ["0", "1", "2", "3", "4", "5"]
    assert told["recipe"]["channels"]["values"] == ["[0, 1, 2]", "[3, 4, 5]"]


def test_pictures_in_a_folder_of_their_own_belong_to_their_job(tmp_path: Path) -> None:
    job = write_job(tmp_path, "ab", {"seed": 3}, command="again")
    save(job / "frames" / "late" / "a.png", 0.5, document())
    write_sweep(tmp_path, {"seed": [3]}, {})
    told = data_in(gallery.write(tmp_path))
    assert told["src"] == ["jobs/ab/frames/late/a.png"]
    assert told["parameters"]["seed"]["values"] == ["3"]
    assert told["job"]["executed"]["values"] == ['"../../notebook.ipynb"']
    (job / "notebook.html").write_text("the page that a sweep writes beside it")
    assert data_in(gallery.write(tmp_path))["job"]["executed"]["values"] == ['"../../notebook.html"']


def test_a_failed_job_opens_as_its_page_if_it_came_to_one(tmp_path: Path) -> None:
    sweep = small_sweep(tmp_path / "sweep")
    assert [each["link"] for each in data_in(gallery.write(sweep))["failed"]] == ["./failed/ab12.ipynb"]
    (sweep / "failed" / "ab12.html").write_text("the page that a sweep writes beside it")
    assert [each["link"] for each in data_in(gallery.write(sweep))["failed"]] == ["./failed/ab12.html"]


def test_values_that_vary_together_are_one_axis(tmp_path: Path) -> None:
    for number in range(4):
        given = {"network": "ab"[number // 2], "layer": "xy"[number // 2], "seed": number % 2}
        save(write_job(tmp_path, f"j{number}", given) / "p.png", 0.5, document(**given))
    write_sweep(
        tmp_path, {"network": ["a", "b"], "layer": ["x", "y"], "seed": [0, 1]}, {}, zipped=[["network", "layer"]]
    )
    assert data_in(gallery.write(tmp_path))["sheet"] == ["network", "seed"]


def test_numbers_that_json_does_not_have(tmp_path: Path) -> None:
    for number, score in enumerate([float("nan"), float("inf"), 1.5]):
        job = write_job(tmp_path, f"j{number}", {"seed": number}, results={"score": score, "nested": {"no": 1}})
        save(job / "p.png", 0.5, document(seed=number))
    assert data_in(gallery.write(tmp_path))["results"]["score"]["values"] == ["1.5", '"inf"', '"nan"']


def test_a_page_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    save(tmp_path / "01_notebook" / "a.png", 0.5, document())
    nbformat.write(new_notebook(), tmp_path / "01_notebook.ipynb")
    (tmp_path / "index.html").write_text("<title>what the batch wrote</title>")
    page = gallery.write(tmp_path)
    assert page.name == "gallery.html"
    assert (tmp_path / "index.html").read_text() == "<title>what the batch wrote</title>"
    assert data_in(page)["job"]["executed"]["values"] == ['"../01_notebook.ipynb"']
    (tmp_path / "01_notebook.html").write_text("the page that `nbhelpers run` writes beside it")
    assert data_in(gallery.write(tmp_path))["job"]["executed"]["values"] == ['"../01_notebook.html"']


def test_the_command_is_typed_where_this_one_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "my results" / "a.png", 0.5, document())
    monkeypatch.chdir(tmp_path)
    assert data_in(gallery.write("my results"))["folder"] == "my results/"
    monkeypatch.chdir(tmp_path / "my results")
    assert data_in(gallery.write("."))["folder"] == ""


def test_an_address_has_its_page_beside_it(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    files.put(str(small_sweep(tmp_path / "sweep")), "/bucket/", recursive=True)
    page = gallery.write("memory://bucket/sweep")
    assert page == "memory://bucket/sweep/index.html"
    names = {name.removeprefix("/bucket/sweep/") for name in files.find("/bucket/sweep")}
    text = files.cat_file("/bucket/sweep/index.html").decode()
    told = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert len(told["src"]) == 11
    assert {f"thumbnails/{name}" for name in told["small"]} | set(told["src"]) <= names
    assert str(tmp_path) not in text
    assert told["folder"] is None
    files.pipe_file("/bucket/empty/note.ipynb", b"{}")
    with pytest.raises(ValueError, match="memory://bucket/empty holds no PNG"):
        gallery.write("memory://bucket/empty")
    files.rm("/bucket", recursive=True)
    with pytest.raises(FileNotFoundError, match="no pictures at memory://bucket/nothing"):
        gallery.write("memory://bucket/nothing")


def test_an_address_that_needs_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    ran = CliRunner().invoke(main, ["gallery", "s3://bucket/x"])
    assert ran.exit_code == 2
    assert "s3://bucket/x cannot be read: Install s3fs" in " ".join(ran.output.split())


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda path: None, FileNotFoundError, "no such file"),
        (lambda path: path.write_text("x"), ValueError, "is a file, expected a folder"),
        (lambda path: path.mkdir(), ValueError, "holds no PNG to show"),
    ],
)
def test_folders_that_cannot_be_shown(tmp_path: Path, make: Any, error: type, said: str) -> None:
    make(tmp_path / "there")
    with pytest.raises(error, match=said):
        gallery.write(tmp_path / "there")


def test_jobs_without_a_picture_are_listed(tmp_path: Path) -> None:
    write_sweep(tmp_path, {"layer": LAYERS}, {}, jobs=["a", "b", "c"])
    text = gallery.write(tmp_path).read_text()
    assert "0 pictures · 01_activation_maximization · 0 of 3 jobs" in text
    write_job(tmp_path, "b", {"layer": "conv2"}, varied={"layer": "conv2"}, seconds=70.4)
    text = gallery.write(tmp_path).read_text()
    assert "1 of 3 jobs, 1 min 10 s of work" in text
    listed = re.search(r'1 job without a picture.*?<a href="(.*?)">b</a>\s*<span>layer conv2</span>', text, re.DOTALL)
    assert (tmp_path / listed[1]).exists()


def test_jobs_that_the_sweep_no_longer_asks_for_are_passed_over(tmp_path: Path) -> None:
    folder = small_sweep(tmp_path / "sweep")
    write_job(folder, "bare", {"layer": "conv1"}, seconds=2.5)
    asked = [f"{row}{channel}" for row in range(2) for channel in range(3)]
    write_sweep(folder, {"layer": LAYERS[:2], "channels": [[0], [1], [2]]}, {"steps": 24}, jobs=asked)
    before = sorted(folder.glob("*/*/*"))
    page = gallery.write(folder)
    assert data_in(page)["src"] == [f"jobs/{row}{channel}/picture-{channel}.png" for row in "01" for channel in "012"]
    assert data_in(page)["failed"] == []
    text = page.read_text()
    assert "2 layers by 3 channels · 6 jobs, 15 s of work" in text
    assert "failed job" not in text
    assert "without a picture" not in text
    assert sorted(folder.glob("*/*/*")) == before
    assert (folder / "failed" / "ab12.ipynb").exists()


def test_pictures_of_all_kinds_are_made_small(tmp_path: Path) -> None:
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"):
        Image.new(mode, (700, 350)).save(tmp_path / f"{mode.replace(';', '')}.png")
    told = data_in(gallery.write(tmp_path))
    assert told["width"] == [700] * 7
    for name in told["small"]:
        with Image.open(tmp_path / "thumbnails" / name) as small:
            assert small.size == (320, 160)


# --- columns

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), plain, max_size=3), max_size=8))
def test_columns_hold_what_the_rows_held(rows: list[dict[str, Any]]) -> None:
    made = columns(rows)
    assert list(made) == list(dict.fromkeys(name for row in rows for name in row))
    for name, column in made.items():
        assert len(set(column["values"])) == len(column["values"])
        places = column.get("of", [0] * len(rows))
        for row, place in zip(rows, places, strict=True):
            expected = json.dumps(row[name], ensure_ascii=False) if name in row else None
            assert (column["values"][place] if place >= 0 else None) == expected
        assert varies(column) == (len({json.dumps(row[name]) for row in rows if name in row}) > 1)


@given(st.lists(st.integers(0, 10**6), unique=True), st.text("abc.", max_size=3))
def test_values_stand_in_the_order_people_expect(numbers: list[int], word: str) -> None:
    texts = [f"{word}{number}" for number in numbers]
    assert sorted(texts, key=natural) == [f"{word}{number}" for number in sorted(numbers)]
    made = columns([{"x": number} for number in numbers])
    assert [json.loads(value) for value in made["x"]["values"]] == sorted(numbers) if numbers else made == {}


@given(st.permutations(["q", "b", "a", "z"]))
def test_axes_keep_their_own_order(order: list[str]) -> None:
    made = columns([{"x": value} for value in "abqz"], {"x": order})
    assert made["x"]["values"] == [json.dumps(value) for value in order]


def test_paths_are_shown_without_what_they_share() -> None:
    made = columns([{"photo": f"../photos/{name}"} for name in ("a/1.jpg", "b/1.jpg")])
    assert made["photo"]["labels"] == ["a/1.jpg", "b/1.jpg"]
    assert "labels" not in columns([{"layer": "a"}, {"layer": "b"}])["layer"]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(blacklist_categories=["Cs"]), max_size=20))
def test_any_text_survives_the_page(tmp_path: Path, text: str) -> None:
    save(tmp_path / "a.png", 0.5, document(word=text))
    write_sweep(tmp_path, {"word": [text]}, {}, name=f"n{text}")
    page = gallery.write(tmp_path)
    assert data_in(page)["parameters"]["word"]["values"] == [json.dumps(text, ensure_ascii=False)]
    os.utime(page)


# --- folders that are none, or that hold what no technique wrote


def test_pictures_with_recipes_that_no_technique_wrote_are_shown(tmp_path: Path) -> None:
    cases = hostile.NO_DATA | hostile.NO_RECIPE
    for name, (text, _) in cases.items():
        hostile.picture(tmp_path / f"{name}.png", text)
    save(tmp_path / "sound.png", 0.5, document(seed=3))
    told = data_in(gallery.write(tmp_path))
    assert len(told["src"]) == len(cases) + 1
    assert told["parameters"]["seed"]["values"][0] == "3"


def test_no_folder_is_said(odd_paths: dict[str, Path], tmp_path: Path) -> None:
    for path in [*odd_paths.values(), tmp_path / "photo.png"]:
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            gallery.write(path)
        assert len(str(caught.value)) < 700
        ran = CliRunner().invoke(main, ["gallery", str(path)])
        assert (ran.exit_code, "Traceback" in ran.output) == (2, False), ran.exception


def test_what_only_looks_like_a_picture_is_listed(odd_paths: dict[str, Path], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sweep.json")
    os.mkfifo(tmp_path / "index.html")
    (tmp_path / "failed").mkdir()
    os.mkfifo(tmp_path / "failed" / "ab.ipynb")
    save(tmp_path / "sound.png", 0.5, document(seed=3))
    save(tmp_path / "renamed.png")
    (tmp_path / "renamed.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    page = gallery.write(tmp_path)
    assert page.name == "gallery.html"
    assert data_in(page)["src"] == ["sound.png"]
    text = html.unescape(page.read_text())
    for name, said in [
        ("pipe.png", "pipe.png is a pipe, expected a file"),
        ("here.png", "here.png is a link that leads in a circle"),
        ("dangling.png", "dangling.png is a link to gone.png, which is not there"),
        ("photo.png", "photo.png is not a picture"),
        ("caf?.png", "its name is not in UTF-8"),
    ]:
        assert re.search(rf"<li>{re.escape(name)} .*{re.escape(said)}", text), name


def test_a_folder_that_may_not_be_written_to_says_so(tmp_path: Path, ordinary_user: Any) -> None:
    for name in ("closed", "small"):
        save(tmp_path / name / "a.png", 0.5, document())
    (tmp_path / "small" / "thumbnails").write_text("a file")
    with pytest.raises(ValueError, match=r"thumbnails is no folder.*; the page and its small pictures go there"):
        gallery.write(tmp_path / "small")
    (tmp_path / "closed").chmod(0o555)
    ordinary_user(tmp_path)
    with pytest.raises(ValueError, match=r"closed cannot be written to \(Permission denied\); the page and its small"):
        gallery.write(tmp_path / "closed")
    ran = CliRunner().invoke(main, ["gallery", str(tmp_path / "closed")])
    assert ran.exit_code == 2
    assert "cannot be written to (Permission denied)" in " ".join(ran.output.split())
    assert "holds no PNG" not in ran.output


def test_pictures_that_are_all_damaged_are_not_called_missing(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"holds 9 PNGs, and none can be shown; (.|\n)*- 4\.png.*\nand 4 more$"):
        gallery.write(tmp_path)


def test_what_was_measured_of_pictures_is_a_column_to_sort_by(tmp_path: Path) -> None:
    for index, saturation in enumerate([0.3, 0.12]):
        told = {"measured": {"saturation": saturation, "burnt out": 0.0, "contrast": 0.25}}
        save(tmp_path / f"{index}.png", 0.5, document() | told)
    data = data_in(gallery.write(tmp_path))
    assert data["results"]["saturation"]["values"] == ["0.12", "0.3"]
    assert "measured" not in data["document"]
