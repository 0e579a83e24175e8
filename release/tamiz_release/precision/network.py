"""The parts of a network that can stay in FP32 while the others are computed in a lower precision."""

from __future__ import annotations

import onnx

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""The operators that have weights, and do almost all of the arithmetic."""

_ACTIVATIONS = frozenset({"Clip", "Relu", "LeakyRelu", "Sigmoid", "Mul", "HardSwish", "HardSigmoid"})
"""Operators that are computed with the layer before them, as far as the first layers are concerned."""


class Network:
    """The nodes of a graph, in the order of computation.

    Args:
        model: the graph; every node has a name of its own.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._nodes = list(model.graph.node)
        constant = {initializer.name for initializer in model.graph.initializer}
        # The sizes of tensors are computed beside the network.
        for node in self._nodes:
            if node.op_type == "Shape" or all(name in constant for name in node.input):
                constant.update(node.output)
        self._inputs = [[name for name in node.input if name and name not in constant] for node in self._nodes]
        self._shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.value_info
        }
        self.operator = {node.name: node.op_type for node in self._nodes}

    @property
    def names(self) -> frozenset[str]:
        """Names of all nodes."""
        return frozenset(self.operator)

    def sort(self, names: frozenset[str]) -> list[str]:
        """Names of nodes in the order of computation."""
        return [node.name for node in self._nodes if node.name in names]

    def layers(self) -> frozenset[str]:
        """The nodes that have weights."""
        return self._named(self._weighted())

    def first_layers(self, count: int) -> frozenset[str]:
        """The first layers that have weights, with all nodes before them and their activations."""
        layers = self._weighted()[:count]
        if not layers:
            return frozenset()
        end = layers[-1] + 1
        while end < len(self._nodes) and self._nodes[end].op_type in _ACTIVATIONS:
            end += 1
        return self._named(range(end))

    def last_layer(self) -> frozenset[str]:
        """The last layer that has weights, with all nodes behind it."""
        layers = self._weighted()
        return self._named(range(layers[-1], len(self._nodes))) if layers else frozenset()

    def output_nodes(self) -> frozenset[str]:
        """The nodes behind the last layer that has weights, such as the softmax."""
        layers = self._weighted()
        return self._named(range(layers[-1] + 1, len(self._nodes))) if layers else frozenset()

    def without_weights(self) -> frozenset[str]:
        """All nodes that have no weights."""
        return frozenset(name for name, operator in self.operator.items() if operator not in WEIGHTED)

    def operators(self) -> dict[str, frozenset[str]]:
        """The nodes of each type of operator that has no weights and occurs twice or more in the network itself."""
        by_type: dict[str, set[str]] = {}
        for node, inputs in zip(self._nodes, self._inputs, strict=True):
            if node.op_type not in WEIGHTED and inputs:
                by_type.setdefault(node.op_type, set()).add(node.name)
        return {operator: frozenset(names) for operator, names in by_type.items() if len(names) > 1}

    def pooled(self) -> frozenset[str]:
        """The nodes on maps of a single pixel, such as squeeze-and-excitation, with the poolings before them.

        They do little arithmetic, so the conversion of their inputs and outputs can cost more than INT8 saves.
        """
        return frozenset(node.name for node in self._nodes if any(self._is_pooled(name) for name in node.output))

    def blocks(self) -> list[frozenset[str]]:
        """Consecutive parts of the network, such as residual blocks; one activation connects each to the next."""
        last_use = {name: index for index, inputs in enumerate(self._inputs) for name in inputs}
        blocks: list[frozenset[str]] = []
        block: list[int] = []
        alive: set[str] = set()
        for index, node in enumerate(self._nodes):
            block.append(index)
            alive |= {name for name in node.output if last_use.get(name, -1) > index}
            alive -= {name for name in self._inputs[index] if last_use[name] == index}
            if len(alive) <= 1 and any(self._nodes[each].op_type in WEIGHTED for each in block):
                blocks.append(self._named(block))
                block = []
        if block:
            rest = self._named(block)
            blocks[-1:] = [blocks[-1] | rest] if blocks else [rest]
        return blocks

    def _weighted(self) -> list[int]:
        return [index for index, node in enumerate(self._nodes) if node.op_type in WEIGHTED and self._inputs[index]]

    def _is_pooled(self, name: str) -> bool:
        return self._shapes.get(name, [])[2:] == [1, 1]

    def _named(self, indices: range | list[int]) -> frozenset[str]:
        return frozenset(self._nodes[index].name for index in indices)
