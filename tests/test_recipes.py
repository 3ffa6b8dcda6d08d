"""One declaration of a technique's parameters, and everything made from it: messages, cells, tables, pictures."""

import ast
import hashlib
import json
import time
from pathlib import Path
from typing import Literal

import hostile
import nbformat
import numpy as np
import papermill
import pytest
import torch
from papermill.translators import PythonTranslator
from PIL import Image
from small_networks import noise

from nbhelpers import images, recipes
from nbhelpers.ascent import Step
from nbhelpers.ascent.canvas import Pixels
from nbhelpers.recipes import Field, Recipe, bounds, choices
from nbhelpers.techniques.activation_maximization import ActivationMaximization, save


class Stripes(Recipe):
    """Draws stripes: a recipe for these tests."""

    width: int = Field(3, ge=1, le=9, description="of a stripe in pixels")
    colours: list[float] = Field([0.25, 1.0], description="of the two stripes")
    kind: Literal["plain", "soft"] = Field("plain", description="how the edges look")
    title: str = Field('with "quotes" and ß', description="free text")
    limit: int | None = Field(None, description="no limit if None")
    angle: float = Field(0.5, gt=0, description="in radians")
    seed: int = Field(0, ge=0, description="of the noise")

    def iterate(self, network=None):
        for index in (1, 2):
            canvas = Pixels(noise(2, 3, 8, 8, seed=self.seed) / index)
            yield Step(index, 2, torch.zeros(2), torch.ones(2, dtype=torch.bool), canvas)


SMALL = dict(layer="block2.conv1", channels=[3, 5], size=24, rounds=2, steps=2)


def test_run_is_the_last_step():
    assert Stripes().run().index == 2
    assert torch.equal(Stripes(seed=4).run().picture, noise(2, 3, 8, 8, seed=4) / 2)


def test_a_recipe_without_a_way_to_carry_it_out_says_so():
    class Unfinished(Recipe):
        pass

    with pytest.raises(NotImplementedError, match="Unfinished does not say"):
        Unfinished().run()
    del Recipe.kinds["Unfinished"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (dict(widht=3), r"no parameter 'widht' \(did you mean 'width'\?\).*It has: width, colours"),
        (dict(zzz=3, qqq=4), r"no parameters 'zzz', 'qqq'\. It has: width"),
        (dict(width="wide"), r"width = 'wide': .*valid integer.*of a stripe in pixels"),
        (dict(width=2.5), r"width = 2\.5: .*integer"),
        (dict(width=10), r"width = 10: .*less than or equal to 9.*of a stripe"),
        (dict(width=0, kind="hard"), r"width = 0: .*greater than or equal to 1.*kind = 'hard': .*'plain' or 'soft'"),
        (dict(colours=3), r"colours = 3: .*valid list"),
        (dict(colours=[1, "red"]), r"colours = 'red': .*valid number"),
        (dict(angle=float("nan")), r"angle = nan: .*finite|angle = nan: .*greater"),
        (dict(limit="none"), r"limit = 'none'"),
        (dict(title=7), r"title = 7: .*valid string"),
    ],
)
def test_what_does_not_fit_is_said_in_the_readers_words(parameters, message):
    with pytest.raises(ValueError, match=message) as caught:
        Stripes(**parameters)
    assert "pydantic.dev" not in str(caught.value)
    with pytest.raises(ValueError, match=message):
        Stripes().changed(**parameters)


def test_a_changed_recipe_is_checked_and_the_first_one_stays():
    first = Stripes(width=2)
    assert first.changed(seed=5).model_dump() == first.model_dump() | {"seed": 5}
    assert first.seed == 0
    first.colours.append(9.0)
    assert Stripes().colours == [0.25, 1.0]
    with pytest.raises(ValueError, match="less than or equal to 9"):
        first.width = 99
    assert first.width == 2


def test_the_slug_is_the_kind_and_a_hash_of_the_parameters():
    text = json.dumps(json.loads(Stripes().model_dump_json()), sort_keys=True)
    assert Stripes().slug == "stripes-" + hashlib.sha256(text.encode()).hexdigest()[:8]
    assert Stripes().slug == Stripes(seed=0, width=3).slug == "stripes-" + Stripes().slug[-8:]
    assert len({Stripes(seed=seed).slug for seed in range(50)}) == 50
    assert ActivationMaximization().slug.startswith("activation_maximization-")


def test_bounds_and_choices_are_those_declared():
    assert bounds(Stripes, "width") == (1, 9)
    assert bounds(Stripes, "angle") == (0, None)
    assert bounds(Stripes, "title") == (None, None)
    assert choices(Stripes, "kind") == ["plain", "soft"]
    assert choices(Stripes, "width") == []


def test_the_parameters_table():
    lines = recipes.parameters_table(Stripes).splitlines()
    assert lines[0] == "| parameter | default | range | meaning |"
    assert lines[2] == "| `width` | `3` | 1 to 9 | of a stripe in pixels |"
    assert lines[4] == '| `kind` | `"plain"` | `plain`, `soft` | how the edges look |'
    assert lines[7] == "| `angle` | `0.5` | from 0 | in radians |"
    assert len(lines) == 2 + len(Stripes.model_fields)


# The notebook's cell.


def test_the_parameters_cell_is_python_that_makes_the_defaults():
    namespace = {}
    exec(recipes.parameters_cell(Stripes), namespace)
    assert Stripes(**{name: namespace[name] for name in Stripes.model_fields}) == Stripes()
    annotations = [ast.unparse(node.annotation) for node in ast.parse(recipes.parameters_cell(Stripes)).body]
    assert annotations == ["int", "list[float]", "str", "str", "int | None", "float", "int"]


@pytest.mark.parametrize("kind", [Stripes, ActivationMaximization], ids=lambda kind: kind.__name__)
def test_papermill_reads_the_parameters_cell(kind, tmp_path):
    cell = nbformat.v4.new_code_cell(recipes.parameters_cell(kind), metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(notebook, tmp_path / "made.ipynb")
    found = papermill.inspect_notebook(str(tmp_path / "made.ipynb"))
    for name, field in kind.model_fields.items():
        if name in ("limit", "size"):
            continue  # papermill's reader knows no unions; nbhelpers.notebooks.parameters does
        assert ast.literal_eval(found[name]["default"]) == field.get_default(call_default_factory=True)
        assert found[name]["help"] == field.description


def namespace(kind=Stripes, injected: dict | None = None, **others):
    """A notebook's globals() after its parameters cell, and perhaps the one papermill adds."""
    sources = ["", "import torch", recipes.parameters_cell(kind)]
    if injected is not None:
        sources.append(PythonTranslator.codify(injected, "Parameters"))
    made = {"In": sources, "unrelated": 3, "torch": torch, **others}
    for source in sources:
        exec(source, made)
    return made


def test_a_recipe_from_a_notebook():
    assert recipes.from_notebook(Stripes, namespace()) == Stripes()
    injected = dict(width=5, colours=[0.5, 0.125], title='a "b" \\ \n c', limit=7, angle=1e-6, kind="soft")
    assert recipes.from_notebook(Stripes, namespace(injected=injected)) == Stripes(**injected)
    assert recipes.from_notebook(Stripes, namespace(injected=dict(limit=None))) == Stripes()


def test_what_papermill_only_warns_about_is_an_error():
    with pytest.raises(ValueError, match=r"no parameter 'widht' \(did you mean 'width'\?\)"):
        recipes.from_notebook(Stripes, namespace(injected=dict(widht=5)))
    with pytest.raises(ValueError, match="width = 'five'"):
        recipes.from_notebook(Stripes, namespace(injected=dict(width="five")))
    # papermill turns a tuple into text
    with pytest.raises(ValueError, match=r"colours = .*valid list"):
        recipes.from_notebook(Stripes, namespace(injected=dict(colours=(0.5, 1.0))))


class Dots(Recipe):
    """Another technique in the same notebook."""

    width: int = Field(3, ge=1, le=9, description="of the picture the dots lie in")
    radius: float = Field(0.25, gt=0, description="of a dot")


class WideDots(Recipe):
    """One whose width is another's."""

    width: int = Field(4, description="of something else")


def test_two_recipes_from_one_notebook_share_what_both_declare():
    cell = recipes.parameters_cell(Stripes, Dots)
    assert cell.splitlines()[: len(Stripes.model_fields)] == recipes.parameters_cell(Stripes).splitlines()
    assert cell.splitlines()[len(Stripes.model_fields) :] == ["radius: float = 0.25  # of a dot"]
    made = {"In": [cell, "# Parameters\nwidth = 5\nradius = 0.5"]}
    for source in made["In"]:
        exec(source, made)
    assert recipes.several_from_notebook([Stripes, Dots], made) == [Stripes(width=5), Dots(width=5, radius=0.5)]
    made["In"].append("# Parameters\nradios = 1")
    with pytest.raises(ValueError, match=r"Stripes and Dots have no parameter 'radios' \(did you mean 'radius'\?\)"):
        recipes.several_from_notebook([Stripes, Dots], made)
    with pytest.raises(ValueError, match="WideDots declares 'width' with another type or default"):
        recipes.parameters_cell(Stripes, WideDots)


# From a picture back to its recipe.


def test_a_picture_made_again_from_its_file_has_the_same_pixels(tmp_path):
    recipe = ActivationMaximization(**SMALL, canvas="fourier", seed=3)
    paths = save(recipe, recipe.run(), tmp_path)
    assert len(paths) == 2
    for path in paths:
        assert recipes.from_picture(path) == recipe
        again = images.to_pil(recipes.remake(path))
        assert np.array_equal(np.asarray(again), np.asarray(Image.open(path)))
    assert not np.array_equal(*[np.asarray(Image.open(path)) for path in paths])


def test_the_files_own_version_and_place_are_in_it(tmp_path):
    recipe = Stripes(seed=2)
    images.save(recipe.run().picture[1], tmp_path / "one.png", recipe=recipe.document() | {"index": 1})
    document = images.read_recipe(tmp_path / "one.png")
    assert document["recipe"] == "Stripes"
    assert document["parameters"] == recipe.model_dump()
    assert set(document) == {"recipe", "parameters", "nbhelpers", "index"}
    assert torch.equal(recipes.remake(tmp_path / "one.png"), recipe.run().picture[1])


def test_pictures_are_saved_with_their_place_and_one_may_be_left_out(tmp_path):
    recipe = Stripes(seed=2)
    made = recipe.run().picture
    paths = recipes.save_pictures(recipe, made, [None, *(f"stripe {index}" for index in range(1, len(made)))], tmp_path)
    assert [path.name for path in paths] == [f"{recipe.slug}-stripe {index}.png" for index in range(1, len(made))]
    assert torch.equal(recipes.remake(paths[0]), made[1])
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    with pytest.raises(ValueError, match="argument"):
        recipes.save_pictures(recipe, made, ["one name"], tmp_path)


def test_what_cannot_be_made_again_is_said(tmp_path):
    picture, path = noise(3, 8, 8), tmp_path / "picture.png"
    with pytest.raises(FileNotFoundError):
        recipes.from_picture(path)
    images.save(picture, path)
    with pytest.raises(ValueError, match="carries no recipe"):
        recipes.remake(path)
    images.save(picture, path, recipe=Stripes().document())
    with pytest.raises(ValueError, match=r"sheet of several pictures.*from_picture\(path\)\.run"):
        recipes.remake(path)
    assert recipes.from_picture(path) == Stripes()
    images.save(picture, path, recipe={"recipe": "Spirals", "parameters": {}})
    with pytest.raises(ValueError, match=r"unknown recipe 'Spirals': this version knows .*ActivationMaximization"):
        recipes.from_picture(path)
    images.save(picture, path, recipe={"recipe": "Stripes", "parameters": {"width": 3, "height": 2}})
    with pytest.raises(ValueError, match="no parameter 'height'"):
        recipes.from_picture(path)
    images.save(picture, path, recipe={"something": "else"})
    with pytest.raises(ValueError, match="unknown recipe None"):
        recipes.from_picture(path)


@pytest.mark.parametrize(
    ("text", "said"), (hostile.NO_DATA | hostile.NO_RECIPE).values(), ids=hostile.NO_DATA | hostile.NO_RECIPE
)
def test_what_no_technique_wrote_is_refused_at_once(tmp_path, text, said):
    path = hostile.picture(tmp_path / "a.png", text)
    recipes.kind_named("Saliency")  # every technique is there
    for door in (recipes.from_picture, recipes.remake):
        began = time.perf_counter()
        with pytest.raises(ValueError, match=said) as caught:
            door(path)
        assert time.perf_counter() - began < 2
        assert str(path) in str(caught.value)
        assert len(str(caught.value)) < 1500


def test_a_picture_that_its_recipe_does_not_make(tmp_path):
    for index in (2, 10**50):
        images.save(noise(3, 8, 8), tmp_path / "a.png", recipe=Stripes().document() | {"index": index})
        with pytest.raises(ValueError, match=rf"{index}, out of bounds: the recipe makes 2 pictures"):
            recipes.remake(tmp_path / "a.png")
    with pytest.raises(ValueError, match="the recipe makes 0 pictures"):
        recipes.one_of("no step of pictures", 0)


def test_only_the_last_cell_of_papermills_counts_and_in_it_plain_assignments() -> None:
    mended = {"In": ["", "# Parameters\nlayr = 'x'", "# Parameters\nlayer = 'conv'"], "layer": "conv"}
    assert recipes.from_notebook(ActivationMaximization, mended).layer == "conv"
    own = {"In": ["", "# Parameters of my plot\nwidth = 3", "# Parameters\na, b = 1, 2\nc.d = 3\ne: int = 4"]}
    assert recipes.from_notebook(ActivationMaximization, own) == ActivationMaximization()
    with pytest.raises(ValueError, match="has no parameter 'layr'"):
        recipes.from_notebook(ActivationMaximization, {"In": [*mended["In"], "# Parameters\nlayr = 'x'"]})


def test_a_picture_holds_what_was_measured_of_it(tmp_path: Path) -> None:
    recipe, made = Stripes(), torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    made[1, :, :, :4] = 1
    natural = images.naturalness_of_each(made)
    paths = recipes.save_pictures(recipe, made, ["a", "b"], tmp_path, measured=natural)
    first, second = (images.read_recipe(path)["measured"] for path in paths)
    assert first["contrast"] == pytest.approx(made[0].mean(0).std(correction=0).item(), abs=0.005)
    assert second["burnt out"] > 0.5 > first["burnt out"]
    (plain,) = recipes.save_pictures(recipe, made[:1], ["c"], tmp_path)
    assert "measured" not in images.read_recipe(plain)
