"""``arch.yaml``: the neutral architecture in Timeloop's v0.4 form, and whether it can be told.

Each level keeps exactly the data spaces of its ``holds`` and bypasses the others. Levels inside the array that hold
one role each are a plain chain: a bypassed level costs nothing and ``!Parallel`` is flattened to the same chain.
"""

from __future__ import annotations

import re

from mmworkload.arch import Architecture, Compute, Level
from mmworkload.exporters.timeloop.terms import ARRAY_X, ARRAY_Y, CLASSES, DATA_SPACES, DIMS, MAC, SYSTEM
from mmworkload.exporters.timeloop.yaml_text import Word, mapping, words
from mmworkload.simulating.estimate import Fidelity

# Names that the front end, Accelergy or the rest of the file use; a level called so would be taken for another thing.
_RESERVED = {
    SYSTEM,
    ARRAY_X,
    ARRAY_Y,
    MAC,
    "wire",
    "version",
    "technology",
    "global_cycle_seconds",
    "variables",
    "spec",
}
# Larger than any number of dimensions: "all loops before this index go to X".
ALL_ON_X, ALL_ON_Y = 99, 0
_EXPONENT_BITS = {16: 5, 32: 8, 64: 11}


def fidelity(arch: Architecture) -> Fidelity:
    """``exact``, or ``refused`` with the levels whose names Timeloop cannot have."""
    wrong = tuple(
        f"level '{name}': it needs a name of letters, digits and underscores that is not {', '.join(sorted(_RESERVED))}"
        for name in arch.levels
        if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or name.lower() in _RESERVED or name.startswith("inter_")
    )
    return Fidelity("refused", wrong) if wrong else Fidelity("exact")


def array_axes(arch: Architecture) -> list[tuple[str, str, int, tuple[str, ...]]]:
    """(container, mesh key, instances, dimensions allowed) of each array axis longer than one element, X first."""
    array = arch.array
    axes = [(ARRAY_X, "meshX", array.x, array.x_dims), (ARRAY_Y, "meshY", array.y, array.y_dims)]
    return [item for item in axes if item[2] > 1]


def arch_text(arch: Architecture) -> str:
    """The content of ``arch.yaml`` without its header."""
    lines = ["architecture:", "  version: 0.4", "  nodes:"]
    # An outer container gives every component the prefix by which the energy tables know it.
    lines += ["  - !Container", f"    name: {SYSTEM}"]
    for name in arch.outer_levels:
        lines += _level(name, arch.levels[name])
    for container, mesh, instances, dims in array_axes(arch):
        lines += _fanout(container, mesh, instances, dims)
    for name in arch.inner_levels:
        lines += _level(name, arch.levels[name])
    attributes = mapping(compute_attributes(arch.compute))
    lines += ["  - !Component", f"    name: {MAC}", f"    class: {arch.compute.kind}", f"    attributes: {attributes}"]
    return "\n".join(lines) + "\n"


def compute_attributes(compute: Compute) -> dict[str, object]:
    """What the compute unit's class wants to know."""
    attributes: dict[str, object] = {"width": compute.bits, "datawidth": compute.bits}
    if compute.kind == "fpmac":
        # Accelergy's estimator wants the two apart and counts the sign with the mantissa.
        exponent = _EXPONENT_BITS.get(compute.bits, compute.bits // 4)
        attributes |= {"exponent": exponent, "mantissa": compute.bits - exponent}
    return attributes


def level_attributes(level: Level) -> dict[str, object]:
    """What the class of ``level`` wants to know; bandwidths in words a cycle."""
    attributes: dict[str, object] = {}
    if level.kind == "dram":
        attributes["type"] = level.technology or "LPDDR4"
    # Newer front ends demand the key; null is an unbounded DRAM for all of them.
    attributes |= {"depth": level.depth, "width": level.width_bits, "datawidth": level.word_bits}
    if level.kind == "sram":
        attributes["n_rw_ports"] = level.ports
    if level.read_bandwidth is not None:
        attributes["read_bandwidth"] = level.read_bandwidth
    if level.write_bandwidth is not None:
        attributes["write_bandwidth"] = level.write_bandwidth
    return attributes


def data_spaces(level: Level) -> dict[str, list[Word]]:
    """``keep`` and ``bypass`` of a level, each only where it names something."""
    kept = [DATA_SPACES[role] for role in DATA_SPACES if role in level.holds]
    passed = [DATA_SPACES[role] for role in DATA_SPACES if role not in level.holds]
    return {key: words(names) for key, names in (("keep", kept), ("bypass", passed)) if names}


def axis_factors(allowed: tuple[str, ...]) -> dict[str, int]:
    """Factor 1 for the common dimensions that an array axis does not take."""
    return {dim: 1 for dim in DIMS if dim not in allowed}


def _level(name: str, level: Level) -> list[str]:
    return [
        "  - !Component",
        f"    name: {name}",
        f"    class: {CLASSES[level.kind]}",
        f"    attributes: {mapping(level_attributes(level))}",
        f"    constraints: {mapping({'dataspace': data_spaces(level)})}",
    ]


def _fanout(container: str, mesh: str, instances: int, dims: tuple[str, ...]) -> list[str]:
    refused = [Word(f"{dim}={factor}") for dim, factor in axis_factors(dims).items()]
    spatial: dict[str, object] = {"factors": refused} if refused else {}
    spatial["split"] = ALL_ON_X if container == ARRAY_X else ALL_ON_Y
    return [
        "  - !Container",
        f"    name: {container}",
        f"    spatial: {mapping({mesh: instances})}",
        f"    constraints: {mapping({'spatial': spatial})}",
    ]
