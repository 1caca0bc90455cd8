"""SCALE-Sim 3.0.0 (Samajdar et al., "A Systematic Methodology for Characterizing Scalability of DNN Accelerators using
SCALE-Sim", ISPASS 2020): a systolic array that computes one matrix product, or one convolution as such, at a time.

The matrix product is ``[M, K] x [K, N]`` in SCALE-Sim's letters. Ours come to them by the operands that have them:

==  ========================================  ===================================================
M   in the input and the output               N, P, Q, O (of a convolution: the output's pixels)
N   in the weight and the output              M (of a transposed convolution also the kernel)
K   in the input and the weight               C, R, S, T
\\-  in all three                              G: as many products, one after another
==  ========================================  ===================================================
"""

from mmworkload.exporters.scalesim.exporter import ScaleSimExporter
from mmworkload.exporters.scalesim.simulator import ScaleSimSimulator

EXPORTER = ScaleSimExporter()
SIMULATOR = ScaleSimSimulator()

__all__ = ["EXPORTER", "SIMULATOR"]
