"""Progress where no terminal shows a bar."""

from __future__ import annotations

import pytest

from mmworkload.cli import progress


def test_a_log_gets_a_line_in_every_thirty_seconds_and_none_of_a_short_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.bar("simulating") as report:
        for second in range(0, 75, 5):
            now = 100.0 + second
            report(second, 1000)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["simulating: 30 of 1,000 [30 s]", "simulating: 60 of 1,000 [60 s]"]
