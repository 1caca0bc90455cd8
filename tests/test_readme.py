"""README as a newcomer follows it: every command and example in order, in an empty folder, with this machine's CPU."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmworkload.cli.app import app

README = Path(__file__).parents[1] / "README.md"

# What is not run here, and why.
NOT_RUN = {
    "make demo": "installs, and runs the validation that is run here",
    "make test": "runs this test",
    "mmworkload measure av-mnist --inputs sample.npz": "needs a file of the reader's",
}

pytestmark = pytest.mark.full


def steps(text: str) -> Iterator[tuple[str, str]]:
    """``command`` and a line, ``file`` and its content, ``python`` and code, in the order of the text."""
    for block in re.finditer(r"^```(\w*)\n(.*?)^```|`(mmworkload [^`]+)`", text, re.DOTALL | re.MULTILINE):
        language, content, inline = block.groups()
        if inline:
            # A form, not a command: it has words in capitals or leaves something out.
            if not re.search(r"\.\.\.|\b[A-Z]{4,}\b|\bA\b", inline):
                yield "command", inline
        elif not language:
            yield from (("command", line) for line in content.splitlines() if line.strip())
        else:
            yield ("file" if re.match(r"# \w+\.\w+\n", content) else "python"), content


def test_every_command_works_in_order_in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    failed, not_run, done = [], set(), set()
    for kind, content in steps(README.read_text()):
        if kind == "file":
            Path(content.split()[1]).write_text(content)
        elif kind == "python":
            exec(compile(content, "README.md", "exec"), {"__name__": "readme"})
        else:
            program, *arguments = shlex.split(content, comments=True)
            command = shlex.join([program, *arguments])
            if command in NOT_RUN:
                not_run.add(command)
                continue
            assert program == "mmworkload", content
            if command in done:
                continue
            done.add(command)
            answer = runner.invoke(app, arguments)
            if answer.exit_code:
                failed.append(f"{command}: exit {answer.exit_code}, {answer.stderr[-300:]} {answer.exception!r}")
    assert failed == []
    assert not_run == set(NOT_RUN)
    assert len(done) > 30
    # The sweep: four arrays, five buffers, two clocks, two batches.
    report = json.loads(runner.invoke(app, ["sweep", "report", "designs/", "--json"]).stdout)
    assert report["status"]["finished"] == 80
    assert report["feasible"] == 25
    # What the commands are said to write.
    for name in ("report.html", "graph.json", "out/manifest.csv", "result", "other", "transfuser.svg", "designs.html"):
        assert Path(name).exists(), name
