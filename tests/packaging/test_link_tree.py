"""The link tree shows the package as it is installed: to mypy, and to a machine without pip."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mmworkload.plugins import data_files, plugins

PROJECT = """
[project]
name = "mmworkload"
version = "9.8"
scripts = { mmworkload = "mmworkload.cli:main" }
[project.entry-points."mmworkload.workloads"]
mmworkload = "mmworkload.workloads"
[tool.mmworkload]
shelves = ["workloads"]
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository of one module and one shelf."""
    (tmp_path / "mmworkload").mkdir()
    (tmp_path / "workloads").mkdir()
    (tmp_path / "mmworkload" / "graph.py").write_text("nodes = 3\n")
    (tmp_path / "workloads" / "av_mnist.py").write_text("layers = 4\n")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return tmp_path


def python_files(folder: Path) -> set[str]:
    found = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found |= {str((Path(place) / name).relative_to(folder)) for name in files if name.endswith(".py")}
    return found


def test_mypy_sees_every_python_file_of_the_engine_and_the_shelves(
    root: Path, link_tree: ModuleType, installed_names: dict[str, str], tmp_path: Path
) -> None:
    link_tree.lay(root, tmp_path)

    seen = python_files(tmp_path)

    assert seen == {name for name in installed_names.values() if name.endswith(".py")}
    assert {"mmworkload/graph.py", "mmworkload/workloads/av_mnist/networks.py", "mmworkload/shapes/__init__.py"} <= seen


def test_every_folder_of_modules_is_a_package(root: Path, installed_names: dict[str, str]) -> None:
    folders = {Path(name).parent for name in installed_names if name.endswith(".py")}

    assert [str(folder) for folder in sorted(folders) if not (root / folder / "__init__.py").is_file()] == []


def test_mypy_is_told_to_use_the_tree(configuration: dict[str, Any], root: Path) -> None:
    assert configuration["tool"]["mypy"]["mypy_path"] == ".types"
    assert configuration["tool"]["mypy"]["packages"] == ["mmworkload"]
    assert "LINKS := .types\n" in (root / "Makefile").read_text()


def test_links_follow_a_module_that_comes_and_goes(link_tree: ModuleType, small: Path) -> None:
    link_tree.lay(small, small / "tree")
    (small / "mmworkload" / "graph.py").rename(small / "mmworkload" / "layer.py")
    (small / "workloads" / "smil.py").touch()
    link_tree.lay(small, small / "tree")

    assert python_files(small / "tree") == {
        "mmworkload/layer.py",
        "mmworkload/workloads/av_mnist.py",
        "mmworkload/workloads/smil.py",
    }
    assert (small / "tree/mmworkload/workloads/av_mnist.py").read_text() == "layers = 4\n"


def test_links_survive_a_move_of_the_repository(link_tree: ModuleType, small: Path) -> None:
    link_tree.lay(small, small / "tree")
    moved = small.rename(small.with_name("elsewhere"))

    assert (moved / "tree/mmworkload/graph.py").read_text() == "nodes = 3\n"


def test_a_module_that_would_hide_a_shelf_is_refused(link_tree: ModuleType, small: Path) -> None:
    (small / "mmworkload" / "workloads").mkdir()

    with pytest.raises(SystemExit, match="mmworkload/workloads hides the folder workloads/"):
        link_tree.lay(small, small / "tree")


def test_the_tree_has_the_version_and_the_entry_points(link_tree: ModuleType, small: Path) -> None:
    link_tree.lay(small, small / "tree")
    text = (small / "pyproject.toml").read_text()
    (small / "pyproject.toml").write_text(text.replace("9.8", "9.9"))
    link_tree.lay(small, small / "tree")

    (distribution,) = importlib.metadata.distributions(path=[str(small / "tree")])

    assert (distribution.name, distribution.version) == ("mmworkload", "9.9")
    assert {(point.group, point.name, point.value) for point in distribution.entry_points} == {
        ("console_scripts", "mmworkload", "mmworkload.cli:main"),
        ("mmworkload.workloads", "mmworkload", "mmworkload.workloads"),
    }


def test_the_source_tree_runs_without_being_installed(root: Path, link_tree: ModuleType, tmp_path: Path) -> None:
    link_tree.lay(root, tmp_path)
    program = """
import json, mmworkload.plugins as engine
print(json.dumps({
    "engine": engine.__file__,
    "workloads": list(engine.plugins("mmworkload.workloads", "FAMILY")),
    "archs": {name: str(path) for name, path in engine.data_files("mmworkload.arch_specs", ".yaml").items()},
}))
"""
    # -S leaves out the editable install of this environment; its other packages stay within reach.
    path = os.pathsep.join([str(tmp_path), sysconfig.get_path("purelib")])
    answer = subprocess.run(
        [sys.executable, "-S", "-c", program],
        cwd=root,
        env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        check=True,
        capture_output=True,
        text=True,
    )

    seen = json.loads(answer.stdout)
    assert seen["engine"] == str(tmp_path / "mmworkload/plugins.py")
    assert seen["workloads"] == list(plugins("mmworkload.workloads", "FAMILY"))
    assert "av-mnist" in seen["workloads"]
    assert seen["archs"] == {
        name: str(tmp_path / "mmworkload" / path.parent.name / path.name)
        for name, path in data_files("mmworkload.arch_specs", ".yaml").items()
    }
