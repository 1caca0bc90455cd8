"""What the verbs print: within the width, with the numbers, and saying what is left out."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from mmworkload.exporting import Export, ManifestRow
from mmworkload.graph import Coverage
from mmworkload.reporting.tables import (
    export_tables,
    list_tables,
    measure_tables,
    print_out,
    show_tables,
    simulate_tables,
    validate_tables,
)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[Any]], list[str]]:
    """Prints to a pipe without a terminal, as 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def capture(renderables: Sequence[Any]) -> list[str]:
        stream = io.StringIO()
        print_out(*renderables, stream=stream)
        return stream.getvalue().splitlines()

    return capture


def row(lines: list[str], start: str) -> list[str]:
    """The words of the first line that begins so."""
    return next(line for line in lines if line.startswith(start)).split()


def test_no_line_is_wider_than_80_columns_and_nothing_is_coloured(case: Any, lines: Any) -> None:
    everything = [
        *show_tables(case.graph, all_layers=True),
        *show_tables(case.graph, why=True),
        *measure_tables(case.measurement, all_layers=True),
        *simulate_tables(case.simulation, all_layers=True),
        *validate_tables(case.validation, all_layers=True),
    ]
    printed = lines(everything)

    assert max(map(len, printed)) <= 80
    assert len(printed) > 100
    assert not any("\x1b" in line for line in printed)


def test_show_has_stage_sums_and_intensity(case: Any, lines: Any) -> None:
    printed = lines(show_tables(case.graph))

    # Two linear layers of 64 x 64 on 256 bytes in and out and four bytes a weight; two relus and a mean.
    moved = 2 * (256 + 256 + 4 * 4096) + 3 * 512
    assert moved == 35_328
    expected = ["encoder/image", "5", "8.19", "k", "19.7", "%", "8.19", "k", "35.3", "kB", f"{8192 / moved:.2f}"]
    assert row(printed, "encoder/image") == expected
    assert row(printed, "fusion") == ["fusion", "1", "0", "0.0", "%", "0", "512", "B", "0.00"]
    assert row(printed, "total")[:4] == ["total", "12", "41.6", "k"]
    assert "41,600 MACs, 41,600 parameters used of 41,600" in printed


def test_show_says_how_operators_were_treated(case: Any, lines: Any) -> None:
    text = " ".join(lines(show_tables(case.graph)))
    assert "5 lowered, 3 ignored (they move no bytes: aten.view), 0 unknown" in text
    assert "2 layers whose result nobody needs" in text
    assert "Assumed: 1000 proposals" in text

    unknown = Coverage("unknown", "my.op", "head", 2, 0, 64, "no lowering")
    printed = lines(show_tables(replace(case.graph, coverage=(*case.graph.coverage, unknown))))
    assert row(printed, "my.op") == ["my.op", "head", "2", "64", "B"]


def test_large_graphs_show_the_largest_layers_and_count_the_rest(make_case: Any, lines: Any) -> None:
    large = make_case(blocks=12)
    printed = lines(show_tables(large.graph))
    assert "The 20 largest of 52 layers; --all lists every one." in printed
    # Audio layers are four times as large as those of the image.
    layers = printed[printed.index("Layers") : printed.index("Coverage")]
    assert sum(" 16.4 k " in line for line in layers) == 12
    assert sum(" 4.10 k " in line for line in layers) == 8
    assert " 16.4 k " in layers[3]

    every = lines(show_tables(large.graph, all_layers=True))
    assert "--all" not in " ".join(every)
    assert len(every) == len(printed) + 32 - 1


def test_measure_puts_the_three_times_over_eager(case: Any, lines: Any) -> None:
    printed = lines(measure_tables(case.measurement))

    assert row(printed, "eager, end to end")[-2:] == ["3", "1.00\N{MULTIPLICATION SIGN}"]
    assert row(printed, "graph, end to end")[-1] == "1.25\N{MULTIPLICATION SIGN}"
    assert row(printed, "kernels of all layers")[-1] == "0.625\N{MULTIPLICATION SIGN}"
    assert "on cpu (A <fast> CPU)" in " ".join(printed)
    assert "model 1.00 kB, data 512 B, total 4.10 kB" in printed
    assert "Not the user's kernels" not in " ".join(printed)
    other = lines(measure_tables(replace(case.measurement, kernel_difference=0.2)))
    assert "Not the user's kernels: eager and graph run different ones for 20.0 % of" in " ".join(other)


def test_simulate_names_who_answered_and_the_precision(case: Any, lines: Any) -> None:
    printed = lines(simulate_tables(case.simulation))

    assert printed[1] == f"simulated by {case.simulation.choice}"
    assert "precision: 16 bits, native to eyeriss_like" in printed
    assert any(line.startswith("straggler: audio, ") for line in printed)
    assert row(printed, "total")[1:4] == ["12", "41.6", "k"]


def test_validate_shows_both_shares_and_marks_dead_layers(case: Any, lines: Any) -> None:
    printed = lines(validate_tables(case.validation))
    sides = next(item.sides for item in case.validation.stages if item.name == "head")

    words = row(printed, "head")
    assert f"{100 * sides.measured_share:.1f}" in words
    assert f"{100 * sides.simulated_share:.1f}" in words
    assert row(printed, "encoders.image:mean")[-1] == "d"
    assert "d: no output needs it" in printed
    assert any(line.startswith("(mixed)") for line in printed)


def test_validate_shows_gaps_and_counts_them(make_case: Any, case: Any, lines: Any) -> None:
    measured = case.measurement.layers
    gappy = make_case(layers=tuple(item for item in measured if item.layer != "cat"))
    printed = lines(validate_tables(gappy.validation))

    assert "fusion: of 1 layer, 1 not measured and 0 not simulated" in printed
    assert row(printed, "cat")[1:3] == ["\N{EN DASH}", "\N{EN DASH}"]
    assert "- 1 layer not measured: cat." in printed


def test_export_counts_what_is_left_out_and_why(lines: Any) -> None:
    def manifest(layer: str, file: str, macs: int, excluded: str = "") -> ManifestRow:
        return ManifestRow(layer, "conv2d", "head", "", file, 2, False, macs, 100, excluded=excluded)

    rows = (
        manifest("a", "problems/p0.yaml", 1000),
        manifest("b", "problems/p0.yaml", 1000),
        manifest("c", "", 500, "no multiply-accumulates"),
    )
    printed = lines(
        export_tables(Export("timeloop", "toy", "chip", rows, ("x.yaml", "y.yaml"), "timeloop x.yaml", {}), "out")
    )

    assert "2 files in out: 1 unique problem, 4,000 of 5,000 MACs" in printed
    assert row(printed, "head") == ["head", "3", "2", "1", "4.00", "k"]
    assert row(printed, "no multiply") == ["no", "multiply-accumulates", "1", "1.00", "k", "100", "B"]
    assert printed[-1] == "cd out && timeloop x.yaml"


def test_list_has_a_table_for_each_kind(lines: Any) -> None:
    found = {
        "workloads": [
            {
                "name": "toy",
                "description": "a toy network",
                "default": "toy/four",
                "variants": [{"name": "toy/four", "source": "nobody"}, {"name": "toy/two", "source": "a paper"}],
            }
        ],
        "archs": [
            {"name": "chip", "description": "a chip", "elements": 168, "clock_mhz": 200.0, "area_mm2": 1.94},
        ],
        "exporters": [{"name": "tool", "description": "what it takes " * 12}],
        "simulators": [
            {"name": "a", "available": True, "version": "1.2", "reason": None},
            {"name": "b", "available": False, "version": None, "reason": "not installed: pip install b"},
        ],
    }
    printed = lines(list_tables(found))

    assert max(map(len, printed)) <= 80
    assert row(printed, "toy/four")[-3:] == ["network,", "default", "nobody"]
    assert row(printed, "chip") == ["chip", "a", "chip", "168", "200", "MHz", "1.9", "mm²"]
    assert " ".join(row(printed, "a ")) == "a available, version 1.2"
    assert " ".join(row(printed, "b ")) == "b not installed: pip install b"
