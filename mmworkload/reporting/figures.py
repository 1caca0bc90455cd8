"""A figure of the report as an SVG file of its own, for papers: name spaces, size and colours written out."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from mmworkload.errors import MmworkloadError
from mmworkload.files import write_atomic

if TYPE_CHECKING:
    from mmworkload.validating.report import Study

_NAME = re.compile(r"[^a-z0-9]+")
_POINTS = 72


def standalone(svg: str) -> str:
    """The ``<svg>`` of a page as a document: the colours of light mode, a white ground, name spaces and a size."""
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    head, _, body = svg.partition(">")
    head = (
        f'{head} xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt"'
        ' font-family="DejaVu Sans, sans-serif"'
    )
    text = f'{head}><rect width="100%" height="100%" fill="#ffffff"/>{body}'
    for variable, color in _colours().items():
        text = text.replace(f"var({variable})", color)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def write_figures(study: Study, folder: str | Path) -> list[Path]:
    """Every figure of the study's report as ``<workload>-<figure>.svg``. UnavailableError without matplotlib,
    MmworkloadError where a file cannot be written."""
    from mmworkload.reporting.html import figures

    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise MmworkloadError(f"{place} is a file; give a folder for the figures")
    written = []
    for name, svg in figures(study).items():
        written.append(place / f"{_NAME.sub('-', name.lower()).strip('-')}.svg")
        write_atomic(written[-1], standalone(svg))
    return written


def _colours() -> dict[str, str]:
    """Variable to colour, as the style sheet of the report has them in light mode."""
    text = files("mmworkload.reporting").joinpath("report.css").read_text(encoding="utf-8")
    return dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6});", text.partition("}")[0]))
