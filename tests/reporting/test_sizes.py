"""The sizes of workloads, from the heads of their snapshots or from all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmworkload.errors import FormatError
from mmworkload.models import families
from mmworkload.reporting import sizes
from mmworkload.reporting.sizes import Totals, sizes_of, totals_of


def test_sizes_of_a_workload_are_those_of_its_snapshot() -> None:
    found = sizes_of("av-mnist/concat")

    assert found is not None
    assert (found.batch, found.totals) == (1, Totals(11_993_032, 260_922))
    assert (found.stages["encoder/audio"].macs, found.stages["head"].params) == (11_503_104, 25_110)
    assert [item.shape for item in found.inputs] == [(1, 1, 28, 28), (1, 1, 112, 112)]


def test_the_head_of_a_snapshot_says_what_the_graph_says() -> None:
    for name in ("av-mnist", "mujoco-push"):
        for item in families()[name].variants:
            whole = sizes_of(f"{name}/{item.name}")
            assert totals_of(f"{name}/{item.name}") == (whole.totals if whole else None)


def test_what_has_no_snapshot_has_no_sizes() -> None:
    assert totals_of("av-mnist/nothing") is None
    assert sizes_of("av-mnist/nothing") is None


def test_the_head_is_enough_and_where_it_says_nothing_all_is_read(
    case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "graph.yaml"
    monkeypatch.setattr(sizes, "path_of", lambda model: path)
    path.write_text("total_params: 2\ntotal_macs: 1\nlayers: [")
    assert totals_of("any") == Totals(1, 2)

    # JSON has its totals in lines of another form.
    path.write_text(case.graph.to_text(".json"))
    assert totals_of("any") == Totals(41_600, 41_600)
    path.write_text("layers: [")
    with pytest.raises(FormatError, match=r"graph\.yaml"):
        totals_of("any")
