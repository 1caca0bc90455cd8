"""The environment of our HTML templates."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from mmworkload.visible import visible_lines

if TYPE_CHECKING:
    import jinja2


def environment() -> jinja2.Environment:
    """Finds our templates by name. Escapes what is markup in names of others and what steers a reader (controls, marks
    of direction)."""
    import jinja2
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        return visible_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    return jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        finalize=shown,
        loader=jinja2.FunctionLoader(text_of),
    )


def text_of(name: str) -> str:
    """A file beside this one: a template, or what one includes."""
    return files("mmworkload.reporting").joinpath(name).read_text(encoding="utf-8")
