"""An activation atlas to walk through: `walk` shows in the notebook what the page of `directions.atlas_page` shows.

The script is the page's own. It zooms, moves and looks into squares without asking the kernel, which has sent it all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anywidget
import traitlets

from nbhelpers import pages
from nbhelpers.controls import cells
from nbhelpers.directions import atlas_page
from nbhelpers.directions.activation_atlas import Atlas


def walk(atlases: Atlas | Sequence[Atlas], photos: bool = True) -> AtlasView:
    """Let the reader zoom into a map, move over it, look into its squares and find where a class lives.

    A cell that runs again closes the view that it made before.

    Args:
        atlases: a map, or one map under several grids, coarse to fine (`activation_atlas.with_cells`); all drawn.
        photos: whether the photos nearest to each square's mean are shown.

    Returns:
        What Jupyter displays: the widget, or the page in a frame where widgets do not run.
    """
    return AtlasView([atlases] if isinstance(atlases, Atlas) else list(atlases), photos)


class AtlasView(anywidget.AnyWidget):
    """The widget of `walk`."""

    _esm = pages.text("atlas.js")
    _css = pages.text("atlas.css")

    atlas = traitlets.Dict(help="what the page shows").tag(sync=True)

    def __init__(self, atlases: list[Atlas], photos: bool) -> None:
        cells.succeed(self)
        super().__init__(atlas=atlas_page.contents(atlases, photos))
        self._page, self._title = atlas_page.text(atlases, photos), atlases[-1].title

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_(**options)
        bundle = bundle[0] if isinstance(bundle, tuple) else bundle
        said = f"activation atlas of {self._title}"
        return {**bundle, "text/html": atlas_page.framed(self._page), "text/plain": said}
