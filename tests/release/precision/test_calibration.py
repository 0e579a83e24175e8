"""The ranges of activations on calibration images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization.calibrate import load_tensors_data

from tamiz.preprocessing import Pixels
from tamiz.spec import INPUT_NAME
from tamiz_release.precision.calibration import Calibration

ACTIVATION = "relu1"


@pytest.fixture
def model(write_network: Callable[..., Path]) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(onnx.load(write_network()))


@pytest.fixture
def values(model: onnx.ModelProto, images: Pixels) -> np.ndarray:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.append(helper.make_tensor_value_info(ACTIVATION, TensorProto.FLOAT, None))
    session = ort.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([ACTIVATION], {INPUT_NAME: images})[0]


def test_smallest_and_largest_values_are_those_of_all_images(
    model: onnx.ModelProto, images: Pixels, values: np.ndarray, tmp_path: Path
) -> None:
    Calibration(model, images).write("minmax", tmp_path / "ranges.json")
    ranges = load_tensors_data(tmp_path / "ranges.json")
    low, high = ranges[ACTIVATION].range_value
    assert low == values.min() == 0
    assert high == pytest.approx(values.max(), rel=1e-5)
    assert "probabilities" in ranges


def test_a_percentile_cuts_the_rarest_values(
    model: onnx.ModelProto, images: Pixels, values: np.ndarray, tmp_path: Path
) -> None:
    Calibration(model, images).write("percentile", tmp_path / "ranges.json")
    low, high = load_tensors_data(tmp_path / "ranges.json")[ACTIVATION].range_value
    assert low == 0
    assert high < values.max()
    # Half of what is cut is at each end; the width of a bin is the error.
    assert high == pytest.approx(np.percentile(values, 99.995), abs=2 * values.max() / 1024)


def test_the_range_by_entropy_lies_within_the_values(
    model: onnx.ModelProto, images: Pixels, values: np.ndarray, tmp_path: Path
) -> None:
    Calibration(model, images).write("entropy", tmp_path / "ranges.json")
    low, high = load_tensors_data(tmp_path / "ranges.json")[ACTIVATION].range_value
    assert low <= 0 < high <= values.max() * 1.01


def test_the_largest_magnitude_of_each_activation_is_known(
    model: onnx.ModelProto, images: Pixels, values: np.ndarray
) -> None:
    largest = Calibration(model, images).largest()
    assert largest[ACTIVATION] == pytest.approx(np.abs(values).max(), rel=1e-5)
    assert 200 < largest["planes"] < 256


def test_activations_that_are_not_finite_are_infinitely_large(images: Pixels) -> None:
    nodes = [
        helper.make_node("Cast", [INPUT_NAME], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Neg", ["float"], ["negative"]),
        helper.make_node("Log", ["negative"], ["nothing"]),
        helper.make_node("Identity", ["nothing"], ["end"]),
    ]
    dims = ["batch", *images.shape[1:]]
    inputs = [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, dims)]
    outputs = [helper.make_tensor_value_info("end", TensorProto.FLOAT, dims)]
    model = helper.make_model(
        helper.make_graph(nodes, "graph", inputs, outputs), opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    assert Calibration(onnx.shape_inference.infer_shapes(model), images).largest()["nothing"] == np.inf
