"""The neutral architecture as AccelForge's.

Every element of the native precision takes one word of every level, as in the neutral spec; AccelForge counts in bits,
so a level holds ``words`` native numbers, and one action moves those of one access. All energies are the spec's own:
AccelForge asks no component model (its CACTI is a binary that few systems can run). Leakage is power; areas are in m^2.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator

from mmworkload.arch import Architecture, Level
from mmworkload.simulating.energy import PICO, access_bits
from mmworkload.simulating.estimate import Fidelity

MAC = "mac"
ARRAY = "PE"
# Names that mean something else in AccelForge's set expressions.
_TAKEN = {
    *("All", "Tensors", "Nothing", "Inputs", "Outputs", "Intermediates", "Shared", "Persistent", "Above", "Total"),
    *("input", "weight", "output", "fixed_x", "fixed_y", MAC, ARRAY, "inf", "max", "min", "sum", "len"),
    *("spec", "arch", "workload", "variables", "mapper", "renames", "model"),
}
# Rank variables and tensors, of a problem on its own and of a cascade.
_OURS = re.compile(r"[a-z](_[a-z])*|[a-z]_\d+|[IWOT]\d*")


def fidelity(arch: Architecture) -> Fidelity:
    """What AccelForge cannot be told of ``arch``."""
    bad = [
        name
        for name in arch.levels
        if not name.isidentifier() or keyword.iskeyword(name) or name in _TAKEN or _OURS.fullmatch(name)
    ]
    if bad:
        return Fidelity("refused", (f"AccelForge cannot take the level names {', '.join(bad)}; rename them",))
    return Fidelity("exact")


def arch_text(arch: Architecture) -> str:
    """The architecture file, without its header."""
    lines = ["arch:", "  nodes:"]
    for name in arch.outer_levels:
        lines += _memory(arch, name, arch.levels[name])
    lines += ["  - !Container", f"    name: {ARRAY}", "    spatial:"]
    for axis, fanout in (("x", arch.array.x), ("y", arch.array.y)):
        lines += [
            f"    - name: {axis.upper()}",
            f"      fanout: {fanout}",
            f"      loop_bounds: [{{expression: fixed_{axis}, operator: ==, value: 1}}]",
        ]
    for name in arch.inner_levels:
        lines += _memory(arch, name, arch.levels[name])
    compute = arch.compute
    lines += [
        "  - !Compute",
        f"    name: {MAC}",
        "    leak_power: 0",
        f"    area: {_number(compute.area_um2 * PICO)}",
        "    actions:",
        f"    - {{name: compute, energy: {_number(compute.energy_pj * PICO)},"
        f" throughput: {_number(arch.clock_mhz * 1e6)}}}",
    ]
    return "\n".join(lines) + "\n"


def _memory(arch: Architecture, name: str, level: Level) -> Iterator[str]:
    second = arch.clock_mhz * 1e6
    outermost = name == next(iter(arch.levels))
    bits = access_bits(arch, name)
    yield "  - !Memory"
    yield f"    name: {name}"
    yield f"    size: {'inf' if level.words is None else level.words * arch.dram.word_bits}"
    yield f"    leak_power: {_number(level.energy.leak_pj_per_cycle * PICO * second)}"
    yield f"    area: {_number(level.area_um2 * PICO)}"
    # Reads and writes have a port each, which all tensors of the level share.
    yield "    total_latency: max(a.n_calls / a.throughput for a in actions)"
    if outermost:
        # What one Einsum writes for the next may stay on the chip.
        yield "    tensors: {keep: ~Intermediates, may_keep: All}"
    else:
        yield f"    tensors: {{keep: {' | '.join(level.holds)}}}"
    yield "    actions:"
    for action, energy_pj, words in (
        ("read", level.energy.read_pj, level.read_bandwidth),
        ("write", level.energy.write_pj, level.write_bandwidth),
    ):
        # Words a cycle, each a native number, as accesses a second.
        rate = "inf" if words is None else _number(words * arch.dram.word_bits / float(bits) * second)
        yield (
            f"    - {{name: {action}, bits_per_action: {_number(float(bits))},"
            f" energy: {_number(energy_pj * PICO)}, throughput: {rate}}}"
        )


def _number(value: float) -> str:
    """Plain digits or with an exponent that YAML 1.1 and 1.2 both read as a number."""
    text = f"{value:.12g}"
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}{'' if '.' in mantissa else '.0'}e{exponent}" if e else mantissa
