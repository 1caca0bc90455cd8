"""stdout is for results alone: code of others prints to stderr, and a stream that takes nothing is one error."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

import mmworkload.cli
from mmworkload.cli.app import app

TALKS = """
import ctypes, sys
print("said at import")
import torch

class Talks(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(4, 4)
        print("said in building")

    def forward(self, x):
        print("said in forward")
        ctypes.CDLL(None).puts(b"said in C")
        return self.inner(x)

class Leaves(torch.nn.Module):
    def forward(self, x):
        sys.exit(7)

def build():
    return Talks(), (torch.zeros(1, 4),)

def leaves():
    return Leaves(), (torch.zeros(1, 4),)

def gone():
    sys.exit(7)
"""


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "talks.py"
    path.write_text(TALKS)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments])


def started(*arguments: object, redirected: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, through a shell that redirects it."""
    shell = ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-m", "mmworkload.cli"]
    return subprocess.run([*shell, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


def test_what_a_users_file_prints_goes_to_stderr_and_never_into_json(talks: Path) -> None:
    result = run("show", f"{talks}:build", "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["total_macs"] == 16
    assert [line for line in result.stderr.splitlines() if line.startswith("said")] == [
        "said at import",
        "said in building",
        "said in forward",
    ]


@pytest.mark.slow
def test_what_code_in_c_prints_goes_to_stderr_too(talks: Path) -> None:
    result = started("show", f"{talks}:build", "--json")

    assert json.loads(result.stdout)["total_macs"] == 16
    assert "said in C" in result.stderr.splitlines()


@pytest.mark.parametrize(("function", "where"), [("leaves", "forward"), ("gone", "building")])
def test_sys_exit_in_a_users_code_is_one_error(talks: Path, function: str, where: str) -> None:
    result = run("show", f"{talks}:{function}", "--json")

    assert (result.exit_code, result.stdout) == (2, "")
    (error,) = [line for line in result.stderr.splitlines() if not line.startswith("said")]
    assert error.startswith("error: ")
    assert "sys.exit(7)" in error
    assert where in error
    assert f"{talks}:" in error


def test_sys_exit_at_the_import_of_a_users_file_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(7)\n")

    result = run("show", f"{tmp_path / 'exits.py'}:build")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "sys.exit(7)" in result.stderr


def test_sys_exit_outside_of_a_model_is_no_exit_code_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmworkload.cli.listing.listing", lambda kind: sys.exit(7))

    result = run("list", "archs")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    "arguments",
    [("list", "archs"), ("list", "archs", "--json"), ("show", "--help"), ("show", "shapes/av-mnist/concat.yaml")],
)
def test_a_full_disk_behind_stdout_is_one_line_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    result = started(*arguments, redirected="> /dev/full")

    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert os.strerror(28) in result.stderr


@pytest.mark.parametrize("arguments", [("list", "archs"), ("--version",)])
def test_a_closed_stdout_is_one_line_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    result = started(*arguments, redirected=">&-")

    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: standard output is closed")


def test_a_closed_stderr_leaves_the_results_as_they_are() -> None:
    result = started("list", "archs", "--json", redirected="2>&-")

    assert result.returncode == 0
    assert "eyeriss_like" in [item["name"] for item in json.loads(result.stdout)]


def test_an_error_without_a_stderr_is_not_printed_among_the_results() -> None:
    result = started("show", "no-such-model", "--json", redirected="2>&-")

    assert (result.returncode, result.stdout) == (2, "")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("show",), "model"),
        (("show", "av-mnist", "--batch", "many"), "--batch"),
        (("shwo", "av-mnist"), "show"),
        (("list", "--nothing"), "--nothing"),
        (("sweep",), "command"),
        (("show", "av-mnist", "two\nlines"), "two"),
    ],
)
def test_a_wrong_option_or_argument_is_one_line(arguments: tuple[str, ...], named: str) -> None:
    result = run(*arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert named in result.stderr


def test_the_version_is_the_installed_one() -> None:
    result = run("--version")

    assert (result.exit_code, result.stdout) == (0, f"mmworkload {mmworkload.__version__}\n")


@pytest.mark.parametrize("arguments", [(), ("show",), ("sweep", "run")])
def test_h_is_help(arguments: tuple[str, ...]) -> None:
    result = run(*arguments, "-h")

    assert result.exit_code == 0
    assert result.stdout == run(*arguments, "--help").stdout
    assert "Usage" in result.stdout


def test_no_verb_prints_past_the_stream_of_the_results() -> None:
    """A plain ``print`` in a verb goes to stderr; results go through ``put``, ``print_json`` and ``print_out``."""
    found = []
    for path in sorted(Path(mmworkload.cli.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            printed = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            if printed and "file" not in {keyword.arg for keyword in node.keywords}:
                found.append(f"{path.name}:{node.lineno}")

    assert found == []


def test_the_options_are_where_the_readme_says() -> None:
    """Each command has ``--json``; those of a model ``--batch`` and ``--dtype``, and all but ``exits`` ``--only``."""

    def commands(group: Any, path: str = "") -> dict[str, set[str]]:
        found = {}
        for name, item in group.commands.items():
            if hasattr(item, "commands"):
                found.update(commands(item, f"{name} "))
            else:
                found[path + name] = {option for parameter in item.params for option in parameter.opts}
        return found

    found = commands(typer.main.get_command(app))
    assert [name for name, options in found.items() if "--json" not in options] == []
    of_a_model = {name for name, options in found.items() if options & {"model", "models"}}
    assert of_a_model == {"show", "trace", "export", "simulate", "measure", "validate", "exits"}
    assert {name for name, options in found.items() if {"--batch", "--dtype"} <= options} >= of_a_model
    assert {name for name, options in found.items() if "--only" in options} == of_a_model - {"exits"}
