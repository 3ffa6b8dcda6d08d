"""A technique's parameters, declared once.

    class ActivationMaximization(Recipe):
        layer: str = Field("block3.conv2", description="dotted name of the layer")

From this one declaration come the validation and its messages, the sliders (`nbhelpers.controls`), the notebook's
papermill cell (`parameters_cell`), the parameter tables (`parameters_table`), and the JSON inside every PNG, from
which the same picture can be made again (`from_picture`).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from itertools import accumulate
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from jaxtyping import Float
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError, WrapValidator
from pydantic.fields import FieldInfo
from torch import Tensor, nn

from nbhelpers import __version__, edge, images, models

__all__ = [
    "Field",
    "Recipe",
    "from_notebook",
    "from_picture",
    "parameters_cell",
    "parameters_table",
    "remake",
    "save_pictures",
    "several_from_notebook",
]


MOST_PROBLEMS = 5
"""Of all that is wrong with a recipe's parameters, so much is told."""


def _named(value: Any, as_text: Callable[[Any], str]) -> str:
    """A network's name; a module that is given in its place comes with its name."""
    if isinstance(value, models.Named):
        return value
    return models.Named.of(value) if isinstance(value, nn.Module) else as_text(value)


NetworkName = Annotated[str, WrapValidator(_named)]


def _sizes(least: int, most: int) -> Any:
    """The side of a square or `(height, width)`, in pixels; each side within these bounds."""
    side = Annotated[int, Field(ge=least, le=most)]
    kinds = Annotated[side, Tag("side")] | Annotated[tuple[side, side], Tag("sides")]
    return Annotated[kinds, Discriminator(lambda given: "sides" if isinstance(given, list | tuple) else "side")]


PictureSize = _sizes(16, 512)
"""Of pictures that are made: the side of a square or `(height, width)`, in pixels."""
PhotoSize = _sizes(16, 1024)
"""Of photos as a network sees them: a side or `(height, width)`, in pixels."""
PhotoFit = Annotated[
    images.Fit, Field(description="photos that are no squares: whole, their centre, or whole within a square")
]
"""How photos come to their size; `models.photo_fit` says what a network bears."""


def _spelled_out(given: Any) -> Any:
    """Every range in a list, or in its place, as the numbers that it stands for."""
    parts = given if isinstance(given, list) else [given]
    spelled = [edge.in_range(part) for part in parts]
    if all(numbers is None for numbers in spelled):
        return given
    return [
        each for part, numbers in zip(parts, spelled, strict=True) for each in ([part] if numbers is None else numbers)
    ]


Numbers = Annotated[list[int], BeforeValidator(_spelled_out)]
"""Whole numbers, or a range of them as text: `"0..63"`, `[5, "10..20 step 2"]`."""


class Recipe(BaseModel):
    """Base of every technique's parameters: checked on creation and on change, saved with every picture."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_default=True, strict=False)

    kinds: ClassVar[dict[str, type[Recipe]]] = {}
    unsaid: ClassVar[dict[str, Any]] = {}
    """What held before a parameter existed: the values of those that an older PNG does not name."""
    written: ClassVar[tuple[str, ...]] = ()
    """Parameters that name a place to write to; empty, nothing is written."""

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        Recipe.kinds[cls.__name__] = cls
        if "iterate" in vars(cls):
            cls.iterate = models.outside_inference(cls.iterate)

    def __init__(self, /, **parameters: Any) -> None:
        unknown = [name for name in parameters if name not in type(self).model_fields]
        if unknown:
            raise ValueError(_unknown(unknown, type(self)))
        try:
            super().__init__(**parameters)
        except ValidationError as error:
            raise ValueError(_explained(error, type(self))) from None

    def iterate(self, network: nn.Module | None = None) -> Iterator[Any]:
        """Carry out the recipe, one step at a time.

        Args:
            network: used in place of the one the recipe names: a module of the user's own, or one already loaded.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it is carried out")

    def run(self, network: nn.Module | None = None) -> Any:
        """Carry out the recipe and return its last step, or what its batches give together."""
        return self.joined(self.iterate(network))

    def so_far(self, network: nn.Module | None = None) -> Iterator[Any]:
        """The steps of `iterate`, each with what came before it."""
        return accumulate(self.iterate(network), lambda before, step: self.joined([before, step]))

    def joined(self, steps: Iterable[Any]) -> Any:
        """What the steps come to: the last of them, where a technique does not say otherwise."""
        last = None
        for last in steps:  # noqa: B007
            pass
        return last

    def one_picture(self, index: int, network: nn.Module | None = None) -> Float[Tensor, "3 height width"]:
        """One of the pictures that the recipe makes, by its number.

        Raises:
            ValueError: there are not so many, or the recipe makes none.
        """
        return one_of(self.run(network), index)

    def changed(self, **changes: Any) -> Recipe:
        """The same recipe with some parameters changed, checked again."""
        return type(self)(**{**{name: getattr(self, name) for name in type(self).model_fields}, **changes})

    def idle(self) -> dict[str, str]:
        """Parameters that change nothing as the others are set, by name, and why; sliders for them are greyed."""
        return {}

    def scored(self) -> str:
        """What the number beside a growing picture is, in words, with its unit where it has one."""
        return "score"

    def document(self) -> dict[str, Any]:
        """What is written into a PNG: kind of recipe, its parameters, the package's version."""
        return {"recipe": type(self).__name__, "parameters": self.model_dump(mode="json"), "nbhelpers": __version__}

    @property
    def slug(self) -> str:
        """A short name for files: the kind of recipe and a hash of its parameters."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return f"{_snake(type(self).__name__)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def from_document(document: Mapping[str, Any]) -> Recipe:
    """The recipe of a JSON document as `Recipe.document` makes it.

    Raises:
        ValueError: it is none, it names no known kind of recipe, or its parameters do not fit.
    """
    images.recipe_text.check(document)
    kind = kind_named(document.get("recipe"))
    return kind(**kind.unsaid | document.get("parameters", {}))


def kind_named(name: object) -> type[Recipe]:
    """The kind of recipe with this name, from any technique, also one of another package.

    Techniques are announced as entry points of the group `nbhelpers.recipes`, each a module that declares its kinds;
    so this file need not know who builds on it.

    Raises:
        ValueError: no technique declares it.
    """
    for technique in entry_points(group="nbhelpers.recipes"):
        technique.load()
    if name not in Recipe.kinds:
        raise ValueError(
            f"unknown recipe {edge.short(repr(name))}: this version knows {edge.few(sorted(Recipe.kinds))}"
        )
    return Recipe.kinds[name]


def from_picture(path: str | Path) -> Recipe:
    """The recipe inside a PNG that a technique wrote; `.run()` makes the same pictures again.

    Raises:
        FileNotFoundError, ValueError: no such file, no recipe in it, or one this version does not know.
    """
    return _inside(path)[0]


def save_pictures(
    recipe: Recipe,
    pictures: Iterable[Float[Tensor, "3 _ _"]],
    names: Iterable[str | None],
    folder: str | Path,
    numbers: Iterable[int] | None = None,
    measured: Iterable[Mapping[str, float]] | None = None,
) -> list[Path]:
    """Write each picture as a PNG with its recipe inside, from which `remake` makes it again.

    Args:
        recipe: what made them.
        pictures: all that it made, `(3, H, W)` each, in order.
        names: what each file is called after the recipe's slug, without an ending; None leaves a picture out.
        folder: where they go; made if need be.
        numbers: of the pictures among all that the recipe makes; 0, 1, 2, ... unless given.
        measured: numbers about each picture, by name; the file holds them, and a gallery shows them as columns.

    Returns:
        The paths, one per picture that was written.
    """
    paths, pictures = [], list(pictures)
    numbers = range(len(pictures)) if numbers is None else numbers
    measured = [{}] * len(pictures) if measured is None else measured
    for index, name, picture, known in zip(numbers, names, pictures, measured, strict=True):
        if name is not None:
            paths.append(Path(folder) / f"{recipe.slug}-{name}.png")
            about = {"index": index} | ({"measured": dict(known)} if known else {})
            images.save(picture, paths[-1], recipe=recipe.document() | about)
    return paths


def only_reading(recipe: Recipe, addresses: bool = False) -> Recipe:
    """A recipe from elsewhere, such as that inside a picture, so changed that carrying it out writes nothing.

    Args:
        recipe: the recipe.
        addresses: whether its photos may be fetched from addresses that it names (`https://...`, `s3://...`).

    Raises:
        ValueError: it names an address, and they are not to be followed.
    """
    values = {name: getattr(recipe, name) for name in type(recipe).model_fields}
    named = [name for name, value in values.items() if isinstance(value, str) and re.match(r"[\w+.-]+://", value)]
    if named and not addresses:
        raise ValueError(
            f"its {named[0]} is the address {edge.short(values[named[0]])}: nothing is fetched for a picture from "
            "elsewhere unless you ask for it (addresses=True, or --addresses)"
        )
    return recipe.changed(**dict.fromkeys(recipe.written, "")) if recipe.written else recipe


def remake(
    path: str | Path, network: nn.Module | None = None, addresses: bool = False
) -> Float[Tensor, "3 height width"]:
    """Make the picture in a PNG again, `(3, H, W)`, from the recipe inside it.

    Args:
        path: a PNG with one picture of a recipe.
        network: the module it was made with, if that was one of the user's own.
        addresses: whether photos may be fetched from addresses that the recipe names. Nothing is ever written.

    Raises:
        FileNotFoundError, ValueError: as `from_picture`; the file shows several pictures at once, or the recipe makes
            fewer than its number says, or names an address.
    """
    recipe, document = _inside(path)
    recipe = only_reading(recipe, addresses)
    if "index" not in document:
        raise ValueError(f"{path} is a sheet of several pictures: run its recipe with recipes.from_picture(path).run()")
    return recipe.one_picture(document["index"], network)


def one_of(step: Any, index: int) -> Float[Tensor, "3 height width"]:
    """One picture, `(3, H, W)`, of those that a recipe's last step holds.

    Raises:
        ValueError: there are not so many, or the recipe makes none.
    """
    pictures = getattr(step, "picture", ())
    if index >= len(pictures):
        raise ValueError(
            f"its number in the batch is {index}, out of bounds: the recipe makes {len(pictures)} pictures"
        )
    return pictures[index]


def from_notebook(kind: type[Recipe], namespace: Mapping[str, Any]) -> Recipe:
    """The recipe made from a notebook's parameter variables.

    papermill only warns about a parameter that the notebook does not have; here it is an error.

    Args:
        kind: the recipe to make.
        namespace: the notebook's `globals()`.

    Raises:
        ValueError: a parameter is ill-typed or out of range, or the cell that papermill injected (the last of them,
            where it was mended) names one that the recipe does not have.
    """
    return several_from_notebook([kind], namespace)[0]


def several_from_notebook(kinds: Sequence[type[Recipe]], namespace: Mapping[str, Any]) -> list[Recipe]:
    """The recipes of a notebook that carries more than one technique, all made from one set of parameter variables.

    Args:
        kinds: the recipes to make; a parameter that several of them have is one variable.
        namespace: the notebook's `globals()`.

    Raises:
        ValueError: as `from_notebook`, or a parameter that two recipes declare differently.
    """
    names = list(_together(kinds))
    injected = [source for source in namespace.get("In", []) if source.partition("\n")[0].strip() == "# Parameters"]
    unknown = [name for name in _assigned(injected[-1]) if name not in names] if injected else []
    if unknown:
        raise ValueError(_unknown(unknown, *kinds))
    return [kind(**{name: namespace[name] for name in kind.model_fields if name in namespace}) for kind in kinds]


def _assigned(source: str) -> list[str]:
    """Names that plain assignments of a cell give a value to."""
    targets = [node.targets[0] for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def parameters_cell(*kinds: type[Recipe]) -> str:
    """Source of a notebook's `parameters` cell: one typed variable a line, with its description as the comment."""
    lines = []
    for name, field in _together(kinds).items():
        value = field.get_default(call_default_factory=True)
        lines.append(f"{name}: {_type_name(field.annotation)} = {_literal(value)}  # {field.description}")
    return "\n".join(lines)


def parameters_table(kind: type[Recipe]) -> str:
    """The parameters as a Markdown table: name, default, range, meaning."""
    rows = ["| parameter | default | range | meaning |", "|---|---|---|---|"]
    for name, field in kind.model_fields.items():
        low, high = bounds(kind, name)
        span = f"{low} to {high}" if low is not None and high is not None else "" if low is None else f"from {low}"
        options = choices(kind, name)
        span = ", ".join(f"`{option}`" for option in options) if options else span
        default = _literal(field.get_default(call_default_factory=True))
        rows.append(f"| `{name}` | `{default}` | {span} | {field.description} |")
    return "\n".join(rows)


def bounds(kind: type[Recipe], name: str) -> tuple[Any, Any]:
    """Least and greatest value a field accepts; None where it is open."""
    limits = {"ge": None, "gt": None, "le": None, "lt": None}
    for constraint in _constraints(kind.model_fields[name]):
        for limit in limits:
            if getattr(constraint, limit, None) is not None:
                limits[limit] = getattr(constraint, limit)
    low = limits["ge"] if limits["ge"] is not None else limits["gt"]
    high = limits["le"] if limits["le"] is not None else limits["lt"]
    return low, high


def _constraints(field: FieldInfo) -> list[Any]:
    """What a field's declaration says of its range, or that of the first type that it may be."""
    first = (get_args(field.annotation) or [None])[0]
    return [each for part in (field, *getattr(first, "__metadata__", ())) for each in getattr(part, "metadata", ())]


def types(kind: type[Recipe], name: str) -> list[Any]:
    """What a field may be: `int | None` gives `[int, NoneType]`, `list[int]` gives `[list]`, a size `[int, tuple]`."""
    return [get_origin(member) or member for member in _members(kind.model_fields[name].annotation)]


def _members(annotation: Any) -> list[Any]:
    """The types of a union, or a type alone, without what is said about them."""
    bare = _bare(annotation)
    return [_bare(member) for member in get_args(bare)] if get_origin(bare) in (Union, UnionType) else [bare]


def _bare(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is tuple:
        return tuple[tuple(map(_bare, get_args(annotation)))]
    return annotation


def choices(kind: type[Recipe], name: str) -> list[Any]:
    """The values a `Literal` field accepts, or an empty list."""
    annotation = kind.model_fields[name].annotation
    return list(getattr(annotation, "__args__", ())) if "Literal" in str(annotation) else []


def _inside(path: str | Path) -> tuple[Recipe, dict[str, Any]]:
    """The recipe in a PNG, and the document around it."""
    document = images.read_recipe(path)
    try:
        return from_document(document), document
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _together(kinds: Sequence[type[Recipe]]) -> dict[str, FieldInfo]:
    """The fields of several recipes by name; one that they share comes once, as the first declares it."""
    fields: dict[str, FieldInfo] = {}
    for kind in kinds:
        for name, field in kind.model_fields.items():
            first = fields.setdefault(name, field)
            if (first.annotation, first.get_default()) != (field.annotation, field.get_default()):
                raise ValueError(
                    f"{kind.__name__} declares {name!r} with another type or default than a recipe beside it"
                )
    return fields


def _unknown(names: list[str], *kinds: type[Recipe]) -> str:
    known = list(_together(kinds))
    parts = []
    for name in names:
        near = edge.close(name, known)
        parts.append(edge.short(repr(name)) + (f" (did you mean {near[0]!r}?)" if near else ""))
    plural = "s" if len(names) > 1 else ""
    title = " and ".join(kind.__name__ for kind in kinds)
    have, they = ("have", "They have") if len(kinds) > 1 else ("has", "It has")
    return f"{title} {have} no parameter{plural} {edge.few(parts)}. {they}: {edge.few(known)}."


def _explained(error: ValidationError, kind: type[Recipe]) -> str:
    lines, problems = [], error.errors(include_url=False)
    for problem in problems[:MOST_PROBLEMS]:
        name = str(problem["loc"][0]) if problem["loc"] else ""
        field = kind.model_fields.get(name)
        meaning = f" ({field.description})" if field else ""
        lines.append(f"{name} = {edge.short(repr(problem['input']))}: {problem['msg']}{meaning}")
    more = f" and {len(problems) - len(lines):,} more" if len(problems) > len(lines) else ""
    return f"{kind.__name__} can't be made from these parameters. " + "; ".join(lines) + more


def _type_name(annotation: Any) -> str:
    members = _members(annotation)
    annotation = functools.reduce(operator.or_, members) if len(members) > 1 else members[0]
    text = annotation.__name__ if isinstance(annotation, type) and not hasattr(annotation, "__args__") else None
    if text is None and "Literal" in str(annotation):
        return type(annotation.__args__[0]).__name__
    return text or str(annotation).replace("typing.", "").replace("NoneType", "None")


def _literal(value: Any) -> str:
    """As Python writes it, with double quotes, the way `ruff format` does."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return repr(value)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
