"""The web pages this package writes: templates beside this file, filled in by Jinja2.

Every page is one file: its style and its script are inside it, and it asks no server for anything.
"""

import html
import json
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, **values: Any) -> str:
    """A page as text.

    Args:
        template: name of a file beside this one.
        values: what it shows; text is escaped.
    """
    return _environment().get_template(template).render(**values)


def link(path: str) -> str:
    """A link to a file beside the page, whatever its name has in it: `javascript:x`, `50% grey #1?.ipynb`."""
    return f"./{quote(path, errors='surrogateescape')}"


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
