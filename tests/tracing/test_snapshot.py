"""The graphs in shapes/ are what a fresh trace gives, and they can be used without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmworkload.graph import LayerGraph
from mmworkload.models import families, resolve
from mmworkload.tracing import trace_model
from mmworkload.tracing.snapshot import path_of, write_all

NAMES = [f"{family}/{variant.name}" for family, item in families().items() for variant in item.variants]
# Tracing these takes seconds each; what is read from their snapshots is tested all the same.
LARGE_BYTES = 20_000


def traced_names() -> list[Any]:
    paths = {name: path_of(name) for name in NAMES}
    large = {name for name, path in paths.items() if path is not None and path.stat().st_size > LARGE_BYTES}
    return [pytest.param(name, marks=[pytest.mark.slow] if name in large else []) for name in NAMES]


def recorded_versions(graph: LayerGraph) -> dict[str, str]:
    return {name: version for name, version in graph.versions.items() if name in ("torch", "transformers")}


@pytest.mark.parametrize("name", traced_names())
def test_a_snapshot_equals_a_fresh_trace(name: str) -> None:
    path = path_of(name)
    assert path is not None, f"no snapshot of {name}: python -m mmworkload.tracing.snapshot shapes/"
    stored, fresh = LayerGraph.load(path), trace_model(resolve(name)).graph
    assert fresh.stages == stored.stages
    assert set(fresh.problems) == set(stored.problems)
    if recorded_versions(fresh) == recorded_versions(stored):
        # On other versions operators may be split differently; totals and problems must not change.
        for one, other in zip(fresh.layers, stored.layers, strict=True):
            assert one == other
        bare = {"versions": {}, "coverage": ()}
        assert replace(fresh, **bare) == replace(stored, **bare)
    assert [item for item in stored.coverage if item.treatment == "unknown"] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_snapshot_is_the_text_of_its_graph(name: str) -> None:
    path = path_of(name)
    assert path is not None
    assert LayerGraph.load(path).to_text(".yaml") == path.read_text()


def test_all_snapshots_together_are_small() -> None:
    sizes = {name: path.stat().st_size for name in NAMES if (path := path_of(name)) is not None}
    assert max(sizes.values()) < 100_000
    assert sum(sizes.values()) < 5_000_000


def test_every_snapshot_belongs_to_a_variant() -> None:
    root = path_of(NAMES[0])
    assert root is not None
    shelf = root.parent.parent
    found = {str(path.relative_to(shelf).with_suffix("")) for path in shelf.rglob("*.yaml")}
    assert found == set(NAMES)
    assert path_of("no/such") is None


def test_snapshots_can_be_read_without_torch(tmp_path: Path) -> None:
    script = (
        "import sys, json\n"
        "sys.modules['torch'] = None\n"
        "from mmworkload.graph import LayerGraph\n"
        "from mmworkload.tracing.snapshot import path_of\n"
        "print(json.dumps({name: LayerGraph.load(path_of(name)).total_macs for name in sys.argv[1:]}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *NAMES], capture_output=True, text=True, check=True)
    macs = json.loads(done.stdout)
    assert set(macs) == set(NAMES)
    assert macs["av-mnist/concat"] == 11993032


def test_writing_all_snapshots_gives_a_file_a_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = families()["av-mnist"]
    monkeypatch.setattr("mmworkload.models.families", lambda: {"av-mnist": family})
    written = write_all(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in written] == [
        f"av-mnist/{variant.name}.yaml" for variant in family.variants
    ]
    assert LayerGraph.load(written[0]).total_macs == 11993032
    assert write_all(tmp_path / "one", ["*/im*", "none/*"]) == [tmp_path / "one" / "av-mnist" / "image.yaml"]
