"""Fine-tuning on paper: learning curves, the confusion matrix, the worst mistakes, two networks' looks at one photo."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Real
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from nbhelpers import images
from nbhelpers.ascent.objectives import OUTPUT
from nbhelpers.attribution import cams, pixel_maps
from nbhelpers.attribution.gradients import layer_gradients
from nbhelpers.images import figures, overlays, smoothing
from nbhelpers.models import Network
from nbhelpers.training.data import Pictures


def curves(log: Sequence[Mapping], best: Mapping | None = None, doing: str = "", width: float = 9.5) -> Figure:
    """Loss and share of right answers per epoch, of the training and the validation photos; stages side by side.

    Args:
        log: one record an epoch, as `Progress.log`.
        best: the record whose weights are kept; marked.
        doing: stands in place of the curves as long as there are none.
        width: of the figure in inches.
    """
    figure, axes = figures.new(width, 2.9, columns=2)
    epochs = range(1, len(log) + 1)
    for axis, key, label in ((axes[0], "loss", "loss"), (axes[1], "accuracy", "share right")):
        for name, colour in ((key, figures.QUIET), (f"validation_{key}", figures.ACCENT)):
            text = "validation" if name.startswith("validation") else "training"
            axis.plot(epochs, [record[name] for record in log], "o-", color=colour, markersize=3.5, label=text)
        axis.set_xlabel("epoch", fontsize=8)
        axis.set_ylabel(label, fontsize=8)
        for number, (before, after) in enumerate(pairwise(log), start=1):
            if before["stage"] != after["stage"]:
                axis.axvline(number + 0.5, color=figures.INK, lw=0.8, ls=":")
                axis.text(number + 0.5, 1.02, f"{after['stage']} →", fontsize=8, transform=axis.get_xaxis_transform())
        if best in log:
            kept = list(log).index(best)
            axis.plot(kept + 1, best[f"validation_{key}"], "o", mfc="none", mec=figures.INK, ms=10, label="kept")
        axis.set_xlim(0.5, max(len(log), 8) + 0.5)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylim(bottom=0)
    axes[1].set_ylim(-0.03, 1.05)
    if log:
        axes[1].legend(fontsize=8, frameon=False, loc="lower right")
    else:
        axes[0].text(0.5, 0.5, doing, ha="center", fontsize=9, transform=axes[0].transAxes)
    return figure


def confusion_figure(matrix: Real[Tensor, "classes classes"], classes: Sequence[str]) -> Figure:
    """The confusion matrix: how many photos of each class (row) were given each class (column).

    Args:
        matrix: `(classes, classes)`, counts.
        classes: names.
    """
    side = 2.2 + 0.45 * min(len(classes), 20)
    figure, axes = figures.new(side + 0.8, side)
    shares = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    drawn = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 12:
        for row in range(len(classes)):
            for column in range(len(classes)):
                colour = "white" if shares[row, column] > 0.55 else figures.INK
                axes.text(column, row, int(matrix[row, column]), ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(classes)), classes, fontsize=8, rotation=0 if len(classes) < 4 else 90)
    axes.set_yticks(range(len(classes)), classes, fontsize=8)
    axes.set_xlabel("taken for", fontsize=8)
    axes.set_ylabel("photo of", fontsize=8)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.85)
    bar.ax.tick_params(labelsize=8)
    bar.set_label("share of the row", fontsize=8)
    return figure


def answers(
    pictures: Pictures, probabilities: Float[Tensor, "photos classes"], classes: Sequence[str], numbers: Sequence[int]
) -> Image.Image:
    """Some photos, each with what it is and what it was given.

    Args:
        pictures: all of them.
        probabilities: `(N, classes)`.
        classes: names.
        numbers: which photos.
    """
    batch, labels = pictures.batch(torch.tensor(list(numbers)))
    texts = []
    for number, label in zip(numbers, labels.tolist(), strict=True):
        share, given = probabilities[number].max(0)
        verdict = "" if int(given) == label else f"\nis {classes[label]}"
        texts.append(f"{classes[int(given)]} {share:.0%}{verdict}")
    return images.tile(images.resize(batch, 132), columns=min(8, len(texts)), gap=4, labels=texts)


def looks(
    network: Network,
    photos: Float[Tensor, "photos 3 height width"],
    classes: Sequence[int],
    layer: str = OUTPUT,
    blur: float = 0.0,
) -> tuple[Float[Tensor, "photos height width"], Float[Tensor, "photos classes"]]:
    """Where a network looks for a class: the gradient's magnitude at each pixel, or Grad-CAM at a layer.

    Args:
        network: left as it is.
        photos: `(B, 3, H, W)` in [0, 1].
        classes: one per photo.
        layer: of Grad-CAM; "" for the gradient of the pixels.
        blur: standard deviation in pixels of a blur of the map.

    Returns:
        Maps `(B, H, W)`, and the logits `(B, classes)`.
    """
    if layer == OUTPUT:
        logits, gradient = pixel_maps.gradient(network, photos, classes)
        maps = pixel_maps.strongest(gradient)
    else:
        activations, gradients, logits = layer_gradients(network, layer, photos, classes)
        maps = overlays.resized(cams.grad_cam(activations, gradients), tuple(photos.shape[2:]))
    if blur:
        maps = smoothing.gaussian_blur(maps[:, None], blur)[:, 0]
    return maps.cpu(), logits.cpu()
