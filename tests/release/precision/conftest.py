"""A small convolutional network in the standard form, with a residual block and squeeze-and-excitation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import make_spec, save_graph
from onnx import TensorProto, helper

from tamiz import ModelSpec
from tamiz.preprocessing import Pixels
from tamiz.spec import INPUT_NAME, OUTPUT_NAME, SPEC_METADATA
from tamiz_release.precision.images import SearchImages

SIDE, LABELS, MAPS = 16, 4, 8


@pytest.fixture(scope="session")
def spec() -> ModelSpec:
    return make_spec([f"label {index}" for index in range(LABELS)], SIDE, SIDE, "RGB")


@pytest.fixture(scope="session")
def images() -> Pixels:
    """Images of unequal colours and brightness, so that the labels of the network differ."""
    generator = np.random.default_rng(1)
    colours = generator.integers(0, 200, (64, 1, 1, 3))
    return (colours + generator.integers(0, 56, (64, SIDE, SIDE, 3))).astype(np.uint8)


@pytest.fixture(scope="session")
def search_images(images: Pixels) -> SearchImages:
    return SearchImages(images[::2], images[1::2], None, "images", "other images")


@pytest.fixture
def write_network(spec: ModelSpec, tmp_path: Path) -> Callable[..., Path]:
    """Writes the network; with a factor, the activations inside it are so much larger, without another result."""

    def write(factor: float = 1.0, name: str = "model.onnx") -> Path:
        path = save_graph(tmp_path / name, *_network(spec, factor))
        model = onnx.load(path)
        model.metadata_props.add(key=SPEC_METADATA, value=spec.to_json())
        onnx.save(model, path)
        return path

    return write


def _network(spec: ModelSpec, factor: float) -> tuple[list, list, list, dict[str, np.ndarray]]:
    generator = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return (generator.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    def node(operator: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(operator, inputs.split(), [output], f"node_{output}", **attributes)

    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        node("Cast", INPUT_NAME, "float", to=TensorProto.FLOAT),
        node("Transpose", "float", "planes", perm=[0, 3, 1, 2]),
        node("Mul", "planes scale", "scaled"),
        node("Add", "scaled shift", "normalised"),
        node("Conv", "normalised w1 b1", "conv1", **conv),
        node("Relu", "conv1", "relu1"),
        node("Conv", "relu1 w2 b2", "conv2", **conv),
        node("Relu", "conv2", "relu2"),
        node("Conv", "relu2 w3 b3", "conv3", **conv),
        node("Add", "conv3 relu1", "added"),
        node("GlobalAveragePool", "added", "squeezed"),
        node("Conv", "squeezed w4 b4", "excited", kernel_shape=[1, 1]),
        node("Sigmoid", "excited", "share"),
        node("Mul", "added share", "weighed"),
        node("Conv", "weighed w5 b5", "conv5", **conv),
        node("Relu", "conv5", "relu5"),
        node("GlobalAveragePool", "relu5", "pooled"),
        node("Flatten", "pooled", "features"),
        node("Gemm", "features w6 b6", "logits", transB=1),
        node("Softmax", "logits", OUTPUT_NAME, axis=1),
    ]
    constants = {
        "scale": np.array(1 / 64, np.float32),
        "shift": np.array(-1.5, np.float32),
        "w1": weights(MAPS, 3, 3, 3),
        "w2": weights(MAPS, MAPS, 3, 3) * np.float32(factor),
        "w3": weights(MAPS, MAPS, 3, 3) / np.float32(factor),
        "w4": weights(MAPS, MAPS, 1, 1),
        "w5": weights(MAPS, MAPS, 3, 3),
        "w6": weights(LABELS, MAPS) * 8,
    }
    constants |= {f"b{number}": weights(MAPS) / 10 for number in range(1, 6)}
    constants["b6"] = np.zeros(LABELS, np.float32)
    inputs = [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["batch", *spec.preprocessing.shape])]
    outputs = [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", LABELS])]
    return nodes, inputs, outputs, constants
