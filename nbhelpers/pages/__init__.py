"""The web pages this package writes: templates beside this file, filled in by Jinja2.

Every page is one file: its style and its script are inside it, and it asks no server for anything.
"""

import html
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from latex2mathml.converter import convert
from markupsafe import Markup


def render(template: str, **values: Any) -> str:
    """A page as text.

    Args:
        template: name of a file beside this one.
        values: what it shows; text is escaped.
    """
    return _environment().get_template(template).render(**values)


def text(name: str) -> str:
    """A file beside this one as it is, for pages that others lay out."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def link(path: str) -> str:
    """A link to a file beside the page, whatever its name has in it: `javascript:x`, `50% grey #1?.ipynb`."""
    return f"./{quote(path, errors='surrogateescape')}"


def formula(tex: str, block: bool = False) -> str:
    """A formula in TeX as MathML, which browsers draw without a script.

    Args:
        tex: without the dollar signs around it.
        block: whether it has a line of its own.

    Raises:
        ValueError: it has a command that is not known.
    """
    mathml = convert(tex.replace(r"\arg", r"\operatorname{arg}"), display="block" if block else "inline")
    if unknown := re.search(r"\\\w+", mathml):
        raise ValueError(f"the formula {tex!r} has {unknown[0]}, which cannot be drawn: write it with other commands")
    return mathml


@lru_cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("nbhelpers", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["link"] = link
    environment.filters["json"] = lambda value, indent=None: Markup(html.escape(json.dumps(value, indent=indent)))
    return environment
