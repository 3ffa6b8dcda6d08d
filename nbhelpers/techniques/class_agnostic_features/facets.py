"""Facets of a set of photos: groups that look alike to one layer of a network.

Every photo is described by the layer's activations, averaged over all positions. Principal components keep what
varies, t-SNE lays the photos out on a plane so that neighbours stay neighbours, and k-means cuts the plane into
facets. No label is looked at.
Source: Stergiou 2021, "The Mind's Eye: Visualizing Class-Agnostic Features of CNNs", section 2.1.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, HPacker, OffsetImage, TextArea, VPacker
from torch import Tensor

from nbhelpers import edge, images, models
from nbhelpers.images import figures

CROP = 0.6  # side of a crop, as a part of the photo's
PALETTE = ["#d1495b", "#2e86ab", "#e0a030", "#4c956c", "#8e5aa8", "#e8743b", "#3fa7a0", "#6b4226", "#c277b1", "#777c85"]
THUMBNAIL = 44  # points, longer side of a photo on the plane
PUSHES = 200  # rounds in which boxes that overlap are moved apart
CLEAR = 6  # pixels between two boxes
SEEDS = 2**32  # scikit-learn takes no greater seed; a greater one counts on from 0
FEWEST = 6  # t-SNE needs neighbours; so few photos are laid out by their first two components


@dataclass
class Facets:
    """Photos, what a layer makes of them, and the groups they fall into.

    Attributes:
        pictures: `(N, 3, H, W)`.
        names: of the photos; crops are numbered.
        activations: pooled, `(N, C)`.
        positions: on the plane, `(N, 2)`.
        labels: the facet of each photo, `(N,)`, 0 being the largest facet.
        distances: of each photo to its facet's centre on the plane, `(N,)`.
        components: how many principal components were kept.
        explained: share of the variance that they explain.
        skipped: files that could not be read, with the reason.
        notes: what was reduced, and why.
    """

    pictures: Float[Tensor, "photos 3 height width"]
    names: list[str]
    activations: Float[Tensor, "photos channels"]
    positions: Float[Tensor, "photos 2"]
    labels: Int[Tensor, " photos"]
    distances: Float[Tensor, " photos"]
    components: int
    explained: float
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many facets there are."""
        return int(self.labels.max()) + 1

    def nearest(self, facet: int, limit: int) -> Int[Tensor, " nearest"]:
        """Indices of the facet's photos, nearest to its centre first, at most `limit`."""
        members = (self.labels == facet).nonzero()[:, 0]
        return members[self.distances[members].argsort(stable=True)[:limit]]

    def weights(self, facet: int, limit: int) -> Float[Tensor, " nearest"]:
        """Weights of `nearest`, proportional to exp(1 / distance), summing to 1."""
        return soft_weights(self.distances[self.nearest(facet, limit)])

    def report(self) -> list[str]:
        """What was found, in a few lines."""
        lines = [f"{len(self.names)} photos, {self.activations.shape[1]} channels"]
        lines += [f"skipped {name}: {reason}" for name, reason in self.skipped.items()]
        lines += self.notes
        lines.append(f"{self.components} principal components explain {self.explained:.0%} of the variance")
        sizes = ", ".join(str(int((self.labels == facet).sum())) for facet in range(self.count))
        lines.append(f"{self.count} facets of {sizes} photos")
        return lines


def read_crops(folder: str, size: models.Size, crops: int, fit: str = "crop") -> images.Photos:
    """The photos of a folder, each as overlapping crops of one shape; as they are for `crops` 1.

    Args:
        folder: of photos, in any size and shape.
        size: side of the crops in pixels, or `(height, width)`.
        crops: along each side of a photo's centre, of which each is 0.6, so that neighbours overlap.
        fit: what they are cut from, as `images.read` has it. Along the longer side of a "whole" photo there are as many
            more as it is longer; for `crops` 1 all of it lies within the shape, as with "pad".

    Returns:
        Photos whose names are numbered `cat.jpg 1`, `cat.jpg 2`, ... from the upper left.

    Raises:
        FileNotFoundError, ValueError: as `images.read_folder`.
    """
    sides = models.sides(size)
    if crops == 1:
        return images.read_many(folder, sides, None, fit)
    larger = tuple(round(side / CROP) for side in sides)
    photos = images.read_many(folder, max(larger) if fit == "whole" else larger, None, fit)
    pictures, names = [], []
    for picture, name in zip(photos.pictures, photos.names, strict=True):
        if fit == "whole":  # as large as it must be for crops without grey
            factor = max(least / length for least, length in zip(larger, picture.shape[1:], strict=True))
            picture = images.fitted(picture, tuple(round(length * factor) for length in picture.shape[1:]))
        down, across = (_starts(*each, crops) for each in zip(picture.shape[1:], sides, strict=True))
        parts = [picture[:, top : top + sides[0], left : left + sides[1]] for top in down for left in across]
        pictures += parts
        names += [f"{name} {number}" for number in range(1, len(parts) + 1)]
    return images.Photos(torch.stack(pictures), names, photos.skipped)


def _starts(length: int, side: int, crops: int) -> list[int]:
    """Where crops begin along a side of the photo: `crops` where the photo is as long as `CROP` says, else as dense."""
    slack = length - side
    count = 1 + round((crops - 1) * slack / (side / CROP - side))
    return [round(slack * number / (count - 1)) for number in range(count)]


def find(
    photos: images.Photos,
    activations: Float[Tensor, "photos channels"],
    clusters: int,
    components: int = 50,
    seed: int = 0,
) -> Facets:
    """Group photos by their activations: principal components, t-SNE to two dimensions, k-means.

    What the photos do not suffice for (more clusters than different photos, more components than the rank) is
    reduced, and a warning says so.

    Args:
        photos: N of them.
        activations: pooled, `(N, C)`.
        clusters: facets to make.
        components: principal components to keep, at most.
        seed: of t-SNE and k-means.

    Raises:
        ValueError: activations that are infinite or not numbers (names the photos).
    """
    finite = activations.isfinite().all(1)
    if not finite.all():
        bad = [name for name, good in zip(photos.names, finite.tolist(), strict=True) if not good]
        raise ValueError(
            f"the activations of {len(bad)} of {len(photos)} photos are infinite or not numbers ({edge.few(bad)}): "
            "check the network's weights, or leave these photos out"
        )
    notes: list[str] = []
    values = activations.double().numpy()
    scores, explained = _principal_components(values, components, notes)
    different = len(np.unique(scores.round(4), axis=0))
    if clusters > different:
        notes.append(f"{clusters} facets were asked for, {different} different photos are there: {different} facets")
        clusters = different
    positions = _embed(scores, seed)
    labels, distances = _cluster(positions, clusters, seed)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return Facets(
        pictures=photos.pictures,
        names=photos.names,
        activations=activations,
        positions=torch.from_numpy(positions),
        labels=torch.from_numpy(labels),
        distances=torch.from_numpy(distances),
        components=scores.shape[1],
        explained=explained,
        skipped=photos.skipped,
        notes=notes,
    )


def soft_weights(distances: Float[Tensor, " nearest"]) -> Float[Tensor, " nearest"]:
    """exp(1 / d), scaled to sum to 1: the nearer, the heavier.

    As a softmax of 1 / d it stays finite where exp(1 / d) does not (from d = 0.0014 down in float64); photos at the
    centre itself, d = 0, share the whole weight.
    """
    return torch.softmax(1 / distances.double().clamp(min=1e-9), dim=0)


def targets(
    facets: Facets, nearest: int
) -> tuple[Float[Tensor, "facets channels"], Float[Tensor, "facets 3 height width"]]:
    """Each facet's weighted mean of the activations and of the photos nearest its centre.

    Returns:
        Activations `(facets, C)` and pictures `(facets, 3, H, W)`, both float32.
    """
    activations, pictures = [], []
    for facet in range(facets.count):
        members, weights = facets.nearest(facet, nearest), facets.weights(facet, nearest).float()
        activations.append(weights @ facets.activations[members])
        pictures.append(torch.einsum("n,nchw->chw", weights, facets.pictures[members]))
    return torch.stack(activations), torch.stack(pictures).clamp(0, 1)


def top_channels(target: Float[Tensor, "facets channels"], count: int) -> Float[Tensor, "facets channels"]:
    """The largest `count` channels of each target and 0 elsewhere, `(B, C)` as it came."""
    kept = target.topk(min(count, target.shape[1]), dim=1)
    return torch.zeros_like(target).scatter(1, kept.indices, kept.values)


def scatter(facets: Facets, thumbnails: int = 2) -> Figure:
    """The photos on the plane, coloured by facet, with those nearest each centre drawn upon it."""
    # room for the thumbnails on either side, in inches
    room = torch.tensor([THUMBNAIL * thumbnails + 14, THUMBNAIL + 24]) / 72
    plane = torch.tensor([5.0, 4.0])
    figure, axes = figures.new(*(plane + 2 * room).tolist())
    axes.margins(*(room / plane).tolist())
    colours = [colour(facet) for facet in facets.labels.tolist()]
    axes.scatter(*facets.positions.T.numpy(), c=colours, s=22, alpha=0.8, linewidths=0)
    middle, boxes = facets.positions.mean(0), []
    for facet in range(facets.count):
        shown = facets.nearest(facet, thumbnails)
        photos = [facets.pictures[photo].permute(1, 2, 0).numpy() for photo in shown.tolist()]
        drawn = [OffsetImage(photo, zoom=THUMBNAIL / max(photo.shape)) for photo in photos]
        title = TextArea(f"facet {facet}", textprops={"size": 8, "color": colour(facet)})
        # at the facet's outer corner, so that thumbnails hide none of its points
        place, members = facets.positions[shown[0]], facets.positions[facets.labels == facet]
        away = (place - middle).sign()
        box = AnnotationBbox(
            VPacker(children=[HPacker(children=drawn, pad=0, sep=1), title], align="center", pad=0, sep=2),
            place.numpy(),
            xybox=torch.where(away > 0, members.amax(0), members.amin(0)).numpy(),
            box_alignment=((1 - away) / 2).tolist(),
            pad=0.15,
            bboxprops={"edgecolor": colour(facet), "linewidth": 2},
            arrowprops={"arrowstyle": "-", "color": colour(facet)},
        )
        box.set_in_layout(False)
        axes.add_artist(box)
        boxes.append(box)
    axes.set_axis_off()
    _spread(figure, boxes)
    return figure


def _spread(figure: Figure, boxes: list[AnnotationBbox]) -> None:
    """Boxes that overlap are pushed apart, each pair the shorter way, and none off the figure."""
    figure.draw_without_rendering()
    edges = np.array([box.patch.get_window_extent().extents for box in boxes])
    centres, halves = (edges[:, :2] + edges[:, 2:]) / 2, (edges[:, 2:] - edges[:, :2]) / 2
    for _ in range(PUSHES):
        apart = centres[:, None] - centres
        room = halves[:, None] + halves + CLEAR - np.abs(apart)  # negative: no need to move along this axis
        touching = (room > 0).all(2) & ~np.eye(len(boxes), dtype=bool)
        if not touching.any():
            break
        shorter = room == room.min(2, keepdims=True)
        # of two at the same spot, the later goes on
        order = np.sign(np.subtract.outer(np.arange(len(boxes)), np.arange(len(boxes))))
        way = np.where(apart == 0, order[..., None], np.sign(apart))
        centres = centres + np.where(touching[..., None] & shorter, way * room / 2, 0).sum(1)
        centres = np.clip(centres, halves, np.maximum(figure.bbox.size - halves, halves))
    data = boxes[0].axes.transData
    moved = data.transform([box.xybox for box in boxes]) + centres - (edges[:, :2] + edges[:, 2:]) / 2
    for box, place in zip(boxes, data.inverted().transform(moved), strict=True):
        box.xybox = tuple(place)


def colour(facet: int) -> str:
    """A colour that is told apart from the other facets'; ten of them, then again from the first."""
    return PALETTE[facet % len(PALETTE)]


def _principal_components(values: np.ndarray, components: int, notes: list[str]) -> tuple[np.ndarray, float]:
    """Scores `(N, components)` and the share of the variance they explain, with no more components than the rank."""
    from sklearn.decomposition import PCA

    centred = values - values.mean(0)
    rank = int(np.linalg.matrix_rank(centred, tol=1e-6 * max(1.0, np.abs(values).max()) * math.sqrt(values.size)))
    if rank == 0:
        notes.append("all photos give the same activations: no component, and one facet")
        return np.zeros((len(values), 1)), 1.0
    if components > rank:
        notes.append(f"{components} components were asked for, the activations have rank {rank}: {rank} components")
        components = rank
    fitted = PCA(components, svd_solver="full").fit(values)
    return fitted.transform(values), float(fitted.explained_variance_ratio_.sum())


def _embed(scores: np.ndarray, seed: int) -> np.ndarray:
    """Places on a plane, `(N, 2)`."""
    from sklearn.manifold import TSNE

    plane = np.zeros((len(scores), 2))
    plane[:, : scores.shape[1]] = scores[:, :2]
    if len(scores) < FEWEST or not plane.any():
        return plane
    # as scikit-learn starts from the components, also where there is but one
    start = (plane / plane[:, 0].std() * 1e-4).astype(np.float32)
    perplexity = min(30.0, (len(scores) - 1) / 3)
    return (
        TSNE(2, init=start, perplexity=perplexity, random_state=seed % SEEDS).fit_transform(scores).astype(np.float64)
    )


def _cluster(positions: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Facet of each photo, the largest first, and its distance to the centre."""
    from sklearn.cluster import KMeans

    fitted = KMeans(clusters, n_init=10, random_state=seed % SEEDS).fit(positions)
    distances = fitted.transform(positions)[np.arange(len(positions)), fitted.labels_]
    sizes = np.bincount(fitted.labels_, minlength=clusters)
    place = np.empty(clusters, dtype=np.int64)
    place[np.argsort(-sizes, kind="stable")] = np.arange(clusters)
    return place[fitted.labels_], distances
