"""The parts of a network that can stay in FP32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from tamiz_release.precision.network import Network


@pytest.fixture
def network(write_network: Callable[..., Path]) -> Network:
    return Network(onnx.shape_inference.infer_shapes(onnx.load(write_network())))


def outputs(names: frozenset[str]) -> set[str]:
    return {name.removeprefix("node_") for name in names}


def test_the_first_layers_come_with_the_nodes_before_them_and_their_activations(network: Network) -> None:
    assert outputs(network.first_layers(1)) == {"float", "planes", "scaled", "normalised", "conv1", "relu1"}
    assert outputs(network.first_layers(2) - network.first_layers(1)) == {"conv2", "relu2"}
    assert network.first_layers(100) == network.names - network.output_nodes()


def test_the_last_layer_comes_with_the_output_behind_it(network: Network) -> None:
    assert outputs(network.last_layer()) == {"logits", "probabilities"}
    assert outputs(network.output_nodes()) == {"probabilities"}


def test_operators_are_those_without_weights_that_occur_twice(network: Network) -> None:
    found = {operator: outputs(nodes) for operator, nodes in network.operators().items()}
    assert found == {
        "Mul": {"scaled", "weighed"},
        "Add": {"normalised", "added"},
        "Relu": {"relu1", "relu2", "relu5"},
        "GlobalAveragePool": {"squeezed", "pooled"},
    }


def test_maps_of_one_pixel_are_found_with_the_poolings_that_make_them(network: Network) -> None:
    assert outputs(network.pooled()) == {"squeezed", "excited", "share", "pooled"}


def test_blocks_hold_each_node_once_and_residual_connections_whole(network: Network) -> None:
    blocks = network.blocks()
    assert sum(map(len, blocks)) == len(network.names)
    assert frozenset().union(*blocks) == network.names
    assert {"conv2", "relu2", "conv3", "added"} <= next(outputs(block) for block in blocks if "node_added" in block)
    assert len(blocks) > 3
    assert network.sort(blocks[1])[0] == "node_relu1"


def test_nodes_beside_the_network_are_in_no_part_that_is_computed_with_it() -> None:
    """The size of the batch, which the exporter computes, as a constant."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], "shape"),
        helper.make_node("Identity", ["shape"], ["size"], "size"),
        helper.make_node("Identity", ["size"], ["again"], "again"),
        helper.make_node("Relu", ["x"], ["y"], "relu"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in "xy"]
    network = Network(helper.make_model(helper.make_graph(nodes, "graph", values[:1], values[1:])))
    assert network.operators() == {}
    assert network.first_layers(2) == network.last_layer() == network.output_nodes() == frozenset()
    assert network.blocks() == [network.names]
