"""Where the stages of a graph stand on paper. Lengths are in points, x to the right and y downwards.

Modalities are lanes, one below the other; the program runs from left to right in columns. The width of a bar is in
proportion to its stage's MACs, and all bars are equally high. A stage that takes in several lanes begins with a line
across them, so that a merge is seen as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mmworkload.reporting.stage_graph import Node, StageGraph
from mmworkload.reporting.text_width import shorten, text_width
from mmworkload.reporting.units import share, si

FONT, SMALL = 7.0, 6.2
LINE = 7.8
BAR = 12.0
# The widest bar, and what is left of one without MACs.
WIDEST, THINNEST = 62.0, 1.6
_WIDEST_TEXT = 78.0
_ABOVE_BAR = 10.5
_BETWEEN_ROWS = 5.0


@dataclass(frozen=True)
class Text:
    """A line of text whose baseline begins at (x, y)."""

    text: str
    x: float
    y: float
    size: float = SMALL
    bold: bool = False

    def covers(self, other: Text) -> bool:
        """Whether the two need the same room."""
        first, second = self._room, other._room
        return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]

    @property
    def _room(self) -> tuple[float, float, float, float]:
        """The left, upper, right and lower edge: letters rise by 0.72 of their size and hang by 0.2."""
        width = text_width(self.text, self.size, bold=self.bold)
        return self.x, self.y - 0.72 * self.size, self.x + width, self.y + 0.2 * self.size


@dataclass(frozen=True)
class Box:
    """A node in its place: a bar of width ``width`` around ``y``, or for an input lines of text around ``y``.

    ``name`` and ``lines`` are as they fit. ``spine``: from where to where the line of a merge goes; it begins and ends
    at ``y`` for a node that does not merge.
    """

    node: Node
    column: int
    y: float
    name: str
    lines: tuple[str, ...]
    spine: tuple[float, float]
    x: float = 0.0
    width: float = 0.0

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def merges(self) -> bool:
        return self.spine[0] < self.spine[1]

    @property
    def above(self) -> float:
        """The upper edge, text included."""
        text = self._half_input if self.node.is_input else BAR / 2 + _ABOVE_BAR
        return min(self.y - text, self.spine[0] - BAR / 2)

    @property
    def below(self) -> float:
        """The lower edge, text included."""
        text = self._half_input if self.node.is_input else BAR / 2 + len(self.lines) * LINE + 2
        return max(self.y + text, self.spine[1] + BAR / 2)

    @property
    def _half_input(self) -> float:
        return (1 + len(self.lines)) * LINE / 2 + 1

    @property
    def indent(self) -> float:
        """How far the text keeps from ``x``: off the line of a merge."""
        return 2 * THINNEST if self.merges else 0.0

    @property
    def text_width(self) -> float:
        lines = [text_width(line, SMALL) for line in self.lines]
        return self.indent + max(text_width(self.name, FONT, bold=True), *lines)

    @property
    def texts(self) -> tuple[Text, ...]:
        """The name and the lines, in their places."""
        x = self.x + self.indent
        if self.node.is_input:
            first = self.y - self._half_input + FONT + 0.6
            name, below = Text(self.name, x, first, FONT, bold=True), first
        else:
            name, below = Text(self.name, x, self.y - BAR / 2 - 3.2, FONT, bold=True), self.y + BAR / 2 - 0.8
        return name, *(Text(line, x, below + (index + 1) * LINE) for index, line in enumerate(self.lines))

    def moved(self, down: float) -> Box:
        return replace(self, y=self.y + down, spine=(self.spine[0] + down, self.spine[1] + down))


@dataclass(frozen=True)
class Placed:
    """Boxes by key, with x and y; lanes as (y, height); columns as (begin, end); ``scale`` is the width of one MAC."""

    boxes: dict[str, Box]
    lanes: dict[str, tuple[float, float]]
    scale: float


def place(stages: StageGraph) -> Placed:
    """Every node in its column and at its height; the columns still lie upon each other (x is 0)."""
    total = sum(node.macs for node in stages.nodes)
    most = max((node.macs for node in stages.nodes), default=0)
    scale = WIDEST / most if most else 0.0
    least = {node.key: 0 if node.is_input else 1 for node in stages.nodes}
    near = True
    while True:
        columns = _columns(stages, least, near=near)
        sized = {node.key: _box(node, columns[node.key], total, scale) for node in stages.nodes}
        boxes, lanes = _in_lanes(stages, sized)
        clash = _join(stages, sized, boxes, max((y + height for y, height in lanes.values()), default=0.0))
        if clash is None:
            return Placed(boxes, lanes, scale)
        # A merge that would cover another lane's stage goes behind it, which must then not move on with it.
        least[clash] = columns[clash] + 1
        near = False


def _columns(stages: StageGraph, least: dict[str, int], *, near: bool) -> dict[str, int]:
    """The column of each node: behind every earlier node from which something comes, straight or through others (not
    through others only where things run in circles); and when ``near``, next to what follows, so that encoders stand
    in one column with pre-processing or without."""
    order = [node.key for node in stages.nodes]
    onward: dict[str, set[str]] = {key: set() for key in order}
    for link in stages.links:
        if link.bytes is not None:
            onward[link.source].add(link.target)
        if link.back_bytes is not None:
            onward[link.target].add(link.source)
    after = {key: _reached(onward, key) for key in order}
    linked = {(link.source, link.target) for link in stages.links}

    def follows(key: str, other: str) -> bool:
        return (other, key) in linked or (key in after[other] and other not in after[key])

    columns = dict(least)
    for index, key in enumerate(order):
        before = [columns[other] + 1 for other in order[:index] if follows(key, other)]
        columns[key] = max([columns[key], *before])
    for index in reversed(range(len(order))):
        key = order[index]
        behind = [columns[other] - 1 for other in order[index + 1 :] if follows(other, key)]
        if near and least[key] and behind:
            columns[key] = max(columns[key], min(behind))
    return columns


def _reached(onward: dict[str, set[str]], start: str) -> set[str]:
    """Every node to which something comes from ``start``."""
    found: set[str] = set()
    todo = [start]
    while todo:
        for key in onward[todo.pop()] - found:
            found.add(key)
            todo.append(key)
    return found


def _box(node: Node, column: int, total: int, scale: float) -> Box:
    if node.is_input:
        shapes = node.shapes if len(node.shapes) <= 3 else (*node.shapes[:2], f"{len(node.shapes) - 2} more")
        lines: tuple[str, ...] = (*shapes, si(node.bytes, "B"))
    else:
        lines = (si(node.macs, "MAC"), f"{si(node.params)} params", share(node.macs / total if total else None))
    name = shorten(node.name, _WIDEST_TEXT, FONT, bold=True)
    lines = tuple(shorten(line, _WIDEST_TEXT, SMALL) for line in lines)
    box = Box(node, column, 0.0, name, lines, (0.0, 0.0))
    return replace(box, width=box.text_width if node.is_input else max(THINNEST, node.macs * scale))


def _in_lanes(stages: StageGraph, sized: dict[str, Box]) -> tuple[dict[str, Box], dict[str, tuple[float, float]]]:
    """The nodes of one modality, and where each lane lies. What is alone in its column is on the lane's line."""
    boxes: dict[str, Box] = {}
    lanes: dict[str, tuple[float, float]] = {}
    y = 0.0
    for lane in stages.lanes:
        columns: dict[int, list[Box]] = {}
        for box in sized.values():
            if box.node.lane == lane:
                columns.setdefault(box.column, []).append(box)
        stacks = [_stacked(members) for members in columns.values()]
        # All stacks are centred where a single box has its line.
        top = min(stack[0].above for stack in stacks)
        height = max(stack[-1].below for stack in stacks) - top
        boxes |= {box.node.key: box.moved(y - top) for stack in stacks for box in stack}
        lanes[lane] = (y, height)
        y += height + _BETWEEN_ROWS
    return boxes, lanes


def _join(stages: StageGraph, sized: dict[str, Box], boxes: dict[str, Box], bottom: float) -> str | None:
    """Adds the nodes of no lane to ``boxes``, each beside those before it; the key of one that covers a lane's node."""
    for column in sorted({box.column for box in sized.values()}):
        joining = []
        for key, box in sized.items():
            if box.column == column and key not in boxes:
                heights = _heights(stages, boxes, key, column)
                spine = (min(heights), max(heights)) if heights else (bottom + BAR + _ABOVE_BAR,) * 2
                middle = sum(spine) / 2
                joining.append(replace(box, y=middle, spine=(middle, middle) if box.node.is_input else spine))
        if _overlap(joining):
            single = [replace(box, spine=(box.y, box.y)) for box in joining]
            joining = _stacked(sorted(single, key=lambda box: box.y))
            joining = [box.moved(max(0.0, -joining[0].above)) for box in joining]
        for box in joining:
            beside = [other for other in boxes.values() if other.column == column and not other.node.is_input]
            if not box.node.is_input and any(_overlap([box, other]) for other in beside):
                return box.node.key
        boxes |= {box.node.key: box for box in joining}
    return None


def _heights(stages: StageGraph, boxes: dict[str, Box], key: str, column: int) -> list[float]:
    """The heights from which something comes in a straight line; if nothing does so, those of all that come before."""
    before = [boxes[link.source] for link in stages.links if link.target == key]
    straight = [box.y for box in before if is_clear(box, column, boxes.values())]
    return straight or [box.y for box in before]


def is_clear(source: Box, column: int, boxes: Iterable[Box]) -> bool:
    """Whether no box stands in the way from ``source`` to ``column``, at the height of ``source``."""
    between = [box for box in boxes if source.column < box.column < column]
    return not any(box.above <= source.y <= box.below for box in between)


def _overlap(boxes: Sequence[Box]) -> bool:
    """Whether any two boxes cover the same height."""
    return any(
        first.above < second.below and second.above < first.below
        for index, first in enumerate(boxes)
        for second in boxes[index + 1 :]
    )


def _stacked(boxes: Sequence[Box]) -> list[Box]:
    """The boxes one below the other, on average where they were."""
    placed: list[Box] = []
    for box in boxes:
        down = placed[-1].below + _BETWEEN_ROWS - box.above if placed else 0.0
        placed.append(box.moved(max(0.0, down)))
    shift = sum(before.y - after.y for before, after in zip(boxes, placed, strict=True)) / len(boxes)
    return [box.moved(shift) for box in placed]
