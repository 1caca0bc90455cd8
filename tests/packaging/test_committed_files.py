"""What is committed says nothing about the machine it was written on, and states one version."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

# Folders of the machines that this project is written and tested on.
MACHINE_PATH = re.compile(r"(?<![\w.~$}-])/(?:(?:work|root|tmp)(?![\w-])|home/(?!workspace\b)\w+)(?:/[\w.-]+)*")


def test_no_committed_file_names_a_path_of_a_machine(root: Path, committed: list[str]) -> None:
    found = []
    for name in committed:
        try:
            text = (root / name).read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{name}: {match.group()}" for match in MACHINE_PATH.finditer(text)]

    assert found == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("cd " + "/wo" + "rk/main", "/wo" + "rk/main"),
        ("file=" + "/ro" + "ot/x.py,", "/ro" + "ot/x.py"),
        ("'" + "/tm" + "p'", "/tm" + "p"),
        ("/ho" + "me/ada/graph.json", "/ho" + "me/ada/graph.json"),
        ("docker run -v $PWD:/home/workspace", None),
        ("av-mnist/concat, either/work", None),
        ("name/work/variant and $ROOT/tmp, /workload and /work-items", None),
    ],
)
def test_a_path_of_a_machine_is_recognised(text: str, path: str | None) -> None:
    match = MACHINE_PATH.search(text)

    assert (match.group() if match else None) == path


def test_the_version_is_the_same_everywhere(root: Path, configuration: dict[str, Any]) -> None:
    version = configuration["project"]["version"]

    assert f"\nversion: {version}\n" in (root / "CITATION.cff").read_text()
    headings = re.findall(r"^## \[(.+?)\]", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", version]


def test_the_licence_is_the_one_that_is_declared(root: Path, configuration: dict[str, Any]) -> None:
    assert configuration["project"]["license"] == "MIT"
    assert (root / "LICENSE").read_text().startswith("MIT License\n\nCopyright (c) 2026 The mmworkload authors\n")
