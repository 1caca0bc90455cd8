"""ZigZag (Mei et al., "ZigZag: Enlarging Joint Architecture-Mapping Design Space Exploration for DNN Accelerators",
IEEE TC 70(8), 2021), package ``zigzag-dse`` 3.9.1.

Dimensions, ours to ZigZag's (dimensions that no operand tells apart are merged, and their names joined):

===  ==  ======  =====  ========================
N    B   P Q O   OY OX OZ   output height, width, depth
G    G   R S T   FY FX FZ   kernel height, width, depth
M    K   C       C
===  ==  ======  =====  ========================

Any further letter ``A`` is ``XA``. Operands: the weight, or the second of two activations, is ``W``; the other input
is ``I``; the output is ``O``. They meet the memories as ``I2``, ``I1`` and ``O``.
"""

from mmworkload.exporters.zigzag.exporter import ZigZagExporter
from mmworkload.exporters.zigzag.simulator import SIMULATOR

EXPORTER = ZigZagExporter()

__all__ = ["EXPORTER", "SIMULATOR"]
