"""Energy of an inference: forward passes repeated for seconds between two readings of a counter of joules.

On a GPU NVML's counter of total energy (Volta and newer), else its power, sampled and integrated; on the CPU the
counters of RAPL. NVML is called through ctypes, as nvidia-ml-py does, so that nothing need be installed. All of them
see the whole board or the whole processor, whoever uses it, so that the power of the idle device is measured before and
stated. NVML's part is written by its manual and was not tried on a device.
"""

from __future__ import annotations

import ctypes
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mmworkload.errors import MmworkloadError, UnavailableError

if TYPE_CHECKING:
    import torch

    from mmworkload.measuring.program import Run

# Assumed: the counters are refreshed at least ten times a second, so that a window's error is at most 5 %.
WINDOW_S = 2.0
WINDOWS = 3
SAMPLE_S = 0.02
POWERCAP = Path("/sys/class/powercap")
_LIBRARY = "libnvidia-ml.so.1"
_NOT_SUPPORTED = 3


@dataclass(frozen=True)
class Joules:
    """Joules per inference over the windows: median, quartiles, extremes and number of windows."""

    median_j: float
    q1_j: float
    q3_j: float
    min_j: float
    max_j: float
    windows: int

    @classmethod
    def of(cls, joules: Sequence[float]) -> Joules:
        """The spread of at least one window."""
        # Results hold energies: their module imports this one.
        from mmworkload.measuring.result import Spread

        spread = Spread.of(joules)
        return cls(spread.median_s, spread.q1_s, spread.q3_s, spread.min_s, spread.max_s, spread.repeats)


@dataclass(frozen=True)
class Energy:
    """What an inference takes, and how that was measured.

    Parameters
    ----------
    source: the counter, ``scope`` what it sees.
    per_inference: all energy of the scope over the inferences of a window, idle power included.
    above_idle_j: median per inference without ``idle_power_w``; noise can make it negative.
    idle_power_w: mean power before the first inference, with the model in memory and nothing running.
    power_w: mean power during the inferences.
    inferences, seconds: of all windows together.
    """

    source: str
    scope: str
    per_inference: Joules
    above_idle_j: float
    idle_power_w: float
    power_w: float
    inferences: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Values of JSON's types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Energy:
        """The inverse of :meth:`to_dict`; KeyError or TypeError for anything else."""
        return cls(**{**data, "per_inference": Joules(**data["per_inference"])})


class Meter(Protocol):
    """A counter of joules that only grows."""

    source: str
    scope: str

    def energy_j(self) -> float:
        """Joules since some moment in the past."""


def measure_energy(
    prepare: Callable[[], Run],
    device: torch.device,
    *,
    window_s: float = WINDOW_S,
    windows: int = WINDOWS,
) -> Energy:
    """Joules of one forward pass on ``device``: repeated, one after the other, in ``windows`` of ``window_s`` each.

    ``prepare`` gives one forward pass (:meth:`Eager.eager_run`); the device is waited for after each. It takes
    ``windows + 1`` times ``window_s``. Raises UnavailableError when the machine has no counter that can be read.
    """
    import torch

    on_device = device.type == "cuda"

    def one_pass() -> None:
        with torch.inference_mode():
            outputs = prepare()()
            if on_device:
                torch.cuda.synchronize(device)
            del outputs

    with open_meter(device) as meter:
        one_pass()
        return metered(one_pass, meter, window_s=window_s, windows=windows)


def metered(
    one_pass: Callable[[], object],
    meter: Meter,
    *,
    window_s: float = WINDOW_S,
    windows: int = WINDOWS,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy:
    """The energy of ``one_pass`` by ``meter``: an idle window, then ``windows`` of at least ``window_s`` of passes."""
    if windows < 1 or window_s <= 0:
        raise MmworkloadError(f"cannot measure energy in {windows} windows of {window_s} s: at least one, above 0 s")
    idle_j, idle_s, _ = _window(lambda: sleep(window_s), meter, 0.0, clock)
    idle_w = idle_j / idle_s
    taken = [_window(one_pass, meter, window_s, clock) for _ in range(windows)]
    total_j, total_s, count = (sum(item[index] for item in taken) for index in range(3))
    if total_j <= 0:
        raise UnavailableError(
            f"{meter.source} did not move in {total_s:.1f} s of inferences, so there is no energy to tell: this device"
            " or virtual machine does not feed it."
        )
    return Energy(
        source=meter.source,
        scope=meter.scope,
        per_inference=Joules.of([joules / passes for joules, _, passes in taken]),
        above_idle_j=statistics.median((joules - idle_w * seconds) / passes for joules, seconds, passes in taken),
        idle_power_w=idle_w,
        power_w=total_j / total_s,
        inferences=int(count),
        seconds=total_s,
    )


def _window(
    one_pass: Callable[[], object], meter: Meter, least_s: float, clock: Callable[[], float]
) -> tuple[float, float, int]:
    """(joules, seconds, passes) of passes until ``least_s`` are over, at least one."""
    begin_j, begin, passes = meter.energy_j(), clock(), 0
    while True:
        one_pass()
        passes += 1
        seconds = clock() - begin
        if seconds >= least_s:
            return meter.energy_j() - begin_j, seconds, passes


@contextmanager
def open_meter(device: torch.device) -> Iterator[Meter]:
    """The best counter for ``device``. Raises UnavailableError that says why there is none."""
    if device.type != "cuda":
        yield Rapl(POWERCAP)
        return
    import torch

    nvml = Nvml(_library(), str(torch.cuda.get_device_properties(device).uuid))
    try:
        if nvml.has_energy():
            yield nvml
        else:
            with sampled(nvml.power_w) as meter:
                yield meter
    finally:
        nvml.close()


def _library() -> Any:
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise UnavailableError(
            f"energy of a GPU needs NVML, and {_LIBRARY} cannot be loaded ({error}). It comes with NVIDIA's driver; in"
            " a container, NVIDIA_DRIVER_CAPABILITIES must hold utility."
        ) from error


class Nvml:
    """One GPU through NVML. ``library`` is ``libnvidia-ml.so.1``; ``uuid`` is that of the GPU, ``GPU-`` or not.

    Raises UnavailableError when NVML refuses.
    """

    source = "NVML total energy"
    scope = "the GPU's board"

    def __init__(self, library: Any, uuid: str) -> None:
        self.library = library
        self._call("nvmlInit_v2")
        self.handle = ctypes.c_void_p()
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        try:
            self._call("nvmlDeviceGetHandleByUUID", name.encode(), ctypes.byref(self.handle))
        except UnavailableError:
            self.close()
            raise

    def has_energy(self) -> bool:
        """Whether the GPU counts its energy."""
        return self._read("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong()) is not None

    def energy_j(self) -> float:
        """Joules since the driver was loaded (NVML counts millijoules)."""
        return self._required("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong()) * 1e-3

    def power_w(self) -> float:
        """Watts (NVML gives milliwatts), on most GPUs since Ampere the mean of the last second."""
        return self._required("nvmlDeviceGetPowerUsage", ctypes.c_uint()) * 1e-3

    def close(self) -> None:
        """Ends the session with NVML."""
        self.library.nvmlShutdown()

    def _required(self, function: str, place: Any) -> int:
        value = self._read(function, place)
        if value is None:
            raise UnavailableError(
                "this GPU gives neither its energy nor its power to NVML (not supported: a part of a GPU, a virtual or"
                " an old one). Energy cannot be measured on it."
            )
        return value

    def _read(self, function: str, place: Any) -> int | None:
        """The value that ``function`` puts into ``place``; None when the GPU does not support it."""
        code = getattr(self.library, function)(self.handle, ctypes.byref(place))
        if code == _NOT_SUPPORTED:
            return None
        self._require(function, code)
        return int(place.value)

    def _call(self, function: str, *arguments: Any) -> None:
        self._require(function, getattr(self.library, function)(*arguments))

    def _require(self, function: str, code: int) -> None:
        if code == 0:
            return
        name = self.library.nvmlErrorString
        name.restype = ctypes.c_char_p
        text = name(code)
        raise UnavailableError(
            f"NVML refused {function}: {text.decode() if text else 'no reason given'} (code {code}). See whether"
            " nvidia-smi works."
        )


class Sampled:
    """Joules from power: the trapezoids between readings, by a thread and at each call of :meth:`energy_j`."""

    source = "NVML power, sampled"
    scope = Nvml.scope

    def __init__(self, power_w: Callable[[], float], clock: Callable[[], float] = time.perf_counter) -> None:
        self.power_w = power_w
        self.clock = clock
        self.lock = threading.Lock()
        self.total_j = 0.0
        self.last = (clock(), power_w())

    def energy_j(self) -> float:
        """Joules since the start, with a reading now."""
        with self.lock:
            now, watts = self.clock(), self.power_w()
            before, earlier_w = self.last
            self.total_j += (watts + earlier_w) / 2 * (now - before)
            self.last = (now, watts)
            return self.total_j


@contextmanager
def sampled(
    power_w: Callable[[], float], every_s: float = SAMPLE_S, clock: Callable[[], float] = time.perf_counter
) -> Iterator[Sampled]:
    """A :class:`Sampled` that a thread reads every ``every_s`` seconds until the block ends."""
    meter, over = Sampled(power_w, clock), threading.Event()
    failures: list[Exception] = []

    def read() -> None:
        try:
            while not over.wait(every_s):
                meter.energy_j()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=read, name="power", daemon=True)
    thread.start()
    try:
        yield meter
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]


class Rapl:
    """The processor's counters under ``root`` (Linux's powercap): packages, and their DRAM where it is apart.

    Raises UnavailableError when there are none or they cannot be read.
    """

    source = "RAPL"

    def __init__(self, root: Path) -> None:
        zones = sorted(zone for zone in root.glob("*rapl*") if (zone / "energy_uj").exists() and _counts(zone))
        if not zones:
            raise UnavailableError(
                f"this machine has no energy counters of the processor: nothing of RAPL under {root}. Virtual machines"
                " seldom have them; energy is measured on bare machines and on GPUs."
            )
        self.zones = zones
        self.scope = "the whole processor: " + ", ".join(_name(zone) for zone in zones)
        self.total_j = 0.0
        self.last = [self._read(zone, "energy_uj") for zone in zones]
        self.ranges = [self._read(zone, "max_energy_range_uj") for zone in zones]

    def energy_j(self) -> float:
        """Joules since the start; a counter that wrapped once since the last call is unwrapped."""
        now = [self._read(zone, "energy_uj") for zone in self.zones]
        for value, before, span in zip(now, self.last, self.ranges, strict=True):
            self.total_j += (value - before if value >= before else value + span - before) * 1e-6
        self.last = now
        return self.total_j

    @staticmethod
    def _read(zone: Path, file: str) -> int:
        try:
            return int((zone / file).read_text())
        except PermissionError:
            raise UnavailableError(
                f"the processor's energy counter {zone / file} is readable by the administrator only. Run as root, or"
                " have read access given to it (chmod a+r)."
            ) from None
        except (OSError, ValueError) as error:
            raise UnavailableError(f"the processor's energy counter {zone / file} cannot be read: {error}") from error


def _counts(zone: Path) -> bool:
    """Whether a zone is counted: a package, or DRAM. Cores and graphics are inside the package, psys holds it again."""
    return _name(zone).startswith(("package", "dram")) and not zone.name.startswith("intel-rapl-mmio")


def _name(zone: Path) -> str:
    try:
        return (zone / "name").read_text().strip()
    except OSError:
        return ""
