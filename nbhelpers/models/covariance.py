"""Principal components of more vectors than fit into memory.

Mean and covariance are collected batch by batch, so the memory is that of one C x C matrix however many vectors
there are (Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979).
Products within a batch are float32, centred on the batch's own mean so that nothing cancels; sums over batches are
float64. Of the covariance only the leading eigenvectors are computed, by block Lanczos with full reorthogonalisation
(Golub, Van Loan, "Matrix Computations", 10.3.6): what a full eigendecomposition spends on the rest is saved.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

BLOCK = 256  # channels; of a symmetric product only the blocks on and above the diagonal are computed
NEAR = 1e-6  # entries that differ by less than this share count as equally large where a sign is chosen


class Moments:
    """Count, mean and covariance of all vectors added so far.

    Attributes:
        count: number of vectors.
        mean: `(C,)` float64.
        scatter: `(C, C)` float64, the sum of outer products of centred vectors; only its upper triangle of blocks.
    """

    def __init__(self, channels: int, device: torch.device | str = "cpu") -> None:
        self.count = 0
        device = exact_device(device)
        self.mean = torch.zeros(channels, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(channels, channels, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, activations: Float[Tensor, "batch channels height width"]) -> None:
        """Add the vectors at all positions of feature maps.

        Args:
            activations: `(B, C, H, W)`, of any float type.

        Raises:
            ValueError: another number of channels than before.
        """
        channels = len(self.mean)
        if activations.ndim != 4 or activations.shape[1] != channels:
            raise ValueError(f"expected maps (B, {channels}, H, W), got shape {tuple(activations.shape)}")
        vectors = activations.transpose(0, 1).flatten(1)  # (C, positions)
        added = vectors.shape[1]
        if not added:
            return
        if vectors.dtype != torch.float64:
            vectors = vectors.float()
        mean = vectors.mean(1, keepdim=True)
        vectors = vectors - mean
        total = self.count + added
        difference = mean[:, 0].to(self.mean) - self.mean
        between = difference * (self.count * added / total)
        for start in range(0, channels, BLOCK):
            rows = slice(start, start + BLOCK)
            self.scatter[rows, start:] += (vectors[rows] @ vectors[start:].T).to(self.scatter)
            self.scatter[rows, start:].addr_(between[rows], difference[start:])
        self.mean += difference * (added / total)
        self.count = total

    @property
    def covariance(self) -> Float64[Tensor, "channels channels"]:
        """`(C, C)` float64, divided by count - 1."""
        upper = self.scatter.triu()
        return (upper + upper.triu(1).T) / max(self.count - 1, 1)


def exact_device(device: torch.device | str) -> torch.device:
    """Where double precision is computed for tensors of this device: the same one, unless it has none."""
    device = torch.device(device)
    return torch.device("cpu") if device.type == "mps" else device


@torch.no_grad()
def leading(
    matrix: Float[Tensor, "channels channels"], count: int, tolerance: float = 1e-7
) -> tuple[Float64[Tensor, " count"], Float64[Tensor, "count channels"]]:
    """The largest eigenvalues of a symmetric matrix and their eigenvectors.

    Args:
        matrix: `(C, C)` float64, positive semidefinite.
        count: how many, from 1 to C.
        tolerance: largest residual `|A v - lambda v|`, relative to the largest eigenvalue.

    Returns:
        Eigenvalues `(count,)` from large to small and eigenvectors `(count, C)`, one a row, each `signed`.

    Raises:
        ValueError: a count out of range, or values that are not finite.
    """
    size = len(matrix)
    if not 1 <= count <= size:
        raise ValueError(f"a matrix of {size} x {size} has {size} eigenvectors; {count} were asked for")
    if not matrix.isfinite().all():
        raise ValueError("the matrix has values that are not finite, so it has no eigenvectors")
    found = _block_lanczos(matrix, count, tolerance) if size > 8 * count + 64 else None
    if found is None:
        values, vectors = torch.linalg.eigh(matrix)
        found = values.flip(0)[:count], vectors.T.flip(0)[:count]
    return found[0].clamp(min=0), signed(found[1])


def signed(vectors: Float[Tensor, "*count channels"]) -> Float[Tensor, "*count channels"]:
    """Vectors or their negatives: those whose first entry of nearly the largest magnitude is positive.

    Nearly, so that two entries of one size do not swap the sign with the last bits that a machine computes.

    Args:
        vectors: `(..., C)`, one in each row.
    """
    sizes = vectors.abs()
    near = sizes >= sizes.amax(-1, keepdim=True) * (1 - NEAR)
    first = vectors.gather(-1, near.int().argmax(-1, keepdim=True))
    return vectors * torch.where(first < 0, -1.0, 1.0)


def _block_lanczos(matrix: Tensor, count: int, tolerance: float) -> tuple[Tensor, Tensor] | None:
    """Rayleigh-Ritz on a growing Krylov space; None where the tolerance is not reached in a few hundred dimensions."""
    width = count + 4
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(len(matrix), width, generator=generator, dtype=matrix.dtype).to(matrix.device)
    block = torch.linalg.qr(start).Q
    basis, images = [], []
    while (len(basis) + 1) * width < len(matrix) // 2:
        basis.append(block)
        images.append(matrix @ block)
        space = torch.cat(basis, 1)
        if len(basis) % 4 == 0:
            image = torch.cat(images, 1)
            projected = space.T @ image
            values, small = torch.linalg.eigh((projected + projected.T) / 2)
            values, small = values.flip(0)[:count], small.flip(1)[:, :count]
            vectors = space @ small
            residual = torch.linalg.vector_norm(image @ small - vectors * values, dim=0).max()
            if residual <= tolerance * values[0]:
                return values, vectors.T
        block = images[-1]
        for _ in range(2):  # once is not enough in floating point
            block = block - space @ (space.T @ block)
        block = torch.linalg.qr(block).Q
    return None
