"""`make gpu`: which measurements in which order, what is written, and what happens when one fails or time is over."""

import csv

import pytest

torch = pytest.importorskip("torch")

from mmworkload import models  # noqa: E402
from mmworkload.errors import ModelError, UnknownNameError  # noqa: E402
from mmworkload.measuring import LayerTime, Measurement, Spread, everything  # noqa: E402

pytestmark = pytest.mark.slow

SECOND = Spread(1.0, 0.9, 1.1, 0.8, 1.2, 7)


def measurement(name, batch):
    layers = (
        LayerTime("conv", "conv2d", "encoder/image", "image", "Conv", Spread.of([0.6]), 2),
        LayerTime("fc", "linear", "head", "", "Gemm", Spread.of([0.2]), 1),
    )
    return Measurement(
        name, "", batch, "float32", "cpu", SECOND, SECOND, layers, 0.01, 0.0, {"total": 3 * 2**20},
        provenance={"device_name": "Some CPU", "sdpa_used": [], "versions": {"torch": "2.11"}},
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A CPU with a known name; measuring is replaced by the fake that the test sets."""
    from mmworkload.measuring import provenance

    monkeypatch.setattr(provenance, "device_name", lambda device: "Some CPU (TM) @ 2")
    return tmp_path / "some-cpu-tm-2"


def use(monkeypatch, function):
    monkeypatch.setattr(everything, "measure", lambda model, **options: function(model))


def table(folder):
    with (folder / "summary.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_all_variants_come_at_batch_one_before_any_at_a_larger_one():
    items = everything.plan()
    batches = [item.batch for item in items]
    assert batches == sorted(batches)
    names = {f"{family}/{variant.name}" for family, found in models.families().items() for variant in found.variants}
    assert {item.name for item in items if item.batch == 1} == names
    assert {item.name for item in items if item.batch == 32} == names
    for name, family in models.families().items():
        assert any(item.name.startswith(f"{name}/") and item.batch == family.default_batch for item in items)


def test_number_types_take_turns_within_a_batch_size():
    items = everything.plan(["av-mnist/image", "av-mnist/audio"], batches=[1, 4], dtypes=["float32", "bfloat16"])
    assert [(item.batch, item.dtype) for item in items[::2]] == [
        (1, "float32"), (1, "bfloat16"), (4, "float32"), (4, "bfloat16"),
    ]  # fmt: skip
    assert len({item.file for item in items}) == len(items) == 8


def test_a_second_run_takes_what_the_first_one_measured(folder, tmp_path, monkeypatch):
    use(monkeypatch, lambda model: measurement(model.name, model.batch))
    arguments = ["--device", "cpu", "-o", str(tmp_path), "--batch", "1"]
    assert everything.main([*arguments, "av-mnist/image"]) == 0
    called = []

    def counted(model):
        called.append(model.name)
        return measurement(model.name, model.batch)

    use(monkeypatch, counted)
    assert everything.main([*arguments, "av-mnist/image", "av-mnist/audio"]) == 0
    assert called == ["av-mnist/audio"]
    assert everything.main([*arguments, "av-mnist/audio"]) == 0
    # The table is of the folder, whatever the last run was asked for.
    assert {row["model"]: row["status"] for row in table(folder)} == {
        "av-mnist/image": "measured", "av-mnist/audio": "measured",
    }  # fmt: skip


def test_what_cannot_be_held_is_refused_before_it_is_built(folder, tmp_path, monkeypatch):
    from mmworkload.measuring import memory

    monkeypatch.setattr(memory, "memory_bytes", lambda: 20_000)
    names = ["--batch", "1", "av-mnist/image"]
    assert everything.main(["--device", "cpu", "-o", str(tmp_path), *names]) == 2
    (row,) = table(folder)
    assert "its weights and inputs in float32 take" in row["status"]
    assert "cpu has 19.53 KiB" in row["status"]


def test_patterns_choose_and_an_unknown_one_is_refused():
    assert {item.name for item in everything.plan(["av-mnist/im*"])} == {"av-mnist/image"}
    with pytest.raises(UnknownNameError, match="av-mnist/image"):
        everything.plan(["av-mnist/imag"])


def test_each_measurement_is_a_file_and_a_row(folder, tmp_path, monkeypatch, capsys):
    use(monkeypatch, lambda model: measurement(model.name, model.batch))
    assert everything.main(["--device", "cpu", "-o", str(tmp_path), "av-mnist/image"]) == 0
    rows = table(folder)
    assert [(row["model"], row["batch"], row["status"]) for row in rows] == [
        ("av-mnist/image", "1", "measured"),
        ("av-mnist/image", "32", "measured"),
    ]
    assert float(rows[0]["layer_sum_s"]) == pytest.approx(0.8)
    assert (rows[0]["slowest_stage"], float(rows[0]["slowest_stage_share"])) == ("encoder/image", pytest.approx(0.75))
    assert Measurement.load(folder / rows[1]["file"]) == measurement("av-mnist/image", 32)
    text = (folder / "summary.md").read_text()
    assert (
        "| av-mnist/image | 1 | float32 | 1000.000 | 900.000 to 1100.000 | 1.00 | 0.80 | 0.0% | encoder/image (75%) |"
        " 3.0 |" in text
    )
    assert "# Measured on Some CPU" in text
    assert "- versions: torch 2.11" in text
    assert "Not measured" not in text


def test_a_model_that_fails_costs_the_others_nothing(folder, tmp_path, monkeypatch):
    def fail_once(model):
        if model.name == "av-mnist/image":
            raise ModelError("it does not run")
        if model.name == "av-mnist/audio":
            raise RuntimeError("a defect\nof ours")
        return measurement(model.name, model.batch)

    use(monkeypatch, fail_once)
    names = ["av-mnist/concat", "av-mnist/image", "av-mnist/audio"]
    assert everything.main(["--device", "cpu", "-o", str(tmp_path), *names]) == 0
    status = {(row["model"], row["batch"]): row["status"] for row in table(folder)}
    assert status["av-mnist/concat", "1"] == status["av-mnist/concat", "32"] == "measured"
    assert status["av-mnist/image", "1"] == "failed: it does not run"
    assert status["av-mnist/audio", "1"] == "failed: RuntimeError: a defect"
    assert "- av-mnist/image at batch 1 in float32: failed: it does not run" in (folder / "summary.md").read_text()


def test_nothing_is_started_when_the_time_is_over(folder, tmp_path, monkeypatch):
    now = {"s": 0.0}
    monkeypatch.setattr(everything.time, "monotonic", lambda: now["s"])

    def slow(model):
        now["s"] += 20.0
        return measurement(model.name, model.batch)

    use(monkeypatch, slow)
    names = ["av-mnist/image", "av-mnist/audio", "av-mnist/concat"]
    assert everything.main(["--device", "cpu", "-o", str(tmp_path), "--limit-s", "30", *names]) == 0
    rows = table(folder)
    # The default variant comes first.
    assert rows[0]["model"] == "av-mnist/concat"
    assert [row["status"] for row in rows] == ["measured"] * 2 + ["left out: the limit of 30 s was over"] * 4
    assert (folder / "summary.md").read_text().count("left out: the limit of 30 s was over") == 4


def test_an_interrupted_run_has_a_table_of_what_it_measured(folder, tmp_path, monkeypatch):
    def interrupted(model):
        if model.batch > 1:
            raise KeyboardInterrupt
        return measurement(model.name, model.batch)

    use(monkeypatch, interrupted)
    assert everything.main(["--device", "cpu", "-o", str(tmp_path), "av-mnist/image"]) == 130
    assert [row["status"] for row in table(folder)] == ["measured", "left out: interrupted"]


def test_a_run_that_measured_nothing_is_an_error(folder, tmp_path, monkeypatch, capsys):
    def fail(model):
        raise ModelError("it does not run")

    use(monkeypatch, fail)
    assert everything.main(["--device", "cpu", "-o", str(tmp_path), "av-mnist/image"]) == 2
    assert "nothing was measured" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_noticed_before_measuring(folder, tmp_path, monkeypatch, capsys):
    called = []
    use(monkeypatch, called.append)
    (tmp_path / "file").write_text("")
    assert everything.main(["--device", "cpu", "-o", str(tmp_path / "file"), "av-mnist/image"]) == 2
    assert called == []
    assert "cannot" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert everything.main(["--device", "cuda", "-o", str(tmp_path)]) == 2
    assert "device cuda cannot be used" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_measuring_for_real_writes_a_measurement(tmp_path):
    assert everything.main(["--device", "cpu", "-o", str(tmp_path), "--limit-s", "60", "av-mnist/image"]) == 0
    (path,) = tmp_path.glob("*/av-mnist-image_b1_float32.json")
    result = Measurement.load(path)
    assert result.eager.median_s > 0
    assert result.layer_sum_s > 0
