"""Every technique that reads photos refuses what is none in words, whichever of its parameters names them."""

from pathlib import Path

import pytest

from nbhelpers import recipes
from nbhelpers.attribution import boxes
from nbhelpers.recipes import Recipe
from nbhelpers.techniques.principal_features import PrincipalFeatures, palette_learning

NAMES = {"photos", "photo", "start", "data_dir"}

recipes.kind_named("Saliency")  # every technique is there
DOORS = [
    (kind, name)
    for kind in Recipe.kinds.values()
    for name in sorted(NAMES & set(kind.model_fields))
    if kind.__module__.startswith("nbhelpers.") and kind.model_fields[name].annotation is str
    if (kind.__name__, name) != ("InterpretationTest", "photo")  # a name in the folder
]


@pytest.mark.parametrize(("kind", "name"), DOORS, ids=[f"{kind.__name__}.{name}" for kind, name in DOORS])
def test_no_photos_are_refused_in_words(kind: type[Recipe], name: str, odd_paths: dict[str, Path]) -> None:
    for path in odd_paths.values():
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            kind(**{name: str(path)}).run()
        assert len(str(caught.value)) < 900
        str(caught.value).encode(errors="surrogatepass")


def test_no_photos_for_a_palette_or_with_boxes(odd_paths: dict[str, Path], tmp_path: Path) -> None:
    for path in odd_paths.values():
        with pytest.raises((ValueError, FileNotFoundError)):
            boxes.read(path, 16)
        with pytest.raises((ValueError, FileNotFoundError)):
            next(palette_learning.Fit(PrincipalFeatures(photos=str(path)), tmp_path / "state").iterate())
