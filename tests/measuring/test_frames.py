"""Frames of kernels and host activity from records made by hand: what a CUDA trace looks like, without a GPU."""

from __future__ import annotations

import math

import pytest

from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer
from mmworkload.measuring.attribution import Event
from mmworkload.measuring.categories import crosses, kernel_kind, name_category, runtime_kind
from mmworkload.measuring.frames import (
    HostRow,
    KernelRow,
    attributed_share,
    columns,
    host_frame,
    host_rows,
    kernel_rows,
    kernels_frame,
)


def layer(name: str, stage: str, modality: str = "", *, placement: str = "device") -> Layer:
    return Layer(name=name, op="conv2d", category="Conv", stage=stage, modality=modality, placement=placement)


def graph_of(*layers: Layer) -> LayerGraph:
    return LayerGraph("m", "", 1, "float32", layers, {})


GRAPH = graph_of(layer("conv", "encoder/image", "image"), layer("cat", "fusion"))
CALLS = {"a": "conv", "b": "cat"}


def cuda_events() -> list[Event]:
    """Two nodes and a view; a copy in, a kernel each, and a fill of a cause that is not known."""
    return [
        Event("run::0", "range", 1000, 1100),
        Event("node::a", "range", 1010, 1030),
        Event("node::view", "range", 1032, 1036),
        Event("node::b", "range", 1040, 1060),
        Event("aten::conv2d", "operator", 1011, 1029, 7, 0, 1),
        Event("aten::cudnn_convolution", "operator", 1013, 1027, 8, 0, 1),
        Event("aten::contiguous", "operator", 1033, 1035, 9, 0, 1),
        Event("aten::cat", "operator", 1041, 1059, 10, 0, 1),
        Event("cudaLaunchKernel", "launch", 1015, 1020, 501, 8, 1),
        Event("cudaLaunchKernel", "launch", 1034, 1035, 502, 9, 1),
        Event("cudaMemcpyAsync", "launch", 1042, 1046, 503, 10, 1),
        Event("cudaStreamSynchronize", "launch", 1047, 1057, 504, 10, 1),
        Event("cudnn_relu_conv", "kernel", 1022, 1062, 501, 8, 7),
        Event("elementwise_copy", "kernel", 1062, 1067, 502, 9, 7),
        Event("Memcpy HtoD (Pageable -> Device)", "kernel", 1070, 1090, 503, 10, 7),
        Event("Memset (Device)", "kernel", 1090, 1095, 900, 0, 8),
    ]


def test_every_kernel_is_a_row_with_its_layer_or_with_none() -> None:
    rows = kernel_rows(cuda_events(), GRAPH, CALLS, on_device=True)

    assert [(row.name, row.kind, row.layer, row.stage, row.modality, row.stream) for row in rows] == [
        ("cudnn_relu_conv", "kernel", "conv", "encoder/image", "image", 7),
        ("elementwise_copy", "kernel", "", "", "", 7),
        ("Memcpy HtoD (Pageable -> Device)", "copy", "cat", "fusion", "", 7),
        ("Memset (Device)", "fill", "", "", "", 8),
    ]
    assert [(row.category, row.name_category) for row in rows[:2]] == [("Conv", "Relu"), ("", "Elewise")]


def test_times_count_from_the_start_of_the_run() -> None:
    first, _, _, last = kernel_rows(cuda_events(), GRAPH, CALLS, on_device=True)

    assert (first.start_s, first.duration_s) == pytest.approx((22e-9, 40e-9))
    # The launch began at 1015 and took 5.
    assert (first.caused_s, first.launch_s) == pytest.approx((15e-9, 5e-9))
    assert math.isnan(last.caused_s)
    assert math.isnan(last.launch_s)


def test_the_attributed_share_counts_what_is_outside_every_range() -> None:
    # 40 and 20 of 40 + 5 + 20 + 5 nanoseconds.
    assert attributed_share(kernel_rows(cuda_events(), GRAPH, CALLS, on_device=True)) == pytest.approx(60 / 70)
    assert attributed_share([]) == 1.0


def test_the_hosts_own_time_is_without_the_calls_of_the_runtime() -> None:
    rows = {(row.name, round(row.start_s * 1e9)): row for row in host_rows(cuda_events(), GRAPH, CALLS)}

    conv, cudnn, launch = (
        rows["aten::conv2d", 11],
        rows["aten::cudnn_convolution", 13],
        rows["cudaLaunchKernel", 15],
    )
    assert [(row.kind, round(row.self_s * 1e9)) for row in (conv, cudnn, launch)] == [
        ("operator", 4),
        ("operator", 9),
        ("runtime", 5),
    ]
    assert round(rows["aten::cat", 41].self_s * 1e9) == 18 - 4 - 10
    assert rows["cudaStreamSynchronize", 47].kind == "sync"
    assert rows["cudaMemcpyAsync", 42].kind == "copy"
    assert {row.layer for row in rows.values()} == {"conv", "cat", ""}


def test_on_the_cpu_a_row_is_an_operator_with_its_own_time() -> None:
    rows = kernel_rows(cuda_events(), GRAPH, CALLS, on_device=False)

    assert [(row.name, row.kind, round(row.duration_s * 1e9), row.layer) for row in rows] == [
        ("aten::conv2d", "operator", 4, "conv"),
        ("aten::cudnn_convolution", "operator", 14, "conv"),
        ("aten::contiguous", "operator", 2, ""),
        ("aten::cat", "operator", 18, "cat"),
    ]
    assert all(math.isnan(row.launch_s) for row in rows)
    assert rows[0].caused_s == rows[0].start_s


def test_a_layer_on_the_host_has_its_operators_as_rows_of_a_device() -> None:
    graph = graph_of(layer("conv", "preprocess", placement="host"), layer("cat", "fusion"))
    rows = kernel_rows(cuda_events(), graph, CALLS, on_device=True)

    assert [row.name for row in rows if row.kind == "operator"] == ["aten::conv2d", "aten::cudnn_convolution"]


def test_a_kernel_whose_operator_is_outside_every_node_is_placed_by_its_launch() -> None:
    events = [
        Event("run::0", "range", 0, 100),
        Event("outer::call", "operator", 5, 60, 3, 0, 1),
        Event("node::a", "range", 10, 30),
        Event("cudaLaunchKernel", "launch", 15, 20, 501, 3, 1),
        Event("gemm", "kernel", 40, 50, 501, 3, 7),
    ]
    assert [row.layer for row in kernel_rows(events, GRAPH, CALLS, on_device=True)] == ["conv"]


def test_frames_have_the_columns_in_their_order() -> None:
    kernels = kernels_frame(kernel_rows(cuda_events(), GRAPH, CALLS, on_device=True))
    host = host_frame(host_rows(cuda_events(), GRAPH, CALLS))

    assert list(kernels.columns) == [
        *("run", "name", "kind", "layer", "op", "stage", "modality", "category", "name_category"),
        *("start_s", "duration_s", "stream", "caused_s", "launch_s"),
    ]
    assert list(host.columns) == [
        *("run", "kind", "name", "layer", "stage", "modality", "start_s", "duration_s", "self_s", "thread"),
    ]
    assert kernels["duration_s"].sum() == pytest.approx(70e-9)
    empty = kernels_frame([])
    assert list(empty.columns) == columns(KernelRow)
    assert empty.dtypes.equals(kernels.dtypes)
    assert host_frame([]).dtypes.equals(host.dtypes)
    assert columns(HostRow)[0] == "run"


@pytest.mark.parametrize(
    ("name", "on_device", "category"),
    [
        # The order of the papers' rule is what files cuDNN's convolutions under Relu.
        ("ampere_scudnn_128x64_relu_xregs_large_nn_v1", True, "Relu"),
        ("implicit_convolve_sgemm", True, "Conv"),
        ("bn_fw_inf_1C11_kernel_NCHW_batch_norm", True, "BNorm"),
        ("void at::native::vectorized_elementwise_kernel<4>", True, "Elewise"),
        ("void at::native::max_pool_forward_nchw", True, "Pooling"),
        ("ampere_sgemm_32x32_sliced1x4_tn", True, "Gemm"),
        ("void gemv2T_kernel_val<int>", True, "Gemm"),
        ("void at::native::reduce_kernel<512, 1>", True, "Reduce"),
        ("Memcpy DtoD (Device -> Device)", True, "Other"),
        ("aten::gelu", False, "Relu"),
        ("aten::mkldnn_convolution", False, "Conv"),
        ("aten::native_layer_norm", False, "BNorm"),
        # addmm contains add, which is asked for first.
        ("aten::addmm", False, "Elewise"),
        ("aten::bmm", False, "Gemm"),
        ("aten::mean", False, "Reduce"),
        ("aten::cat", False, "Other"),
    ],
)
def test_the_papers_rule_takes_the_first_match(name: str, on_device: bool, category: str) -> None:
    assert name_category(name, on_device=on_device) == category


def test_kinds_by_name() -> None:
    assert [kernel_kind(name) for name in ("Memcpy DtoH", "Memset (Device)", "sgemm")] == ["copy", "fill", "kernel"]
    names = ("cudaDeviceSynchronize", "cuEventSynchronize", "cudaMemcpyAsync", "cuLaunchKernel")
    assert [runtime_kind(name) for name in names] == ["sync", "sync", "copy", "runtime"]
    assert [crosses(f"Memcpy {way}") for way in ("HtoD", "DtoH", "DtoD")] == [True, True, False]
