"""Training: what an iteration computes, where its time goes, and one clear error for what cannot be trained."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils import _pytree  # noqa: E402

from mmworkload.errors import MmworkloadError, UnknownNameError  # noqa: E402
from mmworkload.graph import LayerGraph  # noqa: E402
from mmworkload.layer import Layer  # noqa: E402
from mmworkload.measuring import Measurement, Training, measure  # noqa: E402
from mmworkload.measuring.attribution import Kernel  # noqa: E402
from mmworkload.measuring.program import bind  # noqa: E402
from mmworkload.measuring.stages import stage_of_call  # noqa: E402
from mmworkload.measuring.training import (  # noqa: E402
    LEARNING_RATE,
    PhaseSampler,
    StagePhaseSampler,
    _optimizers,
    _peak_memory,
    at_peak,
    attribute,
    loss_of,
    measure_training,
)
from mmworkload.models import Model, resolve  # noqa: E402
from mmworkload.tracing import Traced, trace_model  # noqa: E402

MODELS = Path(__file__).with_name("user_models.py")
CPU = torch.device("cpu")
SLEEP_S = 0.02
RULES = {"image*": "encoder/image", "audio*": "encoder/audio", "head": "head"}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Two(nn.Module):
    """Two encoders and a head; dropout and normalisation are what training mode is about."""

    def __init__(self, width: int, sleep: Any = None) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))
        self.audio = nn.Sequential(nn.Linear(64, width), nn.BatchNorm1d(width), nn.Dropout(0.5), nn.Linear(width, 64))
        self.head = nn.Linear(128, 10)
        self.spare = nn.Linear(3, 3)
        self.sleep = sleep

    def forward(self, image: Any, audio: Any) -> Any:
        first = self.image(image)
        second = self.audio(audio)
        if self.sleep is not None:
            second = self.sleep(second)
        return {"scores": self.head(torch.cat([first, second], -1)), "best": first.argmax(-1)}


def two(width: int = 256, sleep: Any = None, batch: int = 128) -> Model:
    def build(device: str) -> Any:
        return Two(width, sleep), {"image": torch.randn(batch, 64), "audio": torch.randn(batch, 64)}

    return Model("two", "", batch, "float32", build, rules=RULES)


class Wide(nn.Module):
    """Begins with a view; one mean is of the output, the other is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(256, 256, bias=False)

    def forward(self, x: Any) -> Any:
        y = self.linear(x.flatten(1)).sigmoid().sigmoid()
        y.mean(0)
        return y.mean(1)


def wide() -> Model:
    rules = {"linear": "encoder/x"}
    return Model("wide", "", 1024, "float32", lambda device: (Wide(), (torch.randn(1024, 16, 16),)), rules=rules)


def trained(model: Model) -> Training:
    return measure_training(model, trace_model(model), CPU, warmup=1, repeats=7, limit_s=6.0)


def bound(model: Model) -> tuple[Traced, Any]:
    traced = trace_model(model, "export", training=True)
    built = model.build("cpu")
    built.module.train()
    return traced, bind(traced, built, CPU)


@pytest.fixture(scope="module")
def small() -> Training:
    return trained(two())


# --- what an iteration computes -------------------------------------------------------------------------------------


def test_an_iteration_steps_the_parameters_along_the_gradient_of_the_loss() -> None:
    model = replace(two(), make=lambda device: (nn.Linear(4, 3), (torch.randn(2, 4),)))
    _, program = bound(model)
    weight, (x,) = program.module.weight, program.inputs
    before = weight.detach().clone()
    outputs = program.module(x).detach()

    seconds = PhaseSampler(program, list(_optimizers(program.module, None, "m").values()), "m", CPU)()

    # The mean of the squares of 2 x 3 outputs: the gradient is 2 / 6 outputs^T x.
    torch.testing.assert_close(weight.detach(), before - LEARNING_RATE * 2 / 6 * outputs.T @ x)
    assert weight.grad is None
    assert seconds > 0


def test_the_loss_is_of_every_floating_point_output_that_can_be_trained() -> None:
    first, second = torch.tensor([1.0, 3.0], requires_grad=True), torch.tensor([[2.0]], requires_grad=True)
    outputs = {"a": first * 1, "b": [second * 1, torch.tensor([7]), torch.tensor([9.0]), "text"]}

    assert loss_of(outputs, "m").item() == 5.0 + 4.0


def test_the_phases_add_up_to_the_iteration(small: Training) -> None:
    _, program = bound(two())
    phases = PhaseSampler(program, list(_optimizers(program.module, None, "m").values()), "m", CPU)
    seconds = [phases() for _ in range(3)]

    assert seconds == [sum(sample.values()) for sample in phases.taken]
    assert all(list(sample) == ["forward", "backward", "update"] for sample in phases.taken)
    assert small.iteration.repeats == small.forward.repeats == small.update.repeats == 7
    assert small.forward.min_s + small.backward.min_s + small.update.min_s <= small.iteration.min_s


def test_the_stage_level_has_the_gradients_of_the_eager_model_and_runs_stages_backward_in_reverse() -> None:
    model = resolve("av-mnist/concat", batch=2)
    traced, program = bound(model)
    updates = _optimizers(program.module, traced.graph, model.name)
    marks: list[str] = []
    sampler = StagePhaseSampler(program, stage_of_call(traced.graph, traced.layer_of_call), updates, "m", CPU)
    before = {name: item.detach().clone() for name, item in program.module.named_parameters()}
    loss_of(program.eager_run()(), "m").backward()
    expected = {name: item.grad.clone() for name, item in program.module.named_parameters()}
    program.module.zero_grad(set_to_none=True)

    sampler()
    marks = [stage for stage, _ in sampler.timer.marks if stage]

    # A float32 parameter near one keeps steps of 1e-7.
    for name, item in program.module.named_parameters():
        torch.testing.assert_close(
            (before[name] - item.detach()) / LEARNING_RATE, expected[name], rtol=1e-2, atol=2e-3, msg=name
        )
    forward = [item.removeprefix("forward ") for item in marks if item.startswith("forward ")]
    back = [item.removeprefix("backward ") for item in marks if item.startswith("backward ")]
    order = [stage for index, stage in enumerate(reversed(forward)) if index == 0 or stage != forward[-index]]
    # The loss begins with the backward pass itself, then at its own first node.
    assert [stage for index, stage in enumerate(back) if index == 0 or stage != back[index - 1]] == order
    assert [item.removeprefix("update ") for item in marks if item.startswith("update ")] == list(updates)
    (sample,) = sampler.taken
    assert set(sample) == {f"{phase} {stage}" for phase in ("forward", "backward") for stage in set(forward)} | {
        f"update {stage}" for stage in updates
    }


def test_every_parameter_is_stepped_once_by_the_stage_that_reads_it() -> None:
    traced, program = bound(two())
    updates = _optimizers(program.module, traced.graph, "two")

    names = {id(item): name for name, item in program.module.named_parameters()}
    stepped = {
        stage: {names[id(item)].split(".")[0] for group in part.param_groups for item in group["params"]}
        for stage, part in updates.items()
    }
    assert stepped == {"encoder/image": {"image"}, "encoder/audio": {"audio"}, "head": {"head"}, "": {"spare"}}
    assert sum(len(group["params"]) for part in updates.values() for group in part.param_groups) == len(names)


@pytest.mark.parametrize("name", ["in_place", "recurrent", "regions"])
def test_what_a_forward_pass_writes_in_place_does_not_reach_into_the_next_iteration(name: str) -> None:
    model = resolve(f"{MODELS}:{name}")
    traced, program = bound(model)
    updates = _optimizers(program.module, traced.graph, model.name)
    phases = PhaseSampler(program, list(updates.values()), model.name, CPU)
    stages = StagePhaseSampler(program, stage_of_call(traced.graph, traced.layer_of_call), updates, model.name, CPU)

    for _ in range(2):
        assert phases() > 0
        assert stages() > 0
    assert all(tensor.grad_fn is None for tensor in _pytree.tree_leaves(program.inputs) if torch.is_tensor(tensor))


# --- where the time goes --------------------------------------------------------------------------------------------


def test_almost_all_time_is_in_stages_and_they_are_those_of_the_model(small: Training) -> None:
    assert small.attributed_share is not None
    assert 0.95 <= small.attributed_share <= 1.0
    stages = {item.stage: item for item in small.stages}
    assert set(stages) == {"encoder/image", "encoder/audio", "fusion", "head", "loss", ""}
    assert [stages[""].forward.max_s, stages[""].backward.max_s, stages[""].forward_kernels_s] == [0.0, 0.0, 0.0]
    assert all(stages[name].backward_kernels_s > 0 for name in ("encoder/image", "encoder/audio", "head", "loss"))
    by_name = {item.layer: item for item in small.layers if item.layer != "(views)"}
    assert {"image.0", "image.2", "audio.0", "audio.3", "head", "loss"} <= set(by_name)
    assert {item.op for item in small.layers if item.stage == "encoder/audio"} >= {"linear", "batch_norm", "dropout"}
    for stage in small.stages:
        rows = [item for item in small.layers if item.stage == stage.stage]
        assert stage.backward_kernels_s == pytest.approx(sum(item.backward_s for item in rows))


def test_a_layer_ten_times_larger_is_slower_backward_in_its_row_and_stage() -> None:
    large = trained(two(2560, batch=512))

    rows = {row.layer: row for row in large.layers}
    stages = {item.stage: item for item in large.stages}
    # 10 times the work of the same layer of the other encoder, in the same iterations; other load disturbs.
    assert rows["audio.3"].backward_s > 3 * rows["image.2"].backward_s
    assert max(large.layers, key=lambda item: item.backward_s).stage == "encoder/audio"
    assert stages["encoder/audio"].backward.min_s > 3 * stages["encoder/image"].backward.min_s
    assert stages["encoder/audio"].backward_kernels_s > 3 * stages["encoder/image"].backward_kernels_s


def test_backward_time_is_where_gradients_pass_and_nowhere_else() -> None:
    rows = {item.layer: item for item in trained(wide()).layers}

    assert list(rows) == ["(views)", "linear", "sigmoid", "sigmoid.1", "mean", "mean.1", "loss"]
    assert {name for name, item in rows.items() if item.backward_s == 0.0} == {"(views)", "mean"}
    assert all(item.forward_s > 0 for item in rows.values())
    # What comes before the first layer belongs to its stage.
    assert rows["(views)"].stage == rows["linear"].stage == "encoder/x"


@pytest.fixture(scope="module")
def sleeps() -> Any:
    """An operator whose gradient takes 20 ms."""

    @torch.library.custom_op("planted_backward::sleep", mutates_args=())
    def sleep(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    def back(context: Any, gradient: Any) -> Any:
        time.sleep(SLEEP_S)
        return gradient

    sleep.register_fake(torch.empty_like)
    sleep.register_autograd(back)
    return sleep


def test_a_sleep_in_the_gradient_of_one_modality_shows_in_its_row_and_stage(sleeps: Any) -> None:
    result = trained(two(sleep=sleeps))

    row = max(result.layers, key=lambda item: item.backward_s)
    assert (row.op, row.stage) == ("unknown:planted_backward.sleep", "encoder/audio")
    assert row.forward_s < SLEEP_S / 2 < 0.9 * SLEEP_S < row.backward_s
    stages = {item.stage: item for item in result.stages}
    assert stages["encoder/audio"].backward.min_s > SLEEP_S
    assert stages["encoder/image"].backward.min_s < SLEEP_S
    assert result.backward.min_s > SLEEP_S


def test_kernels_are_summed_by_stage_and_layer_and_the_rest_is_told() -> None:
    layers = tuple(
        Layer(name=name, op="linear", category="Gemm", module=name, stage=stage)
        for name, stage in (("a", "encoder/x"), ("b", "head"))
    )
    traced = Traced(LayerGraph("m", "", 1, "float32", layers, {}), None, {"n_a": "a", "n_b": "b"})
    keys = ["first", "n_a", "view", "n_b", "loss"] * 2
    kernels = [
        Kernel("k", node, run, seconds * scale)
        for run, scale in (("0", 1.0), ("1", 3.0))
        for node, seconds in (
            ("first", 0.75), ("n_a", 1.0), ("backward/n_a", 2.0), ("backward/view", 0.5), ("n_b", 4.0),
            ("backward/n_b", 8.0),
            ("loss", 0.25), ("backward/loss", 0.5), ("update/head", 3.0), ("update/", 0.125), ("", 0.625),
        )
    ]  # fmt: skip
    taken = [{"forward encoder/x": 1.0, "backward encoder/x": 5.0, "update head": 7.0, "update ": 0.5}]

    stages, rows, unattributed_s, share = attribute(traced, kernels, keys, taken, ["0", "1"])

    # The median of runs of once and of three times the seconds is twice.
    assert [(row.layer, row.stage, row.forward_s, row.backward_s) for row in rows] == [
        ("(views)", "encoder/x", 1.5, 1.0),
        ("a", "encoder/x", 2.0, 4.0),
        ("b", "head", 8.0, 16.0),
        ("loss", "loss", 0.5, 1.0),
    ]
    assert [
        (item.stage, item.forward_kernels_s, item.backward_kernels_s, item.update_kernels_s) for item in stages
    ] == [("encoder/x", 3.5, 5.0, 0.0), ("head", 8.0, 16.0, 6.0), ("loss", 0.5, 1.0, 0.0), ("", 0.0, 0.0, 0.25)]
    first = stages[0]
    assert (first.forward.median_s, first.backward.median_s, first.update.median_s) == (1.0, 5.0, 0.0)
    assert unattributed_s == 1.25
    assert share == pytest.approx(1 - 0.625 / 20.75)


# --- memory, refusals, files ----------------------------------------------------------------------------------------


def memory(model: Model) -> dict[str, int]:
    _, program = bound(model)
    return _peak_memory(PhaseSampler(program, list(_optimizers(program.module, None, "m").values()), "m", CPU), CPU)


def test_memory_of_a_model_of_many_parameters_peaks_with_all_gradients() -> None:
    peak = memory(two(batch=2))
    unused = 12
    parameters = (64 * 256 + 256) + (256 * 64 + 64) + (64 * 256 + 256) + 2 * 256 + (256 * 64 + 64) + 1290 + unused
    # Two running statistics of 256 and a counter of 8 bytes.
    assert peak["model"] == 4 * (parameters + 512) + 8
    assert peak["gradients"] == 4 * (parameters - unused)
    assert peak["data"] == 2 * 4 * 2 * 64
    assert peak["optimizer"] == 0
    assert 0 < peak["intermediates"] < 2**14
    assert peak["total"] == sum(size for name, size in peak.items() if name != "total")


def test_memory_of_a_model_of_large_activations_peaks_before_there_are_gradients() -> None:
    mib = 2**20
    peak = memory(wide())

    assert peak["model"] == 4 * 256 * 256
    assert peak["gradients"] == 0
    # Two outputs that are kept, their gradient and the next one; besides it rows of 4 KiB.
    assert 4 * mib <= peak["intermediates"] < 4 * mib + 2**15
    assert peak["total"] == peak["model"] + peak["data"] + peak["intermediates"]


def test_gradients_at_the_peak_are_those_that_are_there_by_then() -> None:
    # Address 1 is used by something else before; 3 comes after the peak.
    changes = [(1, 8), (1, -8), (1, 4), (2, 100), (2, -100), (3, 16), (1, -4), (3, -16)]

    assert at_peak(changes, {1, 3}) == (4, 104)
    assert at_peak(changes[5:], {1, 3}) == (16, 16)
    assert at_peak([], {1}) == (0, 0)


class OnlyIndices(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        return self.linear(x).argmax(-1)


class Branches(nn.Module):
    """Training alone depends on values, which torch.export refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        y = self.linear(x)
        return y * 2 if self.training and y.sum() > 0 else y


def plain(module: type[nn.Module]) -> Model:
    return Model("plain", "", 2, "float32", lambda device: (module(), (torch.randn(2, 4),)))


def test_a_model_of_whole_numbers_cannot_be_trained() -> None:
    with pytest.raises(MmworkloadError, match=r"plain cannot be trained: none of its 1 outputs.*--mode infer"):
        trained(plain(OnlyIndices))


def test_a_model_without_parameters_cannot_be_trained() -> None:
    with pytest.raises(MmworkloadError, match=r"cannot be trained: it has no parameter.*--mode infer"):
        trained(resolve(f"{MODELS}:three_relus"))


def test_an_unknown_mode_is_refused_before_anything_runs() -> None:
    steps: list[int] = []
    with pytest.raises(UnknownNameError, match=r"unknown mode 'training'.*train"):
        measure(plain(Branches), mode="training", progress=lambda done, total: steps.append(done))
    assert steps == []


def test_a_model_that_cannot_be_traced_in_training_mode_has_its_phases_and_says_why() -> None:
    result = trained(plain(Branches))

    assert result.iteration.min_s > 0
    assert (result.stages, result.layers, result.attributed_share) == ((), (), None)
    assert "no stages and layers: plain: the forward pass cannot be exported" in result.note


def test_training_comes_with_a_measurement_and_survives_a_file(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = measure(
        two(),
        mode="train",
        warmup=1,
        repeats=3,
        limit_s=4.0,
        progress=lambda done, total: steps.append((done, total)),
    )

    assert steps == [(done, 7) for done in range(8)]
    assert found.training is not None
    assert found.training.note == ""
    # Inference is inference: no dropout, no loss.
    assert {row.op for row in found.layers} & {"dropout", "mean"} == set()
    path = tmp_path / "m.json"
    found.save(path)
    assert Measurement.load(path) == found
    without = {key: value for key, value in json.loads(path.read_text()).items() if key != "training"}
    path.write_text(json.dumps(without))
    assert Measurement.load(path) == replace(found, training=None)
