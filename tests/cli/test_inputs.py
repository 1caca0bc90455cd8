"""What is no file, no name or no home: one line of error and exit code 2, or the right answer and a warning."""

from __future__ import annotations

import json
import os
import pwd
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mmworkload.cli.app import app

LONG = "n" * 300


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments])


@pytest.fixture(autouse=True)
def never_waits() -> Iterator[None]:
    """A verb that waits for a pipe fails after a minute and not never."""

    def stop(*_: object) -> None:
        raise TimeoutError("the verb reads what never ends")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


READERS = [
    ("show", "{}.json"),
    ("show", "hf:{}.json"),
    ("show", "{}.py:build"),
    ("simulate", "{}.yaml", "--arch", "eyeriss_like"),
    ("simulate", "av-mnist", "--arch", "{}.yaml"),
    ("measure", "av-mnist", "--inputs", "{}.npz"),
    ("measure", "av-mnist", "--inputs", "{}.pt"),
    ("compare", "{}.json", "{}.json"),
    ("analyze", "A1", "{}.json"),
    ("validate", "av-mnist", "--arch", "eyeriss_like", "--measured", "{}.json"),
    ("validate", "av-mnist", "--arch", "eyeriss_like", "--measured", "{}.parquet"),
    ("sweep", "plan", "{}.yaml"),
    ("sweep", "run", "{}.yaml", "-o", "{}-sweep"),
    ("results", "list", "--packs", "{}.json"),
]


@pytest.mark.parametrize("arguments", READERS, ids=" ".join)
def test_a_pipe_where_a_file_belongs_is_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    for suffix in ("json", "py", "yaml", "npz", "pt", "parquet"):
        os.mkfifo(tmp_path / f"pipe.{suffix}")
    result = run(*(text.format(tmp_path / "pipe") for text in arguments))

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", READERS, ids=" ".join)
def test_a_name_that_no_file_system_takes_is_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    result = run(*(text.format(tmp_path / LONG) for text in arguments))

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("trace", "av-mnist", "-o", "{}.json"),
        ("show", "av-mnist", "--plot", "{}.svg"),
        ("export", "csv", "av-mnist", "--arch", "eyeriss_like", "-o", "{}"),
        ("measure", "av-mnist", "-o", "{}"),
    ],
    ids=" ".join,
)
def test_an_output_that_no_file_system_takes_is_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    result = run(*(text.format(tmp_path / LONG) for text in arguments))

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_deep_json_among_measurements_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)

    result = run("validate", "av-mnist", "--arch", "eyeriss_like", "--measured", tmp_path)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {tmp_path}: no measurement in it or below it")
    assert result.stderr.count("\n") == 1


def test_a_folder_below_that_cannot_be_read_is_named_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(closed))
        return scandir(path)

    # Root may read everything, and the tests may run as root.
    monkeypatch.setattr(os, "scandir", refusing)
    result = run("validate", "av-mnist", "--arch", "eyeriss_like", "--measured", tmp_path)

    assert result.exit_code == 2
    assert result.stderr == f"error: cannot read {closed}: Permission denied\n"


def test_an_architecture_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    result = run("simulate", "av-mnist", "--arch", tmp_path)

    assert (result.exit_code, result.stderr) == (2, f"error: cannot read {tmp_path}: Permission denied\n")


def test_a_user_without_name_and_home_gets_the_right_answer_and_one_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = ("simulate", "av-mnist", "--arch", "eyeriss_like", "--only", "head", "--json")
    monkeypatch.setenv("MMWORKLOAD_CACHE", str(tmp_path))
    usual = json.loads(run(*asked).stdout)

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("MMWORKLOAD_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    result = run(*asked)

    assert result.exit_code == 0
    assert {**json.loads(result.stdout), "seconds": 0} == {**usual, "seconds": 0}
    assert result.stderr.startswith("warning: there is no home folder")
    assert result.stderr.count("\n") == 1


def test_a_path_in_the_home_of_nobody_is_one_line() -> None:
    result = run("show", "hf:~nobody-of-this-name/config.json")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
