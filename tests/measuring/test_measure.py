"""The verb: what a measurement holds, and one clear error for each thing that can go wrong."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from mmworkload.errors import FormatError, MmworkloadError, ModelError, UnavailableError, UnknownNameError  # noqa: E402
from mmworkload.measuring import Measurement, Spread, measure  # noqa: E402
from mmworkload.models import resolve  # noqa: E402
from mmworkload.tracing import trace_model  # noqa: E402

MODELS = Path(__file__).with_name("user_models.py")
QUICK = {"warmup": 1, "repeats": 5, "limit_s": 5.0}


@pytest.fixture(scope="module")
def taken():
    steps = []
    result = measure(
        resolve("av-mnist/concat"), device="cpu", progress=lambda done, total: steps.append((done, total)), **QUICK
    )
    assert steps == [(done, 6) for done in range(7)]
    return result


def test_each_layer_of_the_graph_has_one_row_in_its_order(taken):
    graph = trace_model(resolve("av-mnist/concat")).graph
    assert [row.layer for row in taken.layers] == [layer.name for layer in graph]
    assert [row.stage for row in taken.layers] == [layer.stage for layer in graph]


def test_layers_take_time_and_none_is_negative(taken):
    assert all(row.time.min_s >= 0 for row in taken.layers)
    by_name = {row.layer: row for row in taken.layers}
    for name in ("encoders.audio.convs.0", "encoders.image.convs.0", "head.0"):
        assert by_name[name].time.min_s > 0
        assert by_name[name].kernels > 0
    assert taken.layer_sum_s == pytest.approx(sum(taken.stages().values()))
    assert taken.unattributed_s >= 0


def test_eager_and_graph_of_a_plain_network_run_the_same_kernels(taken):
    # Tracing adds no operator and eager has no fused path; the share is exact because calls are counted.
    assert taken.kernel_difference == 0.0
    assert taken.user_kernels


def test_end_to_end_times_have_the_repeats_asked_for(taken):
    assert taken.eager.repeats == taken.graph.repeats == 5
    assert 0 < taken.eager.min_s <= taken.eager.q1_s <= taken.eager.median_s <= taken.eager.q3_s <= taken.eager.max_s
    assert (taken.model, taken.batch, taken.dtype, taken.device) == ("av-mnist/concat", 1, "float32", "cpu")


def test_provenance_says_where_and_how(taken):
    facts = taken.provenance
    assert facts["threads"] == torch.get_num_threads()
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
    assert facts["mha_fast_path"] is True
    assert facts["device_name"] == facts["cpu"] != ""
    assert facts["date_utc"].endswith("+00:00")
    assert facts["sdpa_used"] == []


def test_a_measurement_survives_a_file(taken, tmp_path):
    path = tmp_path / "measured.json"
    taken.save(path)
    assert Measurement.load(path) == taken
    assert json.loads(path.read_text())["stages"] == taken.stages()
    path.write_text(path.read_text()[:-20])
    with pytest.raises(FormatError, match=str(path)):
        Measurement.load(path)


def test_the_table_has_the_shares_of_the_layers(taken):
    frame = taken.to_pandas()
    assert list(frame["layer"]) == [row.layer for row in taken.layers]
    assert frame["share"].sum() == pytest.approx(1.0)


def test_only_chooses_rows_and_leaves_the_whole_run():
    model = resolve("av-mnist/concat")
    traced = trace_model(model)
    result = measure(model, device="cpu", only=["encoder/image"], traced=traced, **QUICK)
    assert [row.layer for row in result.layers] == [row.name for row in traced.graph if row.stage == "encoder/image"]
    assert set(result.stages()) == {"encoder/image"}
    assert result.only == ("encoder/image",)
    assert result.peak_memory_bytes["data"] == 4 * (28 * 28 + 112 * 112)


def test_an_unknown_stage_is_refused_before_anything_runs():
    steps = []
    with pytest.raises(UnknownNameError, match="encoder/image"):
        measure(
            resolve("av-mnist/concat"), only=["encoder/imag"], progress=lambda done, total: steps.append(done), **QUICK
        )
    assert steps == [0]


def test_the_fused_encoder_of_eager_execution_shows_as_other_kernels():
    """The fast path runs whole layers as one operator, which tracing takes apart."""
    result = measure(resolve(f"{MODELS}:encoder"), device="cpu", **QUICK)
    assert 0 < result.kernel_difference <= 1
    assert sum(row.op == "attention" for row in result.layers) == 2


def test_layers_in_regions_have_rows_and_times():
    result = measure(resolve(f"{MODELS}:regions"), device="cpu", **QUICK)
    times = {row.layer: row.time for row in result.layers}
    assert times["linear"].min_s > 0
    assert len(times) == len(trace_model(resolve(f"{MODELS}:regions")).graph)


def test_the_attention_backend_that_ran_is_recorded():
    result = measure(resolve(f"{MODELS}:attention"), device="cpu", **QUICK)
    assert any("_scaled_dot_product" in name for name in result.provenance["sdpa_used"])


def test_an_unknown_device_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown device 'cud'.*cuda"):
        measure(resolve("av-mnist/concat"), device="cud")


def test_cuda_without_a_gpu_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnavailableError, match="--device cpu"):
        measure(resolve("av-mnist/concat"), device="cuda")


def test_a_forward_pass_that_fails_names_the_users_line():
    with pytest.raises(ModelError, match=r"running the eager model: IndexError.*user_models\.py:\d+ in forward"):
        measure(resolve(f"{MODELS}:fails_on_values"), **QUICK)


def test_running_out_of_memory_says_what_to_change():
    with pytest.raises(
        MmworkloadError, match=r"out of memory on cpu while running the eager model, at batch 1.*--batch"
    ):
        measure(resolve(f"{MODELS}:too_large"), **QUICK)


@pytest.mark.parametrize("wrong", [{"repeats": 0}, {"warmup": -1}, {"limit_s": 0.0}])
def test_impossible_repeats_are_refused(wrong):
    with pytest.raises(MmworkloadError, match="at least one repeat"):
        measure(resolve("av-mnist/concat"), **wrong)


def test_quartiles_of_known_times():
    assert Spread.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(3.0, 2.0, 4.0, 1.0, 5.0, 5)
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0, 2.0, 2.0, 1)
