"""Records of torch's profiler: which are work, which are ranges, which are neither."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import DeviceType  # noqa: E402

from mmworkload.errors import MmworkloadError  # noqa: E402
from mmworkload.measuring import profiling  # noqa: E402
from mmworkload.measuring.attribution import Event, kernels  # noqa: E402


@dataclass
class Record:
    """What Kineto gives, as far as it is read; torch 2.11 has no more."""

    text: str
    device: DeviceType = DeviceType.CPU
    number: int = 1
    linked: int = 0
    annotation: bool = False

    def name(self):
        return self.text

    def start_ns(self):
        return 10

    def end_ns(self):
        return 30

    def device_type(self):
        return self.device

    def correlation_id(self):
        return self.number

    def linked_correlation_id(self):
        return self.linked

    def start_thread_id(self):
        return 5

    def is_user_annotation(self):
        return self.annotation

    def sequence_nr(self):
        return 3


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (Record("aten::mm", number=7), Event("aten::mm", "operator", 10, 30, 7, 0, 5, 3)),
        (Record("node::mm", number=8, annotation=True), Event("node::mm", "range", 10, 30, 8, 0, 5)),
        (Record("cudaLaunchKernel", number=501, linked=7), Event("cudaLaunchKernel", "launch", 10, 30, 501, 7, 5)),
        (Record("cuLaunchKernel", number=501), Event("cuLaunchKernel", "launch", 10, 30, 501, 0, 5)),
        (Record("sgemm_128x64", DeviceType.CUDA, 501, 7), Event("sgemm_128x64", "kernel", 10, 30, 501, 7)),
        (Record("Memcpy HtoD", DeviceType.CUDA, 502, 7), Event("Memcpy HtoD", "kernel", 10, 30, 502, 7)),
    ],
)
def test_work_and_ranges_are_kept(record, expected):
    assert profiling.event(record) == expected


@pytest.mark.parametrize(
    "record",
    [
        # The rows of host ranges on the device: gpu_user_annotation.
        Record("node::mm", DeviceType.CUDA, 8, 8, annotation=True),
        Record("node::mm", DeviceType.CUDA, 8, 8, annotation=False),
        Record("the user's own range", DeviceType.CUDA, 9, 9, annotation=True),
        Record("the user's own range", annotation=True),
        Record("[memory]", number=0),
        Record("Activity Buffer Request", number=0),
    ],
)
def test_annotations_and_the_profiler_itself_are_no_work(record):
    assert profiling.event(record) is None


def test_the_sum_of_operators_fits_into_their_range():
    """The CPU's rule on a real profile: what operators take is no more than the range, and not nothing."""
    x, layer = torch.randn(64, 64), torch.nn.Linear(64, 64)

    def prepare():
        def run():
            with torch.profiler.record_function("node::linear"):
                return layer(x)

        return run

    events = profiling.profiled(prepare, 2, torch.device("cpu"))
    spans = [event for event in events if event.name == "node::linear"]
    # One warm-up pass is not in a range of its own.
    assert [event.name for event in events if event.name.startswith("run::")] == ["run::0", "run::1"]
    assert len(spans) == 3
    taken = kernels(events, on_device=False)
    assert {item.node for item in taken} == {"linear"}
    assert "aten::addmm" in {item.name for item in taken}
    for run, event in zip(("0", "1"), spans[1:], strict=True):
        total_s = sum(item.time_s for item in taken if item.run == run)
        assert 0 < total_s <= (event.end_ns - event.start_ns) * 1e-9


def test_a_device_profile_without_kernels_is_an_error(monkeypatch):
    monkeypatch.setattr(profiling, "_profile", lambda prepare, runs, device, **how: None)
    monkeypatch.setattr(profiling, "_results", lambda profiler: SimpleNamespace(events=lambda: [Record("aten::mm")]))
    with pytest.raises(MmworkloadError, match=r"recorded no kernels on cuda:0.*CUPTI"):
        profiling.profiled(lambda: lambda: None, 1, torch.device("cuda", 0))


def test_allocations_of_one_pass_in_order():
    """Two activations of 4 KiB, the first freed when the second is there; the output outlives the pass."""
    model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.ReLU())
    x = torch.randn(1024)
    changes = profiling.memory_changes(lambda: lambda: model(x), torch.device("cpu"))
    assert [size for _, size in changes] == [4096, 4096, -4096]
    assert changes[2][0] == changes[0][0] != changes[1][0]
