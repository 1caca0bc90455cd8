"""Items give figures that can be worked out by hand, beside what the papers state, and name what they lack."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pandas
import pytest

from mmworkload.analyzing import COLUMNS, VIEWS, analyze
from mmworkload.analyzing.taken import STALLS
from mmworkload.errors import UnknownNameError
from mmworkload.exits import ExitSettings, analyse, with_exits
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Work
from mmworkload.measuring.folder import Result, save
from mmworkload.measuring.result import Execution, Measurement, Spread, StageTime
from mmworkload.problem import gemm
from mmworkload.reporting.terminal import print_out
from mmworkload.reporting.units import GAP, TIMES
from mmworkload.reproducing import Item, Reproduction, Sources, items, reproduce
from mmworkload.reproducing.cal import alone
from mmworkload.reproducing.generation import levers_of
from mmworkload.reproducing.item import Unit, cell
from mmworkload.reproducing.sources import launches
from mmworkload.reproducing.tables import item_markdown, item_tables
from mmworkload.tracing.snapshot import path_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PUSH, LATE = "mujoco-push/transformer", "mujoco-push/late"
# What the snapshots are enough for.
QUICK = ("D1", "D2", "D3", "D4", "D4b", "D5", "D6", "D7", "D8", "D12", "D13", "T3", "E1", "E2")
TORCH = ("D9", "D10", "D11", "D15")


@pytest.fixture(scope="module")
def sources() -> Sources:
    return Sources()


@pytest.fixture(scope="module")
def made(sources: Sources) -> dict[str, Reproduction]:
    return {name: reproduce(name, sources=sources) for name in QUICK}


def ours(made: Reproduction, key: str) -> dict[str, float]:
    return {f"{table.basis}: {own.what}": own.value for own, table in made.ours(key)}


def rows(made: Reproduction, title: str) -> list[dict[str, object]]:
    return next(table.to_dict()["rows"] for table in made.tables if table.title == title)


def test_straggler_of_the_late_fusion_by_hand(made: dict[str, Reproduction]) -> None:
    # 16 steps of: a linear layer to 64, a block of two linear layers, an LSTM from 64 to 256.
    recurrent = 4 * 256 * (64 + 256)
    position, seven = (16 * (width * 64 + 2 * 64 * 64 + recurrent) for width in (3, 7))
    pixels = 32 * 32
    convolutions = pixels * (25 * 32 + 2 * 9 * 32 * 32 + 9 * 32 * 16 + 9 * 16 * 8)
    image = 16 * (convolutions + 8 * pixels * 64 + 2 * 64 * 64 + recurrent)
    found = ours(made["D4"], "push")

    # "Up to", both papers say: over the fastest of the others.
    assert found["exact: MACs, late"] == pytest.approx(image / position, rel=1e-12)
    by_macs = rows(made["D4"], "Straggler by MACs")[6]
    assert by_macs["over mean of others"] == pytest.approx(image / ((position + 2 * seven) / 3), rel=1e-12)
    # The papers have 4.09, and 77 % of the time: what the text says of being near.
    assert found["modelled: roofline time, late"] == pytest.approx(4.09, rel=0.15)
    assert ours(made["D4"], "alone")["modelled: roofline time, late"] == pytest.approx(0.77, abs=0.02)
    assert ours(made["D4b"], "idle")["modelled: roofline time, late"] == pytest.approx(0.75 * 0.77, abs=0.02)


@pytest.mark.parametrize("name", [LATE, PUSH])
def test_idle_is_of_the_encoders_time(name: str, made: dict[str, Reproduction], sources: Sources) -> None:
    seconds = sources.roofline(sources.graph(name), sources.gpu()).encoder_s.values()
    idle = 1 - sum(seconds) / (4 * max(seconds))
    what = f"modelled: roofline time, {name.partition('/')[2]}"

    assert ours(made["D4b"], "idle")[what] == pytest.approx(idle)
    assert ours(made["D4"], "push")[what] == pytest.approx(max(seconds) / min(seconds))


def test_what_the_texts_say_of_our_figures(made: dict[str, Reproduction], sources: Sources) -> None:
    # D1: the papers' ratios of times lie between the roofline's and that of kernels.
    found = ours(made["D1"], "cal")
    roofline, kernels = found["modelled: roofline time"], found["exact: kernels, one a loop nest"]
    assert all(roofline < line.value < kernels for line in by_id("D1").headlines[:2])  # type: ignore[operator]
    # D3: more than half of the late fusion's kernels are steps of LSTMs.
    late = sources.graph(LATE)
    assert launches(layer for layer in late if layer.op == "lstm") > launches(late) / 2
    # D4: the roofline reads an LSTM's weights at each of the 16 steps.
    recurrent = 4 * 256 * 256 * 4
    steps = [row for row in sources.roofline(late, sources.gpu()).layers if row.op == "lstm"]
    assert all(16 * recurrent < row.dram_bytes < 17 * recurrent for row in steps)
    # D6: only encoders have layers that reduce.
    for name in ("av-mnist/concat", "av-mnist/low-rank"):
        reducing = {layer.stage for layer in sources.graph(name) if layer.category == "Reduce"}
        assert reducing == {"encoder/image", "encoder/audio"}
    # P1: choosing boxes has vector operations, beside its bytes.
    boxes = [layer for layer in sources.graph("across-stack/faster-rcnn-resnet50") if layer.op == "nms"]
    assert boxes
    assert all(layer.vector_ops and not layer.work for layer in boxes)


def test_sizes_of_the_transformer_fusion(made: dict[str, Reproduction], sources: Sources) -> None:
    stages = sources.graph(PUSH).stages
    encoders = [stages[f"encoder/{name}"] for name in ("position", "sensors", "image", "control")]

    assert ours(made["D1"], "params") == {"exact: parameters": pytest.approx(13_998_082 / 584_024)}
    macs = stages["fusion"].macs / sum(item.macs for item in encoders)
    assert ours(made["D1"], "cal")["exact: MACs"] == pytest.approx(macs)
    assert ours(made["D1"], "mmbench").keys() == ours(made["D1"], "cal").keys()


def test_kernels_are_the_loop_nests_and_the_layers_without_any(made: dict[str, Reproduction]) -> None:
    lstm = Layer("lstm", "lstm", "Gemm", work=(Work(gemm(16, 4, 4)), Work(gemm(1, 4, 4), 16, True)))
    host = Layer("tokens", "sort", "Other", placement="host")

    assert launches([lstm, Layer("relu", "relu", "Relu"), host]) == 1 + 16 + 1
    # CAL has 8.68; the text says that ours comes near.
    assert ours(made["D3"], "runtime")["modelled: kernels, transformer over late"] == pytest.approx(8.68, rel=0.05)


def test_the_relu_anomaly(made: dict[str, Reproduction]) -> None:
    by_stage = {row["stage"]: row for row in rows(made["D5"], "Layers of mm-imdb/concat by category")}

    assert (by_stage["encoder/text"]["Relu"], by_stage["encoder/text"]["Conv"]) == (0, 0)
    assert (by_stage["encoder/image"]["Relu"], by_stage["encoder/image"]["Conv"]) == (15, 13)
    assert ours(made["D5"], "albert") == {"exact: Relu layers of Albert": 0}
    gemm_share, relu_share = ours(made["D5"], "gemm"), ours(made["D5"], "relu")
    assert gemm_share["modelled: Gemm of Albert, roofline time"] == pytest.approx(0.72, abs=0.05)
    named_relu = "modelled: Conv of VGG, whose kernels are named relu, roofline time"
    assert relu_share[named_relu] == pytest.approx(0.66, abs=0.05)
    for row in rows(made["D5"], "Time of mm-imdb/concat by category"):
        assert sum(value for name, value in row.items() if name != "stage") == pytest.approx(1)  # type: ignore[misc]


def test_the_nine_workloads_have_their_known_sizes(made: dict[str, Reproduction]) -> None:
    sizes = {row["network"]: (row["params"], row["MACs"]) for row in rows(made["T3"], "The nine workloads")}

    assert sizes["av-mnist/concat"] == (260_922, 11_993_032)
    assert sizes["mm-imdb/concat"] == (164_932_671, 63_854_435_328)
    assert sizes["medical-seg/transformer-mmbench"] == (35_798_404, 128_133_103_616)
    assert len({row["application"] for row in rows(made["T3"], "The nine workloads")}) == 9


def test_exits_are_those_of_the_analysis(made: dict[str, Reproduction], sources: Sources) -> None:
    graph = sources.graph("av-mnist/concat")
    found = analyse(with_exits(graph, ExitSettings(p=0.3)))
    first = rows(made["E1"], "Reductions")[0]

    assert first["MACs"] == 11_993_032
    assert first["exits add"] == pytest.approx(960 / 11_993_032)
    assert first["MACs off"] == found.row("macs").reduction
    rates = rows(made["E1"], "How often exits are taken")[0]
    assert [rates[name] for name in ("macs 22.6", "macs 48.7", "params 21.4", "params 45.0")] == [
        rate.p for rate in found.rates
    ]
    for row in rows(made["E2"], "Order of modalities"):
        assert row["worst"] <= row["listed"] <= row["best"]  # type: ignore[operator]
        assert row["worst"] <= row["MMExit"] <= row["best"]  # type: ignore[operator]


def test_no_published_throughput_is_above_the_roofline(sources: Sources) -> None:
    side = next(side for side in by_id("P1").sides if not side.needs)
    (table,) = side.make(sources)
    found = {row["network"]: row for row in table.to_dict()["rows"]}

    assert len(found) == 8
    assert all(0 < row["published of it"] < 1 for row in found.values())
    # 80 multiprocessors of 64 units at 1530 MHz: compute alone allows so many.
    assert found["resnet152-v1"]["roofline"] < 80 * 64 * 1530e6 / 11_282_415_616


def test_shares_of_a_phase_add_up() -> None:
    item = by_id("G1")
    (table,) = item.sides[0].make(Snapshots())
    found = {row["phase"]: row for row in table.to_dict()["rows"]}

    for row in found.values():
        assert sum(value for name, value in row.items() if name not in ("phase", "batch")) == pytest.approx(1)
    assert [name for name, row in found.items() if row["Reorder"]] == ["seamless-m4t/text-decode"]
    # The paper's findings: recommendation is attention's, a decoding step is the linear layers'.
    assert found["hstu/dlrm"]["Attn"] > 0.5
    assert found["codellama/34b-decode"]["Linear"] > 0.95
    # What the text says of the script's: about 450 times ours, and shares without its idle time.
    said = {line.key: line.value for line in item.headlines}
    own = {line.key: line.value for line in table.ours}
    assert said["decode"] / own["decode"] == pytest.approx(450, rel=0.02)  # type: ignore[operator]
    assert f"Seamless' reorder is {100 * said['seamless'] / (1 - 0.241):.0f} %" in item.differs  # type: ignore[operator]
    assert f"Linear {100 * said['linear'] / (1 - said['idle']):.0f} %" in item.differs  # type: ignore[operator]


class Snapshots(Sources):
    """The snapshots alone, which are in float32."""

    def graph(self, name: str, batch: int | None = None, **how: Any) -> LayerGraph:
        return super().graph(name)


def test_levers_take_off_what_is_stored() -> None:
    (table,) = levers_of(Snapshots(), "codellama/7b")
    found = {row["lever"]: row for row in table.to_dict()["rows"]}

    assert found["none"]["fewer bytes"] == 1
    # Nearly all that a token moves are weights, of 32 bits; four bits have a scale and an offset for each 64.
    assert found["weights as int8"]["fewer bytes"] == pytest.approx(32 / 8, rel=0.15)
    assert found["weights as int4"]["fewer bytes"] == pytest.approx(32 / (4 + 2 * 32 / 64), rel=0.25)
    assert found["LayerSkip"]["MACs"] > found["none"]["MACs"]
    assert table.ours[1].value == found["all: int4, int8, LayerSkip"]["fewer bytes"]


def test_another_batch_is_traced_and_the_snapshots_is_not() -> None:
    pytest.importorskip("torch")
    shared = Sources()

    assert shared.graph("av-mnist/image", 40).total_macs == 40 * 149_032
    assert shared.graph("av-mnist/image", 40) is shared.graph("av-mnist/image", 40)
    assert shared.graph("av-mnist/image", 1) == LayerGraph.load(path_of("av-mnist/image"))  # type: ignore[arg-type]


@pytest.mark.full
def test_what_needs_other_batches() -> None:
    pytest.importorskip("torch")
    shared = Sources()
    found = {name: reproduce(name, sources=shared) for name in TORCH}

    assert ours(found["D10"], "linear") == {"exact: av-mnist/concat, batch 400 over 40": 10}
    assert ours(found["D10"], "constant") == {"exact: av-mnist/concat, batch 400 over 40": 1}
    sizes = ours(found["D11"], "params")
    assert sizes["exact: whole network over image network"] == pytest.approx(260_922 / 7_077)
    assert sizes["exact: audio encoder over image network"] == pytest.approx(221_874 / 7_077)
    server, orin, nano = ours(found["D11"], "uni").values()
    assert orin < server < nano
    kernels = rows(found["D9"], "Kernels by duration")
    assert sum(kernels[0][name] for name in ("0-10 us", "10-50 us", "50-100 us", ">100 us")) == 54  # type: ignore[misc]
    assert sum(ours(found["D9"], "large").values()) > 0
    fused = {row["operator"]: row for row in rows(found["D15"], "Fusion operators in av-mnist/concat")}
    assert (fused["zero"]["MACs"], fused["tensor"]["outer"]) == (0, 48 * 192)
    # The narrower one goes to 192 first.
    assert (fused["sum"]["MACs"], fused["concat"]["params"]) == (192 * 48, (48 + 192) * 192 + 192)
    page = (ROOT / "docs" / "reproduce.md").read_text()
    stale = [name for name, one in found.items() if item_markdown(one) not in page]
    assert not stale, "write it again: python -m mmworkload.reproducing.page docs/reproduce.md"


def test_the_page_is_written_by_the_command(made: dict[str, Reproduction]) -> None:
    page = (ROOT / "docs" / "reproduce.md").read_text()

    stale = [name for name, one in made.items() if item_markdown(one) not in page]
    assert not stale, "write it again: python -m mmworkload.reproducing.page docs/reproduce.md"
    assert [line.split(":")[0].removeprefix("## ") for line in page.splitlines() if line.startswith("## ")] == [
        *(item.id for item in items()),
        "JSON",
    ]


def test_items_fit_80_columns(made: dict[str, Reproduction]) -> None:
    for name, one in made.items():
        text = io.StringIO()
        print_out(*item_tables(one), stream=text)
        assert max(map(len, text.getvalue().splitlines())) <= 80, name
        assert "Why it differs" in text.getvalue()


@pytest.mark.parametrize("item", items(), ids=lambda item: item.id)
def test_every_item_says_where_it_is_from(item: Item) -> None:
    assert item.headlines
    assert all(line.source and line.unit in get_args(Unit) for line in item.headlines)
    assert len({line.key for line in item.headlines}) == len(item.headlines)
    assert item.platform
    assert item.differs
    # Nothing is left out without a word: what has no side says what it would need.
    assert item.sides or item.lacking


def test_ids_are_unique_and_views_have_items() -> None:
    names = [item.id for item in items()]

    assert len(set(names)) == len(names)
    assert {view.removesuffix("a").removesuffix("b") for view in VIEWS if view[0] == "D"} - set(names) == {"D14"}


def test_only_figures_of_the_authors_script_are_marked_so() -> None:
    marked = {(item.id, line.key) for item in items() for line in item.headlines if line.status == "script"}

    assert marked == {("G1", key) for key in ("hstu", "seamless", "linear", "idle", "decode", "prefill")}


def test_an_unknown_item_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown item 'D44'. Did you mean .*D4"):
        reproduce("D44")


def test_an_unknown_gpu_is_an_error_and_not_a_missing_side() -> None:
    with pytest.raises(UnknownNameError, match="rtx_2080"):
        reproduce("D4", arch="rtx_2080")


def test_another_gpu_is_modelled_where_asked(sources: Sources) -> None:
    found = reproduce("D3", arch="h200")

    assert "H200" in found.tables[0].on
    assert found.tables[0].rows[0][1] == launches(sources.graph(PUSH)) == 1028
    assert found.tables[0].rows[0][3] < reproduce("D3", sources=sources).tables[0].rows[0][3]  # type: ignore[operator]


def test_what_is_missing_is_named(made: dict[str, Reproduction]) -> None:
    (missing,) = made["D2"].missing

    assert missing.basis == "measured"
    assert "mmworkload measure av-mnist/concat --device cuda --counters -o FOLDER" in missing.needs
    assert [(item.basis, item.needs) for item in made["D7"].missing] == [
        ("", "trained weights and the data set with its labels")
    ]
    assert not made["D7"].tables


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "ratio", GAP),
        (True, "yes/no", "yes"),
        (0.0004, "ratio", f"<0.001{TIMES}"),
        (4.09, "ratio", f"4.09{TIMES}"),
        (996.3, "1/s", "996.3"),
        (11.34, "1/s", "11.34"),
        (999.7, "number", "1.00 k"),
        (0.58, "number", "0.58"),
        (12_000_000, "number", "12.0 M"),
        (18_013, "count", "18,013"),
        ("image", "", "image"),
    ],
)
def test_values_are_written_for_readers(value: object, unit: Unit, text: str) -> None:
    assert cell(value, unit) == text  # type: ignore[arg-type]


def by_id(name: str) -> Item:
    return next(item for item in items() if item.id == name)


# Microseconds of a kernel of each stage's first layer in a made-up measurement; all other layers take nothing.
MICROS = {"encoder/position": 1.0, "encoder/sensors": 2.0, "encoder/image": 8.0, "encoder/control": 3.0, "fusion": 5.0}


def spread(seconds: float) -> Spread:
    return Spread.of([seconds])


def taken(name: str, runtime_s: float, factor: float = 1.0) -> Result:
    """A measurement of a snapshot on a GPU that does not exist."""
    graph = LayerGraph.load(path_of(name))  # type: ignore[arg-type]
    seen: set[str] = set()
    kernels = []
    for layer in graph:
        micro = 0.0 if layer.stage in seen else factor * MICROS.get(layer.stage, 0.0)
        seen.add(layer.stage)
        kernels.append(
            {
                "run": 0, "name": layer.op, "kind": "kernel", "layer": layer.name, "op": layer.op,
                "stage": layer.stage, "modality": layer.modality, "category": layer.category,
                "name_category": "Other", "start_s": 0.0, "duration_s": micro * 1e-6, "stream": 7,
                "caused_s": 0.0, "launch_s": 0.0,
            }
        )  # fmt: skip
    host = [
        {
            "run": 0, "kind": "operator", "name": "op", "layer": row["layer"], "stage": row["stage"],
            "modality": row["modality"], "start_s": 0.0, "duration_s": 1e-6, "self_s": 1e-6, "thread": 1,
        }
        for row in kernels
    ]  # fmt: skip
    stages = tuple(
        # Between two kernels of the fusion the device waits as long as they take.
        StageTime(
            stage,
            "",
            spread((2 if stage == "fusion" else 1) * micro * 1e-6),
            1e-5,
            runtime_s,
            factor * 1e-5,
            0.0,
            1,
            0,
            0,
        )
        for stage, micro in MICROS.items()
    )
    measurement = Measurement(
        name, graph.variant, 1, "float32", "cuda", spread(4e-5), spread(6e-5), (), 0.0, 0.0,
        {"model": 1, "data": 1, "intermediates": 1, "total": 3}, stage_times=stages,
        provenance={"device_name": "Some GPU"}, executions=(Execution("streams", "", spread(3e-5)),),
    )  # fmt: skip
    return Result(measurement, graph, pandas.DataFrame(kernels), pandas.DataFrame(host))


def without_stages(result: Result) -> Result:
    return replace(result, measurement=replace(result.measurement, stage_times=()))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    place = tmp_path_factory.mktemp("measured")
    save(taken(LATE, 2e-6), place / "late")
    save(taken(PUSH, 1e-5, 3.0), place / "transformer")
    return [str(place / name) for name in ("late", "transformer")]


@pytest.fixture(scope="module")
def measured(folders: list[str]) -> Sources:
    return Sources(folders)


def only_measured(name: str, sources: Sources) -> Reproduction:
    """An item by its measured sides alone."""
    item = by_id(name)
    sides = tuple(side for side in item.sides if side.basis == "measured")
    return reproduce(Item(**{**vars(item), "sides": sides}), sources=sources)


def test_measured_stragglers_by_hand(measured: Sources) -> None:
    found = only_measured("D4", measured)

    assert found.tables[0].on == "Some GPU"
    assert ours(found, "push") == {
        f"measured: encoder time, {name}, batch 1": pytest.approx(8 / 1) for name in ("late", "transformer")
    }
    assert ours(found, "alone") == {
        f"measured: encoder time, {name}, batch 1": pytest.approx(1 - 3 / 8) for name in ("late", "transformer")
    }
    assert alone({"a": 1.0, "b": 1.0}) == 0


def test_measured_host_and_device_by_hand(measured: Sources) -> None:
    found = only_measured("D3", measured)

    assert ours(found, "runtime") == {"measured: transformer over late, batch 1": pytest.approx(5)}
    assert ours(found, "gpu") == {"measured: transformer over late, batch 1": pytest.approx(3)}


@pytest.mark.parametrize("view", ["D3", "D4"])
def test_measured_tables_are_those_of_the_views(view: str, folders: list[str], measured: Sources) -> None:
    (table,) = only_measured(view, measured).tables
    frame = analyze(view, folders)
    columns = [column for column, _ in table.columns]
    kept = frame[columns]

    assert [list(row) for row in table.rows] == kept.astype(object).where(kept.notna(), None).to_numpy().tolist()
    assert all(COLUMNS[column].unit == unit for column, unit in table.columns)


def test_streams_are_over_the_graph_on_one(measured: Sources) -> None:
    (table,) = only_measured("D4b", measured).tables

    assert table.to_dict()["rows"][0] == {
        "model": LATE, "batch": 1, "without": 6e-5, "streams": 3e-5, "faster": pytest.approx(2),
    }  # fmt: skip


def test_one_result_says_what_it_is_of_above_the_table(folders: list[str]) -> None:
    (table,) = only_measured("D1", Sources(folders[1:])).tables

    assert table.on == f"Some GPU: {PUSH}, batch 1"
    assert [name for name, _ in table.columns] == ["stage", "kernel_s", "share", "of_encoders", "wall_s"]
    assert [(own.key, own.value) for own in table.ours] == [
        ("cal", pytest.approx(5 / 14)),
        ("mmbench", pytest.approx(10 / 14)),
    ]
    assert [own.what for own in table.ours] == ["kernel time, batch 1", "wall time, batch 1"]


def test_wall_time_that_was_not_measured_is_not_kernel_time() -> None:
    result = taken(PUSH, 1e-5)
    (table,) = only_measured("D1", Sources([without_stages(result)])).tables

    assert [own.key for own in table.ours] == ["cal"]


def test_all_seven_classes_of_stalls_are_shown_within_80_columns() -> None:
    result = taken("av-mnist/concat", 1e-5)
    stalls = {name: float(number) for number, name in enumerate(STALLS, 1)}
    found = only_measured("D12", Sources([replace(result, kernels=result.kernels.assign(**stalls))]))
    text = io.StringIO()
    print_out(*item_tables(found), stream=text)

    first = rows(found, "Stalls by stage")[0]
    assert list(first) == ["stage", "Cache", "Mem", "Exec", "Pipe", "Sync", "Inst", "Else"]
    assert list(first.values())[1:] == [pytest.approx(number / 28) for number in range(1, 8)]
    assert max(map(len, text.getvalue().splitlines())) <= 80


def test_counters_that_were_not_read_are_missing(measured: Sources) -> None:
    found = only_measured("D2", measured)

    assert not found.tables
    assert found.missing[0].needs.startswith("hardware counters, which the result of Some GPU has not: mmworkload")
