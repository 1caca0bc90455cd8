"""What a comparison of measured and simulated times says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from typing import TYPE_CHECKING, Any

from mmworkload.errors import UnknownNameError
from mmworkload.simulating.result import Answered
from mmworkload.straggler import Straggler
from mmworkload.validating.accuracy import Accuracy
from mmworkload.validating.causes import Cause
from mmworkload.versions import SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas


MEANING = (
    "The accelerator is not the measured device: compare shares of time and ranks of layers, not seconds. A share is of"
    " the sum over layers of its own side; the ratio is simulated over measured time."
)
SAME_DEVICE = (
    "The architecture is the measured device: seconds may be compared. A share is of the sum over layers of its own"
    " side; the ratio is simulated over measured time."
)


@dataclass(frozen=True)
class Sides:
    """One time on both sides, in seconds and as a share of its side's sum over layers; None where a side has none."""

    measured_s: float | None
    simulated_s: float | None
    measured_share: float | None
    simulated_share: float | None

    @property
    def ratio(self) -> float | None:
        """Simulated over measured seconds; None unless both are there and the measured one is positive."""
        if self.simulated_s is None or not self.measured_s:
            return None
        return self.simulated_s / self.measured_s

    def compared(self, seconds: bool) -> float | None:
        """Simulated over measured seconds, or shares; None unless both sides are positive."""
        pair = (self.simulated_s, self.measured_s) if seconds else (self.simulated_share, self.measured_share)
        return pair[0] / pair[1] if pair[0] and pair[1] else None

    @property
    def share_difference(self) -> float:
        """Simulated less measured share; a gap counts as zero."""
        return (self.simulated_share or 0.0) - (self.measured_share or 0.0)

    @classmethod
    def sum(cls, sides: Iterable[Sides]) -> Sides:
        """Of several layers together; a side that one lacks is a gap."""
        columns = zip(*(astuple(item) for item in sides), strict=True)
        return cls(*(None if None in column else sum(column) for column in columns))

    @property
    def larger_share(self) -> float:
        """The larger of the two shares; a gap counts as zero."""
        return max(self.measured_share or 0.0, self.simulated_share or 0.0)


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Parameters
    ----------
    layer, op, stage, modality, macs: as traced (as measured or simulated, when the graph does not know the layer).
    part, weight: the part of the workload that it is in (empty when there is one) and how often that runs; times and
        shares are of all its runs.
    phase: what the part is a sample of, else the part (:class:`mmworkload.graph.Part`).
    category: kernel category, by operator.
    bytes: that one run reads and writes; 0 when the graph does not know the layer.
    kernels: launched by one measured run.
    simulator, bound, note: who answered for the layer, what limits it there, and what a reader has to know.
    floored: the simulated time undercut a physical bound and was raised to it.
    fallback: the layer has MACs and the simulator that was chosen could not answer for it.
    dead: no output depends on the layer; it runs all the same.
    """

    layer: str
    op: str
    stage: str
    modality: str
    macs: int
    sides: Sides
    kernels: int | None = None
    simulator: str = ""
    bound: str = ""
    floored: bool = False
    fallback: bool = False
    dead: bool = False
    note: str = ""
    part: str = ""
    weight: float = 1.0
    phase: str = ""
    category: str = ""
    bytes: int = 0

    @property
    def label(self) -> str:
        """The name, behind that of its part where there are several."""
        return f"{self.part}: {self.layer}" if self.part else self.layer


@dataclass(frozen=True)
class GroupRow:
    """The layers of one stage, modality or operator family.

    ``unmeasured`` and ``unsimulated`` count the layers that a side lacks; with any, the two sums are not over the same
    layers.
    """

    name: str
    layers: int
    macs: int
    sides: Sides
    unmeasured: int
    unsimulated: int


@dataclass(frozen=True)
class Correlation:
    """Rank correlation over the layers that both sides have; a coefficient is None when it is not defined."""

    layers: int
    spearman: float | None
    kendall: float | None


@dataclass(frozen=True)
class Part:
    """Some layers and their share of each side's time."""

    layers: int
    measured_share: float
    simulated_share: float


@dataclass(frozen=True)
class Excess:
    """Of a sum of layers above the eager time, the part that one layer has if every operator adds the same.

    ``why`` is what its own runs show.
    """

    layer: str
    kernels: int
    seconds: float
    excess_s: float
    why: str


@dataclass(frozen=True)
class Gaps:
    """What the comparison does not cover.

    Parameters
    ----------
    eager_s, graph_s, layer_sum_s: the three times (a, b, c) of the measurement, seconds.
    eager_quartiles_s: half of the eager runs took between these.
    only: the stages whose layers were measured, empty for all; the times above and below are of the whole model.
    unattributed_s: kernel time of views and other nodes that are no layer.
    kernel_difference, user_kernels: share of kernel time by which eager and graph run different kernels, and whether
        it is small enough for the rows to be the user's kernels.
    unmeasured, unsimulated: names of the layers that one side lacks.
    untraced: names that a side has and the graph does not.
    dead, fallback, floored: layers that no output needs; that another simulator answered; raised to a bound.
    ignored, unknown: operators, with the number of calls.
    assumptions: what depends on data and was fixed.
    excess: what explains a sum of layers well above the eager time, row by row; empty when it is not.
    busy: load average and threads of a CPU that had other work while the measurement was taken.
    """

    eager_s: float
    graph_s: float
    layer_sum_s: float
    eager_quartiles_s: tuple[float, float]
    only: tuple[str, ...]
    unattributed_s: float
    kernel_difference: float
    user_kernels: bool
    unmeasured: tuple[str, ...]
    unsimulated: tuple[str, ...]
    untraced: tuple[str, ...]
    dead: Part
    fallback: Part
    floored: Part
    ignored: dict[str, int]
    unknown: dict[str, int]
    assumptions: tuple[str, ...]
    excess: tuple[Excess, ...] = ()
    busy: tuple[float, int] | None = None

    @property
    def graph_over_eager(self) -> float:
        """b/a: how far running node by node changes the time."""
        return self.graph_s / self.eager_s

    @property
    def layers_over_eager(self) -> float:
        """c/a; above one, kernels overlap or run slower one by one."""
        return self.layer_sum_s / self.eager_s

    @property
    def idle_share(self) -> float | None:
        """The rest of the user's time: idle and dispatch, or other work of a busy machine. None when only some stages
        were measured."""
        return None if self.only else max(0.0, 1 - (self.layer_sum_s + self.unattributed_s) / self.eager_s)

    def to_dict(self) -> dict[str, Any]:
        derived = ("graph_over_eager", "layers_over_eager", "idle_share")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}


@dataclass(frozen=True)
class Validation:
    """Measured and simulated times of one graph, side by side.

    Parameters
    ----------
    device, device_name, measured_precision: where and in which type it was measured.
    arch, simulated_precision: what was simulated.
    simulator, answered: who answered the layers with MACs (several joined by ``+``), and who answered which part, by
        the rows.
    chosen, simulator_version, fidelity, why: who was asked, how faithfully it is told the architecture, and why better
        simulators were not taken.
    serial_s, critical_path_s: simulated seconds, layers one after another and with an accelerator per modality.
    all_layers, mac_layers, large_layers: rank correlations of the two sides' layer times: of all layers, of those with
        MACs, of those with at least one per cent of the measured time.
    measured_straggler, simulated_straggler: the slowest encoder of each side, None where it has fewer than two.
    gaps: what is not covered.
    same_device: the architecture describes the measured device, so that seconds may be compared.
    stage_distance: half the sum of the differences between the stages' shares: 0 equal, 1 nothing in common.
    widest_stage: the stage whose shares differ most.
    end_to_end_ratio: simulated over measured seconds, all layers (never the eager time, which holds idle time too).
    errors: over the layers with at least one per cent of the measured time, all of them first and then by kernel
        category; of seconds on the same device, of shares on another.
    stage_errors: the same over stages.
    causes: where the two sides disagree, and why, the costliest first.
    """

    model: str
    variant: str
    batch: int
    device: str
    device_name: str
    measured_precision: str
    arch: str
    simulator: str
    answered: tuple[Answered, ...]
    chosen: str
    simulator_version: str
    fidelity: str
    why: str
    simulated_precision: str
    serial_s: float
    critical_path_s: float
    layers: tuple[LayerRow, ...]
    stages: tuple[GroupRow, ...]
    modalities: tuple[GroupRow, ...]
    operators: tuple[GroupRow, ...]
    all_layers: Correlation
    mac_layers: Correlation
    large_layers: Correlation
    measured_straggler: Straggler | None
    simulated_straggler: Straggler | None
    gaps: Gaps
    same_device: bool
    stage_distance: float
    widest_stage: str
    end_to_end_ratio: float | None
    errors: tuple[Accuracy, ...]
    stage_errors: Accuracy
    causes: tuple[Cause, ...]

    def __repr__(self) -> str:
        return f"<Validation of {self.model!r} on {self.arch!r}: {len(self.layers):,} layers>"

    @property
    def meaning(self) -> str:
        """What may be compared, and what not."""
        return SAME_DEVICE if self.same_device else MEANING

    @property
    def stragglers_agree(self) -> bool | None:
        """Whether both sides name one modality; None when a side has no straggler."""
        if self.measured_straggler is None or self.simulated_straggler is None:
            return None
        return self.measured_straggler.modality == self.simulated_straggler.modality

    def to_pandas(self, rows: str = "layers") -> pandas.DataFrame:
        """One row a layer, stage, modality or operator family (``rows``: ``layers``, ``stages``, ``modalities``,
        ``operators``); a gap is NaN."""
        import pandas

        known = ("layers", "stages", "modalities", "operators")
        if rows not in known:
            raise UnknownNameError("kind of rows", rows, known)
        return pandas.DataFrame([_flat(row) for row in getattr(self, rows)])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what a side lacks is null."""
        measured = ("model", "variant", "batch", "device", "device_name", "measured_precision")
        simulated = ("arch", "simulator", "chosen", "simulator_version", "fidelity", "why", "simulated_precision")
        return {
            "schema_version": SCHEMA_VERSION,
            **{name: getattr(self, name) for name in (*measured, *simulated, "serial_s", "critical_path_s")},
            "answered": [asdict(item) for item in self.answered],
            "meaning": self.meaning,
            "same_device": self.same_device,
            "end_to_end_ratio": self.end_to_end_ratio,
            "stages": [_flat(row) for row in self.stages],
            "modalities": [_flat(row) for row in self.modalities],
            "operators": [_flat(row) for row in self.operators],
            "straggler": {
                "measured": self.measured_straggler and asdict(self.measured_straggler),
                "simulated": self.simulated_straggler and asdict(self.simulated_straggler),
                "agree": self.stragglers_agree,
            },
            "rank_correlation": {
                name: asdict(getattr(self, name)) for name in ("all_layers", "mac_layers", "large_layers")
            },
            "stage_distance": self.stage_distance,
            "widest_stage": self.widest_stage,
            "errors": [asdict(item) for item in self.errors],
            "stage_errors": asdict(self.stage_errors),
            "causes": [item.to_dict() for item in self.causes],
            "not_covered": self.gaps.to_dict(),
            "layers": [_flat(row) for row in self.layers],
        }


def _flat(row: LayerRow | GroupRow) -> dict[str, Any]:
    values = asdict(row)
    values.update(values.pop("sides"), ratio=row.sides.ratio)
    return values
