"""Random movements against exact ones: shifts by whole pixels, quarter turns, and scipy's resampling."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from small_networks import noise

from nbhelpers.ascent import Transforms, generators


class Fixed(Transforms):
    """The same movement for every picture: degrees, factor, and a shift in pixels along x and y."""

    def __init__(self, degrees=0.0, factor=1.0, x=0.0, y=0.0):
        super().__init__(jitter=1.0, scale=math.e - 1, rotate=90.0)
        object.__setattr__(self, "movement", (degrees, factor, x, y))

    def draw(self, sources, height, width):
        degrees, factor, x, y = self.movement
        largest = max(abs(x), abs(y), 1)
        plain = Transforms(jitter=largest, scale=max(factor, 1 / factor) - 1 or 1e-9, rotate=abs(degrees) or 1e-9)
        # each draw is uniform in [0, 1): what it takes to land on the movement wanted
        wanted = [math.copysign(bool(degrees), degrees), np.sign(math.log(factor)), x / largest, y / largest]
        values = torch.tensor([(value + 1) / 2 for value in wanted])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "rand", lambda count, generator: values.clone())
            return plain.draw(sources, height, width)


def moved(pictures, **movement):
    return Fixed(**movement)(pictures, generators(range(len(pictures))))


def test_nothing_asked_for_is_nothing_done():
    pictures = noise(2, 3, 5, 6)
    sources = generators([0, 1])
    assert Transforms()(pictures, sources) is pictures
    assert torch.equal(torch.rand(1, generator=sources[0]), torch.rand(1, generator=generators([0])[0]))


@pytest.mark.parametrize(("x", "y"), [(1, 0), (0, 2), (-3, 1), (2, -2)])
@pytest.mark.parametrize("shape", [(8, 8), (7, 10), (9, 5)])
def test_a_shift_by_whole_pixels_is_a_mirrored_shift(x, y, shape):
    pictures = noise(2, 3, *shape)
    height, width = shape
    padded = np.pad(pictures.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)), mode="symmetric")
    expected = padded[:, :, 4 + y : 4 + y + height, 4 + x : 4 + x + width]
    assert np.allclose(moved(pictures, x=x, y=y).numpy(), expected, atol=2e-6)


def test_a_quarter_turn_of_a_square_is_exact():
    pictures = noise(2, 3, 9, 9)
    assert torch.allclose(moved(pictures, degrees=90), pictures.rot90(1, (2, 3)), atol=1e-5)
    assert torch.allclose(moved(pictures, degrees=-90), pictures.rot90(-1, (2, 3)), atol=1e-5)


@pytest.mark.parametrize("shape", [(24, 24), (20, 33), (31, 18)])
@pytest.mark.parametrize("movement", [dict(degrees=17), dict(factor=1.3), dict(degrees=-30, factor=0.8, x=1.5, y=-2)])
def test_any_movement_is_scipys_affine_transform(shape, movement):
    degrees, factor = movement.get("degrees", 0), movement.get("factor", 1)
    shift = np.array([movement.get("y", 0), movement.get("x", 0)])
    pictures = noise(1, 3, *shape)
    cosine, sine = math.cos(math.radians(degrees)) / factor, math.sin(math.radians(degrees)) / factor
    matrix = np.array([[cosine, sine], [-sine, cosine]])  # (row, column) of the output to those of the input
    centre = (np.array(shape) - 1) / 2
    expected = [
        ndimage.affine_transform(plane, matrix, centre - matrix @ centre + shift, order=1, mode="reflect")
        for plane in pictures[0].double().numpy()
    ]
    assert np.allclose(moved(pictures, **movement)[0].numpy(), np.stack(expected), atol=1e-4)


def test_each_picture_draws_for_itself_and_from_nothing_else():
    transforms = Transforms(jitter=3, scale=0.2, rotate=10)
    pictures = noise(1, 3, 12, 15).expand(4, -1, -1, -1)
    together = transforms(pictures, generators([5, 6, 7, 8]))
    torch.manual_seed(1234)  # the global source plays no part
    for index, seed in enumerate([5, 6, 7, 8]):
        assert torch.equal(transforms(pictures[:1], generators([seed]))[0], together[index])
    assert len({picture.numpy().tobytes() for picture in together}) == 4


def test_draws_stay_within_what_was_asked_for_and_fill_it():
    transforms = Transforms(jitter=3, scale=0.25, rotate=20)
    affine = transforms.draw(generators(range(2000)), 10, 10)
    factor = affine[:, 0, :2].norm(dim=1).reciprocal()
    degrees = torch.rad2deg(torch.atan2(affine[:, 1, 0], affine[:, 0, 0]))
    shift = affine[:, :, 2] * 10 / 2
    for values, low, high in [(factor, 0.8, 1.25), (degrees, -20, 20), (shift[:, 0], -3, 3), (shift[:, 1], -3, 3)]:
        assert low - 1e-4 <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high + 1e-4
    # enlarging is as likely as shrinking
    assert abs((factor > 1).float().mean() - 0.5) < 0.05


def test_gradients_flow_back_through_the_movement():
    pictures = noise(1, 1, 6, 6).double().requires_grad_()

    def shaken(pictures):
        return Transforms(jitter=1, scale=0.1, rotate=5)(pictures, generators([3]))

    assert torch.autograd.gradcheck(shaken, pictures)


@pytest.mark.parametrize("shape", [(20, 20), (18, 26)])
def test_a_view_is_a_square_cut_out_of_the_picture(shape):
    """With nothing else asked for: some crop, between pixels, wholly inside, as scipy interpolates it."""
    height, width = shape
    picture = noise(1, 3, *shape)
    corners = []
    for seed in range(40):
        transforms = Transforms(view=10)
        view = transforms(picture, generators([seed]))
        affine = transforms.draw(generators([seed]), height, width)[0].double().numpy()
        assert view.shape == (1, 3, 10, 10)
        left = ((affine[0, 2] + 1) * width - 10) / 2
        top = ((affine[1, 2] + 1) * height - 10) / 2
        assert affine[0, 0] == pytest.approx(10 / width)
        assert affine[1, 1] == pytest.approx(10 / height)
        rows, columns = np.mgrid[:10, :10]
        for channel in range(3):
            expected = ndimage.map_coordinates(picture[0, channel].numpy(), [rows + top, columns + left], order=1)
            assert np.allclose(view[0, channel].numpy(), expected, atol=1e-4)
        corners.append((top, left))
    lowest, highest = np.min(corners, 0), np.max(corners, 0)
    assert (lowest >= -1e-4).all()
    assert (highest <= np.array(shape) - 10 + 1e-4).all()
    assert (highest - lowest > 0.8 * (np.array(shape) - 10)).all()


def test_a_turned_view_of_a_picture_that_is_not_square_keeps_its_shape():
    """A disc stays a disc: the view's map is a rotation and one scaling, whatever the picture's proportions."""
    affine = Transforms(scale=0.5, rotate=40, view=12).draw(generators([3]), 20, 30)[0].double().numpy()
    in_pixels = np.diag([30 / 2, 20 / 2]) @ affine[:, :2] @ np.diag([2 / 12, 2 / 12])
    product = in_pixels @ in_pixels.T
    assert np.allclose(product, product[0, 0] * np.eye(2), atol=1e-6)
    assert 1 / 1.5**2 <= product[0, 0] <= 1.5**2
