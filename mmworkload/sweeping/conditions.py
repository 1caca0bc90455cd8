"""Named metrics, and what is asked of them: ``metric operator number``, as ``latency_s[transfuser] < 0.033``.

=====================  ======  ==================================================================  ===================
metric                 unit    of one workload                                                     of the mix
=====================  ======  ==================================================================  ===================
latency_s              s       a forward pass, layer after layer                                   weighted sum
critical_path_s        s       a forward pass with an accelerator per modality                     weighted sum
energy_j               J       a forward pass                                                      weighted sum
edp                    J s     energy times latency                                                of the two sums
dram_bytes             B       through DRAM in a forward pass                                      weighted sum
latency_per_sample_s   s       latency over the batch                                              weighted sum
energy_per_sample_j    J       energy over the batch                                               weighted sum
utilization            share   MACs over what the array could do in that time                      over all that time
area_mm2               mm2     of the design                                                       of the design
=====================  ======  ==================================================================  ===================

Nothing is evaluated as code: the grammar is one regular expression.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mmworkload.errors import FormatError, UnknownNameError

UNITS = {
    "latency_s": "s",
    "critical_path_s": "s",
    "energy_j": "J",
    "edp": "Js",
    "dram_bytes": "B",
    "latency_per_sample_s": "s",
    "energy_per_sample_j": "J",
    "utilization": "",
    "area_mm2": "mm2",
}
"""Metric to its unit."""
NEED_ENERGY = frozenset({"energy_j", "edp", "energy_per_sample_j"})
_MAXIMISED = frozenset({"utilization"})
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
# No two neighbouring parts of these can take the same text, so that none is tried in many divisions of it.
_TERM = re.compile(r"(?P<metric>\w+)\s*(\[(?P<workload>[^\[\]]*)\])?")
_OPERATOR = re.compile(r"[<>]=?")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Term:
    """A metric of one workload, or of the mix (empty)."""

    metric: str
    workload: str = ""

    def __str__(self) -> str:
        return f"{self.metric}[{self.workload}]" if self.workload else self.metric

    @property
    def unit(self) -> str:
        return UNITS[self.metric]

    @property
    def maximise(self) -> bool:
        return self.metric in _MAXIMISED

    @classmethod
    def parse(cls, text: str) -> Term:
        """FormatError for text of another form, UnknownNameError for an unknown metric."""
        match = _TERM.fullmatch(text.strip())
        if match is None:
            raise FormatError(
                f"'{_shortened(text)}' is not a metric; write energy_j, or latency_s[transfuser] for one workload"
            )
        if match["metric"] not in UNITS:
            raise UnknownNameError("metric", _shortened(match["metric"]), UNITS)
        workload = match["workload"]
        if workload is not None and not workload.strip():
            raise FormatError(f"'{_shortened(text)}' names no workload between the brackets")
        return cls(match["metric"], (workload or "").strip())

    def require(self, workloads: Collection[str]) -> None:
        """UnknownNameError when the workload is not one of the sweep's, FormatError for a design's metric of one."""
        if self.workload and self.metric == "area_mm2":
            raise FormatError(f"{self}: the area is that of the design; write area_mm2")
        if self.workload and self.workload not in workloads:
            raise UnknownNameError("workload", self.workload, workloads)


@dataclass(frozen=True)
class Condition:
    """``term operator bound``."""

    term: Term
    operator: str
    bound: float

    def __str__(self) -> str:
        return f"{self.term} {self.operator} {self.bound:g}"

    @classmethod
    def parse(cls, text: str) -> Condition:
        """FormatError for text of another form, UnknownNameError for an unknown metric."""
        found = _OPERATOR.search(text)
        term, number = (text[: found.start()].strip(), text[found.end() :].strip()) if found else (text, "")
        finite = _NUMBER.fullmatch(number) is not None and math.isfinite(float(number))
        if found is None or not _TERM.fullmatch(term) or not finite:
            raise FormatError(
                f"'{_shortened(text)}' is not a constraint; write METRIC OPERATOR NUMBER, as area_mm2 < 20 or"
                " latency_s[transfuser] <= 0.033"
            )
        return cls(Term.parse(term), found.group(), float(number))

    def holds(self, value: float) -> bool:
        """Whether ``value`` meets it; not-a-number does not."""
        return _OPERATORS[self.operator](value, self.bound)

    def violation(self, value: float) -> float:
        """How far ``value`` is from meeting it, relative to the bound; zero or less when it does."""
        if self.holds(value):
            return 0.0
        if math.isnan(value):
            return math.inf
        scale = abs(self.bound) or 1.0
        # What is equal violates a strict bound.
        return max(abs(value - self.bound) / scale, 1e-12)


def figure(term: Term, mix: Mapping[str, Any], workloads: Mapping[str, Mapping[str, Any]]) -> Any:
    """The value of ``term``, given the row of the mix and those of its workloads with their ``weight`` and ``batch``.

    Rows may hold numbers or arrays of them, one a design; what is missing is not-a-number.
    """
    metric = term.metric
    if metric == "area_mm2":
        return mix["area_mm2"]
    if metric.endswith(("_per_sample_s", "_per_sample_j")):
        name = {"latency_per_sample_s": "latency_s", "energy_per_sample_j": "energy_j"}[metric]
        if term.workload:
            return workloads[term.workload][name] / workloads[term.workload]["batch"]
        return sum(row["weight"] * row[name] / row["batch"] for row in workloads.values())
    row = workloads[term.workload] if term.workload else mix
    if metric == "edp":
        return row["energy_j"] * row["latency_s"]
    return row[metric]


def _shortened(text: str) -> str:
    """The text on one line, without its middle when it is long."""
    plain = " ".join(text.split())
    return plain if len(plain) <= 120 else f"{plain[:80]} ... {plain[-30:]}"
