"""Measures every workload that is installed: ``python -m mmworkload.measuring.everything -o measurements/``.

Each variant at a few batch sizes and in a few number types, one JSON file per measurement, and a summary table (CSV and
Markdown), in a folder named after the device, so that devices do not overwrite each other. When the time is over no
measurement is started any more, and the table says what was left out; the next run goes on there. ``mmworkload results
add-measured FOLDER`` makes a pack of the folder, which is what the repository keeps.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import gc
import io
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mmworkload.errors import MmworkloadError, UnknownNameError, one_line
from mmworkload.files import write_atomic
from mmworkload.measuring import DEVICES, Measurement, find_device, measure
from mmworkload.signals import Ended, unwinding

# Batch sizes besides each family's own: the latency case, and one that fills a device.
BATCHES = (1, 32)
DTYPES = {"cpu": ("float32",), "cuda": ("float32", "bfloat16")}
# One measurement may not take more than this of the total, however few there are.
LONGEST_S = 30.0


@dataclass(frozen=True)
class Item:
    """One measurement to take."""

    name: str
    batch: int
    dtype: str = "float32"

    @property
    def file(self) -> str:
        return f"{_slug(self.name)}_b{self.batch}_{self.dtype}.json"


@dataclass(frozen=True)
class Row:
    """One line of the summary: times in seconds, empty when ``status`` is not ``measured``."""

    model: str
    batch: int
    dtype: str
    status: str
    device: str = ""
    eager_s: float | str = ""
    eager_q1_s: float | str = ""
    eager_q3_s: float | str = ""
    repeats: int | str = ""
    graph_s: float | str = ""
    layer_sum_s: float | str = ""
    unattributed_s: float | str = ""
    kernel_difference: float | str = ""
    layers: int | str = ""
    slowest_stage: str = ""
    slowest_stage_share: float | str = ""
    peak_memory_bytes: int | str = ""
    file: str = ""


def plan(
    patterns: Sequence[str] = (), *, batches: Sequence[int] = (), dtypes: Sequence[str] = ("float32",)
) -> list[Item]:
    """Every variant whose name matches one of ``patterns`` (all without any), the default of each family first.

    All are taken at one batch size, then at the next, and in one number type after the other, so that a run that is cut
    short has every workload at batch 1. ``batches`` replace the usual ones. Raises UnknownNameError when nothing
    matches.
    """
    from mmworkload.models import families

    variants = [
        (rank > 0, f"{family_name}/{variant.name}", family.default_batch)
        for family_name, family in families().items()
        for rank, variant in enumerate(family.variants)
    ]
    variants.sort(key=lambda item: item[0])
    sizes = {name: {*batches} or {*BATCHES, own_batch} for _, name, own_batch in variants}
    wanted = [name for name in sizes if not patterns or any(fnmatch.fnmatchcase(name, glob) for glob in patterns)]
    if not wanted:
        raise UnknownNameError("workload", " ".join(patterns), sizes)
    every = sorted(set().union(*(sizes[name] for name in wanted)))
    return [Item(name, batch, dtype) for batch in every for dtype in dtypes for name in wanted if batch in sizes[name]]


def measure_one(item: Item, *, device: str, out: Path, limit_s: float) -> tuple[Row, dict[str, Any]]:
    """The row of one measurement and its provenance; its file is written to ``out``, one that is there is taken.

    A model that fails gives a row that says why: it must not cost the others.
    """
    from mmworkload.models import resolve

    path = out / item.file
    try:
        if path.exists():
            result = Measurement.load(path)
        else:
            result = measure(resolve(item.name, batch=item.batch, dtype=item.dtype), device=device, limit_s=limit_s)
            result.save(path)
    except Exception as error:
        reason = one_line(error)
        print(f"  {reason}", file=sys.stderr, flush=True)
        return Row(item.name, item.batch, item.dtype, f"failed: {reason}"), {}
    return row_of(result, item.file), result.provenance


def row_of(result: Measurement, file: str) -> Row:
    """The summary of one measurement."""
    stages = result.stages()
    slowest = max(stages, key=stages.__getitem__, default="")
    return Row(
        model=result.model,
        batch=result.batch,
        dtype=result.dtype,
        status="measured",
        device=result.device,
        eager_s=result.eager.median_s,
        eager_q1_s=result.eager.q1_s,
        eager_q3_s=result.eager.q3_s,
        repeats=result.eager.repeats,
        graph_s=result.graph.median_s,
        layer_sum_s=result.layer_sum_s,
        unattributed_s=result.unattributed_s,
        kernel_difference=result.kernel_difference,
        layers=len(result.layers),
        slowest_stage=slowest,
        slowest_stage_share=stages[slowest] / (result.layer_sum_s or 1.0) if slowest else "",
        peak_memory_bytes=result.peak_memory_bytes["total"],
        file=file,
    )


def to_csv(rows: Sequence[Row]) -> str:
    """All columns in base units, one line a measurement."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [item.name for item in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return stream.getvalue()


def to_markdown(rows: Sequence[Row], provenance: dict[str, Any]) -> str:
    """A table to read, what was left out, and where it was measured."""
    lines = [
        f"# Measured on {provenance.get('device_name', 'no device')}",
        "",
        "Eager is the time of the model as its user runs it (median, quartiles). Graph is the traced program end to"
        " end; layers is the sum of all kernels of all layers; what is left of eager is idle time and dispatch. Kernels"
        " differ: the share of kernel time in which eager and graph run other kernels. Above 5 % the times per layer"
        " are not those of the user's kernels.",
        "",
        "| model | batch | dtype | eager ms | quartiles ms | graph / eager | layers / eager | kernels differ"
        " | slowest stage | peak MiB |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for row in rows:
        if row.status == "measured":
            eager_s = float(row.eager_s)
            cells = [
                row.model,
                str(row.batch),
                row.dtype,
                f"{eager_s * 1e3:.3f}",
                f"{float(row.eager_q1_s) * 1e3:.3f} to {float(row.eager_q3_s) * 1e3:.3f}",
                f"{float(row.graph_s) / eager_s:.2f}",
                f"{float(row.layer_sum_s) / eager_s:.2f}",
                f"{float(row.kernel_difference):.1%}",
                f"{row.slowest_stage} ({float(row.slowest_stage_share or 0):.0%})",
                f"{float(row.peak_memory_bytes) / 2**20:.1f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    missing = [row for row in rows if row.status != "measured"]
    if missing:
        lines += [
            "",
            "Not measured:",
            "",
            *(f"- {row.model} at batch {row.batch} in {row.dtype}: {row.status}" for row in missing),
        ]
    lines += ["", "Provenance:", "", *(f"- {key}: {_text(value)}" for key, value in provenance.items())]
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "unknown"
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 after an error, 130 after Ctrl-C, 128 and its number after another
    signal."""
    parser = argparse.ArgumentParser(
        prog="python -m mmworkload.measuring.everything", description="Measures every workload that is installed."
    )
    parser.add_argument("--device", default="cuda", choices=DEVICES)
    parser.add_argument("-o", "--out", type=Path, default=Path("measurements"), help="the folder for results")
    parser.add_argument("--limit-s", type=float, default=540.0, help="seconds after which nothing more is started")
    parser.add_argument("--batch", type=int, action="append", help="instead of the usual batch sizes; may be repeated")
    parser.add_argument("--dtype", action="append", help="instead of the usual number types; may be repeated")
    parser.add_argument("patterns", nargs="*", help="globs over workload/variant; all without any")
    options = parser.parse_args(arguments)
    try:
        with unwinding():
            items = plan(options.patterns, batches=options.batch or (), dtypes=options.dtype or DTYPES[options.device])
            return _run(options.device, options.out, options.limit_s, items)
    except MmworkloadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as end:
        print("interrupted", file=sys.stderr)
        return 128 + (end.number if isinstance(end, Ended) else signal.SIGINT)


def _run(device: str, out: Path, limit_s: float, items: Sequence[Item]) -> int:
    from mmworkload.measuring.provenance import device_name

    begin = time.monotonic()
    folder = out / _slug(device_name(find_device(device)))
    rows: list[Row] = []
    provenance: dict[str, Any] = {}
    # What earlier runs measured besides: the table is of the folder.
    planned = {item.file for item in items}
    kept = [
        row_of(Measurement.load(path), path.name)
        for path in sorted(folder.glob("*_b*_*.json"))
        if path.name not in planned
    ]

    def summarise(reason: str) -> None:
        left = [Row(item.name, item.batch, item.dtype, f"left out: {reason}") for item in items[len(rows) :]]
        write_atomic(folder / "summary.csv", to_csv([*kept, *rows, *left]))
        write_atomic(folder / "summary.md", to_markdown([*kept, *rows, *left], provenance))

    # Written from the start, so that a folder that cannot be written costs no time, and after each measurement, so that
    # a run that is killed has a table.
    summarise("not reached yet")
    try:
        for index, item in enumerate(items):
            remaining_s = limit_s - (time.monotonic() - begin)
            if remaining_s <= 0:
                break
            print(
                f"[{index + 1}/{len(items)}] {item.name} at batch {item.batch} in {item.dtype}",
                file=sys.stderr,
                flush=True,
            )
            share_s = min(LONGEST_S, remaining_s / (len(items) - index))
            row, facts = measure_one(item, device=device, out=folder, limit_s=share_s)
            rows.append(row)
            provenance = facts or provenance
            summarise("not reached yet")
            # The next model needs the memory; modules and graphs refer to themselves.
            gc.collect()
    except KeyboardInterrupt:
        summarise("interrupted")
        raise
    summarise(f"the limit of {limit_s:g} s was over")
    print((folder / "summary.md").read_text(), end="")
    if not any(row.status == "measured" for row in rows):
        raise MmworkloadError(f"nothing was measured; {folder / 'summary.md'} says why")
    return 0


if __name__ == "__main__":
    sys.exit(main())
