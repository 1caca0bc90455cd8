"""The texts that SCALE-Sim 3.0.0 reads.

It skips the first line of a topology unread, wants a comma at the end of each line, and needs all five sections of a
configuration and a layout, used or not. A word is one byte there: sizes are given in words of the architecture.
"""

from __future__ import annotations

from collections.abc import Iterable

from mmworkload.arch import Architecture
from mmworkload.exporters.scalesim.buffers import buffer_words
from mmworkload.exporters.scalesim.dataflow import Dataflow
from mmworkload.exporters.scalesim.product import Convolution, Product
from mmworkload.problem import Role

CONFIG, LAYOUT, CONV, GEMM = "scale.cfg", "layout.csv", "conv.csv", "gemm.csv"
# Far apart, so that no tensor reaches into the addresses of another.
_OFFSET = 1_000_000_000


def config_text(arch: Architecture, dataflow: Dataflow, comments: Iterable[str]) -> str:
    """``scale.cfg``. Bandwidths count only after ``InterfaceBandwidth`` is set to USER; the closed form is CALC's."""
    dram = arch.dram
    read, written = (max(1, round(words or 0)) for words in (dram.read_bandwidth, dram.write_bandwidth))
    sections: dict[str, dict[str, object]] = {
        "general": {"run_name": "mmworkload"},
        "architecture_presets": {
            "ArrayHeight": dataflow.rows,
            "ArrayWidth": dataflow.columns,
            "IfmapSramSzkB": _kilowords(arch, "input"),
            "FilterSramSzkB": _kilowords(arch, "weight"),
            "OfmapSramSzkB": _kilowords(arch, "output"),
            "IfmapOffset": 0,
            "FilterOffset": _OFFSET,
            "OfmapOffset": 2 * _OFFSET,
            "Bandwidth": written,
            "Dataflow": dataflow.name,
            "ReadRequestBuffer": 32,
            "WriteRequestBuffer": 32,
        },
        "layout": {
            "IfmapCustomLayout": False,
            "IfmapSRAMBankBandwidth": read,
            "IfmapSRAMBankNum": 1,
            "IfmapSRAMBankPort": 1,
            "FilterCustomLayout": False,
            "FilterSRAMBankBandwidth": read,
            "FilterSRAMBankNum": 1,
            "FilterSRAMBankPort": 1,
        },
        "sparsity": {"SparsitySupport": False},
        "run_presets": {"InterfaceBandwidth": "CALC", "UseRamulatorTrace": False},
    }
    lines = [f"# {comment}" for comment in comments]
    for section, values in sections.items():
        lines += ["", f"[{section}]", *(f"{key} = {value}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _kilowords(arch: Architecture, role: Role) -> int:
    """SCALE-Sim takes whole numbers and divides by them."""
    return max(1, buffer_words(arch, role) // 1024)


def layout_text() -> str:
    """Only the header: no custom layout is asked for."""
    names = ["Layer name"]
    names += [f"{what} Intraline Factor" for what in ("IFMAP Height", "IFMAP Width", "Filter Height", "Filter Width")]
    names += ["Channel Intraline Factor", "Num Filter Intraline Factor"]
    for line in ("Intraline", "Interline"):
        names += [f"{what} {line} Order" for what in ("IFMAP Height", "IFMAP Width", "Channel")]
    for line in ("Intraline", "Interline"):
        names += [f"{what} {line} Order" for what in ("Num Filter", "Channel", "Filter Height", "Filter Width")]
    return ",".join(names) + ",\n"


def gemm_text(rows: Iterable[Product]) -> str:
    """``gemm.csv``, read with ``-i gemm``. The order is M, N, K."""
    lines = ["Layer name,M,N,K,", *(f"{row.row_name},{row.m},{row.n},{row.k}," for row in rows)]
    return "\n".join(lines) + "\n"


def conv_text(rows: Iterable[Convolution]) -> str:
    """``conv.csv``, read with ``-i conv``."""
    lines = ["Layer name,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,Strides,"]
    lines += [
        f"{row.row_name},{row.input_height},{row.input_width},{row.filter_height},{row.filter_width},"
        f"{row.channels},{row.filters},{row.stride},"
        for row in rows
    ]
    return "\n".join(lines) + "\n"
