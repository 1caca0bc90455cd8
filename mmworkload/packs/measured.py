"""Measured packs: the tables of one device as one Parquet file, so that anyone can compare with a device they lack.

A row is a layer of one measurement (times in seconds); what belongs to the whole measurement, provenance included, is
in the file's metadata. Kernels and timelines are not in a pack.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmworkload.errors import FormatError, MmworkloadError
from mmworkload.files import everything_below, read_json
from mmworkload.measuring.folder import MEASUREMENT, Result, load
from mmworkload.measuring.result import Measurement
from mmworkload.packs import parquet
from mmworkload.packs.shelf import SUFFIX
from mmworkload.plugins import data_files

GROUP = "mmworkload.measurements"
SCHEMA = 1
_TEXTS = ("layer", "op", "stage", "modality", "category")
_SECONDS = ("median_s", "q1_s", "q3_s", "min_s", "max_s")
_KINDS: dict[str, parquet.Kind] = {
    "run": int,
    "model": str,
    "batch": int,
    "dtype": str,
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(_SECONDS, float),
    "repeats": int,
    "kernels": int,
}


@dataclass(frozen=True)
class MeasuredPack:
    """Measurements of one device; ``recorded`` is the date of the last one."""

    device: str
    recorded: str
    measurements: tuple[Measurement, ...]

    @cached_property
    def by_run(self) -> dict[tuple[str, int, str], Measurement]:
        """By model, batch and number type."""
        return {(item.model, item.batch, item.dtype): item for item in self.measurements}

    def save(self, path: Path) -> None:
        """Writes the file, whole or not at all; the same measurements give the same bytes."""
        ordered = [self.by_run[key] for key in sorted(self.by_run)]
        data = [item.to_dict() for item in ordered]
        rows = [
            {
                "run": number,
                "model": item["model"],
                "batch": item["batch"],
                "dtype": item["dtype"],
                **{name: layer[name] for name in _TEXTS},
                **{name: layer["time"][name] for name in _SECONDS},
                "repeats": layer["time"]["repeats"],
                "kernels": layer["kernels"],
            }
            for number, item in enumerate(data)
            for layer in item["layers"]
        ]
        about = {
            "schema": SCHEMA,
            "device": self.device,
            "recorded": self.recorded,
            "measurements": [{key: value for key, value in item.items() if key != "layers"} for item in data],
        }
        parquet.write(path, rows, _KINDS, about)

    @classmethod
    def load(cls, path: Path) -> MeasuredPack:
        """Reads what :meth:`save` wrote. FormatError for any other file, and when a row is not what was written."""

        def made(rows: list[dict[str, Any]], about: dict[str, Any]) -> MeasuredPack:
            layers: list[list[dict[str, Any]]] = [[] for _ in about["measurements"]]
            for row in rows:
                time = {name: row[name] for name in (*_SECONDS, "repeats")}
                layer = {**{name: row[name] for name in _TEXTS}, "time": time, "kernels": row["kernels"]}
                layers[row["run"]].append(layer)
            found = tuple(
                Measurement.from_dict({**item, "layers": own})
                for item, own in zip(about["measurements"], layers, strict=True)
            )
            return cls(about["device"], about["recorded"], found)

        return parquet.read(path, made, what="a pack of measurements", schema=SCHEMA)


def files() -> dict[str, Path]:
    """Name of the device to the path of its pack, of those that are installed."""
    return data_files(GROUP, SUFFIX)


def name_of(device: str) -> str:
    """The device as its pack and its architecture are called: 'AMD EPYC' is amd_epyc."""
    return re.sub(r"[^a-z0-9]+", "_", device.lower()).strip("_")


def collect(places: Iterable[str | Path]) -> list[Result]:
    """All measurements behind ``places``, in the order of their paths.

    A place is a result folder, a measurement's file, a pack or the name of an installed one, or a folder with such
    below it.

    Raises MmworkloadError for a place that does not exist, and what reading raises for damaged files.
    """
    found: list[Result] = []
    for place in places:
        path = files().get(str(place).replace("-", "_"), Path(place))
        if not path.exists():
            raise MmworkloadError(
                f"{path} does not exist; give a result (measure -o), a folder of results, or an installed device:"
                f" {', '.join(files()) or 'there is none'}"
            )
        if path.is_dir() and not (path / MEASUREMENT).is_file():
            below = [item for item in everything_below(path) if _is_result(item)]
            if not below:
                raise FormatError(f"{path}: no measurement in it or below it. Write one with: measure NAME -o {path}")
        else:
            below = [path]
        for item in below:
            if item.suffix == SUFFIX:
                found += [Result(taken) for taken in MeasuredPack.load(item).measurements]
            else:
                found.append(load(item))
    return found


def _is_result(path: Path) -> bool:
    if path.is_dir():
        return (path / MEASUREMENT).is_file()
    if (path.parent / MEASUREMENT).is_file():
        return False
    if not path.is_file():
        return False
    if path.suffix == SUFFIX:
        return "measurements" in parquet.about(path)
    return path.suffix == ".json" and _is_measurement(path)


def _is_measurement(path: Path) -> bool:
    try:
        data = read_json(path)
    except FormatError:
        return False
    return isinstance(data, dict) and {"eager", "layers", "provenance"} <= data.keys()


def add_measured(found: Sequence[Result], folder: Path) -> list[tuple[Path, MeasuredPack, int]]:
    """Merges measurements into the packs of their devices in ``folder``; of one model, batch and number type the latest
    stays. Those of chosen stages (``--only``) are refused: a pack has whole models.

    Gives path, pack and how many of its measurements are new or other than before. MmworkloadError without
    measurements.
    """
    if not found:
        raise MmworkloadError("no measurement to add")
    by_device: dict[str, list[Measurement]] = {}
    partial = [item.measurement.model for item in found if item.measurement.only]
    if partial:
        raise MmworkloadError(f"measured in part (--only): {', '.join(partial)}; measure the whole models for a pack")
    for item in sorted(found, key=lambda item: _date(item.measurement)):
        taken = item.measurement
        by_device.setdefault(str(taken.provenance.get("device_name", taken.device)), []).append(taken)
    done = []
    for device, taken_here in by_device.items():
        path = folder / f"{name_of(device)}{SUFFIX}"
        before = MeasuredPack.load(path).by_run if path.exists() else {}
        after = dict(before)
        for run, latest in MeasuredPack(device, "", tuple(taken_here)).by_run.items():
            if run not in before or _date(latest) >= _date(before[run]):
                after[run] = latest
        dates = [_date(item)[:10] for item in after.values()]
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        pack = MeasuredPack(device, max(dates) or today, tuple(after.values()))
        pack.save(path)
        done.append((path, pack, sum(before.get(key) != item for key, item in after.items())))
    return done


def _date(taken: Measurement) -> str:
    return str(taken.provenance.get("date_utc", ""))
