"""Class-agnostic features: what a layer responds to in a set of photos, per facet (Stergiou 2021)."""

from nbhelpers.techniques.class_agnostic_features import facet_ascent, facets
from nbhelpers.techniques.class_agnostic_features.technique import (
    ClassAgnosticFeatures,
    animate,
    check_layers,
    evidence,
    find_facets,
    save,
    similarities,
    strip,
    visualise,
)

__all__ = [
    "ClassAgnosticFeatures",
    "animate",
    "check_layers",
    "evidence",
    "facet_ascent",
    "facets",
    "find_facets",
    "save",
    "similarities",
    "strip",
    "visualise",
]
