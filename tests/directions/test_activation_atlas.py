"""The atlas: squares by hand, whitening by hand, planted classes found, files drawn again, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import tiny

from nbhelpers import gallery, images, models
from nbhelpers.directions import activation_atlas as technique
from nbhelpers.directions import atlas_checks
from nbhelpers.directions.activation_atlas import ActivationAtlas, Atlas
from nbhelpers.models import Network
from nbhelpers.techniques import direction_pictures
from nbhelpers.techniques.direction_pictures import DirectionPictures
from nbhelpers.techniques.fine_tuning import FineTuning

SAMPLES = Path(__file__).parents[2] / "sample_images"
SMALL = dict(
    **dict(layer="relu2", drawn="conv2", size=16, cuts=20, places=1, cells=3, fewest=2, whitening="covariance"),
    **dict(picture_size=16, rounds=1, steps=3, width=1200),
)


@pytest.fixture(scope="module")
def atlas(network: Network, folder: Path) -> Atlas:
    return ActivationAtlas(**SMALL, photos=str(folder)).run(network)


def test_squares_hold_the_places_that_lie_in_them(atlas: Atlas) -> None:
    for (column, row), members in zip(atlas.grid.tolist(), atlas.members, strict=True):
        inside = [
            index
            for index, (x, y) in enumerate(atlas.plane.tolist())
            if min(int(3 * x), 2) == column and min(int(3 * y), 2) == row
        ]
        assert sorted(members.tolist()) == inside
        assert len(inside) >= 2
    assert atlas.index == atlas.total == len(atlas.grid)


def test_what_is_drawn_is_the_whitened_difference(atlas: Atlas) -> None:
    """A shrunk covariance by its definition: between the sample's and a multiple of the identity, equal in trace."""
    vectors = atlas.collected.vectors.double().numpy()
    covariance = np.cov(vectors.T, bias=True)
    apart = atlas.means.double().numpy() - vectors.mean(0)
    distances = []
    for share in np.logspace(-6, 0, 400):
        shrunk = (1 - share) * covariance + share * np.trace(covariance) / 6 * np.eye(6)
        whitened = np.linalg.solve(shrunk, apart.T).T
        whitened /= np.linalg.norm(whitened, axis=1, keepdims=True)
        distances.append(np.abs(whitened - atlas.directions.numpy()).max())
    assert min(distances) < 0.02
    plain = technique.directions(atlas.recipe.changed(whitening="none"), atlas.collected.vectors, atlas.means).numpy()
    assert np.allclose(plain, apart / np.linalg.norm(apart, axis=1, keepdims=True), atol=1e-5)


def test_a_square_is_named_by_the_commonest_label(atlas: Atlas) -> None:
    for square in range(atlas.total):
        labels = atlas.pictures.labels[atlas.collected.photos[atlas.members[square]]].tolist()
        name, share = atlas.labelled(square, 1)[0]
        assert share == pytest.approx(labels.count(atlas.labels.index(name)) / len(labels))


def test_a_square_is_named_by_what_the_rest_of_the_network_says(atlas: Atlas, network: Network) -> None:
    said = network.net.head(atlas.means).softmax(1).detach()
    for square in range(atlas.total):
        (first, share), *_ = atlas.said(square)
        assert first == network.classes[said[square].argmax()]
        assert share == pytest.approx(said[square].max().item(), abs=1e-5)
        by_answers = replace(atlas, recipe=atlas.recipe.changed(names="answers"))
        assert by_answers.name(square) == first.split(",")[0]
        assert atlas.name(square) == atlas.labelled(square)[0][0]


def test_the_map_shows_each_picture_in_its_square(atlas: Atlas) -> None:
    recipe = atlas.recipe.changed(width=350)  # a quarter of a square is left free all around
    sheet = np.asarray(technique.draw(recipe, replace(atlas, picture=torch.zeros_like(atlas.picture))))
    side = 100
    for row in range(3):
        for column in range(3):
            top, left = (25 + place * side for place in (row, column))
            square = sheet[top : top + side, left : left + side]
            drawn = [column, row] in atlas.grid.tolist()
            assert (square == 0).all(2).any() == drawn


def test_the_file_is_drawn_again(atlas: Atlas, network: Network, tmp_path: Path) -> None:
    path = technique.save(atlas, tmp_path)
    document = images.read_recipe(path)
    assert document["drawn_by"] == "draw"
    assert gallery.replay(path, network).same


def test_a_run_that_was_stopped_goes_on(atlas, network, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(direction_pictures, "TOGETHER", 2)
    bare = technique.with_cells(atlas, 3, network)
    first = next(technique.climb(bare, network, tmp_path))
    assert first.index == 2
    assert len(list(tmp_path.iterdir())) == 1
    drawn = []
    run = DirectionPictures.run
    monkeypatch.setattr(DirectionPictures, "run", lambda *given: drawn.append(given) or run(*given))
    *_, last = technique.climb(bare, network, tmp_path)
    assert len(drawn) == -(-last.total // 2) - 1
    assert torch.equal(last.picture[:2], first.picture)


def test_a_coarser_grid_is_over_the_same_plane(atlas: Atlas, network: Network) -> None:
    coarse = technique.with_cells(atlas, 2, network)
    assert torch.equal(coarse.plane, atlas.plane)
    assert coarse.recipe.cells == 2
    assert coarse.grid.max() <= 1
    assert (coarse.index, coarse.total) == (0, len(coarse.grid))


def test_a_class_atlas_has_the_places_that_speak_for_it(undecided: Network, folder: Path) -> None:
    """Behind `relu2` of `tiny` lie a mean and a linear layer, so what a place adds is had by hand."""
    recipe = ActivationAtlas(**SMALL, photos=str(folder)).changed(label="cat", fewest=1)
    atlas = technique.survey(recipe, undecided)
    everything = technique.survey(recipe.changed(label=""), undecided)
    batch = everything.pictures.batch(slice(None))[0]
    weights, answers = undecided.net.head.weight.detach(), undecided(batch).softmax(1).detach()
    against = weights[2] - answers @ weights
    adds = (everything.collected.vectors * against[everything.collected.photos]).sum(1)
    assert 0 < (adds > 0).sum() < len(adds)
    assert torch.equal(atlas.collected.vectors, everything.collected.vectors[adds > 0])
    assert torch.equal(atlas.among, everything.collected.vectors)
    apart = atlas.means.double() - atlas.among.double().mean(0)
    plain = technique.directions(recipe.changed(whitening="none"), atlas.among, atlas.means)
    assert torch.allclose(plain, torch.nn.functional.normalize(apart, dim=1).float(), atol=1e-5)
    assert f"{int((adds > 0).sum())} of 60 places speak for cat" in atlas.report()


def test_two_classes_lie_on_one_plane(undecided: Network, folder: Path, tmp_path: Path) -> None:
    recipe = ActivationAtlas(**SMALL, photos=str(folder)).changed(label="cat", beside="dog", fewest=1, width=200)
    atlas = recipe.run(undecided)
    assert (atlas.recipe, atlas.beside.recipe.label) == (recipe, "dog")
    alone = [technique.survey(recipe.changed(label=name, beside=""), undecided) for name in ("cat", "dog")]
    for each, own in zip((atlas, atlas.beside), alone, strict=True):
        assert torch.equal(each.collected.vectors, own.collected.vectors)
    # a place that speaks for both lies at the same spot of both maps, as far as t-SNE can tell twins apart
    first, second = ([tuple(row) for row in each.components.tolist()] for each in (atlas, atlas.beside))
    both = [(first.index(row), second.index(row)) for row in first if row in second]
    for one, other in both:
        assert (atlas.plane[one] - atlas.beside.plane[other]).norm() < 0.1
    assert atlas.index == atlas.total == len(atlas.grid) + len(atlas.beside.grid)
    sheet = technique.draw(recipe, atlas)
    assert sheet.width == 400
    assert sheet.height > 200
    assert gallery.replay(technique.save(atlas, tmp_path), undecided).same
    coarse = technique.with_cells(atlas, 2, undecided)
    assert coarse.beside.grid.max() <= 1
    assert torch.equal(coarse.beside.plane, atlas.beside.plane)


def test_another_network_is_mapped_from_the_same_places(network: Network, folder: Path) -> None:
    other = models.offer(Network(tiny(seed=1).eval(), "second", classes=network.classes, size=16))
    try:
        recipe = ActivationAtlas(**SMALL, photos=str(folder)).changed(other="second", fewest=1)
        atlas = recipe.run(network)
        assert (atlas.beside.recipe.network, atlas.beside.recipe.drawn) == ("second", "conv2")
        assert torch.equal(atlas.collected.centres, atlas.beside.collected.centres)
        theirs = technique.survey(recipe.changed(other=""), other)
        assert torch.equal(atlas.beside.collected.vectors, theirs.collected.vectors)
        # drawn by the other network
        alone = DirectionPictures(**drawing_of(atlas.beside)).run(other).picture
        assert torch.equal(atlas.beside.picture, alone)
    finally:
        models.withdraw("second")


def test_a_network_before_and_after_fine_tuning_lies_on_one_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """As notebook 15 tells it: what notebook 10 has tuned is offered under a name. Frozen layers stay as they were."""
    monkeypatch.chdir(SAMPLES.parent / "notebooks")
    tuned = FineTuning(size=32, views=1, head_epochs=1, upper_epochs=1, batch=8).run().network
    models.offer(tuned, "tuned")
    try:
        recipe = ActivationAtlas(
            **dict(photos=str(SAMPLES), size=32, cuts=4, places=2, cells=3, fewest=1, width=200),
            **dict(picture_size=16, steps=1, rounds=1, other="tuned"),
        )
        last = recipe.changed(layer="block4.relu1", drawn="block4.conv1").run()
        assert last.beside.recipe.network == "tuned"
        assert last.index == last.total == len(last.grid) + len(last.beside.grid)
        assert technique.draw(last.recipe, last).width == 400
        before, after = last.collected.vectors, last.beside.collected.vectors
        assert not torch.equal(before, after)
        assert torch.nn.functional.cosine_similarity(before, after).mean() > 0.9  # a step is a small one
        mixed = atlas_checks.mixing(last.components, last.beside.components)
        assert mixed.twins > 0.9
        early = technique.survey(recipe.changed(layer="block1.relu1", drawn="block1.conv1"))
        assert torch.allclose(early.collected.vectors, early.beside.collected.vectors, atol=1e-4)
    finally:
        models.withdraw("tuned")


def drawing_of(atlas: Atlas) -> dict:
    manner = technique.drawing.manner(atlas.recipe, atlas.directions)
    return {name: getattr(manner, name) for name in DirectionPictures.model_fields}


def test_another_layer_is_mapped_from_the_same_places(network: Network, folder: Path) -> None:
    recipe = ActivationAtlas(**SMALL, photos=str(folder)).changed(other=":relu1", fewest=1)
    atlas = technique.survey(recipe, network)
    assert (atlas.beside.recipe.layer, atlas.beside.recipe.drawn) == ("relu1", "conv1")
    assert atlas.beside.collected.vectors.shape[1] == 8
    assert (atlas.beside.collected.centres - atlas.collected.centres).abs().max() <= 1 / 16
    assert atlas.components.shape == atlas.beside.components.shape


def test_photos_of_one_class_only_make_a_map_too(network: Network, folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "red.png", tmp_path)
    atlas = technique.survey(ActivationAtlas(**SMALL, photos=str(tmp_path)), network)
    assert atlas.labels == ["red"]
    assert {atlas.name(square) for square in range(atlas.total)} == {"red"}
    assert atlas_checks.purity(atlas) == (1, 1)


def test_a_network_of_one_logit_says_yes_or_no(folder: Path) -> None:
    """What speaks for its one class raises the logit."""
    net = tiny()
    net.head = torch.nn.Linear(6, 1)
    weights = torch.tensor([[1.0, 1, 1, -1, -1, -1]])
    net.head.weight.data = weights
    alone = Network(net.eval(), "alone", classes=["cat"], size=16)
    recipe = ActivationAtlas(**SMALL, photos=str(folder)).changed(fewest=1)
    everything = technique.survey(recipe, alone).collected.vectors
    speaks = everything @ weights[0] > 0
    if not speaks.any():
        weights.neg_()
        speaks = ~speaks
    assert torch.equal(technique.survey(recipe.changed(label="cat"), alone).collected.vectors, everything[speaks])


def test_a_class_that_nothing_speaks_for_is_said(network: Network, folder: Path) -> None:
    recipe = ActivationAtlas(**SMALL, photos=str(folder)).changed(label="dog")
    with pytest.raises(ValueError, match="none of the 60 places of layer 'relu2' speaks for 'dog': take a class that"):
        technique.survey(recipe, network)


@pytest.mark.parametrize("whitening", ["none", "covariance"])
def test_dead_channels_do_no_harm(folder: Path, whitening: str) -> None:
    net = tiny()
    with torch.no_grad():
        net.conv2.bias[[1, 4]] = -1e3
    atlas = technique.survey(
        ActivationAtlas(**SMALL, photos=str(folder)).changed(whitening=whitening), Network(net.eval(), "dead", size=16)
    )
    assert (atlas.collected.vectors[:, [1, 4]] == 0).all()
    assert atlas.directions.isfinite().all()
    assert (atlas.directions[:, [1, 4]] == 0).all()
    assert len(atlas.plane.unique(dim=0)) == 60


def test_the_layer_before_a_relu(network: Network) -> None:
    assert technique.before_relu(network, "relu2") == "conv2"
    assert technique.before_relu(network, "conv2") == "conv2"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(drawn="conv1"), ValueError, r"'relu2' has 6 channels and 'conv1', to draw in, 8"),
        (dict(fewest=900), ValueError, r"no square of 3 x 3 has 900 of the 60 places, the fullest has \d+: take fewer"),
        (dict(layer="relu9"), KeyError, "no layer 'relu9'"),
        (dict(photos="no_such_folder"), FileNotFoundError, "no_such_folder"),
        (dict(label="catt"), ValueError, "catt"),
        (dict(beside="cat"), ValueError, "beside which class is 'cat' to be mapped"),
        (dict(label="cat", beside="bee", other=":relu1"), ValueError, "room for one other"),
        (dict(other="no_such_network"), ValueError, "no_such_network"),
        (dict(other=":relu9"), KeyError, "no layer 'relu9'"),
        (dict(limit=1, places=1), ValueError, "one place is no map: take more photos, or more cuts or places"),
        (
            dict(limit=2, cuts=1, places=1, whitening="covariance", fewest=1),
            ValueError,
            "of 2 places the covariance is",
        ),
        (dict(cells=64), ValueError, r"no square of 64 x 64 has 2 of the 60 places, the fullest has 1: take fewer"),
    ],
)
def test_what_does_not_fit_is_said(network, folder, changes, error, message) -> None:
    recipe = ActivationAtlas(**SMALL, photos=str(folder)).changed(**changes)
    with pytest.raises(error, match=message):
        technique.survey(recipe, network)
