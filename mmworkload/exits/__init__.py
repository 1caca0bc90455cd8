"""Early exits in multi-modal networks (MMExit, Hou et al., Euro-Par 2023), as a transformation of a traced graph.

``with_exits(graph, settings)`` gives an :class:`ExitNetwork`: the graph with exit layers, its segments, paths and the
workload of either; ``analyse(network, costs)`` what that is expected to cost and which order of modalities is best.
"""

from mmworkload.exits.analysis import ExitAnalysis, analyse
from mmworkload.exits.encoders import ExitError
from mmworkload.exits.network import Exit, ExitNetwork, Segment, with_exits
from mmworkload.exits.settings import SUFFIX, ExitSettings, split_exits

__all__ = [
    "SUFFIX",
    "Exit",
    "ExitAnalysis",
    "ExitError",
    "ExitNetwork",
    "ExitSettings",
    "Segment",
    "analyse",
    "split_exits",
    "with_exits",
]
