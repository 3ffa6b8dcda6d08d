"""Sliders made from a recipe, and the live picture beside them.

    play(recipe, ["layer", "channels", "blur", "upscale_factor"])

Moving a slider starts the recipe again and shows the picture while it grows, with score, progress and a stop
button. Where widgets do not run (papermill, a page on the web) the same cell shows the finished picture. The settings
can be reset, saved as a PNG that holds its recipe, and copied as parameters.

Work runs on a thread of its own, one at a time, so that the sliders stay responsive; a newer setting replaces the
run under way. The thread ends when nothing is left to do. Pictures are PNG bytes put into one image widget: no
pyplot, which may not be used from two threads.
"""

from __future__ import annotations

import html
import io
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets as widgets
from IPython.display import display
from PIL import Image
from torch import nn

from nbhelpers import edge, images, models
from nbhelpers.ascent import Step
from nbhelpers.controls import cells, copies, sliders
from nbhelpers.controls.picture import Picture
from nbhelpers.images import figures
from nbhelpers.recipes import Recipe

LEGIBLE = 384  # pixels; smaller images are enlarged to this, so that a growing picture stays in its frame
REFRESH = 0.15  # seconds between two pictures on the way
SAME = 1e-9  # relative: how far a browser's logarithms may move a number
Draw = Callable[[Recipe, Step], Image.Image]


def draw_tiles(recipe: Recipe, step: Step) -> Image.Image:
    """The pictures of a step, side by side; small ones are enlarged for the eye."""
    shapes = {tuple(picture.shape) for picture in step.picture}
    tiles = images.tile(step.picture if len(shapes) == 1 else images.framed(step.picture, max(max(shapes))))
    factor = max(1.0, LEGIBLE / min(tiles.size))
    return tiles.resize((round(tiles.width * factor), round(tiles.height * factor)), Image.Resampling.BICUBIC)


def watch(recipe: Recipe, network: nn.Module | None = None, draw: Draw = draw_tiles) -> Step:
    """Carry out a recipe with a progress bar and the growing picture in the cell's output.

    Interrupting the kernel stops the run and keeps the picture so far.

    Returns:
        The last step that was made.
    """
    bar, picture, status = _progress_bar(), Picture(), widgets.HTML()
    shown = widgets.VBox([widgets.HBox([bar, status]), picture])
    box = display(shown, display_id=True)
    step = None
    try:
        said = _said(recipe)
        for made in _paced(
            _steps(recipe, network), said, bar, status, lambda step: picture.show(draw(recipe, step), repr(recipe))
        ):
            step = made
    except KeyboardInterrupt:
        if step is None:
            raise
        print(f"Stopped at step {step.index} of {step.total}; the picture so far is kept.")
    image = draw(recipe, step)
    if box is not None:  # a plain script has no cell
        box.update(figures.still(image, repr(recipe)), raw=True)
    cells.close(shown)
    return step


def play(
    recipe: Recipe,
    show: Sequence[str],
    network: nn.Module | None = None,
    draw: Draw = draw_tiles,
    options: dict[str, Sequence[Any]] | None = None,
) -> Player:
    """Sliders for some of a recipe's parameters, and the picture they make.

    A cell that runs again closes the player that it made before, and goes on with its settings if the recipe is the
    same as then.

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
        self.step: Step | None = None
        self._begun, self._shows, self._draw = recipe, list(show), draw
        self._given = models.as_network(network if network is not None else recipe.network)
        self.network, self._network_name = self._given, recipe.network
        self._options = options
        self._error: Exception | None = None
        self._leading = False  # the player moves the sliders, not the reader
        self._latest = edge.Latest(self._work, "nbhelpers-play")

        before = [old for old in cells.succeed(self) if isinstance(old, Player)]
        same = [old.recipe for old in before if old._begun == recipe and old._shows == self._shows]
        self.recipe = same[0] if same else recipe
        if self.recipe.network != recipe.network:
            self.network, self._network_name = models.load(self.recipe.network), self.recipe.network

        self.sliders = {
            name: sliders.slider(self.recipe, name, self.network, options.get(name)) for name in self._shows
        }
        self.image = Picture()
        self.bar = _progress_bar()
        self.status = widgets.HTML()
        self.status.add_class("nbhelpers-status")
        self.notes = widgets.HTML()
        self.stop_button = _button("Stop", "stop", "stop and keep the picture so far", self.stop)
        self.reset_button = _button("Reset", "undo", "back to the settings that the cell began with", self.reset)
        self.save_button = _button("Save", "download", "save the picture as a PNG that holds its recipe", self.save)
        self.copy_as = widgets.Dropdown(
            options=["copy as ...", *copies.FORMS], description="settings", layout=widgets.Layout(width="15em")
        )
        self.copied = widgets.Textarea(
            description="copied", rows=3, layout=widgets.Layout(display="none", width="auto")
        )
        shown = widgets.VBox(list(self.sliders.values()))
        shown.add_class("nbhelpers-sliders")
        buttons = widgets.HBox(
            [self.stop_button, self.reset_button, self.save_button, self.copy_as],
            layout=widgets.Layout(flex_flow="row wrap"),
        )
        side = widgets.VBox([shown, self.notes, buttons, self.copied])
        side.add_class("nbhelpers-side")
        view = widgets.VBox([widgets.HBox([self.bar, self.status]), self.image])
        view.add_class("nbhelpers-view")
        self.widget = widgets.Box([side, view])
        self.widget.add_class("nbhelpers-player")
        for name, slider in self.sliders.items():
            slider.observe(lambda change, name=name: self._changed(name, change["new"]), "value")
        self.copy_as.observe(self._copy, "value")
        self._note()
        self._latest.put(self.recipe)

    def stop(self) -> None:
        """End the run under way; the picture so far stays."""
        self._latest.stop()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the run under way has ended."""
        self._latest.wait(timeout)

    def reset(self) -> None:
        """Back to the recipe that the player began with."""
        self._leading = True
        try:
            self.recipe, self.network, self._network_name = self._begun, self._given, self._begun.network
            self._offer(self.recipe, self._options)
            for name, slider in self.sliders.items():
                slider.value = sliders.to_slider(self._begun, name, slider)
        finally:
            self._leading = False
        self._note()
        self._latest.put(self.recipe)

    def save(self) -> None:
        """Hand the picture to the browser as a PNG that holds its recipe."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{self.recipe.slug}.png"
            images.save(Image.open(io.BytesIO(self.image.value)), path, recipe=self.recipe.document())
            self.image.download(path.name, path.read_bytes())

    def close(self) -> None:
        """End the run under way, and take the widgets from the page."""
        self.stop()
        cells.close(self.widget)

    def _ipython_display_(self) -> None:
        """Show the widgets at once, and add the finished picture for where they do not run."""
        cells.heard_meanwhile(self.stop_button)
        shown = display(self.widget, display_id=True)
        try:
            self.wait()
        except KeyboardInterrupt:
            self.stop()
            self.wait()
        if self._error is not None:
            raise self._error
        if shown is not None and self.image.value:  # a plain script has no cell
            shown.update(self._repr_mimebundle_(), raw=True)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        self.wait()
        return figures.live(self.widget, Image.open(io.BytesIO(self.image.value)), repr(self.recipe))

    def _changed(self, name: str, value: Any) -> None:
        if self._leading:
            return
        try:
            wanted = sliders.from_slider(self.recipe, name, value)
            if _same(wanted, getattr(self.recipe, name)):
                return
            self._leading = True
            self._follow(name, wanted)
            recipe = self.recipe.changed(**{name: wanted})
        except Exception as error:  # weights that cannot be had, say; a callback has no other audience
            self._latest.stop()
            self._latest.wait()
            self._complain(error)
            self.sliders[name].add_class("nbhelpers-failed")
            return
        finally:
            self._leading = False
        for slider in self.sliders.values():
            slider.remove_class("nbhelpers-failed")
        self.recipe = recipe
        self._note()
        self._latest.put(recipe)

    def _follow(self, name: str, value: Any) -> None:
        """Keep the sliders that depend on another in step: layers on the network, channels on the layer."""
        if name == "network" and value != self._network_name:
            after = models.load(value)
            changes = sliders.carried_over(self.recipe, self._begun, self.network, after)
            recipe = self.recipe.changed(network=value, **changes)
            offered = {each: sliders.similar_layers(self._given, self._options.get(each), after) for each in changes}
            self._offer(recipe, offered, after)
            self.recipe, self.network, self._network_name = recipe, after, value
            for each in changes:
                if each in self.sliders:
                    self.sliders[each].value = sliders.to_slider(recipe, each, self.sliders[each])
            if self._channel() and "layer" in changes:
                self._follow("layer", changes["layer"])
        elif name == "layer" and (channel := self._channel()):
            slider = self.sliders[channel]
            last = sliders.last_channel(self.network, value)
            kept = min(slider.value, last)
            self.recipe = self.recipe.changed(**{channel: sliders.from_slider(self.recipe, channel, kept)})
            slider.max = last

    def _offer(self, recipe: Recipe, options: dict[str, Any], network: models.Network | None = None) -> None:
        """Let the sliders offer a network's layers, channels and classes."""
        network = network or self.network
        for name, slider in self.sliders.items():
            if name in sliders.LAYERS:
                sliders.offer_layers(slider, getattr(recipe, name), network, options.get(name))
            elif name in sliders.CLASSES and isinstance(slider, widgets.Combobox):
                sliders.offer_classes(slider, network)
        if network is self.network and (channel := self._channel()):
            self.sliders[channel].max = sliders.last_channel(network, recipe.layer)

    def _channel(self) -> str | None:
        return next((each for each in sliders.CHANNELS if each in self.sliders), None)

    def _work(self, recipe: Recipe) -> None:
        self._error = None
        try:
            steps, show = _steps(recipe, self.network), partial(self._show, recipe)
            for step in _paced(steps, _said(recipe), self.bar, self.status, show, self._latest):
                self.step = step
        except Exception as error:  # shown where the user looks: this thread has no other audience
            self._error = error
            self._complain(error)

    def _show(self, recipe: Recipe, step: Any) -> None:
        shown = [f"{name.replace('_', ' ')} {getattr(recipe, name)}" for name in self._shows[:4]]
        self.image.show(
            self._draw(recipe, step), f"{type(recipe).__name__}: {', '.join(shown)}; {_said(recipe)} {_scores(step)}"
        )

    def _complain(self, error: Exception) -> None:
        self.status.value = cells.complaint(error)
        self.bar.bar_style = "danger"
        self.image.stale, self.image.text = True, "a picture of earlier settings"

    def _note(self) -> None:
        """Grey what has no effect, and say why."""
        idle = {name: why for name, why in self.recipe.idle().items() if name in self.sliders}
        for name, slider in self.sliders.items():
            slider.disabled = name in idle
        lines = [f"<i>{html.escape(name.replace('_', ' '))}</i>: {html.escape(why)}" for name, why in idle.items()]
        self.notes.value = f"<small>No effect now: {'; '.join(lines)}</small>" if lines else ""

    def _copy(self, change: dict[str, Any]) -> None:
        form = change["new"]
        if form not in copies.FORMS:
            return
        self.copied.value = copies.FORMS[form](self.recipe)
        self.copied.layout.display = ""
        self.image.copy_text(self.copied.value)
        self.copy_as.value = self.copy_as.options[0]


def _steps(recipe: Any, network: nn.Module | None) -> Iterator[Any]:
    """A recipe's steps, batches with those before them; what is no recipe but goes on in steps just gives them."""
    return recipe.so_far(network) if isinstance(recipe, Recipe) else recipe.iterate(network)


def _said(recipe: Any) -> str:
    return recipe.scored() if isinstance(recipe, Recipe) else "score"


def _paced(
    steps: Iterator[Step],
    said: str,
    bar: widgets.IntProgress,
    status: widgets.HTML,
    show: Callable[[Step], None],
    latest: edge.Latest | None = None,
) -> Iterator[Step]:
    """Pass the steps on; now and then, and at the end, show the picture, the score in words, and the time left."""
    begun = shown = time.monotonic()
    bar.value, bar.bar_style = 0, ""
    step = None
    for step in steps:
        now = time.monotonic()
        if step.index == 1 or now - shown > REFRESH:
            left = (now - begun) / step.index * (step.total - step.index)
            bar.max, bar.value = step.total, step.index
            status.value = f"step {step.index} of {step.total} · {said} {_scores(step)} · {math.ceil(left)} s left"
            show(step)
            shown = time.monotonic()
        yield step
        if latest is not None and latest.stopped:
            break
    if step is not None and not (latest is not None and latest.replaced):
        show(step)
        done = step.index == step.total
        bar.max, bar.value, bar.bar_style = step.total, step.index, "success" if done else "warning"
        state = "done" if done else f"stopped at step {step.index} of {step.total}"
        status.value = f"{state} · {said} {_scores(step)} · {time.monotonic() - begun:.1f} s"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=SAME)
    return one == other


def _scores(step: Any) -> str:
    return ", ".join(f"{score:.2f}" for score in step.scores.tolist()[:4]) + (" ..." if len(step.scores) > 4 else "")


def _progress_bar() -> widgets.IntProgress:
    return widgets.IntProgress(0, 0, 1, layout=widgets.Layout(width="14em"))


def _button(text: str, icon: str, tooltip: str, press: Callable[[], None]) -> widgets.Button:
    button = widgets.Button(description=text, icon=icon, tooltip=tooltip, layout=widgets.Layout(width="6em"))
    button.on_click(lambda button: press())
    return button
