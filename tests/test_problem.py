"""Loop nests: exact sizes, one canonical form, lossless text, masks, and what is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmworkload.errors import FormatError
from mmworkload.problem import LEGEND, Axis, Mask, Operand, Problem, axis, gemm

LETTERS = LEGEND + "XYZ"


def enumerated(problem: Problem, operand: Operand) -> tuple[int, int]:
    """(elements of the index range, elements inside the tensor that are touched), by running every loop."""
    names = [dim for dim, _ in problem.dims]
    touched = [set() for _ in operand.axes]
    for point in itertools.product(*(range(extent) for _, extent in problem.dims)):
        where = dict(zip(names, point, strict=True))
        for indices, item in zip(touched, operand.axes, strict=True):
            indices.add(sum(factor * where[dim] for dim, factor in item.terms))
    footprint, inside = 1, 1
    for indices, item in zip(touched, operand.axes, strict=True):
        footprint *= max(indices) - min(indices) + 1
        inside *= sum(0 <= index - item.pad_low < item.size for index in indices)
    return footprint, inside


# --- exact sizes ----------------------------------------------------------------------------------------------------


def test_a_gemm_has_exact_macs_sizes_and_bytes() -> None:
    problem = gemm(4, 5, 6, groups=3, bits=(8, 4, 32))
    assert problem.macs == problem.points == problem.useful_macs == 360
    sizes = {item.name: problem.tensor_size(item) for item in problem.operands}
    assert sizes == {"Inputs": 3 * 4 * 6, "Weights": 3 * 5 * 6, "Outputs": 3 * 4 * 5}
    assert [problem.footprint(item) for item in problem.operands] == [72, 90, 60]
    assert [problem.operand_bytes(item) for item in problem.operands] == [72, 45, 240]
    assert problem.output.name == "Outputs"
    assert problem.operand("Weights").role == "weight"
    assert gemm(1, 1, 1, second_role="input").operand("Weights").role == "input"


def test_bytes_of_a_tensor_are_packed_and_rounded_up_once() -> None:
    problem = gemm(1, 3, 3, bits=(1, 3, 4))
    assert [problem.operand_bytes(item) for item in problem.operands] == [1, 4, 2]


# (text, MACs, operand, footprint, tensor size). Every number by hand.
NESTS = {
    "resnet stem: stride 2, padding 3": (
        "mac M=64 C=3 P=112 Q=112 R=7 S=7 | Inputs input 32 [C:3, 2P+R:224~3,3, 2Q+S:224~3,3]"
        " | Weights weight 32 [M:64, C:3, R:7, S:7] | Outputs output 32 [M:64, P:112, Q:112]",
        64 * 3 * 112 * 112 * 49,
        "Inputs",
        3 * 229 * 229,
        3 * 224 * 224,
    ),
    "dilation 2 without padding leaves the border unread": (
        "mac P=4 R=3 | Inputs input 32 [P+2R:10] | Weights weight 32 [R:3] | Outputs output 32 [P:4]",
        12,
        "Inputs",
        8,
        10,
    ),
    "a 1x7 kernel with stride (1, 2)": (
        "mac P=5 Q=4 S=7 | Inputs input 8 [P:5, 2Q+S:13] | Weights weight 8 [S:7] | Outputs output 8 [P:5, Q:4]",
        140,
        "Inputs",
        5 * 13,
        5 * 13,
    ),
    "a stride that skips the last row": (
        "mac P=3 R=1 | Inputs input 32 [3P+R:9] | Weights weight 32 [R:1] | Outputs output 32 [P:3]",
        3,
        "Inputs",
        7,
        9,
    ),
    "transposed: the output is scattered and cropped, with output padding": (
        "mac P=4 Q=4 R=3 S=3 | Inputs input 32 [P:4, Q:4] | Weights weight 32 [R:3, S:3]"
        " | Outputs output 32 [2P+R:8~1,1, 2Q+S:8~1,1]",
        144,
        "Outputs",
        81,
        64,
    ),
    "asymmetric padding of an even kernel": (
        "mac Q=6 S=4 | Inputs input 32 [Q+S:6~1,2] | Weights weight 32 [S:4] | Outputs output 32 [Q:6]",
        24,
        "Inputs",
        9,
        6,
    ),
}


@pytest.mark.parametrize("name", NESTS)
def test_macs_footprint_and_tensor_size_of_a_convolution(name: str) -> None:
    text, macs, operand, footprint, size = NESTS[name]
    problem = Problem.parse(text)
    chosen = problem.operand(operand)
    assert (problem.macs, problem.footprint(chosen), problem.tensor_size(chosen)) == (macs, footprint, size)
    if problem.points < 10**4:
        assert enumerated(problem, chosen)[0] == footprint


@st.composite
def convolutions(draw: st.DrawFn) -> Problem:
    """One spatial axis of a convolution or of a transposed one, whose loops fit the padded tensor."""
    kernel, out = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    low, high, slack = draw(st.integers(0, 3)), draw(st.integers(0, 3)), draw(st.integers(0, 2))
    extent = stride * (out - 1) + dilation * (kernel - 1) + 1
    size = max(1, extent + slack - low - high)
    affine, plain = Axis((("P", stride), ("R", dilation)), size, low, high), axis("P", out)
    scattered = draw(st.booleans())
    return Problem(
        (("P", out), ("R", kernel)),
        (
            Operand("Inputs", "input", 8, (plain if scattered else affine,)),
            Operand("Weights", "weight", 8, (axis("R", kernel),)),
            Operand("Outputs", "output", 8, (affine if scattered else plain,)),
        ),
    )


@settings(max_examples=80, deadline=None)
@given(convolutions())
def test_the_footprint_is_the_index_range_that_the_loops_run_over(problem: Problem) -> None:
    for operand in problem.operands:
        footprint, inside = enumerated(problem, operand)
        assert problem.footprint(operand) == footprint
        assert inside <= problem.tensor_size(operand)


# --- one form -------------------------------------------------------------------------------------------------------


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    letters = draw(st.lists(st.sampled_from(LETTERS), min_size=1, max_size=5, unique=True))
    extents = {letter: draw(st.integers(1, 4)) for letter in letters}

    def operand(name: str, role: str) -> Operand:
        axes = []
        for _ in range(draw(st.integers(0, 3))):
            chosen = draw(st.lists(st.sampled_from(letters), min_size=0, max_size=2, unique=True))
            item = Axis(tuple((letter, draw(st.integers(1, 3))) for letter in chosen), 1)
            low, high, slack = (draw(st.integers(0, 2)) for _ in range(3))
            axes.append(Axis(item.terms, max(1, item.extent(extents) - low - high + slack), low, high))
        return Operand(name, role, draw(st.sampled_from([1, 8, 16, 32])), tuple(axes))

    operands = [operand("Inputs", "input"), operand("Weights", draw(st.sampled_from(["weight", "input"])))]
    operands.append(operand("Outputs", "output"))
    mask = None
    if draw(st.booleans()):
        rows, columns = extents[letters[0]], extents[letters[-1]] if len(letters) > 1 else 1
        mask = Mask(draw(st.sampled_from(["causal", "window"])), rows, columns, draw(st.integers(-2, 2)), 2)
    operation = draw(st.sampled_from(["mac", "mul", "max"]))
    return Problem(tuple(extents.items()), tuple(operands), operation, mask)


@st.composite
def rewritten(draw: st.DrawFn, problem: Problem) -> Problem:
    """The same problem with dimensions, operands, axes and terms in another order, and a unit dimension more."""
    operands = []
    free = [letter for letter in LETTERS if letter not in problem.extents]
    unit = draw(st.sampled_from(free))
    for operand in draw(st.permutations(problem.operands)):
        axes = [
            Axis(tuple(draw(st.permutations(item.terms))), item.size, item.pad_low, item.pad_high)
            for item in draw(st.permutations(operand.axes))
        ]
        if draw(st.booleans()):
            axes.insert(draw(st.integers(0, len(axes))), axis(unit, 1))
        operands.append(Operand(operand.name, operand.role, operand.bits, tuple(axes)))
    dims = tuple(draw(st.permutations([*problem.dims, (unit, 1)])))
    return Problem(dims, tuple(operands), problem.operation, problem.mask)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_canonical_form_ignores_order_and_unit_dimensions(data: st.DataObject) -> None:
    problem = data.draw(problems())
    other = data.draw(rewritten(problem))
    canonical = problem.canonical()
    assert other.canonical() == canonical
    assert other.key == problem.key
    assert canonical.canonical() == canonical
    assert canonical.key == problem.key
    assert all(extent > 1 for _, extent in canonical.dims)


@settings(max_examples=150, deadline=None)
@given(problems())
def test_the_canonical_form_computes_the_same(problem: Problem) -> None:
    canonical = problem.canonical()
    assert (canonical.macs, canonical.useful_macs) == (problem.macs, problem.useful_macs)
    for operand in problem.operands:
        same = canonical.operand(operand.name)
        assert (same.role, same.bits) == (operand.role, operand.bits)
        assert canonical.footprint(same) == problem.footprint(operand)
        assert canonical.tensor_size(same) == problem.tensor_size(operand)


@settings(max_examples=150, deadline=None)
@given(problems(), problems())
def test_keys_are_equal_exactly_when_canonical_forms_are(first: Problem, second: Problem) -> None:
    assert (first.key == second.key) == (first.canonical() == second.canonical())


BASE = "mac N=2 M=3 C=4 | Inputs input 32 [N:2, C:4] | Weights weight 32 [M:3, C:4] | Outputs output 32 [N:2, M:3]"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("N=2", "N=1"),
        ("mac", "mul"),
        ("Inputs input 32", "Inputs input 16"),
        ("Weights weight", "Weights input"),
        ("[N:2, C:4]", "[N:3, C:4]"),
        ("[N:2, C:4]", "[N:2~0,1, C:4]"),
        ("[N:2, C:4]", "[2N:3, C:4]"),
    ],
)
def test_what_changes_the_work_changes_the_key(old: str, new: str) -> None:
    assert Problem.parse(BASE.replace(old, new, 1)).key != Problem.parse(BASE).key


def test_a_key_is_the_same_in_every_process() -> None:
    assert Problem.parse(BASE).key == "9f648891d9a529d9"
    assert str(Problem.parse(BASE).canonical()) == BASE


@settings(max_examples=150, deadline=None)
@given(problems())
def test_text_and_back_is_the_identity(problem: Problem) -> None:
    assert Problem.parse(str(problem)) == problem


@settings(max_examples=50, deadline=None)
@given(problems(), st.fixed_dictionaries({}, optional={"input": st.integers(1, 64), "weight": st.integers(1, 64)}))
def test_other_bits_leave_the_loops(problem: Problem, bits: dict) -> None:
    changed = problem.with_bits(bits)
    assert [item.bits for item in changed.operands] == [bits.get(item.role, item.bits) for item in problem.operands]
    assert changed.dims == problem.dims
    assert changed.macs == problem.macs


# --- masks ----------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["causal", "window"]),
    st.integers(1, 8),
    st.integers(1, 8),
    st.integers(-4, 6),
    st.integers(1, 6),
)
def test_a_mask_allows_the_pairs_that_its_definition_allows(
    kind: str, rows: int, columns: int, offset: int, window: int
) -> None:
    allowed = 0
    for i, j in itertools.product(range(rows), range(columns)):
        seen = j <= i + offset
        if kind == "window":
            seen = seen and j > i + offset - window
        allowed += seen
    assert Mask(kind, rows, columns, offset, window).allowed == allowed


@pytest.mark.parametrize(
    ("mask", "allowed"),
    [
        (Mask("causal", 10**9, 10**9), 10**9 * (10**9 + 1) // 2),
        (Mask("causal", 10**9, 2 * 10**9, offset=10**9), 10**9 * (10**9 + 1) // 2 + 10**18),
        (Mask("window", 10**9, 10**9, window=3), 1 + 2 + 3 * (10**9 - 2)),
        (Mask("causal", 10**9, 10**9, offset=-(10**9)), 0),
    ],
)
def test_a_mask_of_a_billion_rows_is_counted_in_closed_form(mask: Mask, allowed: int) -> None:
    assert mask.allowed == allowed


def test_useful_macs_are_the_share_under_the_mask() -> None:
    causal = gemm(4, 4, 16, groups=3, mask=Mask("causal", 4, 4))
    assert (causal.macs, causal.useful_macs) == (768, 768 // 16 * 10)
    # One new token after 7 cached ones sees all 8.
    decode = gemm(1, 8, 16, mask=Mask("causal", 1, 8, offset=7))
    assert (decode.macs, decode.useful_macs) == (128, 128)
    window = gemm(8, 8, 2, mask=Mask("window", 8, 8, window=3))
    assert (window.macs, window.useful_macs) == (128, 2 * (1 + 2 + 3 * 6))
    # Four query heads on one key head: every head has its own triangle.
    shared = gemm(4 * 4, 4, 16, mask=Mask("causal", 4, 4))
    assert (shared.macs, shared.useful_macs) == (1024, 640)


def test_a_mask_survives_the_canonical_form_and_decides_the_key() -> None:
    masked = gemm(4, 4, 16, mask=Mask("causal", 4, 4))
    assert masked.canonical().mask == Mask("causal", 4, 4)
    assert masked.key != gemm(4, 4, 16).key
    assert masked.key != gemm(4, 4, 16, mask=Mask("causal", 4, 4, offset=1)).key


# --- refusals -------------------------------------------------------------------------------------------------------

REFUSED = {
    "": "is not a problem",
    " | Inputs input 8 []": "is not a problem",
    BASE.replace("N=2", "N=two"): "'N=two' is not a dimension",
    BASE.replace("N=2", "N=0"): "the extent of N is 0",
    BASE.replace("N=2", "NN=2"): "'NN' is not a dimension",
    BASE.replace("M=3", "M=3 M=3"): "a dimension is declared twice",
    BASE.replace("Outputs output", "Outputs input"): "exactly one output",
    BASE.replace("Inputs input", "Inputs output"): "exactly one output",
    BASE.replace("Weights weight", "Inputs weight"): "two operands have one name",
    BASE.replace("Weights weight", "Weights bias"): "is not an operand",
    BASE.replace("input 32", "input 0"): "0 bits",
    BASE.replace("[N:2, C:4]", "[N:2, K:4]"): "names an undeclared dimension",
    BASE.replace("[N:2, C:4]", "[N:2, 0C:4]"): "names an undeclared dimension",
    BASE.replace("[N:2, C:4]", "[N:2, C+C:9]"): "names a dimension twice",
    BASE.replace("[N:2, C:4]", "[N:2, C:3]"): "is left by the loops",
    BASE.replace("[N:2, C:4]", "[N:2, C]"): "is not an axis",
    BASE.replace("[N:2, C:4]", "[N:2, C*2:4]"): "is not a term",
    BASE.replace("[N:2, C:4]", "N:2"): "is not an operand",
    BASE + " | causal(2, 3)": "is not a mask",
    BASE + " | causal(2,, 3, 0)": "is not a mask",
    BASE + " | sliding(2, 3, 0, 0)": "does not fit",
    BASE + " | causal(5, 3, 0, 0)": "does not fit",
    BASE + " | causal(0, 3, 0, 0)": "does not fit",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_problem_that_makes_no_sense_is_refused_with_its_reason(text: str) -> None:
    with pytest.raises(FormatError, match=REFUSED[text]):
        Problem.parse(text)


def test_names_that_the_text_could_not_hold_are_refused() -> None:
    with pytest.raises(FormatError, match="'a b' is not a name"):
        Problem((("N", 1),), (Operand("a b", "output", 8, ()),))
    with pytest.raises(FormatError, match="'multiply add' is not a name"):
        Problem((("N", 1),), (Operand("a", "output", 8, ()),), "multiply add")
    with pytest.raises(FormatError, match="extents are integers"):
        Problem((("N", 2.0),), (Operand("a", "output", 8, ()),))


def test_an_unknown_operand_is_refused_with_those_there_are() -> None:
    with pytest.raises(FormatError, match=r"no operand 'Bias'; it has \['Inputs', 'Weights', 'Outputs'\]"):
        gemm(1, 1, 1).operand("Bias")
