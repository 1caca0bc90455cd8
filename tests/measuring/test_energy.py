"""Energy per inference, by counters whose readings are known: a stand-in for NVML's library, and files for RAPL's."""

import contextlib
import ctypes
import dataclasses
import functools
import io
import itertools
import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmworkload.errors import MmworkloadError, UnavailableError
from mmworkload.measuring import energy
from mmworkload.measuring.energy import Energy, Joules, Nvml, Rapl, Sampled, measure_energy, metered, sampled


class Device:
    """A clock, and a board that takes ``idle_w`` asleep and ``busy_w`` in a pass of ``pass_s`` seconds."""

    source = "counter"
    scope = "board"

    def __init__(self, idle_w=50.0, busy_w=250.0, passes_s=(0.5,)):
        self.now_s = self.joules = 0.0
        self.idle_w, self.busy_w = idle_w, busy_w
        self.passes_s = list(passes_s)
        self.passes = 0

    def clock(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds
        self.joules += self.idle_w * seconds

    def one_pass(self):
        seconds = self.passes_s[min(self.passes, len(self.passes_s) - 1)]
        self.passes += 1
        self.now_s += seconds
        self.joules += self.busy_w * seconds

    def energy_j(self):
        return self.joules

    def metered(self, **options):
        return metered(self.one_pass, self, clock=self.clock, sleep=self.sleep, **options)


def test_joules_are_those_of_a_pass_and_idle_power_is_stated_apart():
    found = Device().metered(window_s=2.0, windows=3)
    # Four passes of 0.5 s fill a window; 250 W each.
    assert (found.inferences, found.seconds) == (12, 6.0)
    assert found.per_inference == Joules(125.0, 125.0, 125.0, 125.0, 125.0, 3)
    assert found.idle_power_w == 50.0
    assert found.power_w == 250.0
    assert found.above_idle_j == 125.0 - 50.0 * 0.5
    assert (found.source, found.scope) == ("counter", "board")


def test_the_spread_is_over_windows():
    # Windows of 4, 2 and 1 passes.
    found = Device(passes_s=(0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 2.0)).metered(window_s=2.0, windows=3)
    assert found.inferences == 7
    assert found.per_inference == Joules(250.0, 187.5, 375.0, 125.0, 500.0, 3)


def test_a_pass_longer_than_a_window_is_taken_once():
    found = Device(passes_s=(5.0,)).metered(window_s=2.0, windows=2)
    assert (found.inferences, found.seconds, found.per_inference.median_j) == (2, 10.0, 1250.0)


def test_a_counter_that_stands_still_is_no_energy():
    with pytest.raises(UnavailableError, match=r"counter did not move in 6\.0 s"):
        Device(idle_w=0.0, busy_w=0.0).metered(window_s=2.0, windows=3)


@pytest.mark.parametrize("options", [{"windows": 0}, {"window_s": 0.0}])
def test_no_window_is_refused(options):
    with pytest.raises(MmworkloadError, match="at least one, above 0 s"):
        Device().metered(**options)


def test_energy_goes_to_json_and_back():
    found = Device().metered(window_s=2.0, windows=3)
    assert Energy.from_dict(json.loads(json.dumps(found.to_dict()))) == found


# --- NVML


class Library:
    """``libnvidia-ml``: functions that fill what they are pointed at. ``millijoules`` None: not supported."""

    def __init__(self, millijoules=(), milliwatts=(), found="GPU-1234", init=0):
        self.called = []
        self.millijoules = iter(millijoules) if millijoules is not None else None
        self.milliwatts = iter(milliwatts) if milliwatts is not None else None
        self.found, self.init = found, init
        # A function of ctypes takes a result type.
        self.nvmlErrorString = lambda code: {6: b"Not Found", 9: b"Driver Not Loaded"}.get(code)

    def nvmlInit_v2(self):  # noqa: N802
        self.called.append("init")
        return self.init

    def nvmlShutdown(self):  # noqa: N802
        self.called.append("shutdown")
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid, handle):  # noqa: N802
        self.called.append(uuid)
        handle._obj.value = 77
        return 0 if uuid.decode() == self.found else 6

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, place):  # noqa: N802
        assert (handle.value, type(place._obj)) == (77, ctypes.c_ulonglong)
        return self._give(self.millijoules, place)

    def nvmlDeviceGetPowerUsage(self, handle, place):  # noqa: N802
        assert (handle.value, type(place._obj)) == (77, ctypes.c_uint)
        return self._give(self.milliwatts, place)

    @staticmethod
    def _give(values, place):
        if values is None:
            return 3
        place._obj.value = next(values)
        return 0


def test_millijoules_and_milliwatts_of_the_measured_gpu():
    library = Library(millijoules=[0, 5_000_000_000_123], milliwatts=[312_500])
    nvml = Nvml(library, "1234")
    assert nvml.has_energy()
    # More than 32 bits hold.
    assert nvml.energy_j() == pytest.approx(5_000_000_000.123)
    assert nvml.power_w() == 312.5
    nvml.close()
    assert library.called == ["init", b"GPU-1234", "shutdown"]


def test_nvml_that_refuses_says_why():
    with pytest.raises(UnavailableError, match=r"NVML refused nvmlInit_v2: Driver Not Loaded \(code 9\)"):
        Nvml(Library(init=9), "1234")
    library = Library(found="GPU-5678")
    with pytest.raises(UnavailableError, match=r"nvmlDeviceGetHandleByUUID: Not Found \(code 6\)"):
        Nvml(library, "1234")
    assert library.called[-1] == "shutdown"
    with pytest.raises(UnavailableError, match=r"no reason given \(code 999\)"):
        Nvml(Library(init=999), "1234")


def gpu(monkeypatch, library):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(energy, "_library", lambda: library)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234"))
    return torch.device("cuda", 0)


def test_a_gpu_is_read_by_its_counter_of_energy(monkeypatch):
    library = Library(millijoules=[0, 7000])
    with energy.open_meter(gpu(monkeypatch, library)) as meter:
        assert (meter.source, meter.energy_j()) == ("NVML total energy", 7.0)
    assert library.called[-1] == "shutdown"


def test_without_that_counter_power_is_sampled(monkeypatch):
    library = Library(millijoules=None, milliwatts=iter(lambda: 100_000, None))
    with energy.open_meter(gpu(monkeypatch, library)) as meter:
        assert meter.source == "NVML power, sampled"
        assert any(thread.name == "power" for thread in threading.enumerate())
    assert not any(thread.name == "power" for thread in threading.enumerate())
    assert library.called[-1] == "shutdown"


def test_a_gpu_without_either_is_unavailable_and_nvml_is_closed(monkeypatch):
    library = Library(millijoules=None, milliwatts=None)
    with (
        pytest.raises(UnavailableError, match="neither its energy nor its power"),
        energy.open_meter(gpu(monkeypatch, library)),
    ):
        pass
    assert library.called[-1] == "shutdown"


def test_a_machine_without_nvml_is_told_where_it_comes_from(monkeypatch):
    monkeypatch.setattr(energy, "_LIBRARY", "libno-such-nvml.so.1")
    with pytest.raises(UnavailableError, match="It comes with NVIDIA's driver"):
        energy._library()


def test_power_is_integrated_by_trapezoids():
    moments, watts = iter([0.0, 1.0, 1.5, 3.5]), iter([100.0, 300.0, 300.0, 0.0])
    meter = Sampled(lambda: next(watts), lambda: next(moments))
    # 200 W for 1 s; 300 W for 0.5 s; 150 W for 2 s.
    assert [meter.energy_j() for _ in range(3)] == [200.0, 350.0, 650.0]


def test_a_thread_samples_between_two_readings():
    readings = []

    def power_w():
        readings.append(threading.current_thread().name)
        if readings.count("power") >= 3:
            enough.set()
        return 10.0

    enough, ticks = threading.Event(), itertools.count()
    with sampled(power_w, every_s=0.001, clock=lambda: float(next(ticks))) as meter:
        assert enough.wait(10)
    # A second for each reading but the first, at 10 W.
    assert meter.total_j == 10.0 * (len(readings) - 1)
    assert readings.count("power") >= 3


def test_a_failure_of_the_sampling_thread_is_not_lost():
    seen = threading.Event()

    def power_w():
        if threading.current_thread().name == "power":
            seen.set()
            raise UnavailableError("the GPU is gone")
        return 10.0

    with pytest.raises(UnavailableError, match="the GPU is gone"), sampled(power_w, every_s=0.001):
        assert seen.wait(10)


# --- RAPL


@pytest.fixture
def powercap(tmp_path):
    """Two packages, one with DRAM apart, and zones that would count twice."""
    for name, label, microjoules in (
        ("intel-rapl", None, None),
        ("intel-rapl:0", "package-0", 1_000_000),
        ("intel-rapl:0:0", "core", 900_000),
        ("intel-rapl:0:1", "dram", 200_000),
        ("intel-rapl:1", "package-1", 9_000_000),
        ("intel-rapl:2", "psys", 5_000_000),
        ("intel-rapl-mmio:0", "package-0", 1_000_000),
    ):
        zone = tmp_path / name
        zone.mkdir()
        if label:
            (zone / "name").write_text(f"{label}\n")
            (zone / "energy_uj").write_text(f"{microjoules}\n")
            (zone / "max_energy_range_uj").write_text("10000000\n")
    return tmp_path


def test_packages_and_dram_are_summed_once_and_a_wrap_is_undone(powercap):
    meter = Rapl(powercap)
    assert meter.scope == "the whole processor: package-0, dram, package-1"
    assert meter.energy_j() == 0.0
    (powercap / "intel-rapl:0" / "energy_uj").write_text("3500000\n")
    (powercap / "intel-rapl:0:1" / "energy_uj").write_text("450000\n")
    # From 9 J over 10 J to 0.5 J.
    (powercap / "intel-rapl:1" / "energy_uj").write_text("500000\n")
    assert meter.energy_j() == pytest.approx(2.5 + 0.25 + 1.5)
    (powercap / "intel-rapl:1" / "energy_uj").write_text("600000\n")
    assert meter.energy_j() == pytest.approx(2.5 + 0.25 + 1.6)


def test_a_machine_without_rapl_says_so(tmp_path):
    with pytest.raises(UnavailableError, match="no energy counters of the processor: nothing of RAPL under"):
        Rapl(tmp_path)


def test_counters_for_the_administrator_only_say_what_to_do(powercap, monkeypatch):
    read = Path.read_text

    def refused(path, *arguments, **options):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(UnavailableError, match=r"readable by the administrator only\. Run as root"):
        Rapl(powercap)


def test_a_counter_of_text_is_refused(powercap):
    (powercap / "intel-rapl:0" / "energy_uj").write_text("much\n")
    with pytest.raises(UnavailableError, match=r"intel-rapl:0/energy_uj cannot be read: invalid literal"):
        Rapl(powercap)


def test_a_model_on_the_cpu_is_measured_by_rapl(powercap, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(energy, "POWERCAP", powercap)
    counter = powercap / "intel-rapl:0" / "energy_uj"
    ran = []

    def prepare():
        def run():
            assert torch.is_inference_mode_enabled()
            ran.append(1)
            # 0.1 J a pass.
            counter.write_text(str(int(counter.read_text()) + 100_000))

        return run

    found = measure_energy(prepare, torch.device("cpu"), window_s=0.005, windows=2)
    # The first pass warms up.
    assert found.inferences == len(ran) - 1
    assert found.per_inference.median_j == pytest.approx(0.1)
    assert found.above_idle_j == pytest.approx(0.1)
    assert (found.source, found.idle_power_w) == ("RAPL", 0.0)


class Hundred:
    """100 W by the clock."""

    source = "a counter"
    scope = "a machine"

    def energy_j(self):
        return 100.0 * time.perf_counter()


def test_measure_gives_the_energy_in_the_result_its_json_and_its_table(monkeypatch):
    pytest.importorskip("torch")
    from mmworkload import verbs
    from mmworkload.measuring import Measurement
    from mmworkload.reporting.tables import measure_tables, print_out

    monkeypatch.setattr(energy, "open_meter", lambda device: contextlib.nullcontext(Hundred()))
    monkeypatch.setattr(energy, "measure_energy", functools.partial(measure_energy, window_s=0.05, windows=2))
    taken = verbs.measure("av-mnist/concat", warmup=1, repeats=5, limit_s=5.0, energy=True)
    found = taken.energy
    assert (found.source, found.scope, found.per_inference.windows) == ("a counter", "a machine", 2)
    assert found.power_w == pytest.approx(100.0, rel=0.1)
    assert found.per_inference.median_j == pytest.approx(100.0 * found.seconds / found.inferences, rel=0.5)
    assert Measurement.from_dict(json.loads(json.dumps(taken.to_dict()))) == taken
    printed = io.StringIO()
    known = Device().metered(window_s=2.0, windows=3)
    print_out(*measure_tables(dataclasses.replace(taken, energy=known)), stream=printed)
    lines = " ".join(printed.getvalue().split())
    assert "125 J (125 J to 125 J in 3 windows, 12 inferences), 100 J above idle." in lines
    assert "Power 250 W, idle 50.0 W; counter, of board." in lines


def test_energy_that_cannot_be_measured_is_told_before_the_rest(monkeypatch, tmp_path):
    pytest.importorskip("torch")
    from mmworkload import verbs

    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    steps = []
    with pytest.raises(UnavailableError, match="nothing of RAPL"):
        verbs.measure("av-mnist/concat", energy=True, progress=lambda done, total: steps.append(done))
    assert steps == []
