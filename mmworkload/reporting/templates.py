"""The environment of our HTML templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmworkload.visible import visible_lines

if TYPE_CHECKING:
    import jinja2


def environment() -> jinja2.Environment:
    """Escapes what is markup in names of others and what steers a reader (controls, marks of direction)."""
    import jinja2
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        return visible_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    return jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=shown
    )
