"""What ZigZag 3.9.1 cannot be told: the committed table of families, each with its reason and its source.

Sources are modules of the package ``zigzag-dse`` 3.9.1, or this project's own division of work.
"""

from __future__ import annotations

from mmworkload.exporters.telling import HOST, Family

VECTOR = Family(
    "elementwise operations, activations, pooling, normalization, softmax, reductions",
    "no multiply-accumulates: work of a vector unit",
    "zigzag/parser/workload_validator.py, ALLOWED_OPERATORS: Add and Pooling exist, but run on the array of multipliers"
    " and are charged as MACs; the neutral architecture has a vector unit for them, which ZigZag has not",
)
MOVEMENT = Family(
    "copies, gathers, concatenations, embeddings",
    "no multiply-accumulates: only moves data",
    "zigzag/parser/workload_validator.py, EQUATION_REGEX: a layer is an equation of two inputs",
)
OPERATION = Family(
    "loop nests of sums, maxima and the like",
    "the operation is not a multiply-accumulate",
    "zigzag/parser/workload_validator.py, EQUATION_REGEX: only *, + and +=, and each is charged as a MAC",
)
OPERANDS = Family(
    "einsums of one tensor, or of three and more at once",
    "ZigZag multiplies two operands",
    "zigzag/parser/workload_validator.py, EQUATION_REGEX: exactly two inputs",
)
DIAGONAL = Family(
    "einsums that read a diagonal (ii,ij->j)",
    "ZigZag cannot express an operand that uses a loop twice",
    "zigzag/workload/layer_node.py, calc_tensor_size: the size is the product of the operand's loops, so that a"
    " diagonal would count as a whole matrix",
)
THREE_LOOPS = Family(
    "windows of windows",
    "ZigZag cannot express an axis that is a sum of more than two loops",
    "zigzag/parser/workload_validator.py, LAYER_DIM_RELATION_REGEX: a relation has two terms",
)
SECOND_WINDOW = Family(
    "products whose second tensor is read through a sliding window",
    "ZigZag cannot express a sliding window over the second operand",
    "zigzag/workload/layer_node.py, LoopRelevancyInfo.extract_relevancy_info: an operand with a window is given all"
    " windows of the layer",
)
TOO_WIDE = Family(
    "any, forced into a precision wider than a whole level (never in an export: it is in native precision)",
    "one element does not fit a level",
    "zigzag/opt/loma/memory_allocator.py: MemoryTooSmallException",
)
FAMILIES = (VECTOR, MOVEMENT, HOST, OPERATION, OPERANDS, DIAGONAL, THREE_LOOPS, SECOND_WINDOW, TOO_WIDE)
