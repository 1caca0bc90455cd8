"""The file of a sweep: what is varied, what runs on it, what is wanted. Every error is one line with the YAML path."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from mmworkload.errors import FormatError, MmworkloadError
from mmworkload.files import parse_yaml, read_text
from mmworkload.sweeping.conditions import Condition, Term

Value = bool | int | float | str | list[str]
METHODS = ("grid", "random", "tpe", "nsga2")
# A metric of one workload, unquoted: YAML takes its bracket for the end of a list.
_BRACKETS = re.compile(r"(?<![\w\"'])(\w+\[[^\[\]\n\"']+\](?:\s*[<>]=?\s*[-+.\deE]+)?)(?![\"'])")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(_Strict):
    """Numbers from ``range[0]`` to ``range[1]``, both included: ``steps`` of them, or any where the search can take
    any. ``log``: equal factors apart instead of equal differences."""

    range: tuple[float, float]
    log: bool = False
    steps: int | None = Field(default=None, ge=2, le=10_000)

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        low, high = self.range
        if not low < high:
            raise ValueError(f"range: {low:g} is not below {high:g}")
        if self.log and low <= 0:
            raise ValueError(f"range: with log, the lower end is above zero, not {low:g}")
        return self


def _kind(given: Any) -> str:
    return "<range>" if isinstance(given, dict | Range) else "<values>"


# One of the two, so that a mistake is reported of the one that was meant.
Values = Annotated[Annotated[list[Value], Tag("<values>")] | Annotated[Range, Tag("<range>")], Discriminator(_kind)]


class Hardware(_Strict):
    """The architecture, or several to compare (also systems, ``encoder/image=nvdla_like,*=eyeriss_like``), and what is
    set in it: path to values. ``estimator`` says who estimates stale energies (:mod:`mmworkload.overriding`)."""

    base: str | list[str]
    set: dict[str, Values] = {}
    estimator: Literal["auto", "accelergy", "law"] = "auto"

    @field_validator("set")
    @classmethod
    def _some_values(cls, value: dict[str, Values]) -> dict[str, Values]:
        for path, values in value.items():
            if isinstance(values, list) and not values:
                raise ValueError(f"{path}: give at least one value")
        return value

    @property
    def bases(self) -> list[str]:
        return [self.base] if isinstance(self.base, str) else self.base


class Search(_Strict):
    """How designs are chosen: all (``grid``), ``random``, or by Optuna's samplers ``tpe`` and ``nsga2``.

    ``budget`` is the number of designs (of a grid: all); ``population`` how many are asked for at once.
    """

    method: Literal["grid", "random", "tpe", "nsga2"] = "grid"
    budget: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    population: int | None = Field(default=None, ge=2)

    @model_validator(mode="after")
    def _has_budget(self) -> Search:
        if self.method == "grid" and self.budget is not None:
            raise ValueError("budget: a grid evaluates all designs; take the method random for a part of them")
        return self

    @property
    def designs(self) -> int:
        """The budget of a search."""
        return 100 if self.budget is None else self.budget


class SweepSpec(_Strict):
    """A sweep. ``workloads`` are names or globs with their weights in the mix; ``batch`` null is each workload's own;
    ``limit_s`` is of one simulator run, ``options`` what one simulator understands."""

    workloads: dict[str, float] = Field(min_length=1)
    arch: Hardware
    batch: list[int] | int | None = None
    dtype: str | None = None
    simulator: str = "auto"
    effort: Literal["quick", "normal", "thorough"] = "normal"
    limit_s: float = Field(default=300.0, gt=0)
    options: dict[str, str] = {}
    constraints: list[str] = []
    objectives: list[str] = Field(default=["energy_j", "latency_s"], min_length=1)
    search: Search = Search()

    @field_validator("workloads")
    @classmethod
    def _weights(cls, value: dict[str, float]) -> dict[str, float]:
        for name, weight in value.items():
            if not weight > 0:
                raise ValueError(f"{name}: the weight {weight:g} is not above zero")
        return value

    @field_validator("batch")
    @classmethod
    def _batches(cls, value: list[int] | int | None) -> list[int] | int | None:
        found = value if isinstance(value, list) else [] if value is None else [value]
        if value == [] or any(item < 1 for item in found):
            raise ValueError("a batch has at least one sample")
        return value

    @field_validator("constraints")
    @classmethod
    def _constraints(cls, value: list[str]) -> list[str]:
        for text in value:
            _as_value_error(Condition.parse, text)
        return value

    @field_validator("objectives")
    @classmethod
    def _objectives(cls, value: list[str]) -> list[str]:
        for text in value:
            _as_value_error(Term.parse, text)
        return value

    @property
    def batches(self) -> list[int | None]:
        if isinstance(self.batch, list):
            return list(dict.fromkeys(self.batch))
        return [self.batch]

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        return tuple(Condition.parse(text) for text in self.constraints)

    @cached_property
    def goals(self) -> tuple[Term, ...]:
        return tuple(Term.parse(text) for text in self.objectives)

    @property
    def terms(self) -> tuple[Term, ...]:
        """Every metric that is asked for."""
        return tuple(dict.fromkeys((*self.goals, *(item.term for item in self.conditions))))


def read(path: Path) -> SweepSpec:
    """The sweep in a YAML file. FormatError: what is wrong, with file and YAML path."""
    return parse(read_text(path), str(path))


def parse(text: str, where: str = "sweep") -> SweepSpec:
    """The sweep in YAML text. A metric with a workload in brackets needs no quotes, although YAML wants them."""
    try:
        data = parse_yaml(text, where)
    except FormatError as error:
        try:
            data = parse_yaml(_BRACKETS.sub(r'"\1"', text), where)
        except FormatError:
            raise error from None
    return from_dict(data, where)


def from_dict(data: Any, where: str = "sweep") -> SweepSpec:
    """The sweep in plain data. FormatError lists each wrong value with its path."""
    if not isinstance(data, dict):
        raise FormatError(f"{where}: a sweep is a mapping with workloads, arch, objectives, search")
    try:
        return SweepSpec.model_validate(data)
    except ValidationError as error:
        problems: dict[str, str] = {}
        for item in error.errors():
            # A union reports each of its types; the place is the same without them.
            parts = [str(part) for part in item["loc"] if not _is_type(str(part))]
            place = ".".join(parts)
            message = item["msg"].removeprefix("Value error, ")
            problems.setdefault(place, f"{place}: {message}" if place else message)
        raise FormatError(f"{where}: " + "; ".join(problems.values())) from None


def _is_type(part: str) -> bool:
    return part in ("str", "int", "float", "bool") or part.startswith(("list[", "<"))


def _as_value_error(parse: Any, text: str) -> None:
    try:
        parse(text)
    except MmworkloadError as error:
        raise ValueError(str(error)) from error
