"""Classifiers as other tools write them: linear ones, so that NumPy can compute what they must answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tamiz import ModelSpec, Normalisation, Preprocessing

HEIGHT, WIDTH = 4, 6
SPEC = ModelSpec(
    labels=("a", "b", "c"),
    preprocessing=Preprocessing(height=HEIGHT, width=WIDTH),
    normalisation=Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
)
IMAGES = np.random.default_rng(1).integers(0, 256, (11, HEIGHT, WIDTH, 3), np.uint8)


def weights(classes: int) -> np.ndarray:
    return (np.random.default_rng(classes).normal(size=(72, classes)) / 8).astype(np.float32)


def write_foreign(
    path: Path,
    *,
    shape: Sequence[int | str] = ("N", 3, HEIGHT, WIDTH),
    kind: int = TensorProto.FLOAT,
    classes: int = 3,
    last: str = "Identity",
    flat: Sequence[int] = (0, 72),
    output: Sequence[int | str] | None = None,
    opset: int = 18,
    ir_version: int = 9,
    factor: float = 1,
    external: bool = False,
) -> Path:
    """Write a linear classifier.

    The image, multiplied by `factor`, is reshaped to `flat` and multiplied by `weights`; `last` is an operator.
    """
    constants = {"weight": weights(classes) * np.float32(factor), "flat shape": np.array(flat)}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "flat shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        helper.make_node(last, ["logits"], ["scores"], **({"axis": 1} if last == "Softmax" else {})),
    ]
    inputs = [helper.make_tensor_value_info("pixels", kind, shape)]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, output or [shape[0], classes])]
    model = make_model(nodes, inputs, outputs, constants, opset=opset, ir_version=ir_version)
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 16} if external else {}
    onnx.save(model, path, **options)
    return path


def make_model(
    nodes: list, inputs: list, outputs: list, constants: dict[str, np.ndarray], *, opset: int = 18, ir_version: int = 9
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "foreign", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def logits(
    images: np.ndarray = IMAGES,
    *,
    classes: int = 3,
    layout: str = "NCHW",
    mean: Sequence[float] = SPEC.normalisation.mean,
    std: Sequence[float] = SPEC.normalisation.std,
    scale: float = 255,
) -> np.ndarray:
    """What the classifier returns for images, computed in float64; `scale` 1 leaves the values from 0 to 255."""
    values = (images.astype(np.float64) / scale - np.array(mean)) / np.array(std)
    flat = (values.transpose(0, 3, 1, 2) if layout == "NCHW" else values).reshape(len(images), 72)
    return flat @ weights(classes).astype(np.float64)


def softmax(values: np.ndarray) -> np.ndarray:
    exponents = np.exp(values - values.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)
