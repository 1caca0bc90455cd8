"""How plug-ins are found and named, and what happens when two distributions want one name."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmworkload import plugins as engine
from mmworkload.errors import MmworkloadError

GROUP = "mmworkload.workloads"
Install = Callable[..., str]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Install]:
    """Pretends that a distribution is installed: ``install("its-name", file_name="content", ...)``.

    Gives back the name of the distribution's package. Nothing else is installed.
    """
    points: list[Any] = []
    packages: list[str] = []
    numbers = itertools.count()

    def make(distribution: str, **modules: str) -> str:
        package = f"{distribution.replace('-', '_')}_{next(numbers)}"
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        for name, content in modules.items():
            (tmp_path / package / name.replace("_yaml", ".yaml").replace("_py", ".py")).write_text(content)
        points.append(SimpleNamespace(dist=SimpleNamespace(name=distribution), value=package))
        packages.append(package)
        importlib.invalidate_caches()
        return package

    monkeypatch.setattr(engine, "entry_points", lambda group: points if group == GROUP else [])
    monkeypatch.syspath_prepend(tmp_path)
    caches = (engine.packages, engine.plugins, engine.data_files)
    for item in caches:
        item.cache_clear()
    yield make
    for item in caches:
        item.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]


def test_a_module_is_named_by_its_file(install: Install) -> None:
    install("robots", push_task_py="FAMILY = 'push'", arm_py="FAMILY = 'arm'")

    assert engine.plugins(GROUP, "FAMILY") == {"arm": "arm", "push-task": "push"}


def test_helpers_are_passed_over(install: Install) -> None:
    install("robots", layers_py="WIDTH = 3", _private_py="FAMILY = 'never'")

    assert engine.plugins(GROUP, "FAMILY") == {}


def test_plugins_of_two_distributions_stand_side_by_side(install: Install) -> None:
    install("robots", arm_py="FAMILY = 'arm'")
    install("clinic", mimic_py="FAMILY = 'mimic'")

    assert engine.plugins(GROUP, "FAMILY") == {"arm": "arm", "mimic": "mimic"}


def test_two_modules_of_one_name_are_an_error_that_names_both_distributions(install: Install) -> None:
    first = install("robots-a", arm_py="FAMILY = 1")
    second = install("robots-b", arm_py="FAMILY = 2")

    with pytest.raises(MmworkloadError) as caught:
        engine.plugins(GROUP, "FAMILY")

    assert str(caught.value) == (
        f"two plug-ins of {GROUP} claim the name 'arm': robots-a ({first}.arm) and robots-b ({second}.arm)."
        " Uninstall one of them."
    )


def test_two_data_files_of_one_name_are_an_error_that_names_both_distributions(install: Install) -> None:
    install("chips-a", tpu_yaml="name: tpu")
    install("chips-b", tpu_yaml="name: tpu", npu_yaml="name: npu")

    with pytest.raises(MmworkloadError, match=r"claim the name 'tpu': chips-a \(.*tpu.yaml\) and chips-b \(.*\)"):
        engine.data_files(GROUP, ".yaml")


def test_data_files_are_named_without_their_suffix(install: Install, tmp_path: Path) -> None:
    package = install("chips", tpu_yaml="name: tpu", notes_py="")

    assert engine.data_files(GROUP, ".yaml") == {"tpu": tmp_path / package / "tpu.yaml"}


def test_a_plugin_that_fails_to_import_is_named_with_its_distribution(install: Install) -> None:
    package = install("robots", arm_py="import a_package_that_is_missing")

    with pytest.raises(MmworkloadError) as caught:
        engine.plugins(GROUP, "FAMILY")

    assert f"the plug-in {package}.arm of robots cannot be imported: ModuleNotFoundError" in str(caught.value)
    assert "a_package_that_is_missing" in str(caught.value)


@pytest.mark.usefixtures("install")
def test_no_distribution_at_all_tells_how_to_install() -> None:
    with pytest.raises(MmworkloadError, match=r"pip install -e \.` in its folder, or `make links`"):
        engine.plugins("mmworkload.exporters", "EXPORTER")


def test_every_declared_entry_point_leads_to_a_package(configuration: dict[str, Any]) -> None:
    groups = configuration["project"]["entry-points"]

    for entries in groups.values():
        for package in entries.values():
            assert importlib.import_module(package).__path__
    for group in groups:
        declared = {("mmworkload", package) for package in groups[group].values()}
        assert declared <= set(engine.packages(group))


def test_every_shelf_has_an_entry_point_of_its_own_name(configuration: dict[str, Any], shelves: list[str]) -> None:
    groups = configuration["project"]["entry-points"]

    assert {
        shelf for shelf in shelves if f"mmworkload.{shelf}" in groups.get(f"mmworkload.{shelf}", {}).values()
    } == set(shelves)


def test_a_plugin_that_leaves_by_sys_exit_is_named_and_does_not_end_the_program(install: Install) -> None:
    package = install("robots", arm_py="import sys\nsys.exit(7)")

    with pytest.raises(MmworkloadError, match=rf"{package}.arm of robots cannot be imported: sys.exit\(7\)"):
        engine.plugins(GROUP, "FAMILY")
