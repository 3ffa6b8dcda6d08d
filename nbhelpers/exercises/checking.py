"""What an exercise is, and the judge: right, not answered yet, or a miss with a hint.

The first miss gives a hint, the second another, the third the reference, which is computed like everything else. The
count of misses is all that is kept, as long as the kernel runs; a right answer sets it back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from nbhelpers import edge

NOTEBOOKS = {
    "00": "tour",
    "01": "activation_maximization",
    "02": "testing_interpretations",
    "03": "class_pictures_and_saliency",
    "04": "inverting_representations",
    "05": "grad_cam",
    "06": "principal_features",
    "07": "class_agnostic_features",
    "08": "activation_volumes",
    "09": "filter_gradients",
    "10": "fine_tuning",
    "11": "training_networks",
    "12": "explorer",
    "13": "microscope",
    "14": "concepts",
    "15": "activation_atlas",
}
"""Each notebook's number, and the module that holds its exercises."""

_exercises: dict[str, Exercise] = {}
_misses: Counter[str] = Counter()


class Miss(Exception):
    """An answer that is not right; its text says what was found instead."""


@dataclass(frozen=True)
class Outcome:
    """What the judge says.

    Attributes:
        number: of the exercise, such as `02.2`.
        right: None where there is no answer yet, or none that could be judged.
        text: the reason, the hint or the reference.
    """

    number: str
    right: bool | None
    text: str

    def __str__(self) -> str:
        return f"{self.number}: {self.text}"

    def _repr_markdown_(self) -> str:
        return f"**{self.number}** {self.text}"

    __repr__ = __str__


@dataclass(frozen=True)
class Exercise:
    """One exercise, as `exercise` declares it.

    Attributes:
        number: the notebook's and its own, such as `02.2`.
        expects: what an answer is, in words: "a channel's number, such as 7".
        hints: one or two sentences; the second miss gets the last.
        reference: computes an answer that is right.
        judge: gives the reason why an answer is right, or raises `Miss`.
    """

    number: str
    expects: str
    hints: Sequence[str]
    reference: Callable[[], Any]
    judge: Callable[[Any], str]

    @cached_property
    def _type(self) -> TypeAdapter:
        (name,) = signature(self.judge).parameters
        kind = get_type_hints(self.judge)[name]
        return TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))

    def read(self, answer: Any) -> Any:
        """The answer as the type that the judge declares.

        Raises:
            ValidationError: it is none.
        """
        plain = answer.tolist() if hasattr(answer, "tolist") and getattr(answer, "ndim", 1) <= 1 else answer
        for candidate in (answer, plain):
            try:
                return self._type.validate_python(candidate)
            except ValidationError as error:
                refused = error
        raise refused


def exercise(
    number: str, expects: str, *, hints: Sequence[str], reference: Callable[[], Any]
) -> Callable[[Callable[[Any], str]], Callable[[Any], str]]:
    """Declares the function below it as the judge of an exercise; see `Exercise`."""

    def declare(judge: Callable[[Any], str]) -> Callable[[Any], str]:
        _exercises[number] = Exercise(number, expects, hints, reference, judge)
        return judge

    return declare


def expect(condition: Any, found: str) -> None:
    """Goes on if the condition holds.

    Raises:
        Miss: it does not; `found` says what the answer turned out to be.
    """
    if not condition:
        raise Miss(found)


def declared(notebook: str) -> dict[str, Exercise]:
    """The exercises of a notebook by their numbers.

    Raises:
        KeyError: no notebook has this number.
    """
    if notebook not in NOTEBOOKS:
        raise KeyError(f"no exercises belong to notebook {edge.short(notebook)!r}; there are {edge.few(NOTEBOOKS, 20)}")
    import_module(f"nbhelpers.exercises.{NOTEBOOKS[notebook]}")
    return {number: each for number, each in _exercises.items() if number.startswith(f"{notebook}.")}


def check(number: str, answer: Any) -> Outcome:
    """Judges an answer by computing again what it claims.

    Args:
        number: of the exercise: the notebook's, a dot, its own, such as `02.2`.
        answer: what was found; `...` stands for "not yet".

    Returns:
        Right, with the reason. Otherwise a hint; at the second miss the next hint, from the third on the reference.
        An answer of a wrong type is no miss: it is told what an answer is. A notebook goes on whatever it says.

    Raises:
        KeyError: there is no such exercise.
    """
    known = declared(number.partition(".")[0])
    if number not in known:
        raise KeyError(f"there is no exercise {edge.short(number)!r}; notebook {number[:2]} has {edge.few(known)}")
    task = known[number]
    if answer is ... or answer is None:
        return Outcome(number, None, f"Not answered yet. Put your answer in the place of the dots: {task.expects}.")
    try:
        value = task.read(answer)
    except ValidationError:
        given = f"{edge.short(repr(answer))} ({type(answer).__name__})"
        return Outcome(number, None, f"The answer is to be {task.expects}, not {given}.")
    try:
        reason = task.judge(value)
    except Miss as miss:
        _misses[number] += 1
        return Outcome(number, False, f"Not yet. {miss} {_help(task, _misses[number])}")
    _misses.pop(number, None)
    return Outcome(number, True, f"Right. {reason}")


def samples() -> Path:
    """The folder of sample photos: beside the notebooks, here, or in the checkout that the package lies in."""
    checkout = Path(__file__).parents[2]
    places = [Path("..") / "sample_images", Path("sample_images"), checkout / "sample_images"]
    return next((place for place in places if place.is_dir()), places[0])


def _help(task: Exercise, misses: int) -> str:
    if misses <= 2:
        return f"Hint: {task.hints[min(misses, len(task.hints)) - 1]}"
    found = task.reference()
    value = found if isinstance(found, (int, float, str, list, tuple, dict)) else f"a {type(found).__name__}"
    return f"Reference: {value}. The solution below shows the way to it."
