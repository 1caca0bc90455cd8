"""The wires between the stages of a drawing: straight in the gaps between columns, or round everything else through a
channel below. Lengths are in points, as in :mod:`mmworkload.reporting.stage_layout`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mmworkload.reporting.stage_graph import Link, Node, StageGraph
from mmworkload.reporting.stage_layout import BAR, SMALL, Box, Placed, Text, is_clear
from mmworkload.reporting.text_width import text_width
from mmworkload.reporting.units import si

ARROW = 5.0
_GAP = 9.0
_TRUNK = 3.5
_BEND = 14.0
_OUTPUT = 3 * ARROW
_CHANNEL = SMALL + 4
# Two wires that end at one bar, or run to and fro between two.
_APART = 6.0
# A baseline that is so far from its wire: above, and below.
_UP, _DOWN = -1.6, SMALL - 0.6


@dataclass(frozen=True)
class Wire:
    """What passes from ``source`` (None: from several lanes): an SVG path, and arrow heads as (x of the tip, y, whether
    to the right)."""

    source: Node | None
    path: str
    heads: tuple[tuple[float, float, bool], ...]
    tooltip: str


@dataclass(frozen=True)
class Drawing:
    """All that is drawn, in an area of ``width`` by ``height``. ``lanes`` are as in :class:`Placed` and
    ``lanes_width`` wide; ``dots`` are where wires join."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]
    labels: tuple[Text, ...]
    dots: tuple[tuple[float, float], ...]
    lanes: dict[str, tuple[float, float]]
    lanes_width: float


def draw(stages: StageGraph, placed: Placed) -> Drawing:
    """The columns apart, and every link a wire. Equal arguments give equal drawings."""
    return _Drawer(stages, placed).drawing()


class _Drawer:
    def __init__(self, stages: StageGraph, placed: Placed) -> None:
        self.links = stages.links
        self.lanes = placed.lanes
        self.boxes = dict(placed.boxes)
        # Links that would run through a box take the channel, all to one target together.
        self.around: dict[str, list[Link]] = {}
        self.direct: list[Link] = []
        for link in self.links:
            if self._is_direct(link):
                self.direct.append(link)
            else:
                self.around.setdefault(link.target, []).append(link)
        self.wires: list[Wire] = []
        self.labels: list[Text] = []
        self.dots: list[tuple[float, float]] = []

    def _is_direct(self, link: Link) -> bool:
        source, target = self.boxes[link.source], self.boxes[link.target]
        if target.column == source.column + 1:
            return True
        return target.spine[0] <= source.y <= target.spine[1] and is_clear(source, target.column, self.boxes.values())

    def drawing(self) -> Drawing:
        self._spread()
        for link in self.direct:
            self._direct_wire(link)
        bottom = max((box.below for box in self.boxes.values()), default=0.0)
        for target in self.around:
            bottom += _CHANNEL
            self._channel_wire(target, bottom)
        self._outputs()
        return Drawing(
            width=max([0.0, *self.ends.values(), *(tip for wire in self.wires for tip, _, _ in wire.heads)]),
            height=bottom,
            boxes=tuple(self.boxes.values()),
            wires=tuple(self.wires),
            labels=tuple(self.labels),
            dots=tuple(self.dots),
            lanes=self.lanes,
            lanes_width=max((self.ends[box.column] for box in self.boxes.values() if box.node.lane), default=0.0),
        )

    # --- columns --------------------------------------------------------------------------------------------------

    def _spread(self) -> None:
        """The x of every box, and where each column ends. In a gap there are, from the left: trunks of channel wires
        that leave, labels, trunks of those that arrive, arrow heads."""
        columns = range(1 + max((box.column for box in self.boxes.values()), default=0))
        self.leaving = {index: [key for key in self.around if index in self._sources(key)] for index in columns}
        self.arriving = {index: [key for key in self.around if self.boxes[key].column == index] for index in columns}
        self.ends: dict[int, float] = {}
        x = 0.0
        for index in columns:
            for key, box in self.boxes.items():
                if box.column == index:
                    self.boxes[key] = replace(box, x=x)
            members = [box for box in self.boxes.values() if box.column == index]
            self.ends[index] = x + max((max(box.width, box.text_width) for box in members), default=0.0)
            x = self.ends[index] + self._gap(index)

    def _sources(self, target: str) -> set[int]:
        """The columns that a channel wire comes from."""
        return {self.boxes[link.source].column for link in self.around[target]}

    def _gap(self, column: int) -> float:
        """The room after a column. A label begins behind its source's bar, or behind trunks and bends where there are
        any."""
        leaving, arriving = self._leaving_room(column), _TRUNK * len(self.arriving.get(column + 1, ()))
        here = [link for link in self.direct if self.boxes[link.target].column == column + 1]
        bend = _BEND if any(self._bends(link) for link in here) else 0.0
        ends = [
            (self.ends[column] + leaving + bend if leaving or bend else self.boxes[link.source].right)
            + text_width(text, SMALL)
            + (ARROW if link.back_bytes is not None else 0.0)
            for link in here
            for text, _ in self._passing(link)
            if text
        ]
        return max(_GAP + leaving + bend, max(ends, default=0.0) + ARROW + 5 - self.ends[column]) + arriving

    def _leaving_room(self, column: int) -> float:
        """What the trunks behind a column take, in front of them the heads of arrows that come back."""
        back = any(
            link.back_bytes is not None and self.boxes[link.source].column == column
            for links in self.around.values()
            for link in links
        )
        return len(self.leaving[column]) * _TRUNK + (ARROW if back else 0.0)

    def _bends(self, link: Link) -> bool:
        return abs(self._exit(link) - self._entry(link)) > 0.05

    def _passing(self, link: Link) -> list[tuple[str, bool]]:
        """(bytes, whether onward) for each direction; the bytes of an input are written beside it, and where many wires
        end side by side, their sum at the first of them."""
        onward = link.bytes
        arrivals = self._arrivals(link.target)
        if onward is not None and len(arrivals) > 2 and not self.boxes[link.target].merges:
            onward = sum(other.bytes or 0 for other in arrivals) if link == arrivals[0] else 0
        silent = self.boxes[link.source].node.is_input
        sizes = [(onward, True), (link.back_bytes, False)]
        return [("" if silent or not size else si(size, "B"), ahead) for size, ahead in sizes if size is not None]

    def _arrivals(self, target: str) -> list[Link]:
        """The direct links that end at ``target``, from the uppermost source to the lowest."""
        links = [link for link in self.direct if link.target == target]
        return sorted(links, key=lambda link: self.boxes[link.source].y)

    # --- wires ----------------------------------------------------------------------------------------------------

    def _direct_wire(self, link: Link) -> None:
        source, target = self.boxes[link.source], self.boxes[link.target]
        y1, y2 = self._exit(link), self._entry(link)
        passing = self._passing(link)
        begin = self.ends[source.column] if source.node.is_input else source.right
        paths, heads = [], []
        for index, (text, onward) in enumerate(passing):
            shift = (index - (len(passing) - 1) / 2) * _APART
            a, b = y1 + shift, y2 + shift
            x1, x2 = (begin, target.x - ARROW) if onward else (begin + ARROW, target.x)
            paths.append(self._path(x1, a, x2, b, target.column))
            heads.append((target.x, b, True) if onward else (begin, a, False))
            self._label(text, link, a, b, below=index == 1 or self._last_of_several(link))
        self.wires.append(Wire(source.node, " ".join(paths), tuple(heads), _tooltip([link])))

    def _last_of_several(self, link: Link) -> bool:
        """Whether other wires end above this one at the same bar."""
        arrivals = self._arrivals(link.target)
        return len(arrivals) > 1 and link == arrivals[-1] and not self.boxes[link.target].merges

    def _exit(self, link: Link) -> float:
        source, target = self.boxes[link.source], self.boxes[link.target]
        first, last = target.spine
        return min(max(source.y, first), last) if abs(source.y - target.y) < BAR / 2 else source.y

    def _entry(self, link: Link) -> float:
        """The height at which a wire ends: its source's at a merge, else beside the others that end there."""
        source, target = self.boxes[link.source], self.boxes[link.target]
        if target.merges:
            return min(max(source.y, target.spine[0]), target.spine[1])
        return target.y + self._beside(self._arrivals(link.target).index(link), link.target)

    def _beside(self, index: int, target: str) -> float:
        """How far below the middle of a bar the wire with this number ends; that of the channel is the last."""
        count = len(self._arrivals(target)) + (target in self.around)
        if count == 2 and target in self.around:
            # The only direct wire stays straight.
            return index * BAR / 3
        return (index - (count - 1) / 2) * min(_APART, BAR / count)

    def _path(self, x1: float, y1: float, x2: float, y2: float, column: int) -> str:
        """Level, but for an S right behind the column before ``column`` where the ends differ in height."""
        if abs(y1 - y2) < 0.05:
            return f"M{point(x1, y1)} H{number(x2)}"
        left = max(x1, self.ends[column - 1] + self._leaving_room(column - 1))
        middle, right = left + _BEND / 2, left + _BEND
        curve = f"C{point(middle, y1)} {point(middle, y2)} {point(right, y2)}"
        return f"M{point(x1, y1)} H{number(left)} {curve} H{number(x2)}"

    def _label(self, text: str, link: Link, y1: float, y2: float, *, below: bool) -> None:
        """Writes at the target or at the source, above the wire or below, where nothing is written yet; else nowhere:
        the tooltip still says it."""
        source, target = self.boxes[link.source], self.boxes[link.target]
        right = target.x - len(self.arriving[target.column]) * _TRUNK - ARROW - 1.5 - text_width(text, SMALL)
        left = source.right + self._leaving_room(source.column) + ARROW
        written = [line for box in self.boxes.values() for line in box.texts]
        sides = (_DOWN, _UP) if below else (_UP, _DOWN)
        for x, y in ((right, y2), (left, y1)):
            for side in sides:
                label = Text(text, x, y + side)
                if text and not any(label.covers(other) for other in (*self.labels, *written)):
                    self.labels.append(label)
                    return

    def _channel_wire(self, target: str, y: float) -> None:
        """From the right ends of all sources down into the channel at ``y``, along it, and up to the target."""
        box, links = self.boxes[target], self.around[target]
        last = len(self._arrivals(target))
        entry = box.spine[1] + BAR / 4 if box.merges else box.y + self._beside(last, target)
        up = box.x - ARROW - (1 + self.arriving[box.column].index(target)) * _TRUNK
        paths, heads, downs = [], [(box.x, entry, True)], []
        for link in links:
            source = self.boxes[link.source]
            leave = source.y + self._below_direct(link.source)
            later = len(self.leaving[source.column]) - 1 - self.leaving[source.column].index(target)
            down = self.ends[source.column] + self._leaving_room(source.column) - later * _TRUNK - 1
            begin = source.right
            if link.back_bytes is not None:
                heads.append((begin, leave, False))
                begin += ARROW
            paths.append(f"M{point(begin, leave)} H{number(down)} V{number(y)}")
            if len(links) > 1:
                self.dots.append((down, leave))
            downs.append(down)
        paths.append(f"M{point(min(downs), y)} H{number(up)} V{number(entry)} H{number(box.x - ARROW)}")
        onward = [link.bytes for link in links if link.bytes is not None]
        back = [link.back_bytes for link in links if link.back_bytes is not None]
        text = " and ".join(si(sum(sizes), "B") + word for sizes, word in ((onward, ""), (back, " back")) if sizes)
        last_column = max(self._sources(target))
        behind_trunks = self.ends[last_column] + self._leaving_room(last_column) + 2
        self.labels.append(Text(text, behind_trunks, y + _UP))
        nodes = [self.boxes[link.source].node for link in links]
        alone = nodes[0] if len({node.lane for node in nodes}) == 1 else None
        self.wires.append(Wire(alone, " ".join(paths), tuple(heads), _tooltip(links)))

    def _below_direct(self, source: str) -> float:
        """How far below the middle of its source a channel wire begins, so that it is off the direct wires."""
        others = [link for link in self.direct if link.source == source]
        if any(link.back_bytes is not None for link in others):
            return BAR / 2 - 0.8
        return _APART / 2 if others else 0.0

    def _outputs(self) -> None:
        """An arrow to the right from whatever gives an output and nothing else follows."""
        sources = {link.source for link in self.links}
        for key, box in self.boxes.items():
            if box.node.output and key not in sources:
                end = box.right + _OUTPUT
                path = f"M{point(box.right, box.y)} H{number(end - ARROW)}"
                self.wires.append(Wire(box.node, path, ((end, box.y, True),), f"output of {box.node.name}"))


def _tooltip(links: Iterable[Link]) -> str:
    parts = []
    for link in links:
        if link.bytes is not None:
            parts.append(f"{link.source} to {link.target}: {link.bytes:,} bytes")
        if link.back_bytes is not None:
            parts.append(f"{link.target} to {link.source}: {link.back_bytes:,} bytes")
    return "; ".join(parts)


def number(value: float) -> str:
    """At most two decimals, and none where they are zero."""
    # Adding zero turns a negative zero into zero.
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")


def point(x: float, y: float) -> str:
    return f"{number(x)} {number(y)}"
