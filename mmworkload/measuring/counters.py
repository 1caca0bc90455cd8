"""Hardware counters of a GPU: Nsight Compute (``ncu``) over one forward pass, joined to the kernels of a measurement.

``ncu`` runs each kernel several times and slows the pass by far, so that it has a process of its own, without torch's
profiler, and nothing is timed there. Read, on 2026-11-21: the options, in the manual of version 2026.1. From public
scripts and their recorded tables: the raw page as CSV (a row of names, a row of units, one row a kernel), the cell of
NVTX ranges, that ``--log-file`` takes the table as well as the messages, and the texts of the errors. None of it was
tried on a device.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.errors import FormatError, MmworkloadError, UnavailableError
from mmworkload.measuring.attribution import NODE
from mmworkload.measuring.counted_pass import ANSWER
from mmworkload.measuring.counter_metrics import COLUMNS, columns_of, wanted
from mmworkload.processes import end
from mmworkload.temporary import temporary_folder

if TYPE_CHECKING:
    import pandas

    from mmworkload.measuring.folder import Result

# Where installers put it when it is not on the path; the newest of several is taken.
FOLDERS = ("/usr/local/cuda/bin", "/opt/nvidia/nsight-compute/*", "/usr/local/cuda*/bin")
_QUERY_LIMIT_S = 60.0
# For one pass under ncu; some hundred kernels, each run ten times and more.
LIMIT_S = 600.0
_OPTIONS = (
    *("--csv", "--page", "raw", "--print-units", "base", "--print-fp"),
    *("--print-kernel-base", "function", "--nvtx", "--target-processes", "all"),
    # The pass itself says when kernels count.
    *("--profile-from-start", "off"),
    # ncu would lock the clocks, and an ncu that is killed leaves them locked.
    *("--clock-control", "none"),
)
_PERMISSION = (
    "ncu may not read the GPU's performance counters (ERR_NVGPUCTRPERM). Run as root or with CAP_SYS_ADMIN (a container"
    " needs --cap-add SYS_ADMIN), or have the administrator load the driver with NVreg_RestrictProfilingToAdminUsers=0;"
    " see https://developer.nvidia.com/ERR_NVGPUCTRPERM. Everything else is measured without --counters."
)
_LISTED = re.compile(r'"?([a-z][a-z0-9]*__\w+)')
_NODE = re.compile(rf"\b{NODE}(\d+)")
_BYTE_UNITS = {"byte": 1, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9, "Tbyte": 1e12}


@dataclass(frozen=True)
class Launch:
    """One row of the table: the kernel's function, the number of the node's range (None: no range) and its metrics."""

    name: str
    node: int | None
    values: Mapping[str, float]


@dataclass(frozen=True)
class CountedKernel:
    """One kernel with its layer (empty: of none) and the values of ``counter_metrics.COLUMNS``."""

    layer: str
    name: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Counters:
    """The kernels of one forward pass in the order of their launches."""

    kernels: tuple[CountedKernel, ...]
    ncu: str
    metrics: tuple[str, ...]

    @property
    def unread(self) -> tuple[str, ...]:
        """Columns that no kernel has a value for."""
        return tuple(column for column in COLUMNS if all(math.isnan(item.values[column]) for item in self.kernels))

    def provenance(self) -> dict[str, Any]:
        """Values of JSON's types: how the counters were read."""
        return {
            "ncu": self.ncu,
            "kernels": len(self.kernels),
            "metrics": list(self.metrics),
            "unread": list(self.unread),
            "caches": "flushed before each replay of a kernel (ncu --cache-control all)",
            "clocks": "not locked (ncu --clock-control none)",
        }


@dataclass(frozen=True)
class Joined:
    """The kernels' frame with the columns of the counters, and how many of ``counted`` kernels found their row."""

    frame: pandas.DataFrame
    matched: int
    counted: int


def find_ncu() -> str:
    """The path of Nsight Compute's command line. Raises UnavailableError."""
    found = shutil.which("ncu")
    if found is not None:
        return found
    for pattern in FOLDERS:
        # Versions sort as numbers: 2025.10 is newer than 2025.9.
        paths = [path for path in Path("/").glob(f"{pattern.lstrip('/')}/ncu") if os.access(path, os.X_OK)]
        if paths:
            return str(max(paths, key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))]))
    raise UnavailableError(
        "counters need Nsight Compute, and there is no ncu on the PATH. It comes with the CUDA toolkit, and as the"
        " package nsight-compute of NVIDIA's repositories; put its folder on the PATH. Everything else is measured"
        " without --counters."
    )


def require_counters(device: str) -> None:
    """UnavailableError where counters cannot be read, for lack of a GPU or of ncu: better told before measuring."""
    if device != "cuda":
        raise UnavailableError(
            f"counters are read by Nsight Compute, of a GPU; there are none of device {device}. Give --device cuda, or"
            " leave --counters out."
        )
    find_ncu()


def with_counters(
    result: Result, model: str, how: Mapping[str, Any] | None = None, *, limit_s: float = LIMIT_S
) -> Result:
    """The result with the counters of its kernels in their frame, of the layers it is about; provenance says how.

    ``model`` and ``how`` are those that were measured; errors as :func:`read_counters`.
    """
    measurement = result.measurement
    require_counters(measurement.device)
    if result.kernels is None:
        raise MmworkloadError("this result has no kernels, to which counters could be joined; measure the model again")
    layers = [item.layer for item in measurement.layers] if measurement.only else None
    found = read_counters(model, layers=layers, how=how, limit_s=limit_s)
    joined = join(result.kernels, found)
    facts = {**measurement.provenance, "counters": {**found.provenance(), "matched": joined.matched}}
    return replace(result, measurement=replace(measurement, provenance=facts), kernels=joined.frame)


def read_counters(
    model: str,
    *,
    layers: Sequence[str] | None = None,
    how: Mapping[str, Any] | None = None,
    limit_s: float = LIMIT_S,
) -> Counters:
    """The counters of one forward pass of ``model`` on the GPU, of the kernels of ``layers`` or of all.

    ``how`` is what is said about the model beside its name (:class:`mmworkload.models.names.Options`). ``limit_s`` is
    for ncu together with the building of the model in it. Raises UnavailableError without ncu or without the right to
    read counters, FormatError for a table that is none, and MmworkloadError for all else that goes wrong.
    """
    ncu = find_ncu()
    begin = time.monotonic()
    metrics = wanted(_listed(ncu))
    with temporary_folder() as folder:
        request = folder / "request.json"
        said = {key: str(value) if isinstance(value, Path) else value for key, value in (how or {}).items()}
        request.write_text(json.dumps({"model": model, "layers": layers, "how": said}))
        log = folder / "ncu.csv"
        command = [
            *(ncu, *_OPTIONS, "--log-file", str(log), "--metrics", ",".join(metrics)),
            *(sys.executable, "-P", "-m", "mmworkload.measuring.counted_pass", str(request)),
        ]
        code, said_text = _run(command, limit_s - (time.monotonic() - begin), folder / "output.txt")
        table = log.read_text(errors="replace") if log.exists() else ""
        answer = _answer(folder / ANSWER)
    _require_success(code, table, said_text, answer, limit_s)
    kernels = tuple(
        CountedKernel(_layer(item.node, answer["layers"]), item.name, columns_of(item.values))
        for item in read_table(table)
    )
    return Counters(kernels, _version(ncu), metrics)


def _layer(node: int | None, layers: Sequence[str]) -> str:
    if node is None:
        return ""
    if node >= len(layers):
        raise FormatError(f"ncu's table names the range {NODE}{node}, and the forward pass opened {len(layers)}")
    return layers[node]


def _run(command: Sequence[str], limit_s: float, output: Path) -> tuple[int | None, str]:
    """(exit code, what was printed); the code is None past the limit, when the process group is killed."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path),
    }
    code: int | None = None
    with output.open("w") as stream:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise UnavailableError(f"{command[0]} cannot be run: {error.strerror}. Repair or remove it.") from error
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(max(0.0, limit_s))
        finally:
            # What ncu started may outlive it.
            end(process)
    return code, output.read_text(errors="replace")


def _listed(ncu: str) -> set[str]:
    """Base names of the metrics that the chip has; empty when ncu does not tell. UnavailableError without the right."""
    with temporary_folder() as place:
        code, text = _run([ncu, "--query-metrics"], _QUERY_LIMIT_S, place / "output.txt")
    if "ERR_NVGPUCTRPERM" in text:
        raise UnavailableError(_PERMISSION)
    return {match[1] for line in text.splitlines() if (match := _LISTED.match(line))} if code == 0 else set()


def _version(ncu: str) -> str:
    with temporary_folder() as place:
        _, text = _run([ncu, "--version"], _QUERY_LIMIT_S, place / "output.txt")
    match = re.search(r"Version\s+(\S+)", text)
    return match[1] if match else "unknown"


def _answer(path: Path) -> dict[str, Any]:
    """What the forward pass wrote; empty when it did not come to that."""
    try:
        answer = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _require_success(code: int | None, table: str, said: str, answer: Mapping[str, Any], limit_s: float) -> None:
    """One error that says what to do, the likeliest cause first: ncu's exit code is also that of what it runs."""
    messages = [line.strip() for line in (*table.splitlines(), *said.splitlines()) if line.startswith("==ERROR==")]
    first = messages[0].removeprefix("==ERROR==").strip() if messages else ""
    if any("ERR_NVGPUCTRPERM" in text for text in (table, said)):
        raise UnavailableError(_PERMISSION)
    if "error" in answer:
        raise MmworkloadError(f"the forward pass that ncu was to watch failed: {answer['error']}")
    if code is None:
        raise MmworkloadError(
            f"ncu was not done after {limit_s:g} s and was ended: it runs each kernel many times. Give --only STAGE or"
            " a smaller --batch."
        )
    if "Failed to find metric" in first:
        raise MmworkloadError(
            f"this ncu lacks a metric for this GPU and did not list those it has: {first}. Update Nsight Compute."
        )
    if "No kernels were profiled" in table or "No kernels were profiled" in said:
        raise MmworkloadError(
            "ncu saw no kernel: the chosen stages launch none on the GPU. Choose others with --only STAGE."
        )
    if code != 0 or "layers" not in answer:
        last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
        raise MmworkloadError(
            f"ncu ended with exit code {code}: {first or last or 'it printed nothing'}. Try ncu on a small program; if"
            " it works there, report this."
        )


def read_table(text: str) -> list[Launch]:
    """The launches of ``ncu --csv --page raw --print-units base`` in their order; messages round it are skipped.

    Raises FormatError for anything that is not such a table.
    """
    lines = text.splitlines()
    start = next((index for index, line in enumerate(lines) if line.startswith('"ID",')), None)
    if start is None:
        raise FormatError(f"ncu printed no table of kernels, but: {_excerpt(lines)}")
    try:
        header, *rows = csv.reader([line for line in lines[start:] if line.startswith('"')], strict=True)
    except csv.Error as error:
        raise FormatError(f"ncu's table was cut off: {error}") from error
    if len(set(header)) != len(header) or "Kernel Name" not in header:
        raise FormatError("ncu's table has no column 'Kernel Name', or a column twice: not the raw page")
    if not rows or rows[0][0]:
        raise FormatError("ncu's table has no row of units under the names: not the raw page")
    for row in rows:
        if len(row) != len(header):
            raise FormatError(
                f"a row of ncu's table has {len(row)} cells, its header {len(header)}: the table was cut off"
            )
    units = dict(zip(header, rows[0], strict=True))
    ranges = next((name for name in header if "Push/Pop_Range" in name), None)
    launches = []
    for row in rows[1:]:
        cells = dict(zip(header, row, strict=True))
        # The stack of ranges, the innermost last.
        numbers = _NODE.findall(cells[ranges]) if ranges else []
        values = {name: _value(cells[name], units[name], name) for name in header if "__" in name}
        order = _value(cells["ID"], "", "ID")
        launches.append((order, Launch(cells["Kernel Name"], int(numbers[-1]) if numbers else None, values)))
    return [launch for _, launch in sorted(launches, key=lambda item: item[0])]


def _value(cell: str, unit: str, name: str) -> float:
    """A number in its base unit; NaN for a metric that the chip did not give. FormatError for text."""
    text = cell.replace(",", "").strip()
    if not text or text.lower() in ("n/a", "nan", "(!) n/a"):
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise FormatError(f"ncu's table has '{cell}' for {name}, which is no number") from None
    if name.startswith("dram__bytes"):
        if unit not in _BYTE_UNITS:
            raise FormatError(f"ncu's table gives {name} in '{unit}', which is no unit of bytes that is known here")
        return value * _BYTE_UNITS[unit]
    return value


def _excerpt(lines: Iterable[str]) -> str:
    return next((line.strip()[:200] for line in lines if line.strip()), "nothing")


def join(kernels: pandas.DataFrame, counters: Counters) -> Joined:
    """The frame of a measurement's kernels with the columns of the counters; NaN where none were read.

    Kernels are matched by layer, by function and by their order of launch among those: the counted pass is another run
    of the same program. Every profiled run gets the same counters. Copies and fills have none.
    """
    frame = kernels.copy()
    for column in COLUMNS:
        frame[column] = math.nan
    found: dict[tuple[str, str], list[CountedKernel]] = defaultdict(list)
    for item in counters.kernels:
        found[item.layer, function_name(item.name)].append(item)
    launches = frame[frame["kind"] == "kernel"]
    launches = launches.assign(launched=launches["caused_s"].fillna(launches["start_s"]))
    launches = launches.sort_values(["run", "launched"], kind="stable")
    seen: Counter[tuple[Any, str, str]] = Counter()
    used: set[tuple[str, str, int]] = set()
    places, values = [], []
    for place, run, layer, full in zip(
        launches.index, launches["run"], launches["layer"], launches["name"], strict=True
    ):
        name = function_name(full)
        position = seen[run, layer, name]
        seen[run, layer, name] += 1
        of_name = found.get((layer, name), [])
        if position < len(of_name):
            used.add((layer, name, position))
            places.append(place)
            values.append([of_name[position].values[column] for column in COLUMNS])
    if places:
        frame.loc[places, list(COLUMNS)] = values
    return Joined(frame, len(used), len(counters.kernels))


def function_name(name: str) -> str:
    """The bare name of a kernel's function, without return type, namespaces, template arguments and parameters.

    ncu and the profiler write the rest differently.
    """
    plain = name.replace("(anonymous namespace)::", "").replace("<unnamed>::", "")
    plain = re.split(r"[<(]", plain, maxsplit=1)[0].strip()
    return re.split(r"::|\s", plain)[-1] or name
