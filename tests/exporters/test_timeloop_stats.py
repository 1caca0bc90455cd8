"""Reading recorded outputs of timeloop-mapper and Accelergy; every figure here stands in a file of the real tools."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mmworkload.errors import SimulationError
from mmworkload.exporters.timeloop.stats import (
    Accesses,
    failure,
    parse_area_table,
    parse_energy_table,
    parse_footprints,
    parse_stats,
)

RECORDED = Path(__file__).parents[1] / "fixtures" / "timeloop"

# cycles, computes, utilization, uJ, fJ per compute by level
SUMMARIES = {
    "o_bmm": (931416, 29805312, 0.5, 38.13, {"mac": 1000.0, "DRAM": 279.30}),
    "o_conv_dw": (64512, 2709504, 0.6562, 107.92, {"mac": 845.0, "rf": 794.73, "glb": 37.65, "DRAM": 38151.93}),
    "o_conv_grouped": (225792, 14450688, 1.0, 16.88, {"mac": 1000.0, "DRAM": 168.40}),
    "o_conv_s2": (1843968, 118013952, 1.0, 321.03, {"mac": 845.0, "rf": 793.26, "glb": 532.03, "DRAM": 550.01}),
    "o_doc_grouped": (
        1032192,
        14450688,
        0.2188,
        154.12,
        {"mac": 845.0, "ospad": 154.87, "wspad": 204.36, "ispad": 31.14, "glb": 4602.34, "DRAM": 4827.66},
    ),
    "o_prime": (1041537223, 1041537223, 0.0156, 1562.18, {"mac": 1000.0, "DRAM": 499.88}),
    "oa_nondiv_factor": (384, 16128, 0.6562, 0.02, {"mac": 1000.0, "DRAM": 218.25}),
    "os_conv_dil2": (451584, 14450688, 0.5, 17.15, {"mac": 1000.0, "DRAM": 187.07}),
    "os_conv_s2": (2107392, 118013952, 0.875, 130.56, {"mac": 1000.0, "DRAM": 106.29}),
    "os_conv_typo_stride": (2107392, 118013952, 0.875, 130.03, {"mac": 1000.0, "DRAM": 101.83}),
}
FOOTPRINTS = {
    "o_bmm": {"A": 151296, "W": 151296, "Z": 465708},
    "o_conv_dw": {"Weights": 864, "Inputs": 1225824, "Outputs": 301056},
    "o_conv_grouped": {"Weights": 4608, "Inputs": 430592, "Outputs": 401408},
    "o_conv_s2": {"Weights": 9408, "Inputs": 157323, "Outputs": 802816},
    "o_doc_grouped": {"Weights": 4608, "Inputs": 430592, "Outputs": 401408},
    "o_prime": {"A": 1022117, "W": 1032247, "Z": 1028171},
    "oa_nondiv_factor": {"A": 1024, "W": 1024, "Z": 1024},
    "os_conv_dil2": {"Weights": 18432, "Inputs": 32768, "Outputs": 50176},
    "os_conv_s2": {"Weights": 9408, "Inputs": 157323, "Outputs": 802816},
    "os_conv_typo_stride": {"Weights": 9408, "Inputs": 41772, "Outputs": 802816},
}


def recorded(run: str, file: str) -> str:
    return (RECORDED / run / f"timeloop-mapper.{file}").read_text()


@pytest.mark.parametrize("run", SUMMARIES)
def test_the_summary_is_read(run: str) -> None:
    stats = parse_stats(recorded(run, "stats.txt"))

    assert (
        stats.cycles,
        stats.computes,
        pytest.approx(stats.utilization),
        stats.energy_uj,
        stats.fj_per_compute,
    ) == SUMMARIES[run]


@pytest.mark.parametrize("run", SUMMARIES)
def test_energies_of_the_levels_are_those_of_the_summary(run: str) -> None:
    stats = parse_stats(recorded(run, "stats.txt"))

    found = {name: level.energy_pj / stats.computes * 1000 for name, level in stats.levels.items()}

    assert found == pytest.approx(stats.fj_per_compute, abs=0.0051)
    assert stats.energy_pj / 1e6 == pytest.approx(stats.energy_uj, abs=0.0051)


@pytest.mark.parametrize("run", SUMMARIES)
def test_words_of_all_instances_are_the_total_that_timeloop_prints(run: str) -> None:
    text = recorded(run, "stats.txt")
    stats = parse_stats(text)

    for name, level in stats.levels.items():
        if level.accesses:
            printed = text.partition(f"\n=== {name} ===\n    Total scalar accesses")[2].split()[1]
            assert sum(item.words for item in level.accesses.values()) == int(printed), name


@pytest.mark.parametrize("run", FOOTPRINTS)
def test_footprints_are_read_from_the_map(run: str) -> None:
    assert parse_footprints(recorded(run, "map.txt")) == FOOTPRINTS[run]


def test_each_level_is_read_with_its_accesses() -> None:
    levels = parse_stats(recorded("o_conv_s2", "stats.txt")).levels

    assert list(levels) == ["mac", "rf", "glb", "DRAM"]
    assert (levels["rf"].instances, levels["rf"].word_bits, levels["rf"].energy_source) == (64, 8, "ERT")
    assert (levels["rf"].area_um2, levels["glb"].area_um2, levels["mac"].area_um2) == (845.98, 795265.0, 466.375)
    assert (levels["mac"].instances, levels["mac"].accesses, levels["mac"].dynamic_pj) == (64, {}, 99721789.44)
    # Counts are per instance in the file: 64 register files read 1843968 weights each.
    assert levels["rf"].accesses["Weights"] == Accesses(1843968 * 64, 460992 * 64, 0, 26747862.22)
    assert levels["rf"].accesses["Outputs"] == Accesses(1831424 * 64, 25088 * 64, 1843968 * 64, 42942146.15)
    assert levels["DRAM"].accesses["Inputs"] == Accesses(201978, 0, 0, 12926976.0)
    assert levels["DRAM"].accesses["Outputs"].words == 802816


def test_leakage_is_that_of_all_instances_over_all_cycles() -> None:
    stats = parse_stats(recorded("o_conv_s2", "stats.txt"))
    per_cycle = parse_energy_table(yaml.safe_load(recorded("o_conv_s2", "ERT_summary.yaml"))).energy_pj

    for name in ("rf", "glb", "DRAM"):
        level = stats.levels[name]
        assert level.leakage_pj == pytest.approx(per_cycle[name]["leak"] * level.instances * stats.cycles, rel=1e-4)


def test_a_misspelt_stride_shows_in_the_footprint_and_nowhere_else() -> None:
    right, wrong = (parse_stats(recorded(run, "stats.txt")) for run in ("os_conv_s2", "os_conv_typo_stride"))

    assert (right.computes, right.cycles) == (wrong.computes, wrong.cycles)
    assert parse_footprints(recorded("os_conv_typo_stride", "map.txt"))["Inputs"] == 3 * 118**2
    assert parse_footprints(recorded("os_conv_s2", "map.txt"))["Inputs"] == 3 * 229**2


def test_a_factor_that_does_not_divide_shows_in_the_computes() -> None:
    assert parse_stats(recorded("oa_nondiv_factor", "stats.txt")).computes == 16128 != 16 * 32 * 32


def test_who_estimated_the_energies_is_read_and_placeholders_are_seen() -> None:
    real = parse_energy_table(yaml.safe_load(recorded("o_conv_s2", "ERT_summary.yaml")))
    dummy = parse_energy_table(yaml.safe_load(recorded("o_bmm", "ERT_summary.yaml")))

    assert real.estimators == {"DRAM": "CactiDRAM", "glb": "CactiSRAM", "rf": "Aladdin_table", "mac": "Aladdin_table"}
    assert real.energy_pj["glb"] == {"read": 56.3363, "leak": 0.0036839, "update": 41.0543, "write": 41.0543}
    assert real.energy_pj["mac"] == {"compute": 0.845}
    assert real.dummies == []
    assert dummy.dummies == ["DRAM", "glb", "mac", "rf"]


def test_areas_are_read_and_the_front_ends_placeholder_is_not_counted() -> None:
    table = parse_area_table(yaml.safe_load(recorded("o_conv_s2", "ART_summary.yaml")))

    assert table.area_um2 == {"DRAM": 0.0, "glb": 795265.0, "inter_PE_spatial": 1.0, "rf": 845.98, "mac": 466.375}
    assert table.instances["rf"] == 64
    assert table.total_um2 == pytest.approx(795265.0 + 64 * 845.98 + 64 * 466.375)


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_result_is_no_valid_mapping(text: str) -> None:
    with pytest.raises(SimulationError, match="no valid mapping"):
        parse_stats(text)


def test_a_result_that_was_cut_short_is_an_error() -> None:
    text = recorded("o_conv_s2", "stats.txt")

    with pytest.raises(SimulationError, match="Summary Stats"):
        parse_stats(text.partition("Summary Stats")[0])
    with pytest.raises(SimulationError, match="Computes"):
        parse_stats(text.partition("Computes = ")[0])


def test_a_level_that_is_not_understood_is_an_error_and_not_missing_energy() -> None:
    text = recorded("o_conv_s2", "stats.txt")

    with pytest.raises(SimulationError, match="level rf: cannot read"):
        parse_stats(text.replace("Scalar fills (per-instance)", "Scalar fillings", 1))
    with pytest.raises(SimulationError, match="adds up to"):
        parse_stats(text.replace("=== glb ===", "glb", 1))


def test_a_map_without_footprints_is_an_error() -> None:
    with pytest.raises(SimulationError, match="does not begin with the footprints"):
        parse_footprints("| for M in [0:2)\n")


def test_another_file_is_not_an_energy_table() -> None:
    with pytest.raises(SimulationError, match="ERT_summary"):
        parse_energy_table({"ERT": {}})
    with pytest.raises(SimulationError, match="ART_summary"):
        parse_area_table(None)


@pytest.mark.parametrize(
    ("log", "accelergy", "reason"),
    [
        ("Failed to run Accelergy. Did you install", "recorded", "no energy estimator for my_SRAM_v2"),
        ("Failed to run Accelergy.", 'Required key "global_cycle_seconds" not found', "misses global_cycle_seconds"),
        ("Failed to run Accelergy.", "", "see timeloop-mapper.accelergy.log"),
        ("MESSAGE: no valid mappings found within search criteria. Some suggestions:", "", "no valid mapping"),
        ("what():  map::at\nAborted\n", "", "timeloop said: Aborted"),
        ("", "", "timeloop said nothing"),
    ],
)
def test_the_logs_say_why_there_is_no_result(log: str, accelergy: str, reason: str) -> None:
    text = (RECORDED / "accelergy_no_estimator.txt").read_text() if accelergy == "recorded" else accelergy

    assert reason in failure(log, text)
    assert len(failure(log, text)) < 320
