"""A game: pictures, and two photos of which one belongs to them. The reader guesses; the machine has guessed before.

    guess(images.tile(made), pairs, machine)

Where widgets do not run (papermill, a page on the web) the same cell shows all pairs, solved.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
from PIL import Image

from nbhelpers import images
from nbhelpers.controls import cells
from nbhelpers.controls.picture import Picture
from nbhelpers.images import figures

SIDES = ("left", "right")
SHOWN = 192  # pixels, the side of a photo
SOLVED = 96  # the same, among all that are solved
ACROSS = 5  # pairs beside each other, solved


def guess(
    references: Image.Image, pairs: Sequence[tuple[Image.Image, Image.Image]], machine: Sequence[float], seed: int = 0
) -> Game:
    """Let the reader guess, photo after photo; what is chosen is told at once.

    A cell that runs again closes the game that it made before.

    Args:
        references: what the right photo of each pair goes with.
        pairs: the right photo, and the other one; which stands where is drawn.
        machine: of each pair, 1 where the machine was right, 0 where not, 0.5 where it could not tell.
        seed: of the places.

    Returns:
        What Jupyter displays; its `score` counts.

    Raises:
        ValueError: no pairs, or not as many as the machine's answers.
    """
    if not pairs or len(pairs) != len(machine):
        raise ValueError(f"a game needs pairs and an answer of the machine to each: {len(pairs)} and {len(machine)}")
    return Game(references, pairs, machine, seed)


class Game:
    """The widgets of `guess`.

    Attributes:
        guesses: whether each was right, so far.
    """

    def __init__(
        self,
        references: Image.Image,
        pairs: Sequence[tuple[Image.Image, Image.Image]],
        machine: Sequence[float],
        seed: int,
    ) -> None:
        cells.succeed(self)
        self.guesses: list[bool] = []
        self._pairs, self._machine, self._references = list(pairs), list(machine), references
        self._right = [random.Random(f"{seed} {number}").randrange(2) for number in range(len(pairs))]
        shown = Picture()
        shown.show(references, "the pictures that one of the two photos goes with")
        self.photos = [Picture() for _ in SIDES]
        self.buttons = [widgets.Button(description=f"{side} one", tooltip=f"the {side} photo") for side in SIDES]
        for side, button in enumerate(self.buttons):
            button.on_click(lambda button, side=side: self.choose(side))
        self.again = widgets.Button(description="Again", icon="undo", tooltip="the same questions from the start")
        self.again.on_click(lambda button: self.restart())
        self.status = widgets.HTML()
        self.status.add_class("nbhelpers-status")
        columns = [widgets.VBox(list(pair)) for pair in zip(self.photos, self.buttons, strict=True)]
        self._question = widgets.HBox(columns, layout=widgets.Layout(max_width=f"{2 * SHOWN + 24}px", grid_gap="16px"))
        self._solution = Picture()
        self.widget = widgets.VBox([shown, self.status, self._question, self._solution, self.again])
        self.widget.add_class("nbhelpers-game")
        self._ask()

    @property
    def score(self) -> int:
        """Right guesses so far."""
        return sum(self.guesses)

    def choose(self, side: int) -> None:
        """Guess: 0 is the left photo, 1 the right one."""
        if len(self.guesses) < len(self._pairs):
            self.guesses.append(side == self._right[len(self.guesses)])
            self._ask()

    def restart(self) -> None:
        """The same questions from the start."""
        self.guesses.clear()
        self._ask()

    def close(self) -> None:
        """Take the widgets from the page."""
        cells.close(self.widget)

    def solved(self) -> Image.Image:
        """All pairs on paper: which photo is the right one, and whether the machine said so."""
        tiles, labels = [], []
        for pair, right, machine in zip(self._pairs, self._right, self._machine, strict=True):
            both = [pair[0], pair[1]] if right == 0 else [pair[1], pair[0]]
            tile = Image.new("RGB", (2 * SOLVED + 2, SOLVED), "white")
            for place, photo in enumerate(both):
                tile.paste(_enlarged(photo, SOLVED), (place * (SOLVED + 2), 0))
            tiles.append(tile)
            labels.append(f"{SIDES[right]}; machine: {_machine(right, machine)}")
        sheet = images.tile([images.from_pil(tile) for tile in tiles], columns=ACROSS, gap=6, labels=labels)
        above = Image.new("RGB", (sheet.width, sheet.height + self._references.height + 6), "white")
        above.paste(self._references, (0, 0))
        above.paste(sheet, (0, self._references.height + 6))
        return above

    def _ask(self) -> None:
        """The next pair, or what it came to."""
        done, total = len(self.guesses), len(self._pairs)
        told = ""
        if done:
            told = "Right" if self.guesses[-1] else "No, the other one"
            told += f": you {self.score}, the machine {sum(self._machine[:done]):g} of {done}. "
        self._question.layout.display = "none" if done == total else ""
        self._solution.layout.display = "" if done == total else "none"
        if done == total:
            self.status.value = f"{told}That was all; guessing blindly gives {total / 2:g}."
            self._solution.show(self.solved(), f"all {total} pairs, solved")
            return
        self.status.value = f"{told}Question {done + 1} of {total}: which one goes with the pictures above?"
        pair, right = self._pairs[done], self._right[done]
        for place, picture in enumerate(self.photos):
            picture.show(_enlarged(pair[place != right], SHOWN), f"the {SIDES[place]} photo of question {done + 1}")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return figures.live(self.widget, self.solved(), f"a game of {len(self._pairs)} questions")


def _machine(right: int, machine: float) -> str:
    return "cannot tell" if machine == 0.5 else SIDES[right if machine else 1 - right]


def _enlarged(photo: Image.Image, side: int) -> Image.Image:
    return photo.resize((side, side), Image.Resampling.BICUBIC)
