"""The atlas in a notebook without a browser: what is sent, what is left where widgets do not run."""

import re
from html import unescape
from pathlib import Path

import nbformat
import pytest
from small_networks import tiny

from nbhelpers import controls, notebooks
from nbhelpers.directions import activation_atlas, atlas_page
from nbhelpers.directions.activation_atlas import ActivationAtlas, Atlas
from nbhelpers.models import Network

SMALL = dict(
    **dict(layer="relu2", drawn="conv2", size=16, cuts=2, places=1, fewest=1, cells=4),
    **dict(picture_size=16, rounds=1, steps=1),
)


@pytest.fixture(scope="module")
def levels() -> list[Atlas]:
    network = Network(tiny().eval(), "tiny", classes=["ant", "bee", "</iframe>\"'", "dog", "elk"], size=16)
    photos = Path(__file__).parents[2] / "sample_images"
    fine = activation_atlas.survey(ActivationAtlas(**SMALL, photos=str(photos)), network)
    return [activation_atlas.finished(each, network) for each in (activation_atlas.with_cells(fine, 2, network), fine)]


def test_the_widget_has_what_the_page_has(levels: list[Atlas]) -> None:
    view = controls.walk(levels)
    assert view.atlas == atlas_page.contents(levels)
    assert [level["cells"] for level in view.atlas["levels"]] == [2, 4]
    alone = controls.walk(levels[1], photos=False)
    assert alone.atlas == atlas_page.contents(levels[1:], photos=False)
    assert alone.atlas["levels"][0]["photos"] is None


def test_where_widgets_do_not_run_the_page_is_there_in_a_frame(levels: list[Atlas]) -> None:
    bundle = controls.walk(levels)._repr_mimebundle_()
    (page,) = re.findall(r"srcdoc='([^']*)'></iframe>", bundle["text/html"])
    assert unescape(page) == atlas_page.text(levels)
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", data=bundle)])
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {notebooks.WIDGET_STATE: {"state": {}}}})
    kept = notebooks.show_statically(notebook)
    assert "widgets" not in kept.metadata
    assert set(kept.cells[0].outputs[0].data) == {"text/html", "text/plain"}
