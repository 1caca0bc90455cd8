"""CONTRIBUTING.md is true: its example of a workload works, and the files that it names are there."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from mmworkload import models
from mmworkload.tracing import trace_model


@pytest.fixture(scope="module")
def text(root: Path) -> str:
    return (root / "CONTRIBUTING.md").read_text()


def test_the_example_of_a_workload_is_a_workload(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block = re.search(r"```python\n(\"\"\"What the workload does.*?)```", text, re.DOTALL)
    assert block is not None
    module = ModuleType("example")
    exec(compile(block.group(1), "CONTRIBUTING.md", "exec"), module.__dict__)
    monkeypatch.setattr(models.names, "families", lambda: {"example": module.FAMILY})

    graph = trace_model(models.resolve("example", batch=2)).graph

    assert graph.model == "example/concat"
    assert {stage: totals.macs for stage, totals in graph.stages.items()} == {
        "encoder/touch": 2 * 32 * 16,
        "encoder/sound": 2 * 128 * 16,
        "fusion": 0,
        "head": 2 * 32 * 10,
    }


def test_every_file_and_target_that_it_names_is_there(text: str, root: Path) -> None:
    folders = r"(?:mmworkload|workloads|exporters|arch_specs|shapes|tests|docs)"
    paths = set(re.findall(rf"`({folders}/[\w./-]*)`", text))
    targets = set(re.findall(r"make ([a-z-]+)", text))
    makefile = (root / "Makefile").read_text()

    assert {"mmworkload/problem.py", "workloads/av_mnist/", "docs/json.md"} <= paths
    assert [path for path in sorted(paths) if not (root / path).exists()] == []
    assert {"check", "test", "links"} <= targets
    assert [target for target in sorted(targets) if f"\n{target}:" not in makefile] == []
