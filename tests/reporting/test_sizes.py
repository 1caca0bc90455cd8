"""Sizes from the head of a snapshot are those of the whole graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmworkload.errors import FormatError
from mmworkload.graph import LayerGraph
from mmworkload.models import families
from mmworkload.reporting.sizes import Sizes, read_sizes, sizes_of
from mmworkload.tracing.snapshot import path_of


def whole(path: Path) -> Sizes:
    graph = LayerGraph.load(path)
    return Sizes(graph.batch, graph.total_macs, graph.total_params, graph.inputs, graph.stages)


def test_the_head_of_a_snapshot_says_what_the_graph_says() -> None:
    for name, family in families().items():
        path = path_of(f"{name}/{family.variants[0].name}")
        if path is not None:
            assert read_sizes(path) == whole(path)


def test_sizes_of_a_workload_are_those_of_its_snapshot() -> None:
    sizes = sizes_of("av-mnist/concat")

    assert sizes is not None
    assert (sizes.batch, sizes.macs, sizes.params) == (1, 11_993_032, 260_922)
    assert (sizes.stages["encoder/audio"].macs, sizes.stages["head"].params) == (11_503_104, 25_110)
    assert [item.shape for item in sizes.inputs] == [(1, 1, 28, 28), (1, 1, 112, 112)]
    assert sizes_of("av-mnist/nothing") is None


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_graph_without_sums_at_its_head_is_read_whole(case: Any, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"graph{suffix}"
    case.graph.save(path)
    assert read_sizes(path) == whole(path)

    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if "total_macs" not in line))
    assert read_sizes(path).macs == 41_600


def test_what_is_no_graph_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text("batch: [")
    with pytest.raises(FormatError, match=r"graph\.yaml"):
        read_sizes(path)
    with pytest.raises(FormatError, match=r"missing\.yaml"):
        read_sizes(tmp_path / "missing.yaml")
