"""Reading an ONNX file that may be damaged or hostile, before anything of it is run.

What a file claims is compared with what it holds before memory is used for it: the sizes of tensors, where external
data is, and how much the graph grows when its functions are inlined. A file that passes can still need too much memory
or time when it runs, so the first run is in a process with limits; see `tamiz_release.adaptation.confinement`.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, external_data_helper

from tamiz.errors import ExportError, cut, one_line, os_reason

MAX_BYTES = 2 * 2**30
"""The largest ONNX file with its external data; a message of protobuf cannot be larger."""

MAX_DEPTH = 16
"""The largest depth of graphs within nodes, such as the branches of an ``If``."""

MAX_NODES = 1_000_000
"""The largest number of nodes after the functions of the file are inlined."""

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""The domains whose operators ONNX Runtime has; a node of another one needs a library of its own."""

_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive, such as a file of torch.save; export the model with torch.onnx.export",
    b"\x80": "a pickle, which is never loaded because it could run any program; export the model to ONNX",
    b"\x89HDF": "an HDF5 file, such as a Keras model; convert it with tf2onnx",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file with `git lfs pull`",
}


def load_graph(path: Path) -> ModelProto:
    """Read an ONNX file with its external data, and check that it is what it claims to be.

    Returns:
        the model with all of its tensors inside, and its nodes in the order in which they can be computed.

    Raises:
        ExportError: the file cannot be read, is no ONNX file, is too large, or is inconsistent.
    """
    size = _file_size(path, str(path))
    _check_size(size, path)
    try:
        with path.open("rb") as file:
            beginning = file.read(32)
        for magic, meaning in _OTHER_FORMATS.items():
            if beginning.startswith(magic):
                raise ExportError(f"{path}: not an ONNX file: it is {meaning}")
        model = onnx.load(path, load_external_data=False)
    except OSError as exc:
        raise ExportError(f"{path}: cannot be read: {os_reason(exc)}") from exc
    except ExportError:
        raise
    except Exception as exc:
        # onnx raises the errors of protobuf, among others.
        raise ExportError(f"{path}: not an ONNX file: {cut(one_line(exc), 300)}") from exc
    if not model.graph.node or not model.graph.output:
        raise ExportError(f"{path}: not an ONNX file, or one without a graph")
    try:
        _check_functions(model)
        tensors = [*_tensors(model)]
        for tensor in tensors:
            _check_tensor(tensor)
        _sort_nodes(model.graph)
    except ValueError as exc:
        raise ExportError(f"{path}: {exc}") from exc
    _load_external_data(path, size, [tensor for tensor in tensors if _is_external(tensor)])
    return model


def has_external_data(path: Path) -> bool:
    """Whether tensors of an ONNX file, which has been loaded before, are in other files."""
    return any(map(_is_external, _tensors(onnx.load(path, load_external_data=False))))


def total_bytes(path: Path) -> int:
    """Size of an ONNX file and of the files beside it that could be its external data, at most `MAX_BYTES`."""
    try:
        beside = sum(entry.stat().st_size for entry in path.absolute().parent.iterdir() if entry.is_file())
        return min(MAX_BYTES, beside)
    except OSError:
        return MAX_BYTES


def _file_size(path: Path, name: str) -> int:
    try:
        found = path.stat()
    except OSError as exc:
        raise ExportError(f"{name}: cannot be read: {os_reason(exc)}") from exc
    # Opening a pipe or a device could wait for ever.
    if not stat.S_ISREG(found.st_mode):
        raise ExportError(f"{name}: not a file")
    return found.st_size


def _check_size(size: int, path: Path) -> None:
    if size >= MAX_BYTES:
        raise ExportError(
            f"{path}: too large: with its external data it has {size / 2**30:.1f} GiB, and an ONNX file with all of "
            f"its weights inside must be smaller than {MAX_BYTES / 2**30:.0f} GiB"
        )


def _graphs(graph: GraphProto, depth: int = 0) -> Iterator[GraphProto]:
    """A graph, and all graphs within its nodes."""
    if depth > MAX_DEPTH:
        raise ValueError(f"its graphs are nested more than {MAX_DEPTH} deep")
    yield graph
    yield from _graphs_within(graph.node, depth)


def _graphs_within(nodes: Iterable[NodeProto], depth: int) -> Iterator[GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner, depth + 1)


def _all_graphs(model: ModelProto) -> Iterator[GraphProto]:
    yield from _graphs(model.graph)
    for function in model.functions:
        yield from _graphs_within(function.node, 0)


def _all_nodes(model: ModelProto) -> Iterator[NodeProto]:
    for graph in _all_graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    for graph in _all_graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            # It is made dense when it is loaded.
            _check_dimensions(sparse.values.name, sparse.dims, sparse.values.data_type)
            yield from (sparse.values, sparse.indices)
    for node in _all_nodes(model):
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR or attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                sparse = attribute.sparse_tensor
                _check_dimensions(node.name, sparse.dims, sparse.values.data_type)
                yield from (sparse.values, sparse.indices)


def _check_dimensions(name: str, dims: Iterable[int], data_type: int) -> int:
    """The number of bytes that the dimensions of a tensor claim."""
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


def _is_external(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL


def _check_tensor(tensor: TensorProto) -> None:
    claimed = _check_dimensions(tensor.name, tensor.dims, tensor.data_type)
    if _is_external(tensor) or tensor.data_type == TensorProto.STRING:
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


def _check_functions(model: ModelProto) -> None:
    """Check the domains of all operators, and that inlining the functions of the file ends in a bounded graph."""
    functions = {(each.domain, each.name): each for each in model.functions}
    for node in _all_nodes(model):
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in functions:
            raise ValueError(
                f"node {cut(node.name or node.op_type, 80)} uses the operator {cut(node.op_type, 80)} of the domain "
                f"{cut(node.domain, 80)}, which ONNX Runtime does not have; export the model without it"
            )
    sizes: dict[tuple[str, str], int] = {}
    for function in model.functions:
        _inlined_size(function, functions, sizes, ())
    total = sum(_node_size(node, functions, sizes, ()) for graph in _graphs(model.graph) for node in graph.node)
    _check_count(total)


def _inlined_size(
    function: FunctionProto,
    functions: Mapping[tuple[str, str], FunctionProto],
    sizes: dict[tuple[str, str], int],
    callers: tuple[tuple[str, str], ...],
) -> int:
    """Number of nodes of a function when the functions that it calls are inlined."""
    key = (function.domain, function.name)
    if key in callers or len(callers) > MAX_DEPTH:
        raise ValueError(f"its function {cut(function.name, 80)} calls itself, or functions are nested too deep")
    if key not in sizes:
        nodes = [*function.node, *(node for graph in _graphs_within(function.node, 0) for node in graph.node)]
        sizes[key] = sum(_node_size(node, functions, sizes, (*callers, key)) for node in nodes)
        _check_count(sizes[key])
    return sizes[key]


def _node_size(
    node: NodeProto,
    functions: Mapping[tuple[str, str], FunctionProto],
    sizes: dict[tuple[str, str], int],
    callers: tuple[tuple[str, str], ...],
) -> int:
    called = functions.get((node.domain, node.op_type))
    return 1 if called is None else _inlined_size(called, functions, sizes, callers)


def _check_count(nodes: int) -> None:
    if nodes > MAX_NODES:
        raise ValueError(f"it has more than {MAX_NODES:,} nodes when its functions are inlined")


def _sort_nodes(graph: GraphProto) -> None:
    """Put the nodes into an order in which each comes after those whose outputs it uses."""
    producers = {output: index for index, node in enumerate(graph.node) for output in node.output if output}
    needs = [{producers[name] for name in _used(node) if name in producers} for node in graph.node]
    users: dict[int, list[int]] = {}
    for index, needed in enumerate(needs):
        for other in needed:
            users.setdefault(other, []).append(index)
    missing = [len(needed) for needed in needs]
    ready = [index for index, count in enumerate(missing) if not count]
    order: list[int] = []
    for index in ready:
        order.append(index)
        for user in users.get(index, ()):
            missing[user] -= 1
            if not missing[user]:
                ready.append(user)
    if len(order) < len(graph.node):
        stuck = next(node for index, node in enumerate(graph.node) if missing[index])
        raise ValueError(
            f"its nodes form a cycle, such as through {cut(stuck.name or stuck.op_type, 80)}, so it cannot be computed"
        )
    if any(other > index for index, needed in enumerate(needs) for other in needed):
        nodes = [graph.node[index] for index in order]
        del graph.node[:]
        graph.node.extend(nodes)


def _used(node: NodeProto) -> Iterator[str]:
    """Names that a node uses, those that the graphs within it take from outside included."""
    yield from node.input
    for graph in _graphs_within([node], 0):
        for inner in graph.node:
            yield from inner.input
        yield from (output.name for output in graph.output)


def _load_external_data(path: Path, size: int, tensors: list[TensorProto]) -> None:
    """Read the values of tensors that are in files beside the ONNX file, after all of them are checked."""
    folder = path.absolute().parent
    for tensor in tensors:
        size += _check_external(path, folder, tensor)
        _check_size(size, path)
    for tensor in tensors:
        try:
            external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except Exception as exc:
            raise ExportError(f"{path}: its external data cannot be read: {cut(one_line(exc), 300)}") from exc
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _check_external(path: Path, folder: Path, tensor: TensorProto) -> int:
    """Check where the external data of a tensor is; return its size in bytes."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    name = f"{path}: external data {cut(location, 120)!r} of tensor {cut(tensor.name, 80)}"
    relative = PurePosixPath(location)
    if not location or relative.is_absolute() or ".." in relative.parts or "\0" in location or "\\" in location:
        raise ExportError(f"{name}: refused, because it is not a file in the folder of the ONNX file")
    file = folder / relative
    if file.resolve() != folder.resolve() / relative:
        raise ExportError(f"{name}: refused, because it is a link; copy the file into the folder of the ONNX file")
    held = _file_size(file, name)
    claimed = _check_external_dimensions(name, tensor)
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or claimed)
    except ValueError:
        raise ExportError(f"{name}: its offset or length is not a number") from None
    if length != claimed or offset < 0 or offset + length > held:
        raise ExportError(
            f"{name}: bytes {offset:,} to {offset + length:,} for a tensor of {claimed:,} bytes, and the file has "
            f"{held:,}; copy the whole file again"
        )
    return claimed


def _check_external_dimensions(name: str, tensor: TensorProto) -> int:
    try:
        return _check_dimensions(tensor.name, tensor.dims, tensor.data_type)
    except ValueError as exc:
        raise ExportError(f"{name}: {exc}") from exc
