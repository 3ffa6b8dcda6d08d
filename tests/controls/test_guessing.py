"""The game without a browser: what is shown, what is counted, what is left where widgets do not run."""

import io

import pytest
from PIL import Image

from nbhelpers import controls

RIGHT, WRONG = (Image.new("RGB", (8, 8), colour) for colour in ("teal", "tomato"))
MACHINE = [1.0, 0.0, 0.5, 1.0, 1.0, 0.0]


@pytest.fixture
def game():
    return controls.guess(Image.new("RGB", (40, 8)), [(RIGHT, WRONG)] * 6, MACHINE, seed=1)


def _side_of(game, photo: Image.Image) -> int:
    shown = [Image.open(io.BytesIO(picture.value)).getpixel((9, 9)) for picture in game.photos]
    return shown.index(photo.getpixel((0, 0)))


def test_right_and_wrong_guesses_are_counted_beside_the_machine(game) -> None:
    sides = []
    for number in range(6):
        sides.append(_side_of(game, RIGHT))
        game.buttons[sides[-1] if number != 2 else 1 - sides[-1]].click()
        assert ("Right" if number != 2 else "No, the other one") in game.status.value
    assert set(sides) == {0, 1}
    assert game.guesses == [True, True, False, True, True, True]
    assert "you 5, the machine 3.5 of 6" in game.status.value
    assert "guessing blindly gives 3" in game.status.value
    game.choose(0)  # all are answered
    assert len(game.guesses) == 6
    game.again.click()
    assert (game.score, game.guesses) == (0, [])
    assert game.status.value.startswith("Question 1 of 6")
    assert _side_of(game, RIGHT) == sides[0]


def test_on_paper_all_pairs_are_solved_and_the_places_are_those_of_the_game(game) -> None:
    bundle = game._repr_mimebundle_()
    assert {"image/jpeg", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(bundle)
    paper = game.solved()
    first = paper.getpixel((48, 8 + 6 + 48))
    assert first == (RIGHT if _side_of(game, RIGHT) == 0 else WRONG).getpixel((0, 0))


def test_a_game_is_closed_with_all_its_widgets(game) -> None:
    game.close()
    assert game.widget.comm is None
    assert all(part.comm is None for part in (*game.photos, *game.buttons, game.again))


def test_a_game_needs_an_answer_of_the_machine_to_each_pair() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        controls.guess(RIGHT, [(RIGHT, WRONG)] * 2, [1.0])
