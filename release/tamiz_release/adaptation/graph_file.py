"""Reading an ONNX file that may be damaged or hostile, before anything of it is run.

What a file claims is compared with what it holds before memory is used for it: the sizes of tensors, where external
data is, and how much the graph grows when its functions are inlined. A file that passes can still need too much memory
or time when it runs, so the first run is in a process with limits; see `tamiz_release.adaptation.confinement`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto

from tamiz.errors import ExportError, cut, one_line, os_reason

from .external_data import check_size, file_size, load_external_data
from .nested_graphs import MAX_DEPTH, all_nodes, graphs, graphs_within
from .tensor_claims import MAX_BYTES, check_tensor, is_external, tensors

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
    size = file_size(path, str(path))
    check_size(size, path)
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
        found = [*tensors(model)]
        for tensor in found:
            check_tensor(tensor)
        _sort_nodes(model.graph)
    except ValueError as exc:
        raise ExportError(f"{path}: {exc}") from exc
    load_external_data(path, size, [tensor for tensor in found if is_external(tensor)])
    return model


def has_external_data(path: Path) -> bool:
    """Whether tensors of an ONNX file, which has been loaded before, are in other files."""
    return any(map(is_external, tensors(onnx.load(path, load_external_data=False))))


def total_bytes(path: Path) -> int:
    """Size of an ONNX file and of the files beside it that could be its external data, at most `MAX_BYTES`."""
    try:
        beside = sum(entry.stat().st_size for entry in path.absolute().parent.iterdir() if entry.is_file())
        return min(MAX_BYTES, beside)
    except OSError:
        return MAX_BYTES


def _check_functions(model: ModelProto) -> None:
    """Check the domains of all operators, and that inlining the functions of the file ends in a bounded graph."""
    functions = {(each.domain, each.name): each for each in model.functions}
    for node in all_nodes(model):
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in functions:
            raise ValueError(
                f"node {cut(node.name or node.op_type, 80)} uses the operator {cut(node.op_type, 80)} of the domain "
                f"{cut(node.domain, 80)}, which ONNX Runtime does not have; export the model without it"
            )
    sizes: dict[tuple[str, str], int] = {}
    for function in model.functions:
        _inlined_size(function, functions, sizes, ())
    total = sum(_node_size(node, functions, sizes, ()) for graph in graphs(model.graph) for node in graph.node)
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
        nodes = [*function.node, *(node for graph in graphs_within(function.node, 0) for node in graph.node)]
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
    for graph in graphs_within([node], 0):
        for inner in graph.node:
            yield from inner.input
        yield from (output.name for output in graph.output)
