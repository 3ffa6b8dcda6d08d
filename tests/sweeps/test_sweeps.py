"""Sweeps without a cluster: what a YAML file means, where results go, the record, and one job at a time."""

import contextlib
import errno
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import nbformat
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from pydantic import ByteSize, TypeAdapter

from nbhelpers import __version__, notebooks
from nbhelpers.__main__ import main
from nbhelpers.notebooks import arguments
from nbhelpers.sweeps import clusters, imports, plan, processes, store, values
from nbhelpers.sweeps.clusters import Settings
from nbhelpers.sweeps.manifest import DONE, FAILED, QUEUED, RUNNING, Lock, Manifest
from nbhelpers.sweeps.plan import Job
from nbhelpers.sweeps.record import Sweep
from nbhelpers.sweeps.work import STOPPED, Shared, work

DECLARED = 'layer: str = "a"\nchannels: list = [0]\nseed: int = 0\nphoto: str = ""'


def save(path: Path, *sources: str) -> Path:
    cells = [new_markdown_cell("# A title"), new_code_cell(DECLARED, metadata={"tags": ["parameters"]})]
    nbformat.write(new_notebook(cells=cells + [new_code_cell(source) for source in sources]), path)
    return path


def sweep_file(folder: Path, text: str) -> Path:
    save(folder / "note.ipynb", "print(layer, channels, seed)")
    (folder / "s.yaml").write_text(text)
    return folder / "s.yaml"


# --- the YAML file


def test_a_file_becomes_every_combination_in_the_order_it_gives(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.jpg", "a.txt"):
        (tmp_path / name).touch()
    text = """\
notebook: note.ipynb
fixed: {layer: conv}
grid:
  seed: 0..511 step 256
  photo: {files: "*.jpg"}
zipped: [{channels: [[1], [2, 3]]}]
threads: 2
timeout: 1e2
memory: 1.5 GB
"""
    found = plan.read(sweep_file(tmp_path, text))
    assert [job.varied for job in found.jobs] == [
        {"seed": seed, "photo": photo, "channels": channels}
        for seed in (0, 256)
        for photo in ("a.jpg", "b.jpg")
        for channels in ([1], [2, 3])
    ]
    assert all(job.parameters == {"layer": "conv", **job.varied} for job in found.jobs)
    assert found.axes == {"seed": [0, 256], "photo": ["a.jpg", "b.jpg"], "channels": [[1], [2, 3]]}
    assert (found.name, found.threads, found.timeout, found.memory) == ("s", 2, 100, 1_500_000_000)


def test_zipped_lists_go_together(tmp_path: Path) -> None:
    text = "notebook: note.ipynb\ngrid: {seed: [1, 2]}\nzipped: {layer: [x, y], photo: [u, v]}"
    found = plan.read(sweep_file(tmp_path, text))
    assert [tuple(job.varied.values()) for job in found.jobs] == [
        (1, "x", "u"),
        (1, "y", "v"),
        (2, "x", "u"),
        (2, "y", "v"),
    ]
    assert found.zipped == [["layer", "photo"]]


def test_a_jobs_name_follows_what_it_computes(tmp_path: Path) -> None:
    text = "notebook: note.ipynb\nfixed: {layer: x}\ngrid: {seed: [1, 2]}"
    before = [job.id for job in plan.read(sweep_file(tmp_path, text)).jobs]
    assert len(set(before)) == 2
    # neither the order of the lines nor outputs change it
    notebook = notebooks.read(tmp_path / "note.ipynb")
    notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", text="x")]
    nbformat.write(notebook, tmp_path / "note.ipynb")
    (tmp_path / "s.yaml").write_text("grid: {seed: [1], layer: [x]}\nnotebook: note.ipynb")
    assert plan.read(tmp_path / "s.yaml").jobs[0].id == before[0]
    # the code does, and so does the version
    save(tmp_path / "note.ipynb", "print(2)")
    assert plan.read(tmp_path / "s.yaml").jobs[0].id != before[0]


def test_the_version_is_part_of_a_jobs_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sweep_file(tmp_path, "notebook: note.ipynb\ngrid: {seed: [1]}")
    before = plan.read(path).jobs[0].id
    monkeypatch.setattr(plan, "__version__", "another")
    assert plan.read(path).jobs[0].id != before


@given(
    first=st.integers(-1000, 1000),
    count=st.integers(1, 50),
    step=st.integers(-20, 20).filter(bool),
    chunk=st.integers(1, 9),
)
@settings(max_examples=50, deadline=None)
def test_ranges_hold_what_pythons_do(first: int, count: int, step: int, chunk: int) -> None:
    last = first + step * (count - 1)
    expected = list(range(first, last + (1 if step > 0 else -1), step))
    assert values.spelled_out("x", f"{first}..{last} step {step}", Path()) == expected
    if step == 1:
        in_chunks = values.spelled_out("x", f"{first}..{last} in chunks of {chunk}", Path())
        assert [number for part in in_chunks for number in part] == expected
        assert [len(part) for part in in_chunks[:-1]] == [chunk] * (len(in_chunks) - 1)


@pytest.mark.parametrize("unit", ["B", "kB", "KiB", "MB", "MiB", "GB", "gib", "TB", "TiB"])
def test_amounts_of_memory_are_pydantics(unit: str) -> None:
    for amount in (f"7{unit}", f"1.5 {unit}", f"  300  {unit} "):
        assert values.in_bytes(amount) == TypeAdapter(ByteSize).validate_python(amount.strip())


@pytest.mark.parametrize(
    "amount", [4, "4", "4,5 GB", "4 GB or so", "-1 GB", "0 GB", "0.5", "GB", "4 apples", "nan", True]
)
def test_what_is_no_amount_of_memory_is_refused(amount: object) -> None:
    with pytest.raises(ValueError, match="memory is a number with a unit"):
        values.in_bytes(amount)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("1e-3", 0.001), ("1.5", 1.5), (".5", 0.5), ("+2", 2)),
        *(
            ("12:30", "12:30"),
            ("no", "no"),
            ("Yes", "Yes"),
            ("on", "on"),
            ("2024-01-31", "2024-01-31"),
            ("1_000", "1_000"),
        ),
        *(("true", True), ("False", False), ("null", None), ("~", None), ("'3'", "3"), ("e5", "e5"), ("=", "=")),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = yaml.load(f"x: {text}", values.Loader)["x"]
    assert (found, type(found)) == (value, type(value))


def test_a_range_in_a_list_stands_for_its_values(tmp_path: Path) -> None:
    text = "notebook: note.ipynb\nname: no\ngrid:\n  seed: [010, 12:30, no, 0o10, 20..22]\n"
    found = plan.read(sweep_file(tmp_path, text))
    assert [job.parameters["seed"] for job in found.jobs] == [10, "12:30", "no", 8, 20, 21, 22]
    assert found.name == "no"


def test_a_grid_without_bound_is_refused_before_it_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "notebook: note.ipynb\ngrid: {seed: 0..99999, layer: 0..9999, photo: [a, b]}"
    monkeypatch.setattr(plan, "product", lambda *choices: pytest.fail("it was built"))
    with pytest.raises(ValueError, match=r"100,000 x 10,000 x 2 = 2,000,000,000 jobs, and 1,000,000 are the most"):
        plan.read(sweep_file(tmp_path, text))


def test_a_parameter_that_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="infinite or not a number"):
        plan.read(sweep_file(tmp_path, "notebook: note.ipynb\ngrid: {seed: [.nan, 1]}"))


class Place:
    """A sweep's place with three finished jobs, here or behind an address."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder / "s"
        self.store = store.place(str(folder) if kind == "folder" else folder.as_uri(), "s")
        self.store.prepare()
        for name in ("a", "b", "c"):
            with self.store.workspace() as workspace:
                (workspace / "picture.png").write_bytes(b"x")
                (workspace / "job.json").write_text('{"parameters": {"x": "' + name + '"}}')
                self.store.keep(workspace, name)


@pytest.mark.parametrize("kind", ["folder", "address"])
@pytest.mark.parametrize("left", ["", '{"parameters": {"x"', "[]", "{}", "\0\0\0"])
def test_a_job_with_a_damaged_description_is_set_aside_and_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, left: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = Place(tmp_path, kind)
    assert place.store.finished() == {"a", "b", "c"}
    assert place.store.examined()[1] == []
    (place.folder / "jobs" / "b" / "job.json").write_text(left)
    assert place.store.job("b") is None
    assert place.store.finished() == {"a", "c"}
    assert place.store.examined()[1] == ["b"]
    (aside,) = (place.folder / "damaged").iterdir()
    assert (aside / "picture.png").read_bytes() == b"x"
    assert place.store.finished() == {"a", "c"}
    assert place.store.examined()[1] == []


def test_a_file_where_a_jobs_folder_belongs_is_set_aside(tmp_path: Path) -> None:
    place = Place(tmp_path, "folder")
    (place.folder / "jobs" / "d").write_text("in the way")
    assert place.store.examined()[1] == ["d"]
    assert [path.read_text() for path in (place.folder / "damaged").iterdir()] == ["in the way"]


@pytest.mark.parametrize("damage", ["bytes", "cut", "version", "folder"])
def test_a_damaged_record_or_one_of_another_version_is_set_aside_and_said(tmp_path: Path, damage: str) -> None:
    planned, place = (
        plan.read(sweep_file(tmp_path, "notebook: note.ipynb\ngrid: {seed: 0..299}")),
        store.place(str(tmp_path / "r"), "s"),
    )
    with Sweep(planned, place) as at_work:
        assert at_work.said == []
    path = tmp_path / "r" / "s" / "manifest.sqlite"
    if damage == "bytes":
        path.write_bytes(b"no database at all" * 100)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "version":
        with contextlib.closing(sqlite3.connect(path)) as rows, rows:
            rows.execute("ALTER TABLE jobs RENAME COLUMN peak_mb TO peak")
    else:
        path.unlink()
        path.mkdir()
    with Sweep(planned, place) as at_work:
        assert len(at_work.missing()) == 300
        assert "set aside as manifest.damaged" in at_work.said[0]
    assert path.with_suffix(".damaged").exists()
    path.write_bytes(b"no database at all" * 100)
    with Sweep(planned, place):
        pass
    assert path.with_suffix(".damaged2").exists()


def test_a_damaged_lock_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(b"no database at all" * 100)
    (tmp_path / ".sweep").write_bytes(b"\xff\xfe")
    lock = Lock(tmp_path)
    with pytest.raises(BlockingIOError, match="another sweep is at work"):
        Lock(tmp_path)
    lock.release()


def test_a_full_disk_leaves_no_half_of_a_job_at_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = Place(tmp_path, "address")
    files = type(fsspec.filesystem("file"))
    put = files.put_file

    def full(self: object, local: str, there: str, **options: object) -> None:
        if there.endswith("job.json"):
            Path(there + ".part").write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(self, local, there, **options)

    monkeypatch.setattr(files, "put_file", full)
    with place.store.workspace() as workspace:
        for name in ("picture.png", "job.json"):
            (workspace / name).write_text("x")
        with pytest.raises(OSError, match="No space left"):
            place.store.keep(workspace, "d")
    assert sorted(path.name for path in (place.folder / "jobs").iterdir()) == ["a", "b", "c"]


def test_ranges_of_decimal_fractions_are_exact() -> None:
    assert values.spelled_out("x", "0..1 step 0.1", Path()) == [i / 10 for i in range(11)]
    assert values.spelled_out("x", "1.5 .. 0.5 step -0.5", Path()) == [1.5, 1.0, 0.5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("notebook: [", "s.yaml is not YAML, line 1, column 12"),
        ("- a\n- b", "lines of `key: value`, with the keys name, notebook, fixed"),
        ("grid: {seed: [1]}", "names no notebook"),
        ("notebook: note.ipynb\ngird: {seed: [1]}", "unknown key 'gird'; did you mean 'grid'?"),
        ("notebook: nota.ipynb\ngrid: {seed: [1]}", "nota.ipynb; did you mean 'note.ipynb'?"),
        (
            "notebook: note.ipynb\ngrid: {chanels: [[1]]}",
            "no parameter 'chanels'; did you mean 'channels'? It has: layer",
        ),
        ("notebook: note.ipynb\nfixed: {zzz: 1}\ngrid: {seed: [1]}", "no parameter 'zzz'; It has"),
        ("notebook: note.ipynb", "varies nothing"),
        ("notebook: note.ipynb\ngrid: {seed: []}", "seed: the list of values is empty"),
        ("notebook: note.ipynb\ngrid: {seed: 3}", "seed: 3 is neither a list"),
        ("notebook: note.ipynb\ngrid: {seed: 0..}", "seed: '0..' is neither a list"),
        ("notebook: note.ipynb\ngrid: {seed: 5..0}", "leads nowhere"),
        ("notebook: note.ipynb\ngrid: {seed: 0..5 step 0}", "leads nowhere"),
        ("notebook: note.ipynb\ngrid: {seed: 0..99999999}", "a million is the most"),
        ("notebook: note.ipynb\ngrid: {channels: 0..5 in chunks of 0}", "at least one value"),
        ("notebook: note.ipynb\ngrid: {photo: {files: '*.jpg'}}", "no file matches '*.jpg'"),
        ("notebook: note.ipynb\ngrid: {photo: {files: 'nowhere://x/*.jpg'}}", "nowhere://x/*.jpg cannot be listed"),
        ("notebook: note.ipynb\ngrid: {seed: [1, 2, 1]}", "the same job twice: seed=1"),
        ("notebook: note.ipynb\nfixed: {seed: 1}\ngrid: {seed: [1]}", "gives 'seed' twice"),
        ("notebook: note.ipynb\ngrid: {seed: [1], seed: [2]}", "line 2, column 19: 'seed' stands here twice"),
        ("notebook: note.ipynb\nzipped: {seed: [1, 2], layer: [x]}", "the same length; these have seed 2, layer 1"),
        ("notebook: note.ipynb\nzipped: [3]", "zipped is a list of groups"),
        ("notebook: note.ipynb\ngrid: [seed]", "grid is a list of lines"),
        ("notebook: note.ipynb\ngrid: {photo: [{1: 2}, !!binary aGk=]}", "plain numbers, strings"),
        ("notebook: note.ipynb\nname: a/b\ngrid: {seed: [1]}", "'a/b' is to be a folder's"),
        ("notebook: note.ipynb\nthreads: 0\ngrid: {seed: [1]}", "threads is a number above 0"),
        ("notebook: note.ipynb\nmemory: much\ngrid: {seed: [1]}", "memory is a number with a unit"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_before_any_work(tmp_path: Path, text: str, said: str) -> None:
    results = tmp_path / "results"
    ran = CliRunner().invoke(main, ["sweep", str(sweep_file(tmp_path, text)), "--results", str(results)])
    assert ran.exit_code == 2, ran.output
    assert said in " ".join(ran.output.split())
    assert not results.exists()


def test_a_notebook_whose_parameters_are_no_python_is_named(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, "notebook: note.ipynb\ngrid: {seed: [1]}")
    notebook = notebooks.read(tmp_path / "note.ipynb")
    notebook.cells[1].source = f"%matplotlib inline\n{DECLARED}"
    notebooks.write(notebook, tmp_path / "note.ipynb")
    assert len(plan.read(path).jobs) == 1
    notebook.cells[1].source += "\nsize = = 3"
    notebooks.write(notebook, tmp_path / "note.ipynb")
    with pytest.raises(ValueError, match=r"note\.ipynb: the parameters cell is not Python: line 6: invalid syntax"):
        plan.read(path)


def test_a_sweep_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "layers.yaml").touch()
    ran = CliRunner().invoke(main, ["sweep", str(tmp_path / "layer.yaml")])
    assert ran.exit_code == 2
    assert "did you mean 'layers.yaml'?" in " ".join(ran.output.split())


@pytest.mark.parametrize(("name", "jobs"), [("layer", 16), ("slider", 24), ("ten_networks", 10)])
def test_the_examples_can_be_carried_out(name: str, jobs: int) -> None:
    assert len(plan.read(Path(__file__).parents[2] / "sweeps" / f"{name}.yaml").jobs) == jobs


def test_the_other_commands(tmp_path: Path) -> None:
    listed = CliRunner().invoke(main, ["layers", "minivgg"])
    assert listed.exit_code == 0
    assert "block4.conv1" in listed.output
    for command, said in (
        (["layers", "minivg"], "no network is called 'minivg'"),
        (["replay", str(tmp_path / "x.png")], "no such file"),
        (["gallery", str(tmp_path / "x")], "no such file"),
        (["gallery", "nowhere://bucket/x"], "nowhere://bucket/x cannot be read: Protocol not known"),
    ):
        ran = CliRunner().invoke(main, command)
        assert ran.exit_code == 2
        assert said in " ".join(ran.output.split())


# --- parameters on a command line


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=20)
        | st.lists(st.integers()),
    )
)
@settings(max_examples=100, deadline=None)
def test_a_command_line_gives_the_same_parameters_again(given: dict) -> None:
    import shlex

    words = shlex.split(arguments.command("n.ipynb", given))
    assert words[:3] == ["nbhelpers", "run", "n.ipynb"]
    read = {words[i + 1]: arguments.parse(words[i + 2]) for i in range(3, len(words), 3)}
    assert read == given
    assert list(map(type, read.values())) == list(map(type, given.values()))


# --- how many jobs at once


def test_jobs_at_once_fit_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 10e9)
    monkeypatch.setattr(clusters, "here", lambda threads: 16 // threads)
    planned = plan.read(sweep_file(tmp_path, "notebook: note.ipynb\nthreads: 2\ngrid: {seed: [1]}"))
    assert clusters.at_once(planned, Settings(), 100) == 8
    assert clusters.at_once(planned, Settings(threads=4), 100) == 4
    assert clusters.at_once(planned, Settings(workers=12), 100) == 12
    assert clusters.at_once(planned, Settings(), 3) == 3
    assert clusters.at_once(planned, Settings(memory=int(4e9)), 100) == 2  # of 9 GB that jobs may share
    assert clusters.at_once(planned, Settings(memory=int(40e9)), 100) == 1
    assert clusters.at_once(planned, Settings(), 0) == 1


# --- the place for results


@pytest.fixture(params=["folder", "file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> store.Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    results = {"folder": str(tmp_path / "r"), "file": (tmp_path / "r").as_uri(), "memory": f"memory://{tmp_path.name}"}
    found = store.place(results[request.param], "s")
    found.prepare()
    return found


def test_a_job_is_there_when_it_is_whole(place: store.Store) -> None:
    assert place.finished() == set()
    assert place.job("id") is None
    with place.workspace() as workspace:
        (workspace / "deep").mkdir()
        (workspace / "deep" / "picture.png").write_bytes(b"png")
        (workspace / "job.json").write_text('{"seconds": 3}')
        (workspace / "notebook.ipynb").write_text("{}")
        (workspace / "notebook.html").write_text("a page")
        assert place.finished() == set()
        place.keep_failed(workspace / "notebook.ipynb", "id")
        (workspace / "notebook.ipynb").write_text("{}")
        place.keep(workspace, "id")
        assert place.finished() == {"id"}
    assert place.job("id") == {"seconds": 3}
    with place.workspace() as again:  # a second worker that did the same job finds it there
        (again / "job.json").write_text('{"seconds": 4}')
        place.keep(again, "id")
    assert place.finished() == {"id"}
    assert not again.exists()
    if isinstance(place, store.Folder):  # a part of it is taken away, and it is done again
        (place.folder / "jobs" / "id" / "job.json").unlink()
        assert place.finished() == set()
        with place.workspace() as once_more:
            (once_more / "job.json").write_text('{"seconds": 5}')
            place.keep(once_more, "id")
        assert place.job("id") == {"seconds": 5}
    place.write("sweep.json", "{}")
    Manifest(place.state / "manifest.sqlite").close()
    place.close()
    if isinstance(place, store.Folder):
        assert sorted(path.name for path in place.folder.iterdir()) == [
            "failed",
            "jobs",
            "manifest.sqlite",
            "sweep.json",
        ]
        assert list((place.folder / "failed").iterdir()) == []
        assert oct((place.folder / "jobs" / "id").stat().st_mode & 0o777) == oct(0o777 & ~store._umask())


def test_the_record_of_a_place_far_away_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    far = store.place(f"memory://{tmp_path.name}-far", "s")
    far.prepare()
    manifest = Manifest(far.state / "manifest.sqlite")
    manifest.plan([Job("a", {}, {})], set())
    manifest.close()
    far.close()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    far.prepare()
    assert list(Manifest(far.state / "manifest.sqlite").rows()) == ["a"]


def test_an_address_nobody_can_write_to(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, "notebook: note.ipynb\ngrid: {seed: [1]}")
    ran = CliRunner().invoke(main, ["sweep", str(path), "--results", "nowhere://bucket"])
    assert ran.exit_code == 2
    assert "results cannot go to nowhere://bucket" in " ".join(ran.output.split())


# --- the record

JOBS = [Job(name, {"x": name}, {"x": name}) for name in "abc"]


def test_the_record_follows_the_folders(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    manifest = Manifest(path)
    manifest.plan(JOBS, set())
    manifest.attempt("a", "tcp://x")
    manifest.set("a", FAILED, error="no", cell="3", seconds=1.5)
    manifest.set("b", DONE, seconds=2.0, peak_mb=70)
    manifest.attempt("c", "tcp://y")
    assert manifest.counts(JOBS) == {FAILED: 1, DONE: 1, RUNNING: 1}
    manifest.close()
    again = Manifest(path)
    assert {name: row["state"] for name, row in again.rows().items()} == {"a": FAILED, "b": DONE, "c": QUEUED}
    assert again.rows()["a"]["error"] == "no"
    again.plan(JOBS, {"a", "c"})  # b's folder was deleted; c's worker finished after the driver had died
    rows = again.rows()
    assert {name: row["state"] for name, row in rows.items()} == {"a": DONE, "b": QUEUED, "c": DONE}
    assert (rows["a"]["error"], rows["a"]["attempts"], json.loads(rows["a"]["parameters"])) == (None, 1, {"x": "a"})


def test_a_damaged_record_is_made_again_from_the_folders(tmp_path: Path) -> None:
    (tmp_path / "m.sqlite").write_bytes(b"this is no database" * 100)
    manifest = Manifest(tmp_path / "m.sqlite")
    manifest.plan(JOBS, {"b"})
    assert manifest.counts(JOBS) == {QUEUED: 2, DONE: 1}
    assert (tmp_path / "m.damaged").exists()


def test_the_record_reaches_the_disk_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest(tmp_path / "m.sqlite")
    manifest.plan(JOBS, set())
    monkeypatch.setattr("nbhelpers.sweeps.manifest._PATIENCE", 0)
    manifest.set("a", DONE)
    other = sqlite3.connect(tmp_path / "m.sqlite")
    assert other.execute("SELECT state FROM jobs WHERE id = 'a'").fetchone() == (DONE,)


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    imports = "from pathlib import Path; from nbhelpers.sweeps.manifest import Lock"
    code = f"{imports}; lock = Lock(Path({str(tmp_path)!r})); print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(BlockingIOError, match=rf"another sweep is at work there \(process {holder.pid} on"):
            Lock(tmp_path)
        holder.kill()
    Lock(tmp_path).release()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


# --- one job


def test_what_a_notebook_imports() -> None:
    sources = [
        "import torch\nimport numpy as np, a.b",
        "from nbhelpers import images as i\nfrom . import x",
        "%time\nimport y",
    ]
    found = imports.of(new_notebook(cells=[new_code_cell(source) for source in sources]))
    assert found == ["torch", "numpy", "a.b", "nbhelpers", "nbhelpers.images"]
    assert processes.forkable(found) == ["torch", "numpy", "nbhelpers", "nbhelpers.images"]
    assert processes.forkable(["matplotlib.pyplot", "cv2", "os"]) == []


def shared(folder: Path, *sources: str, **changes: object) -> Shared:
    notebook = notebooks.read(save(folder / "n.ipynb", *sources))
    place = store.place(str(folder / "r"), "s")
    place.prepare()
    said = dict(modules=imports.of(notebook), threads=1, timeout=30.0, memory=None, version=__version__)
    return Shared(**{"topic": "t", "source": nbformat.writes(notebook), "notebook": "n.ipynb", "folder": str(folder),
                     "store": place, **said, **changes})  # fmt: skip


def job(seed: int) -> Job:
    return Job(f"id{seed}", {"seed": seed, "channels": [seed]}, {"seed": seed})


def ended(pids: str) -> bool:
    """Whether no process is left of those whose numbers a notebook has printed."""
    for _ in range(30):
        if not any(Path(f"/proc/{pid}").exists() and _state(pid) != "Z" for pid in pids.split()):
            return True
        time.sleep(0.1)
    return False


def _state(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.fixture
def _close_server() -> Iterator[None]:
    yield
    if server := getattr(processes._of_this_thread, "server", None):
        server.close()


PLAIN = """\
import os, random, sys, numpy, matplotlib
from matplotlib import pyplot
from nbhelpers.notebooks import record, results_folder
print(os.getpid(), os.getppid(), os.path.basename(os.getcwd()), os.environ["OMP_NUM_THREADS"])
print(__name__, os.path.basename(sys.argv[0]))
print(numpy.random.rand(), random.random())
record(score=seed / 2)
(results_folder() / "p").mkdir()
pyplot.plot([1, 2])
pyplot.savefig(results_folder() / "p" / "plot.png")"""
FACT = "print('sum of channels:', sum(channels))"
CALLBACK = (
    "import ipywidgets\ns = ipywidgets.IntSlider()\no = ipywidgets.Output()\ns.observe(lambda c: 1 / 0, 'value')\n"
)


@pytest.mark.usefixtures("_close_server")
@pytest.mark.skipif(sys.platform != "linux", reason="forked processes are for Linux")
def test_a_forked_job_is_what_a_fresh_one_is(tmp_path: Path) -> None:
    made = {}
    for way in ("forked", "fresh"):
        (tmp_path / way).mkdir()
        for seed in (3, 4):
            common = shared(tmp_path / way, PLAIN, FACT, **({} if way == "forked" else {"modules": None}))
            source = json.loads(common.source)
            source["cells"][-1]["metadata"]["tags"] = ["nbval-check-output"]
            common = Shared(**{**common.__dict__, "source": json.dumps(source)})
            outcome = work(common, job(seed))
            assert outcome["state"] == DONE, outcome
            folder = tmp_path / way / "r" / "s" / "jobs" / f"id{seed}"
            made[way, seed] = folder
            told = json.loads((folder / "job.json").read_text())
            assert told["results"] == {"score": seed / 2, "sum of channels": str(seed)}
            assert told["pictures"] == ["p/plot.png"]
            assert told["command"] == f"nbhelpers run n.ipynb -p seed {seed} -p channels '[{seed}]'"
            assert 20 < told["peak_mb"] < 1000
            assert told["seconds"] == outcome["seconds"]
            assert sorted(path.name for path in folder.iterdir()) == [
                *("job.json", "notebook.html", "notebook.ipynb", "p")
            ]
            page = (folder / "notebook.html").read_text()
            assert page.count("<img") == 1
            assert "sum of channels" in page
            if way == "fresh":
                break
    printed = {}
    for key, folder in made.items():
        executed = notebooks.read(folder / "notebook.ipynb")
        outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
        kinds = [sorted(output.data) if "data" in output else output.name for output in outputs]
        assert kinds == ["stdout", ["image/png", "text/plain"], "stdout"]
        printed[key] = outputs[0].text.split()
        assert ended(" ".join(printed[key][:2]))
    assert printed["forked", 3][2:6] == ["forked", "1", "__main__", "ipykernel_launcher.py"]
    assert printed["fresh", 3][2:6] == ["fresh", "1", "__main__", "ipykernel_launcher.py"]
    draws = {tuple(words[-2:]) for words in printed.values()}
    assert len({draw[0] for draw in draws}) == len({draw[1] for draw in draws}) == 3  # no two drew the same numbers
    assert not list(tmp_path.glob("*/r/s/.partial/*"))


@pytest.mark.usefixtures("_close_server")
def test_an_error_in_a_widgets_callback_fails_the_job(tmp_path: Path) -> None:
    outcome = work(shared(tmp_path, CALLBACK + "with o:\n    s.value = 3\ndisplay(o)"), job(1))
    assert (outcome["state"], outcome["cell"]) == (FAILED, None)
    assert "ZeroDivisionError" in outcome["error"]
    assert (tmp_path / "r" / "s" / "failed" / "id1.ipynb").exists()
    assert "IntSlider" in (tmp_path / "r" / "s" / "failed" / "id1.html").read_text()


@pytest.mark.usefixtures("_close_server")
def test_memory_counts_in_a_process_that_another_thread_has_started(tmp_path: Path) -> None:
    """Linux lists a process's children by the thread that started them."""
    hidden = (
        "import subprocess, sys, threading\n"
        "code = 'import time; block = bytearray(400_000_000); time.sleep(1000)'\n"
        "thread = threading.Thread(target=subprocess.run, args=([sys.executable, '-c', code],))\n"
        "thread.start()\nthread.join()"
    )
    large = work(shared(tmp_path, hidden, memory=300_000_000), job(1))
    assert "a job may use 0.30 GB" in large["error"]


@pytest.mark.usefixtures("_close_server")
def test_jobs_that_take_too_much_are_ended_with_all_they_have_started(tmp_path: Path) -> None:
    begin = (
        "import os, subprocess\nfrom pathlib import Path\nchild = subprocess.Popen(['sleep', '1000'])\n"
        "Path('pids').write_text(f'{os.getpid()} {os.getppid()} {child.pid}')"
    )
    late = work(shared(tmp_path, begin, "import time; time.sleep(1000)", timeout=3.0), job(1))
    assert (late["state"], late["cell"]) == (FAILED, "3")
    assert late["error"].startswith("TimeoutError: stopped after 3 s")
    assert ended((tmp_path / "pids").read_text())
    large = work(
        shared(tmp_path, begin, "block = bytearray(400_000_000)\nimport time; time.sleep(1000)", memory=300_000_000),
        job(2),
    )
    assert (large["state"], large["cell"]) == (FAILED, "3")
    assert "a job may use 0.30 GB" in large["error"]
    assert ended((tmp_path / "pids").read_text())
    begun = threading.Event()
    threading.Timer(2, begun.set).start()
    unwanted = work(shared(tmp_path, begin, "import time; time.sleep(1000)"), job(3), wanted=lambda: not begun.is_set())
    assert unwanted["state"] == STOPPED
    assert ended((tmp_path / "pids").read_text())
    assert not list((tmp_path / "r" / "s" / ".partial").iterdir())


@pytest.mark.usefixtures("_close_server")
def test_a_server_that_dies_takes_its_job_along_and_the_next_job_gets_another(tmp_path: Path) -> None:
    note = "Path('pids').write_text(f'{os.getpid()} {os.getppid()}')"
    source = f"import os\nfrom pathlib import Path\nif seed == 1: {note}"
    common = shared(tmp_path, source, "import time; time.sleep(1000 if seed == 1 else 0)")

    def kill_the_server() -> bool:
        if (tmp_path / "pids").exists():
            processes._of_this_thread.server._process.kill()
        return True

    outcome = work(common, job(1), wanted=kill_the_server)
    assert outcome["state"] == FAILED
    assert "ended from outside" in outcome["error"]
    assert ended((tmp_path / "pids").read_text())
    assert work(common, job(2))["state"] == DONE


def test_a_worker_with_another_version_says_so(tmp_path: Path) -> None:
    outcome = work(shared(tmp_path, "1", version="0.0.1"), job(1))
    assert outcome["state"] == FAILED
    assert "install the same everywhere" in outcome["error"]


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path: Path) -> None:
    common = shared(tmp_path, "1")
    (tmp_path / "r").rename(tmp_path / "elsewhere")
    assert "choose one that all machines share" in work(common, job(1))["error"]


def test_planning_needs_neither_torch_nor_dask() -> None:
    code = "import sys, nbhelpers.__main__; print(sorted({'torch', 'distributed', 'papermill'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout == "[]\n", ran.stderr
