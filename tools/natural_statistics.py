"""Measure the colours and the amplitude spectrum of natural photos, for the canvases that start from them.

    python tools/natural_statistics.py FOLDER [nbhelpers/ascent/natural_images.npz]

Natural pictures are far from white noise: their colour channels rise and fall together, and the amplitude of
their Fourier coefficients falls off as one over the frequency (Field 1987). Optimising in coordinates where both
are undone (Olah et al. 2017), or with the amplitudes held at their natural values (MaCo, Fel et al. 2023), keeps a
made picture photo-like. The file holds, as measured on all photos in FOLDER and the folders in it:

- `mean`, (3,) float32: the mean red, green and blue in [0, 1], sRGB values as stored in the photos;
- `covariance`, (3, 3) float32: of red, green and blue over all pixels;
- `color`, (3, 3) float32: maps three decorrelated channels of unit variance to RGB, `rgb = mean + color @ channels`,
  with `color @ color.T == covariance`. Its columns are the principal axes times their standard deviations,
  largest first: brightness, red against blue, red and blue against green. Each column is positive in red;
- `spectrum`, (3, 128, 65) float16: the mean of |rfft2(channels, norm="ortho")| of those decorrelated channels.
  Layout as `torch.fft.rfft2` has it, not shifted: row r is the vertical frequency `fftfreq(128)[r]` and column c
  the horizontal frequency `rfftfreq(128)[c]`, both in cycles per pixel; [0, 0] is the mean. The orthonormal
  transform gives white noise of unit variance an amplitude that is the same at every size, so the spectrum
  for another size is this one interpolated at its frequencies (interpolate the logarithm: it is steep near zero).

How it is measured. Each photo is scaled to a shorter side of 256, as a network sees it, which also takes the
eight-pixel grid of its JPEG blocks away from the multiples of 1/8; then crops of 256 x 256 are taken along its
longer side. A Fourier transform takes a crop to be periodic, and the jump from its right edge to its left one would
show as a bright cross along the axes. A window would remove the cross, but smears the steep centre of the
spectrum over its neighbours; instead the crop is split into a periodic and a smooth part (Moisan 2011) and the
periodic part is measured, with its mean left in place. Mirrored photos count as photos. Last, each of
the stored frequencies averages, in the logarithm, the nearest ones among the 256 x 256 measured.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SIDE = 256
CROPS = 5
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def photo(path: Path) -> np.ndarray:
    """One photo with a shorter side of `SIDE`, (3, H, W) float64 in [0, 1]."""
    with Image.open(path) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGB")
    scale = SIDE / min(upright.size)
    size = tuple(max(SIDE, round(side * scale)) for side in upright.size)
    pixels = np.asarray(upright.resize(size, Image.Resampling.BICUBIC), dtype=np.float64)
    return pixels.transpose(2, 0, 1) / 255


def crops(pixels: np.ndarray) -> np.ndarray:
    """Square crops spread evenly along the longer side, (CROPS, 3, SIDE, SIDE)."""
    _, height, width = pixels.shape
    corners = [(round((height - SIDE) * at), round((width - SIDE) * at)) for at in np.linspace(0, 1, CROPS)]
    return np.stack([pixels[:, top : top + SIDE, left : left + SIDE] for top, left in corners])


def periodic_amplitude(channels: np.ndarray) -> np.ndarray:
    """Amplitudes of the periodic part of `channels` (..., H, W); Moisan 2011, equations 9 to 11."""
    height, width = channels.shape[-2:]
    jumps = np.zeros_like(channels)
    rows, columns = channels[..., -1, :] - channels[..., 0, :], channels[..., :, -1] - channels[..., :, 0]
    jumps[..., 0, :] += rows
    jumps[..., -1, :] -= rows
    jumps[..., :, 0] += columns
    jumps[..., :, -1] -= columns
    vertical, horizontal = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :]
    laplacian = 2 * np.cos(2 * np.pi * vertical) + 2 * np.cos(2 * np.pi * horizontal) - 4
    laplacian[0, 0] = 1
    smooth = np.fft.fft2(jumps, norm="ortho") / laplacian
    smooth[..., 0, 0] = 0  # the mean belongs to the periodic part
    return np.abs(np.fft.fft2(channels, norm="ortho") - smooth)


def halve(amplitude: np.ndarray) -> np.ndarray:
    """Every second frequency of a full spectrum (..., N, N), each the geometric mean of its neighbourhood."""
    logarithm = np.log(amplitude)
    for axis in (-2, -1):
        sides = np.roll(logarithm, 1, axis) + np.roll(logarithm, -1, axis)
        logarithm = logarithm / 2 + sides / 4
    return np.exp(logarithm[..., ::2, ::2])


def main(folder: Path, target: Path) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"no photos ({', '.join(sorted(SUFFIXES))}) in {folder}")
    photos = [photo(path) for path in paths]

    # Every photo weighs the same, whatever its shape.
    mean = np.mean([pixels.mean((1, 2)) for pixels in photos], axis=0)
    centred = [(pixels - mean[:, None, None]).reshape(3, -1) for pixels in photos]
    covariance = np.mean([pixels @ pixels.T / pixels.shape[1] for pixels in centred], axis=0)
    variances, axes = np.linalg.eigh(covariance)
    color = axes[:, ::-1] * np.sqrt(variances[::-1])
    color *= np.where(color[0] < 0, -1, 1)

    decorrelate = np.linalg.inv(color)
    total = np.zeros((3, SIDE, SIDE))
    for pixels in photos:
        channels = np.einsum("ij,bjhw->bihw", decorrelate, crops(pixels) - mean[:, None, None])
        total += periodic_amplitude(channels).mean(0)
    amplitude = total / len(photos)
    mirrored = np.roll(amplitude[..., ::-1], 1, axis=-1)
    spectrum = halve((amplitude + mirrored) / 2)[..., : SIDE // 4 + 1]

    np.savez_compressed(
        target,
        mean=mean.astype(np.float32),
        covariance=covariance.astype(np.float32),
        color=color.astype(np.float32),
        spectrum=spectrum.astype(np.float16),
    )
    print(f"{len(photos)} photos -> {target} ({target.stat().st_size / 1024:.0f} KB)")
    print(f"mean {mean.round(3)}\ncolor\n{color.round(4)}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    default = Path(__file__).parent.parent / "nbhelpers" / "ascent" / "natural_images.npz"
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else default)
