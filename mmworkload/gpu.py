"""A GPU by its published figures, and what it is in one precision in the terms that the closed form understands.

A file with ``kind: gpu`` is read by :meth:`Gpu.from_dict` and becomes an :class:`~mmworkload.arch.Architecture` by
:meth:`Gpu.at`: peak multiply-accumulates, elementwise lanes, DRAM bandwidth and capacity, and the L2 cache as the one
memory that all multiprocessors share. Registers and shared memory lie behind a second fan-out, for which the neutral
form has no place; they stay in the file. There is no energy table: energies are zero and not charged.

Peaks are dense, never those of structured sparsity, and with sums as PyTorch keeps them: float32 for half precision.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmworkload.arch import AccessEnergy, Architecture, Array, Compute, Level, VectorUnit
from mmworkload.errors import ArchitectureError, UnknownNameError
from mmworkload.plausibility import outside
from mmworkload.problem import LEGEND

PRECISIONS = ("float64", "float32", "tf32", "float16", "bfloat16", "int8")
NATIVE = "float32"
"""What PyTorch computes matrix products in unless it is told otherwise."""
# Stored bits; a tf32 operand is a float32 in memory, of which the multiplier uses 19 bits.
_BITS = {"float64": 64, "float32": 32, "tf32": 32, "float16": 16, "bfloat16": 16, "int8": 8}
_MULTIPLIER_BITS = _BITS | {"tf32": 19}
# What runs at the clock of the tensor cores where that is another.
_TENSOR = ("tf32", "float16", "bfloat16", "int8")
# A sector: the unit in which DRAM and L2 are accessed.
_SECTOR_BITS = 256


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Clock(_Strict):
    """MHz. The published peaks are made with ``boost``, or ``tensor`` where the tensor cores have their own."""

    base: float | None = Field(gt=0)
    boost: float = Field(gt=0)
    tensor: float | None = Field(default=None, gt=0)


class Macs(_Strict):
    """Multiply-accumulates per cycle and multiprocessor, dense; null where the device has no units for it."""

    float64: int | None = Field(gt=0)
    float32: int = Field(gt=0)
    tf32: int | None = Field(gt=0)
    float16: int | None = Field(gt=0)
    bfloat16: int | None = Field(gt=0)
    int8: int | None = Field(gt=0)


class GpuDram(_Strict):
    """The device's memory. ``gb_per_s`` in 10^9 bytes, reads and writes together; ``capacity_gib`` in 2^30."""

    type: str
    gb_per_s: float = Field(gt=0)
    capacity_gib: float = Field(gt=0)


class Gpu(_Strict):
    """The published figures of one GPU.

    ``l1_kib_per_sm`` is the memory that L1 cache and shared memory divide; ``unified_memory`` when the DRAM is the
    host's too; ``launch_us`` the time from one kernel to the next that keeps the device waiting (null: not measured).
    """

    kind: Literal["gpu"]
    name: str
    description: str
    source: str
    technology_nm: int = Field(ge=1, le=250)
    clock_mhz: Clock
    sms: int = Field(ge=1, le=512)
    macs_per_cycle_per_sm: Macs
    vector_lanes_per_sm: int = Field(ge=1)
    dram: GpuDram
    l2_kib: float = Field(gt=0)
    l1_kib_per_sm: float = Field(gt=0)
    registers_kib_per_sm: float = Field(gt=0)
    unified_memory: bool = False
    tdp_w: float = Field(gt=0)
    launch_us: float | None = Field(default=None, gt=0)

    @classmethod
    def from_dict(cls, data: Any, where: str = "gpu") -> Gpu:
        """Validates plain data. ArchitectureError lists each wrong value with its YAML path, also those that cannot be
        true (see :func:`implausible`)."""
        if not isinstance(data, dict):
            raise ArchitectureError(f"{where}: a GPU is a mapping with kind, name, clock_mhz, sms, dram and more")
        try:
            gpu = cls.model_validate(data)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
            raise ArchitectureError(f"{where}: " + "; ".join(problems)) from None
        found = implausible(gpu)
        if found:
            raise ArchitectureError(f"{where}: " + "; ".join(found))
        return gpu

    @property
    def precisions(self) -> tuple[str, ...]:
        """What the device has units for."""
        return tuple(name for name in PRECISIONS if getattr(self.macs_per_cycle_per_sm, name) is not None)

    def clock_at(self, precision: str) -> float:
        """MHz of the units that compute in ``precision``."""
        tensor = self.clock_mhz.tensor if precision in _TENSOR else None
        return tensor or self.clock_mhz.boost

    def macs_per_second(self, precision: str = NATIVE) -> float:
        """Peak multiply-accumulates a second. ArchitectureError for a precision that the device has no units for."""
        if precision not in PRECISIONS:
            raise UnknownNameError("precision", precision, PRECISIONS)
        macs: int | None = getattr(self.macs_per_cycle_per_sm, precision)
        if macs is None:
            raise ArchitectureError(
                f"{self.name} has no units for {precision}; it computes in {', '.join(self.precisions)}"
            )
        return self.sms * macs * self.clock_at(precision) * 1e6

    def at(self, dtype: str | None = None) -> Architecture:
        """The device in one of :data:`PRECISIONS`; default is float32 on the CUDA cores, without TF32.

        Bandwidth and elementwise operations keep their published rates a second whatever the clock of the units is;
        elementwise work counts in float32, as PyTorch computes it. Raises UnknownNameError for another precision and
        ArchitectureError for one that the device has no units for.
        """
        precision = dtype or NATIVE
        rate = self.macs_per_second(precision)
        clock_mhz = self.clock_at(precision)
        word_bits = _BITS[precision]
        words_per_cycle = self.dram.gb_per_s * 1e9 * 8 / word_bits / (clock_mhz * 1e6)
        free = AccessEnergy(read_pj=0, write_pj=0)
        lanes = self.sms * self.vector_lanes_per_sm * self.clock_mhz.boost / clock_mhz
        return Architecture(
            kind="gpu",
            name=self.name,
            description=f"{self.description}, in {precision}",
            source=self.source,
            technology_nm=self.technology_nm,
            clock_mhz=clock_mhz,
            levels={
                "dram": Level(
                    kind="dram",
                    size_kib=None,
                    word_bits=word_bits,
                    width_bits=_SECTOR_BITS,
                    read_bandwidth=words_per_cycle,
                    write_bandwidth=words_per_cycle,
                    technology=self.dram.type,
                    capacity_gib=self.dram.capacity_gib,
                    energy=free,
                    area_um2=0,
                ),
                "l2": Level(
                    kind="sram",
                    size_kib=self.l2_kib,
                    word_bits=word_bits,
                    width_bits=_SECTOR_BITS,
                    energy=free,
                    area_um2=0,
                ),
            },
            array=Array(
                inside="l2",
                x=self.sms,
                y=round(rate / (self.sms * clock_mhz * 1e6)),
                # A kernel may spread any loop over multiprocessors and lanes.
                x_dims=tuple(LEGEND),
                y_dims=tuple(LEGEND),
            ),
            compute=Compute(
                kind="intmac" if precision == "int8" else "fpmac",
                bits=_MULTIPLIER_BITS[precision],
                energy_pj=0,
                area_um2=0,
            ),
            vector=VectorUnit(lanes=round(lanes), energy_pj=0),
            unified_memory=self.unified_memory,
            launch_us=self.launch_us,
        )


# Bands as in mmworkload.plausibility: each a factor of 1000 wide, what grows with something else relative to that.
_CLOCK_MHZ = (50.0, 10_000.0)
_MACS_PER_LANE = (0.01, 10.0)
_TENSOR_PER_LANE = (0.25, 250.0)
_LANES_PER_SM = (4.0, 4_000.0)
_BYTES_PER_MAC = (0.005, 5.0)
_CAPACITY_GIB = (1.0, 1_000.0)
_L2_KIB_PER_SM = (8.0, 8_000.0)
_KIB_PER_SM = (8.0, 8_000.0)
_TDP_W = (2.0, 2_000.0)
_LAUNCH_US = (0.2, 200.0)


def implausible(gpu: Gpu) -> list[str]:
    """``path: what is odd`` for each figure that cannot be true; empty when all can.

    Figures are judged by those before them; after an odd one nothing more is said that depends on it.
    """
    clocks = [
        *outside("clock_mhz.base", gpu.clock_mhz.base, gpu.clock_mhz.base, _CLOCK_MHZ, "MHz"),
        *outside("clock_mhz.boost", gpu.clock_mhz.boost, gpu.clock_mhz.boost, _CLOCK_MHZ, "MHz"),
        *outside("clock_mhz.tensor", gpu.clock_mhz.tensor, gpu.clock_mhz.tensor, _CLOCK_MHZ, "MHz"),
    ]
    base, boost = gpu.clock_mhz.base, gpu.clock_mhz.boost
    if not clocks and base is not None and base > boost:
        clocks = [f"clock_mhz.base: {base:g} MHz is more than the boost clock ({boost:g})"]
    units = [] if clocks else list(_units(gpu))
    bandwidth = gpu.dram.gb_per_s
    ratio = bandwidth * 1e9 / gpu.macs_per_second(NATIVE)
    dram = [] if clocks or units else list(outside("dram.gb_per_s", bandwidth, ratio, _BYTES_PER_MAC, "bytes a MAC"))
    return [
        *clocks,
        *units,
        *dram,
        *outside("dram.capacity_gib", gpu.dram.capacity_gib, gpu.dram.capacity_gib, _CAPACITY_GIB, "GiB"),
        *outside("l2_kib", gpu.l2_kib, gpu.l2_kib / gpu.sms, _L2_KIB_PER_SM, "KiB a multiprocessor"),
        *outside("l1_kib_per_sm", gpu.l1_kib_per_sm, gpu.l1_kib_per_sm, _KIB_PER_SM, "KiB"),
        *outside("registers_kib_per_sm", gpu.registers_kib_per_sm, gpu.registers_kib_per_sm, _KIB_PER_SM, "KiB"),
        *outside("tdp_w", gpu.tdp_w, gpu.tdp_w, _TDP_W, "W"),
        *outside("launch_us", gpu.launch_us, gpu.launch_us, _LAUNCH_US, "microseconds"),
    ]


def _units(gpu: Gpu) -> Iterator[str]:
    lanes = gpu.vector_lanes_per_sm
    odd = list(outside("vector_lanes_per_sm", lanes, lanes, _LANES_PER_SM, "lanes"))
    yield from odd
    if odd:
        return
    for precision in PRECISIONS:
        macs = getattr(gpu.macs_per_cycle_per_sm, precision)
        band = _TENSOR_PER_LANE if precision in _TENSOR else _MACS_PER_LANE
        share = None if macs is None else macs / lanes
        yield from outside(f"macs_per_cycle_per_sm.{precision}", macs, share, band, "MACs a lane")


def json_schema() -> str:
    """The JSON Schema of a GPU's file, as ``arch_specs/gpu_schema.json`` has it, for editors that complete YAML."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Gpu.model_json_schema()}
    return json.dumps(schema, indent=1) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
