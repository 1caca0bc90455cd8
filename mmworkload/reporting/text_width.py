"""How wide a text is in print, from the advance widths of Helvetica, which Arial and Liberation Sans share."""

from __future__ import annotations

import unicodedata

from mmworkload.reporting.shortening import middle
from mmworkload.reporting.units import GAP, TIMES
from mmworkload.visible import visible

# Thousandths of the font size.
_WIDTHS = {
    222: "ijl'",
    278: " .,:;/!ftI[]\\|",
    333: "()-r`",
    389: "*",
    500: "ckvsxyzJ",
    556: "0123456789abdeghnopqu_L?#$" + GAP,
    584: "+=<>~" + TIMES,
    611: "FTZ",
    667: "ABEKPSVXY&",
    722: "CDHNRUw",
    778: "GOQ",
    833: "Mm",
    889: "W%",
    1000: "…",
    1015: "@",
}
_WIDTH_OF = {letter: width for width, letters in _WIDTHS.items() for letter in letters}
# Bold is wider, and a reader's machine may have a font that is a little wider than Helvetica.
_BOLD, _SLACK = 1.07, 1.04


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """The width of ``text`` in the unit of ``size``, the font size; an estimate on the wide side."""
    thousandths = sum(_WIDTH_OF.get(letter) or _unlisted(letter) for letter in text)
    return thousandths / 1000 * size * _SLACK * (_BOLD if bold else 1.0)


def _unlisted(letter: str) -> int:
    return 1000 if unicodedata.east_asian_width(letter) in "WF" else 600


def shorten(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """``text``, its middle left out until it is at most ``width`` wide or three characters long."""
    shown = text = visible(text)
    count = len(text)
    while text_width(shown, size, bold=bold) > width and count > 3:
        count -= 1
        shown = middle(text, count)
    return shown
