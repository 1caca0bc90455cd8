"""What the verbs print: within the width, with the numbers, and saying what is left out."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from mmworkload.exporting import Export, ManifestRow
from mmworkload.graph import Coverage
from mmworkload.models import Model, Parameter
from mmworkload.reporting.tables import (
    coverage_tables,
    export_tables,
    list_tables,
    measure_tables,
    print_out,
    show_tables,
    simulate_tables,
    validate_tables,
)
from mmworkload.reporting.tables.listing import short_source
from mmworkload.reporting.units import GAP, TIMES, si


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


def words(lines: list[str], start: str) -> str:
    """The first line that begins so, with single spaces."""
    return " ".join(row(lines, start))


def test_no_line_is_wider_than_80_columns_and_nothing_is_coloured(case: Any, lines: Any) -> None:
    everything = [
        *show_tables(case.graph, all_layers=True),
        *show_tables(case.graph, why=True),
        *coverage_tables(case.graph),
        *measure_tables(case.measurement, all_layers=True),
        *simulate_tables(case.simulation, all_layers=True),
        *validate_tables(case.validation, all_layers=True),
    ]
    printed = lines(everything)

    assert max(map(len, printed)) <= 80
    assert len(printed) > 100
    assert not any("\x1b" in line for line in printed)


def between(lines: list[str], heading: str, end: str) -> list[str]:
    """The rows of the table under a heading, as far as the line that begins with ``end``."""
    first = lines.index(heading) + 3
    return lines[first : next(index for index in range(first, len(lines)) if lines[index].startswith(end))]


def test_show_has_stage_sums_bars_and_intensity(case: Any, lines: Any) -> None:
    printed = lines(show_tables(case.graph))

    # Two linear layers of 64 x 64 on 256 bytes in and out and four bytes a weight; two relus and a mean.
    activations, weights = 2 * 512 + 3 * 512, 2 * 4 * 4096
    expected = ["encoder/image", "8.19", "k", "19.7", "%", "█▌", "8.19", "k", "32.8", "kB", "2.56", "kB"]
    assert (activations, weights) == (2560, 32768)
    assert row(printed, "encoder/image") == [*expected, f"{8192 / (activations + weights):.2f}"]
    assert row(printed, "fusion") == ["fusion", "0", "0.0", "%", "0", "0", "B", "512", "B", "0.00"]
    assert row(printed, "total")[:6] == ["total", "41.6", "k", "100.0", "%", "████████"]
    assert "size    41,600 MACs" in printed
    assert "        41,600 parameters" in printed
    assert "        12 layers, 3 unique problems" in printed
    assert not any("MAC/B:" in line for line in printed)


def test_show_tells_unused_parameters_and_what_masks_leave(case: Any, lines: Any) -> None:
    printed = lines(show_tables(replace(case.graph, built_params=50_000)))

    assert "        41,600 parameters used of 50,000" in printed


def test_show_begins_with_what_the_model_is(draw: Any, lines: Any) -> None:
    graph = draw(
        {"image": (1, 1, 28, 28), "audio": (1, 1, 112, 112)},
        [("i", "encoder/image", "image", ("image", "audio"), 10)],
        model="av-mnist/image",
        route="recorder (no.)",
        notes=("The first note.", "stand-in: a network for another"),
    )
    printed = lines(show_tables(graph))

    assert printed[0] == "av-mnist/image"
    assert row(printed, "source")[:2] == ["source", "MMBench"]
    assert any(line.startswith("data set  AV-MNIST") for line in printed)
    assert any(line.startswith("          https://") for line in printed)
    assert f"inputs    image 1{TIMES}1{TIMES}28{TIMES}28, audio 1{TIMES}1{TIMES}112{TIMES}112" in printed
    assert "traced    batch 1, float32, by recording the operators of one run (no.)" in printed
    assert "notes     The first note." in printed
    assert "stand-in  a network for another" in printed
    assert not any(line.startswith("Parameters") for line in printed)


def test_a_model_of_a_library_has_its_version_for_a_source(draw: Any, lines: Any) -> None:
    graph = draw({"x": (1, 2)}, [("a", "head", "x", ("x",), 1)], model="torchvision:alexnet")

    assert "source  torchvision 0.1" in lines(show_tables(replace(graph, versions={"torchvision": "0.1"})))
    assert not any(line.startswith("source") for line in lines(show_tables(replace(graph, model="mine.py:build"))))


def test_a_line_of_inputs_breaks_between_them_only(draw: Any, lines: Any) -> None:
    names = [f"input_number_{index}" for index in range(9)]
    graph = draw(dict.fromkeys(names, (1, 3, 224, 224)), [("a", "head", "", tuple(names), 1)])
    text = lines(show_tables(graph))
    first = next(index for index, line in enumerate(text) if line.startswith("inputs"))
    shown = text[first : next(index for index, line in enumerate(text) if line.startswith("traced"))]

    assert len(shown) > 3
    assert [line[10:].count(" ") % 2 for line in shown] == [1] * len(shown)
    assert all(line.endswith(",") for line in shown[:-1])


def test_show_lists_the_parameters_of_a_model_and_marks_what_was_changed(draw: Any, lines: Any) -> None:
    parameters = {
        "tokens": Parameter(512, "length of the plot", high=512),
        "drop": Parameter((), "what is left out", choices=("text", "image"), several=True),
        "size": Parameter(224, "side of the image", low=32, high=1024, step=32),
    }
    model = Model(
        "toy/drawn",
        "drawn",
        1,
        "float32",
        lambda device: None,  # type: ignore[arg-type, return-value]
        notes=("Said once.",),
        parameters=parameters,
        settings={"tokens": 128, "drop": ("text",), "size": 224},
    )
    graph = draw({"x": (1, 2)}, [("a", "head", "x", ("x",), 1)], notes=("Said once.",))
    printed = lines(show_tables(graph, model=model))

    assert words(printed, "tokens") == "tokens 128 (default 512) 1 to 512 length of the plot"
    assert words(printed, "drop") == "drop text (default none) any of text, image what is left out"
    assert words(printed, "size     224") == "size 224 32 to 1024, a multiple of 32 side of the image"
    assert sum("Said once." in line for line in printed) == 1


def test_a_stage_of_several_modalities_has_a_row_for_each(draw: Any, lines: Any) -> None:
    layers = [
        ("p", "preprocess", "text", ("text",), 0),
        ("q", "preprocess", "image", ("image",), 100),
        ("t", "encoder/text", "text", ("p",), 300),
        ("i", "encoder/image", "image", ("q",), 500),
        ("u", "fusion", "text", ("t",), 40),
        ("f", "fusion", "", ("u", "i"), 60),
        ("h", "head", "", ("f",), 0),
    ]
    printed = lines(show_tables(draw({"text": (1, 9), "image": (1, 9)}, layers)))
    stages = [("  " if line[0] == " " else "") + line.split()[0] for line in between(printed, "Stages", "total")]

    assert stages == [
        "preprocess",
        "  text",
        "  image",
        "encoder/text",
        "encoder/image",
        "fusion",
        "  text",
        "  other",
        "head",
    ]
    assert row(printed, "  other")[:4] == ["other", "60", "6.0", "%"]


def test_intensity_counts_a_shared_weight_at_every_use_and_says_so(draw: Any, lines: Any) -> None:
    graph = draw({"x": (1, 1)}, [("a", "head", "x", ("x",), 1000), ("b", "head", "x", ("a",), 1000)])
    second = graph.layers[1]
    shared = replace(second, reads=(second.reads[0], ("a.weight", 4000)))
    printed = lines(show_tables(replace(graph, layers=(graph.layers[0], shared))))

    # Read: 4 and 1000 bytes, twice 4000 of the weight; written: twice 1000. The weight is one.
    assert row(printed, "head")[-5:] == ["4.00", "kB", "3.00", "kB", f"{2000 / (4 + 1000 + 8000 + 2000):.2f}"]
    assert any(line.startswith("MAC/B: a weight counts each time") for line in printed)


def test_show_says_how_operators_were_treated(case: Any, lines: Any) -> None:
    text = " ".join(lines(show_tables(case.graph)))
    assert "5 lowered, 3 ignored (they move no bytes), 0 unknown" in text
    assert "2 layers whose result nobody needs" in text
    assert "Assumed: 1000 proposals" in text

    unknown = Coverage("unknown", "my.op", "head", 2, 0, 64, "no lowering")
    printed = lines(show_tables(replace(case.graph, coverage=(*case.graph.coverage, unknown))))
    assert row(printed, "my.op") == ["my.op", "head", "2", "64", "B"]


def test_coverage_has_the_share_of_every_treatment_and_operator(case: Any, lines: Any) -> None:
    coverage = (
        Coverage("lowered", "aten.linear", "head", 1, 300, 600),
        Coverage("lowered", "aten.linear", "encoder", 2, 600, 100),
        Coverage("lowered", "aten.conv2d", "encoder", 1, 100, 200),
        Coverage("ignored", "aten.view", "head", 3, 0, 0, "gives a view of its input"),
        Coverage("ignored", "aten.view", "encoder", 4, 0, 0, "gives a view of its input"),
        Coverage("unknown", "my.op", "head", 2, 0, 100, "no lowering"),
    )
    printed = lines(coverage_tables(replace(case.graph, coverage=coverage)))

    assert printed[0] == case.graph.model
    assert words(printed, "lowered") == "lowered 2 4 1.00 k 100.0 % 900 B 90.0 %"
    assert words(printed, "ignored") == "ignored 1 7 0 0.0 % 0 B 0.0 %"
    assert words(printed, "unknown") == "unknown 1 2 0 0.0 % 100 B 10.0 %"
    assert words(printed, "all") == "all 4 13 1.00 k 100.0 % 1.00 kB 100.0 %"
    # The largest first, over all modules.
    assert [line.split()[0] for line in between(printed, "Lowered: became a layer", "Ignored")[:2]] == [
        "aten.linear",
        "aten.conv2d",
    ]
    assert words(printed, "aten.linear") == "aten.linear 3 900 90.0 % 700 B 70.0 %"
    assert words(printed, "aten.view") == "aten.view 7 gives a view of its input"
    # What must be looked for comes with its place.
    assert words(printed, "my.op") == "my.op head 2 100 B 10.0 % no lowering"


def test_coverage_leaves_out_treatments_that_do_not_occur(case: Any, lines: Any) -> None:
    printed = lines(coverage_tables(case.graph))

    assert not any(line.startswith("Unknown:") for line in printed)
    assert words(printed, "unknown") == f"unknown 0 0 0 {GAP} 0 B {GAP}"


def test_large_graphs_show_the_largest_layers_and_count_the_rest(make_case: Any, lines: Any) -> None:
    large = make_case(blocks=24)
    printed = lines(show_tables(large.graph))
    found = [" ".join(line.split()) for line in between(printed, "Layers", "Rows add up")]

    # Equal linear layers: 24 of audio, and of the image 23 beside the first, whose name is another one.
    assert "Rows add up like layers (no.), whose names differ in numbers only (*)." in printed
    total = 24 * 64 * 256 + 24 * 64 * 64 + 640
    assert found[0].startswith("encoders.a…_path.*.linear 24 ")
    assert found[0].endswith(f"24 linear 393 k {100 * 24 * 64 * 256 / total:.1f} % 393 k 1.59 MB 0.25")
    assert found[1].endswith(f"23 linear 94.2 k {100 * 23 * 64 * 64 / total:.1f} % 94.2 k 389 kB 0.24")
    assert found[2].endswith("1 linear 4.10 k 0.8 % 4.10 k 16.9 kB 0.24")
    assert "--all" not in " ".join(printed[printed.index("Layers") : printed.index("Coverage")])

    every = lines(show_tables(large.graph, all_layers=True))
    assert len(between(every, "Layers", "Shapes")) == len(large.graph) + 1
    assert "Rows add up" not in " ".join(every)


def test_show_gives_output_shape_and_loop_bounds_of_the_same_rows(make_case: Any, lines: Any) -> None:
    printed = lines(show_tables(make_case(blocks=24).graph))
    found = [line.split() for line in between(printed, "Shapes", "m: output")]

    assert printed[printed.index("Shapes") + 1].split() == ["layer", "output", "m", "c"]
    assert found[0] == ["encoders.audio.a_rather_long_path.*.linear", "64", "256", "64"]
    assert found[3] == ["head", "64", "10", "64"]
    assert found[-1] == ["cat", "64", GAP, GAP]
    assert len(found) == len(between(printed, "Layers", "Rows add up"))
    assert "1 in every row: n, o, p, q, t, r, s, stride, groups" in printed


def test_repeated_layers_are_folded_wherever_layers_are_listed(make_case: Any, lines: Any) -> None:
    large = make_case(blocks=24)
    audio = "encoders.audio.a_rather_long_path"
    simulated = [row for row in large.simulation.layers if row.layer.startswith(audio) and row.macs]
    measured = [row for row in large.validation.layers if row.layer.startswith(audio) and row.macs]
    (why,), (said,), (beside,) = (
        [line.split() for line in printed if "linear" in line and " 24 " in line]
        for printed in (
            lines(show_tables(large.graph, why=True)),
            lines(simulate_tables(large.simulation)),
            lines(validate_tables(large.validation)),
        )
    )

    assert why[1:] == ["24", "encoder/audio", "rule", "encoders.*"]
    seconds = si(sum(row.latency_s for row in simulated), "s").split()
    assert said[1:6] == ["24", "393", "k", *seconds]
    assert beside[1:4] == ["24", *si(sum(row.sides.measured_s for row in measured), "s").split()]
    assert seconds == beside[6:8]
    # Every layer again with --all, and none is folded then.
    for tables in (
        show_tables(large.graph, why=True, all_layers=True),
        simulate_tables(large.simulation, all_layers=True),
        validate_tables(large.validation, all_layers=True),
    ):
        assert "Rows add up" not in " ".join(lines(tables))


def test_the_rows_that_are_left_out_are_counted(draw: Any, lines: Any) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    layers = [(name, "head", "x", ("x",), 1000 + index) for index, name in enumerate(letters)]
    printed = lines(show_tables(draw({"x": (1, 2)}, layers)))

    assert "The 20 largest of 26 rows; --all lists every one." in printed
    assert [line[0] for line in between(printed, "Layers", "The 20")] == list(reversed(letters))[:20]
    assert "Rows add up" not in " ".join(printed)


def test_measure_puts_the_three_times_over_eager(case: Any, lines: Any) -> None:
    printed = lines(measure_tables(case.measurement))

    assert row(printed, "eager, end to end")[-2:] == ["3", "1.00\N{MULTIPLICATION SIGN}"]
    assert row(printed, "graph, end to end")[-1] == "1.25\N{MULTIPLICATION SIGN}"
    assert row(printed, "operators of all layers")[-1] == "0.625\N{MULTIPLICATION SIGN}"
    assert "on cpu (A <fast> CPU)" in " ".join(printed)
    assert "model 1.00 kB, data 512 B, total 4.10 kB" in printed
    assert "Not the user's operators" not in " ".join(printed)
    other = lines(measure_tables(replace(case.measurement, kernel_difference=0.2)))
    assert "Not the user's operators: eager and graph run different ones for 20.0 % of" in " ".join(other)


def test_simulate_names_who_answered_and_the_precision(case: Any, lines: Any) -> None:
    printed = lines(simulate_tables(case.simulation))

    assert printed[1] == f"simulated by roofline {case.simulation.version}"
    assert "precision: 16 bits, native to eyeriss_like" in printed
    assert any(line.startswith("straggler: audio, ") for line in printed)
    assert row(printed, "total")[1:4] == ["12", "41.6", "k"]


def test_simulate_shows_the_modalities_on_several_accelerators(case: Any, lines: Any) -> None:
    printed = lines(simulate_tables(case.simulation))
    found = case.simulation.concurrency

    assert found is not None
    table = between(printed, "Modalities on several accelerators", "idle:")
    assert [line[0] for line in (item.split() for item in table) if line[0].isdigit()] == ["1", "2", "3"]
    assert " ".join(table[0].split()[3:]) == f"1.00{TIMES} 0.0 % 0.0 % audio image + audio + (mixed)"
    assert table[1].split()[3] == f"{found.accelerators[1].speedup:.2f}{TIMES}"
    assert "image + (mixed), audio" in table[1]
    image, audio = between(printed, "Slack with 3 accelerators", "Slower")
    assert image.split()[5] == f"{found.modalities['image'].slowdown:.2f}{TIMES}"
    assert audio.split()[3:8] == ["0", "s", f"1.00{TIMES}", "100.0", "%"]
    assert f"{100 * found.saving_share:.1f} % of all energy" in " ".join(printed)


def test_simulate_says_when_no_slack_saves_energy_and_leaves_energies_out(case: Any, lines: Any) -> None:
    found = case.simulation.concurrency
    even = lines(simulate_tables(replace(case.simulation, concurrency=replace(found, saving_j=0.0))))
    bare = lines(simulate_tables(replace(case.simulation, concurrency=replace(found, saving_j=None))))
    none = lines(simulate_tables(replace(case.simulation, concurrency=None)))

    assert "No modality has slack in which a slower clock saves energy." in even
    assert bare[bare.index("Slack with 3 accelerators") + 1].split() == ["modality", "latency", "slack", "may", "take"]
    assert not any("slower clock" in line.lower() for line in bare)
    assert not any(line.startswith(("Slack", "Modalities")) for line in none)


def test_validate_shows_both_shares_and_marks_dead_layers(case: Any, lines: Any) -> None:
    printed = lines(validate_tables(case.validation, all_layers=True))
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
    printed = lines(validate_tables(gappy.validation, all_layers=True))

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


def variant(name: str, source: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "source": source, "aliases": [], "stand_ins": [], "macs": None, "params": None, **more}


def workload(*variants: dict[str, Any], **more: Any) -> dict[str, Any]:
    family = {"name": "toy", "description": "a toy network", "dataset": "Toys (nobody, 2020)", "dataset_url": ""}
    known = {"batch": 1, "default": variants[0]["name"], "variants": list(variants), "generations": []}
    return {**family, **known, **more}


def test_list_has_a_table_for_each_kind(lines: Any) -> None:
    found = {
        "workloads": [workload(variant("toy/four", "nobody"), variant("toy/two", "a paper"))],
        "archs": [
            {
                "name": "chip",
                "description": "a chip",
                "elements": 168,
                "clock_mhz": 200.0,
                "area_mm2": 1.94,
                "precision_bits": 8,
            },
            {
                "name": "gpu",
                "description": "a chip whose area nobody says",
                "elements": 1,
                "clock_mhz": 1.0,
                "area_mm2": None,
                "precision_bits": 32,
            },
        ],
        "exporters": [{"name": "tool", "description": "what it takes " * 12}],
        "simulators": [
            {"name": "a", "available": True, "version": "1.2", "reason": None},
            {"name": "b", "available": False, "version": None, "reason": "not installed: pip install b"},
        ],
    }
    printed = lines(list_tables(found))

    assert max(map(len, printed)) <= 80
    assert row(printed, "four") == ["four", GAP, GAP, "nobody"]
    assert row(printed, "chip") == ["chip", "168", "8", "200", "MHz", "1.9", "mm²"]
    assert row(printed, "gpu") == ["gpu", "1", "32", "1", "MHz", GAP]
    assert "chip  a chip" in printed
    assert " ".join(row(printed, "a ")) == "a available, version 1.2"
    assert " ".join(row(printed, "b ")) == "b not installed: pip install b"


def test_list_names_sizes_stand_ins_further_names_and_the_data_set(lines: Any) -> None:
    family = workload(
        variant(
            "toy/concat",
            "MMBench (IISWC 2023), Table 3; applications/Toy",
            macs=11_993_032,
            params=260_922,
            aliases=["toy/slf", "toy/late"],
            stand_ins=["a ResNet for what nobody has"],
        ),
        variant("toy/early-transformer-multibench", "MultiBench (NeurIPS 2021), examples/affect/toy.py", macs=7),
        dataset_url="https://example.org/toys",
        batch=40,
    )
    printed = lines(list_tables({"workloads": [family]}))

    assert max(map(len, printed)) <= 80
    assert "toy: a toy network" in printed
    assert "data set  Toys (nobody, 2020)" in printed
    assert "from      https://example.org/toys" in printed
    assert "batch     40" in printed
    assert printed[printed.index("batch     40") + 1].split() == ["toy/", "MACs", "params", "source"]
    assert words(printed, "concat") == "concat 12.0 M 261 k MMBench (IISWC 2023), Table 3"
    assert "stand-in; also slf, late" in [line.strip() for line in printed]
    assert row(printed, "early")[-3:] == ["MultiBench", "(NeurIPS", "2021)"]
    assert "1 workload, 2 variants; the first of each is its default." in printed
    assert any(line.startswith("stand-in: a part is not the source's own") for line in printed)
    whole = {"name": "toy/7b", "aliases": ["toy/all"], "phases": ["toy/prefill", "toy/decode"]}
    several = lines(list_tables({"workloads": [workload(variant("toy/four", "nobody"), generations=[whole])]}))
    assert row(several, "toy/, whole") == ["toy/,", "whole", "generations", "runs"]
    assert row(several, "7b") == ["7b", "prefill,", "decode"]
    assert "also all" in [line.strip() for line in several]
    plain = lines(list_tables({"workloads": [workload(variant("toy/four", "nobody"))]}))
    assert not any("generation" in line for line in plain)
    assert not any("stand-in" in line for line in plain)


@pytest.mark.parametrize(
    ("source", "short"),
    [
        ("nobody", "nobody"),
        ("MMBench (IISWC 2023), Table 3: concat or tensor, and the rest", "MMBench (IISWC 2023), Table 3"),
        ("MMBench (IISWC 2023), applications/Avmnist/inference.py, x", "MMBench (IISWC 2023)"),
        ("Lee et al., T-RO 2020; MMBench, models", "Lee et al., T-RO 2020"),
        ("3-D U-Net (Cicek and many others, MICCAI 2016, Athens) on scans", "3-D U-Net"),
        ("(none) of those whom anybody would know by name", "(none) of those whom anybody would …"),
        ("a sentence that goes on and on without any mark of a clause", "a sentence that goes on and on …"),
    ],
)
def test_a_long_source_is_cut_between_clauses(source: str, short: str) -> None:
    assert short_source(source) == short
