"""Every workload in every target's form: all of its MACs, the same bytes twice, and all targets side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmworkload import arch as architectures
from mmworkload import verbs
from mmworkload.errors import ArchitectureError, MmworkloadError
from mmworkload.exporting import exporters, write_all, write_export
from mmworkload.graph import LayerGraph
from mmworkload.models import families
from mmworkload.tracing.snapshot import path_of, snapshots

pytestmark = pytest.mark.slow

TARGETS = sorted(exporters())
FIRST = [f"{name}/{family.variants[0].name}" for name, family in families().items()]
OTHERS = [name for name in snapshots() if name not in FIRST]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_share(name: str, folder: Path) -> None:
    path = path_of(name)
    assert path is not None
    graph = LayerGraph.load(path)
    for target in TARGETS:
        made = write_export(target, graph, architectures.load("eyeriss_like"), folder / target, {})
        macs = sum(row.macs * row.count for row in made.rows if row.problem_file)
        # Every MAC of every workload, SCALE-Sim's too, whose GEMMs take them all; and the products of rank 1, which run
        # as a matrix product with a reduction of one and are no MACs in the graph.
        outer = sum(layer.outer_macs for layer in graph)
        assert macs == graph.total_macs + outer, f"{target} leaves out {graph.total_macs + outer - macs} MACs of {name}"
        assert made.excluded_macs == 0
        # Whatever is not expressed is in the manifest with its bytes and why.
        assert {row.layer for row in made.rows} == {layer.name for layer in graph if layer.placement == "device"}
        assert all(row.problem_file or row.excluded for row in made.rows)


@pytest.mark.parametrize("name", FIRST)
def test_every_mac_of_every_workload_is_expressed_in_every_target(name: str, tmp_path: Path) -> None:
    check_share(name, tmp_path)


@pytest.mark.parametrize("name", OTHERS)
def test_every_mac_of_every_other_variant_is_expressed_in_every_target(name: str, tmp_path: Path) -> None:
    check_share(name, tmp_path)


def test_all_targets_stand_side_by_side_and_a_second_export_is_the_same(tmp_path: Path) -> None:
    graph = verbs.trace("shapes/av-mnist/concat.yaml")
    every = verbs.export_all(graph, "eyeriss_like", tmp_path / "one")
    verbs.export_all(graph, "eyeriss_like", tmp_path / "two")
    assert sorted(every.exports) == TARGETS
    assert every.refused == {}
    assert files(tmp_path / "one") == files(tmp_path / "two")
    summary = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert set(summary) == {"target", "model", "arch", "refused", "exports"}
    for target in TARGETS:
        alone = verbs.export(target, graph, "eyeriss_like", tmp_path / target)
        assert files(tmp_path / target) == files(tmp_path / "one" / target)
        assert summary["exports"][target] == json.loads(json.dumps(alone.to_dict()))


def test_a_target_that_fails_is_a_reason_and_the_others_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        name = "broken"
        description = ""

        def export(self, *arguments: Any) -> Any:
            raise MmworkloadError("no such luck")

    known = {"csv": exporters()["csv"], "broken": Broken()}
    monkeypatch.setattr("mmworkload.exporting.exporters", lambda: known)
    graph = verbs.trace("shapes/av-mnist/image.yaml")
    every = write_all(graph, architectures.load("eyeriss_like"), tmp_path / "out", {})
    assert list(every.exports) == ["csv"]
    assert every.refused == {"broken": "no such luck"}
    assert not (tmp_path / "out" / "broken").exists()
    known.pop("csv")
    with pytest.raises(MmworkloadError, match="no such luck"):
        write_all(graph, architectures.load("eyeriss_like"), tmp_path / "none", {})
    assert not (tmp_path / "none").exists()


def test_a_gpu_is_told_to_no_accelerator_tool(tmp_path: Path) -> None:
    graph = verbs.trace("shapes/av-mnist/image.yaml")
    with pytest.raises(ArchitectureError, match="timeloop is told accelerators, and h100 is of the kind gpu"):
        verbs.export("timeloop", graph, "h100", tmp_path / "out")
    every = verbs.export_all(graph, "h100", tmp_path / "all")
    assert sorted(every.exports) == ["csv", "parquet"]
    assert set(every.refused) == set(TARGETS) - {"csv", "parquet"}
