"""A volume to turn, cut and threshold in the notebook: K3D-jupyter, with sliders.

    view(lambda layer: volume_of(layer), ["block2.relu2", "block3.relu2"], kind="layer")

The first slider chooses among volumes (layers, photos, moments); threshold, opacity and slice change how the one
shown is seen, without sending it again. Volumes are made on a thread of their own, and the newest wish counts. Where
widgets do not run, the same cell shows the volume's projections.
"""

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
import k3d
import numpy as np
from IPython.display import display
from jaxtyping import UInt8
from k3d.colormaps import matplotlib_color_maps
from PIL import Image

from nbhelpers import edge, images
from nbhelpers.controls import cells
from nbhelpers.controls.photo_picker import PhotoPicker
from nbhelpers.controls.picture import Picture
from nbhelpers.images import figures
from nbhelpers.volumes.rendering import coloured, projections

SLICE_SIDE = 196
CAMERA = [1.45, 0.8, 1.25, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
SAMPLES = 160  # along a ray, per unit of space; the longest side is 2, and no volume here has more detail
COLOUR_RANGE = [-50, 255]  # the dark end of the colour map would drown in the background


def view(
    make: Callable[..., UInt8[np.ndarray, "height width depth"]],
    options: Sequence[Any],
    value: Any = None,
    kind: str = "layer",
    photo: str = "",
    threshold: int = 40,
    opacity: float = 0.5,
    binary: bool = False,
    animated: bool = False,
) -> "VolumeViewer":
    """A rotatable volume rendering with sliders.

    Args:
        make: gives the volume `(H, W, C)`, uint8, of an option; with a photo, of an option and the photo's path.
        options: what the first slider chooses from, such as layer names or photos.
        value: the option to start with; the first one if not given.
        kind: what the options are; names the slider.
        photo: path of the photo to start with; others are then chosen, uploaded, dropped or taken with the camera.
        threshold: voxels below it are transparent, 0 to 255.
        opacity: from 0, hardly there, to 1, solid.
        binary: all voxels above the threshold look the same.
        animated: adds a play button that runs through the options.

    Returns:
        What Jupyter displays: the widgets, or projections of the volume where widgets do not run.

    Raises:
        ValueError: `value` is not among the options.
    """
    value = options[0] if value is None else value
    if value not in options:
        raise ValueError(f"{kind} {value!r} is not among {edge.few(options)}")
    return VolumeViewer(make, list(options), value, kind, photo, threshold, opacity, binary, animated)


class VolumeViewer:
    """The widgets of `view`; `volume` is what is shown now, `plot` the K3D scene, `sliders` by name."""

    def __init__(
        self,
        make: Callable[..., UInt8[np.ndarray, "height width depth"]],
        options: list[Any],
        value: Any,
        kind: str,
        photo: str,
        threshold: int,
        opacity: float,
        binary: bool,
        animated: bool,
    ) -> None:
        cells.succeed(self)
        self._make, self._kind = make, kind
        self._error: Exception | None = None
        self.volume = np.zeros((1, 1, 1), np.uint8)
        common = {"style": {"description_width": "5em"}, "layout": widgets.Layout(width="auto")}
        self.sliders = {
            kind: widgets.SelectionSlider(options=options, value=value, description=kind, **common),
            "threshold": widgets.IntSlider(threshold, 0, 255, description="threshold", **common),
            "opacity": widgets.FloatSlider(opacity, min=0, max=1, step=0.05, description="opacity", **common),
            "slice": widgets.IntSlider(0, 0, 0, description="slice", **common),
            "binary": widgets.Checkbox(binary, description="binary", **common),
        }
        self._photo = PhotoPicker(photo, description="photo", layout=widgets.Layout(width="auto")) if photo else None
        if self._photo is not None:
            self.sliders["photo"] = self._photo
        self.drawn = k3d.volume(
            _in_scene(self.volume),
            color_range=COLOUR_RANGE,
            bounds=[-0.5, 0.5, -0.5, 0.5, -1, 1],
            color_map=matplotlib_color_maps.Magma,
            samples=SAMPLES,
            compression_level=1,
            name=str(value),
        )
        self.plot = k3d.plot(
            height=440,
            antialias=1,
            camera_auto_fit=False,
            grid_visible=False,
            menu_visibility=False,
            background_color=0x16161D,
            colorbar_object_id=0,
            axes_helper=0,
        )
        self.plot += self.drawn
        self.plot.camera = CAMERA
        self.picture = Picture()
        self.status = widgets.HTML("making the volume ...")
        self.status.add_class("nbhelpers-status")
        controls = list(self.sliders.values())
        if animated:
            button = widgets.Play(min=0, max=len(options) - 1, interval=700, show_repeat=False)
            button.observe(lambda change: setattr(self.sliders[kind], "index", change["new"]), "value")
            controls.insert(0, button)
        side = widgets.VBox([*controls, self.status, self.picture])
        side.add_class("nbhelpers-side")
        scene = widgets.Box([self.plot])
        scene.add_class("nbhelpers-view")
        self.widget = widgets.Box([side, scene])
        self.widget.add_class("nbhelpers-player")
        self._latest = edge.Latest(self._take, "nbhelpers-view")
        for name in (kind, *(["photo"] if photo else [])):
            self.sliders[name].observe(lambda change: self._ask(), "value")
        for name in ("threshold", "opacity", "binary"):
            self.sliders[name].observe(self._see, "value")
            self.sliders[name].observe(self._cut, "value")
        self.sliders["slice"].observe(self._cut, "value")
        self._see()
        self._ask()

    def image(self) -> Image.Image:
        """The volume on paper, as the sliders are set."""
        return projections(
            self.volume,
            self.sliders["threshold"].value,
            self.sliders["binary"].value,
            self.sliders["slice"].value or None,
            title=f"{self._kind} {self.sliders[self._kind].value}",
        )

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the volume that was asked for last is shown."""
        self._latest.wait(timeout)

    def close(self) -> None:
        """Forget what was asked for, and take the widgets from the page."""
        self._latest.stop()
        cells.close(self.widget)

    def _ipython_display_(self) -> None:
        """Show the widgets at once, and add the projections for where they do not run."""
        shown = display(self.widget, display_id=True)
        self.wait()
        if self._error is not None:
            raise self._error
        if shown is not None:  # a plain script has no cell
            shown.update(self._repr_mimebundle_(), raw=True)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        self.wait()
        return figures.live(self.widget, self.image(), self._words())

    def _words(self) -> str:
        height, width, channels = self.volume.shape
        return f"volume {height} x {width} x {channels}, {self._kind} {self.sliders[self._kind].value}"

    def _ask(self) -> None:
        self._latest.put((self.sliders[self._kind].value, *([self._photo.value] if self._photo is not None else [])))

    def _take(self, asked: tuple[Any, ...]) -> None:
        try:
            volume = self._make(*asked)
        except Exception as error:  # shown where the user looks: this thread has no other audience
            self._error, self.picture.stale = error, True
            self.status.value = cells.complaint(error)
            return
        if self._latest.stopped:
            return
        self._error = None
        self.volume = volume
        self.sliders["slice"].max = volume.shape[2] - 1
        self.drawn.volume = _in_scene(volume)
        self.drawn.name = str(asked[0])
        self._cut()
        self.status.value = self._words()

    def _see(self, change: dict[str, Any] | None = None) -> None:
        """Opacity as a function of the value: nothing below the threshold; above it a ramp, or a step if binary."""
        # opacity is a function of the place in the colour range
        start = (max(self.sliders["threshold"].value, 1) - COLOUR_RANGE[0]) / (COLOUR_RANGE[1] - COLOUR_RANGE[0])
        start = min(start, 0.999)
        binary = self.sliders["binary"].value
        first = 1.0 if binary else 0.3
        self.drawn.opacity_function = np.array([0, 0, start - 1e-3, 0, start, first, 1, 1], np.float32)
        self.drawn.color_map = _PLAIN if binary else matplotlib_color_maps.Magma
        self.drawn.alpha_coef = 10 ** (1 + 2 * self.sliders["opacity"].value)

    def _cut(self, change: dict[str, Any] | None = None) -> None:
        """Leave out what lies before the slice; beside the scene the slice itself, or, uncut, all from the front."""
        depth, channels = self.sliders["slice"].value, self.volume.shape[2]
        self.plot.clipping_planes = [[0.0, 0.0, -1.0, 1 - 2 * depth / channels]] if depth else []
        values = self.volume[:, :, depth] if depth else self.volume.max(2)
        if self.sliders["binary"].value:
            values = np.where(values >= max(self.sliders["threshold"].value, 1), 255, 0).astype(np.uint8)
        times = max(1, SLICE_SIDE // max(values.shape))
        words = f"slice {depth} of the volume" if depth else "the volume from the front: the greatest of all slices"
        self.picture.show(images.to_pil(coloured(values.repeat(times, 0).repeat(times, 1))), words)


_PLAIN = [0.0, 0.95, 0.75, 0.45, 1.0, 0.95, 0.75, 0.45]  # one colour for all values


def _in_scene(volume: np.ndarray) -> np.ndarray:
    """As K3D takes it, [z, y, x]: rows upwards, the first channel towards the viewer."""
    return np.ascontiguousarray(volume.transpose(2, 0, 1)[::-1, ::-1], np.float32)
