"""Figures of the tests of a map: what its pixels are worth, and what is left of it in a network that forgets."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from nbhelpers.attribution.faithfulness import Curves
from nbhelpers.images import figures

COLOURS = (figures.ACCENT, "#2e86ab", figures.INK, figures.QUIET, "#edae49", "#3d8361")


def curves_figure(curves: Mapping[str, Mapping[str, Curves]], title: str = "") -> Figure:
    """One panel per mode, one line per kind of map: the probability of the class, averaged over the photos.

    Args:
        curves: by mode ("deletion", "insertion"), then by the name of the map.
        title: stands above.
    """
    figure, axes = figures.new(10, 3.4, columns=len(curves), sharey=True, squeeze=False)
    for axis, (mode, lines) in zip(axes[0], curves.items(), strict=True):
        for (name, curve), colour in zip(lines.items(), COLOURS, strict=False):
            area = curve.areas.mean().item()
            axis.plot(curve.fractions, curve.scores.mean(0), color=colour, label=f"{name}: area {area:.3f}")
        axis.set_title(f"{mode}: {'lower' if mode == 'deletion' else 'higher'} is better", fontsize=9)
        axis.set_xlabel(f"share of the pixels {'taken away' if mode == 'deletion' else 'brought back'}", fontsize=8)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=8, frameon=False)
    axes[0, 0].set_ylabel("probability of the class", fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def cascade_figure(layers: Sequence[str], lines: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """How alike the map stays as the network forgets, layer by layer from the output.

    Args:
        layers: the lowest layer that is random, stage by stage.
        lines: likeness with the trained network's map at each stage, by the name of the measure.
        title: stands above.
    """
    figure, axes = figures.new(11, 3.4)
    places = range(len(layers) + 1)
    for (name, values), colour in zip(lines.items(), COLOURS, strict=False):
        axes.plot(places, [1.0, *values], "o-", color=colour, label=name, markersize=4)
    axes.axhline(0, color=figures.QUIET, lw=0.8)
    axes.set_xticks(places, ["trained", *layers], rotation=20, ha="right", fontsize=8)
    axes.set_xlabel("random from the output down to this layer", fontsize=8)
    axes.set_ylabel("likeness to the trained network's map", fontsize=8)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.6))
    if title:
        axes.set_title(title, fontsize=10)
    return figure
