"""Outputs are tried before the work whose result they take; what was worked out is kept when writing fails after."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmworkload.cli.app import app
from mmworkload.errors import MmworkloadError
from mmworkload.files import folder_atomic, write_atomic
from mmworkload.outputs import GRAPH, HTML, SVG, TABLE, keep, require_output_file, require_output_folder

MARKER = "manifest.json"
# Whatever builds this model leaves a file beside it.
MODEL = """
from pathlib import Path

def build():
    Path(__file__).with_name("built").touch()
    raise ValueError("the model was built")
"""


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.rglob("*"))


@pytest.mark.parametrize("place", ["out.csv", "new/deep/out.CSV", "there/old.csv"])
def test_a_file_is_tried_without_a_trace(tmp_path: Path, place: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "old.csv").write_text("old")
    before = names(tmp_path)
    require_output_file(tmp_path / place, TABLE)
    assert names(tmp_path) == before
    assert (tmp_path / "there" / "old.csv").read_text() == "old"


@pytest.mark.parametrize(
    "place", ["out.pdf", "out", "csv", "plain/out.csv", "folder.csv", f"{'n' * 256}.csv", f"new/{'n' * 256}.csv"]
)
def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "plain").write_text("")
    (tmp_path / "folder.csv").mkdir()
    before = names(tmp_path)
    with pytest.raises(MmworkloadError) as caught:
        require_output_file(tmp_path / place, TABLE)
    assert len(str(caught.value).splitlines()) == 1
    assert names(tmp_path) == before


def test_a_stream_takes_the_one_format_that_there_is_and_no_choice() -> None:
    for only in (HTML, SVG):
        require_output_file(os.devnull, only)
    for several in (GRAPH, TABLE):
        with pytest.raises(MmworkloadError):
            require_output_file(os.devnull, several)


@pytest.mark.parametrize("place", ["out", "new/deep/out", "resnet50.b8", "empty", "ours"])
@pytest.mark.parametrize("marker", [None, MARKER])
def test_a_folder_is_tried_without_a_trace(tmp_path: Path, place: str, marker: str | None) -> None:
    (tmp_path / "empty").mkdir()
    with folder_atomic(tmp_path / "ours", MARKER) as folder:
        write_atomic(folder / MARKER, "{}")
    before = names(tmp_path)
    require_output_folder(tmp_path / place, marker)
    assert names(tmp_path) == before


DOCUMENTS = ["report.pdf", "report.html", "graph.yaml", "costs.PARQUET", "sample.npz", "model.pt", "model.onnx"]


@pytest.mark.parametrize("place", [*DOCUMENTS, "plain", "plain/out", "n" * 256, f"new/{'n' * 256}"])
@pytest.mark.parametrize("marker", [None, MARKER])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, place: str, marker: str | None) -> None:
    (tmp_path / "plain").write_text("")
    with pytest.raises(MmworkloadError):
        require_output_folder(tmp_path / place, marker)
    assert names(tmp_path) == ["plain"]


def test_a_folder_of_somebody_else_is_replaced_by_nobody_and_may_be_added_to(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    require_output_folder(tmp_path)
    with pytest.raises(MmworkloadError):
        require_output_folder(tmp_path, MARKER)


VERBS: dict[str, list[str]] = {
    "trace": ["trace", "MODEL", "-o", "OUT"],
    "show": ["show", "MODEL", "--plot", "OUT"],
    "export": ["export", "timeloop", "MODEL", "-a", "eyeriss_like", "-o", "OUT"],
    "export all": ["export", "all", "MODEL", "-a", "eyeriss_like", "-o", "OUT"],
    "measure": ["measure", "MODEL", "-o", "OUT"],
    "measure several": ["measure", "MODEL", "--batches", "1,2", "-o", "OUT"],
    "validate": ["validate", "MODEL", "-a", "eyeriss_like", "-o", "OUT"],
    "validate figures": ["validate", "MODEL", "-a", "eyeriss_like", "--figures", "OUT"],
}


@pytest.mark.parametrize("out", ["report.pdf", "plain/out.html"])
@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_builds_a_model_for_an_output_that_cannot_be(tmp_path: Path, verb: str, out: str) -> None:
    (tmp_path / "plain").write_text("")
    (tmp_path / "mine.py").write_text(MODEL)
    places = {"MODEL": f"{tmp_path / 'mine.py'}:build", "OUT": str(tmp_path / out)}
    result = CliRunner().invoke(app, [places.get(item, item) for item in VERBS[verb]])
    assert result.exit_code == 2
    assert names(tmp_path) == ["mine.py", "plain"]
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "command",
    [
        ["export", "no_such_tool", "MODEL", "-a", "eyeriss_like"],
        ["export", "timeloop", "MODEL", "-a", "no_such_design"],
        ["export", "timeloop", "MODEL", "-a", "h200"],
    ],
)
def test_export_looks_at_target_and_architecture_before_the_model(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "mine.py").write_text(MODEL)
    model = f"{tmp_path / 'mine.py'}:build"
    result = CliRunner().invoke(
        app, [model if item == "MODEL" else item for item in command] + ["-o", str(tmp_path / "out")]
    )
    assert result.exit_code == 2
    assert names(tmp_path) == ["mine.py"]


WITHOUT_MODEL: dict[str, list[str]] = {
    "measure several": ["measure", "NOTHING.py:build", "--batches", "1,2", "-o", "OUT"],
    "sweep report": ["sweep", "report", "NOTHING", "-o", "OUT"],
    "sweep export": ["sweep", "export", "NOTHING", "-o", "OUT"],
    "results export": ["results", "export", "--packs", "NOTHING", "-o", "OUT"],
    "results add": ["results", "add", "-a", "NOTHING", "--tool", "x", "--packs", "OUT"],
    "results add-measured": ["results", "add-measured", "NOTHING", "--packs", "OUT"],
    "reproduce": ["reproduce", "D4", "--arch", "NOTHING", "-o", "OUT"],
}


@pytest.mark.parametrize("verb", WITHOUT_MODEL)
def test_an_output_is_looked_at_before_what_it_is_made_of(tmp_path: Path, verb: str) -> None:
    """Both are wrong; the output is what the error is about."""
    (tmp_path / "empty").mkdir()
    places = {"NOTHING": str(tmp_path / "empty" / "nothing"), "OUT": str(tmp_path / "report.pdf")}
    result = CliRunner().invoke(app, [places.get(item, item) for item in WITHOUT_MODEL[verb]])
    assert result.exit_code == 2
    assert "report.pdf" in result.stderr
    assert names(tmp_path) == ["empty"]


def test_what_cannot_be_written_in_the_end_is_kept_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(kept))
    with pytest.raises(MmworkloadError) as caught:
        keep(tmp_path / "out.txt", _full(lambda place: write_atomic(place, "measured"), at=tmp_path))
    (folder,) = kept.iterdir()
    assert (folder / "out.txt").read_text() == "measured"
    assert str(folder / "out.txt") in str(caught.value)
    assert "No space left" in str(caught.value)


def test_nothing_is_left_when_there_is_no_room_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(kept))

    def write(place: Path) -> None:
        raise MmworkloadError(f"cannot write {place}: No space left on device")

    with pytest.raises(MmworkloadError) as caught:
        keep(tmp_path / "out.txt", write)
    assert str(caught.value) == f"cannot write {tmp_path / 'out.txt'}: No space left on device"
    assert names(tmp_path) == ["kept"]


def _full(write: Callable[[Path], None], at: Path) -> Callable[[Path], None]:
    """``write``, on a disk that has no room in the folder ``at`` itself."""

    def tried(place: Path) -> None:
        if place.parent == at:
            raise MmworkloadError(f"cannot write {place}: No space left on device")
        write(place)

    return tried
