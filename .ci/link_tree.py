"""Lays the repository out as it is installed, by symbolic links: ``python .ci/link_tree.py DESTINATION``.

The shelves lie at the root of the repository and are installed as sub-packages of ``mmworkload`` (setup.py). What
looks at the source tree itself finds them in ``DESTINATION/mmworkload``: mypy, which follows no editable install, and
a machine without pip, where ``PYTHONPATH=DESTINATION`` runs the package as it stands. A dist-info folder beside it
gives the version and the entry points, so that plug-ins are found as in any other installation.
"""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any


def links(root: Path) -> dict[str, Path]:
    """Name under ``mmworkload/`` to what it links to. Folders are linked whole."""
    shelves = _configuration(root)["tool"]["mmworkload"]["shelves"]
    wanted = {
        item.name: item for item in (root / "mmworkload").iterdir() if not item.name.startswith((".", "__pycache"))
    }
    for shelf in shelves:
        if shelf in wanted:
            raise SystemExit(f"mmworkload/{shelf} hides the folder {shelf}/; rename one of them")
        wanted[shelf] = root / shelf
    return wanted


def lay(root: Path, destination: Path) -> None:
    """Brings ``destination`` up to date; what is right already is not touched."""
    package = destination / "mmworkload"
    package.mkdir(parents=True, exist_ok=True)
    wanted = {name: os.path.relpath(target, package) for name, target in links(root).items()}
    for item in package.iterdir():
        if not item.is_symlink() or str(item.readlink()) != wanted.get(item.name):
            item.unlink()
    for name, target in wanted.items():
        if not (package / name).is_symlink():
            (package / name).symlink_to(target)
    _write_metadata(destination, _configuration(root)["project"])


def _write_metadata(destination: Path, project: dict[str, Any]) -> None:
    groups = {"console_scripts": project["scripts"], **project["entry-points"]}
    lines = []
    for group, entries in groups.items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()), ""]
    for old in destination.glob("*.dist-info"):
        shutil.rmtree(old)
    folder = destination / f"{project['name']}-{project['version']}.dist-info"
    folder.mkdir()
    (folder / "entry_points.txt").write_text("\n".join(lines))
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")


def _configuration(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    lay(Path(__file__).resolve().parent.parent, Path(sys.argv[1]).absolute())
