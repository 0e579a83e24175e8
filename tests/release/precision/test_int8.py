"""Quantized graphs, written by ONNX Runtime and run by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tamiz import ExportError, ModelSpec
from tamiz.preprocessing import Pixels
from tamiz_release.precision.int8 import Quantization, Quantizer
from tamiz_train.graph import Graph, read_spec

NAMES = {"Conv", "Gemm", "Add", "Mul", "Sigmoid", "GlobalAveragePool"}


@pytest.fixture
def graph(write_network: Callable[..., Path]) -> Path:
    return write_network()


@pytest.fixture
def quantizer(graph: Path, images: Pixels, tmp_path: Path) -> Quantizer:
    (tmp_path / "work").mkdir()
    return Quantizer(graph, images, tmp_path / "work")


def quantized_nodes(path: Path) -> set[str]:
    """Names of the nodes that get a quantized input."""
    nodes = onnx.load(path).graph.node
    quantized = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    return {node.name for node in nodes if quantized.intersection(node.input) and "Quantize" not in node.op_type}


@pytest.mark.parametrize(
    "quantization",
    [
        Quantization(),
        Quantization(method="percentile"),
        Quantization(method="entropy"),
        Quantization(per_channel=False),
        Quantization(reduce_range=True),
        Quantization(symmetric=True),
    ],
    ids=str,
)
def test_a_quantized_graph_computes_about_the_same_and_keeps_the_spec(
    quantizer: Quantizer, graph: Path, images: Pixels, spec: ModelSpec, tmp_path: Path, quantization: Quantization
) -> None:
    path = tmp_path / "int8.onnx"
    quantizer.write(quantization, path)
    assert read_spec(path) == spec
    probabilities, expected = (Graph(each).probabilities(images) for each in (path, graph))
    assert probabilities.dtype == np.float32
    assert 0 < np.abs(probabilities - expected).mean() < 0.05
    assert probabilities.sum(1) == pytest.approx(1, abs=1e-5), "the softmax stays in FP32"
    assert quantized_nodes(path)
    metadata = [entry.key for entry in onnx.load(path).metadata_props]
    assert metadata == [entry.key for entry in onnx.load(graph).metadata_props]


def test_nodes_that_are_to_stay_in_fp32_get_no_quantized_input(quantizer: Quantizer, tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    quantizer.write(Quantization(), path)
    everything = quantized_nodes(path)
    assert {"node_conv1", "node_added", "node_weighed"} <= everything
    kept = quantizer.network.first_layers(2)
    quantizer.write(Quantization(float_nodes=kept), path)
    # The second one still gets the sum of a residual connection, which is quantized for the addition.
    assert quantized_nodes(path) - {"node_conv2"} == everything - kept


def test_the_graph_for_tensorrt_is_symmetric_with_float_biases_and_nothing_between_a_layer_and_its_activation(
    quantizer: Quantizer, tmp_path: Path
) -> None:
    path = tmp_path / "int8.onnx"
    quantizer.write(Quantization(symmetric=True), path)
    model = onnx.load(path)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    zero_points = [arrays[node.input[2]] for node in model.graph.node if "Quantize" in node.op_type]
    assert zero_points
    assert all(point.dtype == np.int8 and not point.any() for point in zero_points), "S8S8"
    consumers: Counter[str] = Counter()
    producers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "Relu":
            assert producers[node.input[0]].op_type == "Conv", "TensorRT can fuse the two"
        if node.op_type in {"Conv", "Gemm"}:
            consumers[node.op_type] += 1
            assert [producers[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
            assert arrays[node.input[2]].dtype == np.float32, "the bias"
    assert consumers == {"Conv": 5, "Gemm": 1}


def test_the_weights_have_a_scale_per_channel_or_one(quantizer: Quantizer, tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    sizes = []
    for per_channel in (True, False):
        quantizer.write(Quantization(per_channel=per_channel), path)
        graph = onnx.load(path).graph
        (scale,) = (tensor for tensor in graph.initializer if tensor.name == "w2_scale")
        sizes.append(numpy_helper.to_array(scale).size)
    assert sizes == [8, 1]


def test_a_file_that_is_no_graph_is_an_error_with_the_reason(images: Pixels, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match=r"model\.onnx: cannot be prepared for INT8: "):
        Quantizer(tmp_path / "model.onnx", images, tmp_path)


def test_a_file_that_cannot_be_written_is_an_error_with_the_reason(quantizer: Quantizer, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="the graph cannot be quantized by ranges by minmax, scales per channel: "):
        quantizer.write(Quantization(), tmp_path / "none" / "int8.onnx")


def test_quantization_prints_nothing_and_leaves_logging_as_it_was(
    quantizer: Quantizer, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    before = logging.root.manager.disable
    quantizer.write(Quantization(method="entropy"), tmp_path / "int8.onnx")
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert logging.root.manager.disable == before
