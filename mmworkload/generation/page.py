"""The tables of levers in docs/generation.md.

``python -m mmworkload.generation.page docs/generation.md`` writes them between their marks; the rest of the page stays.
``--launch-us`` is what starting a kernel keeps the device waiting.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import FormatError
from mmworkload.files import write_atomic
from mmworkload.generation.generation import Generation
from mmworkload.generation.levers import pulled
from mmworkload.generation.resolving import generation
from mmworkload.generation.speedups import PREFILL, Timed, speedups
from mmworkload.generation.totals import Totals
from mmworkload.reporting.markdown import table
from mmworkload.reporting.units import si

BEGIN, END = "<!-- levers: begin -->", "<!-- levers: end -->"
MODEL, DTYPE, ARCHS = "codellama/7b", "bfloat16", ("h100", "a100")
# What PyTorch needs on the host for one operator and CUDA for its kernel, from below: 5 to 25 us are reported.
LAUNCH_US = 5.0
_SIZES: tuple[dict[str, str], ...] = (
    {},
    {"weights": "int8"},
    {"weights": "int4"},
    {"cache": "int8"},
    {"weights": "int4", "cache": "int8"},
    {"attention": "eager"},
)


def block(plain: Generation, skipping: Generation, archs: Sequence[Architecture], launch_us: float) -> str:
    """What stands between the marks: bytes of the decoding steps, and time on each architecture."""
    steps = f"`{plain.name}`, batch {plain.phases[0].at_first().batch}, all that follows the prefill"
    kernels = f"starting a kernel takes {launch_us:g} us"
    return "\n\n".join(
        [
            f"{steps}:",
            table(["<levers", ">MACs", ">bytes", ">weights", ">caches", ">vector operations"], _sizes(plain, skipping)),
            f"Prefill and decoding in time, by the roofline; {kernels}:",
            *(_times(arch, speedups(plain, skipping, arch, launch_us)) for arch in archs),
        ]
    )


def _sizes(plain: Generation, skipping: Generation) -> Iterator[list[str]]:
    for settings in _SIZES:
        name = "`" + "&".join(f"{key}={value}" for key, value in settings.items()) + "`" if settings else "none"
        yield [name, *_totals(pulled(plain, settings))]
    yield ["LayerSkip", *_totals(skipping)]
    both = {"weights": "int4", "cache": "int8"}
    yield ["LayerSkip, `weights=int4&cache=int8`", *_totals(pulled(skipping, both))]


def _totals(made: Generation) -> list[str]:
    later = sum((totals for name, totals in made.by_phase().items() if name != PREFILL), Totals())
    sizes = [si(size, "B") for size in (later.bytes, later.weight_bytes, later.state_bytes)]
    return [si(later.macs), *sizes, si(later.vector_ops)]


def _times(arch: Architecture, found: Iterable[Timed]) -> str:
    timed = list(found)
    first = timed[0].total_s
    rows = [
        [
            item.way.name,
            f"{item.launches:,.0f}",
            f"{item.prefill_s * 1e3:.1f} ms",
            f"{item.decode_s * 1e3:.0f} ms",
            f"{item.launch_s / item.total_s:.0%}",
            f"{first / item.total_s:.2f}",
        ]
        for item in timed
    ]
    columns = [f"<on `{arch.name}`", ">starts", ">prefill", ">decoding", ">of all, starting", ">times faster"]
    return table(columns, rows)


def written(text: str, new: str) -> str:
    """``text`` with ``new`` between the marks. FormatError where they are missing."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise FormatError(f"the page has no {BEGIN} followed by {END}")
    return f"{head}{BEGIN}\n{new}\n{END}{tail}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m mmworkload.generation.page")
    parser.add_argument("page", type=Path)
    parser.add_argument("--launch-us", type=float, default=LAUNCH_US)
    given = parser.parse_args(arguments)
    plain = generation(MODEL, dtype=DTYPE)
    skipping = generation(f"{MODEL}-layerskip", dtype=DTYPE)
    archs = [architectures.load(name, DTYPE) for name in ARCHS]
    write_atomic(given.page, written(given.page.read_text(), block(plain, skipping, archs, given.launch_us)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
