"""What make would run: installs once, and again only when the package's definition changes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

EXTRAS = "-e '.[trace,zigzag,report]'"
TEST_EXTRAS = "-e '.[trace,zigzag,report,sweep,test]'"


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    """A fresh copy of what decides an installation."""
    for name in ("Makefile", "pyproject.toml", "setup.py"):
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
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    answer = subprocess.run(
        ["make", "--dry-run", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return answer.stdout


def test_a_fresh_machine_gets_an_environment_and_one_install(folder: Path) -> None:
    plan = planned(folder, "demo")

    assert "python3 -m venv .venv" in plan
    assert plan.count("pip install") == 1
    assert EXTRAS in plan
    assert plan.splitlines()[-1] == (".venv/bin/mmworkload validate av-mnist/concat --arch eyeriss_like -o report.html")


def test_another_interpreter_can_be_named(folder: Path) -> None:
    assert "python3.13 -m venv .venv" in planned(folder, "test", "PYTHON=python3.13")


def test_nothing_is_installed_twice(folder: Path) -> None:
    stamp(folder, "bin/pip", 1500)
    stamp(folder, ".installed-test", 2000)

    plan = planned(folder, "test")

    assert "pip install" not in plan
    assert plan.splitlines()[-1].endswith('-m pytest -n 2 --dist worksteal -m "not full"')


def test_the_demo_uses_the_environment_of_the_tests(folder: Path) -> None:
    stamp(folder, "bin/pip", 1500)
    stamp(folder, ".installed", 2000)

    assert "pip install" not in planned(folder, "demo")
    assert "touch .venv/.installed .venv/.installed-test" in planned(folder, "test")


@pytest.mark.parametrize("changed", ["pyproject.toml", "setup.py"])
def test_a_changed_definition_is_installed_again(folder: Path, changed: str) -> None:
    stamp(folder, "bin/pip", 1500)
    stamp(folder, ".installed", 2000)
    stamp(folder, ".installed-test", 2000)
    os.utime(folder / changed, (3000, 3000))

    assert EXTRAS in planned(folder, "demo")
    assert TEST_EXTRAS in planned(folder, "test")


def test_measuring_on_a_gpu_machine_installs_nothing(folder: Path) -> None:
    plan = planned(folder, "gpu")

    assert "pip" not in plan
    assert "venv" not in plan
    assert plan.splitlines()[-1] == (
        "PYTHONPATH=.types PYTHONSAFEPATH=1 python3 -m mmworkload.measuring.everything --device cuda -o measurements"
    )
