"""Tables on a terminal or in a pipe: aligned, within the width, names shortened in the middle, plain where needed.

All text passes through :func:`visible` here, so that no name of a file or model steers the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TextIO

from mmworkload.printing import flush, put, results
from mmworkload.reporting.shortening import shortened
from mmworkload.reporting.units import GAP, TIMES
from mmworkload.visible import visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, OverflowMethod, RenderableType, RenderResult
    from rich.measure import Measurement
    from rich.text import Text

# What a stream that is not Unicode gets instead, one character for one.
_PLAIN = str.maketrans({GAP: "-", TIMES: "x", "µ": "u", "…": "~", "█": "#", "▌": "#", "▀": "'", "▄": ".", "²": "2"})
_NARROW = 80
_SHORTEST_NAME = 10


def bar(value: float | None, width: int = 10) -> str:
    """A share of one as a bar, in steps of half a character."""
    halves = round(2 * width * min(1.0, value or 0.0))
    return "█" * (halves // 2) + "▌" * (halves % 2)


def paired_bar(above: float | None, below: float | None, width: int = 8) -> str:
    """Two shares of one as one line of half-high bars."""
    upper, lower = (round(width * min(1.0, value or 0.0)) for value in (above, below))
    both, longer = min(upper, lower), max(upper, lower)
    return "█" * both + ("▀" if upper > lower else "▄") * (longer - both)


@dataclass(frozen=True)
class Name:
    """A cell that gives way first when the table is wider than the terminal; shortened, it stays different from the
    other names in its ``column``."""

    text: str
    column: _Names | None = None

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        width = len(visible(self.text))
        return Measurement(min(width, _SHORTEST_NAME), width).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        column = self.column or _Names((self.text,))
        yield _text(column.shown(options.max_width)[self.text], no_wrap=True)


class _Names:
    """The names of a column, shortened together."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._by_width: dict[int, dict[str, str]] = {}

    def shown(self, width: int) -> dict[str, str]:
        if width not in self._by_width:
            self._by_width[width] = shortened(self._texts, width)
        return self._by_width[width]


@dataclass(frozen=True)
class Prose:
    """A cell whose text wraps; ``below`` begins a line of its own."""

    text: str
    below: str = ""

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        texts = [visible(text) for text in (self.text, self.below)]
        longest = max(len(word) for text in texts for word in text.split() or [""])
        return Measurement(min(longest, 2 * _SHORTEST_NAME), max(map(len, texts))).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _text(self.text, overflow="fold")
        if self.below:
            yield _text(self.below, overflow="fold")


@dataclass(frozen=True)
class Items:
    """Texts with commas between; a line breaks after a comma only, unless one text alone is wider."""

    texts: Sequence[str]

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        return Measurement(_SHORTEST_NAME, len(visible(", ".join(self.texts)))).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = ""
        for index, text in enumerate(self.texts):
            part = visible(text) + ("," if index + 1 < len(self.texts) else "")
            if line and len(line) + 1 + len(part) > options.max_width:
                yield _text(line)
                line = part
            else:
                line = f"{line} {part}" if line else part
        yield _text(line)


Cell = str | Name | Prose


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, tight: bool = False) -> RenderableType:
    """A table; each of ``columns`` begins with ``<`` or ``>``, its alignment. Only a :class:`Name` and a
    :class:`Prose` give way to the width; where that is not enough the table is wider than the terminal.
    Columns are three characters apart, or two when ``tight`` or when three would take more than 80 columns."""
    from rich import box
    from rich.table import Table

    least_widths, shared = [], []
    for index, column in enumerate(columns):
        cells = [row[index] for row in rows]
        widest = max((len(visible(cell)) for cell in cells if isinstance(cell, str)), default=0)
        names = [len(visible(cell.text)) for cell in cells if not isinstance(cell, str)]
        shared.append(_Names([cell.text for cell in cells if isinstance(cell, Name)]))
        least = max(widest, len(column) - 1, min(_SHORTEST_NAME, max(names, default=0)))
        least_widths.append((least, not names))
    needed = sum(least for least, _ in least_widths)
    gaps = len(columns) - 1
    tight = tight or needed + 3 * gaps > _NARROW
    needed += (2 if tight else 3) * gaps
    padding = (0, 0, 0, 1) if tight else (0, 1, 0, 1)
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding, header_style="bold")
    for column, (least, fixed) in zip(columns, least_widths, strict=True):
        justify: Literal["left", "right"] = "left" if column[0] == "<" else "right"
        made.add_column(_text(column[1:]), justify=justify, no_wrap=fixed, min_width=least)
    for row in rows:
        made.add_row(*(_cell(cell, names) for cell, names in zip(row, shared, strict=True)))
    return _AtLeast(made, needed)


def _cell(cell: Cell, names: _Names) -> RenderableType:
    if isinstance(cell, str):
        return _text(cell)
    return Name(cell.text, names) if isinstance(cell, Name) else cell


def _text(text: str, *, no_wrap: bool | None = None, overflow: OverflowMethod | None = None, style: str = "") -> Text:
    """``text`` for rich, taken literally and with nothing in it that steers."""
    from rich.text import Text

    return Text(visible(text), no_wrap=no_wrap, overflow=overflow, style=style)


@dataclass(frozen=True)
class _AtLeast:
    """Renders in ``width`` columns where there are fewer: rich drops columns instead."""

    content: RenderableType
    width: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.content, options.update(width=max(self.width, options.max_width)))


def section(title: str, *parts: RenderableType) -> RenderableType:
    """A heading with what belongs under it; strings are paragraphs and are taken literally."""
    from rich.console import Group

    heading = [_text(title, style="bold")] if title else []
    return Group(*heading, *(_text(part) if isinstance(part, str) else part for part in parts))


def facts(entries: Sequence[tuple[str, str | Items]]) -> RenderableType:
    """Labels, each with a text that wraps beside it; a label that repeats the one before is left out."""
    from rich.table import Table

    made = Table.grid(padding=(0, 2, 0, 0))
    # Labels keep their width whatever the terminal's.
    made.add_column(no_wrap=True, min_width=max((len(visible(label)) for label, _ in entries), default=0))
    made.add_column()
    before = ""
    for label, content in entries:
        made.add_row(
            "" if label == before else _text(label),
            _text(content, overflow="fold") if isinstance(content, str) else content,
        )
        before = label
    return made


def bullets(lines: Iterable[str]) -> RenderableType:
    """A list with hanging indents; the lines are taken literally."""
    from rich.table import Table

    made = Table.grid(padding=(0, 1, 0, 0))
    for line in lines:
        made.add_row("-", _text(line))
    return made


def height(renderable: RenderableType) -> int:
    """Lines that it takes on the terminal, or in a pipe."""
    from rich.console import Console

    console = Console(file=results())
    return len(console.render_lines(renderable, pad=False))


def print_out(*renderables: RenderableType, stream: TextIO | None = None) -> None:
    """Prints with an empty line between: in colour on a terminal, plain text in a pipe (80 columns, or ``COLUMNS``),
    and in ASCII where the stream is not Unicode."""
    from rich.console import Console

    target = stream or results()
    console = Console(file=target, highlight=False, markup=False, emoji=False)
    plain = "utf" not in (getattr(target, "encoding", None) or "utf-8").lower()
    for index, renderable in enumerate(renderables):
        with console.capture() as capture:
            if index:
                console.print()
            console.print(renderable, crop=False)
        text = "\n".join(line.rstrip() for line in capture.get().split("\n"))
        if plain:
            encoding = target.encoding
            text = text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
        if stream is None:
            put(text)
            # Else rich does it before the next one, and its error is not told as one of the results.
            flush(target)
        else:
            stream.write(text)
