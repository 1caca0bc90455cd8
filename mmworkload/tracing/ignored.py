"""The one table of operators that may be left out of the graph, each with its reason.

An entry is only a permission: a call is ignored when its outputs really share memory with its inputs (or it has no
tensor output); the same operator that copies (``reshape`` of a transposed tensor) or computes (``dropout_`` in
training, ``einsum`` that sums) is lowered as what it is.
"""

from __future__ import annotations

VIEW = "gives a view of its input"
SAME = "gives its input itself in inference"
CHECK = "checks or reads metadata"
CONSTANT = "brings a constant of the forward pass into the graph"

IGNORED: dict[str, str] = {
    **{
        f"aten.{name}": VIEW
        for name in (
            "view", "_unsafe_view", "view_as", "reshape", "reshape_as", "_reshape_alias", "flatten", "unflatten",
            "transpose", "permute", "t", "numpy_T", "adjoint", "mT", "mH", "swapaxes", "swapdims", "movedim",
            "moveaxis", "matrix_H", "expand", "expand_as", "broadcast_to", "broadcast_tensors", "unsqueeze",
            "squeeze", "slice", "select", "narrow", "split", "split_with_sizes", "chunk", "tensor_split", "hsplit",
            "vsplit", "dsplit", "unbind", "diagonal", "as_strided", "unfold", "view_as_real", "view_as_complex",
            "real", "imag", "conj", "_conj", "_neg_view", "alias", "detach", "ravel", "unsafe_chunk", "unsafe_split",
            "unsafe_split_with_sizes", "atleast_1d", "atleast_2d", "atleast_3d", "meshgrid", "einsum",
            "linalg_diagonal", "cartesian_prod",
        )
    },
    **{
        f"aten.{name}": SAME
        for name in (
            "contiguous", "to", "type_as", "dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout",
            "lift_fresh", "lift", "requires_grad_", "positive", "resolve_conj", "resolve_neg", "conj_physical", "data",
        )
    },
    "aten.lift_fresh_copy": CONSTANT,
    **{
        f"aten.{name}": CHECK
        for name in (
            "_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_size", "sym_stride", "sym_numel",
            "sym_storage_offset", "sym_constrain_range", "sym_constrain_range_for_size",
            "is_same_size", "size", "stride", "numel", "dim", "is_nonzero",
        )
    },
}  # fmt: skip
