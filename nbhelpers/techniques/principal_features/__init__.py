"""Principal features: what contrasts in a batch of photos, in three colours (Bakken et al. 2020)."""

from nbhelpers.techniques.principal_features import palette_learning, palettes
from nbhelpers.techniques.principal_features.technique import (
    NETWORKS,
    PrincipalFeatures,
    paint,
    sheet,
    side_by_side,
    strips,
)

__all__ = ["NETWORKS", "PrincipalFeatures", "paint", "palette_learning", "palettes", "sheet", "side_by_side", "strips"]
