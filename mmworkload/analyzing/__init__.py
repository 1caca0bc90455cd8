"""Analyzing: named views of results, as the field's papers make them. Needs no torch and no device.

``analyze("A11", "result/", arch="h200")`` gives a data frame; :data:`VIEWS` lists the views. Each is a small pure
function of one result (:class:`~mmworkload.analyzing.taken.Taken`), and several results make one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmworkload import arch as architectures
from mmworkload.analyzing.multimodal import ELSEWHERE
from mmworkload.analyzing.registry import VIEWS, find
from mmworkload.analyzing.taken import Taken, ideal_intensity
from mmworkload.analyzing.view import COLUMNS, View
from mmworkload.arch import Architecture
from mmworkload.errors import MmworkloadError
from mmworkload.reporting.units import si

if TYPE_CHECKING:
    import pandas

    from mmworkload.measuring.folder import Result

__all__ = ["COLUMNS", "ELSEWHERE", "VIEWS", "Taken", "View", "analyze", "find"]


def analyze(
    view: str,
    result: str | Path | Result | Sequence[str | Path | Result],
    *,
    arch: str | Path | Architecture | None = None,
) -> pandas.DataFrame:
    """The table of a view of one result or several, with the columns of :attr:`View.columns`.

    ``attrs["notes"]`` are the definitions that hold for the table; :data:`COLUMNS` has the unit of each column.

    Parameters
    ----------
    view: its name, ``A1`` to ``A15`` or ``D1`` to ``D15`` (``mmworkload analyze --list``).
    result: a result, the path of one, or several. A path may hold several, a pack for instance. They follow each other
        in their order, with the columns model, batch, dtype and device in front.
    arch: what the measured device is by its published or calibrated figures, in the precision of each result: it tells
        memory-bound from compute-bound.

    Raises
    ------
    MmworkloadError
        UnknownNameError for another view, FormatError for a damaged result; else what to run when a result lacks a
        level or counters.

    Examples
    --------
    >>> mmworkload.analyze("A11", "result/")
    """
    import pandas

    chosen = find(view)
    given = [result] if isinstance(result, str | Path) or not isinstance(result, Sequence) else list(result)
    if not given:
        raise MmworkloadError(f"{chosen.id} is of a result: give a folder that `mmworkload measure -o` wrote")
    taken = [_taken(item, arch) for item in _loaded(given)]
    for item in taken:
        for need in chosen.needs:
            item.require(need)
    several = len(taken) > 1
    tables = [_identified(chosen.of(item), item) if several else chosen.of(item) for item in taken]
    # One list of columns, whatever is empty in one of them.
    frame = pandas.concat(tables, ignore_index=True) if several else tables[0]
    if chosen.across is not None:
        frame = chosen.across(frame)
    identity = [name for name in ("model", "batch", "dtype", "device") if several and name not in chosen.columns]
    frame = frame[[*identity, *chosen.columns]].reset_index(drop=True)
    frame.attrs["notes"] = _notes(chosen, taken, frame)
    return frame


def _loaded(given: Sequence[str | Path | Result]) -> list[Result]:
    from mmworkload.packs.measured import collect

    return [found for item in given for found in (collect([item]) if isinstance(item, str | Path) else [item])]


def _taken(result: Result, arch: str | Path | Architecture | None) -> Taken:
    if arch is not None and not isinstance(arch, Architecture):
        arch = architectures.load(arch, result.measurement.dtype)
    return Taken(result, arch)


def _identified(frame: pandas.DataFrame, taken: Taken) -> pandas.DataFrame:
    m = taken.measurement
    device = m.provenance.get("device_name") or m.device
    return frame.assign(model=m.model, batch=m.batch, dtype=m.dtype, device=device)


def _notes(view: View, taken: Sequence[Taken], frame: pandas.DataFrame) -> list[str]:
    notes = [view.note] if view.note else []
    if any(item.has("kernel") for item in taken) and {"kernel", "stalls"} & set(view.needs):
        runs = sorted({item.runs for item in taken})
        notes.append(
            f"A layer's time is the median of {' or '.join(map(str, runs))} profiled runs, and its kernels share it in"
            " the proportion of their means."
        )
    if "source" in frame and (frame["source"] == "ideal").any():
        notes.append(
            "ideal: flops and bytes are what the traced layer must compute and move once, not what was counted; a"
            " layer's are shared among its kernels by their time."
        )
    if view.bound:
        arches = {item.arch.label: item.arch for item in taken if item.arch}
        notes += [
            f"Memory-bound is below {si(ideal_intensity(arch), 'flop/B')}: {arch.label} ({arch.description}),"
            f" {si(2 * arch.macs_per_second, 'flop/s')} over {si(arch.dram_bytes_per_second, 'B/s')}."
            f" Source: {arch.source}."
            for arch in arches.values()
        ] or ["Memory-bound is not decided: give the device's figures with --arch (h200, host, a file)."]
    unread = [name for name in frame.columns if COLUMNS[name].counter and frame[name].isna().all()]
    if unread and len(frame):
        notes.append(
            f"Not read: {', '.join(unread)}. They are hardware counters: measure on a GPU with --counters, where Nsight"
            " Compute and the right to use counters are."
        )
    return notes
