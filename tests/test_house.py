"""The house around the package: one set of requirements, thin commands, and nothing committed that should not be."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from packaging.requirements import Requirement

from nbhelpers import notebooks
from tools import hygiene

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {
    "torch": "pytorch",
    "playwright": "playwright-python",
    "jupyter-client": "jupyter_client",
    "opencv-python-headless": "py-opencv",
}
IMPORT_NAMES = {
    "pillow": "PIL",
    "jupyter-client": "jupyter_client",
    "pyzmq": "zmq",
    "ipython": "IPython",
    "pynrrd": "nrrd",
    "scikit-learn": "sklearn",
    "opencv-python-headless": "cv2",
    "scikit-image": "skimage",
    "lazy-loader": "lazy_loader",
    "pyyaml": "yaml",
    "beautifulsoup4": "bs4",
}


def requirements(*extras: str) -> list[Requirement]:
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return [Requirement(line) for lines in lists for line in lines]


def git(*arguments: str, folder: Path) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


# --- requirements


def test_conda_and_pip_ask_for_the_same_set() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *named, lacking = environment["dependencies"]
    asked = [line for line in [*named, *lacking["pip"][:-1]] if line != "pip"]
    conda = {re.match(r"[\w-]+", line)[0]: re.sub(r"^[\w-]+", "", line) for line in asked}
    pip = {CONDA_NAMES.get(r.name, r.name): str(r.specifier) for r in requirements("test")}
    bounds = [{name: set(text.split(",")) for name, text in side.items()} for side in (conda, pip)]
    assert bounds[0].pop("python") == {PROJECT["requires-python"]}
    assert bounds[0] == bounds[1]
    assert lacking["pip"][-1] == "-e ."


def test_a_binderhub_gets_the_same_without_tests_and_gpu() -> None:
    environment = yaml.safe_load((ROOT / ".binder" / "environment.yml").read_text())
    asked = {re.match(r"[\w-]+", line)[0]: re.sub(r"^[\w-]+", "", line) for line in environment["dependencies"]}
    names = CONDA_NAMES | {"torch": "pytorch-cpu"}
    wanted = {names.get(r.name, r.name): str(r.specifier) for r in requirements("app")}
    assert asked.pop("python") == PROJECT["requires-python"]
    assert asked.pop("pip") == ""
    assert {name: set(text.split(",")) for name, text in asked.items()} == {
        name: set(text.split(",")) for name, text in wanted.items()
    }
    assert os.access(ROOT / ".binder" / "postBuild", os.X_OK)


def test_workflows_and_containers_run_what_make_knows() -> None:
    targets = set(re.findall(r"^([\w./%-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = [path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml")]
    texts.append((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    called = {name for text in texts for name in re.findall(r"\bmake ([\w./-]+)", text)}
    assert {"site", ".venv/.installed-demo"} <= called
    assert {re.sub(r"installed-\w+", "installed-%", name) for name in called} <= targets | {".venv/.installed-demo"}
    for text in texts:
        for script in re.findall(r"(?:run: |python )((?:\.ci|tools)/[\w.]+)", text):
            assert (ROOT / script).exists(), script
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == PROJECT["version"]


def test_every_requirement_has_a_lower_bound() -> None:
    for requirement in requirements("test", "bench", "batch", "app", "site"):
        assert ">=" in str(requirement.specifier), requirement


# what a message asks to be installed, where its own requirements do not fit beside the others, or hold them back
ASKED_FOR = {"torchattacks", "umap"}


def test_what_the_package_imports_is_required() -> None:
    required = {IMPORT_NAMES.get(r.name, r.name) for r in requirements("batch", "app")}
    known = required | set(sys.stdlib_module_names) | {"nbhelpers"} | ASKED_FOR
    for path in sorted((ROOT / "nbhelpers").rglob("*.py")):
        tree = ast.parse(path.read_text())
        imports = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        imports += [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level == 0]
        assert {name.partition(".")[0] for name in imports} <= known, path


@pytest.mark.parametrize("name", ["pyproject.toml", "environment.yml"])
def test_upper_bounds_and_exclusions_give_their_reason(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    for above, line in pairwise(lines):
        if re.search(r"[^<]<=?\d|!=\d|~=\d|==\d", line.partition(";")[0]):
            assert above.strip().startswith("#"), f"{name}: {line.strip()} needs a comment above it"


# --- commands


@pytest.mark.parametrize("target", ["demo", "test", "lab", "bench", "bench-gpu", "notebooks", "site", "clean"])
def test_make_knows_its_targets(target: str) -> None:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(rf"^{target} ", listed, re.MULTILINE)
    # `make test` runs this test, and its options are not ours
    planned = ["make", "--dry-run", "--always-make", target]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    assert subprocess.run(planned, cwd=ROOT, capture_output=True, env=environment).returncode == 0


@pytest.mark.parametrize("browser", [True, False])
@pytest.mark.parametrize("installs", [True, False])
def test_ci_installs_the_browser_and_calls_make_test(tmp_path: Path, browser: bool, installs: bool) -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    stubs = {"make": 0, "apt-get": 0 if installs else 100, "sudo": 0} | ({"chromium": 0} if browser else {})
    for name, code in stubs.items():
        run_rest = 'exec "$@"' if name == "sudo" else f"exit {code}"
        (tmp_path / name).write_text(f'#!/bin/bash\necho "{name} $*" >> "{tmp_path}/calls"\n{run_rest}\n')
        (tmp_path / name).chmod(0o755)
    for name in ("bash", "env", "id", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    environment = {"PATH": str(tmp_path)}
    assert subprocess.run([script], env=environment, cwd=tmp_path, capture_output=True).returncode == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[-1] == "make test"
    assert any(call.startswith("apt-get install") for call in calls) == (installs and not browser)


def test_the_changelog_has_this_version() -> None:
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()


# --- what is committed


def test_every_tracked_file_is_fit_to_be_committed() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout, to know which files are tracked")
    assert hygiene.problems(hygiene.tracked()) == []


def good_notebook() -> NotebookNode:
    cells = [
        new_markdown_cell("# A technique"),
        new_code_cell("size = 64", metadata={"tags": ["parameters"]}, execution_count=1),
        new_code_cell(
            "print(size)",
            metadata={"tags": ["nbval-check-output"]},
            execution_count=2,
            outputs=[new_output("stream", name="stdout", text="64\n")],
        ),
    ]
    return notebooks.clean(new_notebook(cells=cells))


def print_text(text: str) -> Callable[[NotebookNode], object]:
    return lambda n: n.cells[2].outputs.append(new_output("stream", name="stdout", text=text))


def show(**data: str) -> Callable[[NotebookNode], object]:
    return lambda n: n.cells[2].outputs.append(new_output("display_data", data))


ERROR = new_output("error", ename="ValueError", evalue="no", traceback=["ValueError: no"])
# Put together here, so that this file names no path of one machine itself.
HOME, MAC, ROOT_HOME = "/" + "home/ada/x", "/" + "Users/ada", "/" + "root/.cache"
CELL, PACKAGES = "/" + "tmp/ipykernel_12/34.py", "/" + "opt/lib/site-packages"
WINDOWS, FILE = "C:" + "\\Users\\ada", "file:" + "//x"
TEMPORARY = "/" + "tmp/ada/pictures"

BREAKS: dict[str, tuple[Callable[[NotebookNode], object], str]] = {
    "size": (show(**{"image/png": "A" * 1_000_001}), "is 1.0 MB; the limit is 1 MB"),
    "widget state": (lambda n: n.metadata.update(widgets={}), "has widget state"),
    "widget view": (show(**{notebooks.WIDGET_VIEW: "{}"}), "has widget state"),
    "error": (lambda n: n.cells[2].outputs.append(ERROR), "holds an error, cell 2"),
    "home": (print_text(f"saved to {HOME}.png"), "names a path of one machine"),
    "root's home": (print_text(ROOT_HOME), "names a path of one machine"),
    "mac home": (lambda n: n.cells[1].update(source=f"path = '{MAC}'"), "names a path of one machine"),
    "windows home": (print_text(WINDOWS), "names a path of one machine"),
    "file address": (show(**{"text/html": f"<a href='{FILE}'>"}), "names a path of one machine"),
    "temporary folder": (print_text(f"saved in {TEMPORARY}"), "names a path of one machine"),
    "cell's path": (print_text(f"{CELL}:3: UserWarning"), "names a path of one machine"),
    "repository's path": (print_text(f"{ROOT}{os.sep}results"), "names a path of one machine"),
    "no parameters": (lambda n: n.cells.pop(1), "has 0 code cells tagged `parameters`"),
    "two parameters": (
        lambda n: n.cells.append(nbformat.from_dict(n.cells[1] | {"id": "b"})),
        "has 2 code cells tagged `parameters`",
    ),
    "nothing checked": (lambda n: n.cells[2].metadata.clear(), "has no cell tagged `nbval-check-output`"),
    "null count": (
        lambda n: n.cells[2].update(execution_count=None),
        "checked cell without a kept output (print(size))",
    ),
    "no output": (lambda n: n.cells[2].update(outputs=[]), "checked cell without a kept output (print(size))"),
    "papermill": (lambda n: n.metadata.update(papermill={}), "is a papermill output"),
    "kernel": (lambda n: n.metadata.kernelspec.update(name="my-env"), "other than the kernel python3"),
    "language": (lambda n: n.metadata.pop("language_info"), "other than the kernel python3"),
    "invalid": (lambda n: n.cells[2].update(cell_type="mystery"), "is not a valid notebook"),
}


@pytest.mark.parametrize("case", BREAKS)
def test_each_rule_for_notebooks_fires(tmp_path: Path, case: str) -> None:
    notebook, path = good_notebook(), tmp_path / "n.ipynb"
    notebooks.write(notebook, path)
    assert hygiene.notebook_problems(path) == []
    damage, said = BREAKS[case]
    damage(notebook)
    path.write_text(nbformat.writes(notebook) if case != "invalid" else str(dict(notebook)))
    found = hygiene.notebook_problems(path)
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.md", f"see {HOME}"),
        ("a.py", f"open({MAC!r})"),
        ("a.toml", "url = 'https://pypi" + ".org/simple'"),
        ("a.txt", "--extra-index-url " + "https://packages.example.com"),
        ("pip.conf", "[global]\nindex" + "-url = https://packages.example.com"),
        ("a.yml", "https://download.pytorch" + ".org/whl/cpu"),
        ("uv.lock", "version = 1"),
    ],
)
def test_each_rule_for_other_files_fires(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert len(hygiene.problems([tmp_path / name])) == 1
    fine = "`pip install .`, see https://example.com/home/page and ~/.cache and ../" + "root/x"
    (tmp_path / "fine.md").write_text(fine)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff\xfe" + text.encode())
    assert hygiene.problems([tmp_path / "fine.md", tmp_path / "picture.png"]) == []


def test_committed_results_stay_small(tmp_path: Path) -> None:
    (tmp_path / "results" / "gallery").mkdir(parents=True)
    big = tmp_path / "results" / "gallery" / "big.png"
    big.write_bytes(b"\xff" * 20_000_001)
    assert hygiene.problems([big], root=tmp_path) == ["results/ holds 20.0 MB; the limit is 20 MB"]
    big.write_bytes(b"\xff" * 20_000_000)
    assert hygiene.problems([big], root=tmp_path) == []


def test_cleaning_keeps_the_outputs_and_drops_the_run(tmp_path: Path) -> None:
    notebook, path = good_notebook(), tmp_path / "n.ipynb"
    notebook.metadata.update(
        widgets={notebooks.WIDGET_STATE: {"state": {}}},
        papermill={"duration": 3.0},
        kernelspec={"name": "my-env", "display_name": "mine"},
        language_info={"name": "python", "version": "3.12.1"},
    )
    notebook.cells[1].metadata.update(papermill={"duration": 1.0}, execution={"iopub.status.busy": "now"})
    notebook.cells[0].metadata["tags"] = []
    picture = {"image/png": "iVBORw0KGgo=", "text/plain": "Shown()"}
    show(**picture, **{notebooks.WIDGET_VIEW: "{}"})(notebook)
    show(**{"text/plain": "IntSlider()", notebooks.WIDGET_VIEW: "{}"})(notebook)
    warning = f"{CELL}:3: in {MAC}/a, {WINDOWS}\\b, {ROOT}/results, {PACKAGES}/torch/a.py, {TEMPORARY}"
    print_text(warning)(notebook)
    for bar in ("\rdrawing: 100%|████| 1/1 [00:05<00:00]", "\r               ", "\r"):
        notebook.cells[2].outputs.append(nbformat.v4.new_output("stream", name="stderr", text=bar))
    path.write_text(nbformat.writes(notebook))

    assert hygiene.main(["check", str(path)]) == 1
    assert hygiene.main(["clean", str(path)]) == 0
    assert hygiene.main(["check", str(path)]) == 0
    cleaned = notebooks.read(path)
    assert cleaned.metadata == {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    assert [dict(c.metadata) for c in cleaned.cells] == [{}, {"tags": ["parameters"]}, {"tags": ["nbval-check-output"]}]
    fact, shown, printed = cleaned.cells[2].outputs
    assert (fact.text, shown.data) == ("64\n", picture)
    assert printed.text == "<cell>:3: in ~/a, ~\\b, ./results, site-packages/torch/a.py, <temporary>"
    assert cleaned.cells[2].execution_count == 2
    before = path.read_bytes()
    hygiene.main(["clean", str(path)])
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (["\rdrawing:   0%|", "\rdrawing: 100%|", "\r      ", "\r"], False),
        (["\rdrawing:   0%|", "\rdrawing: 100%|"], True),  # it stayed, or was stopped
        (["a.py:3: UserWarning: odd\n", "\rdrawing:   0%|", "\r    \r"], True),
    ],
)
def test_cleaning_drops_bars_that_are_gone(written: list[str], kept: bool) -> None:
    notebook = good_notebook()
    notebook.cells[2].outputs += [new_output("stream", name="stderr", text=text) for text in written]
    outputs = notebooks.clean(notebook).cells[2].outputs
    assert [output.name for output in outputs] == ["stdout", *["stderr"] * len(written) * kept]


def test_the_pre_commit_hooks_need_no_network_and_stop_a_bad_commit(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    for name in (".pre-commit-config.yaml", "pyproject.toml", "tools/hygiene.py", "nbhelpers/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "notebooks").mkdir()
    bad = good_notebook()
    bad.metadata.update(widgets={})
    bad.cells[1].source = "import os\nsize  =  64"
    notebooks.write(bad, tmp_path / "notebooks" / "n.ipynb")
    git("init", "-q", folder=tmp_path)
    git("add", ".", folder=tmp_path)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PRE_COMMIT_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pre_commit", "run", "--all-files", "--color=never"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    outcomes = re.findall(r"^(\w+).*\.(Failed|Passed|Skipped)$", ran.stdout, re.MULTILINE)
    assert outcomes == [("lint", "Failed"), ("format", "Failed"), ("notebooks", "Failed")]
    assert "F401" in ran.stdout
    assert "has widget state" in ran.stdout
