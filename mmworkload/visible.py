"""Text of others as it may be shown: what would act on a terminal or a page, instead of being read, is written out."""

from __future__ import annotations

import unicodedata

_ACTING = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode categories: controls, marks of direction and other invisible ones, lone surrogates, ends of lines."""


def visible(text: str) -> str:
    r"""``text`` with escapes for what steers: ``\x1b`` for ESC, ``\n`` for a line feed, ``\u202e`` for an override."""
    if text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in _ACTING else letter
        for letter in text
    )


def visible_lines(text: str) -> str:
    """As :func:`visible`, with the lines of ``text`` kept."""
    return "\n".join(map(visible, text.split("\n")))


def one_line(text: str) -> str:
    """``text`` on one line: white space becomes single blanks, all else as in :func:`visible`."""
    return visible(" ".join(text.split()))
