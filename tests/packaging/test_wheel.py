"""What people get who install the package without the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

from mmworkload import arch
from mmworkload.plugins import plugins

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(root: Path, committed: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the source distribution and the wheel that was built from it; the repository is left alone."""
    source = tmp_path_factory.mktemp("source")
    for name in committed:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, source / name)
    output = tmp_path_factory.mktemp("dist")
    answer = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", output, source],
        check=False,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return output


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel alone."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", target, wheel]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return target


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere")


def run(site: Path, folder: Path, *arguments: str | Path) -> str:
    """Standard output of python with the wheel and this environment's other packages, not its editable install."""
    path = os.pathsep.join([str(site), sysconfig.get_path("purelib")])
    answer = subprocess.run(
        # -S: editable installs come in through .pth files.
        [sys.executable, "-S", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_the_wheel_holds_the_engine_and_the_shelves_and_nothing_else(
    wheel: Path, installed_names: dict[str, str], configuration: dict[str, Any]
) -> None:
    version = configuration["project"]["version"]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    own = {name for name in names if not name.startswith(f"mmworkload-{version}.dist-info/")}
    assert own == set(installed_names.values())
    assert len(names) == len(set(names))
    assert f"mmworkload-{version}.dist-info/licenses/LICENSE" in names


def test_the_wheel_declares_what_the_project_declares(wheel: Path, configuration: dict[str, Any]) -> None:
    project = configuration["project"]
    folder = f"mmworkload-{project['version']}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read(f"{folder}/METADATA").decode())
        points = archive.read(f"{folder}/entry_points.txt").decode()

    required = [item for item in metadata.get_all("Requires-Dist", []) if "extra ==" not in item]
    assert required == project["dependencies"]
    assert metadata["License-Expression"] == "MIT"
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
    for group, entries in project["entry-points"].items():
        assert f"[{group}]\n" in points
        for name, package in entries.items():
            assert f"{name} = {package}\n" in points


def test_the_source_distribution_holds_what_the_wheel_holds(built: Path, installed_names: dict[str, str]) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert set(installed_names) - names == set()


def test_the_installed_wheel_finds_its_plugins_from_any_folder(site: Path, elsewhere: Path) -> None:
    program = """
import json
import mmworkload.workloads
from mmworkload import arch
from mmworkload.plugins import data_files, plugins
print(json.dumps({
    "place": mmworkload.workloads.__file__,
    "workloads": list(plugins("mmworkload.workloads", "FAMILY")),
    "exporters": list(plugins("mmworkload.exporters", "EXPORTER")),
    "simulators": list(plugins("mmworkload.simulators", "SIMULATOR")),
    "archs": {name: arch.load(name).key for name in arch.names()},
}))
"""
    seen = json.loads(run(site, elsewhere, "-c", program))

    assert seen == {
        "place": str(site / "mmworkload/workloads/__init__.py"),
        "workloads": list(plugins("mmworkload.workloads", "FAMILY")),
        "exporters": list(plugins("mmworkload.exporters", "EXPORTER")),
        "simulators": list(plugins("mmworkload.simulators", "SIMULATOR")),
        "archs": {name: arch.load(name).key for name in arch.names()},
    }
    assert "av-mnist" in seen["workloads"]
    assert "eyeriss_like" in seen["archs"]


def test_the_installed_command_lists_the_workloads(site: Path, elsewhere: Path) -> None:
    listed = json.loads(run(site, elsewhere, site / "bin" / "mmworkload", "list", "workloads", "--json"))

    assert [family["name"] for family in listed] == sorted(plugins("mmworkload.workloads", "FAMILY"))
