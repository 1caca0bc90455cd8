"""The locks: what `make demo` and `make test` install, to the last package, on each Python that has one."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYTHONS = ("3.11", "3.12", "3.13")
EXTRAS = ("trace", "zigzag", "report", "sweep", "test")


@pytest.fixture(scope="module")
def script(root: Path) -> ModuleType:
    """.ci/constraints.py."""
    spec = importlib.util.spec_from_file_location("constraints", root / ".ci" / "constraints.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pins(text: str) -> dict[str, Requirement]:
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    return {canonicalize_name(found.name): found for found in map(Requirement, lines)}


@pytest.fixture(params=PYTHONS)
def lock(request: pytest.FixtureRequest, root: Path) -> str:
    return (root / "locks" / f"python{request.param}.txt").read_text()


def test_a_lock_pins_exact_versions_and_names_no_place(lock: str) -> None:
    for found in pins(lock).values():
        assert re.fullmatch(r"==[\w.]+", str(found.specifier)), found
        assert found.url is None
    assert "://" not in lock
    assert "file:" not in lock
    assert "--" not in lock


def test_a_lock_has_what_the_definition_asks_for(lock: str, configuration: dict[str, Any]) -> None:
    """Also after a change of pyproject.toml: then `make locks`."""
    project = configuration["project"]
    asked = [*project["dependencies"], *(item for extra in EXTRAS for item in project["optional-dependencies"][extra])]
    found = pins(lock)
    for requirement in map(Requirement, asked):
        pinned = str(found[canonicalize_name(requirement.name)].specifier).removeprefix("==")
        assert requirement.specifier.contains(pinned), requirement


def test_a_lock_goes_no_further_than_what_is_held(lock: str, root: Path) -> None:
    held = pins((root / "locks" / "held.txt").read_text())
    assert set(held) == {"torch", "torchvision"}
    for name, requirement in held.items():
        assert requirement.specifier.contains(str(pins(lock)[name].specifier).removeprefix("=="))


def closure(names: list[str]) -> Iterator[str]:
    """Every distribution that those of ``names`` need here, with a line for each that is not installed."""
    seen: set[str] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        found = waiting.pop()
        name = canonicalize_name(found.name)
        if f"{name}{sorted(found.extras)}" in seen:
            continue
        seen.add(f"{name}{sorted(found.extras)}")
        yield name
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for needed in map(Requirement, needs):
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *found.extras)):
                waiting.append(needed)


def test_nothing_that_is_installed_here_is_missing_in_the_lock(root: Path, configuration: dict[str, Any]) -> None:
    lock = root / "locks" / "python{}.{}.txt".format(*sys.version_info)
    if not lock.exists():
        pytest.skip(f"there is no {lock.name}")
    found = pins(lock.read_text())
    if distribution("torch").version.split("+")[0] not in str(found["torch"].specifier):
        pytest.skip("another PyTorch than the locked one is here, which needs other packages")
    project = configuration["project"]
    asked = [*project["dependencies"], *(item for extra in EXTRAS for item in project["optional-dependencies"][extra])]
    assert sorted(set(closure(asked)) - set(found)) == []


def test_another_pytorch_takes_its_own_company_and_leaves_the_rest(lock: str, script: ModuleType) -> None:
    locked, replaced = pins(lock), pins(script.constraints(lock, "2.11"))

    assert script.constraints(lock) == lock
    assert str(replaced.pop("torch")) == "torch==2.11.*"
    assert {name: str(item) for name, item in replaced.items()}.items() <= {
        k: str(v) for k, v in locked.items()
    }.items()
    lifted = {name for name in locked if name not in replaced}
    assert {"torchvision", "triton", "nvidia-cudnn-cu13", "nvidia-cublas", "setuptools"} <= lifted
    # What others ask for as well stays: Optuna, matplotlib, transformers.
    assert lifted.isdisjoint({"numpy", "sympy", "jinja2", "pillow", "transformers", "timm", "pyyaml"})


def test_a_python_without_a_lock_is_told_so_and_installs(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "python3.0.txt").touch()
    monkeypatch.setattr(script, "LOCKS", tmp_path)

    script.main([])

    streams = capsys.readouterr()
    assert streams.out == ""
    assert "no lock for Python {}.{}".format(*sys.version_info) in streams.err
    script.main(["2.11"])
    assert capsys.readouterr().out == "torch==2.11.*\n"


def test_the_workflows_run_the_locks_and_every_week_the_newest(root: Path) -> None:
    folder = root / ".github" / "workflows"
    tests, newest = (yaml.safe_load((folder / name).read_text()) for name in ("tests.yaml", "newest.yaml"))

    assert tests["jobs"]["locked"]["strategy"]["matrix"]["python"] == list(PYTHONS)
    steps = [step.get("run") for step in tests["jobs"]["locked"]["steps"]]
    assert {"make test", "make demo"} <= set(steps)
    # YAML 1.1 reads the key `on` as true.
    (schedule,) = newest[True]["schedule"]
    minute, hour, day, month, weekday = schedule["cron"].split()
    assert (day, month) == ("*", "*")
    assert minute.isdigit()
    assert hour.isdigit()
    assert weekday.isdigit()
    assert {"make test-newest", "make demo-newest"} <= {step.get("run") for step in newest["jobs"]["newest"]["steps"]}
    assert {path.name for path in (root / "locks").glob("python*.txt")} == {f"python{item}.txt" for item in PYTHONS}
    assert f"LOCKED := {' '.join(PYTHONS)}\n" in (root / "Makefile").read_text()
