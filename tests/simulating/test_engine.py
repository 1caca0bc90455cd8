"""The engine: what is simulated, what in closed form, what happens to failures, and how it adds up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmworkload.arch import Architecture
from mmworkload.errors import MmworkloadError, UnavailableError, UnknownNameError
from mmworkload.graph import Part, Workload
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import ROLES, Mask, Problem, axis, gemm
from mmworkload.simulating import choice
from mmworkload.simulating.cache import Cache
from mmworkload.simulating.choice import choose, simulators
from mmworkload.simulating.engine import simulate
from mmworkload.simulating.estimate import WIDER, Fidelity, Options, as_asked
from mmworkload.simulating.rollup import stored_bits
from mmworkload.simulating.roofline import closed_form
from mmworkload.simulating.rows import Answer, layer_row

BYTE = (8, 8, 8)
PICO = 1e-12


def layer(name: str, work: tuple[Work, ...] = (), **values: Any) -> Layer:
    return Layer(name, values.pop("op", "linear"), stage=values.pop("stage", "head"), work=work, **values)


def product(name: str, rows: int = 6, *, count: int = 1, sequential: bool = False, **values: Any) -> Layer:
    return layer(name, (Work(gemm(rows, 10, 4, bits=(32, 32, 32)), count, sequential),), **values)


class Unavailable:
    name = "unavailable"
    in_process = False

    def unavailable(self) -> str | None:
        return "not on this machine: install it"


class Refusing:
    name = "refusing"
    in_process = False

    def unavailable(self) -> str | None:
        return None

    def fidelity(self, arch: Architecture) -> Fidelity:
        return Fidelity("refused", ("no vector unit",))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def fake(**extra: str) -> Options:
    return Options(limit_s=20.0, extra=extra)


# --- which simulator ------------------------------------------------------------------------------------------------


def test_the_built_in_simulators_are_found_as_plug_ins() -> None:
    assert {"roofline", "zigzag"} <= set(simulators())


@pytest.mark.usefixtures("fake_simulator")
def test_anybody_elses_simulator_is_found_the_same_way() -> None:
    assert simulators()["fake"].version() == "1"


def test_auto_takes_the_first_that_can_and_says_why_not_the_others(
    small: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    roofline = simulators()["roofline"]
    known = {"timeloop": Unavailable(), "zigzag": Refusing(), "roofline": roofline}
    monkeypatch.setattr(choice, "simulators", lambda: known)

    chosen = choose("auto", small)

    assert chosen.simulator is roofline
    assert str(chosen) == (
        f"roofline {roofline.version()} (timeloop: not on this machine; recorded: not installed; zigzag: cannot be told"
        " small: no vector unit)"
    )


def test_auto_does_without_plug_ins_that_are_not_installed(
    small: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"roofline": simulators()["roofline"]}
    monkeypatch.setattr(choice, "simulators", lambda: known)

    assert choose("auto", small).why == "timeloop: not installed; recorded: not installed; zigzag: not installed"


def test_one_that_is_asked_for_and_cannot_run_is_an_error(small: Architecture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "simulators", lambda: {"timeloop": Unavailable(), "zigzag": Refusing()})

    with pytest.raises(UnavailableError, match="timeloop: not on this machine: install it"):
        choose("timeloop", small)
    with pytest.raises(UnavailableError, match="cannot be told small: no vector unit"):
        choose("zigzag", small)


def test_an_unknown_simulator_or_dtype_is_an_error(small: Architecture, make_graph: Any) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown simulator 'zigzagg'\. Did you mean zigzag"):
        choose("zigzagg", small)
    with pytest.raises(UnknownNameError, match="unknown dtype 'float8'"):
        simulate(make_graph(), small, dtype="float8")


# --- numbers --------------------------------------------------------------------------------------------------------


def test_a_layer_costs_its_loop_nests_times_their_count_then_its_vector_work(
    small: Architecture, make_graph: Any
) -> None:
    graph = make_graph(
        product("lstm", count=3, sequential=True, vector_ops=41, reads=(("x", 24), ("w", 40)), writes=(("y", 60),)),
        weights=("w",),
    )

    result = simulate(graph, small, "roofline")

    (row,) = result.layers
    once = closed_form(gemm(6, 10, 4, bits=BYTE), small)
    assert once.total_energy_j is not None
    vector = (41 * 0.25 + 11 * (3 + 8 * 0.5)) * PICO
    assert (row.macs, row.count, row.cycles, row.bound) == (720, 3, 3 * 60 + 11, "memory")
    assert row.latency_s == pytest.approx(191e-6)
    assert row.energy_j == pytest.approx(3 * once.total_energy_j + vector)
    assert row.utilization == 720 / (191 * 8)
    assert row.dram_bytes == 3 * (24 + 40 + 60)
    assert (row.simulator, row.floored_from, row.note) == ("roofline", None, "")
    assert (result.runs, result.unique_problems) == (3, 1)


def test_what_a_layer_moves_beyond_its_loop_nests_comes_on_top(small: Architecture, make_graph: Any) -> None:
    bias = product("linear", reads=(("x", 24), ("w", 40), ("b", 10)), writes=(("y", 60),))

    (row,) = simulate(make_graph(bias, weights=("w", "b")), small, "roofline").layers

    assert row.cycles == 60 + 10 // 2
    assert row.dram_bytes == 24 + 40 + 60 + 10


def test_a_layer_without_mac_work_is_not_free(small: Architecture, make_graph: Any) -> None:
    graph = make_graph(
        layer("copy", op="cat", reads=(("x", 100),), writes=(("y", 100),)),
        layer("norm", op="layer_norm", vector_ops=1000, reads=(("y", 100),), writes=(("z", 100),)),
    )

    copy, norm = simulate(graph, small, "roofline").layers

    assert (copy.cycles, copy.bound, copy.simulator, copy.macs) == (100, "memory", "roofline", 0)
    assert copy.energy_j == pytest.approx((25 * 100 + 25 * 200 + 100 * 7) * PICO)
    assert (norm.cycles, norm.bound) == (250, "vector")
    assert norm.energy_j == pytest.approx((25 * 100 + 25 * 200 + 1000 * 0.25 + 250 * 7) * PICO)


def test_the_native_precision_is_used_unless_another_is_forced(small: Architecture, make_graph: Any) -> None:
    tensors = {
        "x": Tensor("x", (24,), "float32", 32, "input", "x"),
        "ids": Tensor("ids", (10,), "int64", 64, "input", "ids"),
        "y": Tensor("y", (60,), "float32", 32, "activation", "y"),
    }
    graph = make_graph(
        product("linear", reads=(("x", 96),), writes=(("y", 240),)),
        layer("gather", op="gather", reads=(("ids", 80), ("y", 240))),
        tensors=tensors,
    )

    native, forced = simulate(graph, small, "roofline"), simulate(graph, small, "roofline", dtype="float16")

    assert (native.bits, native.precision, native.traced_dtype) == (8, "8 bits, native to small", "float32")
    assert (forced.bits, forced.precision) == (16, "float16, forced")
    assert [row.cycles for row in native.layers] == [60, (80 + 60) // 2]
    # Twice the bytes for floating-point numbers; identifiers keep their 8 bytes.
    assert [row.cycles for row in forced.layers] == [120, (80 + 120) // 2]


def stored(bits: int, out: int = 32) -> Problem:
    """A product that waits for its 640 weights, which are stored in so many bits."""
    return gemm(1, 40, 16, bits=(32, bits, out))


@pytest.mark.parametrize(
    ("problem", "dtype", "weight_bits"),
    [
        (stored(32), None, 8),
        (stored(4), None, 4),
        (stored(4), "float16", 4),
        (stored(8), "float16", 8),
        # In fewer bits than the run only: what the run is in holds.
        (stored(16), None, 8),
        (stored(8), "int4", 4),
        # All that is read has one width: it is the type of the traced graph and not a way to store weights.
        (gemm(1, 40, 16, bits=(4, 4, 32)), None, 8),
    ],
)
def test_what_is_stored_in_fewer_bits_moves_in_them_and_is_computed_in_those_of_the_run(
    small: Architecture, make_graph: Any, problem: Problem, dtype: str | None, weight_bits: int
) -> None:
    run_bits = 8 if dtype is None else {"float16": 16, "int4": 4}[dtype]
    asked = as_asked(problem, dict.fromkeys(ROLES, run_bits))
    assert {operand.role: operand.bits for operand in asked.operands} == {
        "input": run_bits,
        "weight": weight_bits,
        "output": run_bits,
    }

    (row,) = simulate(make_graph(layer("linear", (Work(problem),))), small, "roofline", dtype=dtype).layers

    # Two bytes a cycle come in; 640 products take 80 cycles.
    assert row.cycles == max(80, (16 * run_bits + 640 * weight_bits) // 8 // 2)
    assert row.traffic_bytes["dram"] == {
        "input": 2 * run_bits,
        "weight": 80 * weight_bits,
        "output": 5 * run_bits,
    }
    # The weights' register is charged by the bit, the multiplier is not.
    assert row.energy_by_component_j["mac"] == pytest.approx(640 * small.compute.energy_pj * PICO)
    register = small.levels["register"].energy
    assert row.energy_by_component_j["register"] == pytest.approx(
        640 * weight_bits // 8 * (register.read_pj + register.write_pj) * PICO
    )


def test_a_row_says_when_a_tool_charged_wider_words_than_are_stored(small: Architecture, make_graph: Any) -> None:
    graph = make_graph(layer("linear", (Work(stored(4)),)))
    told = f"{WIDER} Weights of 4 bits charged as 8"
    answer = Answer(replace(closed_form(as_asked(stored(4), small.bits), small), includes=("compute", told)))

    row = layer_row(graph.layers[0], Part(graph), "0", small, 8, {graph.layers[0].work[0].problem.key: answer})

    assert row.note == told


def test_a_float_of_eight_bits_is_storage_and_keeps_its_width() -> None:
    half, byte = (Tensor("k", (8, 8), dtype, bits, "state", "k") for dtype, bits in (("float16", 16), ("float8", 8)))
    assert [stored_bits(item, item.bytes, 32) for item in (half, byte)] == [64 * 32, 64 * 8]


def test_a_narrow_output_is_written_narrow(small: Architecture) -> None:
    asked = as_asked(stored(32, out=4), dict.fromkeys(ROLES, 8))
    assert {operand.role: operand.bits for operand in asked.operands} == {"input": 8, "weight": 8, "output": 4}


def test_the_key_of_a_problem_in_one_width_is_that_of_the_run_alone() -> None:
    keys = {as_asked(gemm(6, 10, 4, bits=(width,) * 3), dict.fromkeys(ROLES, 16)).key for width in (8, 16, 32)}
    assert keys == {gemm(6, 10, 4, bits=(16, 16, 16)).key}


def test_outer_products_run_on_the_array_and_other_operations_on_the_vector_unit(
    small: Architecture, make_graph: Any
) -> None:
    outer = gemm(9, 17, 1, bits=(32, 32, 32), operation="mul")
    rows = tuple(axis(letter, size) for letter, size in (("N", 6), ("M", 10)))
    pool = Problem(
        (("N", 6), ("M", 10), ("R", 4)),
        (
            gemm(6, 10, 4).operand("Inputs").__class__("Inputs", "input", 32, (*rows, axis("R", 4))),
            gemm(6, 10, 4).output.__class__("Outputs", "output", 32, rows),
        ),
        operation="max",
    )
    graph = make_graph(layer("outer", (Work(outer),)), layer("pool", (Work(pool),), op="max_pool2d"))

    result = simulate(graph, small, "roofline")

    first, second = result.layers
    assert (first.macs, first.outer_macs, first.cycles) == (0, 9 * 17, 9 * 17)  # written at a byte a cycle
    assert first.utilization == 1 / 8
    assert (second.macs, second.outer_macs, second.cycles) == (0, 0, 240 // 2)  # 240 read at 2 a cycle, 240 / 4 lanes
    assert result.unique_problems == 1


def test_equal_work_is_simulated_once_whatever_its_mask_precision_or_layer(
    small: Architecture, make_graph: Any
) -> None:
    plain = gemm(6, 10, 4, bits=(32, 32, 32))
    masked = gemm(6, 10, 4, bits=(16, 16, 16), mask=Mask("causal", 6, 10))
    outer = gemm(6, 10, 4, bits=(32, 32, 32), operation="mul")
    graph = make_graph(
        layer("a", (Work(plain, 2),)), layer("b", (Work(masked),)), layer("c", (Work(outer), Work(gemm(7, 10, 4))))
    )

    result = simulate(graph, small, "roofline")

    assert (result.runs, result.unique_problems) == (5, 2)
    assert result.layers[1].cycles == 60  # the mask saves nothing
    assert result.layers[1].macs == 240


def test_rows_carry_what_has_to_be_known_about_them(small: Architecture, make_graph: Any) -> None:
    graph = make_graph(
        layer("nms", op="nms", vector_ops=4, placement="host", assumptions=("1000 proposals",)),
        layer("unused", op="relu", vector_ops=4, dead=True, assumptions=("1000 proposals",)),
    )

    result = simulate(graph, small, "roofline")

    assert [(row.layer, row.note) for row in result.layers] == [("unused", "no output depends on it")]
    assert result.assumptions == ("1000 proposals", "1 layers run on the host, which is measured and not simulated")


def test_what_runs_on_the_host_alone_is_not_simulated(small: Architecture, make_graph: Any) -> None:
    graph = make_graph(layer("stft", op="stft", vector_ops=4, placement="host"))
    with pytest.raises(MmworkloadError, match="every layer runs on the host, which is measured and not simulated"):
        simulate(graph, small, "roofline")


def two_encoders(make_graph: Any) -> Any:
    return make_graph(
        layer("image", op="relu", stage="encoder/image", modality="image", reads=(("i", 80),), writes=(("a", 40),)),
        layer("audio", op="relu", stage="encoder/audio", modality="audio", reads=(("s", 20),), writes=(("b", 10),)),
        product("fuse", stage="fusion", reads=(("a", 40), ("b", 10)), writes=(("f", 60),)),
        layer("head", op="relu", stage="head", reads=(("f", 60),), writes=(("out", 60),)),
        outputs=("out",),
    )


def test_stages_modalities_and_paths_add_up(small: Architecture, make_graph: Any) -> None:
    result = simulate(two_encoders(make_graph), small, "roofline")

    stages = result.stages()
    assert {stage: totals.cycles for stage, totals in stages.items()} == {
        "encoder/image": 40,
        "encoder/audio": 10,
        "fusion": 60,
        "head": 60,
    }
    assert result.serial_latency_s == pytest.approx(170e-6)
    assert result.critical_path_s == pytest.approx(160e-6)
    assert stages["fusion"].share == pytest.approx(60 / 170)
    assert stages["fusion"].macs == 240
    assert result.encoder_s == pytest.approx({"image": 40e-6, "audio": 10e-6})
    assert result.straggler.modality == "image"
    assert result.straggler.ratio == pytest.approx(4.0)
    assert result.straggler.idle_share == pytest.approx(1 - 50 / 80)
    assert result.energy_j == pytest.approx(sum(row.energy_j or 0.0 for row in result.layers))
    assert result.energy_j == pytest.approx(sum(result.energy_by_component_j.values()))
    assert result.dram_bytes == 120 + 30 + (24 + 40 + 60) + 120


def test_the_parts_of_a_workload_are_weighted(small: Architecture, make_graph: Any) -> None:
    once, often = two_encoders(make_graph), make_graph(product("step", reads=(("x", 24),), writes=(("y", 60),)))
    workload = Workload(
        "generate", (Part(once, "prefill"), Part(often, "decode", 5), Part(often, "crops", 3, sequential=False))
    )

    result = simulate(workload, small, "roofline")

    assert result.serial_latency_s == pytest.approx((170 + 5 * 60 + 3 * 60) * 1e-6)
    # Crops are independent of each other: on accelerators enough they take the time of one.
    assert result.critical_path_s == pytest.approx((160 + 5 * 60 + 60) * 1e-6)
    assert [(row.part, row.weight, row.cycles) for row in result.layers[-2:]] == [("decode", 5, 60), ("crops", 3, 60)]
    assert result.totals.macs == 240 * (1 + 5 + 3)
    assert result.energy_j == pytest.approx(sum(result.energy_by_component_j.values()))


def test_the_result_is_plain_data_and_a_table(small: Architecture, make_graph: Any) -> None:
    result = simulate(two_encoders(make_graph), small, "roofline")

    data = json.loads(json.dumps(result.to_dict()))
    frame = result.to_pandas()

    assert data["serial_latency_s"] == result.serial_latency_s
    assert data["straggler"]["modality"] == "image"
    assert data["on_chip"]["level"] == "buffer"
    assert data["arch_key"] == small.key
    assert [row["layer"] for row in data["layers"]] == list(frame["layer"]) == ["image", "audio", "fuse", "head"]
    assert list(frame["cycles"]) == [40, 10, 60, 60]
    assert {
        "op",
        "stage",
        "modality",
        "macs",
        "latency_s",
        "energy_j",
        "utilization",
        "bound",
        "dram_bytes",
        "simulator",
        "floored_from",
        "note",
    } <= set(frame.columns)


def test_an_empty_graph_costs_nothing(small: Architecture, make_graph: Any) -> None:
    result = simulate(make_graph(), small, "roofline")

    assert (result.serial_latency_s, result.critical_path_s, result.energy_j, result.stages()) == (0, 0, 0, {})
    assert list(result.to_pandas().columns)[:2] == ["layer", "phase"]


# --- jobs, failures and the cache -----------------------------------------------------------------------------------


@pytest.fixture
def three(make_graph: Any) -> Any:
    """Three layers, two different loop nests."""
    return make_graph(product("a"), product("b", 7), product("c"))


@pytest.mark.usefixtures("fake_simulator")
def test_each_unique_problem_is_run_once_and_then_known(
    small: Architecture, three: Any, cache: Cache, tmp_path: Path
) -> None:
    options = fake(runs=str(tmp_path / "runs"), cycles="90")
    steps: list[tuple[int, int]] = []

    cold = simulate(three, small, "fake", cache=cache, options=options, progress=lambda *step: steps.append(step))
    warm = simulate(three, small, "fake", cache=cache, options=options)

    assert len((tmp_path / "runs").read_text().splitlines()) == 2
    assert (cold.runs, cold.unique_problems, cold.cache_hits) == (3, 2, 0)
    assert warm.cache_hits == 2
    assert [row.cycles for row in warm.layers] == [row.cycles for row in cold.layers] == [90, 90, 90]
    assert steps == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.usefixtures("fake_simulator")
def test_without_a_cache_nothing_is_kept(
    small: Architecture, three: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMWORKLOAD_CACHE", str(tmp_path / "default"))

    simulate(three, small, "fake", cache=False, options=fake())

    assert not (tmp_path / "default").exists()
    simulate(three, small, "fake", cache=True, options=fake())
    assert len(list((tmp_path / "default" / "estimates").glob("*/*.json"))) == 2


@pytest.mark.usefixtures("fake_simulator")
@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("refuse", "fake gave no answer (error): no mapping fits"),
        ("bug", "fake gave no answer (error): ZeroDivisionError: of the tool"),
        ("wrong_macs", "fake gave no answer (error): fake counted 241 MACs where the problem has 240"),
        ("exit", "fake gave no answer (crash): the worker ended (exit code 3): about to leave"),
        ("sleep", "fake gave no answer (timeout): no answer within 0.3 s"),
    ],
)
def test_a_problem_without_an_answer_falls_to_the_roofline_and_says_so(
    small: Architecture, make_graph: Any, cache: Cache, do: str, reason: str
) -> None:
    options = Options(limit_s=0.3 if do == "sleep" else 20.0, extra={"do": do})

    result = simulate(make_graph(product("a")), small, "fake", cache=cache, options=options)

    (row,) = result.layers
    assert (row.simulator, row.cycles) == ("roofline", 60)
    assert row.note.startswith(reason)
    assert (result.failures, result.fallbacks) == (1, 1)


@pytest.mark.usefixtures("fake_simulator")
def test_only_the_problem_that_is_refused_falls_back(small: Architecture, three: Any, cache: Cache) -> None:
    result = simulate(three, small, "fake", cache=cache, options=fake(refuses_macs="280", cycles="90"))

    assert [(row.simulator, row.cycles) for row in result.layers] == [("fake", 90), ("roofline", 70), ("fake", 90)]
    assert result.layers[1].note == "fake gave no answer (error): too odd for this tool"
    assert (result.failures, result.fallbacks) == (1, 1)


@pytest.mark.usefixtures("fake_simulator")
def test_a_failure_is_remembered_until_a_retry_or_more_time(
    small: Architecture, make_graph: Any, cache: Cache, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    graph = make_graph(product("a"))

    def count(limit_s: float, retry: bool = False) -> int:
        options = Options(limit_s=limit_s, extra={"do": "sleep", "runs": str(runs)})
        assert simulate(graph, small, "fake", cache=cache, options=options, retry=retry).failures == 1
        return len(runs.read_text().splitlines())

    assert count(0.3) == 1
    assert count(0.3) == 1
    assert count(0.4) == 2
    assert count(0.4, retry=True) == 3


@pytest.mark.usefixtures("fake_simulator")
def test_an_answer_below_a_physical_floor_is_raised_marked_and_counted(
    small: Architecture, make_graph: Any, cache: Cache
) -> None:
    graph = make_graph(product("a", count=2), layer("relu", vector_ops=8))

    result = simulate(graph, small, "fake", cache=cache, options=fake(cycles="13"))

    assert (result.layers[0].cycles, result.layers[0].floored_from) == (120, 26)
    assert (result.floored, result.fallbacks) == (1, 0)


@pytest.mark.usefixtures("fake_simulator")
def test_a_simulator_without_energy_gives_none_and_not_a_part_of_it(
    small: Architecture, make_graph: Any, cache: Cache
) -> None:
    graph = make_graph(product("a"), layer("relu", vector_ops=8))

    result = simulate(graph, small, "fake", cache=cache, options=fake(do="no_energy"))

    assert [row.energy_j is None for row in result.layers] == [True, False]
    assert result.energy_j is None
    assert result.energy_by_component_j == {}
    # Without traffic of its own, every operand once.
    assert result.layers[0].dram_bytes == 24 + 40 + 60
