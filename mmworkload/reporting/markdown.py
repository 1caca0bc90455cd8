"""Markdown for the pages that commands write."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mmworkload.visible import visible


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; each of ``columns`` begins with ``<`` or ``>``, its alignment."""
    lines = [
        "| " + " | ".join(column[1:] for column in columns) + " |",
        "|" + "|".join("---:" if column[0] == ">" else "---" for column in columns) + "|",
        *("| " + " | ".join(map(visible, row)) + " |" for row in rows),
    ]
    return "\n".join(lines)


def literal(text: str) -> str:
    """``text`` so that Markdown takes it literally, but for what stands between back-ticks."""
    parts = visible(text.replace("\n", " ")).split("`")
    # An underscore within a word is literal as it is.
    parts[::2] = [re.sub(r"[\\*<[\]]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", part) for part in parts[::2]]
    return "`".join(parts).replace("|", "\\|")
