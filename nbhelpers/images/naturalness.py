"""Does a made picture keep to what photographs look like? Three numbers of a picture, each beside those of photographs.

Of 80 photographs, 10th, 50th and 90th percentile (`python -m tools.naturalness` measures them):

    saturation    0.04, 0.14, 0.26
    edge          0.00, 0.03, 0.19
    contrast      0.14, 0.21, 0.31
"""

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

NEAR = 8 / 255


@dataclass(frozen=True)
class Naturalness:
    """Numbers of pictures, one per picture.

    Attributes:
        saturation: mean over the pixels of the strongest colour less the weakest; 0 is grey, 1 pure colour everywhere.
        edge: share of the values that are within 8/255 of black or white, where a picture is burnt out.
        contrast: standard deviation over the pixels of their mean over the colours.
    """

    saturation: Float[Tensor, " pictures"]
    edge: Float[Tensor, " pictures"]
    contrast: Float[Tensor, " pictures"]

    def lines(self) -> list[str]:
        """One short line per picture."""
        rows = zip(self.saturation.tolist(), self.edge.tolist(), self.contrast.tolist(), strict=True)
        return [f"saturation {colour:.2f}\ncontrast {light:.2f}, burnt {edge:.0%}" for colour, edge, light in rows]


def naturalness(pictures: Float[Tensor, "pictures 3 height width"]) -> Naturalness:
    """How colourful, burnt out and contrasty pictures in [0, 1] are."""
    burnt = (pictures <= NEAR) | (pictures >= 1 - NEAR)
    return Naturalness(
        saturation=(pictures.amax(1) - pictures.amin(1)).mean((1, 2)),
        edge=burnt.to(pictures.dtype).mean((1, 2, 3)),
        contrast=pictures.mean(1).flatten(1).std(1, correction=0),
    )


def naturalness_of_each(pictures: Iterable[Float[Tensor, "3 _ _"]]) -> list[dict[str, float]]:
    """The same of pictures that may differ in size, to two digits, by the names that people read."""
    return [
        {
            "saturation": round(found.saturation.item(), 2),
            "burnt out": round(found.edge.item(), 2),
            "contrast": round(found.contrast.item(), 2),
        }
        for found in (naturalness(picture[None]) for picture in pictures)
    ]
