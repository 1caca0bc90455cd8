"""What a measurement gives: three times that are never mixed, and where they were taken."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.errors import FormatError
from mmworkload.files import write_atomic

if TYPE_CHECKING:
    import pandas

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Spread:
    """Repeated times in seconds: median, quartiles, extremes and number of repeats."""

    median_s: float
    q1_s: float
    q3_s: float
    min_s: float
    max_s: float
    repeats: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """The spread of at least one time."""
        ordered = sorted(seconds)
        if len(ordered) == 1:
            (only,) = ordered
            return cls(only, only, only, only, only, 1)
        q1, median, q3 = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(median, q1, q3, ordered[0], ordered[-1], len(ordered))


@dataclass(frozen=True)
class LayerTime:
    """One layer of the traced graph: the durations of its kernels, not the wall time of its range.

    ``kernels`` is how many kernels one run launches, copies and fills included; on the CPU, how many operators it runs,
    those inside others too.
    """

    layer: str
    op: str
    stage: str
    modality: str
    category: str
    time: Spread
    kernels: int


@dataclass(frozen=True)
class Measurement:
    """A model timed on a device.

    Parameters
    ----------
    eager: (a) the user's eager model end to end, uninstrumented: *the* time.
    graph: (b) the traced graph end to end.
    layers: (c) per layer, the sum of its kernels' durations, from a profiled run of the graph.
    unattributed_s: kernel time of views and other nodes that are no layer, median per run.
    kernel_difference: share of kernel time by which the kernels of eager and graph differ, 0 to 1.
    peak_memory_bytes: ``model`` (parameters and buffers), ``data`` (inputs), ``intermediates`` and ``total``.
    only: the stage globs of ``--only``, which choose the rows of ``layers``; all else is of the whole model.
    provenance: device, driver, clocks, versions, threads, settings, git revision, command, date.
    """

    model: str
    variant: str
    batch: int
    dtype: str
    device: str
    eager: Spread
    graph: Spread
    layers: tuple[LayerTime, ...]
    unattributed_s: float
    kernel_difference: float
    peak_memory_bytes: dict[str, int]
    only: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def layer_sum_s(self) -> float:
        """Sum of (c), in seconds."""
        return sum(item.time.median_s for item in self.layers)

    @property
    def user_kernels(self) -> bool:
        """False when eager and graph run different kernels for more than 5 % of the time: rows then are "not the
        user's kernels"."""
        return self.kernel_difference <= 0.05

    def to_pandas(self) -> pandas.DataFrame:
        """One row a layer: layer, op, stage, modality, category, time_s, q1_s, q3_s, share, kernels."""
        import pandas

        total = self.layer_sum_s or 1.0
        rows = [
            {
                "layer": item.layer,
                "op": item.op,
                "stage": item.stage,
                "modality": item.modality,
                "category": item.category,
                "time_s": item.time.median_s,
                "q1_s": item.time.q1_s,
                "q3_s": item.time.q3_s,
                "share": item.time.median_s / total,
                "kernels": item.kernels,
            }
            for item in self.layers
        ]
        return pandas.DataFrame(rows)

    def stages(self) -> dict[str, float]:
        """Seconds of kernel time per stage, in order of first use."""
        totals: dict[str, float] = {}
        for item in self.layers:
            totals[item.stage] = totals.get(item.stage, 0.0) + item.time.median_s
        return totals

    def to_dict(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **asdict(self), "stages": self.stages()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Measurement:
        """The inverse of :meth:`to_dict`. Raises FormatError."""
        if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION:
            raise FormatError(f"not a measurement of schema_version {SCHEMA_VERSION}")
        try:
            values = {key: value for key, value in data.items() if key not in ("schema_version", "stages")}
            layers = tuple(LayerTime(**{**item, "time": Spread(**item["time"])}) for item in values.pop("layers"))
            eager, graph = Spread(**values.pop("eager")), Spread(**values.pop("graph"))
            return cls(**{**values, "only": tuple(values["only"])}, eager=eager, graph=graph, layers=layers)
        except (KeyError, TypeError) as error:
            raise FormatError(f"not a complete measurement: {type(error).__name__} {error}") from error

    def save(self, path: str | Path) -> None:
        """Writes JSON, whole or not at all."""
        write_atomic(Path(path), json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Measurement:
        """Reads what :meth:`save` wrote. FormatError names the file and what is wrong."""
        try:
            return cls.from_dict(json.loads(Path(path).read_text()))
        except (OSError, ValueError) as error:
            raise FormatError(f"cannot read {path}: {error}") from error
        except FormatError as error:
            raise FormatError(f"{path}: {error}") from error
