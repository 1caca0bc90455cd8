"""Numbers for readers: three significant digits, SI prefixes, and a dash where there is no number."""

from __future__ import annotations

GAP = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"
_PREFIXES = {-5: "f", -4: "p", -3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T", 5: "P", 6: "E"}


def si(value: float | None, unit: str = "") -> str:
    """``si(11_503_104, "MAC")`` is ``11.5 MMAC``, ``si(2.5e-5, "s")`` is ``25.0 µs``.

    Integers below 1000 keep all their digits and no more. Beyond femto and exa the number is written with an exponent.
    """
    if value is None:
        return GAP
    if value == 0 or (isinstance(value, int) and abs(value) < 1000):
        return _join(f"{value:.0f}", unit)
    # Rounding first decides the prefix: 999.7 is 1.00 k, not 1000.
    digits, exponent = f"{value:.2e}".split("e")
    thousands, within = divmod(int(exponent), 3)
    if thousands not in _PREFIXES:
        return _join(f"{value:.2e}", unit)
    number = f"{float(digits) * 10**within:.{2 - within}f}"
    return _join(number, _PREFIXES[thousands] + unit)


def share(value: float | None) -> str:
    """A fraction of one as a percentage: ``12.3 %``; what is above zero and rounds to it is ``<0.1 %``."""
    if value is None:
        return GAP
    return "<0.1 %" if 0 < value < 0.0005 else f"{100 * value:.1f} %"


def times(value: float | None) -> str:
    """A ratio: ``0.0123×``, ``4.09×``, ``12.3×``, ``1,230×``."""
    if value is None:
        return GAP
    if value == 0:
        return f"0{TIMES}"
    digits, exponent = f"{value:.2e}".split("e")
    rounded = float(digits) * 10 ** int(exponent)
    return f"{rounded:,.{max(0, 2 - int(exponent))}f}{TIMES}"


def coefficient(value: float | None) -> str:
    """A correlation coefficient: ``0.87``."""
    return GAP if value is None else f"{value:.2f}"


def plural(count: int, noun: str) -> str:
    """``1 layer``, ``2 layers``, ``1,200 layers``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def kernel_noun(device: str) -> str:
    """What the time of a layer is summed over: the kernels of a GPU, the operators of a CPU."""
    return "operator" if device == "cpu" else "kernel"


def binary(size: int) -> str:
    """Bytes in the units of memory: ``12 B``, ``1.5 KiB``, ``80 GiB``."""
    value, units = float(size), iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while value >= 1024 and unit != "TiB":
        value, unit = value / 1024, next(units)
    return f"{value:.4g} {unit}"


def _join(number: str, unit: str) -> str:
    return f"{number} {unit}" if unit else number
