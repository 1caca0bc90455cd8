"""Events to layers, on records made by hand: what a CUDA trace looks like, without a GPU."""

import pytest

from mmworkload.measuring.attribution import Event, Kernel, backward_ranges, difference, kernels, per_layer


def span(name, start, end):
    return Event(name, "range", start, end)


def operator(name, start, end, number, thread=1):
    return Event(name, "operator", start, end, number, 0, thread)


def kernel(name, start, end, number, linked=0):
    return Event(name, "kernel", start, end, number, linked)


def launch(start, end, number, linked=0):
    return Event("cudaLaunchKernel", "launch", start, end, number, linked)


def found(events, *, on_device):
    return {(item.name, item.node, item.run): round(item.time_s * 1e9) for item in kernels(events, on_device=on_device)}


def test_the_time_of_an_operator_is_without_the_operators_it_calls():
    events = [
        span("run::0", 0, 100),
        span("node::a", 10, 90),
        operator("aten::linear", 20, 80, 1),
        operator("aten::addmm", 30, 70, 2),
        operator("aten::copy_", 40, 45, 3),
        operator("aten::relu", 82, 88, 4),
    ]
    # 60 - 40, 40 - 5; in sum 66, the range's 80 without what no operator covers.
    assert found(events, on_device=False) == {
        ("aten::linear", "a", "0"): 20,
        ("aten::addmm", "a", "0"): 35,
        ("aten::copy_", "a", "0"): 5,
        ("aten::relu", "a", "0"): 6,
    }


def test_operators_of_another_thread_are_not_taken_for_children():
    events = [
        span("run::0", 0, 100),
        operator("aten::conv2d", 10, 50, 1, thread=1),
        operator("aten::relu", 20, 40, 2, thread=2),
    ]
    assert found(events, on_device=False) == {("aten::conv2d", "", "0"): 40, ("aten::relu", "", "0"): 20}


def test_a_kernel_belongs_to_the_range_that_launched_it_not_to_the_one_it_runs_in():
    events = [
        span("run::0", 0, 100),
        span("node::a", 10, 20),
        span("node::b", 20, 30),
        operator("aten::mm", 11, 19, 7),
        operator("aten::relu", 21, 29, 8),
        launch(12, 13, 501, linked=7),
        launch(22, 23, 502, linked=8),
        # The device is late: the first kernel starts when the host is at b, the second after the run.
        kernel("gemm", 25, 95, 501, linked=7),
        kernel("relu", 110, 130, 502, linked=8),
    ]
    assert found(events, on_device=True) == {("gemm", "a", "0"): 70, ("relu", "b", "0"): 20}


def test_a_kernel_without_an_operator_is_placed_by_its_launch():
    events = [span("run::0", 0, 100), span("node::a", 10, 20), launch(12, 13, 501), kernel("k", 50, 60, 501)]
    assert found(events, on_device=True) == {("k", "a", "0"): 10}


def test_a_kernel_of_unknown_cause_is_of_no_node():
    events = [span("run::0", 0, 100), span("node::a", 10, 20), kernel("k", 12, 15, 501, linked=99)]
    assert found(events, on_device=True) == {("k", "", "0"): 3}


def test_overlapping_kernels_count_in_full():
    events = [
        span("run::0", 0, 100),
        span("node::a", 10, 20),
        operator("aten::lstm", 11, 19, 7),
        kernel("stream 1", 30, 50, 501, linked=7),
        kernel("stream 2", 40, 60, 502, linked=7),
    ]
    layers, rest_s = per_layer(kernels(events, on_device=True), {"a": "lstm"}, ["0"])
    assert layers["lstm"].times_s == pytest.approx((40e-9,))
    assert layers["lstm"].kernels == 2
    assert rest_s == 0


def test_the_innermost_of_nested_ranges_counts():
    events = [
        span("run::0", 0, 100),
        span("node::region", 10, 90),
        span("node::region/a", 20, 40),
        operator("aten::relu", 25, 30, 1),
        operator("aten::add", 50, 60, 2),
    ]
    assert found(events, on_device=False) == {("aten::relu", "region/a", "0"): 5, ("aten::add", "region", "0"): 10}


def test_work_outside_a_forward_pass_is_left_out():
    events = [
        operator("aten::copy_", 0, 5, 1),
        span("run::0", 10, 20),
        operator("aten::relu", 12, 15, 2),
        operator("aten::copy_", 30, 40, 3),
        span("run::1", 50, 60),
        operator("aten::relu", 52, 56, 4),
    ]
    assert found(events, on_device=False) == {("aten::relu", "", "0"): 3, ("aten::relu", "", "1"): 4}


def test_every_layer_has_a_time_per_run_and_the_rest_is_unattributed():
    taken = [
        Kernel("gemm", "mm", "0", 3.0),
        Kernel("bias", "mm", "0", 1.0),
        Kernel("gemm", "mm", "1", 5.0),
        Kernel("bias", "mm", "1", 2.0),
        Kernel("copy", "view", "0", 0.25),
        Kernel("fill", "", "1", 0.75),
    ]
    layers, rest_s = per_layer(taken, {"mm": "fc", "zeros": "fc:zeros"}, ["0", "1"])
    assert layers["fc"].times_s == (4.0, 7.0)
    assert layers["fc"].kernels == 2
    assert layers["fc:zeros"].times_s == (0.0, 0.0)
    assert layers["fc:zeros"].kernels == 0
    assert rest_s == 0.5


def named(**times):
    return [Kernel(name, "", "0", time) for name, values in times.items() for time in values]


def test_the_same_kernels_do_not_differ_whatever_their_times_and_order():
    first = named(gemm=[1.0, 2.0], relu=[0.5])
    assert difference(first, list(reversed(first))) == 0.0
    assert difference(first, named(gemm=[3.0, 0.1], relu=[9.0])) == 0.0


def test_disjoint_kernels_differ_in_full():
    assert difference(named(fused=[2.0]), named(gemm=[1.0], softmax=[1.0])) == 1.0


def test_the_difference_is_a_share_of_the_time_of_both():
    # 2 of 10 seconds of the first, 3 of 10 of the second: 5 of 20.
    assert difference(named(gemm=[8.0], flash=[2.0]), named(gemm=[7.0], softmax=[3.0])) == pytest.approx(0.25)


def test_further_calls_of_a_shared_kernel_differ_at_their_mean_time():
    # One of three calls of 2 seconds each, against one: 2 calls of 6 s are extra, of 6 + 2 s in all.
    assert difference(named(copy=[1.0, 2.0, 3.0]), named(copy=[2.0])) == pytest.approx(4.0 / 8.0)


def test_two_empty_profiles_do_not_differ():
    assert difference([], []) == 0.0


def backward(name, start, end, number, sequence, thread=1):
    return Event(f"autograd::engine::evaluate_function: {name}", "operator", start, end, number, 0, thread, sequence)


def test_backward_work_belongs_to_the_forward_node_whose_number_it_has():
    # Node a made 5 and 6, view v none, b 7 and later ones; the first pass began at 0.
    starts = [(5, "a"), (7, "v"), (7, "b")]
    events = [
        backward("MulBackward0", 10, 20, 1, 9),
        backward("AddmmBackward0", 20, 30, 2, 7),
        backward("torch::autograd::AccumulateGrad", 30, 34, 3, -1),
        backward("ConvolutionBackward0", 40, 50, 4, 6),
        backward("UserBackward", 60, 70, 5, 4),
    ]

    found = backward_ranges(events, starts)

    assert [(item.name, item.start_ns, item.end_ns) for item in found] == [
        ("node::backward/b", 10, 20),
        ("node::backward/b", 20, 30),
        ("node::backward/b", 30, 34),
        ("node::backward/a", 40, 50),
        # Made before the first node: the one that ran before it on its thread stands for it.
        ("node::backward/a", 60, 70),
    ]


def test_a_kernel_of_the_backward_pass_belongs_to_the_layer_that_made_it():
    """On a device the engine has a thread of its own, and the kernels run later than what launched them."""
    events = [
        span("run::0", 0, 100),
        backward("AddmmBackward0", 10, 30, 1, 7, thread=2),
        operator("aten::mm", 12, 20, 2, thread=2),
        launch(14, 16, 901, 2),
        kernel("sgemm", 50, 58, 901, 2),
        backward("ConvolutionBackward0", 30, 45, 3, 6, thread=2),
        operator("aten::convolution_backward", 31, 44, 4, thread=2),
        launch(33, 34, 902, 4),
        kernel("dgrad", 58, 70, 902, 4),
    ]
    ranges = backward_ranges(events, [(5, "conv"), (7, "fc")])

    assert found([*events, *ranges], on_device=True) == {
        ("sgemm", "backward/fc", "0"): 8,
        ("dgrad", "backward/conv", "0"): 12,
    }
