"""The compact text of a layer graph, valid YAML: a header, then tables with one line an entry, folded.

The header is as in the JSON. Its sums may be left out; with ``counts``, the entries of each table, at the end, they are
there for readers, and to notice a text that is cut off or was changed in one place only. A table is a block of lines,
folded as :mod:`mmworkload.folding` says. A line is words between spaces; a word that is not plain is a JSON string.

==========  ==========================================================================================================
problems    ``p0 problem``, the problem as docs/json.md explains it
operators   ``op category vector operator``: of an operator family, what goes without saying (see below)
rules       ``r0 stage modality rule``: where layers belong, and why
tensors     ``name [shape] ...``: the tensors that no layer uses
layers      ``name op r0 p0 p1*3 ... <- tensor ... tensor ... -> [shape] ...``: what it is, reads and writes
coverage    ``treatment operator module reason ...``; no reason when it is empty
outputs     ``tensor``
==========  ==========================================================================================================

``...`` is what differs from the default, as ``key=value``:

- Of a layer: ``module`` (as the name says), ``category`` (the operator family's), ``vector`` (operations; by default as
  many for each element of the first tensor that it writes as the operator family has), ``placement`` (device),
  ``rule`` (that of ``r0``), ``assume`` (once for each assumption), and the word ``dead``. ``p1*3`` is a problem that
  runs three times, ``p1*3/sequential`` each time after the one before.
- Of a tensor: ``bytes`` that move (all), and where it is declared, after the ``[shape]``: ``dtype`` (the graph's),
  ``bits`` (what the dtype says), ``kind``, ``storage`` (its own). A tensor that a layer writes is declared there; it is
  an activation and called ``layer:out`` (or ``layer:out.0``, ``layer:out.1``) unless it has a ``name``. Another is
  declared where it is first read, and is a weight.
- Of coverage: ``calls``, ``macs``, ``bytes``; by default of the layers in the module that are of this operator, or of
  all in the module when none is; 1, 0 and 0 for what is ignored. Of a module whose layers all are of one operator
  family, coverage is not there when it is what the layers and the family's ``operator`` say.

In a layer, names are relative as in a Python import: ``.weight`` is in the layer's module, ``..conv:out`` beside it.
"""

from mmworkload.graph_lines.reading import read
from mmworkload.graph_lines.words import SCHEMA_VERSION, check_version
from mmworkload.graph_lines.writing import write

__all__ = ["SCHEMA_VERSION", "check_version", "read", "write"]
