"""Running notebooks: real kernels on tiny notebooks, each of which costs a few seconds, so few of them."""

import asyncio
import html
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import nbformat
import pytest
import zmq
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from nbhelpers import notebooks
from nbhelpers.notebooks import arguments, batch, cli, execution, results_page

PARAMETERS = (
    'layer: str = "block3.conv2"  # dotted name of the layer\nsize: int | None = None\nchannels = [0, 1]  # maps'
)
DRAW = """\
from PIL import Image
from nbhelpers.notebooks import results_folder
Image.new("RGB", (8, 6), (200, 80, 20)).save(results_folder() / "picture.png")
print(layer, channels, size)"""
WIDGETS = """\
import ipywidgets as widgets
from IPython.display import display
class Shown(widgets.IntSlider):
    def _repr_mimebundle_(self, **options):
        return {**super()._repr_mimebundle_(**options), "image/png": "iVBORw0KGgo="}
slider, out = Shown(), widgets.Output()
def callback(change):
    with out:
        raise ZeroDivisionError("in the callback")
slider.observe(callback, "value")
slider.value = 3
display(slider)"""


def save(path: Path, *sources: str, title: str = "A title") -> Path:
    cells = [new_markdown_cell(f"# {title}"), new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
    nbformat.write(new_notebook(cells=cells + [new_code_cell(source) for source in sources]), path)
    return path


def printed(path: Path) -> str:
    return "".join(o.get("text", "") for c in notebooks.read(path).cells for o in c.get("outputs", []))


@pytest.fixture
def foreign_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user-level kernel that is called python3, too, and does not work."""
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": ["false"], "display_name": "other", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")


@pytest.mark.usefixtures("foreign_kernel")
def test_a_folder_is_run_to_its_end_whatever_fails(tmp_path: Path) -> None:
    folder, results = tmp_path / "notebooks", tmp_path / "results"
    folder.mkdir()
    save(folder / "1_breaks.ipynb", DRAW, "before = 1\nbefore / 0", "print('never')", title="It *breaks*")
    save(folder / "2_stopped.ipynb", "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)")
    save(folder / "3_works.ipynb", DRAW, "import os; print(os.path.basename(os.getcwd()))")

    ran = CliRunner().invoke(cli.run, [str(folder), "--results", str(results), "-p", "layer", "conv1"])

    assert ran.exit_code == 1
    lines = [line.split() for line in ran.output.splitlines()]
    assert [line[:2] for line in lines if line[:1] in (["ok"], ["FAILED"])] == [
        ["FAILED", "1_breaks_layer=conv1"],
        ["FAILED", "2_stopped_layer=conv1"],
        ["ok", "3_works_layer=conv1"],
    ]
    assert "before / 0" in ran.output
    assert "ZeroDivisionError: division by zero" in ran.output
    assert "KeyboardInterrupt" in ran.output
    assert "1 of 3 notebooks ran" in ran.output
    assert printed(results / "3_works_layer=conv1.ipynb") == "conv1 [0, 1] None\nnotebooks\n"
    broken = results / "1_breaks_layer=conv1.ipynb"
    assert printed(broken) == "conv1 [0, 1] None\n"  # what ran is kept, what came after did not run
    with Image.open(results / "1_breaks_layer=conv1" / "picture.png") as picture:
        assert picture.size == (8, 6)
    assert not list(results.glob(".*"))

    page = (results / "index.html").read_text()
    assert "3 notebooks" in page
    assert ", 2 failed" in page
    assert "<h2>It breaks</h2>" in page
    assert page.count('loading="lazy"') == 2
    assert "<tr class=given><td>layer</td><td>&quot;conv1&quot;</td>" in page
    for link in re.findall(r'href="([^"#]*)"', page):
        assert (results / urllib.parse.unquote(link)).exists()
    assert not re.search(r"https?://|<script", page)


def test_an_error_in_a_widgets_callback_is_a_failure(tmp_path: Path) -> None:
    outcome = batch.run(save(tmp_path / "widgets.ipynb", WIDGETS), results=tmp_path / "results")

    assert len(outcome.errors) == 1
    assert outcome.errors[0].startswith("in a widget (OutputModel)")
    assert "ZeroDivisionError: in the callback" in outcome.errors[0]
    executed = notebooks.read(outcome.executed)
    kinds = [set(output.data) for output in executed.cells[-1].outputs]
    assert kinds == [{"text/plain", "image/png"}]  # the slider's own view went: there is a picture beside it
    assert "widgets" not in executed.metadata


def test_an_interrupt_keeps_what_was_made_and_ends_the_kernel(tmp_path: Path) -> None:
    begin = "import os, pathlib, time; print(os.getpid(), layer)"
    slow = save(tmp_path / "slow.ipynb", begin, "pathlib.Path('begun').touch(); time.sleep(60)")
    results = tmp_path / "results"
    command = [sys.executable, "-m", "nbhelpers", "run", str(slow), str(slow), "--results", str(results)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for _ in range(600):
            if (tmp_path / "begun").exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=90)

    assert process.returncode == 130, output
    assert "interrupted" in output
    assert "Traceback" not in output
    kernel, layer = printed(results / "slow.ipynb").split()
    assert layer == "block3.conv2"
    with pytest.raises(ProcessLookupError):
        os.kill(int(kernel), 0)
    assert "failed after" in (results / "index.html").read_text()
    assert not list(results.glob(".*"))


def test_a_kernel_that_does_not_come_up_is_started_again(tmp_path: Path) -> None:
    class FailsOnce(execution.ThisPython):
        starts = 0

        async def _async_pre_start_kernel(self, **options: object) -> tuple[list[str], dict]:
            command, options = await super()._async_pre_start_kernel(**options)
            FailsOnce.starts += 1
            return (["false"] if FailsOnce.starts == 1 else command), options

    notebook, output = save(tmp_path / "port.ipynb", "print(6 * 7)"), tmp_path / "executed.ipynb"
    failures = execution.execute(notebook, output, {}, tmp_path, tmp_path, kernels=FailsOnce)
    assert (failures, FailsOnce.starts, printed(output)) == ([], 2, "42\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["-p", "chanels", "[1]"],
            "has no parameter 'chanels'; did you mean 'channels'? It has: layer, size, channels",
        ),
        (["-p", "zzz", "1"], "has no parameter 'zzz'; It has: layer, size, channels"),
        (["--update", "-p", "layer", "x"], "leave out -p"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_starts(tmp_path: Path, arguments: list[str], said: str) -> None:
    path = save(tmp_path / "n.ipynb", "print(1)")
    ran = CliRunner().invoke(cli.run, [str(path), "--results", str(tmp_path / "results"), *arguments])
    assert ran.exit_code == 2
    assert said in " ".join(ran.output.split())
    assert not (tmp_path / "results").exists()


def test_two_notebooks_of_one_name_are_refused_and_one_named_twice_runs_once(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "demo.ipynb", f"print('from {folder}')")
    before = (tmp_path / "b" / "demo.ipynb").read_bytes()
    command = ["--results", str(tmp_path / "results"), "--update"]
    ran = CliRunner().invoke(cli.run, [str(tmp_path / "a"), str(tmp_path / "b"), *command])
    assert ran.exit_code == 2
    assert "would both write" in ran.output
    assert "different --results" in " ".join(ran.output.split())
    assert not (tmp_path / "results").exists()

    again = CliRunner().invoke(cli.run, [str(tmp_path / "a"), str(tmp_path / "a" / "demo.ipynb"), *command])
    assert "1 of 1 notebooks ran" in again.output, again.output
    assert printed(tmp_path / "a" / "demo.ipynb") == "from a\n"
    assert (tmp_path / "b" / "demo.ipynb").read_bytes() == before


def test_files_that_are_no_notebooks_are_named(tmp_path: Path) -> None:
    (tmp_path / "n.ipynb").write_text("not JSON")
    with pytest.raises(ValueError, match=r"n\.ipynb is not a Jupyter notebook"):
        batch.run(tmp_path / "n.ipynb")
    with pytest.raises(FileNotFoundError, match=r"no notebook at .*m\.ipynb"):
        batch.run(tmp_path / "m.ipynb")
    (tmp_path / "empty").mkdir()
    assert "no notebooks in" in CliRunner().invoke(cli.run, [str(tmp_path / "empty")]).output


def test_parameters_are_plain_values(tmp_path: Path) -> None:
    path = save(tmp_path / "n.ipynb")
    assert arguments.check(path, {"channels": (3, 5)}) == {"channels": [3, 5]}  # papermill: the string "(3, 5)"
    with pytest.raises(ValueError, match="plain numbers"):
        arguments.check(path, {"layer": object()})


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("[1, 2]", [1, 2]), ("true", True), ("None", None), ("block3.conv2", "block3.conv2")],
)
def test_values_on_the_command_line(text: str, value: object) -> None:
    assert arguments.parse(text) == value


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        *(("2024", "str", "2024"), ("true", "str", "true"), ("None", "str", "None"), ("[1]", "str", "[1]")),
        *(("2024", "str | int", 2024), ("true", "str | int", "true"), ("0.5", "str | int", "0.5")),
        *(("3", "float", 3), ("3", "float | None", 3), ("None", "float | None", None), ("true", "bool", True)),
        *(("[0, 5]", "list[int]", [0, 5]), ("cat", "list[str] | str", "cat"), ('"2024"', "str", "2024")),
        *(("NaN", "float", "NaN"), ("Infinity", "", "Infinity"), ("1", "bool", "1"), ("{}", "dict[str, int]", {})),
    ],
)
def test_a_value_takes_the_type_that_is_declared(text: str, kind: str, value: object) -> None:
    found = arguments.parse(text, kind)
    assert (found, type(found)) == (value, type(value))


def test_each_notebook_says_what_is_meant(tmp_path: Path) -> None:
    source = "photos: str = ''\ntarget: str | int = ''\nname = 'x'\ncount = 3"
    path = tmp_path / "n.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source, metadata={"tags": ["parameters"]})]), path)
    words = [("photos", "2024"), ("target", "7"), ("name", "7"), ("count", "7")]
    assert arguments.given(path, words) == {"photos": "2024", "target": 7, "name": "7", "count": 7}


@pytest.mark.parametrize("value", [float("nan"), [1.0, float("inf")]])
def test_what_json_cannot_hold_is_no_parameter(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="plain numbers"):
        arguments.check(save(tmp_path / "n.ipynb"), {"channels": value})


def test_results_that_are_no_numbers_are_kept_as_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(notebooks.RESULTS_VARIABLE, str(tmp_path))
    notebooks.record(loss=float("nan"), curve=[1.0, float("-inf")], name="x")
    kept = (tmp_path / "results.json").read_text()
    assert json.loads(kept, parse_constant=pytest.fail) == {"loss": None, "curve": [1.0, None], "name": "x"}


def test_other_parameters_never_share_a_name() -> None:
    values = ["a/b", "a b", "a+b", "a-b", "a_b", ["a", "b"], "['a', 'b']x", "A/b"]
    assert len({batch._run_name("n", {"text": value}) for value in values}) == len(values)
    others = [
        {"a": 1},
        {"a": "1"},
        {"a": True},
        {"a": "True"},
        {"a": 1, "b": 2},
        {"a": "1_b=2"},
        {"a": [1]},
        {"a": "[1]"},
    ]
    assert len({batch._run_name("n", each) for each in others}) == len(others)


def test_a_run_is_named_after_its_parameters() -> None:
    assert batch._run_name("n", {}) == "n"
    assert batch._run_name("n", {"layer": "a.b", "size": 64}) == "n_layer=a.b_size=64"
    assert batch._run_name("n", {"layer": "a.b", "channels": [0, 1]}).startswith("n_layer=a.b_channels=-0-1-_")
    long = [batch._run_name("n", {"layers": ["x" * 200, end]}) for end in "ab"]
    assert len(set(long)) == 2
    assert all(len(name) <= 100 for name in long)


def test_the_parameters_are_read_from_the_source(tmp_path: Path) -> None:
    source = 'a: int | None = None  # first # one\nb = "#no comment"\nc = [\n    1,\n]  # last\nd: int\ne = f(1)'
    cell = new_code_cell(source, metadata={"tags": ["parameters"]})
    found = notebooks.parameters(new_notebook(cells=[cell]))
    assert [(p.name, p.value, p.comment) for p in found] == [
        ("a", None, "first # one"),
        ("b", "#no comment", ""),
        ("c", [1], "last"),
        ("e", "f(1)", ""),
    ]


def test_magics_among_the_parameters_are_passed_over() -> None:
    source = "%matplotlib inline\n!ls\na = 7 \\\n  % 4  # rest\nb = 2"
    cell = new_code_cell(source, metadata={"tags": ["parameters"]})
    found = notebooks.parameters(new_notebook(cells=[cell]))
    assert [(p.name, p.value, p.comment) for p in found] == [("a", "7 % 4", "rest"), ("b", 2, "")]


@pytest.mark.parametrize("option", [["-p", "layer", "x"], ["--list"]])
def test_parameters_that_are_no_python_are_named(tmp_path: Path, option: list[str]) -> None:
    for source, line in (("layer = 1\nsize = [1,", "line 2: "), ("layer = 1\n\nsize = = 3", "line 3: ")):
        cell = new_code_cell(source, metadata={"tags": ["parameters"]})
        nbformat.write(new_notebook(cells=[cell]), tmp_path / "typo.ipynb")
        ran = CliRunner().invoke(cli.run, [str(tmp_path / "typo.ipynb"), "--results", str(tmp_path / "r"), *option])
        assert ran.exit_code == 2
        said = " ".join(ran.output.split())
        assert "typo.ipynb: the parameters cell is not Python: " + line in said
        assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("model", "state", "wrong"),
    [
        ("HTMLModel", {"value": "<b>Ready</b>"}, False),
        ("HTMLModel", {"value": "<pre>ValueError: no such layer</pre>"}, True),
        ("HTMLModel", {"value": "Every Error: bar, explained"}, False),
        ("LabelModel", {"value": "Traceback (most recent call last):\n ..."}, True),
        ("OutputModel", {"outputs": [dict(new_output("stream", name="stdout", text="fine"))]}, False),
        ("OutputModel", {"outputs": [{"output_type": "error", "ename": "KeyError", "evalue": "'x'"}]}, True),
    ],
)
def test_errors_in_the_state_of_widgets(model: str, state: dict, wrong: bool) -> None:
    widgets = {notebooks.WIDGET_STATE: {"state": {"id": {"model_name": model, "state": state}}}}
    found = notebooks.errors(nbformat.from_dict({**new_notebook(metadata={"widgets": widgets})}))
    assert bool(found) == wrong


def test_a_traceback_of_another_thread_is_an_error() -> None:
    text = "Exception in thread Thread-4:\nTraceback (most recent call last):\n  ...\nValueError: x\n"
    cell = new_code_cell("start()", execution_count=2, outputs=[new_output("stream", name="stderr", text=text)])
    assert "ValueError: x" in notebooks.errors(new_notebook(cells=[cell]))[0]


def test_the_results_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebooks").mkdir()
    monkeypatch.delenv(notebooks.RESULTS_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path / "notebooks")
    assert notebooks.results_folder() == tmp_path / "results"
    monkeypatch.chdir(tmp_path)
    assert notebooks.results_folder() == tmp_path / "results"
    monkeypatch.setenv(notebooks.RESULTS_VARIABLE, str(tmp_path / "there"))
    assert notebooks.results_folder() == tmp_path / "there"
    assert (tmp_path / "there").is_dir()


def test_the_page_shows_recipes_and_survives_bad_pictures(tmp_path: Path) -> None:
    images = pytest.importorskip("nbhelpers.images")
    torch = pytest.importorskip("torch")
    images.save(torch.rand(3, 9, 12), tmp_path / "n" / "good.png", recipe={"layer": "<block1>", "seed": 7})
    (tmp_path / "n" / "bad.png").write_bytes(b"no picture")
    images.save(torch.rand(3, 160, 170), tmp_path / "n" / "flipped.png")
    before, second, after = (tmp_path / "n" / "flipped.png").read_bytes().rpartition(b"IDAT")
    (tmp_path / "n" / "flipped.png").write_bytes(before + b"\x00" + second[1:] + after)
    pictures = ["n/good.png", "n/bad.png", "n/flipped.png"]
    run = {"seconds": 1.5, "errors": [], "pictures": pictures, "parameters": []}
    nbformat.write(new_notebook(metadata={"nbhelpers": run}), tmp_path / "n.ipynb")
    page = results_page.write(tmp_path).read_text()
    assert "12 x 9" in page
    assert "&lt;block1&gt;" in page
    assert "bad.png cannot be shown" in page
    assert "flipped.png cannot be shown: n/flipped.png is a PNG of 170 x 160 pixels, but truncated or damaged" in page


# --- paths that lead nowhere, results that cannot be written


def refused(tmp_path: Path, *arguments: str) -> str:
    """What `nbhelpers run` says when it refuses; nothing has been executed."""
    ran = CliRunner().invoke(cli.run, list(arguments))
    assert ran.exit_code == 2, ran.exception
    assert "Traceback" not in ran.output
    assert not (tmp_path / "executed").exists()
    return " ".join(ran.output.split())


def test_what_is_no_notebook_is_said_at_every_door(odd_paths: dict[str, Path], tmp_path: Path) -> None:
    for path in odd_paths.values():
        for door in (notebooks.read, batch.run):
            with pytest.raises((ValueError, FileNotFoundError), match=r"no such file|is a [pdl]") as caught:
                door(path)
            assert len(str(caught.value)) < 700
        assert re.search(r"no such file|is a [pdl]", refused(tmp_path, str(path)))
    with pytest.raises(ValueError, match="is a folder, expected a file"):
        notebooks.read(tmp_path)
    (tmp_path / "nothing").mkdir()
    said = refused(tmp_path, *[str(tmp_path / "nothing")] * 1000)
    assert "and 995 more" in said


def test_results_that_cannot_be_written_are_refused_before_anything_is_executed(
    tmp_path: Path, ordinary_user: Callable[[Path], None]
) -> None:
    path = str(save(tmp_path / "n.ipynb", f"open({str(tmp_path / 'executed')!r}, 'w')"))
    (tmp_path / "taken").write_text("kept")
    for results in (tmp_path / "taken", tmp_path / "taken" / "inside"):
        said = refused(tmp_path, path, "--results", str(results))
        assert "taken is no folder, and results cannot lie in it; name another folder for the results" in said
    assert (tmp_path / "taken").read_text() == "kept"
    assert "cannot be written to" in refused(tmp_path, path, "--results", str(tmp_path / ("x" * 300)))
    for taken, folder in [("n", False), ("n.ipynb", True), ("n.html", True), ("index.html", True)]:
        results = tmp_path / f"with {taken}"
        (results / taken).mkdir(parents=True) if folder else results.mkdir()
        if not folder:
            (results / taken).write_text("kept")
        said = refused(tmp_path, path, "--results", str(results))
        assert f"{taken} stands where the results go: move it, or name another folder" in said
    (tmp_path / "read only").mkdir(mode=0o555)
    ordinary_user(tmp_path)
    said = refused(tmp_path, path, "--results", str(tmp_path / "read only"))
    assert "cannot be written to (Permission denied); name another folder for the results (--results)" in said
    with pytest.raises(ValueError, match=r"cannot be written to \(Permission denied\)"):
        batch.run(path, results=tmp_path / "read only")


def test_a_results_folder_that_is_a_file_is_said_in_the_notebook(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "taken").touch()
    monkeypatch.setenv(notebooks.RESULTS_VARIABLE, str(tmp_path / "taken"))
    with pytest.raises(ValueError, match="taken is no folder, and results cannot lie in it"):
        notebooks.results_folder()


def test_a_disk_that_is_full_is_said_in_words(tmp_path: Path, monkeypatch: Any) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device", "n.ipynb")

    monkeypatch.setattr(batch.execution, "execute", full)
    ran = CliRunner().invoke(cli.run, [str(save(tmp_path / "n.ipynb")), "--results", str(tmp_path / "results")])
    assert ran.exit_code == 1
    assert re.search(r"Error: what was made so far is in .*results, and then: .*No space left", ran.output, re.DOTALL)


def test_a_long_name_of_a_notebook_is_shortened_for_its_results(tmp_path: Path) -> None:
    name = batch._run_name("n" * 249, {})
    assert len(name) <= 100
    assert name != batch._run_name("n" * 248, {})


def test_the_page_shows_pictures_whose_recipe_no_technique_wrote(tmp_path: Path, odd_paths: dict[str, Path]) -> None:
    cases = hostile.NO_DATA | hostile.NO_RECIPE
    for name, (text, _) in cases.items():
        hostile.picture(tmp_path / "n" / f"{name}.png", text)
    run = {"seconds": 1.5, "errors": [], "pictures": [f"n/{name}.png" for name in cases], "parameters": []}
    run["pictures"].append("pipe.png")
    nbformat.write(new_notebook(metadata={"nbhelpers": run}), tmp_path / "n.ipynb")
    (tmp_path / "damaged.ipynb").write_text("{")
    os.mkfifo(tmp_path / "waiting.ipynb")
    page = results_page.write(tmp_path).read_text()
    assert page.count('loading="lazy"') == len(cases)
    assert "pipe.png cannot be shown: pipe.png is a pipe" in page
    assert "damaged.ipynb is not a Jupyter notebook" in page
    assert "waiting.ipynb is a pipe, expected a file" in page


@pytest.mark.parametrize("name", ["javascript:alert(1)", "50% grey #1?", 'a&b "c" <d>', "http:x"])
def test_links_lead_to_files_beside_the_page_whatever_they_are_called(tmp_path: Path, name: str) -> None:
    book = new_notebook(cells=[new_markdown_cell("# T")])
    book.metadata["nbhelpers"] = {"seconds": 1, "errors": [], "pictures": [f"{name}.png"], "parameters": []}
    nbformat.write(book, tmp_path / f"{name}.ipynb")
    Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    page = results_page.write(tmp_path).read_text()
    links = [html.unescape(link) for link in re.findall(r'href="([^"]*)"', page)]
    assert links
    base = (tmp_path / "index.html").as_uri()
    for link in links:
        there = urllib.parse.urlparse(urllib.parse.urljoin(base, link))
        assert there.scheme == "file"
        assert Path(urllib.parse.unquote(there.path)).is_file(), link


def test_who_reads_no_further_ends_a_list_quietly() -> None:
    command = [sys.executable, "-m", "nbhelpers", "run", "notebooks", "--list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()  # as `head` does when it has seen enough
        assert process.stderr.read() == ""


def test_a_reply_that_came_unnoticed_is_found() -> None:
    """Somebody else read that there is something, as happens once in thousands of cells: nobody is woken."""

    async def late() -> list[str]:
        kernels = execution.ThisPython()
        await kernels.start_kernel()
        client = kernels.client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=60)
            client.execute("import time; time.sleep(0.5)")
            reply = asyncio.ensure_future(client.shell_channel.get_msg())
            await asyncio.sleep(0.1)  # it waits
            time.sleep(3)  # the reply comes while nothing of this loop runs
            zmq.Socket.get(client.shell_channel.socket, zmq.EVENTS)
            done, _ = await asyncio.wait([reply], timeout=1)
            assert await client.is_alive()
            return ["noticed" if done else "unnoticed", (await asyncio.wait_for(reply, 10))["msg_type"]]
        finally:
            client.stop_channels()
            await kernels.shutdown_kernel(now=True)

    assert asyncio.run(late()) == ["unnoticed", "execute_reply"]
