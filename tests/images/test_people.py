"""No class stands under a person."""

from pathlib import Path

import torch
from PIL import Image

from nbhelpers import images, models
from nbhelpers.techniques import grad_cam, saliency
from nbhelpers.techniques.grad_cam import GradCAM
from nbhelpers.techniques.saliency import Saliency

SAMPLES = Path(__file__).parents[2] / "sample_images"
PEOPLE = {"astronaut.jpg", "photographer.jpg", "portrait.jpg"}


def test_a_list_beside_the_photos_names_people() -> None:
    assert images.read_many(SAMPLES, 16).people == PEOPLE
    assert images.read_many(SAMPLES / "portrait.jpg", 16).people == {"portrait.jpg"}
    assert images.read_many(SAMPLES / "cat.jpg", 16).people == set()
    paths = [SAMPLES / "cat.jpg", SAMPLES / "portrait.jpg"]
    assert images.read_many(paths, 16).captions(["cat", "bow tie"]) == ["cat", "a person"]


def test_without_a_list_every_photo_has_its_caption(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "portrait.jpg")
    photos = images.read_many(tmp_path, 16)
    assert photos.people == set()
    assert photos.captions(["bow tie"]) == ["bow tie"]


def test_maps_of_people_carry_no_class(monkeypatch) -> None:
    said: list[str] = []
    tile = images.tile

    def noted(pictures, *arguments, labels, **options):
        said.extend(labels)
        return tile(pictures, *arguments, labels=labels, **options)

    monkeypatch.setattr(images, "tile", noted)
    network = models.load("minivgg_robust")
    heat = GradCAM(photos=str(SAMPLES), photo_size=32).run(network)
    where = Saliency(photos=str(SAMPLES), photo_size=32).run(network)
    people = [name in PEOPLE for name in heat.photos.names]
    for draw, found in ((grad_cam.sheet, heat), (saliency.sheet, where)):
        said.clear()
        draw(found)
        assert [label for label in said if label == "a person"] == ["a person"] * sum(people)
        for person, label in zip(people, found.labels, strict=True):
            assert person or any(text.startswith(label) for text in said)
    said.clear()
    grad_cam.methods_sheet(GradCAM(photos=str(SAMPLES), photo_size=32), network, ["grad_cam"], places=[0, 2])
    assert said[0] == "a person"
    assert said[2] != "a person"
    assert all(torch.isfinite(each).all() for each in heat.maps)
