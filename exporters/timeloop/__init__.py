"""Timeloop and Accelergy (Parashar et al., ISPASS 2019; Wu, Emer, Sze, ICCAD 2019), input format 0.4.

Our dimension letters are Timeloop's (see :mod:`.terms`); a problem always has the data spaces Weights, Inputs, Outputs.
"""

from mmworkload.exporters.timeloop.accelergy import ENERGY_ESTIMATOR
from mmworkload.exporters.timeloop.exporter import TimeloopExporter
from mmworkload.exporters.timeloop.native import as_architecture
from mmworkload.exporters.timeloop.results import open_results
from mmworkload.exporters.timeloop.simulator import TimeloopSimulator

EXPORTER = TimeloopExporter()
SIMULATOR = TimeloopSimulator()
NATIVE = as_architecture
RESULTS = open_results

__all__ = ["ENERGY_ESTIMATOR", "EXPORTER", "NATIVE", "RESULTS", "SIMULATOR"]
