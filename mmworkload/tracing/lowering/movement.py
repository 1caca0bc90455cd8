"""Data movement: copies, gathers, scatters, and tensors made from nothing. No arithmetic, only bytes."""

from __future__ import annotations

import math

from mmworkload.tracing.call import Call, Lowered, Value, lowers

# Every byte of the arguments is read, every byte of the output written.
COPIES = (
    "cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "clone", "_to_copy", "to", "contiguous",
    "reshape", "flatten", "repeat", "repeat_interleave", "tile", "roll", "flip", "fliplr", "flipud", "rot90", "pad",
    "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
    "replication_pad2d", "replication_pad3d", "_pad_circular", "tril", "triu", "type_as", "block_diag", "meshgrid",
    "cartesian_prod", "view_as_complex", "view_as_real", "as_strided", "_reshape_copy", "view_copy", "permute_copy",
    "_unsafe_view", "reshape_as", "expand_copy", "masked_select", "nonzero", "diag_embed", "diag", "diagflat",
    "diagonal_scatter", "slice_scatter", "select_scatter", "as_strided_scatter", "one_hot", "conj_physical",
    "_conj_physical", "resolve_conj", "resolve_neg", "kron", "column_stack", "row_stack",
    "alias_copy", "as_strided_copy", "diagonal_copy", "narrow_copy", "select_copy", "slice_copy", "split_copy",
    "split_with_sizes_copy", "squeeze_copy", "t_copy", "transpose_copy", "unbind_copy", "unfold_copy",
    "unsqueeze_copy", "fft_fftshift", "fft_ifftshift", "combinations", "_chunk_cat", "ravel", "chalf", "nonzero_static",
    "lu_unpack", "max_unpool2d", "max_unpool3d", "resize_", "resize_as_", "argwhere", "nonzero_numpy",
    "_pack_padded_sequence", "_pad_packed_sequence", "pad_sequence", "detach_copy", "view_as_complex_copy",
    "view_as_real_copy", "flatten_dense_tensors",
)  # fmt: skip

# Only the selected elements are read.
GATHERS = (
    "index",
    "index_select",
    "gather",
    "take",
    "take_along_dim",
    "_unsafe_index",
    "_unsafe_masked_index",
    "embedding_renorm",
)

# Only the written elements of the target are touched; some are combined with what stood there.
SCATTERS = (
    "index_put",
    "_index_put_impl",
    "_unsafe_index_put",
    "index_copy",
    "index_fill",
    "scatter",
    "masked_scatter",
    "put",
)
COMBINES = ("index_add", "index_reduce", "scatter_add", "scatter_reduce", "_unsafe_masked_index_put_accumulate")

FILLS = (
    "zeros", "zeros_like", "ones", "ones_like", "full", "full_like", "empty", "empty_like", "empty_strided",
    "empty_permuted", "new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided", "arange", "linspace",
    "logspace", "eye", "rand", "randn", "rand_like", "randn_like", "randint", "randperm", "scalar_tensor", "fill",
    "zero", "tril_indices", "triu_indices", "hann_window", "hamming_window", "randint_like", "bartlett_window",
    "blackman_window", "kaiser_window", "range", "fft_fftfreq", "fft_rfftfreq", "_shape_as_tensor",
)  # fmt: skip


@lowers(*(f"aten.{name}" for name in COPIES))
def copy(call: Call) -> Lowered:
    name = call.operator.removeprefix("aten.").strip("_")
    name = {"to_copy": "to", "concat": "cat", "concatenate": "cat"}.get(name, name)
    return Lowered(name, "Movement")


@lowers("aten.copy")
def assign(call: Call) -> Lowered:
    """Reads the source and writes the target, which is not read."""
    source = call["src"]
    return Lowered("copy", "Movement", reads=((source, source.bytes),))


@lowers(*(f"aten.{name}" for name in GATHERS))
def gather(call: Call) -> Lowered:
    """Reads the indices and as many elements as it writes."""
    source, *indices = call.tensors
    reads = ((source, min(source.bytes, call.output.elements * source.bits // 8)), *((i, i.bytes) for i in indices))
    return Lowered(call.operator.removeprefix("aten.").strip("_"), "Movement", reads=reads)


@lowers(*(f"aten.{name}" for name in (*SCATTERS, *COMBINES)))
def scatter(call: Call) -> Lowered:
    """In place, only what is written moves; otherwise the whole target is copied first.

    What is combined with the target (``index_add``) is read there as well, with one operation an element.
    """
    target, *others = call.tensors
    name = call.operator.removeprefix("aten.")
    combines = name in COMBINES or bool(call.get("accumulate")) or call.get("reduce") is not None
    touched = min(target.elements, _touched(call, target))
    moved = touched * target.bits // 8
    vector_ops = touched if combines else 0
    if not call.in_place:
        return Lowered(name.strip("_"), "Movement", vector_ops=vector_ops)
    reads = ((target, moved if combines else 0), *((value, value.bytes) for value in others))
    return Lowered(name.strip("_"), "Movement", vector_ops=vector_ops, reads=reads, write_bytes=moved)


def _touched(call: Call, target: Value) -> int:
    """Elements of the target that a scatter writes, at most."""
    index = call.get("index", call.get("indices"))
    if isinstance(index, (list, tuple)):
        numbers = [item for item in index if isinstance(item, Value)]
        if any(item.dtype in ("bool", "uint8") for item in numbers):
            # How many a mask selects is in its values.
            return target.elements
        places = math.prod(_broadcast([item.shape for item in numbers]))
        indexed = math.prod(target.shape[axis] for axis, item in enumerate(index) if isinstance(item, Value))
        return places * target.elements // max(1, indexed)
    if not isinstance(index, Value):
        source = call.get("source")
        return source.elements if isinstance(source, Value) else target.elements
    if call.operator.startswith(("aten.index_", "aten._index_")) and target.shape:
        return index.elements * target.elements // max(1, target.shape[call["dim"]])
    return index.elements


def _broadcast(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that torch broadcasts ``shapes`` to."""
    rank = max((len(shape) for shape in shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(next((size for size in sizes if size != 1), 1) for sizes in zip(*padded, strict=True))


@lowers(*(f"aten.{name}" for name in FILLS))
def fill(call: Call) -> Lowered:
    """Writes only; the tensor of a ``_like`` or ``new_`` gives the shape, other tensors give a value."""
    uninitialised = "empty" in call.operator
    values = [value for name, value in call.args.items() if name != "self" and isinstance(value, Value)]
    reads = tuple((value, value.bytes) for value in values)
    return Lowered("fill", "Movement", reads=reads, write_bytes=0 if uninitialised else None)


@lowers("aten.fill_diagonal")
def fill_diagonal(call: Call) -> Lowered:
    """Writes the diagonal alone; a tall matrix with ``wrap`` has it again and again."""
    target = call["self"]
    rows, columns = target.shape[0], target.shape[-1]
    places = -(-target.elements // (columns + 1)) if call["wrap"] and rows > columns else min(target.shape)
    return Lowered("fill", "Movement", reads=(), write_bytes=places * target.bits // 8)


@lowers("aten.embedding")
def embedding(call: Call) -> Lowered:
    """Reads the gathered rows, not the table."""
    table, indices = call["weight"], call["indices"]
    rows = indices.elements * table.shape[1] * table.bits // 8
    return Lowered("embedding", "Movement", reads=((table, rows), (indices, indices.bytes)))


@lowers("aten.embedding_bag", "aten._embedding_bag", "aten._embedding_bag_forward_only")
def embedding_bag(call: Call) -> Lowered:
    """Reads the gathered rows and reduces them to one row a bag."""
    table, *others = call.tensors
    rows = call["indices"].elements * table.shape[1]
    return Lowered(
        "embedding_bag",
        "Movement",
        vector_ops=rows,
        reads=((table, rows * table.bits // 8), *((value, value.bytes) for value in others)),
        write_bytes=call.output.bytes,
    )
