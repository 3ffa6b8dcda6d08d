"""Exercises: a right answer says why, a wrong one gets a hint, then another, then the reference."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

from nbhelpers import exercises, models
from nbhelpers.exercises import checking

ROOT = Path(__file__).parents[2]
NUMBERS = [f"{notebook}.{each}" for notebook in exercises.NOTEBOOKS for each in (1, 2, 3)]
BLANK = torch.full((2, 3, 64, 64), 0.5)


def untuned() -> models.Network:
    return models.parts.with_new_head(models.load("minivgg_robust"), ["people", "patterns"], 64)[0]


WRONG: dict[str, Any] = {
    "00.1": ["names", "weights"],
    "00.2": "cat.jpg",
    "00.3": 0,
    "01.1": "stem.conv",
    "01.2": BLANK,
    "01.3": 0,
    "02.1": "coffee.jpg",
    "02.2": 5,
    "02.3": "coffee.jpg",
    "03.1": {"minivgg_robust": 0.1, "minivgg": 0.1},
    "03.2": "bricks.jpg",
    "03.3": "blob in the middle",
    "04.1": 0.5,
    "04.2": BLANK,
    "04.3": list(range(10)),
    "05.1": "coffee.jpg",
    "05.2": ("cat.jpg", 0, 0, 192),
    "05.3": torch.ones(1, 6, 6),
    "06.1": ("cat.jpg", "temple.jpg"),
    "06.2": 0.1,
    "06.3": "block1.relu1",
    "07.1": ("cat.jpg", "temple.jpg"),
    "07.2": {"block2.relu2": 0.1, "block4.relu1": 0.1},
    "07.3": list(range(10)),
    "08.1": "stem.relu",
    "08.2": [0],
    "08.3": list(range(352)),
    "09.1": list(range(16)),
    "09.2": list(range(352)),
    "09.3": "block1.conv1",
    "10.1": untuned,
    "10.2": untuned,
    "10.3": untuned,
    "11.1": BLANK[:1],
    "11.2": 4.0,
    "11.3": {"minivgg": 12, "minivgg_robust": 12},
    "12.1": (0.6, 0.15),
    "12.2": [0, 1],
    "12.3": [0],
    "13.1": {1: 0.5, 9: 0.5},
    "13.2": "cat",
    "13.3": 129,
    "14.1": {4: 0.0, 16: 0.0},
    "14.2": {"nmf": 0.0, "k-means": 0.0},
    "14.3": {"block1.relu1": 0.0, "block3.relu2": 0.0},
    "15.1": {"block1.relu1": 0.1, "block3.relu2": 0.1},
    "15.2": {"none": 0.1, "covariance": 0.1},
    "15.3": "bricks",
}


def wrong(number: str) -> Any:
    """A wrong answer to an exercise."""
    return WRONG[number]() if callable(WRONG[number]) else WRONG[number]


@pytest.fixture(autouse=True)
def among_the_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "notebooks")
    monkeypatch.setattr(checking, "_misses", type(checking._misses)())


def hint_of(outcome: exercises.Outcome) -> str:
    return re.split(r"Hint: |Reference: ", outcome.text)[-1]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_wrong_answer_gets_its_hint(number: str) -> None:
    task = exercises.declared(number[:2])[number]
    outcome = exercises.check(number, wrong(number))
    assert outcome.right is False
    assert outcome.text.startswith("Not yet. ")
    assert hint_of(outcome) == task.hints[0]


@pytest.mark.parametrize("number", NUMBERS)
def test_no_answer_and_a_wrong_type_are_no_misses(number: str) -> None:
    task = exercises.declared(number[:2])[number]
    for answer, said in ((..., "Not answered yet"), (object(), f"is to be {task.expects}, not")):
        outcome = exercises.check(number, answer)
        assert outcome.right is None
        assert said in outcome.text
    assert not checking._misses
    assert len(task.hints) == 2
    assert task.judge.__doc__


def test_hints_then_the_reference_and_a_right_answer_starts_again() -> None:
    task = exercises.declared("02")["02.1"]
    said = [hint_of(exercises.check("02.1", "cat.jpg")) for _ in range(4)]
    assert said[:2] == list(task.hints)
    assert said[2] == said[3] == f"{task.reference()}. The solution below shows the way to it."
    right = exercises.check("02.1", task.reference())
    assert right.right is True
    assert right.text.startswith("Right. ")
    assert hint_of(exercises.check("02.1", "cat.jpg")) == task.hints[0]


def test_misses_of_one_exercise_are_no_misses_of_another() -> None:
    exercises.check("02.1", "cat.jpg")
    exercises.check("02.1", "cat.jpg")
    assert hint_of(exercises.check("02.3", "cat.jpg")) == exercises.declared("02")["02.3"].hints[0]


def test_numbers_of_any_kind_are_numbers() -> None:
    channel = exercises.declared("01")["01.3"].reference()
    for answer in (channel, torch.tensor(channel), torch.tensor(channel).numpy(), float(channel)):
        assert exercises.check("01.3", answer).right is True


def test_what_is_compared_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With another network in its place, the same answer is wrong."""
    answer = exercises.declared("02")["02.2"].reference()
    assert exercises.check("02.2", answer).right is True
    load = models.load
    monkeypatch.setattr(models, "load", lambda name: models.randomised(load(name)))
    assert exercises.check("02.2", answer).right is False


def test_a_channel_for_many_photos_by_brute_force() -> None:
    from nbhelpers import images

    network = models.load("minivgg_robust")
    manner = models.photo_fit(network, 128, "whole")
    look = models.capture(network, "block4.conv1", stop=True)
    counts = torch.zeros(512, dtype=torch.int64)
    for photo in [images.read(path, 128, **manner) for path in images.listed(ROOT / "sample_images").values()]:
        means = look(photo[None])["block4.conv1"].clamp(min=0).mean((2, 3))[0]
        counts[means.topk(15).indices] += 1
    for channel in counts.topk(3).indices.tolist():
        assert exercises.check("02.2", channel).right is bool(counts[channel] == counts.max())


@pytest.mark.parametrize(("number", "message"), [("99.1", "99"), ("02.9", "02.1, 02.2, 02.3"), ("", "no exercises")])
def test_an_exercise_that_is_none_is_said(number: str, message: str) -> None:
    with pytest.raises(KeyError, match=re.escape(message)):
        exercises.check(number, 1)


def test_an_outcome_shows_as_text_and_as_markdown() -> None:
    outcome = exercises.check("02.1", ...)
    assert str(outcome) == repr(outcome) == f"02.1: {outcome.text}"
    assert outcome._repr_markdown_() == f"**02.1** {outcome.text}"


@pytest.mark.parametrize("notebook", exercises.NOTEBOOKS)
def test_each_notebook_has_its_exercises_solved_and_folded(notebook: str) -> None:
    (path,) = (ROOT / "notebooks").glob(f"{notebook}_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    answers = [place for place, cell in enumerate(cells) if "exercise" in cell.metadata.get("tags", [])]
    assert len(answers) == 3
    for number, place in enumerate(answers, 1):
        check = f'exercises.check("{notebook}.{number}", answer)'
        task, answer, solution = cells[place - 1 : place + 2]
        assert task.cell_type == "markdown"
        assert task.source.startswith(f"**{notebook}.{number} ")
        assert answer.source == f"answer = ...  # your answer\n{check}"
        assert solution.source.endswith(f"\n{check}")
        assert {"solution", "hide-cell", "nbval-check-output"} <= set(solution.metadata.tags)
        assert solution.metadata.jupyter == {"source_hidden": True, "outputs_hidden": True}
        assert f"{notebook}.{number}: Right. " in solution.outputs[-1].data["text/plain"]
        assert "Not answered yet" in answer.outputs[-1].data["text/plain"]
