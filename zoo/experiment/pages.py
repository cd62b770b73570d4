"""Pages that are one HTML file, with nothing to load."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2

HERE = Path(__file__).parent


def render(template: str, filters: dict[str, Callable[..., Any]], **values: Any) -> str:
    """A template of this folder, with the pages' common style and what it is given.

    Raises:
      jinja2.UndefinedError: it asks for what it is not given.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    style = (HERE / "report.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=style, **values)
