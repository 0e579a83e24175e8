"""Making a fixed batch size dynamic: in what a graph takes and returns, and in the constants that depend on it."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

_SIZE, _FIRST, _SECOND, _END = (f"tamiz/batch/{name}" for name in ("size", "first", "second", "end"))


def free_batch(graph: GraphProto, name: str, batch: int) -> None:
    """Let a graph that was exported with a fixed batch size take any number of images.

    Changed are the shapes of the input and the outputs, the constant shapes of Reshape nodes, and for a batch of 1 the
    values that Concat nodes add to each image, such as the class token of a transformer. Whether the graph then
    computes the same must be found out by running it.

    Args:
        graph: the graph, which is changed; its nodes are in the order in which they are computed.
        name: name of its input.
        batch: the fixed batch size.
    """
    for value in (*graph.input, *graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if dimensions:
            dimensions[0].dim_param = "batch"
    constants = _constants(graph)
    nodes: list[NodeProto] = []
    # Only what depends on the images has a dimension for them.
    reached = {name}
    for node in graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
            if node.op_type == "Reshape" and node.input[0] in reached and node.input[1] in constants:
                _free_reshape(graph, node, constants[node.input[1]], batch)
            elif node.op_type == "Concat" and batch == 1 and node.attribute[0].i != 0:
                nodes += _repeat_constants(node, reached)
        nodes.append(node)
    if len(nodes) > len(graph.node):
        for constant, value in ((_FIRST, 0), (_SECOND, 1), (_END, np.iinfo(np.int64).max)):
            graph.initializer.append(numpy_helper.from_array(np.array([value]), constant))
        size = [
            helper.make_node("Shape", [name], ["tamiz/batch/shape"]),
            helper.make_node("Gather", ["tamiz/batch/shape", _FIRST], [_SIZE]),
        ]
        copies = [NodeProto.FromString(node.SerializeToString()) for node in (*size, *nodes)]
        del graph.node[:]
        graph.node.extend(copies)


def _constants(graph: GraphProto) -> dict[str, TensorProto]:
    constants = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    return constants


def _free_reshape(graph: GraphProto, node: NodeProto, constant: TensorProto, batch: int) -> None:
    shape = numpy_helper.to_array(constant).copy()
    if len(shape) and shape[0] == batch and not (shape[1:] == 0).any():
        # -1: whatever is left; 0: as many as before, if another dimension is whatever is left.
        shape[0] = 0 if (shape[1:] == -1).any() else -1
        name = f"tamiz/shape/{node.output[0]}"
        graph.initializer.append(numpy_helper.from_array(shape, name))
        node.input[1] = name


def _repeat_constants(node: NodeProto, reached: set[str]) -> list[NodeProto]:
    """Nodes that repeat for each image what a Concat node adds to the one image, and does not depend on it."""
    made = []
    for index, name in enumerate(node.input):
        if name not in reached:
            dimensions, rest, shape, repeated = (
                f"tamiz/batch/{node.output[0]}/{index}/{part}" for part in ("dimensions", "rest", "shape", "repeated")
            )
            made += [
                helper.make_node("Shape", [name], [dimensions]),
                helper.make_node("Slice", [dimensions, _SECOND, _END], [rest]),
                helper.make_node("Concat", [_SIZE, rest], [shape], axis=0),
                helper.make_node("Expand", [name, shape], [repeated]),
            ]
            node.input[index] = repeated
    return made
