"""The terminal answer of ``validate``: who answered, by the rows, in at most 60 lines; the rest is behind --all."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from mmworkload import arch
from mmworkload.reporting.html import render
from mmworkload.reporting.summary import mixtures, simulated_bound
from mmworkload.reporting.tables.comparison import comparison_tables
from mmworkload.reporting.tables.validate import LINES, study_tables, validate_tables
from mmworkload.reporting.terminal import print_out
from mmworkload.simulating.comparison import Comparison
from mmworkload.simulating.result import Simulation
from mmworkload.validating.calibration import NAME as CALIBRATED
from mmworkload.validating.compare import compare
from mmworkload.validating.report import Report, Study, report
from mmworkload.validating.result import Validation


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[Any]], list[str]]:
    """Prints to a pipe without a terminal, as 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def capture(renderables: Sequence[Any]) -> list[str]:
        stream = io.StringIO()
        print_out(*renderables, stream=stream)
        return stream.getvalue().splitlines()

    return capture


def answered_by(simulation: Simulation, chosen: str, *, but: str = "") -> Simulation:
    """The same as if ``chosen`` had been asked and had answered every layer with MACs except ``but``."""
    rows = tuple(
        replace(row, simulator=chosen) if row.matrix and row.layer != but else row for row in simulation.layers
    )
    return replace(simulation, chosen=chosen, version="9", layers=rows, estimates={})


def validated(case: Any, simulation: Simulation) -> Validation:
    return compare(case.graph, case.measurement, simulation)


def words(printed: Sequence[str]) -> str:
    return " ".join(" ".join(printed).split())


def test_one_simulator_is_named_with_the_share_that_the_roofline_has(case: Any, lines: Any) -> None:
    simulation = answered_by(case.simulation, "mapper")
    rest = [row for row in simulation.layers if not row.matrix]
    part = sum(row.latency_s for row in rest) / simulation.serial_latency_s

    printed = lines(validate_tables(validated(case, simulation)))

    assert printed[2] == "simulated by mapper 9"
    assert (
        f"{len(rest)} layers without MACs, {100 * part:.1f} % of the latency: in closed form by the roofline"
        in words(printed)
    )
    assert " by mapper: " in words(printed)
    assert "could not answer" not in words(printed)


def test_several_simulators_in_one_total_are_named_everywhere(case: Any, lines: Any) -> None:
    simulation = answered_by(case.simulation, "mapper", but="head")
    v = validated(case, simulation)
    one = report(case.graph, [case.measurement], simulation, arch=arch.load("eyeriss_like"))
    head = next(row for row in v.layers if row.layer == "head")

    printed = words(lines(validate_tables(v)))

    assert v.simulator == "mapper+roofline"
    assert (head.simulator, head.fallback, v.gaps.fallback.layers) == ("roofline", True, 1)
    assert f"and roofline (1 layer, {100 * (head.sides.simulated_share or 0):.1f} % of the latency)" in printed
    assert "the answers of several simulators cannot be compared" in printed
    assert "that mapper could not answer for: roofline did" in printed
    assert simulated_bound(one).where == "eyeriss_like (mapper+roofline)"
    page = render(Study((one,)))
    assert "eyeriss_like, mapper+roofline" in page
    assert "the answers of several simulators cannot be compared" in page
    assert "mapper is told the architecture" in page
    assert [item["simulator"] for item in v.to_dict()["answered"]] == ["mapper", "roofline", "roofline"]


def test_the_page_says_of_each_layer_who_answered(case: Any) -> None:
    simulation = answered_by(case.simulation, "mapper", but="head")
    page = render(Study((report(case.graph, [case.measurement], simulation),)))

    table = page[page.index('data-name="layers of') :]
    rows = table[: table.index("</table>")].split("<tr>")[2:]
    by = [row.split("<td>")[-1].split("</td>")[0] if 'class="note"' not in row else "" for row in rows]
    assert len(rows) == len(simulation.layers)
    named = [row for row in rows if "<td>mapper</td>" in row]
    assert len(named) == sum(row.simulator == "mapper" for row in simulation.layers)
    assert all("<td>mapper</td>" in row or "<td>roofline</td>" in row for row in rows), by


def test_different_simulators_of_one_architecture_are_said_not_to_compare(case: Any, lines: Any) -> None:
    def made(simulation: Simulation) -> Report:
        return report(case.graph, [case.measurement], simulation)

    same = [made(answered_by(case.simulation, "mapper")) for _ in range(2)]
    other, fitted = made(case.simulation), made(answered_by(case.simulation, CALIBRATED))

    assert list(mixtures([*same, fitted])) == []
    (said,) = mixtures([*same, other])
    assert said.startswith("eyeriss_like is simulated by mapper and by roofline")
    assert said[:30] in words(lines(study_tables(Study((*same, other)))))
    assert said in render(Study((*same, other)))


def test_a_study_names_the_totals_that_mix_simulators_and_the_rooflines_share(case: Any, lines: Any) -> None:
    whole = report(case.graph, [case.measurement], answered_by(case.simulation, "mapper"))
    mixed = report(case.graph, [case.measurement], answered_by(case.simulation, "mapper", but="head"))
    rest = sum(row.sides.simulated_share or 0 for row in whole.validation.layers if not row.macs)

    printed = words(lines(study_tables(Study((whole, mixed)))))

    assert f"{100 * rest:.1f} % of it without MACs, by the roofline." in printed
    assert "batch 1, on eyeriss_like: simulated by mapper 9 (4 layers, " in printed


@pytest.mark.parametrize("blocks", [2, 40])
def test_a_comparison_takes_at_most_60_lines(make_case: Any, lines: Any, blocks: int) -> None:
    v = make_case(blocks).validation

    printed = lines(validate_tables(v))
    whole = lines(validate_tables(v, all_layers=True))

    assert LINES == 60
    assert len(printed) <= 60
    assert max(map(len, printed)) <= 80
    assert "--all" in printed[-1] + printed[-2]
    for title in ("Stages", "Layers", "What to mind"):
        assert title in printed
    for title in ("Modalities", "Errors by operator class"):
        assert title not in printed
        assert title in whole
    assert len(whole) > len(v.layers)


def test_layers_fill_the_lines_that_are_left(make_case: Any, lines: Any) -> None:
    v = make_case(40).validation
    # Names without numbers, so that no two are folded.
    named = replace(v, layers=tuple(replace(row, layer="x" * (1 + place)) for place, row in enumerate(v.layers)))

    printed = [lines(validate_tables(replace(named, why=length * "a long reason "))) for length in (30, 40)]

    shown = [sum(line.startswith("xx") for line in one) for one in printed]
    assert [len(one) for one in printed] == [60, 60]
    # 10 times 14 characters are one or two lines of 80.
    assert shown[0] - shown[1] in (1, 2)
    assert f"The {shown[1]} largest of {len(v.layers)} rows; --all lists every one." in printed[1]


def test_many_stages_long_reasons_and_many_causes_still_fit(make_case: Any, lines: Any) -> None:
    v = make_case(4).validation
    group = v.stages[0]
    hard = replace(
        v,
        why="timeloop: " + 40 * "a long reason ",
        stages=tuple(replace(group, name=f"encoder/{place}") for place in range(60)),
        causes=tuple(replace(cause, advice=12 * "A long advice. ") for cause in 6 * v.causes),
        gaps=replace(v.gaps, unmeasured=tuple(f"a.rather.long.name.of.a.layer.{place}" for place in range(9))),
    )

    printed = lines(validate_tables(hard))

    assert v.causes
    assert len(printed) <= 60
    assert "The 8 largest of 60 stages; --all lists every one." in printed
    assert "9 layers not measured" in words(printed)


def test_a_study_takes_at_most_60_lines_and_all_has_every_comparison(make_case: Any, lines: Any) -> None:
    case = make_case(2)
    one = report(case.graph, [case.measurement], case.simulation)
    several = tuple(
        replace(one, validation=replace(one.validation, batch=batch)) for batch in range(1, 31) for _ in range(2)
    )
    study = Study(several, unanswered=tuple(f"timeloop on chip {place}: " + 30 * "not there " for place in range(9)))

    printed = lines(study_tables(study))
    whole = lines(study_tables(study, all_layers=True))

    assert len(printed) <= 60
    assert "40 comparisons more; --all lists every one." in printed
    assert sum(line.startswith("toy/") and "roofline" in line for line in whole) >= 60
    assert "Errors by operator class" in whole


def test_goals_and_fitted_constants_are_no_part_of_a_report(case: Any, lines: Any) -> None:
    from mmworkload.validating.compare import compare as compared

    device = arch.load("eyeriss_like")
    v = compared(case.graph, case.measurement, case.simulation, device)
    same = replace(report(case.graph, [case.measurement], case.simulation, arch=device, device=device), validation=v)
    study = Study((same, same))

    assert len(study.goals) == 2
    printed = lines(study_tables(study, all_layers=True))
    assert not any("goal" in line.lower() or "constant" in line.lower() for line in printed)
    page = render(study)
    assert "Goals" not in page
    assert "Calibrated constants" not in page
    assert len(study.to_dict()["goals"]) == 2


def test_several_simulators_side_by_side_say_who_answered_for_auto(case: Any, lines: Any) -> None:
    by_auto = answered_by(case.simulation, "mapper", but="head")

    printed = lines(comparison_tables(Comparison({"auto": by_auto, "roofline": case.simulation}, {})))

    assert any(line.startswith("auto (mapper)  ") and line.split()[-1] == "1" for line in printed)
    assert any(line.startswith("roofline  ") for line in printed)
    assert "mapper 9 is told the architecture" in words(printed)
