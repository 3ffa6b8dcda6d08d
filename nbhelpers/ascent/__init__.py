"""How a picture is made: a canvas, transformed, through the network up to a layer, an objective, one step uphill.

    for step in ascent.ascend(network, objective, canvas, steps=64, ...):
        step.picture

`loop` is the one loop, `rounds` climbs from small to large with it. Two modules are vocabularies of their own:
`objectives` (what to maximise) and `canvas` (what is optimised: pixels, Fourier coefficients, phases).
"""

from nbhelpers.ascent import canvas, objectives
from nbhelpers.ascent.loop import NonFiniteScore, Step, ascend, generators, measure
from nbhelpers.ascent.recognition import Recognition, recognised
from nbhelpers.ascent.rounds import climb, last_size, picture_seeds, planned
from nbhelpers.ascent.transforms import Transforms

__all__ = [
    "NonFiniteScore",
    "Recognition",
    "Step",
    "Transforms",
    "ascend",
    "canvas",
    "climb",
    "generators",
    "last_size",
    "measure",
    "objectives",
    "picture_seeds",
    "planned",
    "recognised",
]
