"""The traced program computes what the eager model computes, end to end and node by node, every time it is run."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch.utils import _pytree  # noqa: E402

from mmworkload.errors import ModelError  # noqa: E402
from mmworkload.measuring.profiling import profiled  # noqa: E402
from mmworkload.measuring.program import bind, placed  # noqa: E402
from mmworkload.models import resolve  # noqa: E402
from mmworkload.tracing import trace_model  # noqa: E402
from mmworkload.tracing.walk import region_of, regions  # noqa: E402

MODELS = Path(__file__).with_name("user_models.py")
CPU = torch.device("cpu")


def bound(name, device="cpu"):
    model = resolve(name)
    traced = trace_model(model)
    return traced, bind(traced, model.build(device), torch.device(device))


def outputs(run):
    with torch.inference_mode():
        return [item.clone() for item in _pytree.tree_leaves(run()()) if isinstance(item, torch.Tensor)]


@pytest.mark.parametrize(
    "name",
    [
        "av-mnist/concat",
        "torchvision:resnet18",
        *(
            f"{MODELS}:{function}"
            for function in (
                "recurrent", "in_place", "regions", "full_precision", "encoder", "attention", "growing_list",
            )
        ),
    ],
)  # fmt: skip
def test_program_equals_eager_on_every_repeat(name):
    _, program = bound(name)
    expected = outputs(program.eager_run)
    assert expected
    for run in (program.graph_run, program.node_run, program.eager_run, program.graph_run):
        torch.testing.assert_close(outputs(run), expected, rtol=1e-5, atol=1e-5)


def test_what_a_pass_writes_is_restored_and_nothing_else_is_copied():
    _, program = bound(f"{MODELS}:in_place")
    inputs = {"state": 16, "seen": 4, "growth": 4}
    assert sorted(copy.numel() for _, copy in program.pristine) == sorted(inputs.values())
    with torch.inference_mode():
        program.eager_run()()
    tensor, content = max(program.pristine, key=lambda pair: pair[0].numel())
    assert not torch.equal(tensor, content)
    program.graph_run()
    assert torch.equal(tensor, content)


@pytest.mark.parametrize("name", ["av-mnist/concat", f"{MODELS}:regions", f"{MODELS}:in_place"])
def test_node_ranges_are_the_keys_of_the_trace_each_once(name):
    traced, program = bound(name)
    names = [event.name for event in profiled(program.node_run, 1, CPU) if event.kind == "range"]
    # The pass before the recorded one is the first half.
    ranges = names[names.index("run::0") + 1 :]
    assert len(ranges) == len(set(ranges))
    calls = {
        f"node::{key}"
        for key, owner, node in regions(program.graph_module)
        if region_of(owner, node) is None and "getitem" not in str(node.target)
    }
    assert set(ranges) == calls
    assert {f"node::{key}" for key in traced.layer_of_call} <= calls


def test_on_another_device_nothing_is_left_on_the_cpu():
    """The meta device stands for an accelerator: mixing it with CPU tensors is an error."""
    for name in ("recurrent", "in_place"):
        _, program = bound(f"{MODELS}:{name}", "meta")
        for run in (program.graph_run, program.node_run):
            flat = [item for item in _pytree.tree_leaves(run()()) if isinstance(item, torch.Tensor)]
            assert {item.device.type for item in flat} == {"meta"}


def test_regions_and_factories_move_to_the_device_and_assertions_go():
    traced = trace_model(resolve(f"{MODELS}:regions"))
    before = str(traced.program.graph_module.code)
    moved = placed(traced.program.graph_module, torch.device("cuda", 1))
    nodes = [node for _, _, node in regions(moved)]
    devices = {str(node.kwargs["device"]) for node in nodes if "device" in node.kwargs}
    assert devices == {"cuda:1"}
    autocasts = [node.args[0] for node in nodes if "wrap_with_autocast" in str(node.target)]
    assert len(autocasts) >= 2
    assert set(autocasts) == {"cuda"}
    assert not any("_assert_tensor_metadata" in str(node.target) for node in nodes)
    # The caller's program stays as it was.
    assert str(traced.program.graph_module.code) == before
    assert "_assert_tensor_metadata" in "".join(str(node.target) for _, _, node in regions(traced.program.graph_module))


def test_an_instance_without_a_traced_tensor_is_refused():
    model = resolve(f"{MODELS}:in_place")
    built = model.build("cpu")
    del built.module.scale
    with pytest.raises(ModelError, match=r"no tensor 'scale'"):
        bind(trace_model(model), built, CPU)


def test_inputs_of_another_structure_are_refused():
    traced = trace_model(resolve(f"{MODELS}:recurrent"))
    with pytest.raises(ModelError, match="different structure"):
        bind(traced, resolve(f"{MODELS}:attention").build("cpu"), CPU)
