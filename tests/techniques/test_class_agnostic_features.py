"""Class-agnostic features: facets against scikit-learn's pieces, the loop's gradient against finite
differences, and what happens with photos and layers that do not suffice."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.offsetbox import AnnotationBbox
from PIL import Image
from torch import nn

from nbhelpers import images, models
from nbhelpers.ascent import NonFiniteScore
from nbhelpers.techniques import class_agnostic_features as technique
from nbhelpers.techniques.class_agnostic_features import ClassAgnosticFeatures, facet_ascent, facets
from nbhelpers.techniques.class_agnostic_features.technique import settings

# what is reduced is said by warnings; the tests that are about them expect them
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*were asked for"),
    pytest.mark.filterwarnings("ignore:all photos give the same"),
]

ROOT = Path(__file__).parents[2]
PHOTOS = str(ROOT / "sample_images")


def small(**changes) -> ClassAgnosticFeatures:
    usual = {"folder": PHOTOS, "size": 64, "crops": 1, "clusters": 2, "steps": 12, "checkpoint_step": 5}
    return ClassAgnosticFeatures(**{**usual, **changes})


@pytest.fixture(scope="module")
def network() -> models.Network:
    return models.load("minivgg_robust")


@pytest.fixture(scope="module")
def found(network: models.Network) -> facets.Facets:
    with pytest.warns(UserWarning, match="have rank 11: 11 components"):
        return technique.find_facets(small(), network)


def noise(count: int, side: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, side, side, generator=generator, dtype=torch.float64)


# --- facets


def test_weights_are_the_published_ones_where_those_are_finite() -> None:
    distances = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    published = torch.exp(1 / distances) / torch.exp(1 / distances).sum()
    torch.testing.assert_close(facets.soft_weights(distances), published)


def test_weights_stay_finite_at_the_centre() -> None:
    assert facets.soft_weights(torch.tensor([1e-4, 1.0])).tolist() == [1, 0]
    assert facets.soft_weights(torch.tensor([0.0, 0.0, 2.0])).tolist() == pytest.approx([0.5, 0.5, 0])


def test_pooled_activations_are_the_logits_before_the_head(network: models.Network) -> None:
    pictures = noise(3, 64).float()
    pooled = models.pooled_activations(network, "block4.relu1", pictures, batch_size=2)
    torch.testing.assert_close(network.net.head(pooled), network(pictures), atol=1e-4, rtol=1e-4)


def test_explained_variance_is_that_of_the_singular_values(found: facets.Facets) -> None:
    values = found.activations.double()
    squares = torch.linalg.svdvals(values - values.mean(0)).square()
    photos = images.Photos(found.pictures, found.names)
    four = facets.find(photos, found.activations, clusters=2, components=4)
    assert four.components == 4
    assert four.explained == pytest.approx((squares[:4].sum() / squares.sum()).item(), abs=1e-6)


def test_planted_groups_are_found_largest_first() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = [9, 17, 13]
    centres = 10 * torch.eye(3).repeat_interleave(torch.tensor(sizes), dim=0)
    activations = torch.cat([centres + torch.rand(39, 3, generator=generator), torch.rand(39, 20)], dim=1)
    photos = images.Photos(torch.rand(39, 3, 8, 8), [str(number) for number in range(39)])
    grouped = facets.find(photos, activations, clusters=3, components=10)
    assert grouped.labels.tolist() == [2] * 9 + [0] * 17 + [1] * 13
    nearest = grouped.nearest(1, 5)
    assert (grouped.labels[nearest] == 1).all()
    centre = grouped.positions[grouped.labels == 1].mean(0)
    distances = (grouped.positions - centre).norm(dim=1)
    torch.testing.assert_close(grouped.distances[nearest], distances[grouped.labels == 1].sort().values[:5])


def test_targets_are_weighted_means_of_the_nearest(found: facets.Facets) -> None:
    activations, pictures = facets.targets(found, nearest=3)
    weights, members = found.weights(1, 3), found.nearest(1, 3)
    expected = sum(weight * found.activations[photo] for weight, photo in zip(weights, members, strict=True))
    torch.testing.assert_close(activations[1], expected.float())
    expected = sum(weight * found.pictures[photo] for weight, photo in zip(weights, members, strict=True))
    torch.testing.assert_close(pictures[1], expected.float())


def test_top_channels_keep_the_largest() -> None:
    target = torch.tensor([[1.0, 5.0, 3.0], [2.0, 0.0, 4.0]])
    assert facets.top_channels(target, 2).tolist() == [[0, 5, 3], [2, 0, 4]]
    assert facets.top_channels(target, 9).equal(target)


def test_crops_cover_the_photo() -> None:
    crops = facets.read_crops(PHOTOS, 60, 3)
    whole = images.read_folder(PHOTOS, 100)
    assert len(crops) == 9 * len(whole)
    assert crops.names[:2] == [whole.names[0] + " 1", whole.names[0] + " 2"]
    assert crops.pictures[9 * 4].equal(whole.pictures[4, :, :60, :60])
    assert crops.pictures[9 * 4 + 8].equal(whole.pictures[4, :, 40:, 40:])
    assert crops.pictures[9 * 4 + 5].equal(whole.pictures[4, :, 20:80, 40:])


@pytest.mark.parametrize(("sides", "grid"), [((200, 100), (3, 8)), ((100, 300), (13, 3))])
def test_crops_of_a_whole_photo_reach_its_ends(tmp_path: Path, sides: tuple[int, int], grid: tuple[int, int]) -> None:
    ramp = np.indices(sides[::-1]).sum(0) / (sum(sides) - 2) * 255
    Image.fromarray(np.stack([ramp.astype(np.uint8)] * 3, 2)).save(tmp_path / "ramp.png")
    found = facets.read_crops(str(tmp_path), 60, 3, "whole")
    rows, columns = grid
    assert len(found) == len(found.names) == rows * columns
    whole = images.read(tmp_path / "ramp.png", 100, "whole")
    assert found.pictures[0].equal(whole[:, :60, :60])
    assert found.pictures[columns - 1].equal(whole[:, :60, -60:])
    assert found.pictures[-1].equal(whole[:, -60:, -60:])
    wide = facets.read_crops(str(tmp_path), (30, 60), 3, "whole").pictures[:, 0]
    assert wide.shape[1:] == (30, 60)
    assert wide.diff(dim=2).mean((1, 2)).min() > 0.001  # the ramp rises in every crop: none is grey
    assert (wide.min(), wide.max()) == pytest.approx((0, 1), abs=0.02)
    centre = facets.read_crops(str(tmp_path), 60, 3)
    assert len(centre) == 9
    assert centre.pictures.max() < found.pictures.max() - 0.1
    assert centre.pictures.min() > found.pictures.min() + 0.1
    assert (
        facets.read_crops(str(tmp_path), 60, 1, "whole")
        .pictures[0]
        .equal(images.read(tmp_path / "ramp.png", 60, "pad"))
    )


def test_a_seed_may_be_of_any_size() -> None:
    positions = torch.randn(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    labels, distances = facets._cluster(positions, 3, 2**32 + 5)
    again, same = facets._cluster(positions, 3, 5)
    assert np.array_equal(labels, again)
    assert np.array_equal(distances, same)
    assert facets._embed(positions, 2**40).shape == (40, 2)


# --- the loop


def test_published_parameters_have_their_names_and_values() -> None:
    published = {
        "scale": 1.2,
        "start_lr": 0.5,
        "end_lr": 0.08,
        "start_mask_sigma": 420,
        "end_mask_sigma": 340,
        "start_sigma": 0.9,
        "end_sigma": 0.2,
        "start_denoise_weight": 2,
        "end_denoise_weight": 8,
        "start_lambda": 1e-4,
        "end_lambda": 5e-4,
        "window": 0.4,
        "window_step": 400,
        "brightness_step": 50,
        "top_channels": 50,
    }
    recipe = ClassAgnosticFeatures()
    assert {name: getattr(recipe, name) for name in published} == published


def test_schedules_are_straight_from_first_to_last_step() -> None:
    values = [facet_ascent.scheduled(0.5, 0.08, index, 22) for index in range(1, 23)]
    np.testing.assert_allclose(values, np.linspace(0.5, 0.08, 22))
    assert facet_ascent.scheduled(0.5, 0.08, 1, 1) == 0.08


def test_mask_is_a_gaussian_from_one_to_nothing() -> None:
    mask = facet_ascent.gaussian_mask(65, 65, 20.0).double()
    assert (mask[32, 32].item(), mask[0, 0].item()) == (1, 0)
    corner = math.exp(-2 * 32**2 / 800)
    expected = (math.exp(-(10**2) / 800) - corner) / (1 - corner)
    assert mask[32, 42].item() == pytest.approx(expected, abs=1e-6)
    assert mask.equal(mask.T)
    assert mask.equal(mask.flip(0))


def test_robust_distance_is_square_near_and_straight_far() -> None:
    target = torch.zeros(2, 4, dtype=torch.float64)
    pooled = torch.tensor([[1e-3] * 4, [1e3] * 4], dtype=torch.float64)
    near, far = facet_ascent.robust_distance(pooled, target).tolist()
    assert near == pytest.approx(0.5e-6, rel=1e-3)
    assert far == pytest.approx(1e3, rel=2e-3)


@pytest.mark.parametrize("size", [64, (48, 80)])
def test_gradient_is_that_of_the_published_objective(
    network: models.Network, found: facets.Facets, size: int | tuple[int, int]
) -> None:
    recipe = small(top_channels=7, smoothness=0, size=size)
    if size != 64:
        found = technique.find_facets(recipe, network)
    run = facet_ascent.Run(settings(recipe), network, found)
    picture = run.begin().picture
    scores, gradient = run._gradient(picture, 1e-3)

    with torch.no_grad():
        net = network.net
        before = net.block3(net.block2(net.block1(net.stem(network.normalise(picture)))))
        pooled = net.block4(before).mean((2, 3))
    for facet in range(2):
        target = run.target[facet]
        top = target.argsort(descending=True)[:7]
        expected = (pooled[facet, top] * target[top]).sum()
        expected -= ((pooled[facet] - target) ** 2 + 1).sqrt().sub(1).mean()
        expected -= 1e-3 * before[facet].abs().sum()
        assert scores[facet].item() == pytest.approx(expected.item(), rel=1e-4)

    direction = gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    step = 0.02
    up, down = (run._gradient(picture + sign * step * direction, 1e-3)[0] for sign in (1, -1))
    slope = (up - down) / (2 * step)
    torch.testing.assert_close(slope, gradient.flatten(1).norm(dim=1), rtol=0.02, atol=0)


def test_first_step_is_nesterovs_on_the_masked_gradient(network: models.Network, found: facets.Facets) -> None:
    recipe = small()
    run = facet_ascent.Run(settings(recipe), network, found)
    begun = run.begin()
    _, gradient = run._gradient(begun.picture, recipe.start_lambda)
    unit = gradient / gradient.square().flatten(1).mean(1).sqrt().view(-1, 1, 1, 1)
    mask = facet_ascent.gaussian_mask(64, 64, 420 * 64 / 512)
    expected = begun.picture + facet_ascent.STRIDE * 0.5 * 1.9 * unit * mask
    torch.testing.assert_close(run.advance(begun).picture, expected.clamp(0, 1), atol=1e-5, rtol=0)


def test_a_facet_alone_gives_the_picture_it_has_in_the_batch(network: models.Network, found: facets.Facets) -> None:
    recipe = small(steps=10)
    together = list(technique.visualise(recipe, network, found))[-1].picture
    only = found.labels == 1
    alone = replace(
        found,
        pictures=found.pictures[only],
        activations=found.activations[only],
        positions=found.positions[only],
        labels=torch.zeros(int(only.sum()), dtype=torch.int64),
        distances=found.distances[only],
    )
    picture = list(technique.visualise(recipe, network, alone))[-1].picture
    torch.testing.assert_close(picture[0], together[1], atol=2e-3, rtol=0)


def test_the_window_moves_and_brings_back_what_it_made(network: models.Network, found: facets.Facets) -> None:
    recipe = small(window_step=6, scale=1.5, window=1.0, seed=3)
    run = facet_ascent.Run(settings(recipe), network, found)
    states = [run.begin()]
    for _ in range(12):
        states.append(run.advance(states[-1]))
    corners = [state.corner for state in states]
    assert corners[0] == (16, 16)
    assert len(set(corners[:6])) == len(set(corners[6:12])) == 1
    assert len(set(corners)) == 3
    top, left = corners[6]
    # before step 6 was made, the window was put back where it had been, and then read at its new place
    torch.testing.assert_close(states[6].whole[:, :, 16:80, 16:80], states[5].picture)
    assert all(0 <= place <= 32 for place in (top, left))


def test_pictures_may_be_wide(network: models.Network) -> None:
    recipe = small(size=(48, 80), window_step=6, scale=1.5, window=1.0, seed=3, crops=2)
    found = technique.find_facets(recipe, network)
    assert found.pictures.shape == (4 * 12, 3, 48, 80)
    run = facet_ascent.Run(settings(recipe), network, found)
    states = [run.begin()]
    for _ in range(6):
        states.append(run.advance(states[-1]))
    assert states[0].whole.shape[2:] == (72, 120)
    assert states[0].corner == (12, 20)
    torch.testing.assert_close(states[6].whole[:, :, 12:60, 20:100], states[5].picture)
    assert run.step(states[6]).picture.shape == (2, 3, 48, 80)


def test_brightness_comes_every_brightness_step(network: models.Network, found: facets.Facets) -> None:
    run = facet_ascent.Run(settings(small(brightness_step=1)), network, found)
    plain = facet_ascent.Run(settings(small()), network, found)
    begun = run.begin()
    black = replace(begun, picture=torch.zeros_like(begun.picture))
    run._gradient = plain._gradient = lambda picture, weight: (torch.zeros(2), torch.zeros_like(picture))
    assert run.advance(black).picture.unique().tolist() == pytest.approx([5 / 255])
    assert plain.advance(black).picture.unique().tolist() == [0]


def test_pictures_belong_to_their_facet_and_a_random_networks_do_not(
    network: models.Network, found: facets.Facets
) -> None:
    recipe = small(start="grey", steps=30)
    random = models.randomised(network)
    seen_at_random = replace(found, activations=models.pooled_activations(random, recipe.layer, found.pictures))
    gains = []
    for net, groups in ((network, found), (random, seen_at_random)):
        pictures = list(technique.visualise(recipe, net, groups))[-1].picture
        own, others = technique.evidence(found, pictures, network, recipe.layer)
        gains.append((own - others).sum().item())
    assert gains[0] > gains[1] + 0.1


def test_similarities_are_mean_cosines(found: facets.Facets) -> None:
    pooled = torch.rand(2, found.activations.shape[1])
    table = technique.similarities(found, pooled)
    cosine = [
        float(photo @ pooled[1] / photo.norm() / pooled[1].norm()) for photo in found.activations[found.labels == 0]
    ]
    assert table[1, 0].item() == pytest.approx(sum(cosine) / len(cosine), abs=1e-5)


def test_checkpoints_make_a_strip_and_an_animation(
    network: models.Network, found: facets.Facets, tmp_path: Path
) -> None:
    last = list(technique.visualise(small(), network, found))[-1]
    assert sorted(last.checkpoints) == [0, 5, 10, 12]
    assert last.checkpoints[12].equal(last.picture)
    assert technique.strip(last, 3).width == 3 * 64 + 2 * 2
    for name in ("way.gif", "way.webp"):
        technique.animate(last, tmp_path / name)
        with Image.open(tmp_path / name) as animation:
            assert animation.n_frames >= 4


# --- stopping and going on


def test_a_stopped_run_goes_on_where_it_was(network: models.Network, tmp_path: Path) -> None:
    recipe = small(window_step=5)
    path = tmp_path / "run.pt"
    whole = list(technique.visualise(recipe, network))
    steps = technique.visualise(recipe, network, saved=path)
    for _ in range(7):
        next(steps)
    steps.close()
    rest = list(technique.visualise(recipe, network, saved=path))
    assert [step.index for step in rest] == list(range(8, 13))
    assert rest[-1].picture.equal(whole[-1].picture)
    assert sorted(rest[-1].checkpoints) == [0, 5, 10, 12]
    again = list(technique.visualise(recipe, network, saved=path))
    assert [step.index for step in again] == [12]
    assert again[0].picture.equal(whole[-1].picture)
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


def test_a_saved_run_of_another_recipe_or_a_damaged_one_is_refused(
    network: models.Network, found: facets.Facets, tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    list(technique.visualise(small(steps=1), network, found, path))
    with pytest.raises(ValueError, match="was made with steps = 1:"):
        next(technique.visualise(small(), network, found, path))
    older = torch.load(path, weights_only=True)
    del older["recipe"]["fit"]  # saved before there was such a parameter
    torch.save(older, path)
    (last,) = technique.visualise(small(steps=1), network, found, path)
    assert last.index == 1
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged one: delete it"):
        next(technique.visualise(small(), network, found, path))


@pytest.mark.parametrize("thumbnails", [1, 3, 9])
def test_thumbnails_lie_inside_the_figure_and_hide_none_of_their_facets_points(thumbnails: int) -> None:
    pictures, generator = noise(40, 16).float(), torch.Generator().manual_seed(3)
    centres = torch.tensor([[0.0, 0.0], [30.0, 3.0], [5.0, 20.0], [-20.0, -25.0]], dtype=torch.float64)
    labels = torch.arange(40) % 4
    places = centres[labels] + torch.randn(40, 2, generator=generator, dtype=torch.float64)
    distances = (places - centres[labels]).norm(dim=1)
    names = [str(number) for number in range(40)]
    grouped = facets.Facets(pictures, names, torch.zeros(40, 3), places, labels, distances, 2, 1.0)
    figure = facets.scatter(grouped, thumbnails)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [each for each in axes.artists if isinstance(each, AnnotationBbox)]
    assert len(boxes) == 4
    for facet, box in enumerate(boxes):
        found = box.patch.get_window_extent()
        assert figure.bbox.contains(found.x0, found.y0)
        assert figure.bbox.contains(found.x1, found.y1)
        points = axes.transData.transform(places[labels == facet].numpy())
        assert not any(found.padded(-8).contains(*point) for point in points)


@pytest.mark.parametrize("crowded", [0.0, 0.02, 0.3])
def test_boxes_of_facets_do_not_overlap(crowded: float) -> None:
    """Ten facets with three photos each, their centres at one spot, nearly, or near each other."""
    noise = torch.Generator().manual_seed(0)
    centres = crowded * torch.randn(10, 2, generator=noise)
    labels = torch.arange(10).repeat_interleave(4)
    places = centres[labels] + 0.01 * torch.randn(40, 2, generator=noise)
    grouped = facets.Facets(
        pictures=torch.rand(40, 3, 8, 8),
        names=[str(number) for number in range(40)],
        activations=torch.zeros(40, 4),
        positions=places,
        labels=labels,
        distances=(places - centres[labels]).norm(dim=1),
        components=2,
        explained=1.0,
    )
    figure = facets.scatter(grouped, 3)
    figure.draw_without_rendering()
    found = [each.patch.get_window_extent() for each in figure.axes[0].artists if isinstance(each, AnnotationBbox)]
    assert len(found) == 10
    for number, box in enumerate(found):
        assert not any(box.overlaps(other) for other in found[:number])
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= figure.bbox.width + 1
        assert box.y1 <= figure.bbox.height + 1


# --- bad input


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "sample_images" / "cat.jpg", tmp_path)
    return tmp_path


def test_a_folder_of_one_photo_gives_its_own_facet(network: models.Network, folder: Path) -> None:
    with pytest.warns(UserWarning, match="1 different photos are there: 1 facets"):
        step = small(folder=str(folder), steps=2).run(network)
    assert step.picture.shape == (1, 3, 64, 64)
    expected = models.pooled_activations(network, "block4.relu1", images.read(folder / "cat.jpg", 64)[None])
    torch.testing.assert_close(facets.targets(step.facets, 10)[0], expected)


def test_identical_photos_are_one_facet(network: models.Network, folder: Path) -> None:
    for number in range(7):
        shutil.copy(folder / "cat.jpg", folder / f"copy{number}.jpg")
    with pytest.warns(UserWarning, match="the same activations"):
        grouped = technique.find_facets(small(folder=str(folder)), network)
    assert grouped.labels.tolist() == [0] * 8
    assert grouped.weights(0, 10).tolist() == pytest.approx([1 / 8] * 8)


def test_photos_of_any_size_and_broken_ones(network: models.Network, folder: Path) -> None:
    for width, height in ((30, 90), (200, 100), (64, 64)):
        values = np.random.default_rng(width).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{width}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="have rank 3: 3 components"):
        grouped = technique.find_facets(small(folder=str(folder)), network)
    assert len(grouped.names) == 4
    assert list(grouped.skipped) == ["broken.jpg"]
    assert any(line.startswith("skipped broken.jpg") for line in grouped.report())


def test_no_photos(network: models.Network, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        small(folder=str(tmp_path / "nowhere")).run(network)
    with pytest.raises(ValueError, match="holds no pictures"):
        small(folder=str(tmp_path)).run(network)


def test_fewer_photos_than_facets(network: models.Network) -> None:
    with pytest.warns(UserWarning, match="20 facets were asked for, 12 different photos"):
        grouped = technique.find_facets(small(clusters=20), network)
    assert grouped.count == 12


def test_activations_that_are_not_numbers_are_named(network: models.Network) -> None:
    photos = images.read_folder(PHOTOS, 64)
    activations = torch.rand(12, 5)
    activations[3, 2] = math.nan
    with pytest.raises(ValueError, match=rf"1 of 12 photos are infinite or not numbers \({photos.names[3]}\)"):
        facets.find(photos, activations, 2)


def test_a_score_that_is_not_a_number_keeps_the_last_good_pictures(
    network: models.Network, found: facets.Facets
) -> None:
    run = facet_ascent.Run(settings(small()), network, found)
    state = run.advance(run.begin())
    run.target[1, 0] = math.nan
    with pytest.raises(NonFiniteScore, match=r"facet 1 is nan at step 2 of 12") as stopped:
        run.advance(state)
    assert stopped.value.step.picture.equal(state.picture)


def test_layers_that_do_not_suffice(network: models.Network) -> None:
    with pytest.raises(KeyError, match="Nearest: block4"):
        small(layer="block4.relu").run(network)
    with pytest.raises(ValueError, match="no feature maps"):
        small(layer="head").run(network)
    with pytest.raises(ValueError, match="too shallow for the penalty layer"):
        small(layer="block2.relu2").run(network)
    coarse = models.Network(nn.Sequential(nn.AvgPool2d(40), nn.Conv2d(3, 4, 1)), "coarse")
    with pytest.raises(ValueError, match="at least 40 pixels"):
        small(size=32, layer="1", penalty_layer="1").run(coarse)


def test_another_network_gives_facets_too(shared: Path) -> None:
    recipe = small(
        network="squeezenet1_0", layer="features.12", penalty_layer="features.10", clusters=3, steps=1, crops=2
    )
    step = recipe.run()
    assert step.facets.activations.shape == (48, 512)
    assert step.picture.shape == (3, 3, 64, 64)
    assert step.alive.all()
