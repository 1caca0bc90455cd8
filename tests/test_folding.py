"""Folding lines: exact for any lines, readable for blocks that repeat, and bounded for any text."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmworkload import folding
from mmworkload.errors import FormatError
from mmworkload.folding import fold, unfold

STACK = [
    "stem conv <- image",
    "block.0.norm layer_norm of a longer line <- stem",
    "block.0.linear linear of a longer line <- block.0.norm",
    *(
        line
        for k in range(1, 12)
        for line in (
            f"block.{k}.norm layer_norm of a longer line <- block.{k - 1}.linear",
            f"block.{k}.linear linear of a longer line <- block.{k}.norm",
        )
    ),
    "head linear <- block.11.linear",
]


# --- what it looks like ---------------------------------------------------------------------------------------------


def test_the_text_in_the_module_stands_for_the_lines_beside_it() -> None:
    document = folding.__doc__ or ""
    table = [line[4:] for line in document.splitlines() if line.startswith("    ")]
    lines, folded = [line[:40].rstrip() for line in table], [line[40:] for line in table if line[40:]]
    assert len(lines) == 5
    assert unfold(folded) == lines


def test_a_stack_of_blocks_is_one_block_with_a_count_and_its_irregular_beginning() -> None:
    assert fold(STACK) == [
        "stem conv <- image",
        "block.0.norm layer_norm of a longer line <- stem",
        "block.0.linear linear of a longer line <- block.0.norm",
        "repeat 11:",
        "  block.{1+1}.norm layer_norm of a longer line <- block.{0+1}.linear",
        "  block.{1+1}.linear linear of a longer line <- block.{1+1}.norm",
        "head linear <- block.11.linear",
    ]


def test_blocks_inside_of_blocks_have_a_step_for_each_repeat() -> None:
    lines = [
        f"stage.{i}.block.{j} is number {5 * i + j} of all, width {64 - 8 * i}" for i in range(4) for j in range(5)
    ]
    assert fold(lines) == [
        "repeat 4:",
        "  repeat 5:",
        "    stage.{0+1+0}.block.{0+0+1} is number {0+5+1} of all, width {64-8+0}",
    ]
    assert unfold(fold(lines)) == lines


def test_words_that_count_on_are_a_range_whose_ends_may_advance() -> None:
    lines = [
        f"dense.{k} cat of all the layers that came before it <- {' '.join(f'dense.{i}:out' for i in range(k))}"
        for k in range(3, 9)
    ]
    assert fold(lines) == [
        "repeat 6:",
        "  dense.{3+1} cat of all the layers that came before it <- dense.{0..2+1}:out",
    ]
    assert fold(["a 1x 2x 3x 5x 6x b7 b8 b9 9 10"]) == ["a {1..3}x 5x 6x b{7..9} 9 10"]


def test_what_two_blocks_differ_in_is_a_rule_only_where_it_is_little() -> None:
    few = [f"layer.{k} with a long description that does not change at all, really not <- x" for k in (1, 2)]
    assert fold(few * 1) == few
    assert fold([f"{line} and even more of it to make it worth while" for line in few])[0] == "repeat 2:"
    many = [
        f"conv {c} {2 * c} kernel {k} {k} image {s} {s} to {s // k} {s // k}" for c, k, s in ((3, 7, 224), (64, 3, 56))
    ]
    assert fold(many) == many


def test_blocks_that_repeat_without_a_constant_step_stay() -> None:
    lines = [f"layer of some length {k * k} and of some more length" for k in range(6)]
    assert fold(lines) == lines


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("", "\\"),
        ("  indented", "\\  indented"),
        ("\\", "\\\\"),
        ("repeat 3:", "\\repeat 3:"),
        ("{1+1} and {", "{{1+1} and {{"),
        ("}007", "}007"),
        ("a  b ", "a  b "),
        ("1.50e-07 -3", "1.50e-07 -3"),
    ],
)
def test_lines_that_look_like_something_else_are_told_apart(line: str, text: str) -> None:
    assert fold([line]) == [text]
    assert unfold([text]) == [line]


def test_integers_come_back_as_they_were_written() -> None:
    for numbers in (
        ["08", "09", "10"],
        ["7", "08", "9"],
        [str(10**18 - 1), str(10**18), "1" + 5000 * "0"],
        ["\u0663", "\u0664", "\u0665"],
    ):
        lines = [f"a line that is long enough to be folded, if it can be folded: {number}" for number in numbers]
        assert unfold(fold(lines)) == lines
    down = [f"a line that is long enough to be folded, if it can be folded: {number}" for number in (9, 6, 3, 0)]
    assert fold(down) == ["repeat 4:", "  a line that is long enough to be folded, if it can be folded: {9-3}"]


# --- exact for any lines --------------------------------------------------------------------------------------------

WORDS = st.one_of(
    st.text(max_size=4),
    st.builds(
        "{}{}{}".format, st.sampled_from(["", "a", "{", "x.", "{{"]), st.integers(0, 12), st.sampled_from("} x+.")
    ),
    st.sampled_from(["repeat", "3:", "\\", "{1+1}", "{0..3}", "007"]),
)
LINES = st.lists(WORDS, max_size=6).map(" ".join).filter(lambda line: "\n" not in line)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, max_size=6))
def test_unfolding_gives_any_lines_back(lines: list[str]) -> None:
    folded = fold(lines)
    assert unfold(folded) == lines
    assert ("\n".join(folded).split("\n") if folded else []) == folded


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=4), st.integers(2, 6), st.integers(-3, 9), LINES, st.integers(1, 3))
def test_unfolding_gives_blocks_back_that_repeat_with_steps(
    block: list[str], count: int, step: int, last: str, times: int
) -> None:
    padding = " and so much more that it is worth while to fold it, even for two blocks alone, which costs more"

    def advanced(line: str, by: int) -> str:
        return re.sub("[0-9]{1,4}", lambda match: str(max(0, int(match[0]) + by)), line) + padding

    lines = [advanced(line, k * step) for k in range(count) for line in block] + [last]
    lines = [advanced(line, k) for k in range(times) for line in lines]
    folded = fold(lines)
    assert unfold(folded) == lines
    assert fold(lines) == folded


def test_three_thousand_lines_of_any_kind_are_folded_and_come_back() -> None:
    chance = random.Random(0)
    cases = {
        "a network": [
            f"encoder.{k // 16}.part{k % 16} linear p{k % 5} <- encoder.{(k - 1) // 16}.part{(k - 1) % 16} [{k % 7},8]"
            for k in range(3000)
        ],
        "one kind of line": [
            f"layer of many {chance.randrange(99)} steps {chance.randrange(9)} at" for _ in range(3000)
        ],
        "two kinds": [f"{chance.choice('ab')} layer of many {chance.randrange(9)} steps" for _ in range(3000)],
        "one step": [f"layer {k}" for k in range(3000)],
    }
    for name, lines in cases.items():
        assert unfold(fold(lines)) == lines, name


# --- what is no folded text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n  b", "line 11: '  b' is empty, or not indented"),
        ("repeat 2:\n   b", "line 11: '   b' is empty, or not indented"),
        ("repeat 2:\n    b", "line 11: '    b' is empty, or not indented"),
        ("repeat 2:\nb", "line 11: 'b' is empty, or not indented"),
        ("repeat 2:\n  repeat 2:\nb", "line 12: 'b' is empty, or not indented"),
        ("repeat 2:", "ends after line 10, a repeat of nothing"),
        ("a\n\nb", "line 11: '' is empty, or not indented as its place needs"),
        ("repeat many:\n  a", "line 10: 'repeat many:' is not like 'repeat 12:'"),
        ("repeat 0:\n  a", "line 10: 'repeat 0:' is not like"),
        ("repeat 2:\n  repeat 2:\n    repeat 2:\n      a", "line 12: more than 2 repeats inside of each other"),
        ("a {x}", r"line 10: '\{x\}': a brace is not a number with steps like \{5\+2\}"),
        ("a {5", "line 10: '{5': a brace"),
        ("a {5+1}", r"line 10: '5\+1' has 1 steps inside of 0 repeats"),
        ("repeat 2:\n  a {5+1+1}", r"line 11: '5\+1\+1' has 2 steps inside of 1 repeats"),
        ("repeat 3:\n  a {1-1}", "line 11: a step leads below zero, to -1"),
        ("a {1..3}{1..3}", "line 10: '{1..3}{1..3}' has two ranges in one word"),
        ("a {3..1}", "line 10: the range 3..1 is empty or too long"),
        ("a {0..999999999}", "line 10: the range 0..999999999 is empty or too long"),
        ("repeat 999999999:\n  a", "line 11: the text stands for more than 1000000 characters"),
        ("repeat 999999999:\n  repeat 999999999:\n    a", "line 12: the text stands for more"),
        ("repeat 999999999:\n  a {0..9999}", "line 11: the text stands for more"),
    ],
)
def test_a_text_that_makes_no_sense_or_explodes_is_an_error_that_names_the_line(
    text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "MAX_SIZE", 1_000_000)
    with pytest.raises(FormatError, match=message):
        unfold(text.split("\n"), first=10)


def test_the_limit_is_far_above_any_network_and_far_below_the_memory() -> None:
    assert len(unfold(["repeat 20000:", f"  {'x' * 300}"])) == 20000
    with pytest.raises(FormatError, match="line 2: the text stands for more than 16000000 characters"):
        unfold(["repeat 60000:", f"  {'x' * 300}"])


def test_more_lines_than_can_be_unfolded_are_not_folded() -> None:
    with pytest.raises(FormatError, match="1000000 lines are too many to fold"):
        fold(["x"] * 1_000_000)
