"""Compiled models and CUDA graphs: what each kernel covers, and one clear error where they cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from mmworkload.errors import MmworkloadError, UnavailableError  # noqa: E402
from mmworkload.graph import LayerGraph  # noqa: E402
from mmworkload.layer import Layer  # noqa: E402
from mmworkload.measuring import executions, measure  # noqa: E402
from mmworkload.measuring.attribution import Kernel  # noqa: E402
from mmworkload.measuring.executions import fused_kernels, require_compiler, sources  # noqa: E402
from mmworkload.measuring.result import FusedKernel  # noqa: E402
from mmworkload.models import Model, resolve  # noqa: E402

CPU = torch.device("cpu")

# As the compiler writes it for CUDA: a comment above each call.
TRITON = """
triton_poi_fused_add_relu_0 = async_compile.triton('triton_poi_fused_add_relu_0', ...)
        # Topologically Sorted Source Nodes: [linear], Original ATen: [aten.addmm]
        extern_kernels.mm(arg1_1, reinterpret_tensor(arg0_1, (4, 4), (1, 4), 0), out=buf0)
        # Topologically Sorted Source Nodes: [linear, relu], Original ATen: [aten.addmm, aten.relu]
        stream0 = get_raw_stream(0)
        triton_poi_fused_add_relu_0.run(buf1, arg2_1, 16, stream=stream0)
        # Topologically Sorted Source Nodes: [softmax], Original ATen: [aten._softmax]
        triton_per_fused__softmax_1.run(buf1, buf2, 4, 4, stream=stream0)
        # Topologically Sorted Source Nodes: [relu_1], Original ATen: [aten.relu]
        triton_poi_fused_add_relu_0.run(buf3, arg2_1, 16, stream=stream0)
"""
# For the CPU only library calls have a comment.
CPP = """
        # Topologically Sorted Source Nodes: [conv2d], Original ATen: [aten.convolution]
        buf0 = extern_kernels.convolution(arg0_1, arg1_1, stride=(1, 1))
        cpp_fused_relu_0(buf1, arg2_1)
"""


def test_a_kernel_covers_the_nodes_of_the_comment_above_its_call() -> None:
    assert sources([TRITON]) == {
        "triton_poi_fused_add_relu_0": {"linear", "relu", "relu_1"},
        "triton_per_fused__softmax_1": {"softmax"},
    }


def test_a_comment_above_a_library_call_is_not_of_the_kernel_behind_it() -> None:
    assert sources([CPP]) == {}


def test_a_fused_kernel_belongs_to_the_layers_of_its_nodes() -> None:
    layers = tuple(
        Layer(name=name, op=name, category="Other", module=module)
        for name, module in (("fc", "net.fc"), ("fc:relu", "net.fc"), ("act", "net.act"), ("softmax", "net"))
    )
    graph = LayerGraph("m", "", 1, "float32", layers, {})
    taken = [
        Kernel("triton_poi_fused_add_relu_0", "", run, seconds)
        for run, seconds in (("0", 1.0), ("0", 2.0), ("1", 3.0), ("1", 4.0))
    ] + [
        Kernel("gemm", "", "0", 8.0),
        Kernel("gemm", "", "1", 8.0),
        Kernel("triton_per_fused__softmax_1", "", "0", 1.0),
    ]
    modules = {"linear": "net.fc", "relu": "net.act", "softmax": "net"}

    assert fused_kernels(taken, [TRITON], modules, graph) == (
        FusedKernel("gemm", (), 8.0, 1),
        FusedKernel("triton_poi_fused_add_relu_0", ("fc", "fc:relu", "act"), 5.0, 2),
        FusedKernel("triton_per_fused__softmax_1", ("softmax",), 0.5, 0),
    )


def test_the_number_of_the_graph_is_no_part_of_a_kernels_name() -> None:
    graph = LayerGraph("m", "", 1, "float32", (), {})
    (found,) = fused_kernels([Kernel("graph_3_cpp_fused_relu_0", "", "0", 1.0)], [], {}, graph)
    assert found == FusedKernel("cpp_fused_relu_0", (), 1.0, 1)


def test_a_cuda_graph_on_the_cpu_is_refused_before_anything_runs() -> None:
    steps: list[int] = []
    with pytest.raises(MmworkloadError, match=r"--cuda-graph needs --device cuda"):
        measure(resolve("av-mnist/concat"), cuda_graph=True, progress=lambda done, total: steps.append(done))
    assert steps == []


def test_no_compiler_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executions.shutil, "which", lambda name: None)
    with pytest.raises(UnavailableError, match=r"needs a C\+\+ compiler.*CXX"):
        require_compiler(CPU)


def test_no_triton_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils import _triton

    monkeypatch.setattr(_triton, "has_triton", lambda: False)
    with pytest.raises(UnavailableError, match="pip install triton"):
        require_compiler(torch.device("cuda"))


@pytest.fixture
def compiler() -> Iterator[None]:
    try:
        require_compiler(CPU)
    except UnavailableError as error:
        pytest.skip(str(error))
    yield
    torch._dynamo.reset()


@pytest.mark.slow
def test_a_compiled_model_is_timed_beside_the_eager_one(compiler: None) -> None:
    def build(device: str) -> Any:
        module = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Tanh())
        return module, (torch.randn(64, 32),)

    result = measure(Model("small", "", 64, "float32", build), compiled=True, warmup=1, repeats=3, limit_s=10.0)

    (item,) = result.executions
    assert (item.name, item.time.repeats) == ("compile", 3)
    assert item.time.min_s > 0
    fused = [kernel for kernel in item.kernels if kernel.name.startswith("cpp_fused_")]
    assert len(fused) == 1
    assert "relu" in fused[0].name
    assert "tanh" in fused[0].name
    assert fused[0].calls == 1
    assert fused[0].time_s > 0
