"""Where the stages of a graph stand on paper. Lengths are in points, x to the right and y downwards.

Modalities are lanes, one below the other; the program runs from left to right in columns. The width of a bar is in
proportion to its stage's MACs. A stage that takes in several lanes is as high as they are apart, so that a merge is
seen as one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mmworkload.reporting.stage_graph import Link, Node, StageGraph
from mmworkload.reporting.text_width import shorten, text_width
from mmworkload.reporting.units import share, si

FONT, SMALL = 7.0, 6.2
LINE = 7.8
BAR = 12.0
MARGIN = 3.0
ARROW = 5.0
# The widest bar, what is left of one without MACs, and the widest text.
WIDEST, THINNEST = 62.0, 1.6
_WIDEST_TEXT = 78.0
_NAME = 9.5
_BETWEEN_ROWS = 5.0
_GAP = 9.0
_TRUNK = 3.5
# Two wires that end at one bar, or run to and fro between two.
_APART = 6.0


@dataclass(frozen=True)
class Label:
    """A text whose baseline begins at (x, y), or ends there when ``end``."""

    text: str
    x: float
    y: float
    end: bool = False


@dataclass(frozen=True)
class Box:
    """A node: its bar, or for an input only its lines of text. ``y`` is the middle, ``top`` and ``bottom`` are the
    bar's; ``name`` and ``lines`` are as they fit."""

    node: Node
    column: int
    y: float
    top: float
    bottom: float
    name: str
    lines: tuple[str, ...]
    x: float = 0.0
    width: float = 0.0

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def above(self) -> float:
        """The upper edge, text included."""
        return self.top - (_GAP_OF_INPUT if self.node.is_input else _NAME)

    @property
    def below(self) -> float:
        """The lower edge, text included."""
        return self.bottom + (_GAP_OF_INPUT if self.node.is_input else len(self.lines) * LINE + 2)

    @property
    def text_width(self) -> float:
        return max(text_width(self.name, FONT, bold=True), *(text_width(line, SMALL) for line in self.lines), 0.0)


_GAP_OF_INPUT = 1.0


@dataclass(frozen=True)
class Wire:
    """What passes from ``source``: an SVG path, arrow heads as (x of the tip, y, whether to the right), labels."""

    source: Node
    path: str
    heads: tuple[tuple[float, float, bool], ...]
    tooltip: str
    labels: tuple[Label, ...] = ()


@dataclass(frozen=True)
class Layout:
    """All that is drawn, in an area of ``width`` by ``height``.

    ``lanes``: modality to (y, height), all of them ``lanes_width`` wide. ``dots`` are where wires join. ``scale`` is
    the width of one MAC.
    """

    width: float
    height: float
    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]
    dots: tuple[tuple[float, float], ...]
    lanes: dict[str, tuple[float, float]]
    lanes_width: float
    scale: float


def lay_out(stages: StageGraph) -> Layout:
    """Places everything. Equal arguments give equal places."""
    total = sum(node.macs for node in stages.nodes)
    most = max((node.macs for node in stages.nodes), default=0)
    scale = WIDEST / most if most else 0.0
    boxes, bands = _rows(stages, total)
    return _Columns(stages, boxes, bands, scale).layout()


# --- rows ---------------------------------------------------------------------------------------------------------


def _rows(stages: StageGraph, total: int) -> tuple[dict[str, Box], dict[str, tuple[float, float]]]:
    """Boxes with their column and their y, and the lanes' (y, height)."""
    least = {node.key: 0 if node.is_input else 1 for node in stages.nodes}
    while True:
        columns = _ranks(stages, least)
        boxes, bands = _in_lanes(stages, columns, total)
        clash = _join(stages, columns, boxes, bands, total)
        if clash is None:
            return boxes, bands
        # A merge that would cover another lane's stage goes behind it.
        least[clash] = columns[clash] + 1


def _ranks(stages: StageGraph, least: dict[str, int]) -> dict[str, int]:
    """The column of each node: behind all that it has a link with and that come before it in the program."""
    columns = dict(least)
    for node in stages.nodes:
        before = [columns[link.source] + 1 for link in stages.links if link.target == node.key]
        columns[node.key] = max([columns[node.key], *before])
    return columns


def _in_lanes(
    stages: StageGraph, columns: dict[str, int], total: int
) -> tuple[dict[str, Box], dict[str, tuple[float, float]]]:
    boxes: dict[str, Box] = {}
    bands: dict[str, tuple[float, float]] = {}
    y = 0.0
    for lane in stages.lanes:
        members: dict[int, list[Node]] = {}
        for node in stages.nodes:
            if node.lane == lane:
                members.setdefault(columns[node.key], []).append(node)
        stacks = {column: _stack([_box(node, column, 0.0, total) for node in nodes]) for column, nodes in members.items()}
        height = max(stack[-1].below - stack[0].above for stack in stacks.values())
        for stack in stacks.values():
            down = y + (height - (stack[-1].below - stack[0].above)) / 2 - stack[0].above
            boxes |= {box.node.key: _moved(box, down) for box in stack}
        _level(stacks, boxes)
        bands[lane] = (y, height)
        y += height + _BETWEEN_ROWS
    return boxes, bands


def _level(stacks: dict[int, list[Box]], boxes: dict[str, Box]) -> None:
    """Puts everything that is alone in its column of a lane on one line, the bars' one."""
    alone = [boxes[stack[0].node.key] for stack in stacks.values() if len(stack) == 1]
    lines = [box.y for box in alone if not box.node.is_input]
    if lines:
        for box in alone:
            boxes[box.node.key] = _moved(box, lines[0] - box.y)


def _join(
    stages: StageGraph,
    columns: dict[str, int],
    boxes: dict[str, Box],
    bands: dict[str, tuple[float, float]],
    total: int,
) -> str | None:
    """Adds the nodes of no lane, each beside those before it; the key of one that would cover a lane's node."""
    bottom = max((y + height for y, height in bands.values()), default=0.0)
    for column in sorted(set(columns.values())):
        joining = []
        for node in stages.nodes:
            if columns[node.key] == column and node.key not in boxes:
                before = [boxes[link.source].y for link in stages.links if link.target == node.key]
                ends = (min(before), max(before)) if before else (bottom + LINE, bottom + LINE)
                joining.append((_box(node, column, sum(ends) / 2, total), ends))
        high = [_spanning(box, *ends) for box, ends in joining]
        if _overlap(high):
            high = _stack(sorted((box for box, _ in joining), key=lambda box: box.y))
        for box in high:
            others = [other for other in boxes.values() if other.column == column and not other.node.is_input]
            if not box.node.is_input and _overlap([box, *others], only=box):
                return box.node.key
        boxes |= {box.node.key: box for box in high}
    return None


def _box(node: Node, column: int, y: float, total: int) -> Box:
    """The box of its least height around ``y``."""
    if node.is_input:
        shapes = node.shapes if len(node.shapes) <= 3 else (*node.shapes[:2], f"{len(node.shapes) - 2} more")
        lines: tuple[str, ...] = (*shapes, si(node.bytes, "B"))
        half = (1 + len(lines)) * LINE / 2
    else:
        part = share(node.macs / total if total else None)
        lines = (si(node.macs, "MAC"), f"{si(node.params)} params", part)
        half = BAR / 2
    name = shorten(node.name, _WIDEST_TEXT, FONT, bold=True)
    lines = tuple(shorten(line, _WIDEST_TEXT, SMALL) for line in lines)
    return Box(node, column, y, y - half, y + half, name, lines)


def _spanning(box: Box, first: float, last: float) -> Box:
    """The box as high as the lines that come in are apart."""
    half = BAR / 2
    return replace(box, top=first - half, bottom=last + half) if last > first and not box.node.is_input else box


def _moved(box: Box, down: float) -> Box:
    return replace(box, y=box.y + down, top=box.top + down, bottom=box.bottom + down)


def _overlap(boxes: list[Box], only: Box | None = None) -> bool:
    """Whether any two boxes, or ``only`` and another one, cover the same height."""
    return any(
        first.above < second.below and second.above < first.below
        for index, first in enumerate(boxes)
        for second in boxes[index + 1 :]
        if only is None or only in (first, second)
    )


def _stack(boxes: list[Box]) -> list[Box]:
    """The boxes one below the other, on average where they wanted to be."""
    placed: list[Box] = []
    for box in boxes:
        above = placed[-1].below + _BETWEEN_ROWS if placed else box.above
        placed.append(_moved(box, max(0.0, above - box.above)))
    shift = sum(before.y - after.y for before, after in zip(boxes, placed, strict=True)) / max(1, len(boxes))
    return [_moved(box, shift) for box in placed]


# --- columns and wires --------------------------------------------------------------------------------------------


class _Columns:
    """Gives boxes their x and draws the wires in the gaps between columns and in the channel below the lanes."""

    def __init__(
        self, stages: StageGraph, boxes: dict[str, Box], bands: dict[str, tuple[float, float]], scale: float
    ) -> None:
        self.scale = scale
        self.links = stages.links
        self.last = max((box.column for box in boxes.values()), default=0)
        self.bands = bands
        self.boxes = {key: replace(box, width=self._bar(box)) for key, box in boxes.items()}
        # Links that would run through a box take the channel, all to one target together.
        self.around: dict[str, list[Link]] = {}
        self.direct: list[Link] = []
        for link in self.links:
            if self._blocked(link):
                self.around.setdefault(link.target, []).append(link)
            else:
                self.direct.append(link)

    def _bar(self, box: Box) -> float:
        if box.node.is_input:
            return box.text_width
        return max(THINNEST, box.node.macs * self.scale)

    def _blocked(self, link: Link) -> bool:
        source, target = self.boxes[link.source], self.boxes[link.target]
        between = [box for box in self.boxes.values() if source.column < box.column < target.column]
        level = target.top <= source.y <= target.bottom
        clear = not any(box.above <= source.y <= box.below for box in between)
        return target.column > source.column + 1 and not (level and clear)

    def layout(self) -> Layout:
        self._place()
        wires = [*self._direct_wires(), *self._outputs()]
        dots: list[tuple[float, float]] = []
        bottom = max((box.below for box in self.boxes.values()), default=0.0)
        for target, links in self.around.items():
            bottom += SMALL + 4
            wires.append(self._channel_wire(target, links, bottom, dots))
        in_lanes = [self.ends[box.column] for box in self.boxes.values() if box.node.lane]
        return Layout(
            width=max([0.0, *self.ends.values()]) + self.room_for_output,
            height=bottom + MARGIN,
            boxes=tuple(self.boxes.values()),
            wires=tuple(wires),
            dots=tuple(dots),
            lanes=self.bands,
            lanes_width=max(in_lanes, default=0.0),
            scale=self.scale,
        )

    # What a wire carries is written at its source, or at its target where several begin at one place.

    def _labelled(self, link: Link) -> bool:
        """An input's bytes are written beside it."""
        return not self.boxes[link.source].node.is_input

    def _at_target(self, link: Link) -> bool:
        return sum(other.source == link.source for other in self.direct) > 1

    def _place(self) -> None:
        """The x of every box, and where each column begins and ends."""
        columns = range(self.last + 1)
        members = {index: [box for box in self.boxes.values() if box.column == index] for index in columns}
        self.begins: dict[int, float] = {}
        self.ends: dict[int, float] = {}
        self.leaving = {index: self._trunks(index, leaving=True) for index in columns}
        self.arriving = {index: self._trunks(index, leaving=False) for index in columns}
        x = 0.0
        for index in columns:
            self.begins[index] = x
            self.ends[index] = x + max((max(box.width, box.text_width) for box in members[index]), default=0.0)
            x = self.ends[index] + self._gap(index)
        for key, box in self.boxes.items():
            self.boxes[key] = replace(box, x=self.begins[box.column])
        self.room_for_output = ARROW + 6 if any(box.node.output for box in members.get(self.last, ())) else 0.0

    def _trunks(self, column: int, *, leaving: bool) -> list[str]:
        """The targets of the channel wires that leave or reach a column, each of which needs a vertical line there."""
        if not leaving:
            return [target for target in self.around if self.boxes[target].column == column]
        return [
            target
            for target, links in self.around.items()
            if any(self.boxes[link.source].column == column for link in links)
        ]

    def _gap(self, column: int) -> float:
        here = [
            text_width(text, SMALL) + 2
            for link in self.direct
            if self._labelled(link)
            and (
                self.boxes[link.target].column == column + 1
                if self._at_target(link)
                else self.boxes[link.source].column == column
            )
            for text in _texts(link)
        ]
        trunks = len(self.leaving[column]) + len(self.arriving.get(column + 1, ()))
        return max(_GAP, max(here, default=0.0) + ARROW) + trunks * _TRUNK

    def _direct_wires(self) -> list[Wire]:
        return [self._direct_wire(link) for link in self.direct]

    def _direct_wire(self, link: Link) -> Wire:
        source, target = self.boxes[link.source], self.boxes[link.target]
        y1 = target.y if source.top + BAR / 2 <= target.y <= source.bottom - BAR / 2 else source.y
        y2 = self._entry(link)
        both = link.bytes is not None and link.back_bytes is not None
        begin, end = self.ends[source.column] if source.node.is_input else source.right, target.x
        paths, heads, labels = [], [], []
        for text, forward, shift in zip(_texts(link), _directions(link), (-1, 1) if both else (0,), strict=True):
            a, b = y1 + shift * _APART / 2, y2 + shift * _APART / 2
            paths.append(self._path(begin, a, end, b, source, target, forward))
            heads.append((end, b, True) if forward else (begin, a, False))
            if self._labelled(link):
                # Above the line, or below it where it is the lower one of two.
                down = SMALL - 0.6 if shift > 0 else -1.6
                if self._at_target(link):
                    labels.append(Label(text, end - ARROW - 1, b + down, end=True))
                else:
                    left = self.ends[source.column] + len(self.leaving[source.column]) * _TRUNK + 2
                    labels.append(Label(text, left + (ARROW if both else 0.0), a + down))
        return Wire(source.node, " ".join(paths), tuple(heads), _tooltip([link]), tuple(labels))

    def _path(self, x1: float, y1: float, x2: float, y2: float, source: Box, target: Box, forward: bool) -> str:
        """Level as far as the columns reach, and where the ends differ in height an S in the gap before the target."""
        x1, x2 = (x1, x2 - ARROW) if forward else (x1 + ARROW, x2)
        if abs(y1 - y2) < 0.05:
            return f"M{point(x1, y1)} H{number(x2)}"
        left = max(x1, self.ends[target.column - 1])
        middle = (left + x2) / 2
        return f"M{point(x1, y1)} H{number(left)} C{point(middle, y1)} {point(middle, y2)} {point(x2, y2)}"

    def _entry(self, link: Link) -> float:
        """Where on the target's left side a wire ends: at its own height if the bar is there, else side by side."""
        target = self.boxes[link.target]
        source = self.boxes[link.source]
        if target.bottom - target.top > BAR:
            return min(max(source.y, target.top + BAR / 2), target.bottom - BAR / 2)
        others = sorted(
            (other for other in self.direct if other.target == link.target), key=lambda item: self.boxes[item.source].y
        )
        count = len(others) + (link.target in self.around)
        return target.y + (others.index(link) - (count - 1) / 2) * min(_APART, BAR / count)

    def _channel_wire(self, target: str, links: list[Link], y: float, dots: list[tuple[float, float]]) -> Wire:
        """From the right ends of all sources down into the channel, along it, and up to the target."""
        box = self.boxes[target]
        count = 1 + sum(link.target == target for link in self.direct)
        if box.bottom - box.top > BAR:
            entry = box.bottom - BAR / 4
        else:
            entry = box.y + (count - 1) / 2 * min(_APART, BAR / count)
        up = box.x - ARROW - (1 + self.arriving[box.column].index(target)) * _TRUNK
        paths, heads, downs = [], [(box.x, entry, True)], []
        for link in links:
            source = self.boxes[link.source]
            used = any(other.source == link.source for other in self.direct)
            leave = source.y + (_APART / 2 if used else 0.0)
            down = self.ends[source.column] + (1 + self.leaving[source.column].index(target)) * _TRUNK
            x = source.right
            if link.back_bytes is not None:
                heads.append((x, leave, False))
                x += ARROW
            paths.append(f"M{point(x, leave)} H{number(down)} V{number(y)}")
            if len(links) > 1:
                dots.append((down, leave))
            downs.append(down)
        paths.append(f"M{point(min(downs), y)} H{number(up)} V{number(entry)} H{number(box.x - ARROW)}")
        passed, back = (
            [size for size in sizes if size is not None]
            for sizes in ([link.bytes for link in links], [link.back_bytes for link in links])
        )
        text = " and ".join(si(sum(sizes), "B") + word for sizes, word in ((passed, ""), (back, " back")) if sizes)
        label = Label(text, max(downs) + 3, y - 1.6)
        return Wire(self.boxes[links[0].source].node, " ".join(paths), tuple(heads), _tooltip(links), (label,))

    def _outputs(self) -> list[Wire]:
        """An arrow out of the picture from whatever nothing else follows."""
        sources = {link.source for link in self.links}
        wires = []
        for key, box in self.boxes.items():
            if box.node.output and key not in sources:
                end = max(self.ends[box.column], box.right) + ARROW + 6
                path = f"M{point(box.right, box.y)} H{number(end - ARROW)}"
                wires.append(Wire(box.node, path, ((end, box.y, True),), f"output of {box.node.name}"))
        return wires


def _texts(link: Link) -> list[str]:
    """Bytes on, bytes back; what passes no bytes is a mere dependence and has an empty text."""
    return [si(size, "B") if size else "" for size in (link.bytes, link.back_bytes) if size is not None]


def _directions(link: Link) -> list[bool]:
    """For each of :func:`_texts`, whether it goes on from the source."""
    return [forward for size, forward in ((link.bytes, True), (link.back_bytes, False)) if size is not None]


def _tooltip(links: Iterable[Link]) -> str:
    parts = []
    for link in links:
        if link.bytes is not None:
            parts.append(f"{link.source} to {link.target}: {link.bytes:,} bytes")
        if link.back_bytes is not None:
            parts.append(f"{link.target} to {link.source}: {link.back_bytes:,} bytes")
    return "; ".join(parts)


def number(value: float) -> str:
    """At most two decimals, none where there is nothing behind the point."""
    # Adding zero turns a negative zero into zero.
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")


def point(x: float, y: float) -> str:
    return f"{number(x)} {number(y)}"
