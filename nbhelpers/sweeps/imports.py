"""What a notebook imports, as far as its code says."""

import ast
from collections.abc import Iterator

from nbformat import NotebookNode


def of(notebook: NotebookNode) -> list[str]:
    """Dotted names in the order of the code; of `from a import b` both `a` and `a.b`, which may be no module."""
    return list(dict.fromkeys(name for cell in notebook.cells if cell.cell_type == "code" for name in _in(cell.source)))


def _in(source: str) -> Iterator[str]:
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:  # a magic command
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
