"""Where and how a measurement was taken: device, driver, versions, clocks and the settings that change kernels."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.versions import versions

if TYPE_CHECKING:
    import torch

_SMI_FIELDS = (
    "name",
    "driver_version",
    "pstate",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "clocks.max.mem",
    "power.limit",
    "temperature.gpu",
)


def provenance(device: torch.device) -> dict[str, Any]:
    """Values of JSON's types by name. Call it right after the timed runs, while the clocks are those of the runs."""
    import torch

    facts: dict[str, Any] = {
        "device_name": device_name(device),
        "date_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "cpu_count": os.cpu_count(),
        # Well above the threads used here: other work took turns with the measurement.
        "load_average": round(os.getloadavg()[0], 2),
        "versions": versions("torch", "torchvision", "transformers", "timm"),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "autograd": "off (torch.inference_mode)",
        "sdpa_enabled": sdpa_enabled(),
        "mha_fast_path": torch.backends.mha.get_fastpath_enabled(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "onednn": torch.backends.mkldnn.is_available(),
        "memory_format": "contiguous, as the model is built",
    }
    if device.type == "cuda":
        facts |= _cuda_facts(device)
    revision = git_revision()
    return facts | ({"git_revision": revision} if revision else {})


def device_name(device: torch.device) -> str:
    """The name that the GPU's driver or the operating system gives."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def cpu_name() -> str:
    """The processor's model, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def sdpa_enabled() -> list[str]:
    """The backends that scaled dot product attention may choose from on CUDA."""
    import torch

    backends = torch.backends.cuda
    states = {
        "flash": backends.flash_sdp_enabled(),
        "efficient": backends.mem_efficient_sdp_enabled(),
        "cudnn": backends.cudnn_sdp_enabled(),
        "math": backends.math_sdp_enabled(),
    }
    return [name for name, enabled in states.items() if enabled]


def _cuda_facts(device: torch.device) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(device)
    return {
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "device_memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_enabled": torch.backends.cudnn.enabled,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "fp32_precision_matmul": torch.backends.cuda.matmul.fp32_precision,
        "fp32_precision_conv": torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        "l2_cache": "warm: not flushed between repeats",
        "nvidia_smi": nvidia_smi(str(getattr(properties, "uuid", ""))),
    }


def nvidia_smi(uuid: str = "") -> dict[str, str]:
    """Driver, clocks (MHz), power limit (W) and temperature (degrees Celsius) of one GPU; empty when none answers."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader,nounits"]
    if uuid:
        command.append(f"--id={uuid if uuid.startswith('GPU-') else 'GPU-' + uuid}")
    line = _output(command)
    values = [value.strip() for value in line.splitlines()[0].split(",")] if line else []
    return dict(zip(_SMI_FIELDS, values, strict=True)) if len(values) == len(_SMI_FIELDS) else {}


def git_revision() -> str:
    """The commit of the checkout that this package runs from, with ``-dirty`` when it was changed; else empty."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    return _output(["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"])


def _output(command: list[str]) -> str:
    """What a command prints, empty when it is not there, fails or does not answer in ten seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
