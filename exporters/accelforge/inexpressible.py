"""What AccelForge 1.0.466 cannot be told: the committed table of families, each with its reason and its source.

Sources are modules of the package ``accelforge`` 1.0.466, or this project's own division of work.
"""

from __future__ import annotations

from mmworkload.exporters.telling import HOST, Family

VECTOR = Family(
    "elementwise operations, activations, pooling, normalization, softmax, reductions",
    "no multiply-accumulates: work of a vector unit",
    "accelforge/frontend/workload.py, Einsum: an elementwise Einsum is possible, but its points run on the array of"
    " multipliers and are charged as MACs; the neutral architecture has a vector unit for them, and an Einsum cannot"
    " say which unit it needs",
)
MOVEMENT = Family(
    "copies, gathers, concatenations, embeddings",
    "no multiply-accumulates: only moves data",
    "accelforge/frontend/workload.py, Einsum.is_copy_operation: a copy is of a whole tensor, and every Einsum indexes"
    " its tensors by affine expressions",
)
OPERATION = Family(
    "loop nests of sums, maxima and the like",
    "the operation is not a multiply-accumulate",
    "accelforge/frontend/workload.py, _parse_einsum_string: an Einsum has no operation; each point is one compute",
)
OPERANDS = Family(
    "einsums of one tensor, or of three and more at once",
    "the architecture has paths for two inputs and an output",
    "mmworkload/arch.py, Level.holds: the roles are weight, input and output",
)
DIAGONAL = Family(
    "windows over a diagonal",
    "AccelForge cannot express an operand that uses a loop in two axes",
    "accelforge/frontend/_workload_isl/_symbolic.py, compute_dense_tile_occupancy: a tile is the product of its axes;"
    " a plain diagonal is read along one axis, a window over one is not a product",
)
IDLE = Family(
    "loops that no tensor has",
    "AccelForge drops a loop that indexes no tensor",
    "accelforge/frontend/workload.py, Einsum.rank_variables: the union over the tensors",
)
TOO_WIDE = Family(
    "any, forced into a precision wider than a whole level (never in an export: it is in native precision)",
    "one element does not fit a level",
    "accelforge/frontend/arch/components.py, Memory.size: no mapping is valid",
)
FAMILIES = (VECTOR, MOVEMENT, HOST, OPERATION, OPERANDS, DIAGONAL, IDLE, TOO_WIDE)
