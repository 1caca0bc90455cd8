"""Results appear whole under their name, or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from mmworkload.errors import ArchitectureError, FormatError, MmworkloadError
from mmworkload.files import folder_atomic, read_json, read_text, write_atomic

MARKER = "manifest.json"


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_written_with_its_folders_and_ordinary_permissions(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "a" / "b" / "out.txt"
    umask = os.umask(0o022)
    try:
        write_atomic(path, "grün\n", durable=durable)
    finally:
        os.umask(umask)
    assert path.read_bytes() == "grün\n".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    assert names(path.parent) == ["out.txt"]


def test_bytes_are_written_as_they_are_and_replace_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    write_atomic(path, "a longer old content")
    write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | type[BaseException]
) -> None:
    path = tmp_path / "out.txt"
    write_atomic(path, "old")

    def interrupted(handle: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises((KeyboardInterrupt, MmworkloadError)) as caught:
        write_atomic(path, "new", durable=True)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]
    if caught.type is MmworkloadError:
        assert str(caught.value) == f"cannot write {path}: No space left on device. Choose another output."


def test_a_place_that_cannot_be_written_is_one_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(MmworkloadError, match=r"cannot create the folder .*file.*Choose another output"):
        write_atomic(tmp_path / "file" / "out.txt", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(MmworkloadError, match=r"cannot write .*folder"):
        write_atomic(tmp_path / "folder", "x")
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_permission_is_one_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(MmworkloadError, match="Permission denied"):
        write_atomic(tmp_path / "out.txt", "x")


def test_writers_at_the_same_time_leave_one_whole_content(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    contents = [str(index) * 100_000 for index in range(8)]
    threads = [threading.Thread(target=write_atomic, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in contents
    assert names(tmp_path) == ["out.txt"]


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with folder_atomic(out, MARKER) as folder:
        (folder / MARKER).write_text("{}")
        assert not out.exists()
    assert names(out) == [MARKER]
    assert names(out.parent) == ["out"]


def fail_inside(out: Path, error: BaseException) -> None:
    with folder_atomic(out, MARKER) as folder:
        (folder / MARKER).write_text("new")
        raise error


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), MmworkloadError("x")])
def test_a_block_that_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        fail_inside(tmp_path / "out", error)
    assert names(tmp_path) == []


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with folder_atomic(out, MARKER) as folder:
        (folder / MARKER).write_text("old")
    with pytest.raises(MmworkloadError, match=r"cannot write .*out: No space left on device"):
        fail_inside(out, OSError(28, "No space left on device"))
    assert (out / MARKER).read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_our_own_folder_and_an_empty_one_are_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for round_number in range(2):
        with folder_atomic(out, MARKER) as folder:
            (folder / MARKER).write_text(str(round_number))
            (folder / f"only {round_number}").touch()
    assert names(out) == [MARKER, "only 1"]


def test_a_folder_of_somebody_else_and_a_file_are_refused_and_kept(tmp_path: Path) -> None:
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter1.tex").write_text("years of work")
    with pytest.raises(MmworkloadError, match="is not empty and was not written by mmworkload"):
        folder_atomic(foreign, MARKER).__enter__()
    assert (foreign / "chapter1.tex").read_text() == "years of work"
    with pytest.raises(MmworkloadError, match="is a file"):
        folder_atomic(foreign / "chapter1.tex", MARKER).__enter__()


def test_a_file_that_is_not_there_is_told_with_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("a: 1\n")
    with pytest.raises(
        FormatError, match=r"cannot read .*swep\.yaml: there is no such file\. Did you mean .*/sweep\.yaml\?$"
    ):
        read_text(tmp_path / "swep.yaml")
    with pytest.raises(ArchitectureError, match=r"there is no such file\.$"):
        read_text(tmp_path / "nowhere" / "sweep.yaml", ArchitectureError)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a\xff", r"it is no text in UTF-8 \(byte 1\)"),
        (b"{", r"it is no JSON \(Expecting property name"),
        (None, "Is a directory"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "data.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(FormatError, match=f"cannot read .*data.json: {reason}"):
        read_json(path)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_atomic(tmp_path / "data.json", '{"grün": [1, 2.5, null]}')
    assert read_text(tmp_path / "data.json") == '{"grün": [1, 2.5, null]}'
    assert read_json(tmp_path / "data.json") == {"grün": [1, 2.5, None]}
