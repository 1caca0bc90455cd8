"""A measurement as a folder: written whole on one machine, read on any other.

``measurement.json`` (times and provenance), ``graph.yaml`` (the layer graph that was measured), ``kernels.parquet`` and
``host.parquet`` (a row for each kernel and activity of the profiled runs), ``timeline.json`` (for Perfetto).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmworkload.errors import FormatError
from mmworkload.files import folder_atomic
from mmworkload.measuring.frames import HostRow, KernelRow, columns
from mmworkload.measuring.result import Measurement
from mmworkload.outputs import keep, require_output_file, require_output_folder

if TYPE_CHECKING:
    import pandas

    from mmworkload.graph import LayerGraph

MEASUREMENT = "measurement.json"
GRAPH = "graph.yaml"
KERNELS = "kernels.parquet"
HOST = "host.parquet"
TIMELINE = "timeline.json"
# A result that is this one file.
FILE_SUFFIX = ".json"


@dataclass(frozen=True)
class Result:
    """A measurement with the graph that was measured and the frames of its profiled runs (``measuring.frames``).

    What a bare ``measurement.json`` does not have is None.
    """

    measurement: Measurement
    graph: LayerGraph | None = None
    kernels: pandas.DataFrame | None = None
    host: pandas.DataFrame | None = None

    def __repr__(self) -> str:
        return f"<Result: {self.measurement!r}>"


def check_place(path: str | Path) -> None:
    """Raises MmworkloadError when :func:`save` would refuse ``path``: better before measuring than after."""
    place = Path(path)
    if place.suffix == FILE_SUFFIX:
        require_output_file(place, (FILE_SUFFIX,))
    else:
        require_output_folder(place, MEASUREMENT)


def save_or_keep(result: Result, path: str | Path) -> None:
    """:func:`save`; where that fails, the result is kept elsewhere and the MmworkloadError says where."""
    keep(path, lambda place: save(result, place))


def save(result: Result, path: str | Path) -> None:
    """Writes the folder ``path``, whole or not at all; an older result there is replaced.

    A path that ends in ``.json`` gets the measurement alone. Raises MmworkloadError when the place cannot be written or
    holds other files.
    """
    place = Path(path)
    if place.suffix == FILE_SUFFIX:
        result.measurement.save(place)
        return
    with folder_atomic(place, MEASUREMENT) as folder:
        if result.graph is not None:
            result.graph.save(folder / GRAPH)
        for frame, name in ((result.kernels, KERNELS), (result.host, HOST)):
            if frame is not None:
                frame.to_parquet(folder / name, index=False)
        if result.kernels is not None and result.host is not None:
            from mmworkload.measuring.timeline import write_timeline

            write_timeline(result.kernels, result.host, result.measurement.model, folder / TIMELINE)
        result.measurement.save(folder / MEASUREMENT)


def load(path: str | Path) -> Result:
    """Reads what :func:`save` wrote, a folder or a file. FormatError says what is missing or damaged."""
    place = Path(path)
    if not place.is_dir():
        return Result(Measurement.load(place))
    if not (place / MEASUREMENT).is_file():
        below = sorted(place.glob(f"*/{MEASUREMENT}"))
        if below:
            raise FormatError(f"{place} holds {len(below)} results; give one of them: {below[0].parent}")
        raise FormatError(f"{place} is not a result: it has no {MEASUREMENT}. Write one with: measure NAME -o {place}")
    from mmworkload.graph import LayerGraph

    measurement = Measurement.load(place / MEASUREMENT)
    graph = LayerGraph.load(place / GRAPH) if (place / GRAPH).is_file() else None
    if graph is not None and (graph.model, graph.batch) != (measurement.model, measurement.batch):
        raise FormatError(
            f"{place}: {MEASUREMENT} is of {measurement.model} at batch {measurement.batch}, {GRAPH} of {graph.model}"
            f" at batch {graph.batch}; measure again"
        )
    return Result(measurement, graph, _frame(place / KERNELS, KernelRow), _frame(place / HOST, HostRow))


def _frame(path: Path, kind: type[KernelRow] | type[HostRow]) -> pandas.DataFrame | None:
    import pandas

    if not path.is_file():
        return None
    try:
        frame = pandas.read_parquet(path)
    except Exception as error:
        # The readers of Parquet raise errors of their own kinds.
        raise FormatError(f"cannot read {path}: {str(error).splitlines()[0][:200]}") from error
    missing = [name for name in columns(kind) if name not in frame.columns]
    if missing:
        raise FormatError(f"{path}: no column {', '.join(missing)}; measure again")
    return frame
