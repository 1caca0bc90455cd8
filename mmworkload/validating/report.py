"""What ``validate`` gives: one comparison, or one for each of several workloads, architectures and simulators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.graph import LayerGraph, Workload
from mmworkload.validating.compare import compare
from mmworkload.versions import SCHEMA_VERSION

if TYPE_CHECKING:
    from mmworkload.arch import Architecture
    from mmworkload.measuring.result import Measurement
    from mmworkload.simulating.result import Simulation
    from mmworkload.validating.calibration import Split, Spread
    from mmworkload.validating.goals import Goal
    from mmworkload.validating.result import Validation


@dataclass(frozen=True)
class Report:
    """One workload on one architecture by one simulator.

    Parameters
    ----------
    measurements: one a part of the workload.
    arch: what was simulated, None for a system of several.
    device: the architecture that describes the measured device, None where none is known.
    """

    workload: Workload
    measurements: tuple[Measurement, ...]
    simulation: Simulation
    validation: Validation
    arch: Architecture | None = None
    device: Architecture | None = None

    def __repr__(self) -> str:
        return f"<Report: {self.validation!r}>"

    @property
    def graph(self) -> LayerGraph:
        """Of the first part."""
        return self.workload.parts[0].graph

    @property
    def measurement(self) -> Measurement:
        """Of the first part."""
        return self.measurements[0]

    def write_html(self, path: str | Path) -> None:
        """One self-contained HTML file, whole or not at all."""
        Study((self,)).write_html(path)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``; a workload of several parts has its measurements in ``measurements`` too."""
        several = {"measurements": [item.to_dict() for item in self.measurements]} if len(self.measurements) > 1 else {}
        return {
            "schema_version": SCHEMA_VERSION,
            "validation": self.validation.to_dict(),
            "measurement": self.measurement.to_dict(),
            "simulation": self.simulation.to_dict(),
            **several,
        }


def report(
    source: LayerGraph | Workload,
    measurements: Sequence[Measurement],
    simulation: Simulation,
    *,
    arch: Architecture | None = None,
    device: Architecture | None = None,
) -> Report:
    """The comparison with its sides. Raises MmworkloadError as :func:`mmworkload.validating.compare.compare`."""
    workload, taken = Workload.of(source), tuple(measurements)
    return Report(workload, taken, simulation, compare(workload, taken, simulation, device), arch, device)


@dataclass(frozen=True)
class Study:
    """Several comparisons.

    Parameters
    ----------
    splits: the calibrations, each fitted without the workload that it is used for.
    unanswered: what could not be compared, and why.
    """

    reports: tuple[Report, ...]
    splits: tuple[Split, ...] = ()
    unanswered: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Study: {len(self.reports)} comparisons, {len(self.unanswered)} unanswered>"

    @cached_property
    def goals(self) -> tuple[Goal, ...]:
        """Of all comparisons on the measured device."""
        from mmworkload.validating.goals import goals

        return goals(self.reports)

    @cached_property
    def spreads(self) -> tuple[Spread, ...]:
        """The calibrated constants over the splits."""
        from mmworkload.validating.calibration import spreads

        return spreads(self.splits)

    @property
    def by_workload(self) -> dict[tuple[str, int, str, str], tuple[Report, ...]]:
        """(model, batch, dtype, device) to its comparisons, in order of first use."""
        found: dict[tuple[str, int, str, str], tuple[Report, ...]] = {}
        for item in self.reports:
            v = item.validation
            key = (v.model, v.batch, v.measured_precision, v.device_name)
            found[key] = (*found.get(key, ()), item)
        return found

    def only(self, model: str) -> Study:
        """The comparisons of one model."""
        return replace(self, reports=tuple(item for item in self.reports if item.validation.model == model))

    def write_html(self, path: str | Path) -> None:
        """One self-contained HTML file, whole or not at all."""
        from mmworkload.reporting.html import write_study

        write_study(self, Path(path))

    def to_dict(self) -> dict[str, Any]:
        """For ``--json`` of several comparisons."""
        return {
            "schema_version": SCHEMA_VERSION,
            "reports": [item.to_dict() for item in self.reports],
            "goals": [item.to_dict() for item in self.goals],
            "calibrations": [
                {
                    "tested": split.tested,
                    "arch": split.calibration.arch,
                    "device_name": split.calibration.device_name,
                    "fitted_on": list(split.calibration.fitted_on),
                    "constants": [asdict(item) for item in split.calibration.constants.values()],
                    "block": split.calibration.block,
                }
                for split in self.splits
            ],
            "spreads": [asdict(item) for item in self.spreads],
            "unanswered": list(self.unanswered),
        }
