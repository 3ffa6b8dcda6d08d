"""How each picture is made again: a command that reads its recipe, or lines that need nothing but the package."""

from __future__ import annotations

from typing import Any

from nbhelpers.microscope.made import Job, Picture
from nbhelpers.techniques.direction_pictures import DirectionPictures


def how(job: Job, picture: Picture, index: int) -> dict[str, Any]:
    """What a page says of how one of a job's pictures is made again."""
    told: dict[str, Any] = {"name": f"{job.kind} picture", "lines": lines(job, index)}
    if job.kind != "untrained":  # its network has no name, so a recipe alone would be carried out on another
        told["command"] = f"nbhelpers replay {'/'.join(picture.path.parts[-3:])}"
    return told


def lines(job: Job, index: int) -> str:
    """Python that makes one of a job's pictures again."""
    recipe = job.recipe
    fields = {name: getattr(recipe, name) for name, field in type(recipe).model_fields.items()
              if name == "layer" or getattr(recipe, name) != field.default}  # fmt: skip
    if isinstance(recipe, DirectionPictures):
        first, last, count = job.channels[0], job.channels[-1] + 1, len(recipe.directions[0])
        fields["directions"] = _Code(f"direction_pictures.rounded(-torch.eye({count})[{first}:{last}])")
        brings = "import torch\n\nfrom nbhelpers.techniques import direction_pictures\n"
    else:
        first, last = job.channels[0], job.channels[-1] + 1
        if job.channels == tuple(range(first, last)) and len(job.channels) > 1:
            fields["channels"] = _Code(f"list(range({first}, {last}))")
        brings = ""
    kind = type(recipe).__name__
    module = type(recipe).__module__
    on = f"models.randomised(models.load({recipe.network!r}), 0)" if job.kind == "untrained" else ""
    brings += "from nbhelpers import models\n" if on else ""
    arguments = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    return f"{brings}from {module} import {kind}\n\n{kind}({arguments}).run({on}).picture[{index}]"


class _Code(str):
    """Text that is written into code as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
