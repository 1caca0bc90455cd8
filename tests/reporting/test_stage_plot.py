"""The picture of the stages: nothing on top of anything else, widths by MACs, every byte count, the same every time."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from mmworkload.errors import FormatError, MmworkloadError
from mmworkload.graph import LayerGraph
from mmworkload.reporting.stage_graph import stage_graph
from mmworkload.reporting.stage_layout import BAR, THINNEST, WIDEST, place
from mmworkload.reporting.stage_plot import PALETTE, render, write_plot
from mmworkload.reporting.stage_wires import Wire
from mmworkload.reporting.stage_wires import draw as draw_wires
from mmworkload.reporting.text_width import text_width

Draw = Callable[..., LayerGraph]
NAMES = ("image", "text", "an_audio_modality_of_quite_a_long_name", "depth", "force", "proprioception")


def encoders(draw: Draw, count: int, **changes: Any) -> LayerGraph:
    """``count`` encoders whose MACs grow tenfold, a fusion and a head."""
    names = NAMES[:count]
    layers = [(f"{name}.e", f"encoder/{name}", name, (name,), 10 ** (index + 3)) for index, name in enumerate(names)]
    layers += [("f", "fusion", "", tuple(f"{name}.e" for name in names), 40_000), ("h", "head", "", ("f",), 100)]
    return draw(dict.fromkeys(names, (1, 3, 224, 224)), layers, **changes)


def skips(draw: Draw) -> LayerGraph:
    """Encoders that hand something to the head as well, past the fusion."""
    layers = [(f"{name}.e", f"encoder/{name}", name, (name,), 2000) for name in "abcd"]
    ends = tuple(f"{name}.e" for name in "abcd")
    layers += [("f", "fusion", "", ends, 900), ("h", "head", "", ("f", *ends), 4000)]
    return draw(dict.fromkeys("abcd", (1, 1, 128, 128, 128)), layers)


def two_skips(draw: Draw) -> LayerGraph:
    """Two heads behind a fusion, each of which reads another encoder too."""
    layers = [(f"{name}.e", f"encoder/{name}", name, (name,), 2000) for name in "ab"]
    layers += [("f", "fusion", "", ("a.e", "b.e"), 900)]
    layers += [("g", "head/one", "", ("f", "a.e"), 40), ("h", "head/two", "", ("f", "b.e"), 50)]
    return draw(dict.fromkeys("ab", (1, 9)), layers)


def circles(draw: Draw) -> LayerGraph:
    """Two encoders and a fusion that run in turns, and an input that the head alone reads."""
    return draw(
        {"image": (1, 3, 160, 704), "lidar": (1, 3, 256, 256), "target": (1, 2)},
        [
            ("i1", "encoder/image", "image", ("image",), 5000),
            ("l1", "encoder/lidar", "lidar", ("lidar",), 3000),
            ("f1", "fusion", "", ("i1", "l1"), 800),
            ("i2", "encoder/image", "", ("i1", "f1"), 9000),
            ("l2", "encoder/lidar", "", ("l1", "f1"), 6000),
            ("f2", "fusion", "", ("i2", "l2"), 1800),
            ("h", "head", "", ("i2", "l2", "f2", "target"), 2500),
        ],
    )


def heads(draw: Draw) -> LayerGraph:
    """No fusion: three heads that read both encoders or one."""
    return draw(
        {"image": (1, 3, 224, 224), "text": (1, 77)},
        [
            ("i", "encoder/image", "image", ("image",), 10**6),
            ("t", "encoder/text", "text", ("text",), 10**5),
            ("a", "head/boxes", "", ("i", "t"), 1000),
            ("b", "head/masks", "", ("i", "t"), 2000),
            ("c", "head/classes", "", ("i",), 20),
        ],
    )


def many_heads(draw: Draw) -> LayerGraph:
    """Two heads that each read four encoders: more wires at a bar than there is room for labels."""
    layers = [(f"{name}.e", f"encoder/{name}", name, (name,), 2000) for name in "abcd"]
    ends = tuple(f"{name}.e" for name in "abcd")
    layers += [("g", "head/one", "", ends, 900), ("h", "head/two", "", ends, 4000)]
    return draw(dict.fromkeys("abcd", (1, 9)), layers)


def in_the_way(draw: Draw) -> LayerGraph:
    """A merge of the outer lanes, whose line would run through the stages of the one between."""
    return draw(
        {"a": (1, 3), "b": (1, 4), "c": (1, 5)},
        [
            ("ea", "encoder/a", "a", ("a",), 100),
            ("ec", "encoder/c", "c", ("c",), 50),
            ("f", "fusion", "", ("ea", "ec"), 20),
            ("eb", "encoder/b", "b", ("b",), 80),
            ("late", "late", "b", ("eb",), 80),
            ("g", "fusion/all", "", ("f", "late"), 10),
        ],
    )


def scattered(draw: Draw, seed: int) -> LayerGraph:
    """Any stages, modalities and links."""
    dice = random.Random(seed)
    inputs = {name: (1, dice.randrange(1, 999)) for name in NAMES[: dice.randrange(1, 7)]}
    stages = [*(f"encoder/{name}" for name in inputs), "preprocess", "fusion", "head", "head/two", ""]
    layers: list[Any] = []
    reached: dict[str, frozenset[str]] = {name: frozenset([name]) for name in inputs}
    for index in range(dice.randrange(1, 14)):
        reads = tuple(dice.sample(sorted(reached), dice.randrange(1, min(4, len(reached) + 1))))
        reached[f"l{index}"] = frozenset().union(*(reached[name] for name in reads))
        modality = next(iter(reached[f"l{index}"])) if len(reached[f"l{index}"]) == 1 else ""
        layers.append((f"l{index}", dice.choice(stages), modality, reads, dice.choice([0, 7, 10**4, 10**6])))
    return draw(inputs, layers)


CASES: dict[str, Callable[[Draw], LayerGraph]] = {
    **{f"{count} modalities": (lambda draw, count=count: encoders(draw, count)) for count in range(1, 7)},
    "skips": skips,
    "two skips": two_skips,
    "circles": circles,
    "heads": heads,
    "many heads": many_heads,
    "in the way": in_the_way,
    "a part": lambda draw: skips(draw).only(["fusion", "head"]),
    **{
        f"scattered {seed}": (lambda draw, seed=seed: scattered(draw, seed)) for seed in (0, 1, 4, 5, 43, 114, 183, 327)
    },
}


@pytest.fixture(params=sorted(CASES))
def graph(request: pytest.FixtureRequest, draw: Draw) -> LayerGraph:
    return CASES[request.param](draw)


@dataclass(frozen=True)
class Rectangle:
    """A bar or a text, by its edges."""

    what: str
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Rectangle) -> bool:
        slack = 0.05
        return (
            self.left < other.right - slack
            and other.left < self.right - slack
            and self.top < other.bottom - slack
            and other.top < self.bottom - slack
        )


SVG = "{http://www.w3.org/2000/svg}"


def walk(element: ElementTree.Element, x: float = 0.0, y: float = 0.0) -> Iterator[tuple[Any, float, float]]:
    """Every element with how far it is moved."""
    move = re.fullmatch(r"translate\((\S+) (\S+)\)", element.get("transform", ""))
    if move:
        x, y = x + float(move[1]), y + float(move[2])
    yield element, x, y
    for child in element:
        yield from walk(child, x, y)


def texts(svg: str) -> list[Rectangle]:
    found = []
    for item, x, y in walk(ElementTree.fromstring(svg)):
        if item.tag == f"{SVG}text":
            size, left, base = float(item.get("font-size")), x + float(item.get("x")), y + float(item.get("y"))
            width = text_width(item.text, size, bold=item.get("font-weight") == "bold")
            found.append(Rectangle(item.text, left, base - 0.72 * size, left + width, base + 0.2 * size))
    return found


def bars(svg: str) -> dict[str, Rectangle]:
    """The bar of each stage, by its name."""
    found = {}
    for item, x, y in walk(ElementTree.fromstring(svg)):
        title = item.find(f"{SVG}title")
        if item.tag == f"{SVG}rect" and title is not None:
            name = title.text.rpartition(": ")[0]
            left, top = x + float(item.get("x")), y + float(item.get("y"))
            right, bottom = left + float(item.get("width")), top + float(item.get("height"))
            found[name] = Rectangle(name, left, top, right, bottom)
    return found


def test_no_text_lies_on_another_or_on_a_bar_or_beyond_the_edge(graph: LayerGraph) -> None:
    svg = render(graph)
    page = ElementTree.fromstring(svg)
    words, boxes = texts(svg), list(bars(svg).values())
    width, height = float(page.get("width", "")[:-2]), float(page.get("height", "")[:-2])

    clashes = [(a.what, b.what) for a, b in itertools.combinations([*words, *boxes], 2) if a.meets(b)]
    assert clashes == []
    assert len(words) > 5
    assert all(item.left >= 0 and item.right <= width and item.top >= 0 and item.bottom <= height for item in words)


def test_a_bar_is_as_wide_as_its_share_of_the_largest(graph: LayerGraph) -> None:
    nodes = {node.name: node for node in stage_graph(graph).nodes if not node.is_input}
    most = max(node.macs for node in nodes.values())
    found = bars(render(graph))

    assert set(found) == set(nodes)
    for name, bar in found.items():
        assert bar.right - bar.left == pytest.approx(max(THINNEST, WIDEST * nodes[name].macs / most), abs=0.011)
        assert bar.bottom - bar.top == pytest.approx(BAR, abs=0.011)


def test_every_link_is_drawn_with_its_bytes(graph: LayerGraph) -> None:
    titles = [item.text or "" for item in ElementTree.fromstring(render(graph)).iter(f"{SVG}title")]
    wires = [part for title in titles for part in title.split("; ") if part.endswith(" bytes")]
    expected = []
    for link in stage_graph(graph).links:
        if link.bytes is not None:
            expected.append(f"{link.source} to {link.target}: {link.bytes:,} bytes")
        if link.back_bytes is not None:
            expected.append(f"{link.target} to {link.source}: {link.back_bytes:,} bytes")

    assert sorted(wires) == sorted(expected)


def level_lines(path: str) -> Iterator[tuple[float, float, float, float]]:
    """The level and the upright pieces of a path, as (x, y, x, y)."""
    x = y = 0.0
    for command, numbers in re.findall(r"([MHVC])([^MHVC]*)", path):
        values = [float(number) for number in numbers.split()]
        if command == "M":
            x, y = values
        elif command == "H":
            yield (*sorted((x, values[0])), y, y)  # type: ignore[misc]
            (x,) = values
        elif command == "V":
            yield (x, x, *sorted((y, values[0])))  # type: ignore[misc]
            (y,) = values
        else:
            x, y = values[-2:]


def test_no_wire_runs_through_a_bar_and_no_box_covers_another(draw: Draw) -> None:
    cases = [make(draw) for make in CASES.values()]
    for graph in [*cases, *(scattered(draw, seed) for seed in range(100, 150))]:
        stages = stage_graph(graph)
        drawing = draw_wires(stages, place(stages))
        for wire in drawing.wires:
            for left, right, top, bottom in level_lines(wire.path):
                for box in drawing.boxes:
                    inside = left < box.right - 0.5 and right > box.x + 0.5
                    level = top < box.y + BAR / 2 - 0.1 and bottom > box.y - BAR / 2 + 0.1
                    assert box.node.is_input or not (inside and level), (wire.tooltip, box.node.key)
        for first, second in itertools.combinations(drawing.boxes, 2):
            apart = first.above >= second.below - 0.1 or second.above >= first.below - 0.1
            assert apart or first.column != second.column, (first.node.key, second.node.key)


def beginnings(wire: Wire, order: list[str]) -> set[str]:
    """The bars at whose right end the wire is: of two nodes the one that comes first, whichever way the bytes go."""
    pairs = [part.partition(": ")[0].split(" to ") for part in wire.tooltip.split("; ")]
    return {min(pair, key=order.index) for pair in pairs if len(pair) == 2}


def test_no_wire_lies_on_another(graph: LayerGraph) -> None:
    stages = stage_graph(graph)
    wires = draw_wires(stages, place(stages)).wires
    order = [node.key for node in stages.nodes]
    assert wires

    for first, second in itertools.combinations(wires, 2):
        if beginnings(first, order) & beginnings(second, order):
            # What goes from one bar to several others begins as one wire.
            continue
        for one, other in itertools.product(level_lines(first.path), level_lines(second.path)):
            across = min(one[1], other[1]) - max(one[0], other[0])
            along = min(one[3], other[3]) - max(one[2], other[2])
            # Two pieces in one direction and at one place share more than a point.
            same_way = (one[2] == one[3]) == (other[2] == other[3])
            assert not (same_way and across > -0.1 and along > -0.1 and max(across, along) > 0.5), (first, second)


def test_what_goes_round_leaves_its_bar_beside_what_goes_straight(draw: Draw) -> None:
    for graph, bar in ((skips(draw), "encoder/a"), (circles(draw), "encoder/image")):
        stages = stage_graph(graph)
        placed = place(stages)
        drawing = draw_wires(stages, placed)
        right = next(box.right for box in drawing.boxes if box.node.key == bar)
        heights = [
            float(y)
            for wire in drawing.wires
            if bar in wire.tooltip and " to head" in wire.tooltip
            for x, y in re.findall(r"M(\S+) (\S+)", wire.path)
            if float(x) == pytest.approx(right, abs=0.01)
        ]
        straight = [y for wire in drawing.wires for x, y, onward in wire.heads if not onward and x == right]
        y = placed.boxes[bar].y

        # Under the straight wires, and still at the bar.
        assert heights[0] > max([y, *straight]) + 1
        assert heights[0] < y + BAR / 2


def test_where_many_wires_end_their_sum_is_written_once(draw: Draw) -> None:
    words = [item.what for item in texts(render(many_heads(draw)))]

    assert words.count("4.00 kB") == 2
    assert "1.00 kB" not in words


def test_a_merge_reaches_across_the_lanes_that_it_takes_in(draw: Draw) -> None:
    stages = stage_graph(encoders(draw, 4))
    boxes = place(stages).boxes
    lines = [boxes[f"encoder/{name}"].y for name in NAMES[:4]]

    assert boxes["fusion"].spine == (lines[0], lines[3])
    assert boxes["fusion"].y == pytest.approx((lines[0] + lines[3]) / 2)
    assert lines == sorted(lines)
    assert boxes["head"].spine == (boxes["fusion"].y, boxes["fusion"].y)
    assert [boxes[name].column for name in ("input text", "encoder/text", "fusion", "head")] == [0, 1, 2, 3]


def test_a_merge_that_would_cover_a_stage_goes_behind_it(draw: Draw) -> None:
    boxes = place(stage_graph(in_the_way(draw))).boxes

    assert boxes["fusion"].spine[0] < boxes["late"].y < boxes["fusion"].spine[1]
    assert boxes["fusion"].column == boxes["late"].column + 1


def test_encoders_stand_in_one_column_with_preprocessing_or_without(draw: Draw) -> None:
    graph = draw(
        {"text": (1, 400), "image": (1, 4)},
        [
            ("p", "preprocess", "text", ("text",), 0),
            ("t", "encoder/text", "text", ("p",), 100),
            ("i", "encoder/image", "image", ("image",), 100),
            ("f", "fusion", "", ("t", "i"), 1),
        ],
    )
    boxes = place(stage_graph(graph)).boxes

    assert boxes["encoder/text"].column == boxes["encoder/image"].column == 2
    assert boxes["preprocess/text"].column == 1


def test_four_modalities_fit_into_the_column_of_a_paper(draw: Draw) -> None:
    width = float(ElementTree.fromstring(render(encoders(draw, 2))).get("width", "")[:-2])

    # 3.5 inches of 72 points: text in the picture is then as large as it says, above 6 points.
    assert width < 3.5 * 72
    assert min(float(size) for size in re.findall(r'font-size="([\d.]+)"', render(encoders(draw, 2)))) >= 6


def test_the_numbers_of_each_stage_and_the_shapes_of_inputs_are_written(draw: Draw) -> None:
    words = [item.what for item in texts(render(encoders(draw, 2, model="toy/two")))]

    for text in ("toy/two", "encoder/image", "encoder/text", "fusion", "head"):
        assert text in words
    # 1,000 + 10,000 + 40,000 + 100 MACs.
    assert "batch 1, float32: 51.1 kMAC, 51.1 k parameters" in words
    for text in ("10.0 kMAC", "10.0 k params", "19.6 %", "78.3 %", "602 kB", "1.00 kB"):
        assert text in words
    assert words.count("1\N{MULTIPLICATION SIGN}3\N{MULTIPLICATION SIGN}224\N{MULTIPLICATION SIGN}224") == 2


def test_equal_graphs_give_equal_bytes(graph: LayerGraph, tmp_path: Path) -> None:
    write_plot(graph, tmp_path / "a.svg")
    write_plot(LayerGraph.from_text(graph.to_text(".yaml")), tmp_path / "b.svg")

    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_names_are_taken_literally(case: Any) -> None:
    page = ElementTree.fromstring(render(case.graph))

    assert page.find(f"{SVG}title").text == f"{case.graph.model}: stages"  # type: ignore[union-attr]


def test_a_graph_without_macs_and_a_graph_without_layers_are_drawn(draw: Draw) -> None:
    silent = draw({"x": (1, 2)}, [("a", "encoder/x", "x", ("x",), 0)])
    empty = replace(silent, layers=(), outputs=())

    assert bars(render(silent))["encoder/x"].right - bars(render(silent))["encoder/x"].left == pytest.approx(THINNEST)
    assert bars(render(empty)) == {}


def luminance(color: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    channels = [int(color[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_is_dark_on_every_lane_and_lanes_have_colours_of_their_own(draw: Draw) -> None:
    svg = render(encoders(draw, 6))
    ink = {item.get("fill") for item in ElementTree.fromstring(svg).iter(f"{SVG}text")}

    assert len(ink) == 1
    for color, tint in PALETTE:
        assert (luminance(tint) + 0.05) / (luminance(ink.copy().pop() or "") + 0.05) > 7
        assert f'stroke="{color}"' in svg
        assert f'fill="{tint}"' in svg


def test_another_suffix_and_a_folder_that_cannot_be_made_are_refused(draw: Draw, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"\.svg"):
        write_plot(encoders(draw, 1), tmp_path / "a.png")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MmworkloadError, match="file"):
        write_plot(encoders(draw, 1), tmp_path / "file" / "a.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
