"""From a matplotlib figure to SVG that is part of a page: its colours and its font, no document around it."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mmworkload.visible import visible, visible_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A figure is drawn in stand-in colours, which become the page's variables: so it follows light and dark mode.
INK, MUTED, GRID, SURFACE = "#010101", "#010102", "#010103", "#010104"
MEASURED, SIMULATED = "#010105", "#010106"
STAGES = tuple(f"#0102{index:02x}" for index in range(8))
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    SURFACE: "--surface",
    MEASURED: "--measured",
    SIMULATED: "--simulated",
    **{color: f"--stage-{index}" for index, color in enumerate(STAGES)},
}


@contextmanager
def style(name: str) -> Iterator[None]:
    """Settings for one figure; ``name`` makes its identifiers, which are the same in every run."""
    import matplotlib

    # The type of the keys is another one in every version of matplotlib.
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        # A layer may be called $x$.
        "text.parse_math": False,
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": INK,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "legend.frameon": False,
        "figure.facecolor": "none",
    }
    with matplotlib.rc_context(settings):
        yield


def escaped(text: str) -> str:
    """``text`` for an element of SVG; control characters, which XML does not know, are written out."""
    return html.escape(visible(text))


def inline(figure: Figure, name: str, title: str, tooltips: Mapping[str, str] | None = None) -> str:
    """The ``<svg>`` element of ``figure``. ``title`` is its alternative text; ``tooltips`` are by group id (gid)."""
    stream = io.StringIO()
    with warnings.catch_warnings():
        # The reader's browser has the glyphs that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    text = visible_lines(text[text.index("<svg") :])
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*<!--.*?-->", "", text, flags=re.DOTALL)
    # A style element here would be that of the whole page; the page's own style sheet says the same.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, flags=re.DOTALL)
    # The parser of HTML knows the name spaces.
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    # Identifiers are unique within a page only with the figure's name before them.
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font-family: [^;\"]*; ?", "", re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text))
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    for gid, tip in (tooltips or {}).items():
        opening = f'<g id="{name}-{gid}">'
        text = text.replace(opening, f"{opening}<title>{escaped(tip)}</title>")
    width, height = figure.get_size_inches() * 72
    head = (
        f'<svg role="img" aria-labelledby="{name}-title" viewBox="0 0 {width:g} {height:g}">'
        f'<title id="{name}-title">{escaped(title)}</title>'
    )
    return head + text[text.index(">") + 1 :].strip()
