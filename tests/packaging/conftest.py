"""What the tests of the package's shape share: the repository, its files and its configuration."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def configuration(root: Path) -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture(scope="session")
def shelves(configuration: dict[str, Any]) -> list[str]:
    return configuration["tool"]["mmworkload"]["shelves"]


@pytest.fixture(scope="session")
def committed(root: Path) -> list[str]:
    """Every file that is committed or about to be, relative to the root."""
    if not shutil.which("git") or not (root / ".git").exists():
        pytest.skip("needs a git checkout: what belongs to the project is what git knows")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return sorted(name for name in set(listing.split("\0")) if name and (root / name).is_file())


@pytest.fixture(scope="session")
def installed_names(committed: list[str], shelves: list[str]) -> dict[str, str]:
    """File of the engine or of a shelf to its path in an installation; prose apart."""
    names = {}
    for name in committed:
        folder = name.split("/")[0]
        if folder in ("mmworkload", *shelves) and not name.endswith(".md"):
            names[name] = name if folder == "mmworkload" else f"mmworkload/{name}"
    return names


@pytest.fixture(scope="session")
def link_tree(root: Path) -> ModuleType:
    """The script .ci/link_tree.py as a module."""
    spec = importlib.util.spec_from_file_location("link_tree", root / ".ci" / "link_tree.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
