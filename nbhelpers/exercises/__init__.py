"""The notebooks' exercises, judged by what was found: nothing is compared with a stored answer.

    exercises.check("02.2", 57)      # channel 57 is measured again, over all photos

Each module holds the exercises of one notebook. An exercise is a function of the answer that computes anew what the
answer claims, says why it is right, or says by `expect` what was found instead.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"checking": ["NOTEBOOKS", "Exercise", "Outcome", "check", "declared"]},
)
