"""What goes from one architecture to another when a system runs the stages of a network on several."""

from __future__ import annotations

from dataclasses import dataclass

from mmworkload.graph import LayerGraph
from mmworkload.simulating.rollup import stored_bits
from mmworkload.system import System


@dataclass(frozen=True)
class Transfer:
    """Tensors that layers on ``source`` write and layers on ``target`` read, each once.

    ``bytes`` in the precision of the source; ``seconds`` at the slower of the two DRAMs' bandwidths, which stands in
    for a link that no specification describes. Neither the layers' latencies nor their energies contain it.
    """

    source: str
    target: str
    tensors: int
    bytes: float
    seconds: float


def transfers(graph: LayerGraph, system: System, bits: int | None = None) -> tuple[Transfer, ...]:
    """The transfers of one execution of ``graph``, by pair of architectures in order of first use.

    ``bits`` of a number; default is the native precision of the source.
    """
    home = {layer.name: system.runs(layer.stage) for layer in graph.layers}
    moved: dict[tuple[str, str], dict[str, int]] = {}
    known = {arch.label: arch for arch in system.architectures}
    for layer in graph.layers:
        target = home[layer.name]
        for name, read_bytes in layer.reads:
            if name not in graph.producers:
                continue
            source = home[graph.producers[name]]
            if source.label == target.label:
                continue
            moved_bits = stored_bits(graph.tensors[name], read_bytes, bits or source.dram.word_bits)
            pair = moved.setdefault((source.label, target.label), {})
            # Readers of parts of a tensor: the largest part, since the others may lie inside it.
            pair[name] = max(pair.get(name, 0), -(-moved_bits // 8))
    found = []
    for (source_name, target_name), tensors in moved.items():
        size = sum(tensors.values())
        rate = min(known[source_name].dram_bytes_per_second, known[target_name].dram_bytes_per_second)
        found.append(Transfer(source_name, target_name, len(tensors), size, size / rate))
    return tuple(found)
