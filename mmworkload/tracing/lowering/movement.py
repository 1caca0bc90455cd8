"""Data movement: copies, gathers, scatters, and tensors made from nothing. No arithmetic, only bytes."""

from __future__ import annotations

from mmworkload.tracing.call import Call, Lowered, Value, lowers

# Every byte of the arguments is read, every byte of the output written.
COPIES = (
    "cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "clone", "_to_copy", "to", "contiguous",
    "reshape", "flatten", "repeat", "repeat_interleave", "tile", "roll", "flip", "fliplr", "flipud", "rot90", "pad",
    "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
    "replication_pad2d", "replication_pad3d", "_pad_circular", "tril", "triu", "type_as", "block_diag", "meshgrid",
    "cartesian_prod", "view_as_complex", "view_as_real", "as_strided", "_reshape_copy", "view_copy", "permute_copy",
    "_unsafe_view", "reshape_as", "expand_copy", "float", "masked_select", "nonzero", "diag_embed", "diag",
    "diagonal_scatter", "slice_scatter", "select_scatter", "one_hot", "unique", "_conj_physical", "resolve_conj",
    "resolve_neg", "kron",
)  # fmt: skip

# Only the selected elements are read.
GATHERS = ("index", "index_select", "gather", "take", "take_along_dim", "_unsafe_index", "embedding_renorm")

# Only the written elements of the target are touched.
SCATTERS = (
    "index_put",
    "_index_put_impl",
    "_unsafe_index_put",
    "index_copy",
    "index_add",
    "index_fill",
    "scatter",
    "scatter_add",
    "scatter_reduce",
    "masked_scatter",
    "_unsafe_masked_index_put_accumulate",
)

FILLS = (
    "zeros", "zeros_like", "ones", "ones_like", "full", "full_like", "empty", "empty_like", "empty_strided",
    "new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided", "arange", "linspace", "logspace", "eye",
    "rand", "randn", "rand_like", "randn_like", "randint", "randperm", "scalar_tensor", "fill", "zero",
    "tril_indices", "triu_indices", "hann_window", "hamming_window", "multinomial",
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


@lowers(*(f"aten.{name}" for name in SCATTERS))
def scatter(call: Call) -> Lowered:
    """In place, only what is written moves; otherwise the whole target is copied first."""
    target, *others = call.tensors
    sources = [value for name in ("values", "source", "src", "value") if isinstance(value := call.get(name), Value)]
    moved = sum(value.bytes for value in sources)
    name = call.operator.removeprefix("aten.").strip("_")
    if not call.in_place:
        return Lowered(name, "Movement")
    reads = ((target, 0), *((value, value.bytes) for value in others))
    return Lowered(name, "Movement", reads=reads, write_bytes=min(moved, target.bytes) if sources else None)


@lowers(*(f"aten.{name}" for name in FILLS))
def fill(call: Call) -> Lowered:
    """Writes only; the argument of a ``_like`` gives the shape."""
    uninitialised = "empty" in call.operator
    return Lowered("fill", "Movement", reads=(), write_bytes=0 if uninitialised else None)


@lowers("aten.embedding")
def embedding(call: Call) -> Lowered:
    """Reads the gathered rows, not the table."""
    table, indices = call["weight"], call["indices"]
    rows = indices.elements * table.shape[1] * table.bits // 8
    return Lowered("embedding", "Movement", reads=((table, rows), (indices, indices.bytes)))


@lowers("aten.embedding_bag", "aten._embedding_bag", "aten._embedding_bag_forward_only")
def embedding_bag(call: Call) -> Lowered:
    """Reads the gathered rows and reduces them to one row a bag."""
    table, indices = call["weight"], call["indices"]
    rows = indices.elements * table.shape[1]
    return Lowered(
        "embedding_bag",
        "Movement",
        vector_ops=rows,
        reads=((table, rows * table.bits // 8), (indices, indices.bytes)),
        write_bytes=call.output.bytes,
    )
