"""The neutral storage levels as SCALE-Sim's three buffers, and what a product costs at every level.

SCALE-Sim has one buffer for each matrix between the DRAM and the array. Here it is the innermost level outside the
array that holds the role, or its share of it. Where there is none, the scratchpads of all elements together stand for
it (Eyeriss keeps its weights there).

The charge for one product, in elements:

- DRAM: each tensor once. A buffer that is too small would have to load again; that is not in it.
- The buffer: filled once from the DRAM, and read or written at the array's edge as often as the dataflow says.
  Levels between the two are passed once in each direction.
- The innermost level of an element: read once a MAC; written once a MAC by a matrix that passes through, and once an
  element and fold by the one that stays. Partial sums are read and written once a MAC.
"""

from __future__ import annotations

from mmworkload.arch import Architecture
from mmworkload.exporters.scalesim.dataflow import Dataflow
from mmworkload.exporters.scalesim.product import operands, product
from mmworkload.problem import ROLES, Problem, Role
from mmworkload.simulating.energy import PICO, leakage_j, transfer_j
from mmworkload.simulating.estimate import compulsory_elements


def buffer_of(arch: Architecture, role: Role) -> str | None:
    """The innermost level on the chip and outside the array that holds ``role``."""
    return next((name for name in reversed(arch.outer_levels[1:]) if role in arch.levels[name].holds), None)


def buffer_words(arch: Architecture, role: Role) -> int:
    """Words of native precision that the buffer of ``role`` holds."""
    name = buffer_of(arch, role)
    if name is not None:
        return (arch.levels[name].words or 0) // len(arch.levels[name].holds)
    return arch.elements * sum(
        arch.levels[inner].words or 0 for inner in arch.inner_levels if _holds(arch, inner, role)
    )


def without_buffer(arch: Architecture) -> list[Role]:
    """The roles that no level outside the array holds."""
    return [role for role in ROLES if buffer_of(arch, role) is None]


def _holds(arch: Architecture, level: str, role: Role) -> bool:
    return role in arch.levels[level].holds


def charge(
    problem: Problem, dataflow: Dataflow, arch: Architecture, cycles: int
) -> tuple[dict[str, float], dict[str, dict[str, int]]]:
    """(joules by component, bytes by level and role) of one run of ``problem``, from the architecture's own table."""
    item = product(problem)
    found = operands(problem)
    edge = dataflow.edge_elements(item)
    macs = problem.macs
    energy = dict.fromkeys(arch.levels, 0.0)
    traffic: dict[str, dict[str, int]] = {name: {} for name in arch.levels}
    dram = next(iter(arch.levels))

    def move(level: str, role: Role, bits: int, read: int, written: int) -> None:
        energy[level] += transfer_j(arch, level, read_bits=read * bits, write_bits=written * bits)
        traffic[level][role] = traffic[level].get(role, 0) + -(-(read + written) * bits // 8)

    stays = {"ws": found.filter, "is": found.ifmap, "os": None}[dataflow.name]
    for operand, at_edge in ((found.ifmap, edge.ifmap_read), (found.filter, edge.filter_read)):
        once, entering = compulsory_elements(problem, operand), at_edge * item.runs
        buffer = buffer_of(arch, operand.role)
        move(dram, operand.role, operand.bits, once, 0)
        for name in arch.outer_levels[1:]:
            if _holds(arch, name, operand.role):
                move(name, operand.role, operand.bits, entering if name == buffer else once, once)
        inner = [name for name in arch.inner_levels if _holds(arch, name, operand.role)]
        for name in inner:
            last = name == inner[-1]
            written = macs if last and operand is not stays else entering
            move(name, operand.role, operand.bits, macs if last else entering, written)
    output = found.ofmap
    once = compulsory_elements(problem, output)
    leaving, returning = edge.ofmap_written * item.runs, edge.ofmap_read * item.runs
    move(dram, output.role, output.bits, 0, once)
    for name in arch.outer_levels[1:]:
        if name == buffer_of(arch, output.role):
            move(name, output.role, output.bits, once + returning, leaving)
        elif _holds(arch, name, output.role):
            move(name, output.role, output.bits, once, once)
    inner = [name for name in arch.inner_levels if _holds(arch, name, output.role)]
    for name in inner:
        sums = macs if name == inner[-1] else leaving
        move(name, output.role, output.bits, sums, sums)
    energy["mac"] = macs * arch.compute.energy_pj * PICO
    energy["leakage"] = leakage_j(arch, cycles)
    return energy, traffic
