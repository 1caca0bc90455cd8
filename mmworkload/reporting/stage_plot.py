"""The graph of stages as an SVG for a paper: it needs no other file, no library and no style sheet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mmworkload.files import write_atomic
from mmworkload.outputs import SVG, require_output_file
from mmworkload.reporting.stage_graph import Node, StageGraph, stage_graph
from mmworkload.reporting.stage_layout import BAR, FONT, LINE, SMALL, THINNEST, Box, Text, place
from mmworkload.reporting.stage_wires import ARROW, Drawing, Wire, draw, number, point
from mmworkload.reporting.svg import escaped
from mmworkload.reporting.text_width import shorten, text_width
from mmworkload.reporting.units import plural, share, si

if TYPE_CHECKING:
    from mmworkload.graph import LayerGraph

# Okabe and Ito's colours, which people with any kind of colour vision tell apart, in the order of the lanes, each
# with a pale tint for the lane itself. What several modalities reach is grey.
PALETTE = (
    ("#0072b2", "#e9f2f8"),
    ("#e69f00", "#fdf5e5"),
    ("#009e73", "#e6f5f1"),
    ("#cc79a7", "#faf1f6"),
    ("#56b4e9", "#eef8fd"),
    ("#d55e00", "#fbefe6"),
)
_JOINT = "#5a5a5a"
_INK = "#1a1a1a"
MARGIN = 3.0
_FOOT = 9.0
_SCALE_WIDTH = 40.0


def write_plot(graph: LayerGraph, path: str | Path) -> None:
    """Writes the picture, whole or not at all. Equal graphs give equal bytes.

    Raises MmworkloadError for another suffix than ``.svg`` and when ``path`` cannot be written.
    """
    target = Path(path)
    require_output_file(target, SVG)
    write_atomic(target, render(graph))


def render(graph: LayerGraph) -> str:
    """The picture as text. One unit is a point; a network of four modalities is about as wide as a paper's column."""
    stages = stage_graph(graph)
    placed = place(stages)
    drawing = draw(stages, placed)
    totals = graph.totals()
    sums = f"batch {graph.batch}, {graph.dtype}: {si(totals.macs, 'MAC')}, {si(totals.params)} parameters"
    width = max(drawing.width, text_width(sums, SMALL), 120.0)
    top = 2 * LINE + 6
    foot = list(_footer(stages, placed.scale, width))
    height = top + drawing.height + 3 + _FOOT * len(foot)
    whole = (width + 2 * MARGIN, height + 2 * MARGIN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{number(whole[0])}pt" height="{number(whole[1])}pt"'
        f' viewBox="0 0 {point(*whole)}" role="img" font-family="Helvetica, Arial, Liberation Sans, sans-serif">',
        f"<title>{escaped(graph.model)}: stages</title>",
        f"<desc>{escaped(_spoken(graph))}</desc>",
        f'<rect width="{number(whole[0])}" height="{number(whole[1])}" fill="#ffffff"/>',
        f'<g transform="translate({point(MARGIN, MARGIN)})">',
        _text(Text(shorten(graph.model, width, FONT + 0.5, bold=True), 0, FONT, FONT + 0.5, bold=True)),
        _text(Text(sums, 0, FONT + LINE + 0.5)),
        f'<g transform="translate({point(0, top)})">',
        *_body(stages, drawing),
        "</g>",
        *(
            f'<g transform="translate({point(0, top + drawing.height + _FOOT * index + 3)})">{part}</g>'
            for index, part in enumerate(foot)
        ),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _spoken(graph: LayerGraph) -> str:
    """The picture in words, for those who cannot see it."""
    total = graph.total_macs
    return "; ".join(
        f"{stage or '(none)'}: {item.macs:,} MACs ({share(item.macs / total if total else None)}),"
        f" {plural(item.params, 'parameter')}"
        for stage, item in graph.stages.items()
    )


def _body(stages: StageGraph, drawing: Drawing) -> Iterator[str]:
    color = {lane: PALETTE[index % len(PALETTE)] for index, lane in enumerate(stages.lanes)}

    def ink(node: Node | None) -> str:
        return color[node.lane][0] if node and node.lane in color else _JOINT

    for lane, (y, high) in drawing.lanes.items():
        yield _rect(1 - MARGIN, y, drawing.lanes_width + MARGIN + 1, high, fill=color[lane][1])
    for wire in drawing.wires:
        yield from _wire(wire, ink(wire.source))
    for x, y in drawing.dots:
        yield f'<circle cx="{number(x)}" cy="{number(y)}" r="1.3" fill="{_JOINT}"/>'
    for box in drawing.boxes:
        yield from _box(box, ink(box.node))
    for label in drawing.labels:
        yield _text(label)


def _wire(wire: Wire, color: str) -> Iterator[str]:
    yield (
        f'<path d="{wire.path}" fill="none" stroke="{color}" stroke-width="0.9">'
        f"<title>{escaped(wire.tooltip)}</title></path>"
    )
    for x, y, right in wire.heads:
        back = x - ARROW if right else x + ARROW
        corners = f"{number(x)},{number(y)} {number(back)},{number(y - 2)} {number(back)},{number(y + 2)}"
        yield f'<polygon points="{corners}" fill="{color}"/>'


def _box(box: Box, color: str) -> Iterator[str]:
    for text in box.texts:
        yield _text(text)
    if box.node.is_input:
        return
    node = box.node
    if box.merges:
        first, last = box.spine
        yield _rect(box.x, first - BAR / 2, THINNEST, last - first + BAR, fill=color)
    tip = f"{node.name}: {node.macs:,} MACs, {plural(node.params, 'parameter')}"
    fill = color if node.macs else "#ffffff"
    yield _rect(box.x, box.y - BAR / 2, box.width, BAR, fill=fill, stroke=color, title=tip)


def _footer(stages: StageGraph, scale: float, width: float) -> Iterator[str]:
    """The scale of the widths, and the inputs that have no lane."""
    if scale:
        macs = _round_below(_SCALE_WIDTH / scale)
        length = macs * scale
        yield (
            f'<path d="M0 1 V5 M0 3 H{number(length)} M{number(length)} 1 V5" fill="none" stroke="{_INK}"'
            f' stroke-width="0.7"/>' + _text(Text(f"{si(macs, 'MAC')}; arrows: bytes that pass", length + 4, 5.2))
        )
    if stages.further_inputs:
        yield _text(Text(shorten(f"not drawn: {', '.join(stages.further_inputs)}", width, SMALL), 0, 5.2))


def _round_below(value: float) -> int:
    """The largest 1, 2 or 5 times a power of ten that is at most ``value``, and at least 1."""
    power = 10 ** (len(str(max(1, int(value)))) - 1)
    return max((step * power for step in (1, 2, 5) if step * power <= value), default=1)


def _text(line: Text) -> str:
    weight = ' font-weight="bold"' if line.bold else ""
    place = f'x="{number(line.x)}" y="{number(line.y)}" font-size="{number(line.size)}" fill="{_INK}"{weight}'
    return f"<text {place}>{escaped(line.text)}</text>"


def _rect(x: float, y: float, width: float, height: float, *, fill: str, stroke: str = "", title: str = "") -> str:
    edge = f' stroke="{stroke}" stroke-width="0.5"' if stroke else ""
    inside = f"><title>{escaped(title)}</title></rect>" if title else "/>"
    return (
        f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
        f' fill="{fill}"{edge}{inside}'
    )
