"""The frame around every map: batches, classes, failures and sheets, with maps that are known beforehand."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_networks import noise
from torch import Tensor, nn

from nbhelpers import images, recipes
from nbhelpers.attribution import explanations
from nbhelpers.attribution.explanations import Explanation
from nbhelpers.attribution.gradients import NotFinite
from nbhelpers.images import Photos, overlays
from nbhelpers.models import Network
from nbhelpers.techniques.saliency import Saliency

NAMES = ["a.png", "b.png", "sub/c.png", "d.png", "e.png"]
LOGITS = torch.tensor([[1.0, 3, 2], [5, 4, 0], [0, 0, 1], [2, 9, 2], [1, 1, 4]])
OPTIONS = {"opacity": 0.4, "colour_map": "viridis"}


@pytest.fixture
def photos() -> Photos:
    return Photos(noise(5, 3, 16, 16), NAMES, {"f.png": "no picture"})


@pytest.fixture
def network() -> Network:
    return Network(nn.Identity(), "three", classes=["cat", "dog", "ship"], size=16)


class Attribution:
    """Logits from the table, the red channel as the map; remembers what it was asked, fails at some photos."""

    def __init__(self, *bad: int, error: Exception | None = None) -> None:
        self.bad, self.asked = set(bad), []
        self.error = error or NotFinite("the map is infinite")

    def __call__(self, pictures: Tensor, numbers: list[int]) -> tuple[Tensor, Tensor]:
        self.asked.append(numbers)
        if self.bad & set(numbers):
            raise self.error
        return LOGITS[numbers], pictures[:, 0]


def explain(
    network: Network, photos: Photos, target: int | None, attribute: Attribution, **changes
) -> Iterator[Explanation]:
    """The photos in batches of two."""
    batches = []
    for start in range(0, len(photos), 2):
        numbers = list(range(start, min(start + 2, len(photos))))
        some = Photos(photos.pictures[numbers], photos.names[start : start + 2], {} if start else photos.skipped)
        batches.append((numbers, some))
    return explanations.explain(network, batches, len(photos) + 1, target, attribute, **OPTIONS | changes)


def last(steps: Iterator[Explanation]) -> Explanation:
    return explanations.joined(steps)


def test_every_batch_adds_its_photos(photos: Photos, network: Network) -> None:
    attribute = Attribution()
    steps = list(explain(network, photos, None, attribute))
    assert attribute.asked == [[0, 1], [2, 3], [4]]
    assert [(step.index, step.total, step.numbers) for step in steps] == [(3, 6, [0, 1]), (5, 6, [2, 3]), (6, 6, [4])]
    assert [step.photos.names for step in steps] == [NAMES[:2], NAMES[2:4], NAMES[4:]]
    whole = explanations.joined(reversed(steps))
    assert whole.photos.names == NAMES
    assert whole.photos.skipped == {"f.png": "no picture"}
    assert whole.classes == [1, 0, 2, 1, 2]
    assert whole.labels == ["dog", "cat", "ship", "dog", "ship"]
    assert torch.equal(whole.logits, torch.tensor([3.0, 5, 1, 9, 4]))
    assert torch.equal(whole.scores, whole.logits)
    assert torch.allclose(whole.probabilities, LOGITS.softmax(1).amax(1))
    assert torch.equal(whole.maps, photos.pictures[:, 0])
    assert torch.equal(whole.picture, overlays.overlay(photos.pictures, photos.pictures[:, 0], 0.4, "viridis"))
    assert whole.failed == {}


def test_one_class_for_all(photos: Photos, network: Network) -> None:
    found = last(explain(network, photos, 2, Attribution()))
    assert found.labels == ["ship"] * 5
    assert torch.equal(found.logits, LOGITS[:, 2])
    assert torch.allclose(found.probabilities, LOGITS.softmax(1)[:, 2])
    nameless = Network(nn.Identity(), "nameless", size=16)
    assert last(explain(nameless, photos, 2, Attribution())).labels == ["class 2"] * 5


def test_a_photo_that_fails_costs_only_itself(photos: Photos, network: Network) -> None:
    attribute = Attribution(0, 1, 3)
    steps = list(explain(network, photos, None, attribute))
    assert attribute.asked == [[0, 1], [0], [1], [2, 3], [2], [3], [4]]
    assert [step.photos.names for step in steps] == [[], ["sub/c.png"], ["e.png"]]
    assert [list(step.failed) for step in steps] == [["a.png", "b.png"], ["d.png"], []]
    whole = explanations.joined(steps)
    assert (whole.index, list(whole.failed)) == (6, ["a.png", "b.png", "d.png"])
    assert whole.failed["d.png"] == "the map is infinite"
    assert whole.labels == ["ship", "ship"]
    assert torch.equal(whole.maps, photos.pictures[[2, 4], 0])


def test_photos_of_which_none_can_be_explained_are_an_error(photos: Photos, network: Network) -> None:
    with pytest.raises(NotFinite, match="the map is infinite"):
        last(explain(network, photos, None, Attribution(*range(5))))


def test_what_the_network_itself_refuses_is_said_in_words(photos: Photos, network: Network) -> None:
    broken = Attribution(0, error=RuntimeError("sizes do not match"))
    with pytest.raises(ValueError, match=r"three, pictures of 16 x 16 pixels: sizes do not match"):
        last(explain(network, photos, None, broken))
    with pytest.raises(ValueError, match=r"no colour map 'magna'\. Nearest: magma"):
        last(explain(network, photos, None, Attribution(), colour_map="magna"))


def test_each_photo_is_painted_once(photos: Photos, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    painted, overlay = [], overlays.overlay

    def counted(pictures: Tensor, *arguments) -> Tensor:
        painted.append(len(pictures))
        return overlay(pictures, *arguments)

    monkeypatch.setattr(overlays, "overlay", counted)
    last(explain(network, photos, None, Attribution()))
    assert painted == [2, 2, 1]


def test_a_map_without_evidence_is_named(photos: Photos, network: Network) -> None:
    photos.pictures[1, 0] = 0.5
    assert last(explain(network, photos, None, Attribution())).empty == ["b.png"]


def test_the_sheet_shows_each_photo_above_its_overlay(photos: Photos, network: Network) -> None:
    found = last(explain(network, photos, None, Attribution()))
    sheet = explanations.sheet(found, [""] * 5, 16, columns=3, limit=4)
    assert sheet.width == 3 * 16 + 2 * 2
    shown = images.from_pil(sheet)
    left = 2 * (16 + 2)
    assert torch.allclose(shown[:, :16, left : left + 16], photos.pictures[2], atol=0.5 / 255 + 1e-6)
    assert shown[:, 16:18].eq(1).all()
    assert torch.allclose(shown[:, 18:34, left : left + 16], found.picture[2], atol=0.5 / 255 + 1e-6)
    assert shown[:, -34:, 18:].eq(1).all()  # the fifth is left out


def test_files_are_numbered_and_named_after_their_photo(photos: Photos, network: Network, tmp_path: Path) -> None:
    found = last(explain(network, photos, None, Attribution(1)))
    recipe = Saliency()
    paths = explanations.save(recipe, found, tmp_path / "new")
    assert [path.name.removeprefix(f"{recipe.slug}-") for path in paths] == [
        "000-a.png",
        "002-c.png",
        "003-d.png",
        "004-e.png",
    ]
    assert recipes.from_picture(paths[2]) == recipe
    assert images.read_recipe(paths[2])["index"] == 3
    assert torch.allclose(images.read(paths[2]), found.picture[2], atol=0.5 / 255 + 1e-6)
