"""The package's annotations are checked at every call that the tests make: types and shapes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

import nbhelpers
from nbhelpers import images

PACKAGE = Path(nbhelpers.__file__).parent


def test_a_wrong_rank_and_a_wrong_type_are_found_out() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="pictures 3"):
        images.resize(torch.rand(3, 8, 8), 4)
    with pytest.raises(jaxtyping.TypeCheckError, match="size"):
        images.resize(torch.rand(1, 3, 8, 8), "4")


def test_two_arguments_agree_in_what_they_share() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="photos"):
        images.overlays.overlay(torch.rand(2, 3, 8, 8), torch.rand(3, 8, 8))


def unshaped(annotation: ast.expr) -> bool:
    """Whether an annotation speaks of a tensor or an array and not of its shape."""
    match annotation:
        case ast.Subscript(value=ast.Name(id=name)) if name == "Literal" or hasattr(jaxtyping, name):
            return False
        case ast.Name(id="Tensor") | ast.Attribute(attr="Tensor" | "ndarray"):
            return True
        case ast.Constant(value=str(text)):
            return unshaped(ast.parse(text, mode="eval").body)
    return any(unshaped(inner) for inner in ast.iter_child_nodes(annotation) if isinstance(inner, ast.expr))


def public_annotations(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, ast.expr]]:
    """What the public functions, methods and attributes of classes say of their types."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_annotations(node.body, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name in SPECIAL):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            for annotation in (*(each.annotation for each in given if each), node.returns):
                if annotation:
                    yield f"{owner}{node.name}", annotation
        elif isinstance(node, ast.AnnAssign) and owner:
            yield f"{owner}{ast.unparse(node.target)}", node.annotation


SPECIAL = ("__init__", "__call__")


def test_public_signatures_say_the_shapes_of_their_tensors() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}: {name}: {ast.unparse(annotation)}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name, annotation in public_annotations(ast.parse(path.read_text()).body)
        if unshaped(annotation)
    ]
    assert found == []


def test_a_tensor_without_a_shape_is_noticed() -> None:
    source = "def public(one: Float[Tensor, '3'], other: list[Tensor]): ...\ndef _own(one: Tensor): ..."
    said = [ast.unparse(each) for _, each in public_annotations(ast.parse(source).body) if unshaped(each)]
    assert said == ["list[Tensor]"]
