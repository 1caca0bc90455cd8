"""Repeated blocks of lines, written once with a count. It knows nothing of what the lines mean.

Two blocks repeat each other when they differ in integers only, and a third goes on with the same steps: then one of
them, the count and the steps say it all. So do ends of a range for words that count on within a line::

    layer.0 < image                         layer.0 < image
    layer.1 < layer.0                       repeat 3:
    layer.2 < layer.1                         layer.{1+1} < layer.{0+1}
    layer.3 < layer.2                       head < layer.{0..3}
    head < layer.0 layer.1 layer.2 layer.3

===============  ===============================================================================================
``repeat 3:``    three times the lines below it that are indented by two spaces more
``{5+2}``        5, and 2 more each time; one step for every ``repeat`` around it, of the outermost first
``x{0..3}:y``    the words x0:y x1:y x2:y x3:y; both ends may have steps: ``{0..3+1}``
``{{``           one opening brace
``\\`` at first   what follows is the line, even if it is empty, or looks like an indented line or a ``repeat``
===============  ===============================================================================================

Folding is exact (:func:`unfold` gives back the same lines) and deterministic. It does not look for the shortest form:
the block that saves most comes first, and what saves little stays as it is, for whoever reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import eq, mul, ne, sub
from typing import Generic, TypeVar

from mmworkload.errors import FormatError

# What a text may stand for at most, in characters; every line and every word of a range counts as 16 more.
MAX_SIZE = 16_000_000
MAX_DEPTH = 2

# What a repeat costs whoever reads it, in characters that it must save. Two blocks alone always have some steps
# between them, which then are no rule but a coincidence.
_REPEAT_COST = 80
_STEP_COST = 6
_STEP_COST_OF_TWO = 24
_LONGEST_BLOCK = 1024
_SHORTEST_RANGE = 3

# An integer that comes back as it was: no leading zero, and so short that a 64-bit field holds any difference.
_INTEGER = re.compile(r"(?<![0-9])(0|[1-9][0-9]{0,17})(?![0-9])")
_FIELD_BITS = 64
_STEPPED = "[0-9]{1,18}(?:[+-][0-9]{1,18})*"
_MARKER = re.compile(rf"\{{\{{|\{{(?P<first>{_STEPPED})(?:\.\.(?P<last>{_STEPPED}))?\}}")
_REPEAT = re.compile(r"repeat ([1-9][0-9]{0,8}):")


@dataclass(frozen=True)
class _Line:
    """Integers between ``pieces`` of text; None in place of a piece is the ``..`` of a range.

    ``steps`` has, for each enclosing repeat, the outermost first, how much every integer advances.
    """

    pieces: tuple[str | None, ...]
    integers: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...] = ()


# An integer with its steps; a word with its range: what comes before it, its two ends, what comes after it.
_Number = tuple[int, ...]
_Parts = tuple[str | _Number, ...]
_Word = tuple[_Parts, tuple[_Number, _Number] | None, _Parts]


@dataclass(frozen=True)
class _Template:
    """A line of the folded text, ``number`` in it."""

    number: int
    words: tuple[_Word, ...]


_Node = TypeVar("_Node", _Line, _Template)


@dataclass(frozen=True)
class _Repeat(Generic[_Node]):
    count: int
    body: list[_Node | _Repeat[_Node]]


def fold(lines: Sequence[str]) -> list[str]:
    """The lines of the folded text. A line is any text without a line feed.

    Raises FormatError when they are more than MAX_SIZE allows.
    """
    if sum(len(line) + 16 for line in lines) > MAX_SIZE:
        raise FormatError(f"{len(lines)} lines are too many to fold")
    return list(_written(_folded([_line(text) for text in lines]), ""))


def unfold(lines: Sequence[str], first: int = 1) -> list[str]:
    """The inverse of :func:`fold`.

    Raises FormatError that names the line (the first one has the number ``first``) when the text cannot be
    understood or stands for more than MAX_SIZE.
    """
    result = []
    size = 0
    for template, text in _unfolded(_parsed(lines, first), ()):
        size += len(text) + 16
        if size > MAX_SIZE:
            raise FormatError(f"line {template.number}: the text stands for more than {MAX_SIZE} characters")
        result.append(text)
    return result


# --- folding --------------------------------------------------------------------------------------------------------


def _line(text: str) -> _Line:
    """The line with its integers apart, and with runs of words that count up by one as ranges."""
    words = [_INTEGER.split(word) for word in text.split(" ")]
    pieces: list[str | None] = []
    integers: list[int] = []
    index = 0
    while index < len(words):
        slot, length = _range(words, index)
        word: list[str | None] = list(words[index][0::2])
        numbers = [int(item) for item in words[index][1::2]]
        if length > 1:
            word.insert(slot + 1, None)
            numbers.insert(slot + 1, numbers[slot] + length - 1)
        pieces = [*pieces[:-1], f"{pieces[-1]} {word[0]}", *word[1:]] if pieces else word
        integers += numbers
        index += length
    return _Line(tuple(pieces), tuple(integers))


def _range(words: list[list[str]], start: int) -> tuple[int, int]:
    """(slot, length): the words from ``start`` on that differ in one integer only, which counts up; else (0, 1)."""
    first, *others = words[start : start + _SHORTEST_RANGE]
    if len(others) < _SHORTEST_RANGE - 1 or len(first) == 1 or len(first) != len(others[0]):
        return 0, 1
    differing = [place for place, (one, other) in enumerate(zip(first, others[0], strict=True)) if one != other]
    if len(differing) != 1 or differing[0] % 2 == 0:
        return 0, 1
    place = differing[0]
    wanted, length = list(first), 1
    while start + length < len(words):
        wanted[place] = str(int(first[place]) + length)
        if words[start + length] != wanted:
            break
        length += 1
    return (place // 2, length) if length >= _SHORTEST_RANGE else (0, 1)


def _folded(lines: list[_Line], depth: int = 0) -> list[_Line | _Repeat[_Line]]:
    """Blocks that repeat become repeats, and so do blocks inside of them, as long as that saves characters."""
    result: list[_Line | _Repeat[_Line]] = []
    position = 0
    for start, period, count in _blocks(lines) if depth < MAX_DEPTH else ():
        block, following = lines[start : start + period], lines[start + period : start + 2 * period]
        stepped = [
            replace(one, steps=(*one.steps, tuple(map(sub, other.integers, one.integers))))
            for one, other in zip(block, following, strict=True)
        ]
        result += lines[position:start]
        result.append(_Repeat(count, _folded(stepped, depth + 1)))
        position = start + period * count
    return result + lines[position:]


def _blocks(lines: list[_Line]) -> list[tuple[int, int, int]]:
    """(start, lines of a block, count) of what to fold, in order and apart from each other.

    The block that saves most comes first and takes its lines; the others share what is left.
    """
    lengths = list(accumulate((len(_text(line)) for line in lines), initial=0))

    def saving(start: int, period: int, count: int) -> int:
        """Characters that this repeat makes superfluous, beyond those that it costs."""
        ones, others = lines[start : start + period], lines[start + period : start + 2 * period]
        steps = sum(sum(map(ne, one.integers, other.integers)) for one, other in zip(ones, others, strict=True))
        cost = _REPEAT_COST + 2 * period + steps * (_STEP_COST if count > 2 else _STEP_COST_OF_TWO)
        return lengths[start + period * count] - lengths[start + period] - cost

    candidates = []
    for first, last, period, most in _periodic(lines):
        count = min((last - first) // period, most)
        candidates.append((saving(last - count * period, period, count), first, last, period, most))
    free = bytearray(b"\x01" * len(lines))
    found = []
    for _, first, last, period, most in sorted(
        (item for item in candidates if item[0] > 0), key=lambda item: (-item[0], item)
    ):
        for start, end in list(_runs(free, 2 * period, first, last)):
            # From the end: what is irregular about a stack of blocks is its beginning.
            while end - start >= 2 * period:
                count = min((end - start) // period, most)
                begin = end - count * period
                if saving(begin, period, count) > 0:
                    found.append((begin, period, count))
                    free[begin:end] = bytes(end - begin)
                end = begin
    return sorted(found)


def _periodic(lines: list[_Line]) -> Iterator[tuple[int, int, int, int]]:
    """(first, last + 1, period, most): stretches in which each line is like the one ``period`` lines before it.

    Two blocks of such lines always have steps between them; ``most`` is 2 unless the steps stay the same.
    """
    kinds: dict[tuple[object, ...], int] = {}
    kind = [kinds.setdefault((line.pieces, line.steps), len(kinds)) for line in lines]
    # All integers of a line as one, so that the steps from one line to another are one subtraction.
    packed = [sum(value << (_FIELD_BITS * at) for at, value in enumerate(line.integers)) for line in lines]
    whole: list[tuple[int, int, int]] = []

    def known(first: int, last: int, period: int) -> bool:
        """Whether a shorter block already says the same, as it does for its multiples."""
        return any(start <= first and last <= end and period % length == 0 for start, end, length in whole)

    for period in range(1, min(len(lines) // 2, _LONGEST_BLOCK) + 1):
        alike = bytes(map(eq, kind, kind[period:]))
        stretches = list(_runs(alike, period))
        if not stretches:
            continue
        step = list(map(sub, packed[period:], packed))
        steady = bytes(map(eq, step, step[period:]))
        for start, end in stretches:
            found = [(first, last + 2 * period) for first, last in _runs(steady, period, start, end - period)]
            for first, last in (stretch for stretch in found if not known(*stretch, period)):
                whole.append((first, last, period))
                yield first, last, period, len(lines)
            if not known(start, end + period, period):
                yield start, end + period, period, 2


def _runs(flags: bytes | bytearray, least: int, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of every stretch of ones between ``start`` and ``end`` that is at least ``least`` long."""
    stop = len(flags) if end is None else end
    wanted = b"\x01" * least
    first = flags.find(wanted, start, stop)
    while first >= 0:
        last = flags.find(b"\x00", first + least, stop)
        last = stop if last < 0 else last
        yield first, last
        first = flags.find(wanted, last, stop)


def _written(nodes: list[_Line | _Repeat[_Line]], indent: str) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, _Repeat):
            yield f"{indent}repeat {node.count}:"
            yield from _written(node.body, indent + "  ")
        else:
            text = _text(node)
            yield f"{indent}\\{text}" if not text or text.startswith((" ", "\\", "repeat ")) else indent + text


def _text(line: _Line) -> str:
    """The line as it stands in the folded text."""
    text = ""
    for at, piece in enumerate(line.pieces):
        closes = at > 0 and line.pieces[at - 1] is None
        text += ".." if piece is None else "}" * closes + piece.replace("{", "{{")
        if at < len(line.integers):
            steps = [step[at] for step in line.steps]
            in_range = piece is None or line.pieces[at + 1] is None
            number = str(line.integers[at]) + "".join(f"{step:+d}" for step in steps if any(steps))
            text += ("{" if piece is not None and (in_range or any(steps)) else "") + number
            text += "}" if any(steps) and not in_range else ""
    return text


# --- unfolding ------------------------------------------------------------------------------------------------------


def _parsed(lines: Sequence[str], first: int) -> list[_Template | _Repeat[_Template]]:
    root: list[_Template | _Repeat[_Template]] = []
    bodies = [root]
    for number, line in enumerate(lines, first):
        content = line.lstrip(" ")
        depth, odd = divmod(len(line) - len(content), 2)
        if not content or odd or depth >= len(bodies) or not all(bodies[depth + 1 :]):
            raise FormatError(f"line {number}: '{line[:60]}' is empty, or not indented as its place needs")
        del bodies[depth + 1 :]
        repeat = _REPEAT.fullmatch(content)
        if repeat:
            body: list[_Template | _Repeat[_Template]] = []
            bodies[depth].append(_Repeat(int(repeat[1]), body))
            bodies.append(body)
        elif content.startswith("repeat "):
            raise FormatError(f"line {number}: '{content[:60]}' is not like 'repeat 12:'")
        else:
            text = content.removeprefix("\\")
            bodies[depth].append(_Template(number, tuple(_word(word, depth, number) for word in text.split(" "))))
        if len(bodies) > MAX_DEPTH + 1:
            raise FormatError(f"line {number}: more than {MAX_DEPTH} repeats inside of each other")
    if not all(bodies[1:]):
        raise FormatError(f"the text ends after line {first + len(lines) - 1}, a repeat of nothing")
    return root


def _word(text: str, depth: int, line: int) -> _Word:
    """A word of a template inside of ``depth`` repeats."""
    before: list[str | _Number] = []
    after: list[str | _Number] = []
    ends: tuple[_Number, _Number] | None = None
    position = 0
    for marker in (*_MARKER.finditer(text), None):
        plain = text[position : marker.start() if marker else None]
        parts = before if ends is None else after
        if "{" in plain:
            raise FormatError(f"line {line}: '{text[:60]}': a brace is not a number with steps like {{5+2}}")
        parts.append(plain)
        if marker is None:
            break
        position = marker.end()
        if marker["first"] is None:
            parts.append("{")
            continue
        number = _number(marker["first"], depth, line)
        if marker["last"] is None:
            parts.append(number)
        elif ends is None:
            ends = (number, _number(marker["last"], depth, line))
        else:
            raise FormatError(f"line {line}: '{text[:60]}' has two ranges in one word")
    return tuple(before), ends, tuple(after)


def _number(text: str, depth: int, line: int) -> _Number:
    value, *steps = re.findall("[+-]?[0-9]+", text)
    if len(steps) not in (0, depth):
        raise FormatError(f"line {line}: '{text}' has {len(steps)} steps inside of {depth} repeats")
    return (int(value), *map(int, steps))


def _unfolded(nodes: list[_Template | _Repeat[_Template]], times: tuple[int, ...]) -> Iterator[tuple[_Template, str]]:
    """Every line with its template; ``times`` are the repetitions that came before, of the outermost repeat first."""
    for node in nodes:
        if isinstance(node, _Repeat):
            for time in range(node.count):
                yield from _unfolded(node.body, (*times, time))
        else:
            yield node, _filled(node, times)


def _filled(template: _Template, times: tuple[int, ...]) -> str:
    def value(number: _Number) -> int:
        result = number[0] + sum(map(mul, number[1:], times))
        if result < 0:
            raise FormatError(f"line {template.number}: a step leads below zero, to {result}")
        return result

    def joined(parts: _Parts) -> str:
        return "".join(part if isinstance(part, str) else str(value(part)) for part in parts)

    words = []
    size = 0
    for before, ends, after in template.words:
        if ends is None:
            words.append(joined(before))
            continue
        first, last = (value(number) for number in ends)
        start, end = joined(before), joined(after)
        size += max(0, last - first + 1) * (len(start) + len(end) + 16)
        if last < first or size > MAX_SIZE:
            raise FormatError(f"line {template.number}: the range {first}..{last} is empty or too long")
        words += [f"{start}{number}{end}" for number in range(first, last + 1)]
    return " ".join(words)
