"""The cache: whole entries or none, successes and failures apart, timeouts tied to their limit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mmworkload.simulating.cache import CRASH, ERROR, TIMEOUT, Cache, Failure, default_root
from mmworkload.simulating.estimate import Estimate

KEY = "ab" + "0" * 62


def answer(cycles: int = 7) -> Estimate:
    energy = {"dram": 1e-9, "mac": 2.5e-10}
    return Estimate("tool", "1", cycles, 1e-6, energy, 0.5, {"dram": {"input": 3}}, 5, includes=("compute",))


def entry(cache: Cache, kind: str = "estimates") -> Path:
    return cache.root / kind / "ab" / f"{KEY}.json"


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    Cache(tmp_path).put(KEY, answer())

    assert Cache(tmp_path).get(KEY, 1.0) == answer()
    assert Cache(tmp_path).get("cd" + "0" * 62, 1.0) is None


def test_a_timeout_is_tried_again_only_with_more_time(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, Failure(TIMEOUT, "no answer within 10 s", 10.0))

    assert cache.get(KEY, 5.0) == cache.get(KEY, 10.0) == Failure(TIMEOUT, "no answer within 10 s", 10.0)
    assert cache.get(KEY, 10.5) is None


@pytest.mark.parametrize("kind", [ERROR, CRASH])
def test_other_failures_do_not_depend_on_the_limit(tmp_path: Path, kind: str) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, Failure(kind, "no mapping fits", 10.0))

    assert cache.get(KEY, 1e6) == Failure(kind, "no mapping fits", 10.0)


def test_failures_lie_apart_and_yield_to_a_success(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, Failure(TIMEOUT, "late", 10.0))
    assert entry(cache, "failures").exists()
    assert not entry(cache).exists()

    cache.put(KEY, answer())

    assert not entry(cache, "failures").exists()
    assert cache.get(KEY, 1.0) == answer()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: '"text"',
        lambda text: text.replace('"cycles": 7', '"cycles": 8'),
        lambda text: text.replace(KEY, KEY[:-1] + "1"),
        lambda text: "\x00\xff",
    ],
    ids=["empty", "cut off", "a list", "a string", "another number", "another key", "not text"],
)
def test_a_damaged_entry_is_removed_with_a_warning_and_counts_as_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: object
) -> None:
    assert callable(damage)
    cache = Cache(tmp_path)
    cache.put(KEY, answer())
    damaged = damage(entry(cache).read_text())
    entry(cache).write_bytes(damaged.encode("latin-1"))

    assert cache.get(KEY, 1.0) is None

    assert not entry(cache).exists()
    warning = capsys.readouterr().err
    assert str(entry(cache)) in warning
    assert "damaged" in warning


def test_an_entry_of_another_version_is_missing_and_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, answer())
    content = json.loads(entry(cache).read_text())
    entry(cache).write_text(json.dumps({**content, "schema": 999}))

    assert cache.get(KEY, 1.0) is None
    assert entry(cache).exists()
    assert capsys.readouterr().err == ""


def test_a_cache_that_cannot_be_written_warns_once_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache")

    cache.put(KEY, answer())
    cache.put("cd" + "0" * 62, answer())

    assert capsys.readouterr().err.count("warning: results are not kept") == 1
    assert cache.get(KEY, 1.0) is None


def test_the_place_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MMWORKLOAD_CACHE", str(tmp_path / "mine"))
    assert Cache().root == tmp_path / "mine"

    monkeypatch.delenv("MMWORKLOAD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert default_root() == tmp_path / "caches" / "mmworkload"


def test_readers_beside_writers_see_whole_entries_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, answer(0))
    seen: list[object] = []
    writers = [threading.Thread(target=lambda n=n: [cache.put(KEY, answer(n)) for _ in range(15)]) for n in range(1, 4)]

    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        seen.append(Cache(tmp_path).get(KEY, 1.0))
    for writer in writers:
        writer.join()

    assert seen
    assert all(isinstance(item, Estimate) and item.cycles in range(4) for item in seen)
    assert capsys.readouterr().err == ""


def test_a_writer_that_is_killed_leaves_no_damaged_entry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom mmworkload.simulating.cache import Cache\n"
        "from mmworkload.simulating.estimate import Estimate\n"
        "cache = Cache(Path(sys.argv[1]))\nprint('started', flush=True)\nnumber = 0\n"
        "while True:\n"
        "    cache.put(f'{number % 50:064d}', Estimate('t', '1', number, 0.0, {}, 0.0, {}, 1, mapping='x' * 50000))\n"
        "    number += 1\n"
    )
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
        with writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"started\n"
            time.sleep(0.15)
            writer.send_signal(signal.SIGKILL)

    found = [Cache(tmp_path).get(f"{number:064d}", 1.0) for number in range(50)]

    assert any(isinstance(item, Estimate) for item in found)
    assert capsys.readouterr().err == ""
