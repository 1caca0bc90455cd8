"""What make would run: installs once, from the lock, and again only when the definition or a lock changes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

EXTRAS = "-e '.[trace,zigzag,report]'"
TEST_EXTRAS = "-e '.[trace,zigzag,report,sweep,test]'"
LOCK = "locks/python3.12.txt"


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    """A fresh copy of what decides an installation."""
    for name in ("Makefile", "pyproject.toml", "setup.py", ".ci/constraints.py", LOCK):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / name, tmp_path / name)
        os.utime(tmp_path / name, (1000, 1000))
    return tmp_path


def stamp(folder: Path, name: str, time: int) -> None:
    path = folder / ".venv" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time, time))


def planned(folder: Path, *arguments: str) -> str:
    """The commands that make would run for the target."""
    unwanted = ("MAKE", "MFLAGS", "TORCH", "NEWEST")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    answer = subprocess.run(
        ["make", "--dry-run", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return answer.stdout


def test_a_fresh_machine_gets_an_environment_and_one_install(folder: Path) -> None:
    plan = planned(folder, "demo")

    assert "python3 -m venv .venv" in plan
    assert EXTRAS in plan
    # What builds, then everything in one call, both held to the lock.
    installs = [line for line in plan.splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert ".venv/bin/python .ci/constraints.py  > .venv/constraints.txt" in plan
    assert all("--constraint .venv/constraints.txt" in line for line in installs)
    assert installs[0].endswith(" setuptools")
    assert "--no-build-isolation" in installs[1]
    assert plan.splitlines()[-1] == (".venv/bin/mmworkload validate av-mnist/concat --arch eyeriss_like -o report.html")


def test_another_interpreter_can_be_named(folder: Path) -> None:
    assert "python3.13 -m venv .venv" in planned(folder, "test", "PYTHON=python3.13")


def test_nothing_is_installed_twice(folder: Path) -> None:
    stamp(folder, "bin/pip", 1500)
    stamp(folder, ".installed-test", 2000)

    plan = planned(folder, "test")

    assert "pip install" not in plan
    assert plan.splitlines()[-1].endswith('-m pytest -n 2 --dist worksteal --durations=25 -m "not full"')


def test_the_demo_uses_the_environment_of_the_tests(folder: Path) -> None:
    stamp(folder, "bin/pip", 1500)
    stamp(folder, ".installed", 2000)

    assert "pip install" not in planned(folder, "demo")
    assert "touch .venv/.installed .venv/.installed-test" in planned(folder, "test")


@pytest.mark.parametrize("changed", ["pyproject.toml", "setup.py", ".ci/constraints.py", LOCK])
def test_a_changed_definition_is_installed_again(folder: Path, changed: str) -> None:
    stamp(folder, "bin/pip", 1500)
    stamp(folder, ".installed", 2000)
    stamp(folder, ".installed-test", 2000)
    os.utime(folder / changed, (3000, 3000))

    assert EXTRAS in planned(folder, "demo")
    assert TEST_EXTRAS in planned(folder, "test")


def test_another_pytorch_has_an_environment_of_its_own(folder: Path) -> None:
    stamp(folder, "bin/pip", 1500)
    stamp(folder, ".installed-test", 2000)

    plan = planned(folder, "test", "TORCH=2.11")

    assert ".venv-torch-2.11/bin/python .ci/constraints.py 2.11 > .venv-torch-2.11/constraints.txt" in plan
    assert ".venv/" not in plan
    assert "OMP_NUM_THREADS=1 .venv-torch-2.11/bin/python -m pytest" in plan.splitlines()[-1]


@pytest.mark.parametrize("target", ["test", "demo"])
def test_the_newest_of_all_is_installed_at_each_call_without_a_lock(folder: Path, target: str) -> None:
    for name in ("bin/pip", ".installed", ".installed-test"):
        path = folder / ".venv-newest" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    plan = planned(folder, f"{target}-newest")

    assert "constraints.py" not in plan
    assert plan.count("pip install") == plan.count("--upgrade --upgrade-strategy eager") == 2
    assert ".venv/" not in plan
    same = planned(folder, target).splitlines()[-1].replace(".venv", ".venv-newest")
    assert same in plan.splitlines()


def test_an_older_python_is_refused_before_anything_is_made(folder: Path) -> None:
    python = folder / "old"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)

    answer = subprocess.run(
        ["make", "demo", f"PYTHON={python}"], cwd=folder, check=False, capture_output=True, text=True
    )

    assert answer.returncode == 2
    assert "3.11 or newer" in answer.stdout
    assert not (folder / ".venv").exists()


def test_measuring_on_a_gpu_machine_installs_nothing(folder: Path) -> None:
    plan = planned(folder, "gpu")

    assert "pip" not in plan
    assert "venv" not in plan
    assert plan.splitlines()[-1] == (
        "PYTHONPATH=.types PYTHONSAFEPATH=1 python3 -m mmworkload.measuring.everything --device cuda -o measurements"
    )
