"""AccelForge, by the Timeloop and Accelergy group (https://github.com/Accelergy-Project/accelforge), 1.0.466.

Dimensions are ours in lower case (``m``, ``c``); those that no tensor tells apart are one rank variable (``n_p_q``). In
a cascade a number follows, since rank names are unique there. Tensors are ``I``, ``W`` and ``O`` on the ways of inputs,
weights and outputs (the second of two activations goes the way of the weights); what one Einsum writes and another
reads is ``T`` with a number.

Why it is in no extra and ``auto`` never takes it: AccelForge itself is MIT, but 1.0.466 requires islpy-barvinok (GPLv2)
and hwcomponents-neurosim, whose wheel holds code under CC BY-NC 4.0 while its metadata says MIT; and it needs Python
3.12. Whoever installs it decides about these. Why 1.0.466: the next release needs the program ``dot`` of graphviz.
"""

from mmworkload.exporters.accelforge.exporter import AccelForgeExporter
from mmworkload.exporters.accelforge.simulator import SIMULATOR

EXPORTER = AccelForgeExporter()

__all__ = ["EXPORTER", "SIMULATOR"]
