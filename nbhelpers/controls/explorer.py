"""The explorer: one photo, one network, everything at once.

    explore(SemanticDictionary(photo="mine.jpg"), folder=results_folder())

Predictions and a map over the photo; a click on a place lists the channels that answer there, each with its made
picture, its strength and what it speaks for the class. The whole photo is drawn as a grid of directions. Looking takes
milliseconds and runs on one thread, drawing takes seconds and runs on another, and the newest wish counts in both.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import torch
from IPython.display import display
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from nbhelpers import edge, images, models
from nbhelpers.controls import cells, sliders
from nbhelpers.controls.channel_list import ChannelList
from nbhelpers.controls.picture import Picture
from nbhelpers.controls.picture_cache import PictureCache, channel_direction
from nbhelpers.images import figures, overlays
from nbhelpers.techniques import direction_pictures, semantic_dictionary
from nbhelpers.techniques.direction_pictures import DirectionPictures
from nbhelpers.techniques.semantic_dictionary import Look, SemanticDictionary

SIDE = 384  # pixels of the photo's shorter side
LONGEST = 3  # times as long may the other side be
SHOWN = ["photo", "network", "layer", "target", "rival", "map", "opacity", "photo_size", "fit"]
PREDICTIONS = 5
TOP = 6  # photos on a channel's page
PAGE = 192  # pixels of a picture on a channel's page
MOST = 60  # photos of the folder that are looked through for it


def explore(recipe: SemanticDictionary, network: nn.Module | None = None, folder: str | Path = "results") -> Explorer:
    """The explorer as a widget, or its first view as a picture where widgets do not run.

    Args:
        recipe: what it begins with.
        network: used in place of the one the recipe names.
        folder: made pictures are kept in `pictures/` below it.
    """
    return Explorer(recipe, network, folder)


def first_recipe(photo: str | Path, network: str | None = None, layer: str | None = None) -> SemanticDictionary:
    """What the app begins with: a photo at the size that the network sees best, and the network's deepest stage.

    Args:
        photo: path of the photo.
        network: a name for `models.load`; without, the bundled default.
        layer: a layer that gives maps, another than the deepest stage.

    Raises:
        ValueError: there is no network of this name, or the layer gives no maps.
        KeyError: the network has no such layer.
    """
    name = network or models.DEFAULT
    loaded = models.load(name)
    size = max(96, *models.sides(loaded.size))
    deepest = SemanticDictionary().layer if name in models.bundled() else models.stages.stages(loaded)[-1].name
    chosen = layer or deepest
    models.check_layer(loaded, chosen, size)
    return SemanticDictionary(photo=str(photo), network=name, layer=chosen, photo_size=size, places=[[0.5, 0.5]])


class Explorer:
    """The widgets of `explore`; `recipe` and `look` hold what is shown now."""

    def __init__(self, recipe: SemanticDictionary, network: nn.Module | None, folder: str | Path) -> None:
        self._begun, self.look = recipe, None
        before = [old for old in cells.succeed(self) if isinstance(old, Explorer) and old._begun == recipe]
        if before:  # the reader's settings
            recipe = before[0].recipe
            network = before[0].network if recipe.network != self._begun.network else network
        self.recipe = recipe
        self.network = models.as_network(network if network is not None else recipe.network)
        self._folder, self._caches = folder, {}
        self._untrained: dict[tuple[int, int], models.Network] = {}
        self._listed: tuple | None = None  # whose channels the list shows
        self._error: Exception | None = None
        self._leading = False
        self._live = False  # the camera is on: the list follows, nothing is drawn anew
        self._answers: dict[tuple, tuple[list[Tensor], list[str], Tensor]] = {}
        self._looking = edge.Latest(self._see, "nbhelpers-explore")
        self._drawing = edge.Latest(lambda draw: draw(), "nbhelpers-draw")

        self.sliders = {name: sliders.slider(recipe, name, self.network, None) for name in [*SHOWN, "cells"]}
        self.image = Picture(picks=True, place=list(recipe.places[0]))
        self.predictions, self.status, self.page, self.grid_words = (widgets.HTML() for _ in range(4))
        self.status.add_class("nbhelpers-status")
        self.legend = widgets.HTML()
        self.legend.add_class("nbhelpers-legend")
        self.channels = ChannelList(self._hover, self._open)
        self.large, self.histogram, self.grid = Picture(), Picture(), Picture()
        self.grid_button = _button("Draw the grid", self.draw_grid)
        self.real_button = _button("Is it real?", self.ask)
        self.verdict = widgets.HTML()
        side = widgets.VBox([self.sliders[name] for name in SHOWN])
        side.add_class("nbhelpers-side")
        middle = widgets.VBox([self.status, self.image, self.predictions])
        right = widgets.VBox(
            [_heading("Channels that answer here"), self.legend, self.channels, self.real_button, self.verdict]
        )
        for column in (middle, right):
            column.add_class("nbhelpers-column")
        below = widgets.VBox(
            [self.page, self.large, self.histogram, self.sliders["cells"], self.grid_button, self.grid_words, self.grid]
        )
        below.add_class("nbhelpers-below")
        self.widget = widgets.Box([side, middle, right, below])
        self.widget.add_class("nbhelpers-player")
        self.widget.add_class("nbhelpers-explorer")
        for name, slider in self.sliders.items():
            slider.observe(lambda change, name=name: self._changed(name, change["new"]), "value")
        self.image.observe(lambda change: self._place(), "place")
        self.sliders["photo"].watch(self._see_frame)
        self._looking.put(recipe)

    @property
    def place(self) -> list[float]:
        """Where the reader points: shares of the photo's height and width."""
        return list(self.image.place)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until everything is looked at and drawn."""
        self._looking.wait(timeout)
        self._drawing.wait(timeout)

    def close(self) -> None:
        """End what is under way, and take the widgets from the page."""
        self._looking.stop()
        self._drawing.stop()
        cells.close(self.widget)

    def draw_grid(self) -> None:
        """Draw the photo as directions, cell by cell, and measure how well they hold, beside an untrained network."""
        look, recipe, network = self.look, self.recipe, self.network
        if look is None:
            return
        listed = [row["channel"] for row in self.channels.rows]

        def draw() -> None:
            self._draw_channels(listed, look, recipe, network)
            self._draw_grid(look, recipe, network)

        self._drawing.put(lambda: self._guarded(draw))

    def ask(self) -> None:
        """Take the listed channels away: what does the class lose, against as many random ones?"""
        if self.look is not None:
            self._guarded(lambda: self._answer(self.look, self.recipe, self.network))

    def _answer(self, look: Look, recipe: SemanticDictionary, network: models.Network) -> None:
        chosen = [row["channel"] for row in self.channels.rows]
        untrained = semantic_dictionary.look(recipe, self._control(recipe, network))
        there = [answer.channel for answer in semantic_dictionary.strongest(untrained, self.place, len(chosen))]
        lost = semantic_dictionary.ablate(recipe, look, chosen, network)
        middle = sorted(lost.random)[len(lost.random) // 2]
        name, count = html.escape(self.network.class_name(look.target)), len(chosen)
        self.verdict.value = (
            f"<p>Without these {count} channels the logit of {name} falls by <b>{lost.lost:.2f}</b>; without {count} "
            f"random ones by {middle:.2f} (median of {len(lost.random)} draws, {lost.above:.0%} lose less).</p>"
            f"<p>The same click in the untrained network lists channels {', '.join(map(str, there))}: a list is always "
            "there, whether it means anything or not.</p>"
        )

    def _ipython_display_(self) -> None:
        shown = display(self.widget, display_id=True)
        self._looking.wait()
        if self._error is not None:
            raise self._error
        if shown is not None:
            shown.update(figures.live(self.widget, self._still(), repr(self.recipe)), raw=True)

    def _still(self) -> Image.Image:
        return self._drawn(self.look, self.recipe)

    def _changed(self, name: str, value: Any) -> None:
        if self._leading:
            return
        slider = self.sliders[name]
        try:
            wanted = sliders.from_slider(self.recipe, name, value)
            self._live = False
            if name == "network" and wanted != self.recipe.network:
                self._change_network(wanted)
            self.recipe = self.recipe.changed(**{name: wanted})
        except Exception as error:  # a callback has no other audience
            self._complain(error)
            slider.add_class("nbhelpers-failed")
            return
        slider.remove_class("nbhelpers-failed")
        if name == "opacity" and self.look is not None:  # the same map in another strength
            self.image.show(self._drawn(self.look, self.recipe), self.image.text)
        elif name != "cells":
            self._looking.put(self.recipe)

    def _see_frame(self, path: str) -> None:
        """A frame of the camera: looked at next; the camera gives another when it is seen."""
        self._live = True
        self.recipe = self.recipe.changed(photo=path)
        self._looking.put(self.recipe)

    def _change_network(self, name: str) -> None:
        network = models.load(name)
        changes = sliders.carried_over(self.recipe, self._begun, self.network, network)
        self.recipe = self.recipe.changed(network=name, **changes)
        self.network, self._leading = network, True
        try:
            sliders.offer_layers(self.sliders["layer"], self.recipe.layer, network, None)
            for each in ("target", "rival"):
                sliders.offer_classes(self.sliders[each], network)
            for each in changes:
                self.sliders[each].value = sliders.to_slider(self.recipe, each, self.sliders[each])
        finally:
            self._leading = False

    def _see(self, recipe: SemanticDictionary) -> None:
        self._guarded(lambda: self._look_at(recipe))
        if self._live:
            self.sliders["photo"].ask_frame()

    def _look_at(self, recipe: SemanticDictionary) -> None:
        self._error = None
        self.look = look = semantic_dictionary.look(recipe, self.network)
        name = self.network.class_name(look.target)
        self.image.show(self._drawn(look, recipe), f"the photo with {recipe.map} for {name}")
        self.predictions.value = self._bars(look)
        self.sliders["rival"].disabled = "rival" in recipe.idle()
        self.status.value = f"evidence for <b>{html.escape(name)}</b>"
        against = f" less that of {html.escape(str(recipe.rival))}" if recipe.rival != "" else ""
        self.legend.value = (
            "strength: the activation at the place, which has no unit. For it, against it: activation times gradient, "
            f"in units of the logit of {html.escape(name)}{against}"
        )
        if not self._live:
            self._offer_classes(look)
        self._place()

    def _offer_classes(self, look: Look) -> None:
        """The classes to choose from, those that the photo is given on top."""
        for each in ("target", "rival"):
            sliders.offer_classes(self.sliders[each], self.network, self._predicted(look))

    def _predicted(self, look: Look) -> list[tuple[str, float]]:
        shares, numbers = models.shares(look.logits[None])[0].topk(min(PREDICTIONS, len(look.logits)))
        names = map(self.network.class_name, numbers.tolist())
        return list(zip(names, shares.tolist(), strict=True))

    def _place(self) -> None:
        """List the channels at the chosen place, and draw the pictures that are missing."""
        look, recipe, network = self.look, self.recipe, self.network
        if look is None:
            return
        answers = semantic_dictionary.strongest(look, self.place, recipe.channels)
        before, self._listed = self._listed, _whose(recipe, network)
        self.channels.show(answers, same_layer=before == self._listed)
        self.verdict.value = ""
        if self._live:
            return
        self._drawing.put(
            lambda: self._guarded(lambda: self._draw_channels([a.channel for a in answers], look, recipe, network))
        )

    def _draw_channels(
        self, channels: list[int], look: Look, recipe: SemanticDictionary, network: models.Network
    ) -> None:
        wanted = [channel for channel in channels if str(channel) not in self.channels.pictures]
        directions = [channel_direction(channel, len(look.activations)) for channel in wanted]
        for index, picture in self._cache(recipe, network).draw(directions, lambda: self._drawing.stopped):
            if self._listed == _whose(recipe, network):  # the reader may have gone on to another layer
                self.channels.add_picture(wanted[index], images.to_pil(picture))

    def _draw_grid(self, look: Look, recipe: SemanticDictionary, network: models.Network) -> None:
        cells = self.recipe.cells
        rows, columns = semantic_dictionary.grid(look, cells)
        text = f"the photo as {rows} x {columns} pictures of directions"

        def show(pictures: Tensor) -> None:
            self.grid.show(images.tile(pictures, columns=columns, gap=2), text)

        drawn = self._directions(look, recipe, network, cells, show)
        if drawn is None:
            return
        own, others = semantic_dictionary.agreement(network, recipe.layer, *drawn)
        untrained = self._control(recipe, network)
        there = semantic_dictionary.look(recipe, untrained)
        control = self._directions(there, recipe, untrained, min(cells, 2), lambda pictures: None)
        if control is None:
            return
        own_there, others_there = semantic_dictionary.agreement(untrained, recipe.layer, *control)
        self.grid_words.value = (
            f"<p>The layer answers these pictures in their own direction with a mean cosine of <b>{own:.2f}</b>, "
            f"and {others:.2f} with the directions of other cells. In the untrained network {own_there:.2f} and "
            f"{others_there:.2f}: only the distance between the two numbers says something.</p>"
        )

    def _directions(
        self,
        look: Look,
        recipe: SemanticDictionary,
        network: models.Network,
        cells: int,
        show: Callable[[Float[Tensor, "cells 3 _ _"]], None],
    ) -> tuple[Tensor, Tensor] | None:
        vectors = semantic_dictionary.directions(look, cells)
        directions = direction_pictures.rounded(vectors.cpu())
        pictures: Tensor | None = None
        count = 0
        for index, picture in self._cache(recipe, network).draw(directions, lambda: self._drawing.stopped):
            if pictures is None:
                pictures = torch.full((len(directions), *picture.shape), 0.5)
            pictures[index] = picture
            count += 1
            show(pictures)
        return (vectors, pictures) if count == len(directions) else None

    def _cache(self, recipe: SemanticDictionary, network: models.Network) -> PictureCache:
        key = _whose(recipe, network)
        if key not in self._caches:
            channels = models.check_layer(network, recipe.layer, recipe.photo_size).channels
            manner = DirectionPictures(
                network=network,
                layer=recipe.layer,
                directions=[channel_direction(0, channels)],
                size=max(64, (network.size // 2) if isinstance(network.size, int) else 64),
                seed=recipe.seed,
            )
            self._caches[key] = PictureCache(self._folder, network, manner)
        return self._caches[key]

    def _control(self, recipe: SemanticDictionary, network: models.Network) -> models.Network:
        """The network re-initialised, the same one each time, so that its pictures are found again."""
        key = (id(network), recipe.seed)
        if key not in self._untrained:
            self._untrained[key] = models.randomised(network, recipe.seed)
        return self._untrained[key]

    def _hover(self, channel: int | None) -> None:
        """Show where else in the photo a channel answers."""
        look = self.look
        if look is None:
            return
        if channel is None:
            self.image.show(self._drawn(look, self.recipe), f"the photo with {self.recipe.map}")
            return
        seen = overlays.overlay(look.photo, look.activations[channel].clamp(min=0)[None].float(), 0.7)
        self.image.show(_large(seen[0]), f"where channel {channel} answers in the photo")

    def _open(self, channel: int) -> None:
        """A channel's page: its picture, where and how often it answers, the folder's photos that it answers most."""
        look, recipe, network = self.look, self.recipe, self.network
        if look is None:
            return
        self._page(channel, look, recipe, network, [])
        listed = [row["channel"] for row in self.channels.rows]

        def fill() -> None:
            for _ in self._cache(recipe, network).draw([channel_direction(channel, len(look.activations))]):
                pass
            self._page(channel, look, recipe, network, self._top_photos(channel, recipe, network))
            self._draw_channels(listed, look, recipe, network)

        self._drawing.put(lambda: self._guarded(fill))

    def _page(
        self,
        channel: int,
        look: Look,
        recipe: SemanticDictionary,
        network: models.Network,
        photos: list[tuple[str, float, Tensor]],
    ) -> None:
        values = look.activations[channel].clamp(min=0)
        picture = self._cache(recipe, network).get(channel_direction(channel, len(look.activations)))
        seen = overlays.overlay(look.photo, values[None].float(), 0.7)[0]
        shown = [("where it answers here", seen)]
        if picture is not None:
            shown.insert(0, ("its made picture", picture))
        shown += [(f"{name} {strength:.2f}", photo) for name, strength, photo in photos]
        pictures, labels = images.framed([each for _, each in shown], PAGE), [label for label, _ in shown]
        self.large.show(
            images.tile(pictures, columns=4, gap=6, labels=labels), f"channel {channel}: {', '.join(labels)}"
        )
        self.histogram.show(
            _histogram(look.activations[channel].flatten()),
            f"how often channel {channel} answers how strongly in this photo",
        )
        self.page.value = (
            f"<h4>Channel {channel} of {html.escape(recipe.layer)}</h4><p>It answers at "
            f"{(values > 0).float().mean():.0%} of the places, at most {values.max():.2f} (activations have no unit: "
            "compare them within a channel); over the whole photo its activation times gradient, what it speaks for "
            f"{html.escape(network.class_name(look.target))}, is {look.shares[channel].sum():+.2f} of the class "
            "logit.</p>"
        )

    def _top_photos(
        self, channel: int, recipe: SemanticDictionary, network: models.Network
    ) -> list[tuple[str, float, Tensor]]:
        """Name, strongest answer and picture of the photos beside the first one that a channel answers most."""
        key = (*_whose(recipe, network), recipe.photo_size, recipe.fit)
        if key not in self._answers:
            folder = Path(self._begun.photo).parent
            files = list(images.files_in(folder).values())[:MOST]
            manner = models.photo_fit(network, recipe.photo_size, recipe.fit)
            photos = images.read_many([str(path) for path in files], recipe.photo_size, **manner)
            capture = models.capture(network, recipe.layer, stop=True)
            numbers, found = [], []
            with torch.no_grad():
                for some, pictures in images.alike(photos.pictures, 8):
                    numbers.append(some)
                    found.append(capture(pictures.to(network.mean.device))[recipe.layer].amax((2, 3)).cpu())
            strongest = images.in_order(numbers, found)
            self._answers = {key: (list(photos.pictures), photos.names, strongest)}  # of one layer at a time
        pictures, names, answers = self._answers[key]
        strengths, numbers = answers[:, channel].topk(min(TOP, len(names)))
        return [
            (Path(names[number]).stem, strength, pictures[number])
            for strength, number in zip(strengths.tolist(), numbers.tolist(), strict=True)
        ]

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # a thread has no other audience
            self._error = error
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        self.status.value = cells.complaint(error)
        self.image.stale = True

    def _drawn(self, look: Look, recipe: SemanticDictionary) -> Image.Image:
        return _large(semantic_dictionary.draw(recipe, look)[0])

    def _bars(self, look: Look) -> str:
        rows = [
            f"<tr><td>{name}</td><td><meter value='{share:.4f}' aria-label='share of {name}'></meter></td>"
            f"<td>{share:.0%}</td></tr>"
            for name, share in ((html.escape(name), share) for name, share in self._predicted(look))
        ]
        return f"<table class='nbhelpers-predictions'>{''.join(rows)}</table>"


def _whose(recipe: SemanticDictionary, network: models.Network) -> tuple[int, str, int]:
    """What a made picture of a channel hangs on beside its number."""
    return id(network), recipe.layer, recipe.seed


def _histogram(values: Float[Tensor, " places"]) -> Image.Image:
    figure, axes = figures.new(6, 2)
    axes.hist(values.float().cpu().numpy(), bins=24, color="#1976d2")
    axes.set_xlabel("activation (no unit)")
    axes.set_ylabel("places of the photo")
    return figures.to_pil(figure)


def _large(picture: Float[Tensor, "3 height width"]) -> Image.Image:
    """A picture in its own proportions, its shorter side `SIDE` pixels, and fewer where it is very long."""
    height, width = picture.shape[1:]
    factor = min(SIDE / min(height, width), LONGEST * SIDE / max(height, width))
    return images.to_pil(picture).resize((round(width * factor), round(height * factor)), Image.Resampling.BICUBIC)


def _heading(text: str) -> widgets.HTML:
    return widgets.HTML(f"<b>{text}</b>")


def _button(text: str, press: Callable[[], None]) -> widgets.Button:
    button = widgets.Button(description=text, layout=widgets.Layout(width="auto"))
    button.on_click(lambda button: press())
    return button
