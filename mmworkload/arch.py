"""The neutral architecture: a chain of storage levels, one spatial fan-out, one compute unit, one vector unit.

What the schema can say is what every target can be told honestly; there is no network on chip, no sparsity and no
compression. Richer designs enter as native files of a tool.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mmworkload.errors import ArchitectureError, UnknownNameError
from mmworkload.files import parse_yaml, read_text
from mmworkload.plugins import data_files, plugins
from mmworkload.problem import LEGEND, Role

_ROLES: tuple[Role, ...] = ("weight", "input", "output")
HOST = "host"
"""The name of the machine that this runs on."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AccessEnergy(_Strict):
    """Energy of one access of the level's full width, in picojoules, and leakage per instance and cycle."""

    read_pj: float = Field(ge=0)
    write_pj: float = Field(ge=0)
    leak_pj_per_cycle: float = Field(default=0, ge=0)


class Level(_Strict):
    """One storage level.

    ``kind`` decides the estimator; ``holds`` are the operand roles kept here, the others pass by; ``size_kib`` is the
    capacity of one instance (null: unbounded, outermost level only); ``word_bits`` the one word size; ``width_bits``
    what one access moves; bandwidths are in words per cycle and instance (null: never the limit). ``capacity_gib`` is
    what a DRAM holds: it limits no mapping, but a network that does not fit is reported.
    """

    kind: Literal["dram", "sram", "regfile"]
    holds: tuple[Role, ...] = _ROLES
    size_kib: float | None = Field(gt=0, le=2**30)
    word_bits: int = Field(ge=1, le=128)
    width_bits: int = Field(ge=1, le=65536)
    read_bandwidth: float | None = Field(default=None, gt=0)
    write_bandwidth: float | None = Field(default=None, gt=0)
    ports: int = Field(default=1, ge=1, le=8)
    technology: str | None = None
    capacity_gib: float | None = Field(default=None, gt=0, le=2**20)
    energy: AccessEnergy
    area_um2: float = Field(ge=0)

    @property
    def depth(self) -> int | None:
        """Rows of ``width_bits``; None when unbounded."""
        return None if self.size_kib is None else round(self.size_kib * 1024 * 8 / self.width_bits)

    @property
    def words(self) -> int | None:
        """Capacity in words; None when unbounded."""
        return None if self.depth is None else self.depth * (self.width_bits // self.word_bits)


class Array(_Strict):
    """The spatial fan-out between level ``inside`` and the next: ``x`` by ``y`` instances of all that follows.

    ``x_dims`` and ``y_dims`` are the problem dimensions that may be unrolled on an axis, preferred first.
    """

    inside: str
    x: int = Field(ge=1, le=65536)
    y: int = Field(ge=1, le=65536)
    x_dims: tuple[str, ...]
    y_dims: tuple[str, ...]


class Compute(_Strict):
    """The multiplier and adder of one processing element: one MAC a cycle."""

    kind: Literal["intmac", "fpmac"] = "intmac"
    bits: int = Field(ge=1, le=128)
    energy_pj: float = Field(ge=0)
    area_um2: float = Field(ge=0)


class VectorUnit(_Strict):
    """What runs everything that is not a MAC: ``lanes`` elementwise operations a cycle."""

    lanes: int = Field(ge=1)
    energy_pj: float = Field(ge=0)


Kind = Literal["accelerator", "gpu", "cpu", "native"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Architecture(_Strict):
    """An accelerator. Levels are listed outermost first; all that follows the array's level exists once per element.

    A GPU, a CPU and the native folder of a tool (``kind``) are told in the same terms as far as they go: peak,
    bandwidth and capacity for the closed form. They have no energy table: their energies are zero and count as not
    known (:attr:`charged`). ``unified_memory`` when the DRAM is the host's too; ``launch_us`` is what starting one
    kernel costs at least, null where nobody measured it. ``native`` is the folder.

    ``overrides`` are the parameters that differ from the file, as ``path=value``; ``rescaled`` says of each figure that
    was estimated anew for them how (see :mod:`mmworkload.overriding`). Raises ArchitectureError through :func:`load`
    with the YAML path of what is wrong.
    """

    kind: Kind = "accelerator"
    name: str
    description: str
    source: str
    technology_nm: int = Field(ge=1, le=250)
    clock_mhz: float = Field(ge=1, le=10_000)
    levels: dict[str, Level] = Field(min_length=1)
    array: Array
    compute: Compute
    vector: VectorUnit
    unified_memory: bool = False
    launch_us: float | None = Field(default=None, gt=0, le=10_000)
    native: str = ""
    overrides: tuple[str, ...] = ()
    rescaled: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Architecture {self.label!r}: {self.kind}, {self.clock_mhz:g} MHz>"

    @model_validator(mode="after")
    def _consistent(self) -> Architecture:
        names = list(self.levels)
        outer = self.levels[names[0]]
        if outer.kind != "dram" or outer.size_kib is not None or set(outer.holds) != set(_ROLES):
            raise ValueError(f"levels.{names[0]}: the outermost level is an unbounded dram that holds every role")
        if outer.read_bandwidth is None or outer.write_bandwidth is None:
            raise ValueError(f"levels.{names[0]}: the outermost level needs read_bandwidth and write_bandwidth")
        if self.array.inside not in names:
            raise ValueError(f"array.inside: '{self.array.inside}' is not one of the levels {names}")
        for name in ("mac", "vector", "leakage"):
            if name in names:
                raise ValueError(f"levels.{name}: the name is taken: energy is listed under it beside the levels")
        for name in names[1:]:
            if self.levels[name].kind == "dram" or self.levels[name].size_kib is None:
                raise ValueError(f"levels.{name}: only the outermost level is a dram or unbounded")
            if self.levels[name].capacity_gib is not None:
                raise ValueError(f"levels.{name}.capacity_gib: it is of the dram; this level has size_kib")
        for name, level in self.levels.items():
            if level.width_bits % level.word_bits:
                raise ValueError(
                    f"levels.{name}: width_bits {level.width_bits} is not a multiple of word_bits {level.word_bits}"
                )
            if level.words is not None and level.words < 1:
                raise ValueError(f"levels.{name}.size_kib: {level.size_kib} KiB is less than one access of the level")
        for axis_name in ("x_dims", "y_dims"):
            for dim in getattr(self.array, axis_name):
                if dim not in LEGEND:
                    raise ValueError(f"array.{axis_name}: '{dim}' is not a dimension of the legend {LEGEND}")
        if not self.outer_levels or self.array.inside != self.outer_levels[-1]:
            raise ValueError("array.inside: levels are not in order")
        return self

    @property
    def outer_levels(self) -> list[str]:
        """Levels shared by the whole array, outermost first."""
        names = list(self.levels)
        return names[: names.index(self.array.inside) + 1]

    @property
    def inner_levels(self) -> list[str]:
        """Levels that each array element has."""
        names = list(self.levels)
        return names[names.index(self.array.inside) + 1 :]

    @property
    def elements(self) -> int:
        return self.array.x * self.array.y

    @property
    def charged(self) -> bool:
        """Whether energies are known."""
        return self.kind == "accelerator"

    @property
    def label(self) -> str:
        """The name, with what was overridden."""
        return " ".join([self.name, *self.overrides])

    @property
    def dram(self) -> Level:
        return next(iter(self.levels.values()))

    @property
    def macs_per_second(self) -> float:
        """Peak multiply-accumulates per second."""
        return self.elements * self.clock_mhz * 1e6

    @property
    def dram_bytes_per_second(self) -> float:
        """Peak DRAM read bandwidth in bytes per second."""
        assert self.dram.read_bandwidth is not None
        return self.dram.read_bandwidth * self.dram.word_bits / 8 * self.clock_mhz * 1e6

    @property
    def bits(self) -> dict[Role, int]:
        """Operand bits as stored in DRAM: the native precision."""
        return dict.fromkeys(_ROLES, self.dram.word_bits)

    @property
    def area_mm2(self) -> float | None:
        """Area of everything on the chip: levels (DRAM apart) and array; None when no part has one."""
        outer = sum(self.levels[name].area_um2 for name in self.outer_levels[1:])
        inner = sum(self.levels[name].area_um2 for name in self.inner_levels) + self.compute.area_um2
        return (outer + inner * self.elements) / 1e6 or None

    @property
    def key(self) -> str:
        """16 hexadecimal digits over all that can change a result (not the prose)."""
        prose = {"description", "source", "overrides", "rescaled"}
        content = self.model_dump_json(exclude=prose, exclude_defaults=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def names() -> list[str]:
    """The architectures that are installed."""
    return sorted(data_files("mmworkload.arch_specs", ".yaml"))


def load(name_or_path: str | Path, dtype: str | None = None) -> Architecture:
    """An architecture by name, from a YAML file, from the native folder of a tool, or ``host``: this machine.

    ``dtype`` chooses among the peaks of a GPU; default is its native precision. Raises UnknownNameError (nearest name
    suggested) or ArchitectureError (with file and YAML path), also for numbers that cannot be true (see
    :mod:`mmworkload.plausibility`).
    """
    # That module and those below build on this one's types.
    from mmworkload.plausibility import implausible

    path = Path(name_or_path)
    if str(name_or_path) == HOST:
        from mmworkload.host import calibrate

        return calibrate()
    if path.exists():
        native = _native(path)
        if native is not None:
            return native
    if path.suffix not in (".yaml", ".yml"):
        known = data_files("mmworkload.arch_specs", ".yaml")
        wanted = str(name_or_path).replace("-", "_")
        if wanted not in known and path.is_file():
            raise ArchitectureError(
                f"{path} is no architecture: give a name (list archs), a YAML file (.yaml or .yml), or the folder of a"
                " Timeloop v4 design"
            )
        if wanted not in known:
            raise UnknownNameError("architecture", str(name_or_path), [*known, HOST])
        path = known[wanted]
    data = _read(path)
    if isinstance(data, dict) and data.get("kind") == "gpu" and "levels" not in data:
        from mmworkload.gpu import Gpu

        return Gpu.from_dict(data, str(path)).at(dtype)
    arch = from_dict(data, str(path))
    problems = implausible(arch)
    if problems:
        raise ArchitectureError(f"{path}: {'; '.join(problems)}")
    return arch


def _native(path: Path) -> Architecture | None:
    """The architecture in a tool's own files, by the first plug-in whose ``NATIVE`` takes them for its own; None for a
    file that no tool knows. The plug-in refuses what is its own and cannot be read, with what to give instead."""
    if path.is_dir():
        try:
            next(path.iterdir(), None)
        except OSError as error:
            raise ArchitectureError(f"cannot read {path}: {error.strerror}") from error
    for read in plugins("mmworkload.exporters", "NATIVE").values():
        found: Architecture | None = read(path)
        if found is not None:
            return found
    if not path.is_dir():
        return None
    raise ArchitectureError(f"{path}: no tool reads this folder as an architecture (list exporters shows the tools)")


def _read(path: Path) -> Any:
    return parse_yaml(read_text(path, ArchitectureError), str(path), ArchitectureError)


def from_dict(data: Any, where: str = "architecture") -> Architecture:
    """Validates plain data; ArchitectureError lists each wrong value with its YAML path.

    Any consistent design passes, also one of round numbers for a thought; :func:`load` is stricter.
    """
    if not isinstance(data, dict):
        raise ArchitectureError(f"{where}: an architecture is a mapping with name, levels, array, compute, vector")
    try:
        return Architecture.model_validate(data)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            path = ".".join(str(part) for part in item["loc"])
            message = item["msg"].removeprefix("Value error, ")
            problems.append(f"{path}: {message}" if path else message)
        raise ArchitectureError(f"{where}: " + "; ".join(problems)) from None


def json_schema() -> str:
    """The JSON Schema of an architecture file, as ``arch_specs/schema.json`` has it, for editors that complete YAML."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Architecture.model_json_schema()}
    return json.dumps(schema, indent=1) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
