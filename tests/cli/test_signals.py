"""A signal ends a command with 128 and its number, one line and nothing left, whenever it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import mmworkload.shapes
from mmworkload.signals import Ended, unwinding

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

GRAPH = Path(mmworkload.shapes.__path__[0]) / "av-mnist" / "image.yaml"
# The process signals itself when it begins to import a module, or when everything is done.
AT = """
import atexit, os, signal, sys

moment, number = sys.argv.pop(1), int(sys.argv.pop(1))


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), number)
        if name == "typer" and moment == "winding up":
            sys.meta_path.remove(self)
            atexit.register(os.kill, os.getpid(), number)


sys.meta_path.insert(0, Finder())
if moment == "the end":
    atexit.register(os.kill, os.getpid(), number)
from mmworkload.cli import main

main()
"""


def at(moment: str, number: signal.Signals, *arguments: str, folder: Path) -> tuple[int, str, str]:
    """Exit code, output and messages of a command that gets a signal at a moment."""
    ended = subprocess.run(
        [sys.executable, "-c", AT, moment, str(int(number)), *arguments],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("mmworkload.cli.app", signal.SIGINT),
        ("typer", signal.SIGINT),
        ("typer", signal.SIGTERM),
        ("mmworkload.cli.validating", signal.SIGHUP),
        # Within the verb.
        ("mmworkload.reporting.tables", signal.SIGINT),
        ("mmworkload.reporting.tables", signal.SIGTERM),
        ("mmworkload.reporting.tables", signal.SIGHUP),
    ],
)
def test_a_signal_while_it_imports_or_works_ends_the_command(
    tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    assert at(moment, number, "show", str(GRAPH), folder=tmp_path) == (128 + number, "", "interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("verb", [("show", str(GRAPH)), ("compare", "--help")])
def test_a_signal_after_the_work_is_no_traceback_and_takes_no_result(
    tmp_path: Path, verb: tuple[str, ...], number: signal.Signals
) -> None:
    code, out, err = at("winding up", number, *verb, folder=tmp_path)
    assert (code, err) == (128 + number, "interrupted\n")
    # Later than that, the command has ended as it does by itself.
    assert at("the end", number, *verb, folder=tmp_path) == (0, out, "")
    assert out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_is_open_is_closed_and_the_handlers_are_those_of_before(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    steps = []

    def work() -> None:
        with unwinding():
            try:
                os.kill(os.getpid(), number)
            finally:
                steps.append("closed")

    with pytest.raises(Ended) as caught:
        work()
    assert (caught.value.number, steps) == (number, ["closed"])
    assert signal.getsignal(number) == before


def test_a_signal_that_a_library_catches_or_replaces_still_ends_the_command() -> None:
    def catches() -> None:
        with unwinding(), suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)

    def replaces() -> None:
        with unwinding():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except BaseException as error:
                raise ImportError("half a library") from error

    for work in (catches, replaces):
        with pytest.raises(Ended):
            work()


def test_a_signal_that_comes_in_a_finalizer_is_raised_afterwards(capfd: pytest.CaptureFixture[str]) -> None:
    steps = []

    class Slow:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            self.later = 1

    def work() -> None:
        with unwinding():
            Slow()
            end = time.monotonic() + 30
            while time.monotonic() < end:
                time.sleep(0.01)
            steps.append("never interrupted")

    with pytest.raises(Ended) as caught:
        work()
    assert (caught.value.number, steps) == (signal.SIGTERM, [])
    assert capfd.readouterr().err == ""


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with unwinding():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
