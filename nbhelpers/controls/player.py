"""Sliders made from a recipe, and the live picture beside them.

    play(recipe, ["layer", "channels", "blur", "upscale_factor"])

Moving a slider starts the recipe again and shows the picture while it grows, with score, progress and a stop
button. Where widgets do not run (papermill, a page on the web) the same cell shows the finished picture.

Work runs on a thread of its own, one at a time, so that the sliders stay responsive; a newer setting replaces the
run under way. The thread ends when nothing is left to do. Pictures are PNG bytes put into one image widget: no
pyplot, which may not be used from two threads.
"""

from __future__ import annotations

import html
import io
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
from IPython.display import display
from PIL import Image
from torch import nn

from nbhelpers import images, models
from nbhelpers.ascent import Step
from nbhelpers.controls import sliders
from nbhelpers.images import figures
from nbhelpers.recipes import Recipe

LEGIBLE = 384  # pixels; smaller images are enlarged to this, so that a growing picture stays in its frame
REFRESH = 0.15  # seconds between two pictures on the way
# a readout takes the room that a layer's name needs
STYLE = "<style>.nbhelpers-sliders .widget-readout { width: auto; min-width: 4.5em; max-width: 16em; }</style>"
Draw = Callable[[Recipe, Step], Image.Image]


def draw_tiles(recipe: Recipe, step: Step) -> Image.Image:
    """The pictures of a step, side by side; small ones are enlarged for the eye."""
    tiles = images.tile(step.picture)
    factor = max(1.0, LEGIBLE / min(tiles.size))
    return tiles.resize((round(tiles.width * factor), round(tiles.height * factor)), Image.Resampling.BICUBIC)


def watch(recipe: Recipe, network: nn.Module | None = None, draw: Draw = draw_tiles) -> Step:
    """Carry out a recipe with a progress bar and the growing picture in the cell's output.

    Interrupting the kernel stops the run and keeps the picture so far.

    Returns:
        The last step that was made.
    """
    bar, picture, status = _progress_bar(), widgets.Image(format="png"), widgets.HTML()
    box = display(widgets.VBox([widgets.HBox([bar, status]), picture]), display_id=True)
    step = None
    try:
        for made in _paced(recipe.iterate(network), bar, status, lambda step: _show(picture, draw(recipe, step))):
            step = made
    except KeyboardInterrupt:
        if step is None:
            raise
        print(f"Stopped at step {step.index} of {step.total}; the picture so far is kept.")
    image = draw(recipe, step)
    if box is not None:  # a plain script has no cell
        box.update(figures.still(image, repr(recipe)), raw=True)
    return step


def play(
    recipe: Recipe,
    show: Sequence[str],
    network: nn.Module | None = None,
    draw: Draw = draw_tiles,
    options: dict[str, Sequence[Any]] | None = None,
) -> Player:
    """Sliders for some of a recipe's parameters, and the picture they make.

    Args:
        recipe: where the sliders start.
        show: names of the parameters to show, in order.
        network: used in place of the one the recipe names.
        draw: makes the image to show from the recipe and a step.
        options: values to choose from, for parameters whose range the recipe does not know.

    Returns:
        What Jupyter displays: the widgets, or the finished picture where widgets do not run.
    """
    return Player(recipe, show, network, draw, options or {})


class Player:
    """The widgets of `play`; `recipe` and `step` hold what is shown now."""

    def __init__(
        self,
        recipe: Recipe,
        show: Sequence[str],
        network: nn.Module | None,
        draw: Draw,
        options: dict[str, Sequence[Any]],
    ) -> None:
        self.recipe = recipe
        self.step: Step | None = None
        self.network = models.as_network(network if network is not None else recipe.network)
        self._network_name = recipe.network
        self._draw = draw
        self._turn = threading.Condition()
        self._next: Recipe | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

        self.sliders = {name: sliders.slider(recipe, name, self.network, options.get(name)) for name in show}
        self.image = widgets.Image(format="png", layout=widgets.Layout(width="max-content", max_width="100%"))
        self.image.add_class("nbhelpers-picture")
        self.bar = _progress_bar()
        self.status = widgets.HTML()
        self.status.add_class("nbhelpers-status")
        self.stop_button = widgets.Button(description="Stop", icon="stop", tooltip="stop and keep the picture so far")
        shown = widgets.GridBox(
            list(self.sliders.values()),
            layout=widgets.Layout(grid_template_columns="repeat(auto-fill, minmax(26em, 1fr))"),
        )
        shown.add_class("nbhelpers-sliders")
        self.widget = widgets.VBox(
            [
                shown,
                widgets.HTML(STYLE, layout=widgets.Layout(display="none")),
                widgets.HBox([self.bar, self.stop_button, self.status]),
                self.image,
            ]
        )
        for name, slider in self.sliders.items():
            slider.observe(lambda change, name=name: self._changed(name, change["new"]), "value")
        self.stop_button.on_click(lambda button: self.stop())
        self._carry_out(recipe)

    def stop(self) -> None:
        """End the run under way; the picture so far stays."""
        with self._turn:
            self._next = None
            self._stop.set()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the run under way has ended."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        return figures.live(self.widget, Image.open(io.BytesIO(self.image.value)), repr(self.recipe))

    def _changed(self, name: str, value: Any) -> None:
        try:
            self._follow(name, value)
            recipe = self.recipe.changed(**{name: sliders.from_slider(self.recipe, name, value)})
        except Exception as error:  # weights that cannot be had, say; a callback has no other audience
            self.status.value = _complaint(error)
            return
        self.recipe = recipe
        with self._turn:
            self._next = recipe
            self._stop.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="nbhelpers-play", daemon=True)
                self._thread.start()

    def _follow(self, name: str, value: Any) -> None:
        """Keep the sliders that depend on another in step: layers on the network, channels on the layer."""
        if name == "network" and value != self._network_name:
            self.network, self._network_name = models.load(value), value
            if "layer" in self.sliders:
                names = sliders.layer_names(self.network)
                self.recipe = self.recipe.changed(network=value, layer=names[len(names) // 2])
                sliders.set_options(self.sliders["layer"], names, self.recipe.layer)
                self._follow("layer", self.recipe.layer)
        elif name == "layer" and (channel := next((each for each in sliders.CHANNELS if each in self.sliders), None)):
            slider = self.sliders[channel]
            last = sliders.last_channel(self.network, value)
            kept = min(slider.value, last)
            self.recipe = self.recipe.changed(**{channel: sliders.from_slider(self.recipe, channel, kept)})
            with slider.hold_trait_notifications():
                slider.max = last

    def _work(self) -> None:
        while True:
            with self._turn:
                recipe, self._next = self._next, None
                if recipe is None:
                    self._thread = None
                    return
                self._stop.clear()
            try:
                self._carry_out(recipe)
            except Exception as error:  # shown where the user looks: this thread has no other audience
                self.status.value = _complaint(error)
                self.bar.bar_style = "danger"

    def _carry_out(self, recipe: Recipe) -> None:
        for step in _paced(
            recipe.iterate(self.network),
            self.bar,
            self.status,
            lambda step: _show(self.image, self._draw(recipe, step)),
            self._stop,
        ):
            self.step = step


def _paced(steps, bar, status, show: Callable[[Step], None], stop: threading.Event | None = None):
    """Pass the steps on; now and then, and at the end, show the picture, the score and the time left."""
    begun = shown = time.monotonic()
    bar.value, bar.bar_style = 0, ""
    step = None
    for step in steps:
        now = time.monotonic()
        if step.index == 1 or now - shown > REFRESH:
            left = (now - begun) / step.index * (step.total - step.index)
            bar.max, bar.value = step.total, step.index
            status.value = f"step {step.index} of {step.total} · score {_scores(step)} · {math.ceil(left)} s left"
            show(step)
            shown = time.monotonic()
        yield step
        if stop is not None and stop.is_set():
            break
    if step is not None:
        show(step)
        done = step.index == step.total
        bar.max, bar.value, bar.bar_style = step.total, step.index, "success" if done else "warning"
        state = "done" if done else f"stopped at step {step.index} of {step.total}"
        status.value = f"{state} · score {_scores(step)} · {time.monotonic() - begun:.1f} s"


def _scores(step: Any) -> str:
    return ", ".join(f"{score:.2f}" for score in step.scores.tolist()[:4]) + (" ..." if len(step.scores) > 4 else "")


def _progress_bar() -> widgets.IntProgress:
    return widgets.IntProgress(0, 0, 1, layout=widgets.Layout(width="14em"))


def _show(widget: widgets.Image, image: Image.Image) -> None:
    widget.value = figures.png(image)


def _complaint(error: Exception) -> str:
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return f"<b style='color: #b00020'>{html.escape(f'{type(error).__name__}: {text}')}</b>"
