"""FP16 graphs: what overflows is found on real images and stays in FP32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from scripted_bench import ScriptedBench

from tamiz import ExportError, ModelSpec
from tamiz.preprocessing import Pixels
from tamiz_release.precision.fp16 import Converter, HalfPrecision, open_rounding_session, search
from tamiz_release.precision.measurement import compute_probabilities
from tamiz_train.graph import Graph, read_spec

OVERFLOWS = 1e6
"""Factor by which the activations in the middle of the network are larger than half precision can hold."""


@pytest.fixture
def graph(write_network: Callable[..., Path]) -> Path:
    return write_network()


@pytest.fixture
def overflowing(write_network: Callable[..., Path]) -> Path:
    return write_network(OVERFLOWS, "overflowing.onnx")


def test_a_graph_in_half_precision_keeps_its_input_and_output_and_its_spec(
    graph: Path, images: Pixels, spec: ModelSpec, tmp_path: Path
) -> None:
    path = tmp_path / "fp16.onnx"
    Converter(graph).write(HalfPrecision(), path)
    assert read_spec(path) == spec
    weights = [tensor for tensor in onnx.load(path).graph.initializer if tensor.name.startswith("w")]
    assert {tensor.data_type for tensor in weights} == {TensorProto.FLOAT16}
    probabilities, expected = (Graph(each).probabilities(images) for each in (path, graph))
    assert probabilities.dtype == np.float32
    assert np.abs(probabilities - expected).max() < 0.01
    assert path.stat().st_size < graph.stat().st_size


def test_nodes_that_are_to_stay_in_fp32_keep_their_weights(graph: Path, tmp_path: Path) -> None:
    path = tmp_path / "fp16.onnx"
    Converter(graph).write(HalfPrecision(frozenset({"node_conv2"})), path)
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer}
    assert (kinds["w1"], kinds["w2"]) == (TensorProto.FLOAT16, TensorProto.FLOAT)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_values_between_two_nodes_in_fp32_are_never_in_half_precision(
    graph: Path, images: Pixels, tmp_path: Path, count: int
) -> None:
    converter, path = Converter(graph), tmp_path / "fp16.onnx"
    kept = converter.network.first_layers(count) | converter.network.last_layer()
    converter.write(HalfPrecision(kept), path)
    nodes = onnx.load(path).graph.node
    producers = {name: node for node in nodes for name in node.output}
    for node in nodes:
        if node.name in kept:
            casts = [producers[name] for name in node.input if name in producers and producers[name].op_type == "Cast"]
            origins = [producers[name] for cast in casts for name in cast.input if name in producers]
            assert not {origin.name for origin in origins if origin.op_type == "Cast"}, node.name
    assert producers["probabilities"].op_type == "Softmax", "not rounded at the output"
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert np.abs(Graph(path).probabilities(images) - Graph(graph).probabilities(images)).max() < 0.01


def test_an_overflow_is_seen_though_the_session_that_serves_on_a_cpu_hides_it(
    overflowing: Path, images: Pixels, tmp_path: Path
) -> None:
    path = tmp_path / "fp16.onnx"
    Converter(overflowing).write(HalfPrecision(), path)
    assert np.isfinite(Graph(path).probabilities(images)).all(), "ONNX Runtime computes it in float32"
    assert not np.isfinite(compute_probabilities(open_rounding_session(path), images)).all()


def test_the_rounding_session_agrees_with_fp32_where_nothing_overflows(
    graph: Path, images: Pixels, tmp_path: Path
) -> None:
    path = tmp_path / "fp16.onnx"
    Converter(graph).write(HalfPrecision(), path)
    rounded = compute_probabilities(open_rounding_session(path), images)
    difference = np.abs(rounded - Graph(graph).probabilities(images)).max()
    assert 0 < difference < 0.01


def test_nodes_with_large_activations_on_real_images_are_found_with_their_size(
    overflowing: Path, graph: Path, images: Pixels
) -> None:
    assert Converter(graph).large_parts(images) == []
    parts = Converter(overflowing).large_parts(images)
    assert [part.name for part in parts] == ["Conv node_conv2", "Relu node_relu2", "Conv node_conv3"]
    assert all(part.reason.startswith("its activations reach ") for part in parts)


def test_large_weights_are_found_with_their_size(write_network: Callable[..., Path], images: Pixels) -> None:
    model = onnx.load(write_network())
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "shift")
    weight.CopyFrom(onnx.numpy_helper.from_array(np.array(1e6, np.float32), "shift"))
    # The activations are small again behind it.
    (bias,) = (node for node in model.graph.node if node.name == "node_normalised")
    bias.op_type = "Div"
    path = Path(write_network(name="weights.onnx"))
    onnx.save(model, path)
    (part,) = Converter(path).large_parts(images)
    assert (part.name, part.reason) == ("Div node_normalised", "its weights reach 1,000,000")


def test_what_overflows_stays_in_fp32_and_then_the_labels_agree(
    overflowing: Path, images: Pixels, tmp_path: Path
) -> None:
    converter = Converter(overflowing)
    lines: list[str] = []
    trial = search(converter, images, ScriptedBench(), on_progress=lines.append)
    assert trial is not None
    assert [part.name for part in trial.parts] == [
        "the output",
        "Conv node_conv2",
        "Relu node_relu2",
        "Conv node_conv3",
    ]
    assert trial.parts[0].nodes == {"node_probabilities"}
    assert lines == ["FP16 with 4 nodes in FP32: other labels on 0.00 % of the images"]
    path = tmp_path / "fp16.onnx"
    converter.write(trial.setting, path)
    rounded = compute_probabilities(open_rounding_session(path), images)
    assert np.abs(rounded - Graph(overflowing).probabilities(images)).max() < 0.01


def test_a_graph_that_changes_labels_is_rescued(graph: Path, images: Pixels) -> None:
    converter = Converter(graph)
    harmful = converter.network.blocks()[2]
    bench = ScriptedBench(loss=lambda setting: 0.0 if harmful <= setting.float_nodes else 3.0, limit=0.1)
    trial = search(converter, images, bench)
    assert trial is not None
    assert trial.setting.float_nodes == harmful | {"node_probabilities"}
    assert trial.parts[-1].name == "block 3"


def test_a_file_that_is_no_graph_is_an_error_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match=r"model\.onnx: cannot be prepared for FP16: "):
        Converter(tmp_path / "model.onnx")


@pytest.mark.parametrize("count", range(0, 20, 2))
def test_a_graph_that_names_the_types_of_its_weights_is_valid_whatever_stays_in_fp32(
    graph: Path, tmp_path: Path, count: int
) -> None:
    model = onnx.load(graph)
    for tensor in model.graph.initializer:
        # As the exporter of PyTorch does.
        model.graph.value_info.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.save(model, graph)
    names = [node.name for node in model.graph.node]
    for kept in (names[count:], names[: count + 1]):
        Converter(graph).write(HalfPrecision(frozenset(kept)), tmp_path / "half.onnx")
        onnx.checker.check_model(onnx.load(tmp_path / "half.onnx"), full_check=True)
