"""Results appear whole under their name, or not at all."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mmworkload import files
from mmworkload.errors import ArchitectureError, FormatError, MmworkloadError
from mmworkload.files import folder_atomic, parse_yaml, read_json, read_text, write_atomic
from mmworkload.temporary import remove_leftovers, temporary_file, temporary_folder

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


# --- whatever ends the process, the old folder or the new one is there ------------------------------------------------


def export_again(out: Path) -> None:
    with folder_atomic(out, MARKER) as folder:
        (folder / MARKER).write_text("new")
        (folder / "new").write_text("new")


def at_call(number: int, do: Callable[[], object], out: Path) -> int:
    """How a process ends that replaces ``out`` and does ``do`` before its system call ``number`` on the file system;
    0 when it makes no more than that many calls."""
    process = os.fork()
    if process == 0:
        try:
            os.setpgid(0, 0)
            left = iter(range(number))

            def hook(event: str, arguments: tuple[object, ...]) -> None:
                if event.split(".")[0] in ("os", "shutil", "tempfile", "open", "ctypes", "fcntl") and (
                    next(left, None) is None
                ):
                    do()

            sys.addaudithook(hook)
            export_again(out)
        except BaseException:
            os._exit(7)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def interrupt() -> None:
    raise KeyboardInterrupt


def fail() -> None:
    raise OSError(5, "Input/output error")


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """An export with a file of its user's."""
    out = tmp_path / "place" / "out"
    out.mkdir(parents=True)
    (out / MARKER).write_text("old")
    (out / "notes.txt").write_text("mine")
    return out


@pytest.mark.parametrize("at_once", [True, False], ids=["exchange", "aside"])
@pytest.mark.parametrize("do", [lambda: os.kill(os.getpid(), signal.SIGKILL), interrupt, fail])
def test_a_folder_that_is_replaced_is_whole_at_every_moment(
    tmp_path: Path, earlier: Path, monkeypatch: pytest.MonkeyPatch, do: Callable[[], object], at_once: bool
) -> None:
    if not at_once:
        monkeypatch.setattr(files, "_exchange_at_once", lambda new, old: fail())
    old, new = [MARKER, "notes.txt"], [MARKER, "new"]
    shutil.copytree(earlier, tmp_path / "kept")
    seen = set()
    for number in range(200):
        shutil.rmtree(earlier.parent)
        shutil.copytree(tmp_path / "kept", earlier)
        ended = at_call(number, do, earlier)
        there = names(earlier) if earlier.exists() else None
        beside = [names(path) for path in earlier.parent.iterdir() if not path.name.startswith(".") and path != earlier]
        assert there in (old, new) or (not at_once and there is None and old in beside), (number, ended, there, beside)
        if there is not None:
            assert (earlier / MARKER).read_text() == ("new" if there == new else "old")
        seen.add(str(there))
        if not ended:
            break
        remove_leftovers.cache_clear()
        with temporary_folder(earlier.parent):
            pass
        assert not [name for name in names(earlier.parent) if name.startswith(".")]
    assert number > 8
    assert not ended
    assert {str(old), str(new)} <= seen


def test_a_working_directory_and_those_above_it_are_refused_before_anything_is_written(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (earlier / "problems").mkdir()
    before = sorted(earlier.parent.rglob("*"))
    for place, given in ((earlier, "."), (earlier, earlier), (earlier / "problems", ".."), (earlier, "problems/..")):
        monkeypatch.chdir(place)
        with pytest.raises(MmworkloadError, match="working directory"):
            folder_atomic(Path(given), MARKER).__enter__()
    assert sorted(earlier.parent.rglob("*")) == before


def test_links_mount_points_and_devices_are_refused_as_folders(
    tmp_path: Path, earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(earlier)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    for given, why in (
        (tmp_path / "link", "symbolic link"),
        (tmp_path / "dangling", "symbolic link"),
        (Path("/proc"), "mount point"),
        (Path("/dev/null"), "no folder"),
        (tmp_path / "pipe", "no folder"),
    ):
        with pytest.raises(MmworkloadError, match=why):
            folder_atomic(given, MARKER).__enter__()
    # As root sees one that is mounted from the same disk; a folder in the way down counts too.
    monkeypatch.setattr(files, "_mount_points", lambda: [earlier / "inner"])
    with pytest.raises(MmworkloadError, match="mount point"):
        folder_atomic(earlier, MARKER).__enter__()
    assert names(earlier) == [MARKER, "notes.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_mount_points_are_found() -> None:
    assert {Path("/"), Path("/proc")} <= set(files._mount_points())


def test_of_a_link_the_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    target, link = tmp_path / "data" / "target.txt", tmp_path / "link.txt"
    link.symlink_to("data/target.txt")
    for content in ("first", "second"):
        write_atomic(link, content)
        assert (link.is_symlink(), target.read_text(), target.is_symlink()) == (True, content, False)
    assert names(tmp_path / "data") == ["target.txt"]


def test_devices_and_pipes_are_not_replaced(tmp_path: Path) -> None:
    device = Path("/dev/null").stat()
    write_atomic(Path("/dev/null"), "x")
    assert os.path.samestat(Path("/dev/null").stat(), device)
    with pytest.raises(MmworkloadError, match="No space left on device"):
        write_atomic(Path("/dev/full"), "x")

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    write_atomic(pipe, "through the pipe")
    assert reader.communicate()[0] == b"through the pipe"
    assert pipe.is_fifo()

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        with pytest.raises(MmworkloadError, match="it is no file"):
            write_atomic(tmp_path / "socket", "x")
        assert (tmp_path / "socket").is_socket()


def test_a_name_of_255_letters_is_written_and_a_longer_one_is_refused(tmp_path: Path) -> None:
    write_atomic(tmp_path / ("n" * 255), "x")
    with pytest.raises(MmworkloadError, match="File name too long"):
        write_atomic(tmp_path / ("n" * 256), "x")
    assert names(tmp_path) == ["n" * 255]


# --- leftovers --------------------------------------------------------------------------------------------------------


def test_what_a_killed_process_left_goes_and_what_a_living_one_uses_stays(tmp_path: Path) -> None:
    ours, pattern = ".mmworkload-abcd1234", ".mmworkload-*"
    (tmp_path / ".mmworkload-notes").write_text("the user's")
    (tmp_path / "mmworkload-abcd1234").mkdir()
    (tmp_path / ours).mkdir()
    (tmp_path / ours / "log").write_text("left behind")
    (tmp_path / ".mmworkload-wxyz7890").write_text("left behind")
    (tmp_path / ".mmworkload-link0000").symlink_to(tmp_path / "mmworkload-abcd1234")
    script = """
import sys
from pathlib import Path
from mmworkload.temporary import temporary_file, temporary_folder
with temporary_folder(Path(sys.argv[1])), temporary_file(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""
    remove_leftovers.cache_clear()
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        used = {path.name for path in tmp_path.glob(pattern)} - {".mmworkload-notes", ".mmworkload-link0000"}
        assert len(used) == 2
        assert not used & {ours, ".mmworkload-wxyz7890"}
        remove_leftovers.cache_clear()
        remove_leftovers(tmp_path)
        assert used < {path.name for path in tmp_path.iterdir()}
        other.kill()
        other.wait()
    remove_leftovers.cache_clear()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".mmworkload-link0000", ".mmworkload-notes", "mmworkload-abcd1234"]


def test_a_new_temporary_that_is_taken_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmworkload import temporary

    taken: list[Path] = []
    lock = temporary._locked

    def too_late(handle: int, path: Path) -> bool:
        if len(taken) % 2 == 0:
            taken.append(path)
            temporary._remove_leftover(path)
        else:
            taken.append(path)
        return lock(handle, path)

    monkeypatch.setattr(temporary, "_locked", too_late)
    with temporary_folder(tmp_path) as folder, temporary_file(tmp_path) as (file, stream):
        stream.write(b"x")
        assert folder.is_dir()
        assert file.is_file()
        assert [path.exists() for path in taken] == [False, True, False, True]
    assert names(tmp_path) == []


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


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_device_is_refused_before_it_is_read(kind: str, tmp_path: Path) -> None:
    path = Path("/dev/zero")
    if kind == "pipe":
        path = tmp_path / "pipe"
        os.mkfifo(path)

    with pytest.raises(FormatError, match=f"cannot read {path}: it is no regular file"):
        read_text(path)


def test_a_file_of_terabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)

    with pytest.raises(FormatError, match=r"it has 1,099,511,627,776 bytes, and at most 1,073,741,824 are read"):
        read_json(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nb: c: d\n", "a.yaml is not YAML: line 2, column 5, at ': d': mapping values are not allowed here"),
        ('name: "x\n', "line 2, column 1, at the end of the file: found unexpected end of stream .*of line 1"),
        ("a: 1\n- b\n", "line 2, column 1, at '- b': expected <block end>"),
        ("a: \x01\n", "is not YAML: .*special characters are not allowed"),
        ('"\\U00110000"', "is not YAML that can be read: ValueError"),
        ("[" * 5000, "is not YAML that can be read: RecursionError"),
        ('!!int ""', "is not YAML that can be read: IndexError"),
        ("!!timestamp x", "is not YAML that can be read: AttributeError"),
    ],
)
def test_a_mistake_in_yaml_is_told_with_line_column_and_what_stands_there(text: str, said: str) -> None:
    with pytest.raises(FormatError, match=said) as caught:
        parse_yaml(text, "a.yaml")

    assert "\n" not in str(caught.value)


def test_a_signal_while_a_temporary_folder_goes_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree
    calls: list[Path] = []

    def interrupted(path: Path, ignore_errors: bool) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise KeyboardInterrupt
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path) as folder:
        (folder / "file").touch()
    assert names(tmp_path) == []
