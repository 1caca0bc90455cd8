"""The full name of a model: what was asked for, with the settings that differ from the defaults."""

from __future__ import annotations

from collections.abc import Mapping

from mmworkload.models.family import Parameter, Setting


def full_name(name: str, parameters: Mapping[str, Parameter], settings: Mapping[str, Setting]) -> str:
    """``name?tokens=64``: one name for one graph at one batch."""
    changed = [
        f"{key}={','.join(value) if isinstance(value, tuple) else value}"
        for key, value in settings.items()
        if value != parameters[key].default
    ]
    return f"{name}?{'&'.join(changed)}" if changed else name
