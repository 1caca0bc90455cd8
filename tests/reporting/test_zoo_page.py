"""The page of all workloads: what it says of each, and that the one that is committed is up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmworkload.graph import InputInfo, StageTotals
from mmworkload.models import Family, Parameter, Variant, families
from mmworkload.reporting.sizes import Sizes, Totals
from mmworkload.reporting.units import GAP, TIMES
from mmworkload.reporting.zoo_page import page

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def stage(macs: int, params: int) -> StageTotals:
    return StageTotals(1, macs, macs, 0, params, 4 * params, 10, 0)


def variant(name: str, **more: Any) -> Variant:
    given: dict[str, Any] = {
        "source": f"the source of {name}",
        "build": lambda: None,
        "inputs": lambda batch: (),
        **more,
    }
    return Variant(name=name, **given)


TOKENS = Parameter(64, "length of the text", high=512)
FAMILY = Family(
    description="a toy | with two networks",
    dataset="Toys_ [sic] (nobody, 2020)",
    dataset_url="https://example.org/toys",
    default_batch=8,
    variants=(
        variant(
            "joint", aliases=("slf",), notes="A note.", stand_ins=("one for another",), parameters={"tokens": TOKENS}
        ),
        variant(
            "other",
            notes="A note.",
            parameters={"tokens": TOKENS, "drop": Parameter((), "out", choices=("a",), several=True)},
        ),
        variant("unknown", preprocess=lambda: None, parameters={"tokens": Parameter(8, "length of the text", high=16)}),
    ),
)
SIZES = {
    "toy/joint": Sizes(
        8,
        Totals(1_234_567, 300),
        (InputInfo("ids", (8, 64), "int64", "text"), InputInfo("mask", (8, 64), "float32", "text", "mask")),
        {"encoder/text": stage(1_000_000, 200), "head": stage(234_567, 120)},
    ),
    "toy/other": Sizes(8, Totals(10, 5), (), {"fusion": stage(10, 5)}),
}


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return page({"toy": FAMILY}, SIZES.get).splitlines()


def row(lines: list[str], start: str, after: str = "# Workloads") -> list[str]:
    """The cells of the first row that begins so, below a heading."""
    line = next(line for line in lines[lines.index(after) :] if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").replace("\\|", "\0").split("|")]


@pytest.fixture(scope="module")
def fresh() -> str:
    return page(families())


def test_the_committed_page_is_what_the_workloads_say(fresh: str) -> None:
    assert (ROOT / "docs" / "workloads.md").read_text() == fresh, (
        "write it again: python -m mmworkload.reporting.zoo_page docs/workloads.md"
    )


def test_every_workload_and_variant_is_on_the_page(fresh: str) -> None:
    for name, family in families().items():
        assert f"\n## {name}\n" in fresh
        for item in family.variants:
            assert f"| `{name}/{item.name}`" in fresh
            for alias in item.aliases:
                assert f"`{alias}`" in fresh


def test_generations_have_what_they_run_and_their_levers(fresh: str, lines: list[str]) -> None:
    found = row(fresh.splitlines(), "`codellama/7b`", "### Generations of codellama")
    assert found[1:4] == ["", "`7b-prefill`, `7b-decode`", "`prompt=1024`, `steps=128`, `beams=1`, `layers=32`"]
    assert "`--set` also takes the levers `attention`, `weights`, `cache`." in fresh
    for name, family in families().items():
        assert [f"| `{name}/{item.name}` |" in fresh for item in family.generations] == [True] * len(family.generations)
    assert not any(line.startswith("### Generations") for line in lines)


def test_the_overview_has_the_default_and_its_sizes(lines: list[str]) -> None:
    assert "1 workload, 3 variants:" in lines
    assert row(lines, "[toy](#toy)") == [
        "[toy](#toy)",
        "a toy \0 with two networks",
        "text",
        "3",
        "`joint`",
        "1.23 M",
        "300",
    ]


def test_a_variant_has_its_names_inputs_and_source(lines: list[str]) -> None:
    assert row(lines, "`toy/joint`") == [
        "`toy/joint`, *stand-in*",
        "`slf`",
        f"ids 8{TIMES}64 int64, mask 8{TIMES}64 (mask)",
        "",
        "the source of joint",
    ]
    assert row(lines, "`toy/unknown`")[2:4] == [GAP, "yes"]


def test_the_data_set_is_a_link_and_marks_are_literal(lines: list[str]) -> None:
    assert "- Data set: [Toys\\_ \\[sic\\] (nobody, 2020)](https://example.org/toys)" in lines
    assert "- Batch: 8" in lines


def test_notes_and_stand_ins_are_said_once_with_their_variants(lines: list[str]) -> None:
    assert "- `joint`, `other`: A note." in lines
    assert "- `joint`: one for another" in lines


def test_parameters_that_differ_between_variants_have_rows_of_their_own(lines: list[str]) -> None:
    found = [line for line in lines if line.startswith("| `tokens`")]

    assert found == [
        "| `tokens` | `64` | 1 to 512 | length of the text | `joint`, `other` |",
        "| `tokens` | `8` | 1 to 16 | length of the text | `unknown` |",
    ]
    assert row(lines, "`drop`") == ["`drop`", "`none`", "any of a", "out", "`other`"]


def test_sizes_are_exact_and_by_stage(lines: list[str]) -> None:
    macs, params = "### MACs of toy", "### Parameters of toy"

    assert row(lines, "variant", macs) == ["variant", "total", "encoder/text", "fusion", "head"]
    assert row(lines, "`joint`", macs) == ["`joint`", "1,234,567", "1,000,000", "", "234,567"]
    assert row(lines, "`other`", macs) == ["`other`", "10", "", "10", ""]
    assert row(lines, "`unknown`", macs) == ["`unknown`", GAP, "", "", ""]
    # Twenty parameters are shared: the total is the graph's own, not the sum.
    assert row(lines, "`joint`", params) == ["`joint`", "300", "200", "", "120"]


def test_the_page_is_written_without_torch(fresh: str, tmp_path: Path) -> None:
    target = tmp_path / "workloads.md"
    program = (
        "import sys; sys.modules['torch'] = None; sys.argv[1:] = [sys.argv[-1]]; import runpy;"
        " runpy.run_module('mmworkload.reporting.zoo_page', run_name='__main__')"
    )
    answer = subprocess.run([sys.executable, "-c", program, str(target)], check=False, capture_output=True, text=True)

    assert answer.returncode == 0, answer.stderr
    assert target.read_text() == fresh
