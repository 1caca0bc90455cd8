"""The page that compares simulators: on recorded Timeloop answers, by simulators that every machine has."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from mmworkload import arch as architectures
from mmworkload.graph import LayerGraph
from mmworkload.reporting import simulators_page as page
from mmworkload.simulating.engine import simulate
from mmworkload.simulating.estimate import Options
from mmworkload.tracing.snapshot import snapshots

ARCH = "eyeriss_like"
MODELS = ("av-mnist/concat", "av-mnist/image", "mujoco-push/late")
OPTIONS = Options()


@pytest.fixture(scope="module")
def graphs() -> list[LayerGraph]:
    known = snapshots()
    return [LayerGraph.load(known[name]) for name in MODELS]


@pytest.fixture(scope="module")
def found(graphs: list[LayerGraph]) -> page.Workloads:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(page, "COMPARED", ("scalesim", "roofline"))
        return page.compare(graphs, ARCH, OPTIONS)


def test_the_ratio_of_a_workload_is_that_of_two_simulations(found: page.Workloads, graphs: list[LayerGraph]) -> None:
    spec = architectures.load(ARCH)
    assert tuple(found.reference) == MODELS
    for graph in graphs:
        one = simulate(graph, spec, "recorded", options=OPTIONS)
        two = simulate(graph, spec, "scalesim", options=OPTIONS)
        assert {row.simulator for row in one.layers if row.macs} == {"recorded"}
        whole = found.whole("scalesim", graph.model)
        assert whole is not None
        assert (whole.serial_latency_s, whole.energy_j) == (two.serial_latency_s, two.energy_j)


def test_a_layer_that_variants_share_counts_once(found: page.Workloads, graphs: list[LayerGraph]) -> None:
    every = [pair for name in MODELS for pair in found.pairs("roofline", name)]
    different = found.different("roofline")
    assert len(every) == sum(bool(layer.work) for graph in graphs for layer in graph.layers)
    unique = {
        (layer.op, tuple(sorted(work.problem.key for work in layer.work)))
        for graph in graphs
        for layer in graph.layers
        if layer.work
    }
    assert len(different) == len({pair.what for pair in different}) == len(unique) < len(every)


def test_the_roofline_is_a_lower_bound_of_what_timeloop_found(found: page.Workloads) -> None:
    ratios = [pair.latency for pair in found.different("roofline")]
    assert len(ratios) > 10
    assert max(ratios) <= 1.0
    assert statistics.median(ratios) > 0.5


def test_ranks_need_three_layers_that_differ(found: page.Workloads) -> None:
    layers = found.pairs("roofline", "av-mnist/concat")
    assert page.correlation(layers[:2]) is None
    assert page.correlation([layers[0]] * 5) is None
    rank = page.correlation(layers)
    assert rank is not None
    assert 0.9 < rank <= 1.0


def test_what_a_simulator_did_not_answer_is_no_ratio(found: page.Workloads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "COMPARED", ("scalesim", "roofline"))
    without = page.Workloads(found.arch, found.reference)
    without.others["roofline"] = dict(found.others["roofline"])
    lines = page.by_workload(without).splitlines()
    assert len(lines) == 2 + len(MODELS)
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[0] == "`av-mnist/concat`"
    assert cells[3:6] == ["", "", ""]
    assert all(cells[6:9])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.summary([without]).splitlines()[2:]]
    assert [row[:3] for row in rows] == [["`eyeriss_like`", "`roofline`", "3"]]


def test_families_of_the_table_add_up(found: page.Workloads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "COMPARED", ("scalesim", "roofline"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.by_family(found).splitlines()[2:]]
    counts = {row[0]: int(row[1]) for row in rows}
    assert list(counts) == ["conv2d", "linear", "lstm", "all"]
    assert counts["all"] == sum(counts.values()) - counts["all"] == len(found.different("roofline"))


def test_the_page_names_the_command_that_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "COMPARED", ("roofline",))
    monkeypatch.setattr(page, "SIMULATORS", ("recorded", "roofline"))
    monkeypatch.setattr(page, "ARCHS", (ARCH, "nvdla_like"))
    chosen = {name: path for name, path in snapshots().items() if name in MODELS}
    monkeypatch.setattr(page, "snapshots", lambda: chosen)
    output = tmp_path / "page.md"
    page.main([str(output), "--workload", "av-mnist/image", "--skip", "roofline=av-mnist/image"])
    text = output.read_text()
    command = f"python -m mmworkload.reporting.simulators_page {output} --workload av-mnist/image"
    assert f"`{command} --skip roofline=av-mnist/image`" in text
    assert "no results are recorded for nvdla_like" in text
    assert "not asked, since it would take hours" in text
    assert f"### {ARCH}\n\nRecorded whole are 3 of 3 workloads." in text
    assert text.count("| `mujoco-push/late` |") == len(
        [part for part in text.split("\nOn `")[1:] if "| workload |" in part]
    )
