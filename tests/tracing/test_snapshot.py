"""The files in shapes/: one a variant, small, the text of their graphs, of use without torch.

That a fresh trace gives these graphs is in tests/workloads/test_zoo.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmworkload.graph import LayerGraph
from mmworkload.models import families
from mmworkload.tracing.snapshot import path_of, write_all

pytestmark = pytest.mark.slow

NAMES = [f"{family}/{variant.name}" for family, item in families().items() for variant in item.variants]


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
