"""One profiled run as a timeline in Chrome's trace-event format, which Perfetto (ui.perfetto.dev) reads.

Four processes: the stages and the layers of the graph (from the first to the last work of each stretch), the host with
a track for each thread, and the device with a track for each stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.files import write_atomic

if TYPE_CHECKING:
    import pandas

PROCESSES = {1: "stages", 2: "layers", 3: "host", 4: "device"}
_MICROSECONDS = 1e6
Event = dict[str, Any]


def write_timeline(kernels: pandas.DataFrame, host: pandas.DataFrame, model: str, path: Path) -> None:
    """Writes the last profiled run; the frames are those of ``measuring.frames``."""
    data = {"displayTimeUnit": "ms", "otherData": {"model": model}, "traceEvents": events(kernels, host)}
    write_atomic(path, json.dumps(data))


def events(kernels: pandas.DataFrame, host: pandas.DataFrame) -> list[Event]:
    """The events of the last run, metadata first; times in microseconds from its start."""
    device_rows, host_rows = (_last_run(frame) for frame in (kernels, host))
    on_device = [row for row in device_rows if row["kind"] != "operator"]
    # On the CPU an operator of the host is the work.
    work = on_device or [row for row in host_rows if row["kind"] == "operator"]
    spans = [
        *_stretches(work, "stage", 1),
        *_stretches(work, "layer", 2),
        *(_slice(row, row["name"], 3, row["thread"], row["kind"]) for row in host_rows),
        *(_slice(row, row["name"], 4, row["stream"], row["kind"]) for row in on_device),
    ]
    used = {span["pid"] for span in spans}
    names = [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}
        for pid, name in PROCESSES.items()
        if pid in used
    ]
    track = {3: "thread", 4: "stream"}
    threads = sorted({(span["pid"], span["tid"]) for span in spans if span["pid"] in track})
    names += [
        {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": f"{track[pid]} {tid}"}}
        for pid, tid in threads
    ]
    return names + spans


def _last_run(frame: pandas.DataFrame) -> list[dict[str, Any]]:
    rows = frame[frame["run"] == frame["run"].max()].sort_values("start_s", kind="stable")
    return rows.to_dict("records")


def _slice(row: dict[str, Any], name: str, pid: int, tid: int, category: str) -> Event:
    said = {key: row[key] for key in ("layer", "stage", "modality") if row[key]}
    return _complete(name, pid, tid, category, row["start_s"], row["start_s"] + row["duration_s"], said)


def _complete(
    name: str, pid: int, tid: int, category: str, start_s: float, end_s: float, said: dict[str, Any]
) -> Event:
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "pid": pid,
        "tid": int(tid),
        "ts": round(start_s * _MICROSECONDS, 3),
        "dur": round((end_s - start_s) * _MICROSECONDS, 3),
        "args": said,
    }


def _stretches(rows: Iterable[dict[str, Any]], key: str, pid: int) -> Iterator[Event]:
    """One span for each stretch of work with the same value of ``key``; work of none does not end a stretch.

    A stretch ends no later than the next begins, so that overlapping work stays readable on one track.
    """
    name, start_s, end_s = "", 0.0, 0.0
    for row in rows:
        if not row[key]:
            continue
        if row[key] != name:
            if name:
                yield _complete(name, pid, 0, key, start_s, min(end_s, row["start_s"]), {})
            name, start_s, end_s = row[key], row["start_s"], row["start_s"]
        end_s = max(end_s, row["start_s"] + row["duration_s"])
    if name:
        yield _complete(name, pid, 0, key, start_s, end_s, {})
