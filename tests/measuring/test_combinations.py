"""Several batches and number types: a folder each, what is kept, what fails, and what is the optimal batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from mmworkload import verbs
from mmworkload.errors import FormatError, MmworkloadError, ModelError
from mmworkload.measuring import Execution, Measurement, Result, Spread
from mmworkload.measuring.combinations import TERMS, Combination, answers, measure_combinations, with_optimal
from mmworkload.measuring.folder import load, save
from mmworkload.models import Model, resolve

pytestmark = pytest.mark.slow

# Seconds of a forward pass by batch: the throughput is highest at 8.
SECONDS = {1: 1.0, 8: 2.0, 32: 16.0}


def taken(model: Model, **changes: Any) -> Result:
    time = Spread.of([SECONDS[model.batch]])
    measurement = Measurement(
        model.name, "", model.batch, model.dtype, "cpu", time, time, (), 0.0, 0.0, {"total": 1000 * model.batch}
    )
    return Result(replace(measurement, **changes))


def models(*batches: int, dtype: str = "float32", name: str = "av-mnist/image") -> list[Model]:
    """Nothing builds them."""
    return [Model(name, "", batch, dtype, lambda device: (None, ())) for batch in batches]  # type: ignore[return-value]


def run(place: Path, found: list[Model], measure: Callable[[Model], Result] = taken, **asked: Any) -> list[Combination]:
    return measure_combinations(found, place, measure=measure, asked=asked)


def test_each_combination_is_a_result_and_the_best_of_each_number_type_is_optimal(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    rows = measure_combinations(
        [*models(1, 8, 32), *models(1, dtype="bfloat16")],
        tmp_path,
        measure=taken,
        asked={},
        progress=lambda done, total: steps.append((done, total)),
    )

    assert [(row.batch, row.dtype, row.throughput_per_s, row.optimal) for row in rows] == [
        (1, "float32", 1.0, False),
        (8, "float32", 4.0, True),
        (32, "float32", 2.0, False),
        (1, "bfloat16", 1.0, True),
    ]
    assert [row.peak_memory_bytes for row in rows] == [1000, 8000, 32000, 1000]
    assert {row.status for row in rows} == {"measured"}
    assert [Path(row.folder).name for row in rows] == ["b1-float32", "b8-float32", "b32-float32", "b1-bfloat16"]
    assert [load(row.folder).measurement.eager.median_s for row in rows] == [1.0, 2.0, 16.0, 1.0]
    assert steps == [(done, 4) for done in range(5)]


def test_of_equal_batches_the_smallest_is_optimal() -> None:
    rows = [Combination(batch, "float32", "", "measured", throughput_per_s=4.0) for batch in (8, 16)]

    assert [row.optimal for row in with_optimal(rows)] == [True, False]


def test_a_second_run_keeps_what_is_complete_and_tries_again_what_failed(tmp_path: Path) -> None:
    def too_large(model: Model) -> Result:
        if model.batch == 8:
            raise MmworkloadError("out of memory\non cpu")
        if model.batch == 32:
            raise ValueError("a defect")
        return taken(model)

    first = run(tmp_path, models(1, 8, 32), too_large)
    assert [(row.status, row.reason) for row in first] == [
        ("measured", ""),
        ("failed", "out of memory on cpu"),
        ("failed", "ValueError: a defect"),
    ]
    assert (first[1].eager_s, first[1].throughput_per_s, first[1].peak_memory_bytes) == (None, None, None)
    assert first[0].optimal
    assert not first[1].optimal
    # A file that was damaged is no result.
    (tmp_path / "b1-float32" / "measurement.json").write_text("{")
    with pytest.raises(FormatError):
        load(tmp_path / "b1-float32")
    asked: list[int] = []

    def noted(model: Model) -> Result:
        asked.append(model.batch)
        return taken(model)

    assert [row.status for row in run(tmp_path, models(1, 8, 32), noted)] == ["measured"] * 3
    assert [row.status for row in run(tmp_path, models(1, 8, 32), noted)] == ["kept"] * 3
    assert asked == [1, 8, 32]


def test_an_interrupted_run_has_what_it_measured(tmp_path: Path) -> None:
    def interrupted(model: Model) -> Result:
        if model.batch == 32:
            raise KeyboardInterrupt
        return taken(model)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, models(1, 8, 32), interrupted)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["b1-float32", "b8-float32"]
    assert [row.status for row in run(tmp_path, models(1, 8, 32))] == ["kept", "kept", "measured"]


def test_a_result_of_another_model_and_a_folder_of_somebody_else_are_refused_before_measuring(tmp_path: Path) -> None:
    def never(model: Model) -> Result:
        raise AssertionError("measured")

    save(taken(models(8, name="av-mnist/audio")[0]), tmp_path / "b8-float32")
    with pytest.raises(MmworkloadError, match=r"b8-float32 holds a result of av-mnist/audio"):
        run(tmp_path, models(1, 8), never)
    (tmp_path / "b1-float32").mkdir()
    (tmp_path / "b1-float32" / "thesis.tex").write_text("x")
    with pytest.raises(MmworkloadError, match="not written by mmworkload"):
        run(tmp_path, models(1), never)


def test_a_run_that_measured_nothing_is_an_error(tmp_path: Path) -> None:
    def fail(model: Model) -> Result:
        raise ModelError("it does not run")

    with pytest.raises(MmworkloadError, match=r"nothing could be measured.*b1-float32: it does not run"):
        run(tmp_path, models(1, 8), fail)


def test_a_result_is_kept_only_when_it_answers_what_is_asked(tmp_path: Path) -> None:
    def compiled(model: Model) -> Result:
        return taken(model, executions=(Execution("compile", "", Spread.of([1.0])),))

    (model,) = models(8)
    run(tmp_path, [model], compiled, limit_s=2.0)
    held = load(tmp_path / "b8-float32").measurement
    limits = {"limit_s": 2.0}

    assert answers(held, model, limits)
    assert answers(held, model, {**limits, "device": "cpu", "mode": "infer", "only": [], "compiled": True})
    for asked in (
        {"device": "cuda"}, {"mode": "train"}, {"only": ["head"]}, {"energy": True}, {"counters": True},
        {"cuda_graph": True}, {"streams": True}, {"limit_s": 3.0}, {"repeats": 3}, {"warmup": 0},
    ):  # fmt: skip
        assert not answers(held, model, {**limits, **asked}), asked
    assert not answers(held, models(1)[0], limits)
    assert not answers(held, replace(model, sample=Path("real.pt")), limits)
    # Of rules the first that fits holds.
    rules = {"a*": "head", "*": "fusion"}
    ruled = replace(held, provenance={TERMS: {**held.provenance[TERMS], "stages": [["a*", "head"], ["*", "fusion"]]}})
    assert answers(ruled, replace(model, rules=rules), limits)
    assert not answers(ruled, replace(model, rules=dict(reversed(rules.items()))), limits)
    assert not answers(replace(held, provenance={}), model, limits)


def test_other_stage_rules_measure_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "measure_result", lambda name, **how: taken(resolve(name, batch=8)))

    def status(**how: Any) -> list[str]:
        return [row.status for row in verbs.measure_combinations("av-mnist/image", tmp_path, batches=[8], **how)]

    assert status() == ["measured"]
    assert status(stages={"head*": "fusion"}) == ["measured"]
    assert status(stages={"head*": "fusion"}) == ["kept"]
    assert status() == ["measured"]


def test_the_verb_measures_every_pair_and_a_workloads_own_where_none_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def noted(name: str, **options: Any) -> Result:
        asked.append((name, options["batch"], options["dtype"], options["limit_s"], options["settings"]))
        return taken(resolve(name, batch=options["batch"], dtype=options["dtype"]))

    monkeypatch.setattr(verbs, "measure_result", noted)
    how = {"limit_s": 3.0, "settings": {}, "batch": None, "dtype": None}
    sizes = (size for size in (1, 8, 1))
    verbs.measure_combinations("av-mnist/image", tmp_path / "a", batches=sizes, dtypes=["float32", "bfloat16"], **how)
    verbs.measure_combinations("av-mnist/image", tmp_path / "b", dtypes=["float16"], **how | {"batch": 8})

    assert asked == [
        ("av-mnist/image", batch, dtype, 3.0, {})
        for batch, dtype in ((1, "float32"), (8, "float32"), (1, "bfloat16"), (8, "bfloat16"), (8, "float16"))
    ]


def test_the_views_of_several_results_tell_number_types_apart(tmp_path: Path) -> None:
    from mmworkload.analyzing import analyze

    run(tmp_path, [*models(1, 8), *models(1, 8, dtype="bfloat16")])
    folders = [str(tmp_path / f"b{batch}-{dtype}") for dtype in ("float32", "bfloat16") for batch in (1, 8)]

    for view, column in (("A1", "optimal"), ("D9b", "speedup")):
        rows = json.loads(analyze(view, folders).to_json(orient="records"))
        by_dtype = {(row["dtype"], row["batch"]): row[column] for row in rows}
        ours = {"A1": (False, True), "D9b": (1.0, 4.0)}[view]
        assert by_dtype == {
            (dtype, batch): value
            for dtype in ("float32", "bfloat16")
            for batch, value in zip((1, 8), ours, strict=True)
        }
