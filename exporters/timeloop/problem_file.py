"""``problems/<name>.yaml``: one problem in Timeloop's v0.4 form.

Every problem has the three data spaces Weights, Inputs and Outputs over one set of dimensions, so that one shared
architecture fits all of them. Terms with a coefficient name it (``[P, Hstride]``): Timeloop has no literals there.
"""

from __future__ import annotations

from collections.abc import Iterable

from mmworkload.exporters.timeloop.terms import DEPTH_DIMS, DIMS, ROLES
from mmworkload.exporters.timeloop.yaml_text import comment, mapping, sequence, words
from mmworkload.problem import LEGEND, Operand, Problem

# Loop bounds are 32-bit in Timeloop; totals are not.
_MAX_EXTENT = 2**31 - 1
_COEFFICIENTS = {"P": "Hstride", "Q": "Wstride", "O": "Dstride", "R": "Hdilation", "S": "Wdilation", "T": "Ddilation"}
# Where a dimension of extent 1 stands by convention. It changes no index, but whoever edits an extent finds it there.
_USUAL = {"Weights": "GMCTRS", "Inputs": "NGCOPQTRS", "Outputs": "NGMOPQ"}
_PARTNER = {"O": "T", "P": "R", "Q": "S", "T": "O", "R": "P", "S": "Q"}

Rank = list[tuple[str, int]]


def dimensions(problem: Problem) -> list[str]:
    """The dimensions that the file declares: the common set, depth where there is one, letters of an einsum last."""
    used = _used(problem)
    dims = list(DIMS)
    if used.intersection(DEPTH_DIMS):
        dims += DEPTH_DIMS
    return dims + sorted(used.difference(dims))


def refusal(problem: Problem) -> str:
    """Why Timeloop cannot be told ``problem``, or an empty string when it can."""
    if problem.operation not in ("mac", "mul"):
        return f"the operation '{problem.operation}' is not a multiply-accumulate"
    names = sorted(operand.name for operand in problem.operands)
    if names != sorted(ROLES):
        return f"the operands are {', '.join(names)}; the architecture has paths for {', '.join(sorted(ROLES))}"
    if problem.output.name != "Outputs":
        return f"the output is called {problem.output.name}"
    large = [f"{dim}={extent}" for dim, extent in problem.dims if extent > _MAX_EXTENT]
    if large:
        return f"{', '.join(large)}: Timeloop's loop bounds are 32-bit integers"
    indexed = frozenset().union(*(operand.dims for operand in problem.operands))
    idle = [dim for dim, extent in problem.dims if extent > 1 and dim not in indexed]
    if idle:
        return f"no operand has the dimension {', '.join(idle)}: Timeloop would count one step's data as reused"
    scalars = [operand.name for operand in problem.operands if not _ranks(problem, operand)]
    if scalars:
        return f"{', '.join(scalars)} has no dimension"
    return ""


def kind(problem: Problem) -> str:
    """A readable word for file names: ``conv2d``, ``transposed_conv2d``, ``gemm``, ``batched_gemm``, ``outer``."""
    used = _used(problem)
    windows = sum(bool(used.intersection(pair)) for pair in ("OT", "PR", "QS"))
    if windows:
        scattered = any(len(item.terms) > 1 or any(k > 1 for _, k in item.terms) for item in problem.output.axes)
        return f"{'transposed_' if scattered else ''}conv{windows}d"
    if problem.operation == "mul":
        return "outer"
    return "batched_gemm" if "G" in used else "gemm"


def problem_name(problem: Problem) -> str:
    """Readable and stable: it depends on the problem alone."""
    return f"{kind(problem)}_{problem.key}"


def problem_text(problem: Problem) -> str:
    """The content of a problem file without its header; ``problem`` must not be refused."""
    dims = dimensions(problem)
    ordered = [problem.operand(name) for name in ROLES]
    ranks = {operand.name: _ranks(problem, operand) for operand in ordered}
    names = _coefficient_names(ranks.values())
    values = {name: value for (_, value), name in names.items()}
    lines = ["problem:", "  version: 0.4", "  shape:", f"    name: {kind(problem)}"]
    lines.append(f"    dimensions: {sequence(words(dims))}")
    if names:
        lines.append("    coefficients:")
        lines += [f"    - {mapping({'name': words([name])[0], 'default': 1})}" for name in values]
    lines.append("    data_spaces:")
    for operand in ordered:
        terms = [
            [words([dim, names[dim, value]] if value > 1 else [dim]) for dim, value in rank]
            for rank in ranks[operand.name]
        ]
        lines += [f"    - name: {operand.name}", f"      projection: {sequence(terms)}"]
        if operand.role == "output":
            lines.append("      read_write: True")
    instance = {dim: problem.extents.get(dim, 1) for dim in dims}
    lines.append(f"  instance: {mapping({**instance, **values})}")
    return "\n".join(lines) + "\n"


def describe(problem: Problem, users: Iterable[str]) -> str:
    """Comment lines: the layers that run the problem, its shape, true tensor sizes and what Timeloop should report."""
    layers = list(users)
    shown = ", ".join(layers[:4]) + (f" and {len(layers) - 4} more" if len(layers) > 4 else "")
    lines = [f"layers ({len(layers)}): {shown}", f"shape: {problem}"]
    for name in ROLES:
        operand = problem.operand(name)
        lines.append(
            f"{name}: {problem.tensor_size(operand)} elements; Timeloop's index range, padding included: "
            f"{problem.footprint(operand)}"
        )
    lines.append(f"multiply-accumulates: {problem.macs}")
    if problem.mask:
        lines.append(f"mask {problem.mask}: cannot be told; all are counted, {problem.useful_macs} of them are useful")
    lines.append("Bits in the shape are those of the traced tensors; Timeloop counts words of the architecture's size.")
    return comment(lines)


def _used(problem: Problem) -> set[str]:
    return {dim for dim, extent in problem.dims if extent > 1}


def _ranks(problem: Problem, operand: Operand) -> list[Rank]:
    """The operand's axes as lists of (dimension, coefficient), unit dimensions at their usual places."""
    extents = problem.extents
    ranks: list[Rank] = [[term for term in item.terms if extents[term[0]] > 1] for item in operand.axes]
    ranks = [rank for rank in ranks if rank]
    declared = dimensions(problem)
    for dim in _USUAL[operand.name]:
        if extents.get(dim, 1) > 1 or dim not in declared:
            continue
        window = next((rank for rank in ranks if any(other == _PARTNER.get(dim) for other, _ in rank)), None)
        if window is not None and operand.name != "Weights":
            window.append((dim, 1))
        else:
            ranks.append([(dim, 1)])
    return sorted(ranks, key=lambda rank: min(_place(dim) for dim, _ in rank))


def _place(dim: str) -> tuple[int, str]:
    return (LEGEND.index(dim), "") if dim in LEGEND else (len(LEGEND), dim)


def _coefficient_names(tensors: Iterable[list[Rank]]) -> dict[tuple[str, int], str]:
    """A name for each (dimension, coefficient above 1), in order of first use.

    A dimension with two coefficients (in two tensors) has a numbered second name.
    """
    names: dict[tuple[str, int], str] = {}
    for ranks in tensors:
        for dim, value in (term for rank in ranks for term in rank):
            if value > 1 and (dim, value) not in names:
                before = sum(other == dim for other, _ in names)
                base = _COEFFICIENTS.get(dim, f"{dim}scale")
                names[dim, value] = base if not before else f"{base}{before + 1}"
    return names
