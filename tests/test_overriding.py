"""Parameters by path: what becomes stale is estimated anew, what does not is untouched, what is wrong is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmworkload.arch import Architecture, from_dict, load
from mmworkload.energy_scaling import Figures, Mac, Memory, law, logic_node
from mmworkload.errors import ArchitectureError, SimulationError, UnavailableError
from mmworkload.overriding import is_path, overridden, paths
from mmworkload.rescaling import value

SHELF = (
    "ethos_u55_like",
    "eyeriss_like",
    "gemmini_like",
    "nvdla_like",
    "simba_like",
    "simple_weight_stationary",
    "tpu_like",
)
EYERISS = load("eyeriss_like")
LEVEL_FIGURES = ("energy.read_pj", "energy.write_pj", "energy.leak_pj_per_cycle", "area_um2")


def by_law(arch: Architecture, **changes: Any) -> Architecture:
    """Paths with double underscores for dots."""
    return overridden(arch, {path.replace("__", "."): given for path, given in changes.items()}, estimator="law")


def figures(arch: Architecture, part: str = "") -> dict[str, float]:
    """Path to figure, of everything under ``part``."""
    last = ("read_pj", "write_pj", "leak_pj_per_cycle", "area_um2", "energy_pj")
    return {
        path: value(arch, path) for path in paths(arch) if path.startswith(part) and path.rpartition(".")[2] in last
    }


def level_ratio(old: Memory, new: Memory) -> dict[str, float]:
    ratio = [after / before for before, after in zip(law(old), law(new), strict=True)]
    return dict(zip(LEVEL_FIGURES, ratio, strict=True))


@pytest.mark.parametrize("name", SHELF)
def test_setting_what_is_there_changes_nothing(name: str) -> None:
    arch = load(name)
    for path in paths(arch):
        assert overridden(arch, {path: value(arch, path)}) is arch
    everything = {path: value(arch, path) for path in paths(arch)}
    assert overridden(arch, everything) is arch
    assert overridden(arch, {}) is arch


def test_a_larger_buffer_scales_its_own_figures_and_no_others() -> None:
    found = by_law(EYERISS, levels__glb__size_kib="216")
    ratio = level_ratio(Memory("sram", 108, 64, 2, 45), Memory("sram", 216, 64, 2, 45))
    for key in LEVEL_FIGURES:
        assert value(found, f"levels.glb.{key}") == pytest.approx(value(EYERISS, f"levels.glb.{key}") * ratio[key])
        assert ratio[key] > 1
    assert found.levels["glb"].size_kib == 216
    others = {path: figure for path, figure in figures(EYERISS).items() if not path.startswith("levels.glb.")}
    assert {path: value(found, path) for path in others} == others
    assert found.overrides == ("levels.glb.size_kib=216",)
    assert len(found.rescaled) == 1
    assert found.rescaled[0].startswith("levels.glb by the scaling law (read x1.")
    assert from_dict(found.model_dump()) == found


@pytest.mark.parametrize(
    ("change", "new"),
    [
        ({"levels__glb__width_bits": 128}, Memory("sram", 108, 128, 2, 45)),
        ({"levels__glb__ports": 1}, Memory("sram", 108, 64, 1, 45)),
        ({"levels__glb__kind": "regfile", "levels__glb__size_kib": 8}, Memory("regfile", 8, 64, 2, 45)),
        ({"levels__glb__width_bits": 32, "levels__glb__size_kib": 64}, Memory("sram", 64, 32, 2, 45)),
    ],
)
def test_width_ports_and_kind_are_seen(change: dict[str, Any], new: Memory) -> None:
    ratio = level_ratio(Memory("sram", 108, 64, 2, 45), new)
    found = by_law(EYERISS, **change)
    for key in LEVEL_FIGURES:
        assert value(found, f"levels.glb.{key}") == pytest.approx(value(EYERISS, f"levels.glb.{key}") * ratio[key])


def test_a_large_register_file_is_not_plausible() -> None:
    with pytest.raises(ArchitectureError, match=r"levels\.glb\.energy\.read_pj: [\d.]+ is"):
        by_law(EYERISS, levels__glb__kind="regfile")


def test_another_clock_changes_what_is_a_rate_and_no_energy_of_an_access() -> None:
    found = by_law(EYERISS, clock_mhz=800)
    for path, figure in figures(EYERISS).items():
        expected = figure / 4 if path.endswith("leak_pj_per_cycle") else figure
        assert value(found, path) == expected
    assert (found.dram.read_bandwidth, found.dram.write_bandwidth) == (1, 1)
    assert found.dram_bytes_per_second == EYERISS.dram_bytes_per_second == 1.6e9
    assert found.levels["glb"].read_bandwidth == 16
    assert found.rescaled == (
        "all levels by the cycle time (leakage x0.25)",
        "levels.dram by its bytes a second, which stay (words read a cycle x0.25, words written a cycle x0.25)",
    )


def test_a_dram_bandwidth_that_is_set_is_in_words_of_the_new_clock() -> None:
    settings = {"clock_mhz": 800, "levels.dram.read_bandwidth": 4}
    found = overridden(EYERISS, settings, estimator="law")
    assert (found.dram.read_bandwidth, found.dram.write_bandwidth) == (4, 1)
    assert found.overrides == ("clock_mhz=800", "levels.dram.read_bandwidth=4")
    assert "levels.dram.read_bandwidth as set" in found.rescaled
    again = by_law(found, clock_mhz=200)
    assert (again.dram.read_bandwidth, again.dram.write_bandwidth) == (4, 4)
    assert by_law(load("ethos_u55_like"), clock_mhz=250).dram_bytes_per_second == pytest.approx(4e9)


@pytest.mark.parametrize("name", SHELF)
def test_another_node_changes_everything_on_the_chip_and_not_the_dram(name: str) -> None:
    arch = load(name)
    node = 32 if arch.technology_nm != 32 else 45
    found = by_law(arch, technology_nm=node)
    dram = next(iter(arch.levels))
    energy, area = (now / was for now, was in zip(logic_node(node), logic_node(arch.technology_nm), strict=True))
    for path, figure in figures(arch).items():
        now = value(found, path)
        if path.startswith(f"levels.{dram}.") or figure == 0:
            assert now == figure, path
        else:
            assert now != figure, path
    assert found.compute.energy_pj == pytest.approx(arch.compute.energy_pj * energy)
    assert found.compute.area_um2 == pytest.approx(arch.compute.area_um2 * area)
    assert found.vector.energy_pj == pytest.approx(arch.vector.energy_pj * energy)
    for level_name, level in arch.levels.items():
        if level.kind == "sram":
            assert level.size_kib is not None
            was, new = (
                law(Memory("sram", level.size_kib, level.width_bits, level.ports, nm))
                for nm in (arch.technology_nm, node)
            )
            read = level.energy.read_pj * new.read_pj / was.read_pj
            assert found.levels[level_name].energy.read_pj == pytest.approx(read)


def test_more_bits_make_a_larger_multiplier_and_the_vector_unit_charged_as_one() -> None:
    found = by_law(EYERISS, compute__bits=8)
    ratio = law(Mac("intmac", 8, 45)).read_pj / law(Mac("intmac", 16, 45)).read_pj
    # Accelergy's own: 0.5608 pJ and 332.25 um^2.
    assert found.compute.energy_pj == pytest.approx(0.5608, rel=1e-4)
    assert found.compute.area_um2 == pytest.approx(332.25, rel=1e-4)
    assert found.vector.energy_pj == pytest.approx(EYERISS.vector.energy_pj * ratio)
    own = from_dict(EYERISS.model_dump() | {"vector": {"lanes": 14, "energy_pj": 1.0}})
    assert by_law(own, compute__bits=8).vector.energy_pj == 1.0
    assert by_law(own, technology_nm=65).vector.energy_pj == pytest.approx(logic_node(65)[0])


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("array.x", 28),
        ("array.y", "6"),
        ("array.x_dims", "[M, P]"),
        ("levels.glb.read_bandwidth", 8),
        ("levels.dram.write_bandwidth", 2),
        ("levels.glb.holds", "[input, output, weight]"),
        ("levels.glb.word_bits", 32),
        ("vector.lanes", 7),
        ("levels.dram.capacity_gib", 4),
    ],
)
def test_the_mesh_bandwidths_and_words_make_nothing_stale(path: str, given: Any) -> None:
    found = overridden(EYERISS, {path: given}, estimator="law")
    assert figures(found) == figures(EYERISS)
    assert found.rescaled == ((f"{path} as set",) if path.startswith("levels.dram.write") else ())
    assert len(found.overrides) == 1
    assert found.key != EYERISS.key


def test_a_figure_that_is_set_is_kept_and_said() -> None:
    found = overridden(
        EYERISS, {"levels.glb.size_kib": 216, "levels.glb.energy.read_pj": 60, "clock_mhz": 100}, estimator="law"
    )
    assert found.levels["glb"].energy.read_pj == 60
    assert found.levels["glb"].energy.write_pj > EYERISS.levels["glb"].energy.write_pj
    assert found.overrides == ("clock_mhz=100", "levels.glb.energy.read_pj=60", "levels.glb.size_kib=216")
    assert "levels.glb.energy.read_pj as set" in found.rescaled
    again = by_law(found, levels__glb__size_kib=54)
    assert again.levels["glb"].energy.read_pj == 60
    assert again.overrides[-1] == "levels.glb.size_kib=54"


def test_the_present_figure_can_be_kept_by_setting_it() -> None:
    present = EYERISS.levels["glb"].energy.read_pj
    found = overridden(EYERISS, {"levels.glb.energy.read_pj": present, "levels.glb.size_kib": 216}, estimator="law")
    assert found.levels["glb"].energy.read_pj == present


def test_what_is_not_charged_stays_so() -> None:
    data = EYERISS.model_dump()
    for level in data["levels"].values():
        level |= {"energy": {"read_pj": 0, "write_pj": 0}, "area_um2": 0}
    data["compute"] |= {"energy_pj": 0, "area_um2": 0}
    data["vector"]["energy_pj"] = 0
    found = by_law(from_dict(data), technology_nm=65, levels__glb__size_kib=32, compute__bits=8)
    assert set(figures(found).values()) == {0}
    assert found.rescaled == ()


def test_dram_is_charged_by_the_bit_of_its_type() -> None:
    wider = by_law(EYERISS, levels__dram__width_bits=128)
    assert wider.dram.energy.read_pj == wider.dram.energy.write_pj == 1024
    hbm = by_law(EYERISS, levels__dram__technology="HBM2")
    assert hbm.dram.energy.read_pj == pytest.approx(3.9 * 64)
    assert "3.9 pJ a bit of HBM2" in hbm.rescaled[0]
    # The outermost level of this one is an SRAM without a type: its figures say nothing about a DRAM.
    npu = by_law(load("ethos_u55_like"), levels__sram__technology="LPDDR4")
    assert npu.dram.energy.read_pj == npu.dram.energy.write_pj == pytest.approx(8 * 64)


def test_a_dram_without_known_energy_needs_its_energies() -> None:
    with pytest.raises(ArchitectureError, match=r"levels\.dram\.technology: the energy of 'LPDDR6' is not known"):
        by_law(EYERISS, levels__dram__technology="LPDDR6")
    found = overridden(
        EYERISS,
        {"levels.dram.technology": "LPDDR6", "levels.dram.energy.read_pj": 320, "levels.dram.energy.write_pj": 330},
        estimator="law",
    )
    assert (found.dram.energy.read_pj, found.dram.energy.write_pj) == (320, 330)


CHOICES = {
    "levels.glb.size_kib": [54, 108, 300],
    "levels.glb.width_bits": [64, 128],
    "levels.wspad.size_kib": [0.25, 0.4375],
    "clock_mhz": [100, 500],
    "technology_nm": [28, 65],
    "compute.bits": [8, 32],
    "array.x": [7, 28],
    "levels.dram.read_bandwidth": [2.0, 8.0],
    "levels.glb.energy.write_pj": [30.0],
}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(CHOICES)), min_size=2, max_size=6, unique=True), st.data())
def test_neither_order_nor_the_number_of_calls_matters(chosen: list[str], data: st.DataObject) -> None:
    values = {path: data.draw(st.sampled_from(CHOICES[path])) for path in chosen}
    together = overridden(EYERISS, values, estimator="law")
    reverse = overridden(EYERISS, dict(reversed(values.items())), estimator="law")
    assert reverse == together
    one_by_one = EYERISS
    # Figures that are set are kept from then on.
    for path in sorted(values, key=lambda path: not path.endswith(("_pj", "_bandwidth"))):
        one_by_one = overridden(one_by_one, {path: values[path]}, estimator="law")
    assert figures(one_by_one) == pytest.approx(figures(together))
    assert one_by_one.dram_bytes_per_second == pytest.approx(together.dram_bytes_per_second)
    differing = {path for path in values if values[path] != value(EYERISS, path)}
    assert {item.partition("=")[0] for item in together.overrides} == differing
    assert one_by_one.overrides == together.overrides


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("levels.gbl.size_kib", "Did you mean levels.glb.size_kib"),
        ("levels.glb.size", "Did you mean levels.glb.size_kib"),
        ("arry.x", "Did you mean array.x"),
        ("clock", "Did you mean clock_mhz"),
        ("levels.glb", "Did you mean levels.glb.kind"),
        ("levels.glb.energy", "Did you mean levels.glb.energy.read_pj"),
        ("levels.glb.size_kib.x", "Did you mean levels.glb.size_kib"),
        ("name", "has no parameter 'name'"),
        ("zzz", "It has technology_nm, clock_mhz, levels.dram.kind"),
    ],
)
def test_an_unknown_path_is_refused_with_the_nearest(path: str, advice: str) -> None:
    with pytest.raises(ArchitectureError, match=f"eyeriss_like has no parameter '{path}'") as caught:
        overridden(EYERISS, {path: 1})
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("path", "given", "message"),
    [
        ("levels.glb.size_kib", "256KiB", "levels.glb.size_kib: Input should be a valid number"),
        ("levels.glb.size_kib", 0, "levels.glb.size_kib: Input should be greater than 0"),
        ("levels.glb.size_kib", "null", "levels.glb: only the outermost level is a dram or unbounded"),
        ("levels.glb.size_kib", ".nan", "levels.glb.size_kib: Input should be"),
        ("levels.glb.width_bits", 40, "levels.glb: width_bits 40 is not a multiple of word_bits 16"),
        ("levels.glb.kind", "dram", "levels.glb: only the outermost level is a dram"),
        ("array.x", "8.5", "array.x: Input should be a valid integer"),
        ("array.x", "yes", "array.x: true is not a value for it; at present it is 14"),
        ("array.x", True, "array.x: true is not a value for it"),
        ("array.x", "[8, 9]", "array.x: Input should be a valid integer"),
        ("levels.glb.holds", "[bias]", "levels.glb.holds.0: Input should be 'weight', 'input' or 'output'"),
        ("levels.glb.holds", "[input", "is not YAML"),
        # Mistakes of units: bytes, GHz, Hz, micrometres, nanojoules, GB/s as bytes.
        ("levels.glb.size_kib", 110592, "110592 is 1.02e+03 times the present 108; is it in the right unit (kib)?"),
        ("clock_mhz", 0.2, "clock_mhz: Input should be greater than or equal to 1"),
        ("clock_mhz", 200e6, "clock_mhz: Input should be less than or equal to 10000"),
        ("technology_nm", 0.045, "technology_nm: Input should be a valid integer"),
        ("levels.glb.energy.read_pj", 0.0498, "levels.glb.energy.read_pj: 0.0498 is"),
        ("compute.energy_pj", 2200.35, "compute.energy_pj: 2200.35 is"),
        ("levels.dram.read_bandwidth", 1.6e9, "is it in the right unit?"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(path: str, given: Any, message: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        overridden(EYERISS, {path: given}, estimator="law")
    assert message in str(caught.value)


def test_what_was_implausible_before_is_not_held_against_the_change() -> None:
    data = EYERISS.model_dump()
    data["vector"]["lanes"] = 1000
    odd = from_dict(data)
    assert by_law(odd, array__x=16).array.x == 16
    with pytest.raises(ArchitectureError, match=r"compute\.energy_pj: 5000 is"):
        by_law(odd, compute__energy_pj=5000)
    with pytest.raises(ArchitectureError, match=r"vector\.lanes: 2000 lanes"):
        by_law(odd, vector__lanes=2000)


def test_a_bandwidth_that_a_smaller_array_cannot_use_is_no_mistake() -> None:
    small = by_law(load("simba_like"), array__x=8, array__y=8)
    assert small.elements == 64
    assert small.levels["wbuf"].read_bandwidth == 1024


def test_a_tools_own_files_are_not_changed_from_here() -> None:
    native = EYERISS.model_copy(update={"kind": "native"})
    with pytest.raises(ArchitectureError, match=r"eyeriss_like is in a tool's own files: change clock_mhz there"):
        overridden(native, {"clock_mhz": 100})


def test_what_is_a_path() -> None:
    assert is_path("levels.glb.size_kib")
    assert is_path("array.x")
    assert is_path("clock_mhz")
    assert is_path("technology_nm")
    assert not is_path("tokens")
    assert not is_path("name")
    assert not is_path("overrides")


def test_the_paths_are_those_of_the_file() -> None:
    found = paths(EYERISS)
    assert found[:3] == ["technology_nm", "clock_mhz", "levels.dram.kind"]
    for path in ("levels.glb.energy.leak_pj_per_cycle", "array.x_dims", "compute.bits", "vector.lanes"):
        assert path in found
    assert not {"name", "source", "rescaled", "levels.glb", "levels.glb.energy"} & set(found)


class Doubling:
    """An estimator for which everything new costs twice."""

    name = "accelergy"

    def __init__(self, missing: str | None = None, failure: str = "") -> None:
        self.missing, self.failure = missing, failure

    def unavailable(self) -> str | None:
        return self.missing

    def version(self) -> str:
        return "Accelergy 9"

    def estimate(self, components: list[Any]) -> list[Figures]:
        if self.failure:
            raise SimulationError(self.failure)
        # eyeriss_like's own figures for what it has; leakage 0.01559 pJ in 5 ns.
        own = Figures(49.799, 36.848, 3.118, 682149)
        return [own.times(Figures(*[1.0 + number % 2] * 4)) for number, _ in enumerate(components)]


@pytest.fixture
def estimator(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(found: Doubling) -> None:
        monkeypatch.setattr("mmworkload.rescaling.plugins", lambda group, attribute: {"timeloop": found})

    return use


def test_auto_takes_accelergy_where_it_is_there(estimator: Any) -> None:
    estimator(Doubling())
    for choice in ("auto", "accelergy"):
        found = overridden(EYERISS, {"levels.glb.size_kib": 128}, estimator=choice)  # type: ignore[arg-type]
        assert found.levels["glb"].energy.read_pj == pytest.approx(2 * 49.799)
        assert found.rescaled == ("levels.glb by Accelergy 9 (read x2, write x2, leakage x2, area x2)",)


def test_figures_that_are_not_the_estimators_own_are_said_to_be_scaled(estimator: Any) -> None:
    estimator(Doubling())
    arch = load("nvdla_like")
    found = overridden(arch, {"levels.cbuf.size_kib": 256})
    assert found.levels["cbuf"].energy.read_pj == 2 * arch.levels["cbuf"].energy.read_pj
    assert found.rescaled[0].startswith("levels.cbuf by the ratio of Accelergy 9 (read x2")


def test_auto_takes_the_law_where_accelergy_is_missing_or_fails(estimator: Any) -> None:
    expected = by_law(EYERISS, levels__glb__size_kib=128)
    estimator(Doubling(missing="it is not there"))
    assert overridden(EYERISS, {"levels.glb.size_kib": 128}) == expected
    with pytest.raises(UnavailableError, match="it is not there"):
        overridden(EYERISS, {"levels.glb.size_kib": 128}, estimator="accelergy")
    estimator(Doubling(failure="CACTI crashed"))
    found = overridden(EYERISS, {"levels.glb.size_kib": 128})
    assert figures(found) == figures(expected)
    assert found.rescaled[0].startswith("levels.glb by the scaling law, for Accelergy failed (CACTI crashed) (read")
    with pytest.raises(SimulationError, match="CACTI crashed"):
        overridden(EYERISS, {"levels.glb.size_kib": 128}, estimator="accelergy")


def test_nothing_is_asked_when_nothing_is_stale(estimator: Any) -> None:
    estimator(Doubling(failure="asked"))
    found = overridden(EYERISS, {"array.x": 7, "clock_mhz": 100, "levels.dram.width_bits": 32}, estimator="accelergy")
    assert found.dram.energy.read_pj == 256


def test_the_docs_name_the_command_and_a_path_that_exists() -> None:
    text = (Path(__file__).parents[1] / "docs" / "architectures.md").read_text()
    assert "--set levels.glb.size_kib=256" in text
    assert "levels.glb.size_kib" in paths(EYERISS)
