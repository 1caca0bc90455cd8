"""How many different values sums of multiples take, without going through them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from mmworkload.errors import FormatError

_MOST_BITS = 1 << 27
"""Values that are gone through where no closed form is known: one bit each, 16 MiB."""

Term = tuple[int, int]


def distinct_sums(terms: Iterable[Term], low: int = 0, high: int | None = None) -> int:
    """How many values from ``low`` up to but not ``high`` the sum of ``coefficient * i`` takes, each ``i`` from 0 up to
    but not the extent of its (coefficient, extent).

    The time does not depend on the extents::

        distinct_sums([(2, 112), (1, 3)]) == 225  # the rows that a window of 3 with stride 2 reads
        distinct_sums([(2, 112), (1, 3)], 1, 225) == 224  # the same without a row of padding

    Raises FormatError for three or more terms whose values overlap with gaps between them, when they reach further than
    2^27: these are counted one by one.
    """
    return _count(_merged(terms), low, high)


def _merged(terms: Iterable[Term]) -> list[Term]:
    """The same values with fewer terms, smallest coefficient first: steps that follow each other without a gap are one
    longer row of steps."""
    merged: list[Term] = []
    for coefficient, extent in sorted(term for term in terms if term[1] > 1):
        for place, (step, steps) in enumerate(merged):
            times, rest = divmod(coefficient, step)
            if not rest and times <= steps:
                merged[place] = (step, steps + times * (extent - 1))
                break
        else:
            merged.append((coefficient, extent))
    return merged


def _count(terms: list[Term], low: int, high: int | None) -> int:
    span = sum(coefficient * (extent - 1) for coefficient, extent in terms)
    low = max(low, 0)
    high = span + 1 if high is None else min(high, span + 1)
    if low >= high:
        return 0
    if not terms:
        return 1
    divisor = math.gcd(*(coefficient for coefficient, _ in terms))
    if divisor > 1:
        smaller = [(coefficient // divisor, extent) for coefficient, extent in terms]
        return _count(smaller, -(-low // divisor), -(-high // divisor))
    *rest, (largest, extent) = terms
    if largest > span - largest * (extent - 1):
        return _blocks(rest, largest, extent, low, high if high <= span else None)
    if len(terms) == 2:
        return _pairs(terms[0], terms[1], high) - _pairs(terms[0], terms[1], low)
    return _one_by_one(terms, low, high)


def _blocks(terms: list[Term], step: int, copies: int, low: int, high: int | None) -> int:
    """Copies of the values of ``terms`` that lie ``step`` apart and do not overlap."""
    if low == 0 and high is None:
        return copies * _count(terms, 0, None)
    first, last = low // step, copies - 1 if high is None else (high - 1) // step
    end = None if high is None else high - step * last
    if first == last:
        return _count(terms, low - step * first, end)
    between = (last - first - 1) * _count(terms, 0, None)
    return _count(terms, low - step * first, None) + between + _count(terms, 0, end)


def _pairs(first: Term, second: Term, below: int) -> int:
    """Values of two terms with coefficients without a common divisor, below a bound.

    ``(i, j)`` and ``(i - b, j + a)`` have the same sum ``a*i + b*j``, and no others do. Of those with one sum the one
    with the smallest ``i`` counts: all with ``i < b``, and beyond these the ones with the last ``a`` values of ``j``.
    """
    (a, m), (b, n) = first, second
    found = _points(a, b, min(m, b), n, below)
    if m > b:
        found += _points(a, b, m - b, min(n, a), below - a * b - b * max(0, n - a))
    return found


def _points(a: int, b: int, m: int, n: int, below: int) -> int:
    """Pairs ``i < m``, ``j < n`` with ``a*i + b*j`` below a bound: those of the whole quadrant, less what is beyond."""
    return (
        _quadrant(a, b, below)
        - _quadrant(a, b, below - a * m)
        - _quadrant(a, b, below - b * n)
        + _quadrant(a, b, below - a * m - b * n)
    )


def _quadrant(a: int, b: int, below: int) -> int:
    if below <= 0:
        return 0
    rows = (below - 1) // a + 1
    return rows + _sum_of_floors(rows, b, a, below - 1 - a * (rows - 1))


def _sum_of_floors(count: int, divisor: int, factor: int, offset: int) -> int:
    """The sum of ``(factor * i + offset) // divisor`` over ``i < count``, by Euclid's algorithm."""
    total = 0
    while True:
        total += count * (count - 1) // 2 * (factor // divisor) + count * (offset // divisor)
        factor, offset = factor % divisor, offset % divisor
        top = factor * count + offset
        if top < divisor:
            return total
        # What is left are the lattice points below a line; they are counted by rows instead of columns.
        count, offset = divmod(top, divisor)
        divisor, factor = factor, divisor


def _one_by_one(terms: list[Term], low: int, high: int) -> int:
    """The values are the set bits of one integer."""
    if high > _MOST_BITS:
        sums = " + ".join(f"{coefficient}*(0..{extent - 1})" for coefficient, extent in terms)
        raise FormatError(f"the different values of {sums} are counted up to 2^27 only, and they reach further")
    reached, inside = 1, (1 << high) - 1
    for coefficient, extent in terms:
        copies = 1
        while copies < extent and coefficient * copies < high:
            step = min(copies, extent - copies)
            reached |= (reached << (coefficient * step)) & inside
            copies += step
    return (reached >> low).bit_count()
