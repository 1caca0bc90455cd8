"""From a name to a model: workloads, torchvision, a user's own file; and one clear error for each thing that fails."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from mmworkload.errors import MmworkloadError, ModelError, UnknownNameError
from mmworkload.models import InputSpec, families, resolve, synthesize
from mmworkload.tracing import trace_model

SOURCE = """
import torch
from torch import nn

class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.text, self.join = nn.Linear(4, 3), nn.Linear(5, 3), nn.Linear(6, 2)
    def forward(self, image, text):
        return self.join(torch.cat([self.image(image), self.text(text)], -1))

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
        self.head.weight = self.table.weight
    def forward(self, tokens):
        return self.head(self.table(tokens))

def as_tuple():
    return Pair(), (torch.randn(2, 4), torch.randn(2, 5))

def as_list():
    return Pair(), [torch.randn(2, 4), torch.randn(2, 5)]

def as_dict(batch=2):
    return Pair(), {"text": torch.randn(batch, 5), "image": torch.randn(batch, 4)}

def as_tensor():
    return nn.Linear(4, 3), torch.randn(2, 4)

def tied():
    return Tied(), (torch.zeros(2, 3, dtype=torch.long),)

SHARED = Tied()

def shared():
    return SHARED, (torch.zeros(2, 3, dtype=torch.long),)

def reads_values():
    steps = int(torch.linspace(0, 2, 3).sum().item())
    return nn.Sequential(*(nn.Linear(4, 4) for _ in range(steps))), (torch.randn(2, 4),)

def raises():
    return nn.Linear(4, 3), (torch.randn(2, "wide"),)

def raises_on_purpose():
    raise ValueError("no checkpoint here")

class Broken(nn.Module):
    def forward(self, x):
        return x @ torch.randn(7, 7)

def breaks():
    return Broken(), (torch.randn(2, 4),)

def model_alone():
    return nn.Linear(4, 3)

def wrong_inputs():
    return nn.Linear(4, 3), 7

def needs_sibling():
    from sibling_of_the_model import WIDTH
    return nn.Linear(WIDTH, 3), torch.randn(2, WIDTH)

not_a_function = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    (tmp_path / "sibling_of_the_model.py").write_text("WIDTH = 6\n")
    return path


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(SOURCE.splitlines(), 1) if text in line)


# --- a user's own file ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["as_tuple", "as_list", "as_dict"])
def test_a_function_gives_a_model_and_its_inputs(file: Path, function: str) -> None:
    model = resolve(f"{file}:{function}")
    graph = trace_model(model).graph
    # Only as_dict says what its batch is.
    batch = 2 if function == "as_dict" else 1
    assert (graph.model, graph.variant, graph.batch) == (f"{file}:{function}", function, batch)
    assert (graph.total_macs, graph.total_params) == (2 * (12 + 15 + 12), 15 + 18 + 14)
    assert {item.tensor: item.shape for item in graph.inputs} == {"image": (2, 4), "text": (2, 5)}
    assert set(graph.stages) == {"encoder/image", "encoder/text", "fusion", "head"}
    built = model.build("cpu")
    assert built.module(*built.args, **built.kwargs).shape == (2, 2)
    assert bool(built.kwargs) == (function == "as_dict")


def test_a_single_tensor_is_a_tuple_of_one(file: Path) -> None:
    assert trace_model(resolve(f"{file}:as_tensor")).graph.total_macs == 24


def test_nothing_is_allocated_on_the_meta_device_and_the_same_numbers_are_drawn_each_time(file: Path) -> None:
    model = resolve(f"{file}:as_tuple")
    meta = model.build("meta")
    assert {item.device.type for item in (*meta.module.parameters(), *meta.args)} == {"meta"}
    first, second = model.build("cpu"), model.build("cpu")
    assert not first.module.training
    assert all(torch.equal(a, b) for a, b in zip(first.module.parameters(), second.module.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first.args, second.args, strict=True))


def test_a_batch_is_given_to_a_function_that_takes_one(file: Path) -> None:
    graph = trace_model(resolve(f"{file}:as_dict", batch=5)).graph
    assert (graph.batch, graph.total_macs) == (5, 5 * 39)
    with pytest.raises(ModelError, match=r"--batch 5 cannot be given: as_tuple\(\) takes no parameter 'batch'"):
        resolve(f"{file}:as_tuple", batch=5)


def test_another_type_is_given_to_weights_and_inputs(file: Path) -> None:
    built = resolve(f"{file}:as_tuple", dtype="bfloat16").build("cpu")
    assert {item.dtype for item in (*built.module.parameters(), *built.args)} == {torch.bfloat16}
    tokens = resolve(f"{file}:tied", dtype="float16").build("cpu")
    assert tokens.args[0].dtype == torch.int64
    graph = trace_model(resolve(f"{file}:as_tuple", dtype="bfloat16")).graph
    assert graph.totals().weight_bytes == 2 * 47


def test_tied_weights_are_counted_once(file: Path) -> None:
    graph = trace_model(resolve(f"{file}:tied")).graph
    assert (graph.total_params, graph.built_params) == (40, 40)


def test_a_model_made_outside_of_the_function_keeps_its_ties_and_its_weights(file: Path) -> None:
    model = resolve(f"{file}:shared")
    for _ in range(2):
        graph = trace_model(model).graph
        assert (graph.total_params, graph.built_params) == (40, 40)
    built = model.build("cpu")
    assert built.module(*built.args).shape == (2, 3, 10)


def test_a_constructor_that_reads_values_is_built_for_real(file: Path) -> None:
    graph = trace_model(resolve(f"{file}:reads_values")).graph
    assert (graph.total_macs, len(graph)) == (3 * 2 * 16, 3)


def test_a_function_that_raises_is_one_error_that_names_file_and_line(file: Path) -> None:
    for function, message, line in (
        ("raises_on_purpose", "ValueError: no checkpoint here", "raise ValueError"),
        ("raises", "TypeError: ", "wide"),
    ):
        with pytest.raises(ModelError) as caught:
            trace_model(resolve(f"{file}:{function}"))
        text = str(caught.value)
        assert text.startswith(f"{file}:{function}: building the model raised {message}")
        assert f"{file}:{line_of(line)} in {function}" in text
        assert "\n" not in text


def test_a_forward_that_raises_is_one_error_that_names_file_and_line(file: Path) -> None:
    with pytest.raises(ModelError) as caught:
        trace_model(resolve(f"{file}:breaks"))
    assert "the forward pass raised RuntimeError" in str(caught.value)
    assert f"{file}:{line_of('torch.randn(7, 7)')} in forward" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("model_alone", r"must return \(model, example_inputs\), not Linear"),
        ("wrong_inputs", "example_inputs must be a tensor, a tuple or a dictionary of keyword arguments, not int"),
    ],
)
def test_a_wrong_return_value_is_one_error(file: Path, function: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        trace_model(resolve(f"{file}:{function}"))


def test_a_missing_function_suggests_the_nearest(file: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown function in .*mine\.py 'as_tupel'\. Did you mean as_tuple"):
        resolve(f"{file}:as_tupel")
    with pytest.raises(UnknownNameError, match=r"unknown function in .* 'not_a_function'"):
        resolve(f"{file}:not_a_function")
    with pytest.raises(ModelError, match=r"name the function too, as in .*mine\.py:build"):
        resolve(str(file))


def test_a_file_that_cannot_be_loaded_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no file .*none\.py"):
        resolve(f"{tmp_path / 'none.py'}:build")
    broken = tmp_path / "broken.py"
    broken.write_text("import a_package_that_nobody_has\n")
    with pytest.raises(ModelError, match=r"loading .*broken\.py raised ModuleNotFoundError"):
        resolve(f"{broken}:build")
    broken.write_text("def build(:\n")
    with pytest.raises(ModelError, match=r"loading .*broken\.py raised SyntaxError.*line 1"):
        resolve(f"{broken}:build")


def test_files_of_one_name_in_two_folders_stay_apart(tmp_path: Path) -> None:
    models = []
    for width in (3, 5):
        folder = tmp_path / str(width)
        folder.mkdir()
        code = f"""
            import torch
            WIDTH = {width}
            def build():
                return torch.nn.Linear(WIDTH, 1), torch.randn(1, WIDTH)
            """
        (folder / "net.py").write_text(textwrap.dedent(code))
        models.append(resolve(f"{folder / 'net.py'}:build"))
    assert [trace_model(model).graph.total_macs for model in models] == [3, 5]


def test_a_function_may_import_the_file_next_to_it(file: Path) -> None:
    assert trace_model(resolve(f"{file}:needs_sibling")).graph.total_macs == 36


# --- workloads ------------------------------------------------------------------------------------------------------


def test_a_workload_has_a_default_variant_and_aliases() -> None:
    assert resolve("av-mnist").name == resolve("av-mnist/slfs").name == resolve("av-mnist/concat").name
    assert resolve("mujoco-push/lf").name == "mujoco-push/late"
    model = resolve("av-mnist/concat", batch=7)
    assert (model.variant, model.batch) == ("concat", 7)
    assert [spec.shape for spec in model.specs] == [(7, 1, 28, 28), (7, 1, 112, 112)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("av-minst", "unknown workload 'av-minst'. Did you mean av-mnist"),
        ("av-mnist/conat", "unknown variant 'av-mnist/conat'. Did you mean av-mnist/concat"),
        ("mujoco-psh/late", "Did you mean mujoco-push/late"),
        ("", "unknown workload ''. Known: across-stack"),
        ("torchvison:resnet50", "unknown kind of model 'torchvison'. Did you mean torchvision"),
        ("torchvision:resnet5", "unknown torchvision model 'resnet5'. Did you mean resnet50"),
        ("torchvision:", "unknown torchvision model ''"),
    ],
)
def test_a_name_that_is_not_known_suggests_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        resolve(name)
    assert message in str(caught.value)


def test_an_impossible_batch_or_type_is_refused_before_anything_is_built() -> None:
    with pytest.raises(MmworkloadError, match="--batch 0: a batch has at least one sample"):
        resolve("av-mnist", batch=0)
    with pytest.raises(UnknownNameError, match=r"unknown dtype 'float23'\. Did you mean float32"):
        resolve("av-mnist", dtype="float23")


def test_inputs_are_drawn_from_their_declaration() -> None:
    specs = (
        InputSpec("image", (2, 3)),
        InputSpec("tokens", (2, 40), dtype="int64", high=7),
        InputSpec("mask", (2, 4), dtype="bool"),
    )
    made = synthesize(specs)
    assert {name: (tuple(item.shape), item.dtype) for name, item in made.items()} == {
        "image": ((2, 3), torch.float32),
        "tokens": ((2, 40), torch.int64),
        "mask": ((2, 4), torch.bool),
    }
    assert set(made["tokens"].unique().tolist()) <= set(range(7))
    assert made["mask"].all()


def test_listing_the_workloads_does_not_import_torch() -> None:
    import subprocess
    import sys

    script = "import sys; from mmworkload.models import families; families(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    assert set(families()) >= {"av-mnist", "mujoco-push"}


# --- torchvision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "macs", "params"),
    [
        ("resnet50", 4089184256, 25557032),
        ("vgg16", 15470264320, 138357544),
        pytest.param("densenet121", 2834161664, 7978856, marks=pytest.mark.slow),
    ],
)
def test_torchvision_totals(name: str, macs: int, params: int) -> None:
    graph = trace_model(resolve(f"torchvision:{name}")).graph
    assert (graph.total_macs, graph.total_params, graph.built_params) == (macs, params, params)
    assert list(graph.stages) == ["encoder/image"]
    assert [item.shape for item in graph.inputs] == [(1, 3, 224, 224)]
    assert {item.treatment for item in graph.coverage} == {"lowered", "ignored"}


def test_a_torchvision_model_scales_with_its_batch() -> None:
    one, four = (trace_model(resolve("torchvision:alexnet", batch=batch)).graph for batch in (1, 4))
    assert one.total_macs == 714188480
    assert four.total_macs == 4 * one.total_macs
    assert [layer.name for layer in one] == [layer.name for layer in four]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("inception_v3", (1, 3, 299, 299)),
        ("r3d_18", (1, 3, 16, 112, 112)),
        ("regnet_y_400mf", (1, 3, 224, 224)),
    ],
)
def test_a_torchvision_model_gets_the_input_of_its_weights(name: str, shape: tuple[int, ...]) -> None:
    (spec,) = resolve(f"torchvision:{name}").specs
    assert (spec.shape, spec.modality) == (shape, "video" if len(shape) == 5 else "image")


def test_a_segmentation_model_is_built_without_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a download was tried")

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    graph = trace_model(resolve("torchvision:lraspp_mobilenet_v3_large")).graph
    assert graph.built_params == 3221538


@pytest.mark.parametrize("name", [pytest.param("ssdlite320_mobilenet_v3_large", marks=pytest.mark.slow), "raft_small"])
def test_a_torchvision_model_that_cannot_be_traced_is_one_error(name: str) -> None:
    with pytest.raises(MmworkloadError):
        trace_model(resolve(f"torchvision:{name}"))


def test_a_forced_dtype_does_not_change_a_module_made_elsewhere(file: Path) -> None:
    name = f"{file}:shared"
    wide = trace_model(resolve(name)).graph.totals().weight_bytes
    narrow = trace_model(resolve(name, dtype="bfloat16")).graph.totals().weight_bytes
    assert (wide, narrow, trace_model(resolve(name)).graph.totals().weight_bytes) == (160, 80, 160)


def test_a_batch_that_the_function_defaults_to_is_the_graphs(tmp_path: Path) -> None:
    path = tmp_path / "four.py"
    path.write_text(
        "import torch\n\n\ndef build(batch=4):\n    return torch.nn.Linear(3, 2), (torch.zeros(batch, 3),)\n"
    )
    graphs = [trace_model(resolve(f"{path}:build", batch=batch)).graph for batch in (None, 5)]
    assert [(graph.batch, graph.total_macs) for graph in graphs] == [(4, 24), (5, 30)]


@pytest.mark.parametrize(
    ("argument", "role", "modality"),
    [
        ("attention_mask", "mask", "attention_mask"),
        ("position_ids", "position", "position_ids"),
        ("position", "modality", "position"),
        ("encoder_hidden_states", "modality", "encoder_hidden_states"),
        ("hidden", "state", "hidden"),
        ("past_key_values", "state", "past_key_values"),
        ("pixel_values", "modality", "image"),
        ("input_ids", "modality", "text"),
    ],
)
def test_undeclared_inputs_are_guessed_from_their_names(argument: str, role: str, modality: str) -> None:
    model = resolve("torchvision:resnet18")
    info = model.input_info(argument, (1, 3), "float32")
    assert (info.role, info.modality) == (role, modality)
