"""Plug-ins: an entry point names a package, its modules are found in it, the file name is the name to type.

Groups: ``mmworkload.workloads``, ``mmworkload.exporters``, ``mmworkload.simulators``, ``mmworkload.arch_specs``. The
built-ins come in by the same path as anybody else's. A module of a workload package defines ``FAMILY``, of an exporter
package ``EXPORTER`` and/or ``SIMULATOR``; modules without the wanted object are helpers and are passed over.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

from mmworkload.errors import FOREIGN, MmworkloadError, kind_and_text


@cache
def packages(group: str) -> tuple[tuple[str, str], ...]:
    """(distribution, package) of every entry point of the group, sorted."""
    found = {(point.dist.name if point.dist else "?", point.value) for point in entry_points(group=group)}
    if not found:
        raise MmworkloadError(
            f"no installed distribution has the entry points {group}: mmworkload itself is not installed. Run"
            " `pip install -e .` in its folder, or `make links` there and set PYTHONPATH to .types."
        )
    return tuple(sorted(found))


@cache
def plugins(group: str, attribute: str) -> dict[str, Any]:
    """Command-line name (the file name, underscores as hyphens) to the object called ``attribute``, for every module
    in the packages of ``group`` that has one.

    Raises MmworkloadError when two modules claim one name, naming both distributions, or when one cannot be imported.
    """
    found: dict[str, Any] = {}
    owner: dict[str, str] = {}
    for distribution, package_name in packages(group):
        package = _import(package_name, distribution)
        for module_info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
            if module_info.name.startswith("_"):
                continue
            module = _import(f"{package_name}.{module_info.name}", distribution)
            if hasattr(module, attribute):
                name = module_info.name.replace("_", "-")
                _claim(owner, group, name, f"{distribution} ({module.__name__})")
                found[name] = getattr(module, attribute)
    return found


@cache
def data_files(group: str, suffix: str) -> dict[str, Path]:
    """Name (file name without suffix) to path, for every data file in the packages of ``group``.

    Raises MmworkloadError when two files claim one name, naming both distributions.
    """
    found: dict[str, Path] = {}
    owner: dict[str, str] = {}
    for distribution, package_name in packages(group):
        _import(package_name, distribution)
        for item in sorted(files(package_name).iterdir(), key=lambda entry: entry.name):
            if item.name.endswith(suffix):
                name = item.name.removesuffix(suffix)
                _claim(owner, group, name, f"{distribution} ({item})")
                found[name] = Path(str(item))
    return found


def _import(name: str, distribution: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except FOREIGN as error:
        raise MmworkloadError(
            f"the plug-in {name} of {distribution} cannot be imported: {kind_and_text(error)}. Repair or uninstall"
            f" {distribution}."
        ) from error


def _claim(owner: dict[str, str], group: str, name: str, place: str) -> None:
    if name in owner:
        raise MmworkloadError(
            f"two plug-ins of {group} claim the name '{name}': {owner[name]} and {place}. Uninstall one of them."
        )
    owner[name] = place
