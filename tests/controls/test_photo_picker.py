"""Photos chosen by eye or brought along: what is offered, what is taken, what is refused in words."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nbhelpers import images
from nbhelpers.controls.photo_picker import PhotoPicker

SAMPLES = Path(__file__).parents[2] / "sample_images"


def file_bytes(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def test_the_photos_beside_the_chosen_one_are_offered():
    names = [photo["name"] for photo in PhotoPicker(str(SAMPLES / "cat.jpg")).offered]
    assert names == sorted(path.name for path in SAMPLES.glob("*.jpg"))
    assert PhotoPicker("").offered == []
    assert PhotoPicker("noise").offered == []


def test_an_upload_is_chosen_and_read_upright():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8))
    exif = Image.Exif()
    exif[274] = 6  # lies on its side
    picker = PhotoPicker(str(SAMPLES / "cat.jpg"))
    picker._hear(picker, {"upload": "mine.png"}, [memoryview(file_bytes(picture, exif=exif))])
    assert picker.complaint == ""
    assert picker.offered[-1]["path"] == picker.value
    assert images.read(picker.value).shape == (3, 30, 20)


@pytest.mark.parametrize("content", [b"", b"no picture", file_bytes(Image.new("RGB", (50, 50)))[:60]])
def test_what_cannot_be_read_is_refused_by_its_own_name_and_the_choice_stays(content):
    picker = PhotoPicker(str(SAMPLES / "cat.jpg"))
    before = picker.value
    picker.take("../<b>mine.png", content)
    assert "mine.png" in picker.complaint
    assert "nbhelpers-photos" not in picker.complaint
    assert picker.value == before
    picker.take("good.png", file_bytes(Image.new("RGB", (9, 9))))
    assert picker.complaint == ""
    assert picker.value.endswith("good.png")
