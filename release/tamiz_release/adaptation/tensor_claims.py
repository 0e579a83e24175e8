"""What the tensors of an ONNX model claim to be, compared with what they hold, before memory is used for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import onnx
from onnx import AttributeProto, ModelProto, TensorProto

from tamiz.errors import cut

from .nested_graphs import all_graphs, all_nodes

MAX_BYTES = 2 * 2**30
"""The largest ONNX file with its external data; a message of protobuf cannot be larger."""


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """All tensors of a model.

    Raises:
        ValueError: a sparse tensor claims to be too large, or graphs are nested too deep.
    """
    for graph in all_graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            # It is made dense when it is loaded.
            check_dimensions(sparse.values.name, sparse.dims, sparse.values.data_type)
            yield from (sparse.values, sparse.indices)
    for node in all_nodes(model):
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR or attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                sparse = attribute.sparse_tensor
                check_dimensions(node.name, sparse.dims, sparse.values.data_type)
                yield from (sparse.values, sparse.indices)


def check_dimensions(name: str, dims: Iterable[int], data_type: int) -> int:
    """The number of bytes that the dimensions of a tensor claim.

    Raises:
        ValueError: a dimension is negative, the type is unknown, or the tensor is too large.
    """
    sizes = [*dims]
    if any(each < 0 for each in sizes):
        raise ValueError(f"tensor {cut(name, 80)} has a negative dimension")
    try:
        bits = _bits(data_type)
    except KeyError:
        raise ValueError(f"tensor {cut(name, 80)} has the unknown type {data_type}") from None
    total = -(-math.prod(sizes) * bits // 8)
    if total >= MAX_BYTES:
        raise ValueError(
            f"tensor {cut(name, 80)} of {cut(str(sizes), 80)} is too large: {total / 2**30:,.1f} GiB; the largest size "
            f"is {MAX_BYTES / 2**30:.0f} GiB"
        )
    return total


def _bits(data_type: int) -> int:
    if data_type in _PACKED_BITS:
        return _PACKED_BITS[data_type]
    if data_type == TensorProto.STRING:
        return 8
    return 8 * onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize


_PACKED_BITS = {
    getattr(TensorProto, name): bits
    for name, bits in (("INT4", 4), ("UINT4", 4), ("FLOAT4E2M1", 4), ("INT2", 2), ("UINT2", 2))
    if hasattr(TensorProto, name)
}
"""Types of which several values share a byte."""


def is_external(tensor: TensorProto) -> bool:
    """Whether the values of a tensor are in another file."""
    return tensor.data_location == TensorProto.EXTERNAL


def check_tensor(tensor: TensorProto) -> None:
    """Check that a tensor holds as many bytes as its dimensions claim.

    Raises:
        ValueError: it does not, or its dimensions are wrong.
    """
    claimed = check_dimensions(tensor.name, tensor.dims, tensor.data_type)
    if is_external(tensor) or tensor.data_type == TensorProto.STRING:
        return
    # Values that are not in `raw_data` take four or eight bytes each, whatever their type, or two values a number.
    typed = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
    held = len(tensor.raw_data) or 16 * max(map(len, typed))
    exact = bool(tensor.raw_data)
    if (exact and held != claimed) or (not exact and held < claimed):
        raise ValueError(
            f"tensor {cut(tensor.name, 80)} of {cut(str([*tensor.dims]), 80)} claims {claimed:,} bytes and holds "
            f"{held if exact or not held else 'fewer'}; the file is damaged"
        )
