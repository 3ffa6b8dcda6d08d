"""The Grad-CAM technique: photos, classes, counterfactuals, the contest of maps, and what is said of bad input."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nbhelpers import images, models, recipes
from nbhelpers.attribution import boxes, cams, contest, faithfulness
from nbhelpers.attribution.boxes import Boxed
from nbhelpers.images import Photos, overlays, photos
from nbhelpers.models import Network
from nbhelpers.techniques import grad_cam
from nbhelpers.techniques.grad_cam import GradCAM

SAMPLES = Path(__file__).parents[2] / "sample_images"


@pytest.fixture(scope="module")
def network() -> Network:
    return models.load("minivgg_robust", device="cpu")


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """Three of the sample photos."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("coffee", "portrait", "rocket"):
        shutil.copy(SAMPLES / f"{name}.jpg", folder)
    return folder


def test_maps_classes_and_overlays_fit_together(network: Network, few: Path) -> None:
    recipe = GradCAM(fit="crop", photos=str(few), photo_size=64)
    step = recipe.run(network)
    pictures = images.read_many(few, 64).pictures
    with torch.no_grad():
        shares = network(pictures).softmax(1)
    assert step.labels == ["espresso", "bow tie", "obelisk"]
    assert torch.allclose(step.probabilities, shares.amax(1), atol=1e-5)
    maps, _ = cams.class_maps(network, "block4", pictures)
    assert torch.allclose(step.maps, maps, atol=1e-6)
    assert torch.allclose(step.picture, overlays.overlay(pictures, maps, 0.55, "magma"), atol=1e-5)
    assert step.empty == []


def test_every_batch_is_yielded_and_the_batch_size_does_not_matter(network: Network, few: Path) -> None:
    recipe = GradCAM(fit="crop", photos=str(few), photo_size=64)
    steps = list(recipe.changed(batch_size=2).iterate(network))
    assert [(step.index, step.total, len(step.photos)) for step in steps] == [(2, 3, 2), (3, 3, 1)]
    assert torch.allclose(recipe.joined(steps).maps, recipe.run(network).maps, atol=1e-6)


def test_whole_photos_are_mapped_whole(network: Network, few: Path) -> None:
    """Each against a plain pass over that photo alone; the centre's map is that of the square, but for its borders."""
    recipe = GradCAM(photos=str(few), photo_size=64)
    step = recipe.run(network)
    assert [tuple(photo.shape[1:]) for photo in step.photos.pictures] == [(64, 96), (80, 64), (64, 96)]
    for photo, found, overlaid in zip(step.photos.pictures, step.maps, step.picture, strict=True):
        expected, _ = cams.class_maps(network, "block4", photo[None])
        assert torch.allclose(found, expected[0], atol=1e-5)
        assert overlaid.shape == photo.shape
    assert {tuple(each.shape[1:]) for each in recipe.changed(fit="pad").run(network).photos.pictures} == {(64, 64)}
    sheet = grad_cam.sheet(step)
    assert sheet.height > 2 * 144


def test_a_network_of_one_size_gets_whole_photos_in_its_square(few: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64 * 64, 3)).eval()
    step = GradCAM(photos=str(few), photo_size=64, layer="1").run(net)
    assert step.photos.pictures.shape == (3, 3, 64, 64)
    coffee = step.photos.pictures[0]
    assert (coffee[:, :10] == 0.5).all()
    assert torch.allclose(coffee[:, 10:53], images.framed([images.read(few / "coffee.jpg")], 64)[0], atol=0.02)


def test_one_photo_is_made_again_alone(network: Network, few: Path, tmp_path: Path, monkeypatch) -> None:
    recipe = GradCAM(photos=str(few), photo_size=64)
    paths = grad_cam.save(recipe, recipe.run(network), tmp_path)
    asked, mapped = [], cams.class_maps
    monkeypatch.setattr(cams, "class_maps", lambda *given, **how: asked.append(len(given[2])) or mapped(*given, **how))
    again = recipes.remake(paths[1], network)
    assert asked == [1]
    assert torch.allclose(again, images.read(paths[1]), atol=1 / 255)
    with pytest.raises(ValueError, match="its number is 3, out of bounds: the recipe makes 3 pictures"):
        recipe.one_picture(3, network)


def test_a_stopped_run_goes_on(network: Network, few: Path, tmp_path: Path) -> None:
    recipe = GradCAM(photos=str(few), photo_size=64, batch_size=1)
    for step in grad_cam.write(recipe, tmp_path, network):
        if step.index == 2:
            break
    first = sorted(tmp_path.iterdir())
    assert [path.stem.removeprefix(f"{recipe.slug}-") for path in first] == ["000-coffee", "001-portrait"]
    written = [path.stat().st_mtime_ns for path in first]
    assert [step.photos.names for step in grad_cam.write(recipe, tmp_path, network)] == [["rocket.jpg"]]
    assert [path.stat().st_mtime_ns for path in first] == written
    assert list(grad_cam.write(recipe, tmp_path, network)) == []
    whole = recipe.run(network)
    for path, expected in zip(sorted(tmp_path.iterdir()), whole.picture, strict=True):
        assert torch.allclose(images.read(path), expected, atol=1 / 255)


def test_no_more_than_a_batch_of_photos_is_read_ahead(network: Network, few: Path, monkeypatch) -> None:
    read, reading = [], photos.read
    monkeypatch.setattr(photos, "read", lambda path, *manner: read.append(path) or reading(path, *manner))
    steps = GradCAM(photos=str(few), photo_size=64, fit="crop", batch_size=1).iterate(network)
    assert len(read) == 0
    next(steps)
    assert len(read) == 2  # its own and, to know whether it is the last, the next
    next(steps)
    assert len(read) == 3


def test_any_class_by_name_or_number(network: Network, few: Path) -> None:
    recipe = GradCAM(fit="crop", photos=str(few / "coffee.jpg"), photo_size=64)
    number = network.classes.index("teapot")
    pictures = images.read_many(few / "coffee.jpg", 64).pictures
    expected, _ = cams.class_maps(network, "block4", pictures, number)
    for target in ("teapot", " Teapot ", number, str(number)):
        step = recipe.changed(target=target).run(network)
        assert step.labels == ["teapot"]
        assert torch.allclose(step.maps, expected, atol=1e-6)


def test_the_counterfactual_is_what_speaks_against(network: Network, few: Path) -> None:
    """Where the map of "not this class" is greatest, taking pixels away raises the class."""
    recipe = GradCAM(fit="crop", photos=str(few), photo_size=96, target="obelisk")
    against = recipe.changed(counterfactual=True).run(network)
    assert not ((recipe.run(network).maps > 0) & (against.maps > 0)).any()
    fates = {}
    for name, step in {"for": recipe.run(network), "against": against}.items():
        curves = faithfulness.curves(network, step.photos.pictures, step.maps, step.classes, steps=8)
        fates[name] = (curves.scores[:, 2] - curves.scores[:, 0]).mean()
    assert fates["against"] > fates["for"]


def test_an_empty_layer_stands_for_the_deepest_stage(network: Network, few: Path) -> None:
    assert grad_cam.chosen_layer(GradCAM(layer=""), network) == "block4"
    assert grad_cam.chosen_layer(GradCAM(layer="", photo_size=224), models.load("vgg11", weights=None)) == "features.19"


@pytest.mark.parametrize("method", cams.METHODS)
def test_every_method_makes_its_picture_again(network: Network, few: Path, tmp_path: Path, method: str) -> None:
    recipe = GradCAM(fit="crop", photos=str(few / "coffee.jpg"), photo_size=64, method=method, score_channels=8)
    step = recipe.run(network)
    (path,) = grad_cam.save(recipe, step, tmp_path)
    again = recipes.remake(path, network)
    assert torch.equal(again, step.picture[0])
    assert (images.read(path) - again).abs().max() < 0.003


def test_unreadable_photos_are_skipped_counted_and_named(network: Network, few: Path, tmp_path: Path) -> None:
    for each in few.iterdir():
        shutil.copy(each, tmp_path)
    (tmp_path / "broken.jpg").write_bytes((few / "coffee.jpg").read_bytes()[:2000])
    (tmp_path / "text.png").write_text("no picture")
    step = GradCAM(fit="crop", photos=str(tmp_path), photo_size=64).run(network)
    assert step.photos.names == ["coffee.jpg", "portrait.jpg", "rocket.jpg"]
    assert set(step.photos.skipped) == {"broken.jpg", "text.png"}
    assert torch.allclose(step.maps, GradCAM(fit="crop", photos=str(few), photo_size=64).run(network).maps, atol=1e-6)


class Touchy(nn.Module):
    """A network that has no number for dark pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 4, 3, stride=2)
        self.head = nn.Linear(4, 2)

    def forward(self, pictures):
        bright = (pictures.mean((1, 2, 3)) - 0.3).sqrt()
        return self.head(self.maps(pictures).relu().mean((2, 3)) * bright[:, None])


def test_a_photo_that_fails_loses_nothing_of_the_others(few: Path) -> None:
    network = Network(Touchy(), "touchy", size=32)
    recipe = GradCAM(fit="crop", photos=str(few), photo_size=32, layer="maps", target=1)
    step = recipe.run(network)
    assert step.photos.names == ["coffee.jpg", "portrait.jpg"]  # the rocket stands in the dark
    assert list(step.failed) == ["rocket.jpg"]
    assert "not a number" in step.failed["rocket.jpg"]
    assert step.labels == ["class 1", "class 1"]
    alone = recipe.changed(photos=str(few / "coffee.jpg")).run(network)
    assert torch.allclose(step.maps[0], alone.maps[0], atol=1e-6)
    with pytest.raises(ValueError, match="infinite or not a number"):
        recipe.changed(photos=str(few / "rocket.jpg")).run(network)


def test_an_empty_map_is_named(network: Network, few: Path) -> None:
    silent = models.randomised(network)
    with torch.no_grad():
        silent.net.head.weight.zero_()
    assert GradCAM(fit="crop", photos=str(few), photo_size=64).run(silent).empty == [
        "coffee.jpg",
        "portrait.jpg",
        "rocket.jpg",
    ]


def test_sheets_hold_every_photo(network: Network, few: Path) -> None:
    recipe = GradCAM(fit="crop", photos=str(few), photo_size=64, score_channels=4)
    step = recipe.run(network)
    assert grad_cam.sheet(step).width == grad_cam.sheet(step, columns=3).width == 3 * 146 - 2
    wide = grad_cam.methods_sheet(recipe, network, ["grad_cam", "layer_cam"])
    assert wide.width == 3 * 146 - 2
    assert wide.height > 3 * 144
    row = grad_cam.methods_sheet(recipe, network, ["grad_cam", "layer_cam"], [1])
    assert row.tobytes() == wide.crop((0, row.height + 2, wide.width, 2 * row.height + 2)).tobytes()


def test_the_contest_against_its_parts(network: Network) -> None:
    recipe = GradCAM(fit="crop", photos=str(SAMPLES), photo_size=64, steps=4, score_channels=2, batch_size=4)
    verdict = grad_cam.compare(recipe, network, ["grad_cam", "guided_grad_cam"])
    boxed = boxes.read(SAMPLES, 64)
    for method in ("grad_cam", "guided_grad_cam"):
        maps, logits = cams.class_maps(network, "block4", boxed.photos.pictures, None, method)
        assert verdict.classes == logits.argmax(1).tolist()
        assert torch.equal(verdict.hits[method], boxes.hits(maps, boxed))
        curves = faithfulness.curves(network, boxed.photos.pictures, maps, verdict.classes, steps=4)
        assert torch.allclose(verdict.deletion[method], curves.areas, atol=1e-4)
    assert list(verdict.hits) == ["grad_cam", "guided_grad_cam", *contest.CONTROLS]
    assert torch.equal(verdict.chance, boxes.chance(boxed))
    assert [name for name, small in zip(boxed.photos.names, verdict.small, strict=True) if small] == ["rocket.jpg"]
    assert verdict.small_shares()["grad_cam"] == verdict.hits["grad_cam"][boxed.photos.names.index("rocket.jpg")]
    assert verdict.areas()["grad_cam"] < verdict.areas()["random map"]
    for said in ("grad_cam", "9/9 100%", f"{verdict.areas()['grad_cam']:.3f}", f"{verdict.chance.mean():.0%}"):
        assert said in verdict.table()


def planted(count: int, width: int = 16) -> tuple[Network, Boxed]:
    """A network whose only class is red, and pictures of noise with a red square somewhere."""
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, -1, -1], [-1, 1, 1]])[:, :, None, None])
        net[0].bias.zero_()
        net[4].weight.copy_(torch.tensor([[90.0, 0], [0, 1.0]]))
        net[4].bias.zero_()
    source = torch.Generator().manual_seed(0)
    pictures = torch.rand(count, 3, 16, width, generator=source) * 0.3 + 0.3
    corners = torch.randint(0, 13, (count, 2), generator=source)
    for picture, (x, y) in zip(pictures, corners.tolist(), strict=True):
        picture[:, y : y + 4, x : x + 4] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    edges = torch.cat([corners, corners + 4], 1).double()
    photos = Photos(pictures, [str(number) for number in range(count)])
    return Network(net, "red", size=16), Boxed(photos, list(edges.split(1)), [["red"]] * count, {})


def test_the_contest_finds_what_was_planted() -> None:
    network, boxed = planted(24)
    verdict = contest.compare(network, "1", boxed, 0, ["grad_cam", "layer_cam"], steps=8, tolerance=0, batch_size=7)
    shares, areas = verdict.shares(), verdict.areas()
    assert shares["grad_cam"] == shares["layer_cam"] == 1
    assert verdict.chance.mean().item() == pytest.approx(16 / 256)
    assert max(shares["random map"], shares["random pixels"]) < 0.3
    assert all(areas["grad_cam"] < areas[control] for control in ("random map", "random pixels", "middle"))


def test_photos_of_unlike_shapes_meet_in_one_contest() -> None:
    network, square = planted(5)
    _, wide = planted(5, 40)
    turns = [part for pair in zip(square.photos.pictures, wide.photos.pictures, strict=True) for part in pair]
    around = [part for pair in zip(square.boxes, wide.boxes, strict=True) for part in pair]
    mixed = Boxed(Photos(turns, [str(number) for number in range(10)]), around, [["red"]] * 10, {})
    classes = [0] * 10
    verdict = contest.compare(network, "1", mixed, classes, ["grad_cam"], steps=8, tolerance=0, batch_size=3)
    assert verdict.classes == classes
    assert verdict.hits["grad_cam"].all()
    assert verdict.chance.tolist() == pytest.approx([16 / 256, 16 / 640] * 5)
    for number, boxed in enumerate((square, wide)):
        alone = contest.compare(network, "1", boxed, 0, ["grad_cam"], steps=8, tolerance=0)
        for name in ("grad_cam", "middle", "untrained network"):
            assert torch.equal(verdict.hits[name][number::2], alone.hits[name])
            assert torch.allclose(verdict.deletion[name][number::2], alone.deletion[name], atol=1e-5)


def test_the_contest_sees_a_whole_photo_to_its_ends(tmp_path: Path) -> None:
    network, _ = planted(1)
    entries = {}
    for name, left in (("left.png", 0), ("right.png", 28)):
        pixels = np.full((16, 32, 3), 100, np.uint8)
        pixels[6:10, left : left + 4] = (230, 25, 25)
        Image.fromarray(pixels).save(tmp_path / name)
        entries[name] = {"size": [32, 16], "objects": [{"label": "red", "box": [left, 6, left + 3, 9]}]}
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    recipe = GradCAM(photos=str(tmp_path), photo_size=16, layer="1", target=0, steps=2, tolerance=0)
    verdict = grad_cam.compare(recipe, network, ["grad_cam"])
    assert verdict.hits["grad_cam"].tolist() == [True, True]
    with pytest.raises(ValueError, match="marks no object in the central square"):
        grad_cam.compare(recipe.changed(fit="crop"), network, ["grad_cam"])
    whole, cut = (
        grad_cam.methods_sheet(recipe.changed(fit=fit, opacity=0), network, ["grad_cam"]) for fit in ("whole", "crop")
    )
    red = [(np.asarray(sheet).astype(int) @ [1, -1, 0] > 150).sum() for sheet in (whole, cut)]
    assert red[0] > 1000
    assert red[1] == 0


def test_one_class_for_all_photos_of_the_contest_may_stand_in_a_list() -> None:
    network, boxed = planted(5)
    alone, listed = (contest.compare(network, "1", boxed, each, ["grad_cam"], batch_size=2) for each in (0, [0]))
    assert listed.classes == alone.classes == [0] * 5
    assert listed.areas() == alone.areas()
    with pytest.raises(ValueError, match="2 classes for 5 photos: give one per photo, or one for all"):
        contest.compare(network, "1", boxed, [0, 0], ["grad_cam"], batch_size=2)


def test_on_labelled_pictures_the_maps_point_better_than_an_untrained_networks(network: Network, shared: Path) -> None:
    boxed, classes = boxes.from_data(shared / "data" / "tiny100", network, 200)
    verdict = contest.compare(network, "block4", boxed, classes, ["grad_cam"], steps=0)
    shares = verdict.shares()
    assert shares["grad_cam"] > shares["untrained network"] + 0.1
    assert shares["grad_cam"] > verdict.chance.mean() + 0.1
    assert not verdict.deletion


def test_bad_input_is_explained(network: Network, few: Path, tmp_path: Path) -> None:
    recipe = GradCAM(fit="crop", photos=str(few), photo_size=64)
    with pytest.raises(ValueError, match=r"knows no class 'expresso'. Nearest: espresso"):
        recipe.changed(target="expresso").run(network)
    with pytest.raises(ValueError, match="100 classes, 0 to 99: there is no class 100"):
        recipe.changed(target=100).run(network)
    with pytest.raises(KeyError, match=r"no layer 'block5'. Nearest: block"):
        recipe.changed(layer="block5").run(network)
    with pytest.raises(ValueError, match="head"):
        recipe.changed(layer="head").run(network)
    with pytest.raises(ValueError, match="'pool' have a single place"):
        recipe.changed(layer="pool").run(network)
    with pytest.raises(ValueError, match="eigen_cam knows no class"):
        recipe.changed(method="eigen_cam", counterfactual=True).run(network)
    with pytest.raises(ValueError, match="needs pictures of at least 32 pixels"):
        recipe.changed(layer="features.19", photo_size=16).run(models.load("vgg11", weights=None))
    with pytest.raises(ValueError, match="expected class logits"):
        recipe.changed(layer="0").run(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    with pytest.raises(FileNotFoundError, match="no such"):
        recipe.changed(photos=str(tmp_path / "nowhere")).run(network)
    with pytest.raises(ValueError, match="holds no pictures"):
        recipe.changed(photos=str(tmp_path)).run(network)
    with pytest.raises(FileNotFoundError, match=r"boxes\.json"):
        grad_cam.compare(recipe, network)
    (tmp_path / "boxes.json").write_text("{}")
    with pytest.raises(ValueError, match=r"does not match the photos. photos without an entry: astronaut.jpg, bricks"):
        grad_cam.compare(recipe.changed(photos=str(SAMPLES), boxes=str(tmp_path / "boxes.json")), network)
