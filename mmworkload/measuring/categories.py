"""What a kernel is, judged by its name alone. Pure text rules.

The category by operator is that of the layer and is true. The category by name is the papers' rule, kept to compare
with them: it tests substrings in order, and cuDNN's forward convolutions carry "relu" in their names, so that their
time is booked as Relu.
"""

from __future__ import annotations

# MMBench's scripts/nsys_visualization.py (kernels of the GPU) and scripts/intelv.py (operators of the CPU): the first
# match counts. The order is part of the rule.
_KERNEL_RULE = (
    ("Relu", ("relu",)),
    ("Conv", ("conv",)),
    ("BNorm", ("norm",)),
    ("Elewise", ("elementwise",)),
    ("Pooling", ("pool",)),
    ("Gemm", ("gemm", "gemv")),
    ("Reduce", ("reduce",)),
)
_OPERATOR_RULE = (
    ("Relu", ("relu", "gelu", "clamp_min", "softmax")),
    ("Conv", ("conv",)),
    ("BNorm", ("batch_norm", "layer_norm")),
    ("Elewise", ("add", "div", "sub")),
    ("Pooling", ("pool",)),
    ("Gemm", ("linear", "addmm", "matmul", "mul", "bmm")),
    ("Reduce", ("sum", "mean")),
)


def name_category(name: str, *, on_device: bool) -> str:
    """The papers' category of a kernel's name; ``on_device`` False for operators of the CPU."""
    lower = name.lower()
    rule = _KERNEL_RULE if on_device else _OPERATOR_RULE
    return next((category for category, parts in rule if any(part in lower for part in parts)), "Other")


def kernel_kind(name: str) -> str:
    """``copy``, ``fill`` or ``kernel``: what the device does, as CUPTI names it."""
    return "copy" if name.startswith("Memcpy") else "fill" if name.startswith("Memset") else "kernel"


def runtime_kind(name: str) -> str:
    """``sync``, ``copy`` or ``runtime``: a call of the CUDA runtime or driver by its name."""
    return "sync" if "Synchronize" in name else "copy" if "Memcpy" in name else "runtime"


def crosses(name: str) -> bool:
    """Whether a copy of the device goes to or comes from the host."""
    return "HtoD" in name or "DtoH" in name
