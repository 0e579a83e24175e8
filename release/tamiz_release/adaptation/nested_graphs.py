"""The graphs of an ONNX model: the main one, and those within nodes and functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from onnx import GraphProto, ModelProto, NodeProto

MAX_DEPTH = 16
"""The largest depth of graphs within nodes, such as the branches of an ``If``."""


def graphs(graph: GraphProto, depth: int = 0) -> Iterator[GraphProto]:
    """A graph, and all graphs within its nodes.

    Raises:
        ValueError: they are nested too deep.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"its graphs are nested more than {MAX_DEPTH} deep")
    yield graph
    yield from graphs_within(graph.node, depth)


def graphs_within(nodes: Iterable[NodeProto], depth: int) -> Iterator[GraphProto]:
    """All graphs within nodes that are at a depth; raises ValueError as `graphs` does."""
    for node in nodes:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from graphs(inner, depth + 1)


def all_graphs(model: ModelProto) -> Iterator[GraphProto]:
    """All graphs of a model, those within its functions included; raises ValueError as `graphs` does."""
    yield from graphs(model.graph)
    for function in model.functions:
        yield from graphs_within(function.node, 0)


def all_nodes(model: ModelProto) -> Iterator[NodeProto]:
    """All nodes of a model, those of its functions included; raises ValueError as `graphs` does."""
    for graph in all_graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node
