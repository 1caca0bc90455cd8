"""The example of the README does what the README says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmworkload.cli.app import app

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.full
def test_the_readmes_sweep_runs_and_answers(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(# sweep.yaml\n.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "sweep.yaml").write_text(text)
    folder, page = str(tmp_path / "designs"), tmp_path / "designs.html"
    ran = CliRunner().invoke(app, ["sweep", "run", str(tmp_path / "sweep.yaml"), "-o", folder])
    assert ran.exit_code == 0, ran.output
    told = CliRunner().invoke(app, ["sweep", "report", folder, "-o", str(page), "--json"])
    assert told.exit_code == 0, told.output
    report = json.loads(told.stdout)
    # Four arrays, five buffers, two clocks, two batches.
    assert report["status"]["finished"] == 80
    assert report["feasible"] == 25
    assert "<svg" in page.read_text()
