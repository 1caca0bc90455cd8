"""The scaling law of energies: how long an override takes, and how far the law is from Accelergy.

``python benchmarks/energy_law.py`` prints the microseconds of an override and, where Accelergy is installed, changes
size, width and node of three levels both ways and prints for each figure the median and the worst factor between the
two. ``--record FILE`` asks Accelergy for the runs from which the law is computed and writes them as the module
``mmworkload/energy_runs.py``.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmworkload.arch import load
from mmworkload.energy_scaling import LOGIC_NM, Component, Figures, Mac, Memory, law
from mmworkload.exporters.timeloop.accelergy import CYCLE_S, Accelergy, Answer, Query, ask
from mmworkload.files import write_atomic
from mmworkload.overriding import overridden

# The levels that are changed, and the values they are given; none of the sizes is one of the runs.
LEVELS = (("eyeriss_like", "glb"), ("gemmini_like", "spad"), ("gemmini_like", "acc"))
SIZES_KIB = (8, 24, 108, 300, 1024)
WIDTHS = (32, 96, 256, 512)
NODES = (16, 22, 28, 45, 65)
# Of all combinations, with a fixed seed: each takes some seconds.
SAMPLE = 16
FIGURES = ("read", "write", "leakage", "area")

# The runs of the law.
RUN_SIZES = (1, 4, 16, 64, 256, 1024, 4096, 16384)
RUN_WIDTHS = (8, 32, 128, 512, 2048)
RUN_PORTS = (1, 2, 4, 8)
CACTI_NODES = (22, 32, 45, 65, 90)
NODE_MEMORIES = ((16, 128), (64, 32), (256, 128), (1024, 512))
LOGIC_NODES = (7, 10, 14, 16, 20, 32, 45, 65, 90, 130)
MACS = (("intmac", 8), ("intmac", 32), ("fpmac", 16), ("fpmac", 32), ("fpmac", 40), ("fpmac", 64))
DEEPEST = 1024
# Components for one run of Accelergy.
CHUNK = 20


def answers(components: Sequence[Component]) -> list[Answer]:
    """Accelergy's answers, in runs of a few components, so that an interrupted recording goes on."""
    found: list[Answer] = []
    for start in range(0, len(components), CHUNK):
        found += Accelergy().answers(components[start : start + CHUNK])
    return found


def microwatts(answer: Answer) -> float:
    return answer.energy_pj["leak"] * 1e-6 / CYCLE_S


def memory_row(answer: Answer) -> tuple[float, ...]:
    energy = answer.energy_pj
    return energy["read"], energy["write"], microwatts(answer), answer.area_um2


def numbers(row: Sequence[object]) -> str:
    """Six digits, and no exponents."""
    rounded = [item if isinstance(item, str) else float(f"{item:.6g}") for item in row]
    return ", ".join(f'"{item}"' if isinstance(item, str) else repr(item).removesuffix(".0") for item in rounded)


def table(name: str, about: str, rows: Sequence[Sequence[object]]) -> str:
    kinds = "tuple[str, float, float, float, float], ..." if isinstance(rows[0][0], str) else "tuple[float, ...], ..."
    return f"# {about}\n{name}: tuple[{kinds}] = (\n" + "".join(f"    ({numbers(row)}),\n" for row in rows) + ")\n"


def record(path: Path) -> None:
    """Writes the module of runs."""
    grid = list(itertools.product(RUN_SIZES, RUN_WIDTHS, RUN_PORTS))
    sram = answers([Memory("sram", size, width, ports, LOGIC_NM) for size, width, ports in grid])
    nodes = [(node, size, width) for node in CACTI_NODES for size, width in NODE_MEMORIES]
    at_nodes = answers([Memory("sram", size, width, 1, node) for node, size, width in nodes])
    rows = (1, DEEPEST)
    regfile = answers([Memory("regfile", count * 16 / 8192, 16, 1, LOGIC_NM) for count in rows])
    macs = answers([Mac(kind, bits, LOGIC_NM) for kind, bits in MACS])
    multiplier = [
        Query("aladdin_multiplier", {"technology": f"{node}nm", "width": 32, "width_a": 32, "width_b": 32}, ("read",))
        for node in LOGIC_NODES
    ]
    logic = ask([Query(item.component, item.attributes, (*item.actions, "leak")) for item in multiplier])
    used = sorted({name for answer in (*sram, *regfile, *macs, *logic) for name in answer.estimators})
    parts = [
        '"""What Accelergy answered for single components: the table from which the scaling law is computed.\n\n'
        f"{Accelergy().version()} ({', '.join(used)}), SRAM with two banks, cycle of 5 ns.\n"
        "Written by ``python benchmarks/energy_law.py --record mmworkload/energy_runs.py``; not edited by hand.\n"
        'Figures are read pJ, write pJ, leakage µW and area µm² unless said otherwise.\n"""\n',
        table(
            "SRAM",
            "KiB, bits of an access, ports; figures at 45 nm.",
            [(*key, *memory_row(answer)) for key, answer in zip(grid, sram, strict=True)],
        ),
        table(
            "SRAM_NODES",
            "nm, KiB, bits of an access; figures with one port.",
            [(*key, *memory_row(answer)) for key, answer in zip(nodes, at_nodes, strict=True)],
        ),
        table(
            "REGFILE",
            "Rows; figures at 45 nm, of any width.",
            [(count, *memory_row(answer)) for count, answer in zip(rows, regfile, strict=True)],
        ),
        table(
            "MAC",
            "Kind, bits; pJ, leakage µW and area µm² at 45 nm.",
            [
                (*key, answer.energy_pj["compute"], microwatts(answer), answer.area_um2)
                for key, answer in zip(MACS, macs, strict=True)
            ],
        ),
        table(
            "LOGIC",
            "nm; pJ and area of a 32-bit multiplier.",
            [
                (node, answer.energy_pj["read"], answer.area_um2)
                for node, answer in zip(LOGIC_NODES, logic, strict=True)
            ],
        ),
    ]
    write_atomic(path, "\n".join(parts))


def factors(old: Sequence[float], new: Sequence[float]) -> list[float]:
    return [after / before for before, after in zip(old, new, strict=True)]


def compare(old: Memory, changed: Sequence[Memory]) -> Iterator[list[float]]:
    """For each changed memory, by figure: the law's ratio to the unchanged one over Accelergy's."""
    real = [Figures(*memory_row(answer)) for answer in answers([old, *changed])]
    for memory, figures in zip(changed, real[1:], strict=True):
        yield factors(factors(real[0], figures), factors(law(old), law(memory)))


def apart(values: Sequence[float]) -> str:
    """Median and largest factor between two estimates."""
    away = [abs(math.log(value)) for value in values]
    return f"{math.exp(statistics.median(away)):.2f} {math.exp(max(away)):5.2f}"


def speed() -> None:
    """Prints the time of an override with the law; each value is new, so nothing is remembered."""
    for arch_name in ("eyeriss_like", "simba_like"):
        arch = load(arch_name)
        level = list(arch.levels)[1]
        others: dict[str, dict[str, int]] = {
            "a size": {},
            "a size, the array and the clock": {"array.x": 8, "clock_mhz": 300},
        }
        for what, other in others.items():
            times = []
            for turn in range(1000):
                given = {f"levels.{level}.size_kib": 64 + turn * 0.01, **other}
                start = time.process_time()
                overridden(arch, given, estimator="law")
                times.append(time.process_time() - start)
            print(f"{arch_name}, {what}: {statistics.median(times) * 1e6:.0f} us an override (processor time)")


def validate() -> None:
    """Prints the table of the docs."""
    print(Accelergy().version())
    print(f"{'level':20}{'changed':24}{'runs':>5}", *(f"{figure + ' median worst':>22}" for figure in FIGURES))
    for arch_name, name in LEVELS:
        arch = load(arch_name)
        level = arch.levels[name]
        assert level.size_kib is not None
        old = Memory("sram", level.size_kib, level.width_bits, level.ports, arch.technology_nm)
        sets = {
            "size": [(size, old.width_bits, old.node_nm) for size in SIZES_KIB],
            "width": [(old.size_kib, width, old.node_nm) for width in WIDTHS],
            "node": [(old.size_kib, old.width_bits, node) for node in NODES],
            "all three": random.Random(0).sample(list(itertools.product(SIZES_KIB, WIDTHS, NODES)), SAMPLE),
        }
        for what, values in sets.items():
            memories = [Memory("sram", size, width, old.ports, node) for size, width, node in values]
            rows = list(compare(old, [memory for memory in memories if memory != old]))
            columns = [apart([row[figure] for row in rows]) for figure in range(len(FIGURES))]
            print(f"{arch_name + '.' + name:20}{what:24}{len(rows):5}", *(f"{column:>22}" for column in columns))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the runs from which the law is computed")
    options = parser.parse_args()
    if options.record:
        record(options.record)
    else:
        speed()
        missing = Accelergy().unavailable()
        print(missing) if missing else validate()
