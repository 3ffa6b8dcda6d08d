"""What is optimised, and how it becomes a picture in [0, 1].

The same ascent on other coordinates gives another picture: `Pixels` moves each pixel alone, `Fourier` moves whole
waves in decorrelated colour, so that large shapes and small ones grow together, `Natural` keeps light and colour as
a whole about as strong as photographs have them, and `MaCo` keeps the amplitude of every single wave as it is in
photographs and moves the phase alone.

A canvas holds one parameter tensor whose first dimension is the batch. `step_size` is how far a learning rate of 1
moves it, chosen so that one learning rate suits every canvas.
Sources: Olah et al., "Feature Visualization", Distill 2017; Fel et al., "Unlocking Feature Visualization for Deeper
Networks with MAgnitude Constrained Optimization", NeurIPS 2023.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

EDGE = 0.01  # a picture is kept this far from black and white before its logit is taken


@cache
def natural_images() -> dict[str, Shaped[Tensor, "..."]]:
    """Statistics of photographs (made by `tools/natural_statistics.py`, which says what they are)."""
    with torch.inference_mode(False), np.load(files("nbhelpers.ascent") / "natural_images.npz") as arrays:
        return {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in arrays.files}


def frequencies(height: int, width: int) -> tuple[Float[Tensor, "height 1"], Float[Tensor, "1 waves"]]:
    """Vertical `(height, 1)` and horizontal `(1, width // 2 + 1)` frequency of `rfft2`, in cycles per pixel."""
    return (
        torch.fft.fftfreq(height, dtype=torch.float32)[:, None],
        torch.fft.rfftfreq(width, dtype=torch.float32)[None],
    )


def natural_spectrum(height: int, width: int) -> Float[Tensor, "3 height waves"]:
    """Mean amplitude of photographs at each frequency of `rfft2`, `(3, height, width // 2 + 1)`.

    In decorrelated colour of unit variance, for an orthonormal transform; interpolated in the logarithm.
    """
    logarithm = torch.fft.fftshift(natural_images()["spectrum"].log(), dim=1)
    logarithm = torch.cat([logarithm, logarithm[:, :1]], dim=1)  # -1/2 and 1/2 are the same frequency
    vertical, horizontal = frequencies(height, width)
    shape = (height, width // 2 + 1)
    at = torch.stack([(horizontal * 4 - 1).expand(shape), (vertical * 2).expand(shape)], dim=-1)
    return F.grid_sample(logarithm[None], at[None], align_corners=True)[0].exp()


class Canvas:
    """Parameters that become pictures.

    Attributes:
        parameters: the tensor to optimise; its first dimension is the batch.
        step_size: how far a learning rate of 1 moves the parameters.
    """

    parameters: Float[Tensor, "pictures ..."]
    step_size = 1.0

    @classmethod
    def from_picture(cls, picture: Float[Tensor, "pictures 3 height width"]) -> Canvas:
        """A canvas that shows `picture`, `(B, 3, H, W)` in [0, 1], as nearly as it can."""
        raise NotImplementedError

    @classmethod
    def random(
        cls, height: int, width: int, generators: Sequence[torch.Generator], device: torch.device | str = "cpu"
    ) -> Canvas:
        """A canvas of seeded noise, one generator per picture; drawn on the processor, the same for every device."""
        raise NotImplementedError

    def picture(self) -> Float[Tensor, "pictures channels height width"]:
        """The pictures, `(B, 3, H, W)` in [0, 1], differentiable in the parameters."""
        raise NotImplementedError

    def shown(self) -> Float[Tensor, "pictures 3 height width"]:
        """The pictures as people look at them, in three colours."""
        return self.picture()

    def project(self) -> None:
        """Put the parameters back where they are allowed to be; called after every step."""


class Pixels(Canvas):
    """Every pixel for itself, kept in [0, 1] by projection."""

    def __init__(self, pixels: Float[Tensor, "pictures 3 height width"]) -> None:
        self.parameters = pixels.detach().clone().requires_grad_()

    @classmethod
    def from_picture(cls, picture: Float[Tensor, "pictures 3 height width"]) -> Pixels:
        return cls(picture)

    @classmethod
    def random(
        cls, height: int, width: int, generators: Sequence[torch.Generator], device: torch.device | str = "cpu"
    ) -> Pixels:
        noise = _per_picture(torch.rand, (3, height, width), generators)
        return cls((natural_images()["mean"].view(3, 1, 1) + 0.1 * (noise - 0.5)).to(device))

    def picture(self) -> Float[Tensor, "pictures 3 height width"]:
        return self.parameters

    @torch.no_grad()
    def project(self) -> None:
        self.parameters.clamp_(0, 1)


class Fourier(Canvas):
    """Fourier coefficients, measured in the amplitude that photographs have at each frequency.

    The picture is `sigmoid(logit(mean) + 4 * colour @ waves)`: near the mean photograph it is linear with slope 1,
    further out it saturates smoothly instead of clipping.

    Args:
        coefficients: `(B, 3, H, W // 2 + 1, 2)`, real and imaginary parts.
        width: of the picture in pixels; the coefficients leave open whether it is even or odd.
    """

    step_size = 20.0

    def __init__(self, coefficients: Float[Tensor, "pictures 3 height waves *parts"], width: int) -> None:
        self.parameters = coefficients.detach().clone().requires_grad_()
        self.shape = (coefficients.shape[2], width)
        self.amplitude = natural_spectrum(*self.shape).to(coefficients.device)

    @classmethod
    def from_picture(cls, picture: Float[Tensor, "pictures 3 height width"]) -> Fourier:
        spectrum = cls._analyse(picture) / natural_spectrum(*picture.shape[2:]).to(picture.device)
        return cls(torch.view_as_real(spectrum), picture.shape[3])

    @classmethod
    def random(
        cls, height: int, width: int, generators: Sequence[torch.Generator], device: torch.device | str = "cpu"
    ) -> Fourier:
        return cls((0.1 * _per_picture(torch.randn, (3, height, width // 2 + 1, 2), generators)).to(device), width)

    def picture(self) -> Float[Tensor, "pictures 3 height width"]:
        return self._synthesise(torch.view_as_complex(self.parameters) * self.amplitude)

    @classmethod
    def _colour(cls) -> Tensor:
        return natural_images()["color"]

    @classmethod
    def _analyse(cls, picture: Tensor) -> Tensor:
        """Fourier transform of a picture in decorrelated colour."""
        return torch.fft.rfft2(cls._waves(picture), norm="ortho")

    def _synthesise(self, spectrum: Tensor) -> Tensor:
        """Picture of a Fourier transform in decorrelated colour; undoes `_analyse`."""
        return self._shown(torch.fft.irfft2(spectrum, s=self.shape, norm="ortho"))

    @classmethod
    def _waves(cls, picture: Tensor) -> Tensor:
        """A picture in decorrelated colour, as its distance from the mean photograph."""
        mean = natural_images()["mean"].to(picture).view(3, 1, 1)
        offset = (picture.clamp(EDGE, 1 - EDGE).logit() - mean.logit()) / 4
        return torch.einsum("ij,bjhw->bihw", torch.linalg.inv(cls._colour()).to(picture), offset)

    @classmethod
    def _shown(cls, waves: Tensor) -> Tensor:
        """The picture of what is in decorrelated colour; undoes `_waves`."""
        offset = torch.einsum("ij,bjhw->bihw", cls._colour().to(waves, non_blocking=True), waves)
        mean = natural_images()["mean"].to(waves, non_blocking=True).view(3, 1, 1)
        # a sigmoid; torch's own rounds a batch's last numbers otherwise than the rest
        return 0.5 + 0.5 * torch.tanh(mean.logit() / 2 + 2 * offset)


class FourierRGB(Fourier):
    """The same waves in red, green and blue: what `Fourier` is without decorrelated colour."""

    @classmethod
    def _colour(cls) -> Tensor:
        return natural_images()["covariance"].diagonal().sqrt().diag()


class Natural(Fourier):
    """Waves that can neither burn out nor shout: light and each of the two colours have a largest strength.

    An ascent without bounds ends in black, white and pure colours, because every channel answers to contrast. Here the
    root mean square `s` of each component of decorrelated colour becomes `s / sqrt(1 + (s / LIMITS)^2)`: small waves
    pass as they are, and beyond the limit only their shape can grow. That is the constraint of `MaCo` on three numbers
    of a picture instead of one for every wave, and shapes stay free. What is left stays MARGIN from black and white.
    """

    LIMITS = (2.5, 3.0, 3.0)
    """Strength of light and of both colours that cannot be reached, in the deviations of photographs."""
    MARGIN = 0.04
    CLOSEST = 0.95
    """A picture that is stronger than this share of a limit is taken for one that has it."""

    @classmethod
    def _waves(cls, picture: Tensor) -> Tensor:
        waves = super()._waves((picture - cls.MARGIN) / (1 - 2 * cls.MARGIN))
        share = (cls._strength(waves) / cls._limits(waves)).clamp(max=cls.CLOSEST)
        return waves / (1 - share.square()).sqrt()

    @classmethod
    def _shown(cls, waves: Tensor) -> Tensor:
        limited = waves / (1 + (cls._strength(waves) / cls._limits(waves)).square()).sqrt()
        return cls.MARGIN + (1 - 2 * cls.MARGIN) * super()._shown(limited)

    @staticmethod
    def _strength(waves: Tensor) -> Tensor:
        return (waves.square().mean((2, 3), keepdim=True) + 1e-12).sqrt()  # no square root of 0: it has no gradient

    @classmethod
    def _limits(cls, waves: Tensor) -> Tensor:
        return torch.tensor(cls.LIMITS).to(waves, non_blocking=True).view(3, 1, 1)


class MaCo(Fourier):
    """Magnitude-constrained: the amplitude of every wave stays as in photographs, its phase alone is optimised.

    Source: Fel et al. 2023, section 3.
    """

    step_size = 40.0

    def __init__(self, phase: Float[Tensor, "pictures 3 height waves"], width: int) -> None:
        super().__init__(phase, width)
        self.amplitude[:, 0, 0] = 0  # the mean colour is that of the mean photograph
        # the spectrum is a mean of amplitudes, whose squares fall short of the photographs' variance of 1
        spread = torch.fft.irfft2(self.amplitude + 0j, s=self.shape, norm="ortho").square().mean((1, 2), keepdim=True)
        self.amplitude /= spread.sqrt()

    @classmethod
    def from_picture(cls, picture: Float[Tensor, "pictures 3 height width"]) -> MaCo:
        # each alone: torch finds the last numbers of a batch's angles in another way than the rest
        return cls(torch.stack([each.angle() for each in cls._analyse(picture)]), picture.shape[3])

    @classmethod
    def random(
        cls, height: int, width: int, generators: Sequence[torch.Generator], device: torch.device | str = "cpu"
    ) -> MaCo:
        phase = 2 * torch.pi * _per_picture(torch.rand, (3, height, width // 2 + 1), generators)
        return cls(phase.to(device), width)

    def picture(self) -> Float[Tensor, "pictures 3 height width"]:
        phase = self.parameters.clone()
        # waves with no horizontal part, or with the fastest, stand in rows k and -k: with phases that do not mirror
        # each other the two would partly cancel, and their amplitude be lost
        height, width = self.shape
        ends, pairs = [0] if width % 2 else [0, width // 2], (height - 1) // 2
        for end in ends:
            phase[:, :, height - pairs :, end] = -phase[:, :, 1 : pairs + 1, end].flip(2)
        return self._synthesise(torch.complex(self.amplitude * phase.cos(), self.amplitude * phase.sin()))


class Planes(Canvas):
    """Pictures for a network that takes other channels than three colours: every channel is a grey picture of its own.

    A single channel is shown grey, of more the first three as red, green and blue. `canvas_of` makes a kind of them.
    """

    kind: type[Canvas]
    channels: int

    def __init__(self, canvas: Canvas) -> None:
        self.canvas, self.step_size = canvas, canvas.step_size
        self.parameters = canvas.parameters.detach().unflatten(0, (-1, self.channels)).requires_grad_()

    @classmethod
    def from_picture(cls, picture: Float[Tensor, "pictures channels height width"]) -> Planes:
        if picture.shape[1] != cls.channels:  # a photo, in colour
            picture = picture.mean(1, keepdim=True).expand(-1, cls.channels, -1, -1)
        return cls(cls.kind.from_picture(picture.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)))

    @classmethod
    def random(
        cls, height: int, width: int, generators: Sequence[torch.Generator], device: torch.device | str = "cpu"
    ) -> Planes:
        each = [generator for generator in generators for _ in range(cls.channels)]
        return cls(cls.kind.random(height, width, each, device))

    def picture(self) -> Float[Tensor, "pictures channels height width"]:
        self.canvas.parameters = self.parameters.flatten(0, 1)
        return self.canvas.picture().mean(1).unflatten(0, (-1, self.channels))

    def shown(self) -> Float[Tensor, "pictures 3 height width"]:
        picture = self.picture()[:, :3]
        return picture[:, [0, picture.shape[1] // 2, -1]]

    @torch.no_grad()
    def project(self) -> None:
        self.canvas.parameters = self.parameters.flatten(0, 1)
        self.canvas.project()


def canvas_of(name: str, channels: int = 3) -> type[Canvas]:
    """The kind of canvas of this name in `CANVASES`, for pictures of so many channels."""
    if channels == 3:
        return CANVASES[name]
    if channels > 3:
        warnings.warn(
            f"pictures of {channels} channels are shown by their first three, as red, green, blue", stacklevel=2
        )
    return type("Planes", (Planes,), {"kind": CANVASES[name], "channels": channels})


CANVASES = {"fourier": Fourier, "fourier_rgb": FourierRGB, "maco": MaCo, "natural": Natural, "pixels": Pixels}


def _per_picture(draw, shape: tuple[int, ...], generators: Sequence[torch.Generator]) -> Tensor:
    """Noise for each picture from its own generator, so that it does not depend on the rest of the batch."""
    return torch.stack([draw(shape, generator=generator, dtype=torch.float32) for generator in generators])
