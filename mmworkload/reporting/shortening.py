"""Names in less room than they need: the middle goes, and names that differ stay different."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile

from mmworkload.visible import visible

_MARK = "…"


def middle(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters: the beginning and the end stay, as they tell most names apart."""
    text = visible(text)
    if len(text) <= width:
        return text
    if width < 3:
        return text[:width]
    return _ends(text, width, _usual_tail(width))


def shortened(names: Sequence[str], width: int) -> dict[str, str]:
    """Each of ``names`` in at most ``width`` characters, different names differently.

    As :func:`middle` has them, where that is enough. Names that it makes alike show where they differ, and a number
    where there is no room for that.
    """
    shown = {name: middle(name, width) for name in names}
    for alike in _alike(shown):
        shown.update(_told_apart(alike, width, set(shown.values())))
    for alike in _alike(shown):
        taken = set(shown.values())
        for name in alike[1:]:
            shown[name] = _numbered(visible(name), width, taken)
            taken.add(shown[name])
    return shown


def _alike(shown: dict[str, str]) -> list[list[str]]:
    """The groups of names that are shown as one text."""
    groups: dict[str, list[str]] = {}
    for name, text in shown.items():
        groups.setdefault(text, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _told_apart(names: list[str], width: int, taken: set[str]) -> dict[str, str]:
    """``names`` with what tells them apart in view, as far as there is room."""
    texts = [visible(name) for name in names]
    for shorten in _ways(texts, width):
        tried = [shorten(text) for text in texts]
        if len({*tried}) == len(tried) and not taken.intersection(tried):
            return dict(zip(names, tried, strict=True))
    first = sum(1 for _ in takewhile(lambda letters: len({*letters}) == 1, zip(*texts, strict=False)))
    shown = {name: _around(text, first, width) for name, text in zip(names, texts, strict=True)}
    for alike in _alike(shown):
        if len(alike) < len(names):
            shown.update(_told_apart(alike, width, taken.union(shown.values())))
    return shown


def _ways(texts: list[str], width: int) -> Iterator[Callable[[str], str]]:
    """Ways to shorten: more of one end and less of the other, or the parts between dots that are not all the same."""
    for tail in sorted(range(width - 1), key=lambda tail: abs(tail - _usual_tail(width))):
        yield lambda text, tail=tail: _ends(text, width, tail)  # type: ignore[misc]
    parts = [text.split(".") for text in texts]
    if len({len(item) for item in parts}) == 1:
        differ = [len({*column}) > 1 for column in zip(*parts, strict=True)]
        yield lambda text: _differing(text.split("."), differ, width)


def _usual_tail(width: int) -> int:
    return (width - 1) * 3 // 5


def _ends(text: str, width: int, tail: int) -> str:
    return f"{text[: width - 1 - tail]}{_MARK}{text[len(text) - tail :]}" if len(text) > width else text


def _differing(parts: list[str], differ: list[bool], width: int) -> str:
    """The parts that ``differ``, marks for those between, and of the two ends what there is room for."""
    first, last = differ.index(True), len(differ) - differ[::-1].index(True)
    core = ""
    for index in range(first, last):
        if not differ[index]:
            core += "" if core.endswith(_MARK) else _MARK
        else:
            core += f".{parts[index]}" if index > first and differ[index - 1] else parts[index]
    head, tail = ".".join(parts[:first]), ".".join(parts[last:])
    room = width - len(core) - bool(head) - bool(tail)
    before = min(len(head), max(0, room - len(tail), room // 2))
    after = min(len(tail), max(0, room - before))
    left = f"{head[:before]}{_MARK}" if head else ""
    right = f"{_MARK}{tail[len(tail) - after :]}" if tail else ""
    return f"{left}{core}{right}"[:width]


def _around(text: str, place: int, width: int) -> str:
    """Beginning, end, and what stands at ``place``; at most ``width`` characters."""
    end = width // 4
    core = width - 2 * end - 2
    if core < 1 or len(text) <= width:
        return middle(text, width)
    place = max(end, min(place, len(text) - end - core))
    return f"{text[:end]}{_MARK}{text[place : place + core]}{_MARK}{text[len(text) - end :]}"


def _numbered(text: str, width: int, taken: set[str]) -> str:
    number = 2
    while (found := f"{text[: max(0, width - 1 - len(str(number)))]}{_MARK}{number}") in taken:
        number += 1
    return found
