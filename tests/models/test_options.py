"""What is said about a model beside its name, in Python and as options: settings, stages, end to end, a sample."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from typer.testing import CliRunner, Result

from mmworkload import verbs
from mmworkload.cli.app import app
from mmworkload.errors import FormatError, MmworkloadError, ModelError, UnknownNameError
from mmworkload.graph import LayerGraph
from mmworkload.models import Model, Parameter, resolve
from mmworkload.models.names import split
from mmworkload.tracing import trace_model

MINE = """
import torch
from torch import nn

class Both(nn.Module):
    def __init__(self, width, kind):
        super().__init__()
        self.see, self.hear = nn.Linear(8, width), nn.LSTM(6, width, batch_first=True)
        self.mix = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU())
        self.head = nn.Linear(width, 3)
        self.kind = kind

    def forward(self, image, audio, ids, scale=1.0):
        see, hear = self.see(image), self.hear(audio)[0][:, -1]
        if self.kind == "swapped":
            see, hear = hear, see
        mixed = self.mix(torch.cat([see, hear], dim=-1)) * scale
        return self.head(mixed[ids > 0])

def build(batch=2, width=4, kind="plain", flag=True, rate=0.5):
    ids = torch.ones(batch, dtype=torch.long, device="cpu")
    inputs = {"image": torch.randn(batch, 8), "audio": torch.randn(batch, 5, 6), "ids": ids, "scale": 2.0}
    return Both(width, kind), inputs

def positional():
    return nn.Bilinear(4, 4, 2), (torch.randn(3, 4), torch.randn(3, 4))
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "mine.py"
    path.write_text(MINE)
    return path


@pytest.fixture
def never_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace is an error of the test."""
    import mmworkload.tracing

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("it was traced")

    monkeypatch.setattr(mmworkload.tracing, "trace_model", refuse)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On a busy machine torch's threads wait for each other far longer than these small networks run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments])


def refused(*arguments: object) -> str:
    """The one error line of a command that must fail with exit code 2 and print nothing on stdout."""
    result = run(*arguments)
    assert result.exit_code == 2, (result.exit_code, result.stdout, result.stderr, result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def traced(*arguments: object) -> dict[str, Any]:
    result = run("trace", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_name_is_taken_apart() -> None:
    assert split("av-mnist/concat") == ("av-mnist/concat", {}, False)
    assert split("a/b?x=1&end-to-end&y=c,d") == ("a/b", {"x": "1", "y": "c,d"}, True)
    assert split("a?") == ("a", {}, False)
    with pytest.raises(MmworkloadError, match=r"'tokens' has no value; write tokens=VALUE"):
        split("a?tokens")


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("av-mnist", "av-mnist/concat"),
        ("av-mnist/slf?channels=6", "av-mnist/concat"),
        ("av-mnist/concat?fusion=plain&drop=", "av-mnist/concat"),
        ("av-mnist/concat?drop=audio&fusion=sum", "av-mnist/concat?fusion=sum&drop=audio"),
        ("av-mnist/concat?fusion=sum&drop=audio", "av-mnist/concat?fusion=sum&drop=audio"),
        ("av-mnist?end-to-end&channels=08", "av-mnist/concat?channels=8&end-to-end"),
        ("medical-seg/transformer?drop=t1,flair", "medical-seg/transformer?drop=flair,t1"),
        ("torchvision:resnet18?image_size=64", "torchvision:resnet18?image_size=64"),
        ("torchvision:resnet18?image_size=224", "torchvision:resnet18"),
    ],
)
def test_one_meaning_has_one_name(name: str, canonical: str) -> None:
    assert resolve(name).name == canonical
    assert resolve(canonical).name == canonical


def test_what_is_said_beside_a_name_is_in_the_name_too() -> None:
    one = resolve("av-mnist", settings={"drop": ("audio",), "fusion": "sum"}, end_to_end=True)
    assert one.name == "av-mnist/concat?fusion=sum&drop=audio&end-to-end"
    # What is said beside it wins.
    assert resolve("av-mnist?channels=4", settings={"channels": 8}).name == "av-mnist/concat?channels=8"
    assert resolve("av-mnist?channels=4", settings={"channels": 6}).name == "av-mnist/concat"


@pytest.mark.parametrize("name", ["av-mnist/concat?fusion=sum&drop=audio", "av-mnist/tensor?channels=2&end-to-end"])
def test_a_graph_is_traced_again_by_its_name(name: str) -> None:
    graph = trace_model(resolve(name)).graph
    assert graph.model == name
    assert trace_model(resolve(graph.model)).graph == graph


def test_settings_change_the_graph_as_they_say() -> None:
    whole, dropped = (verbs.trace("av-mnist/concat", settings=item) for item in ({}, {"drop": "audio"}))
    assert set(whole.stages) == {"encoder/image", "encoder/audio", "fusion", "head"}
    assert [item.tensor for item in dropped.inputs] == ["image"]
    assert "encoder/audio" not in dropped.stages
    assert dropped.stages["encoder/image"] == whole.stages["encoder/image"]
    doubled = verbs.trace("av-mnist/concat", settings={"channels": 12})
    # All convolutions but the first have twice the channels on both sides.
    first = 28 * 28 * 25 * 6 + 112 * 112 * 25 * 6
    convolutions = [sum(layer.macs for layer in graph if layer.op == "conv2d") for graph in (whole, doubled)]
    assert convolutions[1] - 2 * first == 4 * (convolutions[0] - first)


def test_a_users_function_takes_settings_for_its_numbers_and_texts(mine: Path) -> None:
    model = resolve(f"{mine}:build", settings={"width": "6", "kind": "swapped"})
    assert model.name == f"{mine}:build?width=6&kind=swapped"
    assert set(model.parameters) == {"width", "kind"}
    graph = trace_model(model).graph
    # See, hear in 5 steps, mix, head.
    assert graph.total_macs == 2 * (8 * 6 + 5 * 24 * (6 + 6) + 12 * 6 + 6 * 3)
    assert trace_model(resolve(graph.model)).graph.total_macs == graph.total_macs
    with pytest.raises(UnknownNameError, match=r"'widht'.*width"):
        resolve(f"{mine}:build", settings={"widht": 6})


# --- impossible values ----------------------------------------------------------------------------------------------

IMPOSSIBLE = [
    ("av-mnist/concat", "channels=0", "channels=0 is impossible: 1 to 32"),
    ("av-mnist/concat", "channels=33", "channels=33 is impossible: 1 to 32"),
    ("av-mnist/concat", "channels=many", "channels=many: give a whole number, 1 to 32"),
    ("av-mnist/concat", "channels=2.5", "channels=2.5: give a whole number, 1 to 32"),
    ("av-mnist/concat", "fusion=sun", "sum"),
    ("av-mnist/concat", "drop=vision", "unknown value of drop 'vision'. Known: audio, image"),
    ("av-mnist/concat", "drop=image,vision", "vision"),
    ("av-mnist/concat", "chanels=4", "channels"),
    ("av-mnist/image", "drop=image", "unknown parameter of av-mnist/image 'drop'"),
    ("medical-seg/transformer", "size=100", "size=100 is impossible: 32 to 144, a multiple of 16"),
    ("torchvision:resnet18", "image_size=8", "image_size=8 is impossible: 32 to 4096"),
    ("torchvision:vit_b_16", "image_size=100", "image_size=100 is impossible: 32 to 4096, a multiple of 16"),
    ("torchvision:maxvit_t", "image_size=256", "image_size=256 is impossible: 224 to 4032, a multiple of 224"),
    ("torchvision:mvit_v2_s", "image_size=256", "image_size=256 is impossible: 224 to 224"),
    ("torchvision:resnet18", "size=64", "image_size"),
]


@pytest.mark.usefixtures("never_traced")
@pytest.mark.parametrize(("model", "setting", "complaint"), IMPOSSIBLE)
def test_an_impossible_value_is_refused_before_tracing(model: str, setting: str, complaint: str) -> None:
    assert complaint in refused("trace", model, "--set", setting)
    assert complaint in refused("show", f"{model}?{setting}")


@pytest.mark.usefixtures("never_traced")
@pytest.mark.parametrize("verb", ["show", "measure", "simulate", "validate", "export"])
def test_every_verb_refuses_it(verb: str, tmp_path: Path) -> None:
    arguments: dict[str, tuple[object, ...]] = {
        "simulate": ("--arch", "eyeriss_like"),
        "validate": ("--arch", "eyeriss_like"),
        "export": ("--arch", "eyeriss_like", "-o", tmp_path / "out"),
    }
    model = ("timeloop", "av-mnist") if verb == "export" else ("av-mnist",)
    assert "1 to 32" in refused(verb, *model, *arguments.get(verb, ()), "--set", "channels=0")
    assert "preprocess, encoder/MODALITY, fusion, head or head/OUTPUT" in refused(
        verb, *model, *arguments.get(verb, ()), "--stage", "middle=encoders"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("never_traced")
def test_a_wrong_spelling_of_an_option_says_how_to_write_it() -> None:
    assert "--set tokens: write NAME=VALUE, as in --set tokens=128" in refused("trace", "av-mnist", "--set", "tokens")
    assert "write NAME=VALUE" in refused("trace", "av-mnist", "--set", "channels=")
    assert "--stage encoder/image: write NAME=VALUE" in refused("trace", "av-mnist", "--stage", "encoder/image")
    assert "'channels' has no value" in refused("trace", "av-mnist?channels")


def test_dropping_everything_is_refused() -> None:
    assert "keep at least one" in refused("trace", "av-mnist", "--set", "drop=image,audio")


NUMBER = Parameter(6, "", low=2, high=10, step=2)
CHOICE = Parameter("a", "", choices=("a", "b"))
SEVERAL = Parameter((), "", choices=("x", "y", "z"), several=True)


@pytest.mark.parametrize(
    ("parameter", "given", "value"),
    [
        (NUMBER, "4", 4),
        (NUMBER, 4, 4),
        (NUMBER, 4.0, 4),
        (CHOICE, "b", "b"),
        (SEVERAL, "z,x", ("x", "z")),
        (SEVERAL, ["z", "x", "z"], ("x", "z")),
        (SEVERAL, {"y"}, ("y",)),
        (SEVERAL, "", ()),
        (Parameter("text", ""), "anything, at all", "anything, at all"),
    ],
)
def test_a_setting_is_read(parameter: Parameter, given: Any, value: Any) -> None:
    assert parameter.read("p", given) == value


@pytest.mark.parametrize(
    ("parameter", "given", "complaint"),
    [
        (NUMBER, 3, "p=3 is impossible: 2 to 10, a multiple of 2"),
        (NUMBER, 0, "p=0 is impossible"),
        (NUMBER, 12, "p=12 is impossible"),
        (NUMBER, 4.5, "p=4.5: give a whole number, 2 to 10, a multiple of 2"),
        (NUMBER, math.nan, "give a whole number"),
        (NUMBER, math.inf, "give a whole number"),
        (NUMBER, None, "give a whole number"),
        (NUMBER, [4], "give a whole number"),
        (CHOICE, "c", "unknown value of p 'c'"),
        (CHOICE, 3, "unknown value of p '3'"),
        (SEVERAL, "x,w", "unknown value of p 'w'"),
        (SEVERAL, 3, "unknown value of p '3'"),
    ],
)
def test_a_setting_that_cannot_be_is_one_error(parameter: Parameter, given: Any, complaint: str) -> None:
    with pytest.raises(MmworkloadError) as caught:
        parameter.read("p", given)
    assert complaint in str(caught.value)


# --- stages ---------------------------------------------------------------------------------------------------------


def stages_of(data: dict[str, Any]) -> dict[str, str]:
    return {layer["layer"]: layer["stage"] for layer in data["layers"]}


def stage_of(graph: LayerGraph, name: str) -> tuple[str, str]:
    return graph[name].stage, graph[name].rule


def test_a_stage_rule_wins_over_data_flow(mine: Path) -> None:
    plain = verbs.trace(f"{mine}:build")
    # The whole numbers choose rows: they are no modality, so that what follows the concatenation is head.
    assert {item.tensor: item.role for item in plain.inputs}["ids"] == "auxiliary"
    assert (plain["cat"].stage, plain["mix.0"].stage, plain["head"].stage) == ("fusion", "head", "head")
    ruled = verbs.trace(f"{mine}:build", stages={"mix": "fusion", "see": "preprocess", "head": "encoder/image"})
    assert stage_of(ruled, "mix.0") == ("fusion", "rule mix")
    assert stage_of(ruled, "see") == ("preprocess", "rule see")
    assert stage_of(ruled, "head") == ("encoder/image", "rule head")
    assert ruled["see"].placement == "host"
    # What is not named stays with data flow; nothing but stages changes.
    assert ruled["hear"].stage == plain["hear"].stage == "encoder/audio"
    assert [(layer.name, layer.work) for layer in ruled] == [(layer.name, layer.work) for layer in plain]


def test_a_stage_rule_wins_over_the_rules_of_a_workload() -> None:
    plain = verbs.trace("av-mnist/concat")
    one = "encoders.image.convs.0"
    assert stage_of(plain, one) == ("encoder/image", f"rule {plain[one].rule.removeprefix('rule ')}")
    glob = plain[one].rule.removeprefix("rule ")
    # A part of what the workload's rule names, and the very modules that it names.
    part = verbs.trace("av-mnist/concat", stages={"encoders.image.convs.*": "fusion"})
    assert part[one].stage == "fusion"
    assert part["encoders.image.norms.0"].stage == "encoder/image"
    same = verbs.trace("av-mnist/concat", stages={glob: "head"})
    assert stage_of(same, one) == ("head", f"rule {glob}")
    assert "encoder/image" not in same.stages


def test_stage_rules_on_the_command_line(mine: Path) -> None:
    data = traced(f"{mine}:build", "--stage", "fusion=mix", "--stage", "head/answer=head")
    found = stages_of(data)
    assert (found["mix.0"], found["head"], found["see"]) == ("fusion", "head/answer", "encoder/image")
    data = traced("av-mnist/image", "--stage", "head=encoders.*")
    assert "encoder/image" not in data["stages"]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("encoder/image=seee", "see"),
        ("fusion=mixer.*", "mix"),
        ("encoder/smell=see", "audio, image"),
        ("heads=mix", "head/OUTPUT"),
    ],
)
def test_a_stage_rule_that_does_nothing_is_refused(mine: Path, rule: str, said: str) -> None:
    assert said in refused("trace", f"{mine}:build", "--stage", rule)


def test_a_file_of_the_user_has_its_own_stage_rules(mine: Path, tmp_path: Path) -> None:
    own = tmp_path / "ruled.py"
    own.write_text(MINE + 'STAGES = {"mix.0": "fusion", "mix": "head/mixed"}\n')
    graph = verbs.trace(f"{own}:build")
    assert stage_of(graph, "mix.0") == ("fusion", "rule mix.0")
    assert stage_of(graph, "mix.1") == ("head/mixed", "rule mix")
    # What is said beside the name comes first.
    assert verbs.trace(f"{own}:build", stages={"mix*": "fusion"})["mix.1"].stage == "fusion"


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ('["mix"]', "STAGES maps modules to stages"),
        ('{"mix": 3}', "STAGES maps modules to stages"),
        ('{"mix": "fuse"}', "a stage is preprocess"),
        ('{"mixture": "fusion"}', "mix"),
        ('{"see": "encoder/smell"}', "audio, image"),
    ],
)
def test_stage_rules_of_a_file_that_do_nothing_are_refused(tmp_path: Path, stages: str, said: str) -> None:
    own = tmp_path / "ruled.py"
    own.write_text(f"{MINE}STAGES = {stages}\n")
    assert said in refused("trace", f"{own}:build")


def test_a_kind_of_stage_names_all_of_its_kind(mine: Path) -> None:
    encoders = verbs.trace(f"{mine}:build", only=["encoder"])
    assert list(encoders.stages) == ["encoder/image", "encoder/audio"]
    heads = verbs.trace(f"{mine}:build", stages={"mix": "head/mix", "head": "head/answer"}, only=["head"])
    assert {"head/mix", "head/answer"} <= set(heads.stages)


def test_the_first_rule_that_matches_decides(mine: Path) -> None:
    graph = verbs.trace(f"{mine}:build", stages={"mix.0": "head", "mix*": "fusion"})
    assert (graph["mix.0"].stage, graph["mix.1"].stage) == ("head", "fusion")


# --- end to end -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both_ways() -> tuple[LayerGraph, LayerGraph]:
    return verbs.trace("av-mnist/concat"), verbs.trace("av-mnist/concat", end_to_end=True)


def test_end_to_end_adds_a_stage_on_the_host_and_changes_nothing_else(both_ways: tuple[LayerGraph, LayerGraph]) -> None:
    plain, whole = both_ways
    assert whole.model == "av-mnist/concat?end-to-end"
    assert next(iter(whole.stages)) == "preprocess"
    before = [layer for layer in whole if layer.stage == "preprocess"]
    after = [layer for layer in whole if layer.stage != "preprocess"]
    assert before
    assert {layer.placement for layer in before} == {"host"}
    assert {layer.placement for layer in after} == {"device"}
    assert all(layer.module.startswith("preprocess") for layer in before)
    # Same names, work, stages; the first layers read what was prepared.
    assert [(item.name, item.work, item.vector_ops, item.stage, item.write_bytes) for item in after] == [
        (item.name, item.work, item.vector_ops, item.stage, item.write_bytes) for item in plain
    ]
    assert [item.read_bytes for item in after] == [item.read_bytes for item in plain]
    assert whole.total_macs - sum(item.macs for item in before) == plain.total_macs
    assert [(item.tensor, item.shape, item.modality) for item in whole.inputs] == [
        ("pixels", (1, 28, 28), "image"), ("waveform", (1, 8000), "audio"),
    ]  # fmt: skip


def test_end_to_end_keeps_the_host_in_single_precision() -> None:
    whole = verbs.trace("av-mnist/concat", end_to_end=True, dtype="bfloat16")
    written = {
        layer.placement: {whole.tensors[name].dtype for name, _ in layer.writes}
        for layer in whole
        if layer.op not in ("to", "fill")
    }
    assert written["device"] == {"bfloat16"}
    assert "bfloat16" not in written["host"]


def test_end_to_end_on_the_command_line_and_in_the_name_are_one(both_ways: tuple[LayerGraph, LayerGraph]) -> None:
    assert LayerGraph.from_dict(traced("av-mnist/concat", "--end-to-end")) == both_ways[1]
    assert LayerGraph.from_dict(traced("av-mnist/concat?end-to-end")) == both_ways[1]


@pytest.mark.usefixtures("never_traced")
def test_end_to_end_is_refused_where_nothing_is_prepared(mine: Path) -> None:
    assert "only workloads know how to pre-process" in refused("trace", "torchvision:resnet18", "--end-to-end")
    assert "only workloads know how to pre-process" in refused("trace", f"{mine}:build?end-to-end")
    assert "nothing to pre-process" in refused("trace", "vision-touch/action", "--end-to-end")


def test_simulating_leaves_the_host_out_and_says_so(both_ways: tuple[LayerGraph, LayerGraph]) -> None:
    plain, whole = (verbs.simulate(graph, "eyeriss_like", simulator="roofline") for graph in both_ways)
    assert [item.layer for item in whole.layers] == [item.layer for item in plain.layers]
    assert not any(item.stage == "preprocess" for item in whole.layers)
    hosted = sum(layer.placement == "host" for layer in both_ways[1])
    assert f"{hosted} layers run on the host, which is measured and not simulated" in whole.assumptions
    assert not any("host" in item for item in plain.assumptions)
    with pytest.raises(MmworkloadError, match="every layer runs on the host"):
        verbs.simulate(both_ways[1], "eyeriss_like", simulator="roofline", only=["preprocess"])


@pytest.mark.usefixtures("one_thread")
def test_measuring_end_to_end_times_the_preparation() -> None:
    result = verbs.measure("av-mnist/concat", end_to_end=True, warmup=1, repeats=3, limit_s=1.0)
    assert result.model == "av-mnist/concat?end-to-end"
    assert result.stages()["preprocess"] > 0
    rows = {row.layer: row for row in result.layers}
    assert rows["preprocess.spectrum:stft"].kernels > 0
    assert rows["encoders.image.convs.0"].kernels > 0


def test_a_prepared_network_computes_what_preparing_by_hand_gives() -> None:
    whole = resolve("av-mnist/concat", end_to_end=True).build("cpu")
    plain = resolve("av-mnist/concat").build("cpu")
    weights = {key: value for key, value in whole.module.state_dict().items() if not key.startswith("preprocess.")}
    plain.module.load_state_dict(weights)
    with torch.inference_mode():
        torch.testing.assert_close(
            whole.module(**whole.kwargs), plain.module(**whole.module.preprocess(**whole.kwargs))
        )


# --- a sample -------------------------------------------------------------------------------------------------------


def sample_of(model: Model) -> dict[str, Any]:
    return model.build("cpu").kwargs


def save(path: Path, tensors: dict[str, Any]) -> Path:
    if path.suffix == ".npz":
        numpy.savez(path, **{name: item.numpy() for name, item in tensors.items()})
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".pth"])
def test_a_sample_replaces_the_random_inputs(tmp_path: Path, suffix: str) -> None:
    tensors = {"image": torch.full((2, 1, 28, 28), 3.0), "audio": torch.full((2, 1, 112, 112), 5.0)}
    path = save(tmp_path / f"sample{suffix}", tensors)
    built = resolve("av-mnist", batch=2, inputs=path).build("cpu")
    assert {name: float(item.mean()) for name, item in built.kwargs.items()} == {"image": 3.0, "audio": 5.0}
    half = resolve("av-mnist", batch=2, inputs=path, dtype="bfloat16").build("cpu")
    assert {item.dtype for item in half.kwargs.values()} == {torch.bfloat16}
    graph = verbs.trace("av-mnist", batch=2, inputs=path)
    assert graph == verbs.trace("av-mnist", batch=2)
    assert LayerGraph.from_dict(traced("av-mnist", "--batch", 2, "--inputs", path)) == graph


def test_a_sample_of_raw_inputs(tmp_path: Path) -> None:
    model = resolve("av-mnist", end_to_end=True)
    path = save(tmp_path / "raw.npz", {**sample_of(model), "pixels": torch.full((1, 28, 28), 7, dtype=torch.uint8)})
    built = resolve("av-mnist", end_to_end=True, inputs=path).build("cpu")
    assert built.kwargs["pixels"].unique().tolist() == [7]
    assert verbs.trace("av-mnist", end_to_end=True, inputs=path).total_macs == verbs.trace("av-mnist").total_macs


@pytest.mark.usefixtures("one_thread")
def test_a_sample_is_measured(tmp_path: Path) -> None:
    path = save(tmp_path / "sample.npz", sample_of(resolve("av-mnist")))
    result = verbs.measure("av-mnist", inputs=path, warmup=1, repeats=3, limit_s=5.0)
    assert result.layer_sum_s > 0
    assert len(result.layers) == len(verbs.trace("av-mnist"))


def test_the_values_of_a_sample_decide_a_branch(mine: Path, tmp_path: Path) -> None:
    """Three of four ids are positive: so many rows reach the head."""
    batch = {"image": torch.randn(4, 8), "audio": torch.randn(4, 5, 6), "ids": torch.tensor([1, 0, 2, 3])}
    path = save(tmp_path / "ids.pt", batch)
    graph = verbs.trace(f"{mine}:build", batch=4, inputs=path)
    assert graph.route == "recorder"
    assert graph["head"].macs == 3 * 4 * 3
    # The number among the inputs stays.
    assert resolve(f"{mine}:build", batch=4, inputs=path).build("cpu").kwargs["scale"] == 2.0


def test_positional_inputs_are_numbered(mine: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "pair.npz", {"input_1": torch.ones(3, 4), "input_0": torch.zeros(3, 4)})
    built = resolve(f"{mine}:positional", inputs=path).build("cpu")
    assert [float(item.sum()) for item in built.args] == [0.0, 12.0]


Wrong = Callable[[dict[str, Any]], dict[str, Any]]
WRONG: dict[str, tuple[Wrong, str]] = {
    "shape": (
        lambda tensors: {**tensors, "image": tensors["image"][:, :, 1:]},
        "'image' has shape [1, 1, 27, 28], av-mnist/concat takes [1, 1, 28, 28]; change the sample",
    ),
    "batch": (
        lambda tensors: {name: item.repeat(2, 1, 1, 1) for name, item in tensors.items()},
        "'image' has shape [2, 1, 28, 28]",
    ),
    "missing": (lambda tensors: {"image": tensors["image"]}, "has no 'audio'; av-mnist/concat takes image, audio"),
    "name": (lambda tensors: {**tensors, "imgae": tensors["image"]}, "'imgae'"),
    "type": (
        lambda tensors: {**tensors, "image": tensors["image"].long()},
        "'image' is torch.int64, av-mnist/concat takes torch.float32",
    ),
    "complex": (lambda tensors: {**tensors, "image": tensors["image"] + 0j}, "'image' is torch.complex64"),
}


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
@pytest.mark.parametrize("name", WRONG)
def test_a_sample_that_does_not_fit_is_one_error(tmp_path: Path, suffix: str, name: str) -> None:
    change, complaint = WRONG[name]
    path = save(tmp_path / f"sample{suffix}", change(sample_of(resolve("av-mnist"))))
    error = refused("trace", "av-mnist", "--inputs", path)
    assert complaint in error
    assert str(path) in error
    if name == "name":
        assert "image" in error


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("sample.csv", b"1,2", "a sample is a .npz, or a .pt with a dictionary of tensors"),
        ("sample.npz", b"", "cannot read"),
        ("sample.npz", b"not an archive", "cannot read"),
        ("sample.pt", b"", "cannot read"),
        ("sample.pt", b"not a file of torch", "cannot read"),
        ("nowhere.npz", None, "cannot read"),
        ("nowhere.pt", None, "cannot read"),
    ],
)
def test_a_sample_that_cannot_be_read_is_one_error(
    tmp_path: Path, file: str, content: bytes | None, complaint: str
) -> None:
    path = tmp_path / file
    if content is not None:
        path.write_bytes(content)
    error = refused("trace", "av-mnist", "--inputs", path)
    assert complaint in error
    assert file in error


def test_a_sample_of_anything_but_tensors_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "sample.pt"
    torch.save([torch.zeros(1)], path)
    assert "does not hold a dictionary of tensors" in refused("trace", "av-mnist", "--inputs", path)
    torch.save({"image": torch.zeros(1), "label": "three"}, path)
    assert "does not hold a dictionary of tensors" in refused("trace", "av-mnist", "--inputs", path)
    # A pickle of a class of somebody's is not loaded.
    torch.save(Parameter(1, "not a tensor"), path)
    assert "cannot read" in refused("trace", "av-mnist", "--inputs", path)
    numpy.savez(tmp_path / "objects.npz", image=numpy.array([object()], dtype=object))
    assert "cannot read" in refused("trace", "av-mnist", "--inputs", tmp_path / "objects.npz")


def test_a_sample_with_numbers_for_names_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "sample.pt"
    torch.save({0: torch.zeros(1, 1, 28, 28), "audio": torch.zeros(1, 1, 112, 112)}, path)
    error = refused("trace", "av-mnist", "--inputs", path)
    assert "has the key 0" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_a_sample_that_unpacks_to_too_much_is_refused_by_its_directory(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten megabytes of zeros, in an archive of some kilobytes; nothing is unpacked."""
    path = save(tmp_path / f"plain{suffix}", {"image": torch.zeros(2_500_000), "audio": torch.zeros(1)})
    packed = tmp_path / f"packed{suffix}"
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in plain.infolist():
            archive.writestr(item.filename, plain.read(item))
    assert packed.stat().st_size < 100_000
    monkeypatch.setattr("mmworkload.models.sample.LARGEST_BYTES", 1_000_000)
    for reader in (torch, numpy):
        monkeypatch.setattr(reader, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    error = refused("trace", "av-mnist", "--inputs", packed)
    assert "unpacks to 10,00" in error
    assert len(error.splitlines()) == 1


def test_a_sample_for_a_function_names_its_inputs(mine: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "scale.pt", {"scale": torch.ones(1)})
    with pytest.raises(UnknownNameError, match=r"'scale'.*image"):
        resolve(f"{mine}:build", inputs=path).build("cpu")
    path = save(tmp_path / "other.pt", {"image": torch.zeros(2, 8)})
    with pytest.raises(FormatError, match=r"has no 'audio'.*takes image, audio, ids"):
        resolve(f"{mine}:build", inputs=path).build("cpu")


# --- what is traced already -----------------------------------------------------------------------------------------


def test_a_saved_graph_takes_no_options(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    assert run("trace", "av-mnist/image", "-o", path).exit_code == 0
    for option in (("--set", "channels=4"), ("--stage", "head=encoders"), ("--end-to-end",), ("--inputs", path)):
        assert "traced already" in refused("show", path, *option)


def test_a_function_without_a_batch_says_so(mine: Path) -> None:
    with pytest.raises(ModelError, match="takes no parameter 'batch'"):
        resolve(f"{mine}:positional", batch=2)
